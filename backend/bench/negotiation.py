"""`peerwatt bench negotiation`: the forward market's methods side by side, in one run, as ratios."""

from __future__ import annotations

import importlib
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array, diags_array, hstack, identity

from backend.market.p2p.dual import solve_pairwise
from backend.market.p2p.problem import Agents, PairMarket
from backend.market.p2p.reference import reference_pairs
from backend.market.p2p.sparse import negotiate
from backend.market.p2p.sweep import TreeMarket, solve_tree

from .table import best_of, row


def random_pairs(count: int, seed: int = 0, *, by_distance: bool = False) -> PairMarket:
    """Half sellers, half buyers, every pair with a cost of its own.

    Args:
        count: agents.
        seed: for everything.
        by_distance: pair costs as distances on a map, and a premium for seven of ten sellers; else each drawn for itself.
    """
    random = np.random.default_rng(seed)
    half = count // 2
    rest = count - half
    agents = Agents(
        random.uniform(0.5, 5, count),
        np.concatenate([random.uniform(10, 40, half), random.uniform(50, 90, rest)]),
        np.concatenate([np.zeros(half), -random.uniform(2, 15, rest)]),
        np.concatenate([random.uniform(2, 15, half), np.zeros(rest)]),
    )
    if by_distance:
        place = random.random((count, 2))
        across = place[:half, None] - place[None, half:]
        weight = 20 * np.sqrt((across**2).sum(axis=-1))
        weight += np.where(random.random((half, 1)) < 0.3, 0.0, 2.0)
    else:
        weight = random.uniform(0, 20, (half, rest))
    return PairMarket(agents, np.arange(half), np.arange(half, count), weight)


def bench_negotiation(*, full: bool, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs every comparison.

    Args:
        full: also the runs that take minutes or many GiB.
        progress: told what is being measured.

    Returns:
        Rows as `table.row` makes them.
    """
    parts = (_central, _largest, _tree, _from_cold)
    return [entry for part in parts for entry in part(full, progress)]


def _central(full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    market = random_pairs(1000)
    progress("1,000 agents, arbitrary preferences: dual")
    solved = solve_pairwise(market, tolerance=1e-6)
    ours = best_of(3, lambda: solve_pairwise(market, tolerance=1e-6))
    peers = [("PIQP", 4, _piqp)] + ([("cvxpy", 30, _best_of_cvxpy)] if full else [])
    for name, least, peer in peers:
        progress(f"  the same with {name}")
        found = peer(market)
        what = f"central, 1,000 agents, arbitrary preferences: dual against {name}"
        if found is None:
            yield row(what, ours, None, f"{least}x", None, f"{name} is not installed")
            continue
        seconds, cost = found
        off = (cost - solved.certificate.cost) / abs(solved.certificate.cost)
        note = f"gap {solved.certificate.gap:.0e}; theirs off by {off:.0e}"
        yield row(what, ours, seconds, f"{least}x", seconds / ours >= least, note)


def _piqp(market: PairMarket) -> tuple[float, float] | None:
    """The sparse program of all pairs, ready; PIQP's time alone (BSD licence), default tolerances."""
    try:
        piqp = importlib.import_module("piqp")
    except ImportError:
        return None
    agents, (sellers, buyers) = market.agents, (market.sellers.size, market.buyers.size)
    pairs, count = sellers * buyers, agents.count
    number = np.arange(pairs)
    incidence = coo_array(
        (
            np.repeat([-1.0, 1.0], pairs),
            (
                np.concatenate([market.sellers[number // buyers], market.buyers[number % buyers]]),
                np.tile(number, 2),
            ),
        ),
        shape=(count, pairs),
    )
    columns: Any = hstack([identity(count), incidence])
    balance = columns.tocsc()
    curvature = diags_array(np.concatenate([agents.a, np.zeros(pairs)])).tocsc()
    linear = np.concatenate([agents.b, market.weight.ravel()])
    lower = np.concatenate([agents.lower, np.zeros(pairs)])
    upper = np.concatenate([agents.upper, np.full(pairs, np.inf)])
    solver = piqp.SparseSolver()
    started = time.perf_counter()
    solver.setup(curvature, linear, balance, np.zeros(count), None, None, None, lower, upper)
    solver.solve()
    seconds = time.perf_counter() - started
    return seconds, float(solver.result.info.primal_obj)


def _best_of_cvxpy(market: PairMarket) -> tuple[float, float]:
    best = float("inf"), float("nan")
    for solver in ("scs", "clarabel"):
        started = time.perf_counter()
        trades, _ = reference_pairs(market, solver, 1e-6)
        best = min(best, (time.perf_counter() - started, trades.cost(market)))
    return best


def _largest(full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    if not full:
        return
    progress("10,000 agents, 25 million pairs: dual")
    market = random_pairs(10_000)
    prices = np.zeros(market.buyers.size)
    one_pass = best_of(3, lambda: (prices - market.weight).max(axis=1))
    started = time.perf_counter()
    solved = solve_pairwise(market, tolerance=1e-9)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    good = solved.certificate.gap <= 1e-9 and peak <= 24 and seconds <= 400 * one_pass
    yield row(
        "central, 10,000 agents: dual against one pass over the 25 million pairs",
        seconds,
        one_pass,
        "at most 400x its time, gap 1e-9, 24 GiB",
        good,
        f"{seconds / one_pass:.0f}x its time; gap {solved.certificate.gap:.0e}; {peak:.1f} GiB",
    )


def _tree(full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress("10,000 agents on a feeder with line capacities: two sweeps")
    market = random_tree(10_000)
    solved = solve_tree(market)
    numbers = np.random.default_rng(0).random(10_000)
    ours = best_of(200, lambda: solve_tree(market))
    theirs = best_of(200, lambda: np.sort(numbers))
    congested = int((np.abs(solved.flow) >= market.capacity * (1 - 1e-9)).sum())
    yield row(
        "tariffs only, 10,000 agents with line capacities: two sweeps against NumPy sorting 10,000 floats",
        ours,
        theirs,
        "at most 50x its time",
        ours / theirs <= 50,
        f"{ours / theirs:.0f}x its time; {congested:,} full lines; gap {solved.gap:.0e}",
    )


def _from_cold(full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    for by_distance in (False, True):
        for count in (1000, 10_000) if full else (1000,):
            kind = "preferences by distance" if by_distance else "preferences at random"
            progress(f"{count:,} agents negotiate, {kind}")
            market = random_pairs(count, by_distance=by_distance)
            half = market.weight / 2
            started = time.perf_counter()
            ended = negotiate(market, half, half)
            seconds = time.perf_counter() - started
            last = ended.checks[-1]
            warm = negotiate(_next_interval(market), half, half, start=ended.standing).checks[-1]
            cold = negotiate(_next_interval(market), half, half).checks[-1]
            rounds = last.round <= 600 if count == 1000 else True
            yield row(
                f"negotiation, {count:,} agents, {kind}: from cold to a certified 1e-4",
                seconds,
                None,
                "at most 600 rounds; from the previous interval a third"
                if count == 1000
                else "reached",
                ended.agreed and rounds and 3 * warm.round <= cold.round,
                f"{last.round} rounds, {last.scalars / count:,.0f} numbers an agent; next interval {warm.round} rounds"
                f" and {warm.scalars / count:,.0f} numbers instead of {cold.round} and {cold.scalars / count:,.0f}",
            )
            if count == 1000 and not by_distance and full:
                progress("  the same by dense ADMM")
                # No longer than it takes to show that it needs a hundred times as many.
                enough = -(-100 * last.scalars // (2 * market.weight.size))
                dense = negotiate(market, half, half, textbook=True, most_rounds=enough).checks[-1]
                share = last.scalars / dense.scalars
                yield row(
                    "negotiation, 1,000 agents: numbers sent, against dense ADMM to the same gap",
                    last.scalars,
                    dense.scalars,
                    "at most 1 %",
                    share <= 0.01,
                    f"{100 * share:.2f} % or less; ADMM stopped after {dense.round} rounds at a gap of {dense.gap:.0e}",
                )


def _next_interval(market: PairMarket, seed: int = 5) -> PairMarket:
    """Marginal costs moved by up to 3 %, limits by up to 10 %."""
    random = np.random.default_rng(seed)
    agents, count = market.agents, market.agents.count
    return replace(
        market,
        agents=Agents(
            agents.a,
            agents.b * random.uniform(0.97, 1.03, count),
            agents.lower * random.uniform(0.9, 1.1, count),
            agents.upper * random.uniform(0.9, 1.1, count),
        ),
    )


def random_tree(count: int, seed: int = 1) -> TreeMarket:
    """An agent at each node of a random radial feeder; half of the lines with a limit."""
    random = np.random.default_rng(seed)
    numbers = np.arange(1, count)
    parent = np.append(-1, numbers - 1 - random.integers(0, np.minimum(8, numbers)))
    sells = random.random(count) < 0.5
    agents = Agents(
        random.uniform(0.5, 5, count),
        np.where(sells, random.uniform(10, 40, count), random.uniform(50, 90, count)),
        np.where(sells, 0.0, -random.uniform(2, 15, count)),
        np.where(sells, random.uniform(2, 15, count), 0.0),
    )
    return TreeMarket(
        agents,
        np.arange(count),
        np.zeros(count),
        np.arange(count),
        parent,
        random.uniform(0, 2, count),
        np.where(random.random(count) < 0.5, random.uniform(1, 20, count), np.inf),
    )
