"""`peerwatt bench clearing`: the clearing engines side by side, in one run, as ratios.

Absolute times depend on the machine and on whatever else it does; ratios measured next to each other much less. Every
time is the best of several runs. Ours always includes certificate, prices, amounts and trades; the peers' only the optimum.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backend.market.bulk import BulkClearing, BulkPool
from backend.market.kernels.compiling import Integers
from backend.market.kernels.series import GAP
from backend.market.pool import Pool
from backend.market.problem import Problem
from backend.market.program import SOLVERS, EdgeFlowProgram

from .feeders import Feeder, random_feeder, simbench_year, zones_in_a_star
from .pair_matrix import bench_pair_matrix
from .table import best_of, row

_YEAR_INTERVALS = 35_136
_YEAR_MEMBERS = 118
_YEAR_SAMPLE = 40


def bench_clearing(*, full: bool, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs every comparison of the clearing engines.

    Args:
        full: also the peers' runs that take minutes.
        progress: told what is being measured.

    Returns:
        Rows as `table.row` makes them.
    """
    progress("compile the loops")
    warm = random_feeder(64)
    BulkPool(warm.market).clear(warm.group, warm.net_wh)
    parts = (_radial, _edge_flow, _zonal, bench_pair_matrix, _day, _year)
    return [entry for part in parts for entry in part(full=full, progress=progress)]


def pairwise_seconds(
    feeder: Feeder, solver: str, savings_nano: int | None = None
) -> tuple[float, float]:
    """The textbook form in cvxpy: one variable for each pair of seller and buyer.

    Args:
        feeder: whose members trade.
        solver: key of `SOLVERS`.
        savings_nano: the exact optimum, to compare with.

    Returns:
        Seconds, and the relative error of what it found.
    """
    import cvxpy as cp

    gains, sellers, buyers = feeder.pair_gains()
    supply = feeder.net_wh[sellers] / 1e3
    demand = -feeder.net_wh[buyers] / 1e3
    started = time.perf_counter()
    traded = cp.Variable(gains.shape, nonneg=True)
    program = cp.Problem(
        cp.Maximize(cp.sum(cp.multiply(gains / 1e5, traded))),  # type: ignore[attr-defined]
        [
            cp.sum(traded, axis=1) <= supply,  # type: ignore[attr-defined]
            cp.sum(traded, axis=0) <= demand,  # type: ignore[attr-defined]
        ],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program.solve(solver=SOLVERS[solver])
    seconds = time.perf_counter() - started
    if savings_nano is None:
        return seconds, 0.0
    return seconds, abs(float(program.value) * 1e8 - savings_nano) / savings_nano


def _radial(*, full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    per_bus = 0.0
    for size, least in ((1000, 2000), (3000, 10_000), (10_000, None), (1_000_000, None)):
        progress(f"radial feeder, {size:,} buses")
        feeder = random_feeder(size)
        pool = BulkPool(feeder.market)
        cleared = pool.clear(feeder.group, feeder.net_wh)
        assert cleared.duality_gap_nano == 0
        seconds = best_of(20 if size <= 10_000 else 3, _clearing(pool, feeder))
        per_bus = per_bus or seconds / size
        if least is None:
            growth = seconds / size / per_bus
            yield row(
                f"radial feeder, {size:,} buses: time per bus against that at 1,000",
                seconds,
                None,
                "at most 3x",
                growth <= 3,
                f"{growth:.2f}x; {len(cleared.trades):,} trades",
            )
        elif full or size == 1000:
            progress("  the same pairwise in cvxpy with HiGHS")
            saved = cleared.outside_cost_nano - cleared.cost_nano
            theirs, error = pairwise_seconds(feeder, "highs", saved)
            yield row(
                f"radial feeder, {size:,} buses and members: sweep against pairwise, cvxpy + HiGHS",
                seconds,
                theirs,
                f"{least:,}x",
                theirs / seconds >= least,
                f"pairwise relative error {error:.0e}",
            )


def _clearing(pool: BulkPool, feeder: Feeder) -> Callable[[], BulkClearing]:
    return lambda: pool.clear(feeder.group, feeder.net_wh)


def _edge_flow(*, full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    feeder = random_feeder(1000)
    market = feeder.named()
    problem = Problem(
        market,
        tuple(np.maximum(-feeder.net_wh, 0).tolist()),
        tuple(np.maximum(feeder.net_wh, 0).tolist()),
    )
    cleared = BulkPool(feeder.market).clear(feeder.group, feeder.net_wh)
    saved = cleared.outside_cost_nano - cleared.cost_nano
    for solver in ("highs", "clarabel", "scs") if full else ("highs",):
        progress(f"edge-flow against pairwise form in cvxpy, {solver}")
        program = EdgeFlowProgram(market, solver)
        ours = best_of(3, _proposing(program, problem))
        theirs, error = pairwise_seconds(feeder, solver, saved)
        yield row(
            f"1,000 members, cvxpy with {solver}: edge-flow against pairwise form",
            ours,
            theirs,
            "50x",
            theirs / ours >= 50,
            f"pairwise relative error {error:.0e}",
        )


def _proposing(program: EdgeFlowProgram, problem: Problem) -> Callable[[], Any]:
    return lambda: program.propose(problem)


def _zonal(*, full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress("zonal, 10,000 members in 25 zones")
    feeder = zones_in_a_star(25, 10_000)
    pool = BulkPool(feeder.market)
    cleared = pool.clear(feeder.group, feeder.net_wh)
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "positions.npy", Path(folder) / "result.bin"
        np.save(source, np.stack([feeder.group, feeder.net_wh]))

        def floor() -> None:
            """Reading, adding up by group, and writing a result of the same size: what nobody can do without."""
            group, net = np.load(source)
            for side in (net, -net):
                np.bincount(group, np.maximum(side, 0), 25)
            _write(result, cleared)

        def clear() -> None:
            group, net = np.load(source)
            _write(result, pool.clear(group, net))

        ours, theirs = best_of(50, clear), best_of(50, floor)
    yield row(
        "zonal, 10,000 members in 25 zones: clearing against NumPy reading, adding up, writing",
        ours,
        theirs,
        "at most 3x its time",
        ours / theirs <= 3,
        f"{ours / theirs:.2f}x its time; {len(cleared.trades):,} trades",
    )
    progress("zonal, 1,000,000 members")
    count = 1_000_000
    large = zones_in_a_star(25, count)
    tracemalloc.start()
    pool.clear(large.group, large.net_wh)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Positions come in 16 bytes a member; the rest is what clearing takes at its peak, results included.
    per_member = 16 + peak / count
    yield row(
        "zonal, 1,000,000 members: bytes a member at the peak, input and result included",
        best_of(2, _clearing(pool, large)),
        None,
        "under 100 bytes",
        per_member < 100,
        f"{per_member:.0f} bytes",
    )


def _write(path: Path, cleared: BulkClearing) -> None:
    trades = cleared.trades
    with path.open("wb") as file:
        for column in (
            cleared.amount_nano,
            trades.seller,
            trades.buyer,
            trades.energy_wh,
            trades.fee_nano_per_wh,
        ):
            column.tofile(file)


def _day(*, full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress("a day of 100 members through cvxpy with HiGHS")
    pool = Pool(random_feeder(100).named(), "highs")
    program = pool.engine.program
    assert program is not None
    positions = np.random.default_rng(2).integers(-3000, 3000, (96, 100))
    problems = pool.problems(tuple(range(100)), [tuple(nets) for nets in positions.tolist()])
    pool.solve_many(problems)
    best, solver = float("inf"), 0.0
    for _ in range(5):
        before = program.solver_seconds
        seconds = best_of(1, lambda: pool.solve_many(problems))
        if seconds < best:
            best, solver = seconds, program.solver_seconds - before
    yield row(
        "a day (96 intervals), 100 members on 100 buses: whole cvxpy engine against HiGHS alone",
        best,
        solver,
        "less than 2x its time",
        best / solver < 2,
        f"{best / solver:.2f}x its time, certified and canonical",
    )


def _year(*, full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress(f"a year of a SimBench feeder, {_YEAR_INTERVALS:,} quarter-hours")
    market, groups, nets = simbench_year(_YEAR_MEMBERS, _YEAR_INTERVALS)
    pool = BulkPool(market)
    for _ in pool.clear_series(groups, nets[:2]):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    gaps = trades = 0
    for chunk in pool.clear_series(groups, nets):
        gaps += int(np.count_nonzero(chunk.results[:, GAP]))
        trades += len(chunk.trades)
    ours = time.perf_counter() - started
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit
    progress("  a sample of it pairwise in cvxpy with HiGHS")
    theirs = _sample_seconds(Feeder(market, groups, nets[0]), nets)
    yield row(
        f"a year, {_YEAR_MEMBERS} connection points: sweep against pairwise, cvxpy + HiGHS",
        ours,
        theirs,
        "300x",
        theirs / ours >= 300 and gaps == 0,
        f"all gaps 0; {trades:,} trades; memory grew {grown:.0f} MiB; theirs from "
        f"{_YEAR_SAMPLE} intervals",
    )


def _sample_seconds(feeder: Feeder, nets: Integers) -> float:
    """Seconds of the pairwise form for all of `nets`, from a sample; one-sided intervals cost it nothing."""
    sample = np.random.default_rng(3).choice(len(nets), _YEAR_SAMPLE, replace=False)
    total = 0.0
    for number in sample.tolist():
        positions = nets[number]
        if np.any(positions > 0) and np.any(positions < 0):
            total += pairwise_seconds(Feeder(feeder.market, feeder.group, positions), "highs")[0]
    return total / len(sample) * len(nets)
