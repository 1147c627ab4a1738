"""The reference cases, to the digits given, by every method."""

from __future__ import annotations

from typing import Any

import pytest

from backend.domain.p2p import P2PCase
from backend.market.p2p.methods import solve_case

from .cases import FOUR_AGENTS, IEEE14, IEEE14_OUTSIDE, IEEE39, POWER39, TWO_AGENTS

EXACT = ("central", "sweep", "reference:clarabel", "reference:scs")
NEGOTIATED = ("sparse", "admm")
METHODS = (*EXACT, *NEGOTIATED)


def solve(data: dict[str, Any], method: str, **options: Any) -> Any:
    return solve_case(P2PCase.parse(data), method=method, tolerance=1e-8, **options)


@pytest.mark.parametrize("method", [*METHODS, "rci"])
def test_two_agents_by_hand(method: str) -> None:
    result = solve(TWO_AGENTS, method)
    assert [agent.power for agent in result.agents] == pytest.approx([-1, 1], abs=1e-3)
    assert [agent.price for agent in result.agents] == pytest.approx([7, 5], abs=1e-3)
    (trade,) = result.trades
    assert trade.price == pytest.approx(6, abs=1e-3)
    assert result.fees == pytest.approx(2, abs=1e-3)
    assert result.objective == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("method", [*METHODS, "rci"])
def test_four_agents_in_closed_form(method: str) -> None:
    result = solve(FOUR_AGENTS, method)
    power = [agent.power for agent in result.agents]
    assert power == pytest.approx([-11.1764, -11.1764, 24.033, -1.6809], abs=2e-3)
    price = [agent.price for agent in result.agents]
    assert price[:3] == pytest.approx([58.824, 58.824, 56.823], abs=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_ieee14_without_outside(method: str) -> None:
    result = solve(IEEE14, method)
    assert result.objective == pytest.approx(-2462.9832, abs=1e-4)
    assert result.agents[-1].price == pytest.approx(94.61897, abs=2e-5)
    assert result.certified_gap <= 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_ieee14_with_outside(method: str) -> None:
    result = solve(IEEE14_OUTSIDE, method)
    assert result.objective == pytest.approx(-3395.5726, abs=1e-4)
    # Exactly 75.76190 (two solvers agree); the source gives 75.7617.
    assert result.imported - result.exported == pytest.approx(75.7617, abs=3e-4)
    assert [agent.price for agent in result.agents] == pytest.approx([70.0] * 14, abs=1e-4)


@pytest.mark.parametrize("method", [*EXACT, "sparse"])
def test_ieee39_without_fees(method: str) -> None:
    result = solve(IEEE39, method)
    assert result.objective == pytest.approx(-92547.875, abs=2e-3)
    assert result.agents[0].price == pytest.approx(57.2343, abs=5e-5)
    power = [agent.power / 100 for agent in result.agents]
    # The published expectation is in 100 MW, to 0.01.
    assert power == pytest.approx(POWER39, abs=0.01)
    traded = sum(agent.power for agent in result.agents if agent.power > 0)
    assert traded == pytest.approx(3893.349, abs=2e-2)


@pytest.mark.parametrize("method", ["admm", "rci"])
def test_the_published_baselines_on_ieee39_come_near_and_say_how_near(method: str) -> None:
    result = solve(IEEE39, method, most_rounds=1500)
    assert result.outcome == "no agreement within 1500 rounds"
    assert 1e-8 < result.certified_gap < 0.02
    # What is proven holds: the optimum is known.
    assert result.objective >= -92547.875 - 1
    assert result.objective <= -92547.875 * (1 - 2 * result.certified_gap)


def test_a_community_is_one_price() -> None:
    result = solve(IEEE14_OUTSIDE, "central", organisation="community")
    assert result.objective == pytest.approx(-3395.5726, abs=1e-4)
    assert {trade.seller for trade in result.trades} | {trade.buyer for trade in result.trades} > {
        "community",
        "outside",
    }
