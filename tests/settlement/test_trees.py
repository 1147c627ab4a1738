"""Positional trees: every leaf has a proof, no other leaf has, and sums add up to the top."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_hash.auto import keccak
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.settlement.encoding import EMPTY, LedgerLeaf
from backend.settlement.trees import (
    ACCOUNT_DEPTH,
    EMPTY_NODE,
    TRADES_DEPTH,
    PositionalTree,
    SumNode,
    SumTree,
    hash_node,
    sum_parent,
)
from tests.support.strategies import WORDS, leaves_by_position, ledgers, positions

DEPTHS = st.sampled_from([1, 2, 5, ACCOUNT_DEPTH, TRADES_DEPTH])


def root_by_proof(leaf: bytes, position: int, proof: list[bytes]) -> bytes:
    """As a verifier computes it."""
    node = leaf
    for height, sibling in enumerate(proof):
        node = hash_node(sibling, node) if position >> height & 1 else hash_node(node, sibling)
    return node


def ledger_root_by_proof(node: SumNode, slot: int, proof: list[bytes]) -> SumNode:
    """As a verifier computes it."""
    for height in range(len(proof) // 2):
        sums = proof[2 * height + 1]
        sibling = SumNode(
            proof[2 * height],
            int.from_bytes(sums[:16], "big", signed=True),
            int.from_bytes(sums[16:], "big", signed=True),
        )
        node = sum_parent(sibling, node) if slot >> height & 1 else sum_parent(node, sibling)
    return node


class TestPositionalTree:
    @given(data=st.data(), depth=DEPTHS)
    def test_every_position_has_a_proof_the_empty_ones_too(
        self, data: st.DataObject, depth: int
    ) -> None:
        leaves = data.draw(leaves_by_position(depth))
        tree = PositionalTree(leaves, depth)
        for position in {*leaves, data.draw(positions(depth))}:
            proof = tree.proof(position)
            assert len(proof) == depth
            assert root_by_proof(leaves.get(position, EMPTY), position, proof) == tree.root

    @given(leaves=leaves_by_position(), position=positions(), other=WORDS)
    def test_no_other_leaf_has_that_proof(
        self, leaves: dict[int, bytes], position: int, other: bytes
    ) -> None:
        tree = PositionalTree(leaves)
        assume(other != leaves.get(position, EMPTY))
        assert root_by_proof(other, position, tree.proof(position)) != tree.root

    @given(leaves=leaves_by_position())
    def test_the_root_depends_on_places_and_not_on_the_order_of_filling(
        self, leaves: dict[int, bytes]
    ) -> None:
        root = PositionalTree(leaves).root
        assert PositionalTree(dict(reversed(leaves.items()))).root == root
        for position, leaf in leaves.items():
            fewer = {place: other for place, other in leaves.items() if place != position}
            assert (PositionalTree(fewer).root == root) == (leaf == EMPTY)

    @given(leaves=leaves_by_position(), position=positions(), leaf=WORDS)
    def test_a_change_elsewhere_changes_one_step_of_a_proof(
        self, leaves: dict[int, bytes], position: int, leaf: bytes
    ) -> None:
        assume(leaves and position not in leaves and leaf != EMPTY)
        before, after = PositionalTree(leaves), PositionalTree(leaves | {position: leaf})
        for place in leaves:
            differing = [
                height
                for height, pair in enumerate(
                    zip(before.proof(place), after.proof(place), strict=True)
                )
                if pair[0] != pair[1]
            ]
            assert differing == [(place ^ position).bit_length() - 1]

    def test_a_tree_of_nothing_is_zero(self) -> None:
        assert PositionalTree({}).root == EMPTY
        assert PositionalTree({5: EMPTY}).root == EMPTY
        assert PositionalTree({}).proof(3) == [EMPTY] * ACCOUNT_DEPTH

    def test_the_last_position_fits_and_the_next_does_not(self) -> None:
        assert PositionalTree({2**20 - 1: b"\x01" * 32}).root != EMPTY
        for position in (2**20, -1):
            with pytest.raises(ValueError, match="outside"):
                PositionalTree({position: EMPTY})


class TestSumTree:
    @given(leaves=ledgers(), elsewhere=positions())
    def test_every_slot_has_a_proof_with_its_sums(
        self, leaves: dict[int, LedgerLeaf], elsewhere: int
    ) -> None:
        tree = SumTree(leaves)
        for slot in {*leaves, elsewhere % (1 << tree.depth)}:
            proof = tree.proof(slot)
            assert len(proof) == 2 * tree.depth
            assert ledger_root_by_proof(tree.node(0, slot), slot, proof) == tree.root

    @given(leaves=ledgers())
    def test_the_root_sums_all_accounts(self, leaves: dict[int, LedgerLeaf]) -> None:
        tree = SumTree(leaves)
        assert tree.root.amount_nano == sum(leaf.amount_nano for leaf in leaves.values())
        assert tree.root.cumulative_nano == sum(leaf.cumulative_nano for leaf in leaves.values())
        left, right = tree.root_children
        assert sum_parent(left, right) == tree.root

    @given(leaves=ledgers(), level=st.integers(1, ACCOUNT_DEPTH), index=st.integers(0, 9))
    def test_every_node_is_made_of_its_children(
        self, leaves: dict[int, LedgerLeaf], level: int, index: int
    ) -> None:
        tree = SumTree(leaves, ACCOUNT_DEPTH)
        indices = {index} | {slot >> level for slot in leaves}
        for at in indices:
            children = tree.node(level - 1, 2 * at), tree.node(level - 1, 2 * at + 1)
            assert tree.node(level, at) == sum_parent(*children)
            assert len(tree.proof(at, level)) == 2 * (ACCOUNT_DEPTH - level)
            if at < 1 << (ACCOUNT_DEPTH - level):
                found = ledger_root_by_proof(tree.node(level, at), at, tree.proof(at, level))
                assert found == tree.root

    @given(leaves=ledgers(), amount=st.integers(-9, 9), cumulative=st.integers(-9, 9))
    def test_a_leaf_with_other_sums_gives_another_root(
        self, leaves: dict[int, LedgerLeaf], amount: int, cumulative: int
    ) -> None:
        assume(leaves and (amount or cumulative))
        slot, leaf = next(iter(leaves.items()))
        changed = replace(
            leaf,
            amount_nano=leaf.amount_nano + amount,
            cumulative_nano=leaf.cumulative_nano + cumulative,
        )
        assert SumTree(leaves | {slot: changed}).root.hash != SumTree(leaves).root.hash

    def test_nothing_has_no_hash_but_nothing_with_money_has(self) -> None:
        assert sum_parent(EMPTY_NODE, EMPTY_NODE) == EMPTY_NODE
        assert SumTree({}).root == EMPTY_NODE
        assert sum_parent(SumNode(EMPTY, 1, 0), SumNode(EMPTY, -1, 0)).hash != EMPTY

    def test_sums_beyond_128_bits_are_refused(self) -> None:
        largest = 2**127 - 1
        leaves = {slot: LedgerLeaf(slot, largest, 0, EMPTY, keccak(b"")) for slot in (0, 1, 2)}
        with pytest.raises(OverflowError):
            SumTree(leaves)

    @given(leaves=ledgers())
    def test_it_is_as_deep_as_its_slots_need(self, leaves: dict[int, LedgerLeaf]) -> None:
        """And one level more, so that the submitted children of the root show no part of the money."""
        tree = SumTree(leaves)
        assert tree.depth == min(ACCOUNT_DEPTH, max(leaves, default=0).bit_length() + 1)
        if tree.depth < ACCOUNT_DEPTH:
            assert tree.root_children[0].sums == tree.root.sums
            assert tree.root_children[1] == EMPTY_NODE

    @given(leaves=ledgers(), deeper=st.integers(1, 5))
    def test_a_deeper_tree_has_the_same_sums_and_another_root(
        self, leaves: dict[int, LedgerLeaf], deeper: int
    ) -> None:
        tree = SumTree(leaves)
        depth = min(ACCOUNT_DEPTH, tree.depth + deeper)
        other = SumTree(leaves, depth)
        assert (other.root.amount_nano, other.root.cumulative_nano) == (
            tree.root.amount_nano,
            tree.root.cumulative_nano,
        )
        assert (other.root == tree.root) == (not leaves or depth == tree.depth)

    @pytest.mark.parametrize(("slot", "depth"), [(2, 1), (8, 3), (0, 21)])
    def test_a_tree_too_small_for_its_slots_or_too_deep_is_refused(
        self, slot: int, depth: int
    ) -> None:
        with pytest.raises(ValueError, match="outside"):
            SumTree({slot: LedgerLeaf(slot, 0, 0, EMPTY, EMPTY)}, depth)

    @pytest.mark.parametrize("slot", [-1, 2**20])
    def test_a_slot_outside_is_refused(self, slot: int) -> None:
        with pytest.raises(ValueError, match="outside"):
            SumTree({slot: LedgerLeaf(0, 0, 0, EMPTY, EMPTY)})
