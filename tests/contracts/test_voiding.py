"""What follows when a lie is proved: batch and successors fall in one go, the bond is divided, the truth can be submitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from web3.contract.contract import ContractFunction

from backend.domain.community import FIRST_MEMBER_SLOT, FUND_SLOT
from backend.settlement.batch import Batch, shift_money
from contracts.bindings import header_tuple
from deploy.community import admit_members
from tests.support.chain import restored
from tests.support.challenges import (
    against_amount,
    assert_overturned,
    every_challenge,
)
from tests.support.community import (
    BOND_WEI,
    CHALLENGE_SECONDS,
    FIRST_PERIOD,
    LiveCommunity,
    account,
    energy_of,
    member_at,
)
from tests.support.lies import shift_cumulative

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 2
ZERO_ADDRESS = "0x" + "00" * 20


def test_no_honest_batch_is_ever_overturned(community: LiveCommunity) -> None:
    """Every challenge that can be made is made, against every account and node."""
    batches = community.batches(2)
    community.submit(*batches)
    # Whoever owes is covered, so that nothing at all is wrong.
    for slot, leaf in batches[1].leaves.items():
        owed = -min(leaf.cumulative_nano, batches[0].leaves[slot].cumulative_nano, 0)
        if owed:
            community.deposit(slot, owed)
    outcomes = [
        (kind, community.refused(call))
        for batch, previous in zip(batches, (None, batches[0]), strict=True)
        for kind, call in every_challenge(community, batch, previous)
    ]
    assert len(outcomes) > 80
    wrong = [outcome for outcome in outcomes if outcome[1] != ("NothingIsWrong",)]
    assert wrong == []


CHALLENGES: dict[str, Callable[[LiveCommunity, Batch], ContractFunction]] = {
    "amount": lambda community, batch: against_amount(community, batch, MEMBER),
    "system amount": lambda community, batch: community.contracts.challenge_system_amount(
        batch, FUND_SLOT
    ),
    "cumulative": lambda community, batch: community.contracts.challenge_cumulative(
        batch, MEMBER, None
    ),
    "demand": lambda community, batch: community.contracts.demand_data(batch.header, MEMBER),
    "cover": lambda community, batch: community.contracts.demand_cover(batch, MEMBER + 1),
}


@pytest.mark.parametrize("kind", CHALLENGES)
class TestEveryChallenge:
    """What all have in common."""

    def lie(self, community: LiveCommunity) -> Batch:
        return shift_cumulative(
            shift_money(community.batch(0), MEMBER, FUND_SLOT, 1), MEMBER, FUND_SLOT, 1
        )

    def test_needs_the_batch_on_record(self, community: LiveCommunity, kind: str) -> None:
        lie = self.lie(community)
        assert community.refused(CHALLENGES[kind](community, lie)) == ("NoSuchBatch", 1)
        community.submit(lie)
        other = lie.with_bundle_hash(b"\x11" * 32)
        refused = community.refused(CHALLENGES[kind](community, other))
        assert refused == ("WrongHeader", other.header.hash(), lie.header.hash())

    def test_comes_too_late_against_a_final_batch(
        self, community: LiveCommunity, kind: str
    ) -> None:
        lie = self.lie(community)
        community.submit_final(lie)
        assert community.contracts.is_final(1)
        refused = community.refused(CHALLENGES[kind](community, lie))
        assert refused == ("AlreadyFinal", 1)


def test_only_the_challenges_contract_voids(community: LiveCommunity) -> None:
    batch = community.batch(0)
    community.submit(batch)
    for caller in ("outsider", "deployer", "coordinator"):
        call = community.functions("ClearingHouse").voidBatch(
            header_tuple(batch.header), 0, account(caller).address
        )
        refused = community.refused(call, caller)
        assert refused == ("NotChallenges", account(caller).address.lower())


def test_half_the_bond_is_paid_and_half_is_burned(community: LiveCommunity) -> None:
    web3 = community.client.web3
    lie = shift_money(community.batch(0), MEMBER, FUND_SLOT, 1)
    community.submit(lie)
    challenger = account("outsider").address
    before = [community.client.balance_wei(address) for address in (challenger, ZERO_ADDRESS)]
    sent = community.send(against_amount(community, lie, MEMBER), "outsider")
    receipt = web3.eth.get_transaction_receipt(web3.to_hex(sent.transaction_hash))
    block = web3.eth.get_block(receipt["blockNumber"])
    # The embedded chain's blocks have no miner but the zero address, which so gets the tip.
    assert block["miner"] == ZERO_ADDRESS
    tip = receipt["gasUsed"] * (receipt["effectiveGasPrice"] - block["baseFeePerGas"])
    paid_for_gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    reward = BOND_WEI // 2
    won = community.client.balance_wei(challenger) - before[0]
    assert won == reward - paid_for_gas
    burned = community.client.balance_wei(ZERO_ADDRESS) - before[1]
    assert burned == BOND_WEI - reward + tip


def test_a_coordinator_who_challenges_himself_loses_half(community: LiveCommunity) -> None:
    coordinator = account("coordinator")
    lie = shift_money(community.batch(0), MEMBER, FUND_SLOT, 1)
    community.submit(lie)
    before = community.client.balance_wei(coordinator.address)
    community.send(against_amount(community, lie, MEMBER), coordinator)
    assert community.client.balance_wei(coordinator.address) - before < BOND_WEI // 2


def test_batches_that_stood_on_the_lie_fall_with_it_and_cost_no_second_bond(
    community: LiveCommunity,
) -> None:
    first = community.batch(0)
    lie = shift_money(community.batch(1, first), MEMBER, OTHER, 1)
    third = community.batch(2, lie)
    fourth = community.batch(3, third)
    community.submit(first, lie, third, fourth)
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
    assert_overturned(community, against_amount(community, lie, MEMBER), "Amount", 2)
    assert community.contracts.bond()[1] == BOND_WEI
    assert community.recorded(1) == first.header.hash()
    assert community.contracts.next_period() == FIRST_PERIOD + 1
    honest = community.batch(1, first)
    community.submit(honest, community.batch(2, honest))
    assert community.contracts.head_number() == 3


def test_a_challenge_costs_the_same_however_many_batches_came_after_the_lie(
    community: LiveCommunity,
) -> None:
    """A coordinator with a backlog could otherwise put so many batches on a lie that no challenge fits into a block."""
    lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
    batches = [lie]
    for offset in range(1, 5):
        batches.append(community.batch(offset, batches[-1]))
    gas = []
    for count in (2, 5):
        with restored(community.client.web3):
            now = community.reopened()
            now.submit(*batches[:count])
            gas.append(now.send(against_amount(now, lie, MEMBER), "outsider").gas_used)
    assert abs(gas[1] - gas[0]) < 100


def test_an_earlier_lie_falls_although_a_later_one_used_up_the_bond(
    community: LiveCommunity,
) -> None:
    """The coordinator's accomplice challenges a second lie so that nothing is left for the first."""
    lie = shift_money(community.batch(0), MEMBER, OTHER, 10**12)
    second = shift_money(community.batch(1, lie), MEMBER, OTHER, 1)
    community.submit(lie, second)
    community.send(against_amount(community, second, MEMBER), "dso")
    assert community.contracts.bond()[1] == 0
    assert community.recorded(1) == lie.header.hash()
    community.send(against_amount(community, lie, MEMBER), "outsider")
    assert community.contracts.head_number() == 0


def test_a_lie_in_the_first_batch_leaves_the_community_as_it_began(
    community: LiveCommunity,
) -> None:
    lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
    community.submit(lie)
    assert_overturned(community, against_amount(community, lie, MEMBER), "Amount")
    assert community.contracts.next_period() == FIRST_PERIOD
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
    honest = community.batch(0)
    community.submit_final(honest)
    assert community.contracts.is_final(1)
    assert community.recorded(1) == honest.header.hash()


def test_a_batch_is_final_when_the_window_has_passed_and_not_a_second_before(
    community: LiveCommunity,
) -> None:
    lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
    community.submit(lie)
    submitted = community.contracts.record_of(1).submitted_at
    for second, final in ((CHALLENGE_SECONDS - 1, False), (CHALLENGE_SECONDS, True)):
        with restored(community.client.web3):
            now = community.reopened()
            now.travel_to(submitted + second)
            refused = now.client.refusal(against_amount(now, lie, MEMBER), account("outsider"))
            assert now.now() == submitted + second
            assert (refused is not None) == final


def test_a_final_batch_never_changes(community: LiveCommunity) -> None:
    """A later lie falls; what was final before stays."""
    first = community.batch(0)
    community.submit_final(first)
    lie = shift_money(community.batch(1, first), MEMBER, OTHER, 1)
    community.submit(lie)
    assert_overturned(community, against_amount(community, lie, MEMBER), "Amount", 2)
    assert community.contracts.is_final(1)
    assert community.recorded(1) == first.header.hash()


def test_the_group_of_a_member_does_not_shift_with_the_tariff(community: LiveCommunity) -> None:
    """A heat pump's group is announced between others, whose members' bills stay what they were."""
    newcomer = member_at(8, "middle", "heat-pump")
    grown = replace(community.paper, members=(*community.paper.members, newcomer))
    share = grown.share_millionths
    community.send(community.contracts.announce_tariff(grown.market, share, FIRST_PERIOD + 1))
    admit_members(
        community.client,
        account("deployer"),
        community.contracts,
        [(newcomer, account("wallet", 8))],
        grown.market,
        FIRST_PERIOD + 1,
        0,
        smallest_group=1,
    )
    record = community.contracts.member_at(8)
    assert (record.node, record.tariff_class) == (1, 0)
    first = community.batch(0)
    community.submit(first)
    energy = energy_of(1) | {8: ((100, 0),) * 4}
    larger = replace(community, paper=grown)
    signed = larger.signed_report(1, energy)
    honest = larger.batch(1, first, signed=signed)
    larger.submit(honest)
    for slot in honest.member_periods:
        assert larger.refused(against_amount(larger, honest, slot)) == ("NothingIsWrong",)
    call = community.contracts.challenge_cumulative(honest, 8, first)
    assert community.refused(call) == ("NothingIsWrong",)
