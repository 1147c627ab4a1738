"""Hashes and trees of docs/protocol.md, written for the auditor from the specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

ZERO = b"\0" * 32
ACCOUNT_LEVELS = 20
TRADE_LEVELS = 32


def tagged(name: str, types: Sequence[str], values: Sequence[Any]) -> bytes:
    """keccak256(abi.encode(keccak256(name), values...))."""
    return keccak(encode(["bytes32", *types], [keccak(text=name), *values]))


def two_sums(amount: int, cumulative: int) -> bytes:
    """Amount and cumulative as int128 each."""
    mask = (1 << 128) - 1
    return (((amount & mask) << 128) | (cumulative & mask)).to_bytes(32, "big")


def split_sums(sums: bytes) -> tuple[int, int]:
    """Amount and cumulative back from one word."""
    return (
        int.from_bytes(bytes(sums)[:16], "big", signed=True),
        int.from_bytes(bytes(sums)[16:], "big", signed=True),
    )


def plain_root(leaves: dict[int, bytes], levels: int) -> bytes:
    """Root of the plain tree; empty places are zero."""
    row = dict(leaves)
    for _ in range(levels):
        above: dict[int, bytes] = {}
        for position in sorted({key // 2 for key in row}):
            left, right = row.get(2 * position, ZERO), row.get(2 * position + 1, ZERO)
            if left != ZERO or right != ZERO:
                above[position] = tagged(
                    "peerwatt.tree.node.v1", ["bytes32", "bytes32"], [left, right]
                )
        row = above
    return row.get(0, ZERO)


def ledger_children(
    leaves: dict[int, tuple[bytes, int, int]],
) -> tuple[tuple[bytes, int, int], tuple[bytes, int, int]]:
    """The two nodes below the ledger's root.

    Args:
        leaves: by slot hash, amount, cumulative.
    """
    nothing = (ZERO, 0, 0)
    row = dict(leaves)
    for _ in range(ACCOUNT_LEVELS - 1):
        above: dict[int, tuple[bytes, int, int]] = {}
        for position in sorted({key // 2 for key in row}):
            left, right = row.get(2 * position, nothing), row.get(2 * position + 1, nothing)
            above[position] = (
                ledger_node(left, right),
                left[1] + right[1],
                left[2] + right[2],
            )
        row = above
    return row.get(0, nothing), row.get(1, nothing)


def ledger_node(left: tuple[bytes, int, int], right: tuple[bytes, int, int]) -> bytes:
    """A node of the ledger tree from its two children."""
    if left == right == (ZERO, 0, 0):
        return ZERO
    return tagged(
        "peerwatt.ledger.node.v1",
        ["bytes32", "bytes32", "bytes32", "bytes32"],
        [left[0], two_sums(left[1], left[2]), right[0], two_sums(right[1], right[2])],
    )
