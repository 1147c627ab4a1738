"""The proof of optimality: exact on a clearing worked out by hand, and no proof for what is not a clearing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from backend.domain.errors import ClearingFailed
from backend.market.certificate import (
    dual_value_nano,
    duality_gap_nano,
    infeasibility,
    network_fees_nano,
    outside_cost_nano,
    primal_cost_nano,
)
from backend.market.problem import Graph, Group, Market, Problem, Solution
from tests.support.strategies import Cleared, cleared_markets

# Node 0 wants 10 Wh, node 1 has 6 Wh to sell. A Wh costs 300 outside and earns 80; the way between the nodes costs 40.
MARKET = Market(
    graph=Graph((5, 7), (0,), (1,), (40,)),
    groups=(Group(0, 0, 300, 80), Group(1, 0, 300, 80)),
    node_names=("a", "b"),
    class_names=("all",),
    group_index={("a", "all"): 0, ("b", "all"): 1},
)
PROBLEM = Problem(MARKET, demand_wh=(10, 0), supply_wh=(0, 6))
# All 6 Wh flow against the edge's direction; node 0 still buys outside, so a Wh is worth 300 - 5 there, and 40 less at node 1.
SOLUTION = Solution((6, 0), (0, 6), flow_wh=(-6,), price_nano_per_wh=(295, 255))


def test_costs_by_hand() -> None:
    assert outside_cost_nano(PROBLEM) == 10 * 300 - 6 * 80
    assert network_fees_nano(PROBLEM, SOLUTION) == 6 * (5 + 7 + 40)
    assert primal_cost_nano(PROBLEM, SOLUTION) == 4 * 300 + 6 * (5 + 7 + 40)
    assert dual_value_nano(PROBLEM, (295, 255)) == 10 * 300 - 6 * (255 - 7)
    assert infeasibility(PROBLEM, SOLUTION) is None
    assert duality_gap_nano(PROBLEM, SOLUTION) == 0


@given(cleared=cleared_markets())
def test_without_trade_the_gap_is_all_that_could_be_saved(cleared: Cleared) -> None:
    for problem, optimal in cleared.intervals:
        groups = (0,) * len(problem.demand_wh)
        nothing = replace(
            optimal,
            matched_demand_wh=groups,
            matched_supply_wh=groups,
            flow_wh=(0,) * len(optimal.flow_wh),
        )
        saved = outside_cost_nano(problem) - primal_cost_nano(problem, optimal)
        assert duality_gap_nano(problem, nothing) == saved


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"matched_demand_wh": (11, 0)}, "group 0: matched demand 11 Wh outside 0..10"),
        ({"matched_demand_wh": (-1, 0)}, "group 0: matched demand -1 Wh outside 0..10"),
        ({"matched_supply_wh": (0, 7)}, "group 1: matched supply 7 Wh outside 0..6"),
        ({"matched_supply_wh": (0, -1)}, "group 1: matched supply -1 Wh outside 0..6"),
        (
            {"price_nano_per_wh": (296, 255)},
            "edge 0: prices differ by 41, more than the fee 40 nano per Wh",
        ),
        (
            {"price_nano_per_wh": (214, 255)},
            "edge 0: prices differ by 41, more than the fee 40 nano per Wh",
        ),
        ({"flow_wh": (-5,)}, "node 0: -1 Wh more supplied than used"),
        ({"matched_demand_wh": (5, 0)}, "node 0: 1 Wh more supplied than used"),
        ({"matched_supply_wh": (0, 5)}, "node 1: -1 Wh more supplied than used"),
    ],
)
def test_what_is_no_clearing_has_no_gap(fields: dict[str, Any], fault: str) -> None:
    solution = replace(SOLUTION, **fields)
    assert infeasibility(PROBLEM, solution) == fault
    with pytest.raises(ClearingFailed) as refused:
        duality_gap_nano(PROBLEM, solution)
    assert fault in str(refused.value)
    assert refused.value.remedy == "report this: an engine returned what is not a clearing"
