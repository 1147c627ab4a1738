"""Data that the coordinator keeps to itself: whoever asks for a slot gets leaf and paths in time, or the batch falls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.domain.community import FIRST_MEMBER_SLOT, FUND_SLOT
from backend.settlement.batch import Batch, shift_money
from contracts.bindings import constructor
from tests.support.challenges import against_amount, assert_overturned
from tests.support.community import (
    BOND_WEI,
    CHALLENGE_SECONDS,
    DEMAND_BOND_WEI,
    FIRST_PERIOD,
    LiveCommunity,
    account,
)
from tests.support.lies import Forgery, with_forged_tree, with_leaf

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 2
THIRD = CHALLENGE_SECONDS // 3


def demand(community: LiveCommunity, batch: Batch, slot: int, by: str = "outsider") -> None:
    community.send(community.contracts.demand_data(batch.header, slot), by, DEMAND_BOND_WEI)


def submitted_at(community: LiveCommunity, number: int = 1) -> int:
    return community.contracts.record_of(number).submitted_at


class TestAsking:
    def test_is_announced_with_a_deadline(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        demand(community, batch, MEMBER)
        assert community.events("Challenges", "DataDemanded") == [
            {
                "period": FIRST_PERIOD,
                "slot": MEMBER,
                "demander": account("outsider").address,
                "number": 1,
                "batchHash": batch.header.hash(),
                "deadline": community.now() + THIRD,
            }
        ]

    @pytest.mark.parametrize("sent_wei", [0, DEMAND_BOND_WEI - 1, DEMAND_BOND_WEI + 1])
    def test_costs_a_bond(self, community: LiveCommunity, sent_wei: int) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.demand_data(batch.header, MEMBER)
        refused = community.refused(call, value_wei=sent_wei)
        assert refused == ("WrongDemandBond", sent_wei, DEMAND_BOND_WEI)

    def test_once_for_a_slot_that_exists(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        demand(community, batch, MEMBER)
        again = community.contracts.demand_data(batch.header, MEMBER)
        refused = community.refused(again, value_wei=DEMAND_BOND_WEI)
        assert refused == ("AlreadyDemanded", MEMBER)
        nobody = community.contracts.demand_data(batch.header, 99)
        refused = community.refused(nobody, value_wei=DEMAND_BOND_WEI)
        assert refused == ("SlotOutsideLedger", 99, batch.header.ledger_depth)
        demand(community, batch, FUND_SLOT)

    def test_in_the_first_third_only(self, community: LiveCommunity) -> None:
        """So that there is time to answer, and time to challenge the answer."""
        batch = community.batch(0)
        community.submit(batch)
        last = submitted_at(community) + CHALLENGE_SECONDS - 2 * THIRD
        community.travel_to(last)
        demand(community, batch, MEMBER)
        assert community.now() == last
        call = community.contracts.demand_data(batch.header, OTHER)
        community.travel_to(last + 1)
        refused = community.client.refusal(call, account("outsider"), DEMAND_BOND_WEI)
        assert refused is not None
        assert refused.error_name == "TooLateToDemand"
        assert refused.arguments["deadline"] == last


class TestAnswering:
    def test_anyone_who_has_the_data_answers(self, community: LiveCommunity) -> None:
        """The bond is the coordinator's all the same: a demander that answers first gains nothing."""
        batch = community.batch(0)
        community.submit(batch)
        demand(community, batch, MEMBER)
        challenges = community.contracts.addresses["Challenges"]
        assert community.client.balance_wei(challenges) == DEMAND_BOND_WEI
        before = community.client.balance_wei(account("coordinator").address)
        sent = community.send(community.contracts.answer_demand(batch, MEMBER), "outsider")
        assert sent.gas_used < 150_000
        after = community.client.balance_wei(account("coordinator").address)
        assert after - before == DEMAND_BOND_WEI
        assert community.client.balance_wei(challenges) == 0
        (event,) = community.events("Challenges", "DemandAnswered")
        assert event == {
            "period": FIRST_PERIOD,
            "slot": MEMBER,
            "answerer": account("outsider").address,
            "number": 1,
            "batchHash": batch.header.hash(),
        }
        call = community.contracts.answer_demand(batch, MEMBER)
        assert community.refused(call) == ("NotDemanded", MEMBER)
        community.client.advance(THIRD + 1)
        call = community.contracts.void_unanswered(batch.header, MEMBER)
        assert community.refused(call) == ("NotDemanded", MEMBER)

    def test_only_with_what_is_in_the_trees(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        demand(community, batch, MEMBER)
        false = with_leaf(batch, MEMBER, amount_nano=1)
        for forged in (
            replace(batch, leaves=false.leaves),
            replace(batch, leaves={}),
            replace(batch, readings_tree=community.batch(1).readings_tree),
        ):
            refused = community.refused(community.contracts.answer_demand(forged, MEMBER))
            assert refused is not None and refused[0] == "NotInTree"

    def test_a_leaf_that_is_not_the_oracles_is_no_answer(self, community: LiveCommunity) -> None:
        """It commits to other readings, so its paths do not meet: the batch falls for want of an answer."""
        lie = with_leaf(community.batch(0), MEMBER, readings_commitment=b"\x11" * 32)
        community.submit(lie)
        demand(community, lie, MEMBER)
        refused = community.refused(community.contracts.answer_demand(lie, MEMBER))
        assert refused is not None and refused[0] == "NotInTree"

    def test_an_empty_slot_is_no_answer_for_a_member(self, community: LiveCommunity) -> None:
        signed = community.paper.signed_report(
            community.period(0),
            {m.slot: ((1, 0),) * 4 for m in community.paper.members},
            community.place,
            [m for m in community.paper.members if m.slot != MEMBER],
        )
        lie = community.batch(0, signed=signed)
        assert MEMBER not in lie.leaves
        community.submit(lie)
        demand(community, lie, MEMBER)
        refused = community.refused(community.contracts.answer_demand(lie, MEMBER))
        assert refused == ("EmptyIsNoAnswer", MEMBER)

    def test_it_is_one_for_who_has_left(self, ahead: LiveCommunity) -> None:
        """Who left before the first period began has no leaf, and the proof of that is the answer."""
        community = ahead
        community.send(community.contracts.depart(7, FIRST_PERIOD), community.wallet(7))
        community.travel_to(community.place.first_interval * 900 + 3600)
        signed = community.paper.signed_report(
            community.period(0),
            {m.slot: ((1, 0),) * 4 for m in community.paper.members},
            community.place,
            community.paper.members[:-1],
        )
        batch = community.batch(0, signed=signed)
        community.submit(batch)
        demand(community, batch, 7)
        community.send(community.contracts.answer_demand(batch, 7), "coordinator")
        assert len(community.events("Challenges", "DemandAnswered")) == 1


class TestSilence:
    def hidden(self, community: LiveCommunity) -> Batch:
        """A tree with something unknown at the member's slot; the member's money is at a friend's."""
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        return with_forged_tree(lie, Forgery(0, MEMBER, hash=b"\x66" * 32))

    def test_the_batch_falls_when_time_is_up(self, community: LiveCommunity) -> None:
        lie = self.hidden(community)
        community.submit(lie)
        demand(community, lie, MEMBER, "dso")
        deadline = community.now() + THIRD
        void = community.contracts.void_unanswered(lie.header, MEMBER)
        community.travel_to(deadline)
        refused = community.client.refusal(void, account("outsider"))
        assert refused is not None
        assert refused.arguments == {"deadline": deadline, "blockTime": deadline}
        assert_overturned(community, void, "Withheld")

    def test_the_demander_gets_its_bond_back_and_nobody_twice(
        self, community: LiveCommunity
    ) -> None:
        lie = self.hidden(community)
        community.submit(lie)
        at = submitted_at(community)
        demand(community, lie, MEMBER, "dso")
        asked = community.now()
        give_back = community.contracts.return_demand(lie.header, at, MEMBER)
        refused = community.refused(give_back)
        assert refused == ("BatchStandsStill", lie.header.hash())
        community.client.advance(THIRD + 1)
        community.send(community.contracts.void_unanswered(lie.header, MEMBER), "outsider")
        refused = community.refused(give_back)
        assert refused is not None
        assert refused[:2] == ("StillTime", asked + THIRD + CHALLENGE_SECONDS)
        community.client.advance(CHALLENGE_SECONDS + 1)
        before = community.client.balance_wei(account("dso").address)
        community.send(give_back, "outsider")
        assert community.client.balance_wei(account("dso").address) - before == DEMAND_BOND_WEI
        assert community.refused(give_back) == ("NotDemanded", MEMBER)
        assert community.client.balance_wei(community.contracts.addresses["Challenges"]) == 0

    def test_also_when_the_batch_fell_for_another_reason(self, community: LiveCommunity) -> None:
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        community.submit(lie)
        at = submitted_at(community)
        demand(community, lie, OTHER, "dso")
        community.send(against_amount(community, lie, MEMBER), "outsider")
        community.client.advance(THIRD + CHALLENGE_SECONDS + 1)
        give_back = community.contracts.return_demand(lie.header, at, OTHER)
        before = community.client.balance_wei(account("dso").address)
        community.send(give_back, "outsider")
        assert community.client.balance_wei(account("dso").address) - before == DEMAND_BOND_WEI

    def test_a_demander_that_takes_no_money_does_not_protect_the_batch(
        self, community: LiveCommunity
    ) -> None:
        """A coordinator's own contract asks first, so that nobody else can, and refuses to be paid."""
        lie = self.hidden(community)
        community.submit(lie)
        owner = account("coordinator")
        made = community.client.send(
            constructor(community.client.web3, "TestWallet", owner.address), owner
        )
        wallet = community.contract("TestWallet", made.contract_address)
        call = community.contracts.demand_data(lie.header, MEMBER)
        execute = wallet.functions.execute(call.address, call._encode_transaction_data())
        community.send(execute, owner, DEMAND_BOND_WEI)
        community.client.advance(THIRD + 1)
        void = community.contracts.void_unanswered(lie.header, MEMBER)
        assert_overturned(community, void, "Withheld")

    def test_the_same_batch_submitted_again_must_answer_again(
        self, community: LiveCommunity
    ) -> None:
        """Neither is the slot safe from a second demand, nor does the first one's deadline count."""
        lie = self.hidden(community)
        community.submit(lie)
        demand(community, lie, MEMBER)
        community.client.advance(THIRD + 1)
        void = community.contracts.void_unanswered(lie.header, MEMBER)
        community.send(void, "outsider")
        community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
        community.submit(lie)
        assert community.recorded(1) == lie.header.hash()
        assert community.refused(void) == ("NotDemanded", MEMBER)
        demand(community, lie, MEMBER)
        refused = community.refused(void)
        assert refused is not None and refused[0] == "StillTime"
        community.client.advance(THIRD + 1)
        community.send(void, "outsider")
        assert community.contracts.head_number() == 0
