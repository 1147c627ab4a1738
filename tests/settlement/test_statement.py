"""A member's bill from its own readings and the published prices, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.readings import MISSING_READING, IntervalReading, Quality
from backend.market.problem import Group
from backend.settlement.batch import interval_steps
from backend.settlement.statement import interval_amount_nano, statement_amount_nano
from tests.support.community import Community, Energy, period_number
from tests.support.strategies import communities, readings

GROUP = Group(
    node=0, tariff_class=0, import_price_nano_per_wh=300_000, export_price_nano_per_wh=80_000
)
PRICES = st.integers(0, 220_000)


@pytest.mark.parametrize(
    ("imported", "exported", "amount"),
    [
        (0, 0, 0),
        (5, 5, 0),
        (1000, 0, -1000 * (300_000 - 7)),
        (0, 1000, 1000 * (80_000 + 9)),
        (400, 1000, 600 * (80_000 + 9)),
        (1000, 400, -600 * (300_000 - 7)),
    ],
)
def test_one_interval_by_hand(imported: int, exported: int, amount: int) -> None:
    """Netted within the interval: a deficit pays import less discount, a surplus earns export plus premium."""
    reading = IntervalReading(imported, exported, Quality.MEASURED)
    assert interval_amount_nano(reading, (7, 9), GROUP) == amount


def test_a_missing_reading_is_left_to_the_supplier() -> None:
    assert interval_amount_nano(MISSING_READING, (7, 9), GROUP) == 0
    odd = IntervalReading(1000, 0, Quality.MISSING)
    assert interval_amount_nano(odd, (7, 9), GROUP) == 0


def test_a_substituted_reading_is_billed_like_a_measured_one() -> None:
    measured = IntervalReading(1000, 0, Quality.MEASURED)
    substituted = replace(measured, quality=Quality.SUBSTITUTED)
    assert interval_amount_nano(substituted, (1, 1), GROUP) == interval_amount_nano(
        measured, (1, 1), GROUP
    )


@given(
    intervals=st.lists(st.tuples(readings(2**40), PRICES, PRICES), max_size=8),
    cut=st.integers(0, 8),
)
def test_a_bill_is_the_sum_of_its_parts(
    intervals: list[tuple[IntervalReading, int, int]], cut: int
) -> None:
    member = [reading for reading, _, _ in intervals]
    steps = [(discount, premium) for _, discount, premium in intervals]
    whole = statement_amount_nano(member, steps, GROUP)
    parts = statement_amount_nano(member[:cut], steps[:cut], GROUP) + statement_amount_nano(
        member[cut:], steps[cut:], GROUP
    )
    assert whole == parts


@given(reading=readings(2**40), discount=PRICES, premium=PRICES)
def test_nobody_is_worse_off_than_outside(
    reading: IntervalReading, discount: int, premium: int
) -> None:
    outside = interval_amount_nano(reading, (0, 0), GROUP)
    assert interval_amount_nano(reading, (discount, premium), GROUP) >= outside


def test_as_many_prices_as_readings() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        statement_amount_nano([MISSING_READING], [], GROUP)


@given(drawn=communities())
def test_bills_are_what_the_clearing_said(drawn: tuple[Community, list[Energy]]) -> None:
    """The bill from readings and published steps equals the sum over the cleared intervals, for every member."""
    community, energies = drawn
    period = replace(period_number(0), interval_count=len(next(iter(energies[0].values()))))
    member_periods = community.member_periods(period, energies[0])
    cleared = community.clear(period, member_periods)
    steps = [interval_steps(interval, community.share_millionths) for interval in cleared]
    for index, item in enumerate(member_periods):
        key = item.member.node, item.member.tariff_class
        group = community.market.groups[community.market.group_index[key]]
        billed = statement_amount_nano(item.readings, steps, group)
        assert billed == sum(interval.amount_nano[index] for interval in cleared)
