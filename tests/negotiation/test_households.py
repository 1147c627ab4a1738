"""Households and their assets: plans against reasoning by hand, forecasts that see no future, wishes that hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.errors import MalformedInput, OutOfRange
from backend.market.p2p.methods import solve_case
from backend.negotiation.agreement import broken_limits, whole_trades
from backend.negotiation.assets import (
    Battery,
    FixedLoad,
    FlexibleLoad,
    HomePlan,
    Solar,
    electric_vehicle,
)
from backend.negotiation.households import (
    Household,
    MeterHistory,
    Wishes,
    household_case,
    newsvendor_cost,
)

NEAR = 2e-3  # smoothing and the solver's tolerance


def test_a_fixed_load_buys_what_it_uses() -> None:
    plan = HomePlan([FixedLoad((1.0, 2.0))], [0.3, 0.3], [0.1, 0.1])
    assert plan.range() == pytest.approx((-1, -1), abs=1e-6)
    assert plan.alone() == pytest.approx(-1, abs=1e-6)


def test_solar_is_curtailed_only_where_selling_costs() -> None:
    sunny = [Solar((2.0, 1.0)), FixedLoad((0.5, 0.5))]
    assert HomePlan(sunny, [0.3, 0.3], [0.1, 0.1]).alone() == pytest.approx(1.5, abs=NEAR)
    assert HomePlan(sunny, [0.3, 0.3], [-0.1, -0.1]).alone() == pytest.approx(0, abs=NEAR)


def test_a_flexible_load_waits_for_the_cheapest_time() -> None:
    washing = FlexibleLoad(needed=1.0, most=1.0, first=0, end=3)
    assert HomePlan([washing], [0.3, 0.2, 0.4], [0.0] * 3).alone() == pytest.approx(0, abs=NEAR)
    assert HomePlan([washing], [0.1, 0.2, 0.4], [0.0] * 3).alone() == pytest.approx(-1, abs=NEAR)
    with pytest.raises(MalformedInput):
        HomePlan([FlexibleLoad(4.0, 1.0, 0, 3)], [0.1] * 3, [0.0] * 3)


def test_a_battery_charges_cheap_and_keeps_its_limits() -> None:
    battery = Battery(capacity=5, level=0, most=2, efficiency=0.9, wear=0.0)
    load = FixedLoad((0.0, 0.0, 3.0))
    plan = HomePlan([battery, load], [0.1, 0.3, 0.4], [0.0] * 3)
    # 1.62 kWh at most reach the load from what is charged at once: 2 kWh, and 0.9 twice.
    assert plan.alone() == pytest.approx(-2, abs=NEAR)
    assert plan.set_points(-2.0)[0] == pytest.approx(-2, abs=NEAR)
    assert plan.range() == pytest.approx((-2, 0), abs=1e-6)
    with pytest.raises(MalformedInput):
        HomePlan([Battery(5, 6, 1)], [0.1], [0.0])


def test_a_car_leaves_with_what_it_needs() -> None:
    car = electric_vehicle(40, 10, most=3, leaves_with=15, present=[True, False, True, True])
    plan = HomePlan([car], [0.4, 0.1, 0.2, 0.2], [0.0] * 4)
    assert plan.alone() == pytest.approx(0, abs=NEAR)
    dear = HomePlan([car], [0.1, 0.1, 0.2, 0.2], [0.0] * 4)
    assert dear.alone() == pytest.approx(-3, abs=NEAR)
    with pytest.raises(MalformedInput):
        HomePlan([electric_vehicle(40, 10, 3, 39, [True, False, True, True])], [0.1] * 4, [0.0] * 4)


def test_a_plan_without_intervals_or_with_prices_the_wrong_way_round() -> None:
    with pytest.raises(MalformedInput):
        HomePlan([], [], [])
    with pytest.raises(MalformedInput):
        HomePlan([], [0.1], [0.2])
    with pytest.raises(MalformedInput):
        HomePlan([FixedLoad((1.0,))], [0.1, 0.1], [0.0, 0.0])
    assert HomePlan([], [0.1], [0.0]).range() == (0, 0)


@settings(max_examples=15)
@given(
    level=st.floats(0, 5),
    load=st.lists(st.floats(0, 2), min_size=6, max_size=6),
    sun=st.lists(st.floats(0, 3), min_size=6, max_size=6),
)
def test_the_quadratic_is_convex_and_its_range_can_be_met(
    level: float, load: list[float], sun: list[float]
) -> None:
    battery = Battery(capacity=5, level=level, most=1.5)
    plan = HomePlan([FixedLoad(tuple(load)), Solar(tuple(sun)), battery], [0.3] * 6, [0.08] * 6)
    cost = plan.quadratic()
    assert cost.a >= 0
    for sold in (cost.lower, (cost.lower + cost.upper) / 2, cost.upper):
        points = plan.set_points(sold)
        assert sum(points) == pytest.approx(sold, abs=1e-5)
        assert -1.5 - 1e-5 <= points[2] <= 1.5 + 1e-5
        assert -1e-5 <= points[1] <= sun[0] + 1e-5
    # No unit is worth more than the dearest way to get it, nor less than the cheapest way to be rid of it, wear apart.
    for end in (cost.lower, cost.upper):
        assert -0.1 <= cost.b + cost.a * end <= 0.5


@given(
    past=st.lists(st.integers(-500, 500), min_size=13, max_size=40),
    future=st.lists(st.integers(-500, 500), min_size=1, max_size=5),
    ahead=st.integers(1, 6),
)
def test_forecasts_are_made_from_the_past_only(
    past: list[int], future: list[int], ahead: int
) -> None:
    """What is added later changes nothing that was said before; a forecast needs no interval that is not metered yet."""
    history = MeterHistory(past, 6)
    before = history.samples(ahead)
    assert before
    again = MeterHistory([*past], 6)
    for value in future:
        again.add(value)
    assert MeterHistory(past, 6).samples(ahead) == before
    assert len(again) == len(past) + len(future)


def test_a_day_like_the_others_is_forecast_exactly() -> None:
    day = [100, -50, 30, 0]
    history = MeterHistory([*day, *day, *day, 100], 4)
    assert history.samples(1) == [-50, -50, -50]
    assert history.samples(2) == [30, 30, 30]
    # A brighter morning shifts what follows, less and less.
    brighter = MeterHistory([*day, *day, 200], 4)
    assert brighter.samples(1) == pytest.approx([-50 + 85, -50 + 85])
    assert brighter.samples(2) == pytest.approx([30 + 72.25, 30 + 72.25])
    with pytest.raises(OutOfRange):
        MeterHistory(day, 4)


def test_the_newsvendor() -> None:
    cost = newsvendor_cost((0.5, 1.0, 1.5), 0.3, 0.1)
    marginal = [cost.b + cost.a * sold for sold in (0.5, 1.0, 1.5)]
    assert marginal == pytest.approx([0.12, 0.2, 0.28])
    assert (cost.lower, cost.upper) == (0, 1.5)
    assert newsvendor_cost((-1.0, -0.5, 0.2), 0.3, 0.1).lower == -1
    flat = newsvendor_cost((1.0, 1.0, 1.0), 0.3, 0.1)
    assert 0 < flat.a < 100


def household(name: str, net: int, **changes: Any) -> Household:
    noisy = [net + 10 * (number % 3) for number in range(9)]
    usual: dict[str, Any] = {
        "slot": 3 + ord(name) - ord("a"),
        "node": "x",
        "import_price": 300_000,
        "export_price": 80_000,
        "wishes": Wishes(300_000, 80_000),
        "history": MeterHistory(noisy, 2),
        "generates": net > 0,
    }
    return Household(name, **usual | changes)


FEES = {(one, other): 30_000 if one == other else 60_000 for one in "xy" for other in "xy"}


def traded(households: list[Household]) -> dict[tuple[str, str], float]:
    costs = [one.cost(1) for one in households]
    result = solve_case(household_case(households, costs, FEES), method="central")
    return {(one.seller, one.buyer): one.energy for one in result.trades if one.energy > 1e-6}


def test_wishes_choose_partners() -> None:
    seller, other = household("a", 400), household("b", 400)
    buyer = household("c", -300, wishes=Wishes(300_000, 80_000, refused=frozenset({"a"})))
    assert set(traded([seller, other, buyer])) == {("b", "c")}
    fond = household("c", -300, wishes=Wishes(300_000, 80_000, preferred={"a": 50_000}))
    found = traded([seller, other, fond])
    assert found[("a", "c")] > 2 * found.get(("b", "c"), 0.0)
    far = household("b", 400, node="y")
    local = household("c", -300, wishes=Wishes(300_000, 80_000, local_premium=90_000))
    found = traded([seller, far, local])
    assert found[("a", "c")] > 2 * found.get(("b", "c"), 0.0)
    grey = household("b", 400, generates=False)
    green = household("c", -300, wishes=Wishes(300_000, 80_000, green_premium=90_000))
    found = traded([seller, grey, green])
    assert found[("a", "c")] > 2 * found.get(("b", "c"), 0.0)


def test_nobody_trades_beyond_its_limits() -> None:
    seller = household("a", 400, wishes=Wishes(300_000, 150_000))
    buyer = household("b", -300, wishes=Wishes(170_000, 80_000))
    # 150 000 + 15 000 is above 170 000 - 15 000.
    assert traded([seller, buyer]) == {}
    seller.wishes = Wishes(300_000, 100_000)
    households = [seller, buyer]
    costs = [one.cost(1) for one in households]
    result = solve_case(household_case(households, costs, FEES), method="sparse")
    limits = {one.name: one.limits(9, cost) for one, cost in zip(households, costs, strict=True)}
    trades = whole_trades(
        result.trades,
        limits,
        {("a", "b"): 30_000},
        wh_per_unit=1000,
        nano_per_wh_per_unit=1_000_000,
    )
    (trade,) = trades
    assert broken_limits(trade, limits["a"], limits["b"]) is None
    assert trade.earned_nano_per_wh >= 100_000
    assert trade.paid_nano_per_wh <= 170_000


def test_a_household_with_a_battery_follows_what_it_agreed() -> None:
    home = household("a", 200, assets=(Battery(5, 2.5, 1.0),), horizon=4)
    cost = home.cost(1)
    assert cost.lower == 0
    assert cost.upper == pytest.approx(1.227, abs=1e-3)
    rest, sun, battery = home.plan(1).set_points(1.0)
    assert rest + sun + battery == pytest.approx(1.0, abs=1e-5)
    assert np.isclose(battery, 1.0 - 0.227, atol=0.01)
