"""Readings that come late or were wrong: version v+1 of a final period settles the difference and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch, shift_money, with_ledger
from oracle.signing import sign_report
from tests.support.challenges import against_amount, assert_overturned, every_challenge
from tests.support.community import (
    BOND_WEI,
    CORRECTION_SECONDS,
    FIRST_INTERVAL,
    FIRST_PERIOD,
    INTERVALS_PER_PERIOD,
    THRESHOLD,
    LiveCommunity,
    account,
    period_energy,
    signer_keys,
)

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 2
CORRECTED = period_energy(0, slot_3=((0, 1200), (500, 0), (10, 0), (333, 1000)))
AGAIN = period_energy(0, slot_3=((0, 1100), (500, 0), (10, 0), (0, 10)), slot_5=((9, 0),) * 4)


@pytest.fixture
def batches(community: LiveCommunity) -> tuple[Batch, Batch]:
    """Two final batches."""
    first, second = community.batches(2)
    community.submit_final(first, second)
    return first, second


def resigned(community: LiveCommunity, batch: Batch, **fields: int) -> Batch:
    report = replace(batch.report, **fields)  # type: ignore[arg-type]
    keys = signer_keys()[:THRESHOLD]
    signatures = tuple(sign_report(key, community.place.domain, report) for key in keys)
    return replace(batch, report=report, signatures=signatures)


def test_the_difference_is_settled_and_later_periods_go_on(
    community: LiveCommunity, batches: tuple[Batch, Batch]
) -> None:
    first, second = batches
    correction = community.correction(first, second, CORRECTED)
    community.submit(correction, corrected=first)
    assert community.recorded(3) == correction.header.hash()
    header = correction.header
    assert (header.period, header.version) == (FIRST_PERIOD, 1)
    assert header.corrected_batch == first.header.hash()
    assert header.previous_batch == second.header.hash()
    assert community.contracts.next_period() == FIRST_PERIOD + 2 == header.next_period
    for slot, leaf in correction.leaves.items():
        assert leaf.amount_nano == correction.due_nano[slot] - first.due_nano[slot]
        assert leaf.cumulative_nano == second.leaves[slot].cumulative_nano + leaf.amount_nano
    assert correction.leaves[MEMBER].amount_nano != 0
    third = community.batch(2, correction)
    community.submit(third)
    assert community.recorded(4) == third.header.hash()


def test_no_honest_correction_is_overturned(
    community: LiveCommunity, batches: tuple[Batch, Batch]
) -> None:
    first, second = batches
    correction = community.correction(first, second, CORRECTED)
    community.submit(correction, corrected=first)
    for slot, leaf in correction.leaves.items():
        if leaf.cumulative_nano < 0:
            community.deposit(slot, -leaf.cumulative_nano)
    challenges = every_challenge(community, correction, second, first)
    outcomes = {kind: community.refused(call) for kind, call in challenges}
    assert set(outcomes.values()) == {("NothingIsWrong",)}, outcomes


@pytest.mark.parametrize("slot", [MEMBER, OTHER])
def test_a_wrong_difference_is_overturned_and_the_right_one_taken(
    community: LiveCommunity, batches: tuple[Batch, Batch], slot: int
) -> None:
    first, second = batches
    honest = community.correction(first, second, CORRECTED)
    lie = shift_money(honest, MEMBER, OTHER, 1)
    community.submit(lie, corrected=first)
    call = against_amount(community, lie, slot, corrected=first)
    assert_overturned(community, call, "Amount", 3)
    assert community.contracts.next_period() == FIRST_PERIOD + 2
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
    community.submit(honest, corrected=first)
    assert community.recorded(3) == honest.header.hash()


@pytest.mark.parametrize("slot", [SUPPLIER_SLOT, DSO_SLOT])
def test_so_is_a_wrong_difference_of_a_system_account(
    community: LiveCommunity, batches: tuple[Batch, Batch], slot: int
) -> None:
    first, second = batches
    lie = shift_money(community.correction(first, second, CORRECTED), MEMBER, slot, 1)
    community.submit(lie, corrected=first)
    call = community.contracts.challenge_system_amount(lie, slot, first)
    assert_overturned(community, call, "SystemAmount", 3)


def test_settling_a_period_twice_is_overturned(
    community: LiveCommunity, batches: tuple[Batch, Batch]
) -> None:
    """A correction that books the whole amount again, not the difference."""
    first, second = batches
    honest = community.correction(first, second, CORRECTED)
    leaves = {
        slot: replace(
            leaf,
            amount_nano=honest.due_nano[slot],
            cumulative_nano=second.leaves[slot].cumulative_nano + honest.due_nano[slot],
        )
        for slot, leaf in honest.leaves.items()
    }
    lie = with_ledger(honest, leaves)
    community.submit(lie, corrected=first)
    call = against_amount(community, lie, OTHER, corrected=first)
    assert_overturned(community, call, "Amount", 3)


def test_challenges_name_the_batch_that_was_corrected(
    community: LiveCommunity, batches: tuple[Batch, Batch]
) -> None:
    first, second = batches
    correction = community.correction(first, second, CORRECTED)
    community.submit(correction, corrected=first)
    for wrong in (
        against_amount(community, correction, MEMBER, corrected=second),
        community.contracts.challenge_system_amount(correction, DSO_SLOT, second),
    ):
        refused = community.refused(wrong)
        assert refused == ("WrongCorrectedBatch", second.header.hash(), first.header.hash())
    plain = against_amount(community, correction, MEMBER)
    assert community.refused(plain) == ("IsCorrection", 1)


class TestFrame:
    def test_only_a_final_batch_is_corrected(self, community: LiveCommunity) -> None:
        first = community.batch(0)
        community.submit(first)
        correction = community.correction(first, first, CORRECTED)
        refused = community.submission_refused(correction, corrected=first)
        assert refused == ("NotFinal", 1)

    def test_only_one_on_record(
        self, community: LiveCommunity, batches: tuple[Batch, Batch]
    ) -> None:
        first, second = batches
        correction = community.correction(first, second, CORRECTED)
        other = first.with_bundle_hash(b"\x11" * 32)
        refused = community.submission_refused(correction, corrected=other)
        assert refused == ("WrongHeader", other.header.hash(), first.header.hash())

    def test_only_once(self, community: LiveCommunity, batches: tuple[Batch, Batch]) -> None:
        first, second = batches
        correction = community.correction(first, second, CORRECTED)
        community.submit(correction, corrected=first)
        again = community.correction(first, correction, AGAIN)
        refused = community.submission_refused(again, corrected=first)
        assert refused == ("AlreadyCorrected", 1, 3)

    def test_only_on_the_batch_that_is_the_newest(
        self, community: LiveCommunity, batches: tuple[Batch, Batch]
    ) -> None:
        """Balances that go on from a batch that was voided meanwhile, or lack another's, would be false."""
        first, second = batches
        third = community.batch(2, second)
        lie = shift_money(third, MEMBER, OTHER, 1)
        community.submit(lie)
        on_the_lie = community.correction(first, lie, CORRECTED)
        on_second = community.correction(first, second, CORRECTED)
        newest, former = lie.header.hash(), second.header.hash()
        refused = community.submission_refused(on_second, corrected=first)
        assert refused == ("WrongPrevious", former, newest)
        community.send(against_amount(community, lie, MEMBER), "outsider")
        community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
        refused = community.submission_refused(on_the_lie, corrected=first)
        assert refused == ("WrongPrevious", newest, former)
        community.submit(on_second, corrected=first)
        # So is a new period's batch that lacks the correction.
        refused = community.submission_refused(third)
        assert refused == ("WrongPrevious", former, on_second.header.hash())

    def test_a_voided_one_can_be_repeated_under_the_same_number(
        self, community: LiveCommunity, batches: tuple[Batch, Batch]
    ) -> None:
        """Also when another batch has taken its number meanwhile."""
        first, second = batches
        lie = shift_money(community.correction(first, second, CORRECTED), MEMBER, OTHER, 1)
        community.submit(lie, corrected=first)
        community.send(against_amount(community, lie, MEMBER, corrected=first), "outsider")
        community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
        third = community.batch(2, second)
        community.submit(third)
        correction = community.correction(first, third, CORRECTED)
        community.submit(correction, corrected=first)
        assert community.recorded(4) == correction.header.hash()

    def test_a_correction_is_corrected_by_the_next_version(
        self, community: LiveCommunity, batches: tuple[Batch, Batch]
    ) -> None:
        first, second = batches
        one = community.correction(first, second, CORRECTED)
        community.submit_final(one, corrected=first)
        two = community.correction(one, one, AGAIN)
        assert two.header.version == 2
        community.submit(two, corrected=one)
        assert community.recorded(4) == two.header.hash()
        for slot in two.member_periods:
            call = against_amount(community, two, slot, corrected=one)
            assert community.refused(call) == ("NothingIsWrong",)
        settled = sum(batch.leaves[MEMBER].amount_nano for batch in (first, one, two))
        assert settled == two.due_nano[MEMBER]

    def test_only_in_the_window(
        self, community: LiveCommunity, batches: tuple[Batch, Batch]
    ) -> None:
        first, second = batches
        correction = community.correction(first, second, CORRECTED)
        deadline = (FIRST_INTERVAL + INTERVALS_PER_PERIOD) * 900 + CORRECTION_SECONDS
        call = community.submission(correction, first)
        community.travel_to(deadline + 1)
        refused = community.client.refusal(call, account("coordinator"))
        assert refused is not None
        assert refused.error_name == "TooLateToCorrect"
        assert refused.arguments["deadline"] == deadline

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"version": 0}, ("WrongVersion", 0, 1)),
            ({"version": 2}, ("WrongVersion", 2, 1)),
            ({"period": FIRST_PERIOD + 1}, ("WrongPeriod", FIRST_PERIOD + 1, FIRST_PERIOD)),
            (
                {"first_interval": FIRST_INTERVAL + 1},
                ("WrongFirstInterval", FIRST_INTERVAL + 1, FIRST_INTERVAL),
            ),
            ({"interval_count": 3}, ("WrongIntervalCount", 3, 4)),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_only_the_same_period_in_its_next_version(
        self,
        community: LiveCommunity,
        batches: tuple[Batch, Batch],
        fields: dict[str, int],
        error: tuple[str, int, int],
    ) -> None:
        first, second = batches
        correction = resigned(community, community.correction(first, second, CORRECTED), **fields)
        assert community.submission_refused(correction, corrected=first) == error

    def test_only_by_the_coordinator(
        self, community: LiveCommunity, batches: tuple[Batch, Batch]
    ) -> None:
        first, second = batches
        call = community.submission(community.correction(first, second, CORRECTED), first)
        refused = community.refused(call)
        assert refused == ("AccessManagedUnauthorized", account("outsider").address.lower())
