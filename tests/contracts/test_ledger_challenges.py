"""Cumulative amounts, tree sums, accounts left out, money that is nobody's: whatever a ledger can hide is overturned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.domain.community import FIRST_MEMBER_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch, shift_money, with_ledger
from backend.settlement.encoding import LedgerLeaf, pack_sums
from backend.settlement.trees import SumTree
from contracts.bindings import entry_tuple, header_tuple
from tests.support.challenges import (
    against_leaf,
    against_node,
    against_outside,
    assert_overturned,
)
from tests.support.community import (
    BOND_WEI,
    FIRST_PERIOD,
    LiveCommunity,
    energy_of,
    secret,
)
from tests.support.lies import Forgery, shift_cumulative, with_forged_tree

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 2
BEHIND = FIRST_MEMBER_SLOT + 5  # the first slot never given out


def without(batch: Batch, slot: int, friend: int) -> Batch:
    """The batch without an account, its money at a friend's."""
    leaves = dict(batch.leaves)
    gone = leaves.pop(slot)
    leaves[friend] = replace(
        leaves[friend],
        amount_nano=leaves[friend].amount_nano + gone.amount_nano,
        cumulative_nano=leaves[friend].cumulative_nano + gone.cumulative_nano,
    )
    return with_ledger(batch, leaves)


def departed(community: LiveCommunity, slot: int) -> tuple[Batch, Batch]:
    """Two honest batches, both periods over; the member has left before the second."""
    community.send(community.contracts.depart(slot, FIRST_PERIOD + 1), community.wallet(slot))
    first = community.batch(0)
    staying = [member for member in community.paper.members if member.slot != slot]
    energy = energy_of(1)
    signed = community.paper.signed_report(community.period(1), energy, community.place, staying)
    community.travel_to(community.place.first_interval * 900 + 2 * 3600)
    return first, community.batch(1, first, signed=signed)


class TestCumulative:
    def test_in_the_first_batch_it_is_the_amount(self, community: LiveCommunity) -> None:
        lie = shift_cumulative(community.batch(0), MEMBER, OTHER, 1)
        community.submit(lie)
        call = community.contracts.challenge_cumulative(lie, OTHER, None)
        assert_overturned(community, call, "Cumulative")

    @pytest.mark.parametrize("slot", [MEMBER, OTHER])
    def test_later_it_continues_the_one_before(self, community: LiveCommunity, slot: int) -> None:
        first = community.batch(0)
        lie = shift_cumulative(community.batch(1, first), MEMBER, OTHER, 10**9)
        community.submit(first, lie)
        call = community.contracts.challenge_cumulative(lie, slot, first)
        assert_overturned(community, call, "Cumulative", 2)

    def test_an_account_that_has_left_keeps_its_balance(self, ahead: LiveCommunity) -> None:
        """Its leaf dropped, the money at another's: the entry is empty now, and was not before."""
        first, second = departed(ahead, MEMBER)
        assert second.leaves[MEMBER].cumulative_nano == first.leaves[MEMBER].cumulative_nano != 0
        lie = without(second, MEMBER, OTHER)
        ahead.submit(first, lie)
        call = ahead.contracts.challenge_cumulative(lie, MEMBER, first)
        assert_overturned(ahead, call, "Cumulative", 2)
        ahead.send(ahead.contracts.post_bond(), "coordinator", BOND_WEI)
        ahead.submit(second)
        for slot in second.leaves:
            call = ahead.contracts.challenge_cumulative(second, slot, first)
            assert ahead.refused(call) == ("NothingIsWrong",)

    def test_a_slot_that_was_empty_before_begins_at_zero(self, community: LiveCommunity) -> None:
        first = without(community.batch(0), MEMBER, OTHER)
        second = community.batch(1, first)
        lie = shift_cumulative(second, OTHER, MEMBER, 9)
        community.submit(first, lie)
        call = community.contracts.challenge_cumulative(lie, MEMBER, first)
        assert_overturned(community, call, "Cumulative", 2)

    def test_empty_before_and_after_is_nothing_wrong(self, community: LiveCommunity) -> None:
        first, second = community.batches(2)
        community.submit(first, second)
        for slot in (BEHIND, 2**19):
            call = community.contracts.challenge_cumulative(second, slot, first)
            assert community.refused(call) == ("NothingIsWrong",)

    def test_a_slot_that_was_taken_cannot_be_passed_off_as_empty(
        self, community: LiveCommunity
    ) -> None:
        first, second = community.batches(2)
        community.submit(first, second)
        forged = replace(first, leaves={})
        refused = community.refused(
            community.contracts.challenge_cumulative(second, MEMBER, forged)
        )
        assert refused is not None
        assert (refused[0], refused[2]) == ("NotInTree", first.header.ledger_root)

    def test_another_slots_leaf_before_proves_nothing(self, community: LiveCommunity) -> None:
        first, second = community.batches(2)
        community.submit(first, second)
        call = community.functions("Challenges").challengeCumulative(
            header_tuple(second.header),
            entry_tuple(second, MEMBER),
            header_tuple(first.header),
            entry_tuple(first, OTHER),
        )
        assert community.refused(call) == ("WrongSlot", OTHER, MEMBER)

    def test_the_batch_before_is_the_one_that_the_header_names(
        self, community: LiveCommunity
    ) -> None:
        first, second, third = community.batches(3)
        community.submit(first, second, third)
        call = community.contracts.challenge_cumulative(third, MEMBER, first)
        refused = community.refused(call)
        assert refused == ("WrongPreviousBatch", first.header.hash(), second.header.hash())


class TestTreeSums:
    @pytest.mark.parametrize("level", [1, 2])
    def test_a_node_at_any_level_that_hides_money(
        self, community: LiveCommunity, level: int
    ) -> None:
        """One node's sum is short by what the other half of the tree makes up for."""
        lie = with_forged_tree(community.batch(0), Forgery(level, 0, -1), Forgery(2, 1, 1))
        community.submit(lie)
        assert_overturned(community, against_node(community, lie, level, 0), "TreeSum")

    def test_cumulative_sums_count_as_well(self, community: LiveCommunity) -> None:
        lie = with_forged_tree(community.batch(0), Forgery(2, 0, 0, 3), Forgery(2, 1, 0, -3))
        community.submit(lie)
        assert_overturned(community, against_node(community, lie, 2, 1), "TreeSum")

    def test_nothing_with_money_at_the_bottom(self, community: LiveCommunity) -> None:
        """An empty slot owns money: its parent's sums do add up, but nothing owns nothing."""
        lie = without(community.batch(0), MEMBER, OTHER)
        leaves = dict(lie.leaves)
        leaves[OTHER] = replace(leaves[OTHER], amount_nano=leaves[OTHER].amount_nano - 5)
        lie = with_forged_tree(with_ledger(lie, leaves), Forgery(0, MEMBER, 5))
        assert lie.ledger.root.amount_nano == 0
        community.submit(lie)
        assert_overturned(community, against_node(community, lie, 1, MEMBER // 2), "TreeSum")

    def test_sums_that_no_longer_fit_are_found_where_they_begin(
        self, community: LiveCommunity
    ) -> None:
        """2^126 twice below one node: paths through it overflow, but the node itself is open to challenge."""
        batch, half = community.batch(0), 2**126 + 10**13
        lie = with_forged_tree(
            batch, Forgery(0, 4, half), Forgery(0, 5, half), Forgery(1, 2, -2 * half)
        )
        assert lie.ledger.node(1, 2).amount_nano == batch.ledger.node(1, 2).amount_nano
        community.submit(lie)
        refused = community.refused(against_leaf(community, lie, 4))
        assert refused is not None and refused[0] == "SumOverflow"
        assert_overturned(community, against_node(community, lie, 1, 2), "TreeSum")

    @pytest.mark.parametrize("level", [0, 4, 5, 2**255])
    def test_leaves_and_root_are_no_inner_nodes(self, community: LiveCommunity, level: int) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.challenge_tree_sum(
            batch.header, level, 0, bytes(32), (bytes(32),) * 4, []
        )
        assert community.refused(call) == ("LevelOutsideTree", level)

    def test_what_is_not_in_the_tree_proves_nothing(self, community: LiveCommunity) -> None:
        """Other children, other sums than claimed, an index outside its level."""
        batch = community.batch(0)
        community.submit(batch)
        tree = batch.ledger
        left, right = tree.node(0, 4), tree.node(0, 5)
        honest = (left.hash, left.sums, right.hash, right.sums)
        strange = (b"\x01" * 32, bytes(32), b"\x02" * 32, bytes(32))
        for sums, children in ((tree.node(1, 2).sums, strange), (pack_sums(1, 1), honest)):
            call = community.contracts.challenge_tree_sum(
                batch.header, 1, 2, sums, children, tree.proof(2, 1)
            )
            refused = community.refused(call)
            assert refused is not None and refused[0] == "NotInTree"
        call = community.contracts.challenge_tree_sum(
            batch.header, 1, 8, bytes(32), honest, tree.proof(0, 1)
        )
        assert community.refused(call) == ("SlotOutsideTree", 8)


class TestLeafSums:
    def test_a_leaf_counted_with_other_sums_than_it_has(self, community: LiveCommunity) -> None:
        """The member's leaf shows it the right bill while the tree counts another one."""
        lie = with_forged_tree(
            community.batch(0), Forgery(0, MEMBER, -1, -1), Forgery(0, OTHER, 1, 1)
        )
        community.submit(lie)
        assert_overturned(community, against_leaf(community, lie, OTHER), "TreeSum")

    def test_a_leaf_of_another_slot(self, community: LiveCommunity) -> None:
        """Who is asked for the member's slot shows somebody else's leaf."""
        batch = community.batch(0)
        stranger = replace(batch.leaves[MEMBER], slot=99)
        lie = with_ledger(batch, dict(batch.leaves) | {MEMBER: stranger})
        community.submit(lie)
        assert_overturned(community, against_leaf(community, lie, MEMBER), "TreeSum")

    def test_claimed_sums_are_those_in_the_tree(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.challenge_leaf_sum(
            batch.header, MEMBER, batch.leaves[MEMBER], pack_sums(1, 1), batch.ledger.proof(MEMBER)
        )
        refused = community.refused(call)
        assert refused is not None and refused[0] == "NotInTree"


class TestMissing:
    def test_a_member_left_out(self, community: LiveCommunity) -> None:
        lie = without(community.batch(0), MEMBER, OTHER)
        community.submit(lie)
        assert_overturned(community, community.contracts.challenge_missing(lie, MEMBER), "Missing")

    @pytest.mark.parametrize("slot", [SUPPLIER_SLOT, FUND_SLOT])
    def test_a_system_account_left_out(self, community: LiveCommunity, slot: int) -> None:
        lie = without(community.batch(0), slot, OTHER)
        community.submit(lie)
        assert_overturned(community, community.contracts.challenge_missing(lie, slot), "Missing")

    def test_a_tree_too_small_for_a_member(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        lie = batch
        for slot in range(4, 8):
            lie = without(lie, slot, MEMBER)
        ledger = SumTree(lie.leaves, 2)
        header = replace(lie.header, ledger_root=ledger.root.hash, ledger_depth=2)
        lie = replace(lie, ledger=ledger, header=header)
        community.submit(lie)
        assert_overturned(community, community.contracts.challenge_missing(lie, 7), "Missing")

    def test_who_is_there_is_not_missing(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        refused = community.refused(community.contracts.challenge_missing(batch, MEMBER))
        assert refused is not None and refused[0] == "NotInTree"
        refused = community.refused(community.contracts.challenge_missing(batch, BEHIND))
        assert refused == ("NotActive", BEHIND, FIRST_PERIOD)

    def test_nor_is_who_has_left(self, ahead: LiveCommunity) -> None:
        first, second = departed(ahead, MEMBER)
        ahead.submit(first, second)
        refused = ahead.refused(ahead.contracts.challenge_missing(second, MEMBER))
        assert refused == ("NotActive", MEMBER, FIRST_PERIOD + 1)


class TestNobodysMoney:
    """What is billed to nobody loses nobody's money, and would pay for an accomplice's."""

    def test_at_the_slot_of_a_member_that_has_left(self, ahead: LiveCommunity) -> None:
        first, second = departed(ahead, MEMBER)
        lie = shift_money(second, MEMBER, OTHER, 5)
        ahead.submit(first, lie)
        call = ahead.contracts.challenge_inactive(lie, MEMBER)
        assert_overturned(ahead, call, "Inactive", 2)

    def test_at_a_slot_never_given_out(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        nobody = LedgerLeaf(BEHIND, -5, -5, bytes(32), secret("salt", BEHIND))
        other = batch.leaves[OTHER]
        paid = replace(
            other, amount_nano=other.amount_nano + 5, cumulative_nano=other.cumulative_nano + 5
        )
        lie = with_ledger(batch, dict(batch.leaves) | {BEHIND: nobody, OTHER: paid})
        community.submit(lie)
        call = community.contracts.challenge_inactive(lie, BEHIND)
        assert_overturned(community, call, "Inactive")

    @pytest.mark.parametrize(
        ("level", "index", "depth"), [(0, BEHIND, 4), (2, 2, 4), (3, 1, 4), (19, 1, 20)]
    )
    def test_under_a_hash_that_nobody_knows(
        self, community: LiveCommunity, level: int, index: int, depth: int
    ) -> None:
        """The node alone is enough, however large what it hides."""
        batch = community.batch(0)
        other = batch.leaves[OTHER]
        paid = replace(
            other, amount_nano=other.amount_nano + 5, cumulative_nano=other.cumulative_nano + 5
        )
        lie = with_forged_tree(
            with_ledger(batch, dict(batch.leaves) | {OTHER: paid}),
            Forgery(level, index, -5, -5, secret("hidden")),
            depth=depth,
        )
        assert lie.ledger.root.amount_nano == 0
        community.submit(lie)
        assert_overturned(community, against_outside(community, lie, level, index), "Inactive")

    def test_what_is_empty_or_given_out_is_not_outside(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        larger = with_forged_tree(batch, depth=5)
        community.submit(larger)
        for level, index in ((0, BEHIND), (2, 3), (4, 1)):
            refused = community.refused(against_outside(community, larger, level, index))
            assert refused == ("NothingIsWrong",)
        for level, index in ((0, 7), (1, 3), (3, 0)):
            refused = community.refused(against_outside(community, larger, level, index))
            assert refused == ("SlotGivenOut", index << level)
        refused = community.refused(
            community.contracts.challenge_outside(larger.header, 5, 0, larger.ledger.root, [])
        )
        assert refused == ("LevelOutsideTree", 5)

    def test_an_honest_batch_has_none(self, ahead: LiveCommunity) -> None:
        first, second = departed(ahead, MEMBER)
        ahead.submit(first, second)
        for slot in second.leaves:
            refused = ahead.refused(ahead.contracts.challenge_inactive(second, slot))
            assert refused == ("NothingIsWrong",)
