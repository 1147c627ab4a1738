"""Hashes and trees of docs/protocol.md, written for the auditor from the specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

ZERO = b"\0" * 32
ACCOUNT_LEVELS = 20
TRADE_LEVELS = 32
# The chain keeps the time of submission in a batch hash's last bytes.
_TIME_BYTES = 5

# Hash, amount and cumulative amount below a place in the ledger tree.
Node = tuple[bytes, int, int]
NOTHING: Node = (ZERO, 0, 0)


def from_hex(text: str) -> bytes:
    """The bytes that a bundle spells."""
    return bytes.fromhex(text.removeprefix("0x"))


@cache
def _tag(name: str) -> bytes:
    return keccak(text=name)


def tagged(name: str, types: Sequence[str], values: Sequence[Any]) -> bytes:
    """keccak256(abi.encode(keccak256(name), values...))."""
    return keccak(encode(["bytes32", *types], [_tag(name), *values]))


def ledger_head(
    header: Mapping[str, Any], types: Sequence[str], values: Sequence[Any]
) -> tuple[Any, ...]:
    """The five values of a header that a proof of an account needs; the last is the hash of all its values."""
    contents = tagged("peerwatt.batch.contents.v2", types, values)
    names = ("number", "nextPeriod", "ledgerRoot", "ledgerDepth")
    return (*(header[name] for name in names), contents)


def batch_hash(head: Sequence[Any]) -> bytes:
    """Hash of a batch from its ledger head: keccak256, the last five bytes zero."""
    types = ["uint64", "uint64", "bytes32", "uint8", "bytes32"]
    return tagged("peerwatt.batch.v2", types, head)[:-_TIME_BYTES] + bytes(_TIME_BYTES)


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


def readings_leaf(slot: int, readings: bytes, salt: bytes) -> bytes:
    """A member's leaf in the oracle's tree."""
    return tagged(
        "peerwatt.readings.leaf.v1",
        ["uint256", "bytes32", "bytes32"],
        [slot, keccak(readings), salt],
    )


@lru_cache(maxsize=1 << 16)
def plain_node(left: bytes, right: bytes) -> bytes:
    """A node of the plain tree."""
    if left == right == ZERO:
        return ZERO
    return tagged("peerwatt.tree.node.v1", ["bytes32", "bytes32"], [left, right])


def plain_root(leaves: Mapping[int, bytes], levels: int) -> bytes:
    """Root of the plain tree; empty places are zero."""
    row = dict(leaves)
    for _ in range(levels):
        row = {
            place: plain_node(row.get(2 * place, ZERO), row.get(2 * place + 1, ZERO))
            for place in {key // 2 for key in row}
        }
    return row.get(0, ZERO)


def plain_root_above(leaf: bytes, place: int, proof: Sequence[bytes]) -> bytes:
    """Root over a leaf and its siblings."""
    for sibling in proof:
        leaf = plain_node(sibling, leaf) if place & 1 else plain_node(leaf, sibling)
        place >>= 1
    return leaf


def ledger_leaf(slot: int, amount: int, cumulative: int, commitment: bytes, salt: bytes) -> bytes:
    """An account's hash."""
    return tagged(
        "peerwatt.ledger.leaf.v1",
        ["uint32", "bytes32", "bytes32", "bytes32"],
        [slot, two_sums(amount, cumulative), commitment, salt],
    )


@lru_cache(maxsize=1 << 16)
def ledger_node(left: Node, right: Node) -> bytes:
    """Hash of a node of the ledger tree from its two children."""
    if left == right == NOTHING:
        return ZERO
    return tagged(
        "peerwatt.ledger.node.v1",
        ["bytes32", "bytes32", "bytes32", "bytes32"],
        [left[0], two_sums(left[1], left[2]), right[0], two_sums(right[1], right[2])],
    )


def ledger_parent(left: Node, right: Node) -> Node:
    """A node from its two children, with what they add up to."""
    return ledger_node(left, right), left[1] + right[1], left[2] + right[2]


def ledger_children(leaves: Mapping[int, Node], depth: int) -> tuple[Node, Node]:
    """The two nodes below the ledger's root."""
    row = dict(leaves)
    for _ in range(depth - 1):
        row = {
            place: ledger_parent(row.get(2 * place, NOTHING), row.get(2 * place + 1, NOTHING))
            for place in {key // 2 for key in row}
        }
    return row.get(0, NOTHING), row.get(1, NOTHING)
