"""Hashes and trees of docs/protocol.md, written for the auditor from the specification.

Words are put together by hand where millions are hashed; everything else goes through `eth_abi`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from eth_abi.abi import encode
from eth_hash.backends import pysha3
from eth_hash.main import Keccak256

# The compiled library by name: what `eth_hash.auto` prefers takes four times as long for a leaf.
keccak = Keccak256(pysha3.backend)
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
    return keccak(name.encode())


def tagged(name: str, types: Sequence[str], values: Sequence[Any]) -> bytes:
    """keccak256(abi.encode(keccak256(name), values...))."""
    return keccak(encode(["bytes32", *types], [_tag(name), *values]))


_READINGS_LEAF = _tag("peerwatt.readings.leaf.v1")
_TRADE_LEAF = _tag("peerwatt.trade.leaf.v1")
_TREE_NODE = _tag("peerwatt.tree.node.v1")
_LEDGER_LEAF = _tag("peerwatt.ledger.leaf.v1")
_LEDGER_NODE = _tag("peerwatt.ledger.node.v1")


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


def word(number: int) -> bytes:
    """An unsigned integer in 32 bytes."""
    return number.to_bytes(32, "big")


def readings_leaf(slot: int, readings: bytes, salt: bytes) -> bytes:
    """A member's leaf in the oracle's tree."""
    return keccak(_READINGS_LEAF + word(slot) + keccak(readings) + salt)


def trade_leaf(
    interval: int, seller: int, buyer: int, energy_wh: int, fee_nano: int, salt: bytes
) -> bytes:
    """A trade's leaf."""
    numbers = (interval, seller, buyer, energy_wh, fee_nano)
    return keccak(_TRADE_LEAF + b"".join(number.to_bytes(32, "big") for number in numbers) + salt)


def plain_node(left: bytes, right: bytes) -> bytes:
    """A node of the plain tree."""
    if left == right == ZERO:
        return ZERO
    return keccak(_TREE_NODE + left + right)


def plain_root(leaves: Mapping[int, bytes], levels: int) -> bytes:
    """Root of the plain tree; empty places are zero."""
    row = dict(leaves)
    for _ in range(levels):
        row = {
            place: plain_node(row.get(2 * place, ZERO), row.get(2 * place + 1, ZERO))
            for place in {key // 2 for key in row}
        }
    return row.get(0, ZERO)


def dense_root(leaves: Sequence[bytes], levels: int) -> bytes:
    """Root of the plain tree over leaves at the first places."""
    row = list(leaves)
    for _ in range(levels):
        if len(row) & 1:
            row.append(ZERO)
        row = [plain_node(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0] if row else ZERO


def dense_proof(leaves: Sequence[bytes], place: int, levels: int) -> tuple[bytes, ...]:
    """Siblings of a place of the plain tree over leaves at the first places, upwards."""
    row, proof = list(leaves), []
    for level in range(levels):
        sibling = (place >> level) ^ 1
        proof.append(row[sibling] if sibling < len(row) else ZERO)
        if len(row) & 1:
            row.append(ZERO)
        row = [plain_node(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return tuple(proof)


def plain_root_above(leaf: bytes, place: int, proof: Sequence[bytes]) -> bytes:
    """Root over a leaf and its siblings."""
    for sibling in proof:
        leaf = plain_node(sibling, leaf) if place & 1 else plain_node(leaf, sibling)
        place >>= 1
    return leaf


def ledger_leaf(slot: int, amount: int, cumulative: int, commitment: bytes, salt: bytes) -> bytes:
    """An account's hash."""
    return keccak(_LEDGER_LEAF + word(slot) + two_sums(amount, cumulative) + commitment + salt)


def ledger_node(left: Node, right: Node) -> bytes:
    """Hash of a node of the ledger tree from its two children."""
    if left == right == NOTHING:
        return ZERO
    sums, others = two_sums(left[1], left[2]), two_sums(right[1], right[2])
    return keccak(_LEDGER_NODE + left[0] + sums + right[0] + others)


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


def ledger_root_above(leaf: Node, place: int, proof: Sequence[Node]) -> Node:
    """Root of the ledger tree over a leaf and its siblings."""
    for sibling in proof:
        leaf = ledger_parent(sibling, leaf) if place & 1 else ledger_parent(leaf, sibling)
        place >>= 1
    return leaf
