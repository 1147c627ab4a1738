"""Batches that pass submission and are false nevertheless: each is what one kind of challenge exists for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from eth_hash.auto import keccak

from backend.settlement.batch import Batch, with_ledger
from backend.settlement.encoding import LEDGER_NODE_TAG, LedgerLeaf
from backend.settlement.trees import SumNode, SumTree, sum_parent


def with_leaf(batch: Batch, slot: int, **fields: int | bytes) -> Batch:
    """The batch with one leaf altered; its sums are then no longer zero unless another leaf makes up for it."""
    return with_ledger(
        batch,
        dict(batch.leaves) | {slot: replace(batch.leaves[slot], **fields)},  # type: ignore[arg-type]
    )


def shift_cumulative(batch: Batch, from_slot: int, to_slot: int, amount_nano: int) -> Batch:
    """The batch with money moved from one balance to another although no bill says so."""
    leaves = dict(batch.leaves)
    for slot, sign in ((from_slot, -1), (to_slot, 1)):
        before = leaves[slot].cumulative_nano
        leaves[slot] = replace(leaves[slot], cumulative_nano=before + sign * amount_nano)
    return with_ledger(batch, leaves)


@dataclass(frozen=True, slots=True)
class Forgery:
    """What a forged tree takes for a node.

    Attributes:
        level: levels above the leaves.
        index: position within the level.
        amount_nano: what is added to the node's amount.
        cumulative_nano: what is added to its cumulative amount.
        hash: another hash than the node has, or None.
    """

    level: int
    index: int
    amount_nano: int = 0
    cumulative_nano: int = 0
    hash: bytes | None = None


class ForgedTree(SumTree):
    """A ledger tree in which some nodes are counted with other sums than they have.

    Args:
        leaves: the accounts.
        forgeries: what is false.
        depth: levels, if more than the leaves need.
    """

    def __init__(
        self, leaves: Mapping[int, LedgerLeaf], *forgeries: Forgery, depth: int | None = None
    ) -> None:
        super().__init__(leaves, depth)
        false = {(item.level, item.index): item for item in forgeries}
        level_below = self._levels[0]
        for level in range(self.depth + 1):
            if level:
                indices = {index >> 1 for index in level_below}
                self._levels[level] = {
                    index: _parent(
                        self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1)
                    )
                    for index in indices
                }
            for (at, index), item in false.items():
                if at == level:
                    honest = self.node(level, index)
                    self._levels[level][index] = SumNode(
                        honest.hash if item.hash is None else item.hash,
                        honest.amount_nano + item.amount_nano,
                        honest.cumulative_nano + item.cumulative_nano,
                    )
            level_below = self._levels[level]


def _parent(left: SumNode, right: SumNode) -> SumNode:
    """As `sum_parent`, also where sums do not fit 128 bits: then the forger takes zero."""
    try:
        return sum_parent(left, right)
    except OverflowError:
        digest = keccak(LEDGER_NODE_TAG + left.hash + left.sums + right.hash + right.sums)
        return SumNode(digest, 0, 0)


def with_forged_tree(batch: Batch, *forgeries: Forgery, depth: int | None = None) -> Batch:
    """The batch over a forged tree; its leaves are as they were."""
    ledger = ForgedTree(batch.leaves, *forgeries, depth=depth)
    header = replace(batch.header, ledger_root=ledger.root.hash, ledger_depth=ledger.depth)
    return replace(batch, ledger=ledger, header=header)
