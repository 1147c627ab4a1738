"""Pairs with fees of their own: optimum by three independent methods, canonical prices by brute force, proofs in Python's integers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from backend.domain.case import ClearingCase
from backend.domain.errors import ClearingFailed, MalformedInput, OutOfRange, SolverUnavailable
from backend.market import pair_gains, pair_matrix
from backend.market.kernels.compiling import Integers
from backend.market.pair_matrix import PairSolution, pair_duality_gap_nano, solve_pairs
from tests.market.pairwise import PairwiseMarket
from tests.market.strategies import cases

Market = tuple[Integers, Integers, Integers]

# A gain is a price less a price less a fee, each below 2^40.
LARGEST_GAIN = 3 * 2**40
GAINS = st.one_of(
    st.sampled_from([-5, 0, 5, 10]),
    st.integers(-100, 100),
    st.integers(-LARGEST_GAIN, LARGEST_GAIN),
)
ENERGIES = st.one_of(st.sampled_from([0, 1, 100]), st.integers(0, 3000), st.integers(0, 2**40))


@st.composite
def markets(
    draw: st.DrawFn,
    gains: st.SearchStrategy[int] = GAINS,
    energies: st.SearchStrategy[int] = ENERGIES,
    largest: int = 6,
) -> Market:
    sellers, buyers = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    count = sellers * buyers
    # One kind of gain a market: mixed ones hardly ever tie.
    flat = draw(st.one_of(st.lists(gains, min_size=count, max_size=count), st.just([7] * count)))
    sides = [draw(st.lists(energies, min_size=size, max_size=size)) for size in (sellers, buyers)]
    supply, demand = (np.array(side, dtype=np.int64) for side in sides)
    return np.array(flat, dtype=np.int64).reshape(sellers, buyers), supply, demand


def random_market(size: int, seed: int, most_wh: int = 3000, fees: int = 250_000) -> Market:
    random = np.random.default_rng(seed)
    import_price = random.choice([300_000, 280_000, 250_000], size)
    export_price = random.choice([60_000, 80_000], size + 3)
    gain = import_price - export_price[:, None] - random.integers(0, fees, (size + 3, size))
    energies = random.integers(1, most_wh + 1, 2 * size + 3)
    return gain, energies[: size + 3], energies[size + 3 :]


def savings_by_network_simplex(gain: Integers, supply: Integers, demand: Integers) -> int:
    """networkx's network simplex over all pairs, in Python's integers."""
    graph = nx.DiGraph()
    graph.add_node("surplus", demand=-int(sum(supply.tolist())))
    graph.add_node("outside", demand=int(sum(supply.tolist())))
    for i, most in enumerate(supply.tolist()):
        graph.add_edge("surplus", ("s", i), capacity=most, weight=0)
        graph.add_edge(("s", i), "outside", weight=0)
        for j, worth in enumerate(gain[i].tolist()):
            graph.add_edge(("s", i), ("b", j), weight=-worth)
    for j, most in enumerate(demand.tolist()):
        graph.add_edge(("b", j), "outside", capacity=most, weight=0)
    cost, _ = nx.network_simplex(graph)
    return -int(cost)


def check(market: Market, solution: PairSolution) -> None:
    """Everything that makes the solution a proven optimum, in Python's integers and without any of the package's code."""
    gain, supply, demand = (array.tolist() for array in market)
    u = solution.seller_price_nano_per_wh.tolist()
    v = solution.buyer_price_nano_per_wh.tolist()
    trades = list(
        zip(
            solution.seller.tolist(),
            solution.buyer.tolist(),
            solution.energy_wh.tolist(),
            strict=True,
        )
    )
    assert trades == sorted(trades)
    assert len({trade[:2] for trade in trades}) == len(trades)
    sold, bought, saved = [0] * len(supply), [0] * len(demand), 0
    for seller, buyer, energy in trades:
        assert energy > 0
        sold[seller] += energy
        bought[buyer] += energy
        saved += gain[seller][buyer] * energy
    assert all(one <= most for one, most in zip(sold + bought, supply + demand, strict=True))
    assert min(u + v, default=0) >= 0
    for i, j in product(range(len(u)), range(len(v))):
        assert u[i] + v[j] >= gain[i][j]
    bound = sum(x * y for x, y in zip(u + v, supply + demand, strict=True))
    assert saved == solution.savings_nano == bound


def same(one: PairSolution, other: PairSolution) -> bool:
    return one.savings_nano == other.savings_nano and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in (
            "seller",
            "buyer",
            "energy_wh",
            "seller_price_nano_per_wh",
            "buyer_price_nano_per_wh",
        )
    )


@given(markets())
def test_savings_are_the_network_simplex_optimum(market: Market) -> None:
    solution = solve_pairs(*market)
    check(market, solution)
    assert solution.savings_nano == savings_by_network_simplex(*market)


@given(cases())
def test_on_path_fees_savings_are_the_pools(data: dict[str, Any]) -> None:
    pairs = PairwiseMarket(ClearingCase.parse(data))
    gain = [[pairs.gain(seller, buyer) for buyer in pairs.buyers] for seller in pairs.sellers]
    shape = len(pairs.sellers), len(pairs.buyers)
    solution = solve_pairs(
        np.array(gain, dtype=np.int64).reshape(shape),
        [member.net_wh for member in pairs.sellers],
        [-member.net_wh for member in pairs.buyers],
    )
    assert solution.savings_nano == pairs.outside_cost() - pairs.cost_by_network_simplex()


def optimal_prices(market: Market) -> tuple[Integers, Integers]:
    """Every optimal pair of price vectors, found by trying all."""
    gain, supply, demand = market
    top = max(0, int(gain.max(initial=0)))
    tried = np.array(list(product(range(top + 1), repeat=supply.size + demand.size)))
    u, v = tried[:, : supply.size], tried[:, supply.size :]
    possible = (u[:, :, None] + v[:, None, :] >= gain).all(axis=(1, 2))
    value = tried @ np.concatenate([supply, demand])
    best = possible & (value == value[possible].min())
    return u[best], v[best]


@given(markets(st.integers(-2, 4), st.integers(1, 3), largest=3))
def test_prices_are_the_middle_of_all_optimal_ones(market: Market) -> None:
    u, v = optimal_prices(market)
    solution = solve_pairs(*market)
    check(market, solution)
    middle_u = (u.min(axis=0) + u.max(axis=0)) // 2
    middle_v = -((-v.min(axis=0) - v.max(axis=0)) // 2)
    assert solution.seller_price_nano_per_wh.tolist() == middle_u.tolist()
    assert solution.buyer_price_nano_per_wh.tolist() == middle_v.tolist()


def test_a_single_pair_shares_its_gain_the_buyer_getting_the_odd_one() -> None:
    solution = solve_pairs([[7]], [5], [5])
    assert solution.seller_price_nano_per_wh.tolist() == [3]
    assert solution.buyer_price_nano_per_wh.tolist() == [4]
    assert (solution.seller.tolist(), solution.buyer.tolist()) == ([0], [0])
    assert solution.energy_wh.tolist() == [5]
    assert solution.savings_nano == 35


def test_fees_that_are_no_metric() -> None:
    # Going through the other seller and buyer would be cheaper than the direct pair; but energy does not travel through members.
    gain = np.array([[2, 90], [90, 90]])
    solution = solve_pairs(gain, [10, 10], [10, 10])
    check((gain, np.array([10, 10]), np.array([10, 10])), solution)
    assert solution.savings_nano == 1800
    assert solution.buyer.tolist() == [1, 0]


@given(markets(), st.randoms(use_true_random=False))
def test_prices_do_not_depend_on_the_members_order(market: Market, random: Any) -> None:
    gain, supply, demand = market
    # Idle members are priced in turn.
    gain = gain[supply > 0][:, demand > 0]
    supply, demand = supply[supply > 0], demand[demand > 0]
    rows, columns = list(range(supply.size)), list(range(demand.size))
    random.shuffle(rows)
    random.shuffle(columns)
    one = solve_pairs(gain, supply, demand)
    other = solve_pairs(gain[rows][:, columns], supply[rows], demand[columns])
    assert other.savings_nano == one.savings_nano
    assert np.array_equal(one.seller_price_nano_per_wh[rows], other.seller_price_nano_per_wh)
    assert np.array_equal(one.buyer_price_nano_per_wh[columns], other.buyer_price_nano_per_wh)


@given(markets())
def test_gains_may_come_from_a_function_and_in_any_blocks(market: Market) -> None:
    gain, supply, demand = market
    whole = solve_pairs(gain, supply, demand)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_gains, "BLOCK_PAIRS", 4)
        piecewise = solve_pairs(lambda i, j: gain[np.ix_(i, j)], supply, demand)
    assert same(whole, piecewise)


@pytest.mark.parametrize(
    ("most_wh", "fees"), [(3000, 250_000), (1, 250_000), (1, 3), (2**40, 2**40), (50, 1)]
)
def test_compiled_and_interpreted_loops_agree(most_wh: int, fees: int) -> None:
    pytest.importorskip("numba", reason="numba is not installed: loops run interpreted only")
    market = random_market(40, 3, most_wh, fees)
    interpreted = solve_pairs(*market, compiled=False)
    check(market, interpreted)
    assert same(interpreted, solve_pairs(*market, compiled=True))
    assert same(interpreted, solve_pairs(*market))


@pytest.mark.parametrize("fees", [250_000, 4])
def test_unit_energies_are_the_assignment_problem(fees: int) -> None:
    gain, _, _ = random_market(150, 8, fees=fees)
    ones = np.ones(gain.shape[0], np.int64), np.ones(gain.shape[1], np.int64)
    solution = solve_pairs(gain, *ones)
    check((gain, *ones), solution)
    worth = np.maximum(gain, 0)
    assert solution.savings_nano == int(worth[linear_sum_assignment(worth, maximize=True)].sum())


def test_many_equal_pairs_trade_alike_and_little() -> None:
    gain = np.full((300, 200), 11)
    supply, demand = np.full(300, 10), np.full(200, 10)
    solution = solve_pairs(gain, supply, demand)
    check((gain, supply, demand), solution)
    sold = np.bincount(solution.seller, solution.energy_wh, 300)
    assert sold.min() >= 6
    assert sold.max() <= 7
    assert solution.seller.size <= 500
    # Energy is scarce on the buyers' side nowhere: sellers compete their gain away.
    assert not solution.seller_price_nano_per_wh.any()
    assert set(solution.buyer_price_nano_per_wh.tolist()) == {11}


def test_every_pair_on_a_long_line_breaks_even() -> None:
    # Sellers at one end of a line, buyers at the other: no two alike, and every pair is tied.
    place = np.arange(60)
    gain = 10_000 - 50 * (60 + place[:, None] + place)
    energy = np.full(60, 7)
    solution = solve_pairs(gain, energy, energy)
    check((gain, energy, energy), solution)
    assert solution.seller.size <= 119


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (3, 2)])
def test_nothing_to_trade(shape: tuple[int, int]) -> None:
    sellers, buyers = shape
    market = np.full(shape, -1), np.full(sellers, 5), np.full(buyers, 5)
    solution = solve_pairs(*market)
    check(market, solution)
    assert solution.savings_nano == 0
    assert solution.seller.size == 0


def test_idle_members_get_the_least_price_that_no_pair_contradicts() -> None:
    gain = np.array([[10, 30], [20, 25]])
    market = gain, np.array([4, 0]), np.array([9, 0])
    solution = solve_pairs(*market)
    check(market, solution)
    assert solution.seller_price_nano_per_wh.tolist() == [10, 20]
    assert solution.buyer_price_nano_per_wh.tolist() == [0, 20]
    for nobody in (solve_pairs(gain, [0, 0], [9, 9]), solve_pairs(gain, [4, 4], [0, 0])):
        assert nobody.energy_wh.size == 0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"energy_wh": np.array([6])}, "more than it has"),
        ({"energy_wh": np.array([-1])}, "without energy"),
        ({"seller_price_nano_per_wh": np.array([2])}, "gains more"),
        ({"seller_price_nano_per_wh": np.array([-1])}, "below outside"),
    ],
)
def test_the_certificate_refuses(changes: dict[str, Any], fault: str) -> None:
    solution = solve_pairs([[7]], [5], [5])
    with pytest.raises(ClearingFailed, match=fault):
        pair_duality_gap_nano([[7]], [5], [5], replace(solution, **changes))


def test_the_gap_is_what_is_left_to_save() -> None:
    solution = solve_pairs([[7]], [5], [5])
    less = replace(solution, energy_wh=np.array([3]))
    assert pair_duality_gap_nano([[7]], [5], [5], less) == 14


@pytest.mark.parametrize(
    ("market", "error"),
    [
        (([[1.5]], [1], [1]), MalformedInput),
        (([[1]], [1.0], [1]), MalformedInput),
        (([[1, 2]], [1], [1]), MalformedInput),
        (([[1]], [[1]], [1]), MalformedInput),
        (([[2**63]], [1], [1]), MalformedInput),
        ((lambda i, j: np.zeros((1, 1, 1)), [1], [1]), MalformedInput),
        (([[1]], [-1], [1]), OutOfRange),
        (([[1], [1]], [2**61, 2**61], [1]), OutOfRange),
        (([[2**62]], [1], [1]), OutOfRange),
        (([[-(2**63)]], [1], [1]), OutOfRange),
    ],
)
def test_bad_input_is_refused(market: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        solve_pairs(*market)


def test_the_largest_numbers_pass() -> None:
    gain = np.array([[2**60 - 1, -(2**60) + 1]])
    energy = 2**62 - 1
    solution = solve_pairs(gain, [energy], [energy - 1, 1])
    assert solution.savings_nano == (2**60 - 1) * (energy - 1)


def test_compiled_loops_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_matrix, "compiled_loops", lambda: None)
    with pytest.raises(SolverUnavailable):
        solve_pairs([[7]], [5], [5], compiled=True)
    market = random_market(230, 1)
    check(market, solve_pairs(*market))
