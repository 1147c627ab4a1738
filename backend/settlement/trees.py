"""Positional Merkle trees of fixed depth: a plain one (readings, trades) and one with sums (ledger).

An empty subtree is the zero hash with zero sums at every level, so a tree costs what its leaves cost, not 2^depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eth_hash.auto import keccak

from .encoding import EMPTY, LEDGER_NODE_TAG, TREE_NODE_TAG, LedgerLeaf, pack_sums

# 2^20 accounts; a day of trades of a large community needs more room.
ACCOUNT_DEPTH = 20
TRADES_DEPTH = 32


def hash_node(left: bytes, right: bytes) -> bytes:
    """A node of the plain tree."""
    if left == EMPTY and right == EMPTY:
        return EMPTY
    return keccak(TREE_NODE_TAG + left + right)


class PositionalTree:
    """Plain tree.

    Args:
        leaves: hash by position; positions not given are empty.
        depth: levels between leaf and root.

    Raises:
        ValueError: a position does not fit the depth.
    """

    def __init__(self, leaves: Mapping[int, bytes], depth: int = ACCOUNT_DEPTH) -> None:
        if any(not 0 <= position < 1 << depth for position in leaves):
            raise ValueError(f"a position is outside 0..2^{depth}-1")
        self.depth = depth
        self._levels = [dict(leaves)]
        for _ in range(depth):
            below = self._levels[-1]
            self._levels.append(
                {
                    index: hash_node(below.get(2 * index, EMPTY), below.get(2 * index + 1, EMPTY))
                    for index in {position >> 1 for position in below}
                }
            )

    @property
    def root(self) -> bytes:
        """Root hash; zero for an empty tree."""
        return self._levels[self.depth].get(0, EMPTY)

    def proof(self, position: int) -> list[bytes]:
        """Sibling hashes from the leaf's level upwards, `depth` of them."""
        return [
            level.get((position >> height) ^ 1, EMPTY)
            for height, level in enumerate(self._levels[: self.depth])
        ]


@dataclass(frozen=True, slots=True)
class SumNode:
    """A node of the ledger tree with the sums of what is below it."""

    hash: bytes
    amount_nano: int
    cumulative_nano: int

    @property
    def sums(self) -> bytes:
        """Both sums in one word."""
        return pack_sums(self.amount_nano, self.cumulative_nano)


EMPTY_NODE = SumNode(EMPTY, 0, 0)


def sum_parent(left: SumNode, right: SumNode) -> SumNode:
    """The node above two nodes."""
    if left == EMPTY_NODE and right == EMPTY_NODE:
        return EMPTY_NODE
    return SumNode(
        keccak(LEDGER_NODE_TAG + left.hash + left.sums + right.hash + right.sums),
        left.amount_nano + right.amount_nano,
        left.cumulative_nano + right.cumulative_nano,
    )


def depth_for(slots: Iterable[int]) -> int:
    """Levels of a ledger tree for the slots: one more than they need.

    So all accounts are below one child of the root, whose sums are zero: what is submitted shows no part of the accounts' money.
    """
    return min(ACCOUNT_DEPTH, max(slots, default=0).bit_length() + 1)


class SumTree:
    """Ledger tree.

    Args:
        leaves: accounts, each at its slot.
        depth: levels between leaf and root; by default as many as the slots need.

    Raises:
        ValueError: two leaves at one slot, or a slot that does not fit.
        OverflowError: a sum needs more than 128 bits.
    """

    def __init__(self, leaves: Mapping[int, LedgerLeaf], depth: int | None = None) -> None:
        self.depth = depth_for(leaves) if depth is None else depth
        if self.depth > ACCOUNT_DEPTH or any(not 0 <= slot < 1 << self.depth for slot in leaves):
            raise ValueError(f"a slot is outside 0..2^{self.depth}-1")
        self._levels: list[dict[int, SumNode]] = [
            {
                slot: SumNode(leaf.hash(), leaf.amount_nano, leaf.cumulative_nano)
                for slot, leaf in leaves.items()
            }
        ]
        for _ in range(self.depth):
            below = self._levels[-1]
            self._levels.append(
                {
                    index: sum_parent(
                        below.get(2 * index, EMPTY_NODE), below.get(2 * index + 1, EMPTY_NODE)
                    )
                    for index in {slot >> 1 for slot in below}
                }
            )

    def node(self, level: int, index: int) -> SumNode:
        """The node `level` levels above the leaves at `index` within its level."""
        return self._levels[level].get(index, EMPTY_NODE)

    @property
    def root(self) -> SumNode:
        """The root; its sums are zero in an honest batch."""
        return self.node(self.depth, 0)

    @property
    def root_children(self) -> tuple[SumNode, SumNode]:
        """What is submitted, so that the contract sees both sums cancel."""
        return self.node(self.depth - 1, 0), self.node(self.depth - 1, 1)

    def proof(self, slot: int, from_level: int = 0) -> list[bytes]:
        """Sibling hash and sibling sums, alternating, from the level upwards.

        Args:
            slot: index within `from_level`.
            from_level: 0 for a leaf.
        """
        path: list[bytes] = []
        for height in range(self.depth - from_level):
            sibling = self.node(from_level + height, (slot >> height) ^ 1)
            path += [sibling.hash, sibling.sums]
        return path
