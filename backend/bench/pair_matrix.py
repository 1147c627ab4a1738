"""Pairs with fees of their own: our row-priced network simplex against a dense one, in one run, as ratios.

The peer is POT's `ot.emd` (MIT licence; LEMON's network simplex in C++), the quickest dense one we could install: it looks
at a full matrix with a row and a column added for the outside, in floating point. Ours is timed whole, from the matrix to
certified canonical prices and trades; of the peer's only its solver is, its matrix being ready.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from backend.market.electrical_distance_fees import electrical_distance_pair_fees
from backend.market.grid_branches import GridBranch
from backend.market.kernels.compiling import Integers
from backend.market.pair_matrix import PairSolution, solve_pairs

from .feeders import random_feeder
from .table import row

Market = tuple[Integers, Integers, Integers]

_MESHED_BUSES = 400


def bench_pair_matrix(
    sizes: Iterable[int] = (1000, 3000, 10_000),
    *,
    runs: int = 3,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Measures ours and the dense network simplex in turns, and takes the best of each.

    Args:
        sizes: numbers of members, half of them sellers.
        runs: turns.
        progress: told what is being measured.

    Returns:
        Rows as `table.row` makes them; without POT (in the extra `dev`) nothing to compare with.
    """
    progress("compile the loops")
    solve_pairs(*_random_fees(100), compiled=True)
    return [entry for size in sizes for entry in _compare(size, runs, progress)]


def _compare(size: int, runs: int, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    for name, make in (
        ("a meshed grid's PTDF distance", _meshed_grid),
        ("a radial feeder's distance, a bus each", _radial_feeder),
        ("fees at random", _random_fees),
    ):
        progress(f"{size:,} members, {name}")
        market = make(size)
        peer = _dense_network_simplex(market)
        ours, theirs = float("inf"), float("inf")
        saved = 0.0
        for _ in range(runs):
            started = time.perf_counter()
            solution = solve_pairs(*market)
            ours = min(ours, time.perf_counter() - started)
            if peer is not None:
                started = time.perf_counter()
                saved = peer()
                theirs = min(theirs, time.perf_counter() - started)
        yield _row(f"{size:,} members, {name}", ours, theirs, solution, peer and saved)


def _row(
    what: str, ours: float, theirs: float, solution: PairSolution, saved: float | None
) -> dict[str, Any]:
    trades = f"{solution.seller.size:,} trades"
    if saved is None:
        return row(what, ours, None, "faster than POT", None, f"{trades}; POT is not installed")
    error = abs(saved - solution.savings_nano) / max(1, solution.savings_nano)
    return row(
        f"{what}: exact against POT's dense network simplex",
        ours,
        theirs,
        "faster",
        theirs > ours,
        f"{trades}; POT's savings differ by {error:.0e}",
    )


def _dense_network_simplex(market: Market) -> Callable[[], float] | None:
    """POT's solver on a matrix made ready; returns the savings in nano."""
    try:
        transport = importlib.import_module("ot")
    except ImportError:
        return None
    gain, supply, demand = market
    cost = np.zeros((supply.size + 1, demand.size + 1))
    cost[:-1, :-1] = -gain
    sources = np.append(supply, demand.sum()).astype(np.float64)
    sinks = np.append(demand, supply.sum()).astype(np.float64)

    def solve() -> float:
        _, log = transport.emd(sources, sinks, cost, numItermax=10**9, log=True)
        return -float(log["cost"])

    return solve


def _radial_feeder(members: int) -> Market:
    """On which the pairs are not needed (`tree_sweep` is far quicker): the hard case, where very many pairs tie."""
    feeder = random_feeder(members)
    gain, sellers, buyers = feeder.pair_gains()
    return gain, feeder.net_wh[sellers], -feeder.net_wh[buyers]


def _random_fees(members: int, seed: int = 2) -> Market:
    random = np.random.default_rng(seed)
    half = members // 2
    prices = _prices(half, random)
    gain = prices - random.integers(0, 250_000, (half, half))
    return gain, random.integers(1, 3000, half), random.integers(1, 3000, half)


def _meshed_grid(members: int, seed: int = 3) -> Market:
    """Members spread over the buses of a grid with loops."""
    random = np.random.default_rng(seed)
    count = min(_MESHED_BUSES, members)
    ends = [(one, int(random.integers(max(0, one - 6), one))) for one in range(1, count)]
    ends += [(int(one), int(one) // 2) for one in random.integers(2, count, count // 3)]
    ohms = random.uniform(0.01, 0.2, len(ends))
    branches = [
        GridBranch(str(number), str(one), str(other), ohm / 3, ohm)
        for number, ((one, other), ohm) in enumerate(zip(ends, ohms.tolist(), strict=True))
    ]
    buses = [str(bus) for bus in range(count)]
    fees = electrical_distance_pair_fees(buses, branches, Decimal(4000), "ptdf").fee_nano_per_wh
    half = members // 2
    at = random.integers(0, count, 2 * half)
    gain = _prices(half, random) - fees[np.ix_(at[:half], at[half:])]
    return gain, random.integers(1, 3000, half), random.integers(1, 3000, half)


def _prices(half: int, random: np.random.Generator) -> Integers:
    """r_j - f_i of members in a few tariff classes."""
    buying = random.choice(np.array([250_000, 280_000, 300_000]), half)
    selling = random.choice(np.array([60_000, 80_000]), half)
    difference: Integers = buying - selling[:, None]
    return difference
