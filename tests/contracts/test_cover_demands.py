"""Debts that nothing covers: raised in time by a deposit or a guarantor, or the batch falls."""

from __future__ import annotations

import pytest

from backend.domain.community import FIRST_MEMBER_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch
from tests.support.challenges import assert_overturned
from tests.support.community import (
    BOND_WEI,
    CHALLENGE_SECONDS,
    FIRST_PERIOD,
    LiveCommunity,
    account,
    period_energy,
)

CREDITOR, DEBTOR = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 1
THIRD = CHALLENGE_SECONDS // 3


@pytest.fixture
def batch(community: LiveCommunity) -> Batch:
    """The first period's batch, open; nobody has deposited anything."""
    batch = community.batch(0)
    community.submit(batch)
    assert batch.leaves[DEBTOR].cumulative_nano < 0 < batch.leaves[CREDITOR].cumulative_nano
    return batch


def owed(batch: Batch) -> int:
    return -batch.leaves[DEBTOR].cumulative_nano


def test_is_announced_with_a_deadline_once(community: LiveCommunity, batch: Batch) -> None:
    call = community.contracts.demand_cover(batch, DEBTOR)
    assert community.send(call, "outsider").gas_used < 150_000
    assert community.events("Challenges", "CoverDemanded") == [
        {
            "period": FIRST_PERIOD,
            "slot": DEBTOR,
            "demander": account("outsider").address,
            "number": 1,
            "batchHash": batch.header.hash(),
            "deadline": community.now() + THIRD,
        }
    ]
    assert community.refused(call) == ("AlreadyDemanded", DEBTOR)


def test_who_owes_nothing_need_not_be_covered(community: LiveCommunity, batch: Batch) -> None:
    call = community.contracts.demand_cover(batch, CREDITOR)
    assert community.refused(call) == ("NothingIsWrong",)


def test_the_batch_falls_if_nobody_covers(community: LiveCommunity, batch: Batch) -> None:
    void = community.contracts.void_uncovered(batch, DEBTOR)
    assert community.refused(void) == ("NotDemanded", DEBTOR)
    community.send(community.contracts.demand_cover(batch, DEBTOR), "outsider")
    deadline = community.now() + THIRD
    community.travel_to(deadline)
    refused = community.client.refusal(void, account("outsider"))
    assert refused is not None
    assert refused.arguments == {"deadline": deadline, "blockTime": deadline}
    assert_overturned(community, void, "Uncovered")


@pytest.mark.parametrize("how", ["deposit", "guarantee"])
def test_it_stands_if_somebody_does(community: LiveCommunity, batch: Batch, how: str) -> None:
    """To the nano: a smallest unit of the token less is too little."""
    community.send(community.contracts.demand_cover(batch, DEBTOR), "outsider")
    getattr(community, how)(DEBTOR, owed(batch) - 1000)
    community.client.advance(THIRD + 1)
    void = community.contracts.void_uncovered(batch, DEBTOR)
    assert community.refused(void) is None
    getattr(community, how)(DEBTOR, 1000)
    assert community.refused(void) == ("NothingIsWrong",)
    community.pass_challenge_window()
    assert community.contracts.is_final(1)


def test_whatever_is_covered_beforehand_cannot_be_demanded(community: LiveCommunity) -> None:
    batch = community.batch(0)
    community.deposit(DEBTOR, owed(batch) // 2)
    community.guarantee(DEBTOR, owed(batch) // 2 + 1000)
    community.submit(batch)
    call = community.contracts.demand_cover(batch, DEBTOR)
    assert community.refused(call) == ("NothingIsWrong",)


def test_in_the_first_two_thirds_only(community: LiveCommunity, batch: Batch) -> None:
    call = community.contracts.demand_cover(batch, DEBTOR)
    last = community.contracts.record_of(1).submitted_at + CHALLENGE_SECONDS - THIRD - THIRD // 2
    community.travel_to(last)
    refused = community.client.refusal(call, account("outsider"))
    assert refused is not None
    assert refused.error_name == "TooLateToDemand"
    assert refused.arguments == {"deadline": last, "blockTime": last}


def test_the_same_batch_submitted_again_gets_time_again(
    community: LiveCommunity, batch: Batch
) -> None:
    community.send(community.contracts.demand_cover(batch, DEBTOR), "outsider")
    community.client.advance(THIRD + 1)
    void = community.contracts.void_uncovered(batch, DEBTOR)
    community.send(void, "outsider")
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
    community.submit(batch)
    assert community.refused(void) == ("NotDemanded", DEBTOR)


def test_system_accounts_are_covered_like_everybody(community: LiveCommunity) -> None:
    """A sunny hour: the supplier owes the members what they fed in, and has to have it here."""
    energy = period_energy(0, **{f"slot_{slot}": ((0, 900),) * 4 for slot in range(3, 8)})
    batch = community.batch(0, signed=community.signed_report(0, energy))
    debt = batch.leaves[SUPPLIER_SLOT].cumulative_nano
    assert debt < 0
    community.submit(batch)
    call = community.contracts.demand_cover(batch, SUPPLIER_SLOT)
    assert community.refused(call) is None
    community.deposit(SUPPLIER_SLOT, -debt)
    assert community.refused(call) == ("NothingIsWrong",)
