"""Corrections settle the difference: afterwards everybody has what the right readings would have given at once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.readings import IntervalReading, Quality
from backend.settlement.batch import Batch
from backend.settlement.encoding import EMPTY
from tests.settlement.test_batch import SYSTEM, periods_of
from tests.support.community import Community, Energy, energy_of, period_number
from tests.support.strategies import communities


def cumulative(batch: Batch) -> dict[int, int]:
    return {slot: leaf.cumulative_nano for slot, leaf in batch.leaves.items()}


def amounts(batch: Batch) -> dict[int, int]:
    return {slot: leaf.amount_nano for slot, leaf in batch.leaves.items()}


@st.composite
def corrected_communities(draw: st.DrawFn) -> tuple[Community, Energy, Energy, Energy, Energy]:
    """What was reported of two periods, and what the first one really was, found out in two steps."""
    community, (first, second) = draw(communities(most_members=5, most_intervals=2))
    energy = st.tuples(st.integers(0, 5000), st.integers(0, 5000))
    found = []
    for _ in range(2):
        late = draw(st.sets(st.sampled_from(sorted(first))))
        found.append(
            {
                slot: tuple(draw(energy) if slot in late else pair for pair in pairs)
                for slot, pairs in first.items()
            }
        )
    return community, first, second, found[0], found[1]


class TestAnyCorrection:
    @given(drawn=corrected_communities())
    @settings(max_examples=30)
    def test_it_ends_where_the_right_readings_would_have_led_at_once(
        self, drawn: tuple[Community, Energy, Energy, Energy, Energy]
    ) -> None:
        community, first, second, once, twice = drawn
        one, two = periods_of([first, second])
        settled = community.paper_batch(one, first)
        newest = community.paper_batch(two, second, settled)
        for right in (once, twice):
            correction = community.paper_batch(one, right, newest, settled)
            assert sum(amounts(correction).values()) == 0
            assert sum(cumulative(correction).values()) == 0
            at_once = community.paper_batch(two, second, community.paper_batch(one, right))
            assert cumulative(correction) == cumulative(at_once)
            for slot, leaf in correction.leaves.items():
                assert leaf.amount_nano == correction.due_nano[slot] - settled.due_nano[slot]
                assert (
                    leaf.cumulative_nano == newest.leaves[slot].cumulative_nano + leaf.amount_nano
                )
            # The header says what this version came to as a whole; the accounts get the difference.
            header = correction.header
            whole = (header.supplier_nano, header.network_fees_nano, header.fund_nano)
            assert whole == tuple(correction.due_nano[slot] for slot in SYSTEM)
            settled = newest = correction

    @given(drawn=corrected_communities())
    @settings(max_examples=15)
    def test_its_header_continues_the_chain_and_settles_no_new_period(
        self, drawn: tuple[Community, Energy, Energy, Energy, Energy]
    ) -> None:
        community, first, second, once, twice = drawn
        one, two = periods_of([first, second])
        settled = community.paper_batch(one, first)
        newest = community.paper_batch(two, second, settled)
        for version, right in ((1, once), (2, twice)):
            correction = community.paper_batch(one, right, newest, settled)
            header = correction.header
            assert (header.number, header.version) == (2 + version, version)
            assert header.previous_batch == newest.header.hash()
            assert header.corrected_batch == settled.header.hash()
            assert (header.period, header.first_interval) == (one.number, one.first_interval)
            assert (header.next_period, header.next_interval) == (two.number + 1, two.end_interval)
            assert header.tariff_hash == settled.header.tariff_hash
            assert header.hash() != settled.header.hash()
            settled = newest = correction
        following = replace(two, number=two.number + 1, first_interval=two.end_interval)
        header = community.paper_batch(following, second, newest).header
        assert (header.number, header.version, header.corrected_batch) == (5, 0, EMPTY)
        assert header.next_period == following.number + 1


class TestExamples:
    def test_the_same_readings_again_move_nothing(self, paper: Community) -> None:
        period = period_number(0)
        settled = paper.paper_batch(period, energy_of(0))
        again = paper.paper_batch(period, energy_of(0), settled, settled)
        assert set(amounts(again).values()) == {0}
        assert cumulative(again) == cumulative(settled)
        # Nobody can tell from the leaves that nothing changed.
        assert not {leaf.hash() for leaf in again.leaves.values()} & {
            leaf.hash() for leaf in settled.leaves.values()
        }

    def test_a_correction_of_a_correction_takes_it_back(self, paper: Community) -> None:
        period = period_number(0)
        settled = paper.paper_batch(period, energy_of(0))
        wrong = paper.paper_batch(period, energy_of(1), settled, settled)
        assert any(amounts(wrong).values())
        right = paper.paper_batch(period, energy_of(0), wrong, wrong)
        assert amounts(right) == {slot: -amount for slot, amount in amounts(wrong).items()}
        assert cumulative(right) == cumulative(settled)

    def test_readings_that_came_late_are_billed_and_false_ones_taken_back(
        self, paper: Community
    ) -> None:
        period = period_number(0)
        whole = paper.member_periods(period, energy_of(0))
        missing = tuple(
            replace(item, readings=(IntervalReading(0, 0, Quality.MISSING),) * 4)
            if item.member.slot == 4
            else item
            for item in whole
        )
        settled = paper.batch(period, paper.report(period, missing), (), missing)
        assert settled.leaves[4].amount_nano == 0
        late = paper.paper_batch(period, energy_of(0), settled, settled)
        assert late.leaves[4].amount_nano == late.due_nano[4] != 0
        report = paper.report(period, missing, version=2)
        back = paper.batch(period, report, (), missing, late, corrected=late)
        assert back.leaves[4].amount_nano == -late.due_nano[4]
        assert cumulative(back) == cumulative(settled)

    def test_a_member_whom_the_oracle_no_longer_reports_gets_its_bill_back(
        self, paper: Community
    ) -> None:
        period = period_number(0)
        settled = paper.paper_batch(period, energy_of(0))
        fewer = paper.member_periods(period, energy_of(0), 1)[:-1]
        gone = next(
            slot
            for slot in settled.member_periods
            if slot not in {item.member.slot for item in fewer}
        )
        report = paper.report(period, fewer, version=1)
        correction = paper.batch(period, report, (), fewer, settled, corrected=settled)
        leaf = correction.leaves[gone]
        assert (leaf.amount_nano, leaf.cumulative_nano) == (-settled.due_nano[gone], 0)
        assert leaf.readings_commitment == EMPTY
        assert sum(amounts(correction).values()) == 0
