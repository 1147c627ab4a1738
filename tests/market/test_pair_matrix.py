"""Arbitrary pair fees: the exact optimum by an independent network simplex, proved over all pairs, the same every time."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.market.pair_matrix import PairSolution, pair_duality_gap_nano, solve_pairs


def saved_by_network_simplex(gain: np.ndarray, supply: np.ndarray, demand: np.ndarray) -> int:
    graph = nx.DiGraph()
    total = int(supply.sum())
    graph.add_node("source", demand=-total)
    graph.add_node("sink", demand=total)
    for i, energy in enumerate(supply.tolist()):
        graph.add_edge("source", ("seller", i), capacity=energy, weight=0)
        graph.add_edge(("seller", i), "sink", weight=0)
        for j in range(demand.size):
            graph.add_edge(("seller", i), ("buyer", j), weight=-int(gain[i, j]))
    for j, energy in enumerate(demand.tolist()):
        graph.add_edge(("buyer", j), "sink", capacity=energy, weight=0)
    cost, _ = nx.network_simplex(graph)
    return -int(cost)


@st.composite
def markets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sellers, buyers = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    gains = st.one_of(st.sampled_from([0, 10, -10]), st.integers(-50, 100))
    energy = st.one_of(st.sampled_from([0, 1, 10]), st.integers(0, 40))
    gain = [[draw(gains) for _ in range(buyers)] for _ in range(sellers)]
    return (
        np.array(gain, dtype=np.int64).reshape(sellers, buyers),
        np.array([draw(energy) for _ in range(sellers)], dtype=np.int64),
        np.array([draw(energy) for _ in range(buyers)], dtype=np.int64),
    )


def check(gain: np.ndarray, supply: np.ndarray, demand: np.ndarray, found: PairSolution) -> None:
    """Feasible, and proved optimal over every pair, in Python's integers."""
    sold, bought, saved = [0] * supply.size, [0] * demand.size, 0
    for i, j, energy in zip(
        found.seller.tolist(), found.buyer.tolist(), found.energy_wh.tolist(), strict=True
    ):
        assert energy > 0
        sold[i] += energy
        bought[j] += energy
        saved += int(gain[i, j]) * energy
    assert all(one <= most for one, most in zip(sold, supply.tolist(), strict=True))
    assert all(one <= most for one, most in zip(bought, demand.tolist(), strict=True))
    u, v = found.seller_price_nano_per_wh.tolist(), found.buyer_price_nano_per_wh.tolist()
    assert min(u + v, default=0) >= 0
    for i in range(supply.size):
        for j in range(demand.size):
            assert u[i] + v[j] >= int(gain[i, j])
    bound = sum(p * q for p, q in zip(u, supply.tolist(), strict=True))
    bound += sum(p * q for p, q in zip(v, demand.tolist(), strict=True))
    assert saved == bound == found.savings_nano


@given(markets())
def test_the_optimum_is_the_network_simplex_one_and_proved(
    market: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    found = solve_pairs(*market)
    check(*market, found)
    assert found.savings_nano == saved_by_network_simplex(*market)
    again = solve_pairs(*market)
    assert again.seller.tolist() == found.seller.tolist()
    assert again.energy_wh.tolist() == found.energy_wh.tolist()


@pytest.mark.parametrize("largest", [2**40, 2**20])
def test_large_numbers_stay_exact(largest: int) -> None:
    random = np.random.default_rng(1)
    gain = random.integers(-largest // 2, largest, (6, 7))
    supply, demand = random.integers(0, largest, 6), random.integers(0, largest, 7)
    check(gain, supply, demand, solve_pairs(gain, supply, demand))


def test_a_few_hundred_members_have_no_gap_over_all_pairs() -> None:
    random = np.random.default_rng(2)
    gain = random.integers(-50_000, 200_000, (150, 170))
    supply, demand = random.integers(1, 3000, 150), random.integers(1, 3000, 170)
    found = solve_pairs(gain, supply, demand)
    assert pair_duality_gap_nano(gain, supply, demand, found) == 0
