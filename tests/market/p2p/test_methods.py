"""Random markets: every method against two cvxpy solvers, and what the certificate says against the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.errors import InputError
from backend.domain.p2p import P2PCase
from backend.market.p2p.certificate import certify, feasible_prices
from backend.market.p2p.dual import solve_pairwise
from backend.market.p2p.haggling import haggled
from backend.market.p2p.methods import link_costs, solve_case
from backend.market.p2p.organisations import pair_market, tree_market
from backend.market.p2p.reference import reference_pairs, reference_tree
from backend.market.p2p.sparse import negotiate
from backend.market.p2p.sweep import solve_tree

from .strategies import pair_cases, tree_cases


def near(value: float, reference: float) -> bool:
    return abs(value - reference) <= 1e-5 * max(1.0, abs(reference))


@settings(max_examples=60)
@given(pair_cases())
def test_arbitrary_pairs_agree_with_two_solvers(data: dict[str, Any]) -> None:
    market = pair_market(P2PCase.parse(data))
    try:
        found = solve_pairwise(market)
    except InputError:
        with pytest.raises(InputError):
            reference_pairs(market)
        return
    assert found.certificate.gap <= 1e-9
    assert found.certificate.primal_residual <= 1e-9
    for solver in ("clarabel", "scs"):
        assert near(found.certificate.cost, reference_pairs(market, solver)[0].cost(market))


@settings(max_examples=50)
@given(tree_cases())
def test_trees_agree_with_two_solvers(data: dict[str, Any]) -> None:
    market = tree_market(P2PCase.parse(data), "full")
    assert market is not None
    try:
        found = solve_tree(market, compiled=False)
    except InputError:
        from backend.domain.errors import ClearingFailed

        with pytest.raises(ClearingFailed):
            reference_tree(market)
        return
    assert found.gap <= 1e-9
    assert found.residual <= 1e-9
    for solver in ("clarabel", "highs") if not market.agents.a.any() else ("clarabel", "scs"):
        assert near(found.cost, reference_tree(market, solver))
    limited = np.isfinite(market.capacity)
    assert (np.abs(found.flow[limited]) <= market.capacity[limited] + 1e-9).all()


@settings(max_examples=40)
@given(pair_cases(must=False))
def test_negotiation_reaches_the_optimum(data: dict[str, Any]) -> None:
    case = P2PCase.parse(data)
    market = pair_market(case)
    best = solve_pairwise(market).certificate.cost
    ended = negotiate(market, *link_costs(case, market), tolerance=1e-4, most_rounds=3000)
    assert ended.agreed
    # Nothing is better than the optimum, and what is proven holds.
    cost, scale = ended.certificate.cost, max(1.0, abs(best))
    assert best - 1e-7 * scale <= cost <= best + 2e-4 * scale


@settings(max_examples=60)
@given(pair_cases(must=False))
def test_no_prices_prove_too_much(data: dict[str, Any]) -> None:
    """Whatever the prices, the bound stays below the optimum, and corrected prices contradict no pair."""
    market = pair_market(P2PCase.parse(data))
    best = solve_pairwise(market)
    random = np.random.default_rng(0)
    price = best.certificate.price + random.normal(0, 3, market.agents.count)
    proof = certify(market, best.trades, price)
    assert proof.bound <= best.certificate.cost + 1e-9 * max(1.0, abs(best.certificate.cost))
    tight = certify(market, best.trades, price, tighten=True)
    assert proof.bound - 1e-9 <= tight.bound
    assert tight.bound <= best.certificate.cost + 1e-9 * max(1.0, abs(best.certificate.cost))
    for corrected in (feasible_prices(market, price), tight.price):
        reduced = market.weight + corrected[market.sellers][:, None] - corrected[market.buyers]
        assert reduced.min(initial=0.0) >= -1e-12
        assert (corrected[market.buyers] <= market.import_price).all()
        assert (corrected[market.sellers] >= market.export_price).all()


@settings(max_examples=60)
@given(pair_cases(), st.integers(1, 5), st.integers(0, 9))
def test_haggling_never_costs_and_breaks_no_limit(
    data: dict[str, Any], passes: int, tenths: int
) -> None:
    market = replace(pair_market(P2PCase.parse(data)), import_price=np.inf, export_price=-np.inf)
    try:
        best = solve_pairwise(market)
    except InputError:
        return
    # Trades that keep all limits: what must be traded and some of the rest.
    must = market.agents.lower > 0
    must |= market.agents.upper < 0
    share = 1.0 if must.any() else tenths / 10
    trades = replace(best.trades, energy=best.trades.energy * share)
    found, links = haggled(market, trades, passes)
    assert links <= trades.energy.size
    scale = max(1.0, abs(best.certificate.cost))
    assert best.certificate.cost - 1e-9 * scale <= found.cost(market)
    assert found.cost(market) <= trades.cost(market) + 1e-9 * scale
    power = found.power(market)
    assert (power >= market.agents.lower - 1e-9).all()
    assert (power <= market.agents.upper + 1e-9).all()
    assert (found.energy >= 0).all()


def test_the_tree_and_all_pairs_are_the_same_market() -> None:
    random = np.random.default_rng(3)
    nodes = [{"id": f"v{i}", "access_fee": float(random.uniform(0, 1))} for i in range(12)]
    edges = [
        {"from": f"v{random.integers(0, i)}", "to": f"v{i}", "fee": float(random.uniform(0, 2))}
        for i in range(1, 12)
    ]
    agents = [
        {"id": f"n{i}", "a": float(random.uniform(0.5, 2)), "b": float(random.uniform(10, 50))}
        | {"lower": -5.0 if i % 2 else 0.0, "upper": 0.0 if i % 2 else 5.0, "node": f"v{i % 12}"}
        for i in range(24)
    ]
    case = P2PCase.parse({"agents": agents, "network": {"nodes": nodes, "edges": edges}})
    swept, paired = solve_case(case, method="sweep"), solve_case(case, method="sparse")
    assert paired.objective == pytest.approx(swept.objective, rel=2e-4)
    assert swept.fees == pytest.approx(paired.fees, rel=0.05)
    assert {trade.seller for trade in swept.trades} <= {agent.id for agent in case.agents}


def test_compiled_and_plain_loops_agree() -> None:
    random = np.random.default_rng(5)
    agents = [
        {"id": f"n{i}", "a": float(random.integers(0, 3)), "b": float(random.integers(0, 50))}
        | {"lower": -5.0 if i % 2 else 0.0, "upper": 0.0 if i % 2 else 5.0, "node": f"v{i % 40}"}
        for i in range(200)
    ]
    edges: list[dict[str, Any]] = [
        {"from": f"v{random.integers(0, i)}", "to": f"v{i}", "fee": 0.5, "capacity": 6.0}
        for i in range(1, 40)
    ]
    nodes = [{"id": f"v{i}"} for i in range(40)]
    market = tree_market(
        P2PCase.parse({"agents": agents, "network": {"nodes": nodes, "edges": edges}}), "full"
    )
    assert market is not None
    plain, compiled = solve_tree(market, compiled=False), solve_tree(market, compiled=True)
    assert plain.gap <= 1e-10
    assert np.array_equal(plain.node_price, compiled.node_price)
    assert np.array_equal(plain.traded, compiled.traded)


def test_a_thousand_agents_are_solved_and_negotiated() -> None:
    market, half = random_market(1000)
    solved = solve_pairwise(market)
    assert solved.certificate.gap <= 1e-9
    ended = negotiate(market, half, half)
    last = ended.checks[-1]
    assert ended.agreed
    assert last.round <= 600
    moved = replace(market, agents=replace(market.agents, b=market.agents.b * 1.01))
    again = negotiate(moved, half, half, start=ended.standing)
    assert again.agreed
    assert again.checks[-1].round <= last.round / 3


def random_market(count: int) -> Any:
    from backend.bench.negotiation import random_pairs

    market = random_pairs(count)
    return market, market.weight / 2
