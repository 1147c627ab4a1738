"""Pairs with fees of their own: a whole clearing against a dense network simplex over all pairs, in one run, as ratios.

The peer is POT's `ot.emd` (MIT licence; LEMON's network simplex in C++), the quickest dense one we could install: it looks
at a full matrix with a row and a column added for the outside, in floating point. Ours is a whole clearing by the pool:
positions added up, optimum certified over all pairs, canonical prices, amounts, trades. Of the peer's only its solver is timed.
Both find their matrix ready.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from backend.market.certificate import outside_cost_nano
from backend.market.electrical_distance_fees import electrical_distance_pair_fees
from backend.market.grid_branches import GridBranch
from backend.market.kernels.compiling import Integers
from backend.market.pool import ClearedInterval, Pool
from backend.market.problem import Graph, Group, PairMarket

from .feeders import random_feeder
from .table import row

_MESHED_BUSES = 400
_TARGET_MEMBERS = 3000
_RUNS = 5


@dataclass(frozen=True, slots=True)
class _Community:
    """Members on a matrix of pair fees, a group for each member.

    Attributes:
        fee_nano_per_wh: (N, N) in total.
        import_price: (N,) outside, nano per Wh.
        export_price: (N,) outside, nano per Wh.
        net_wh: (N,) positive for a surplus.
    """

    fee_nano_per_wh: Integers
    import_price: Integers
    export_price: Integers
    net_wh: Integers

    def market(self) -> PairMarket:
        """A node for each member."""
        prices = zip(self.import_price.tolist(), self.export_price.tolist(), strict=True)
        return PairMarket(
            graph=Graph((0,) * self.net_wh.size, (), (), ()),
            groups=tuple(Group(node, 0, *outside) for node, outside in enumerate(prices)),
            node_names=tuple(map(str, range(self.net_wh.size))),
            class_names=("household",),
            group_index={},
            pair_fee_nano_per_wh=self.fee_nano_per_wh,
        )

    def pairs(self) -> tuple[Integers, Integers, Integers]:
        """Gain per Wh of each seller-buyer pair, supply, demand."""
        selling, buying = np.flatnonzero(self.net_wh > 0), np.flatnonzero(self.net_wh < 0)
        spread = self.import_price[buying] - self.export_price[selling, None]
        gain = spread - self.fee_nano_per_wh[np.ix_(selling, buying)]
        return gain, self.net_wh[selling], -self.net_wh[buying]


def bench_pair_matrix(*, full: bool, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Measures ours and the dense network simplex in turns, and takes the best of each.

    Args:
        full: also sizes of which nothing is promised.
        progress: told what is being measured.

    Yields:
        Rows as `table.row` makes them; without POT (extra `bench`) nothing to compare with.
    """
    for size in (1000, _TARGET_MEMBERS, 6000) if full else (_TARGET_MEMBERS,):
        for name, make in (
            ("a meshed grid's PTDF distance", _meshed_grid),
            ("a radial feeder's distance as a matrix", _radial_feeder),
            ("fees at random", _random_fees),
        ):
            what = f"{size:,} members, {name}"
            progress(what)
            yield _compare(what, make(size), promised=size == _TARGET_MEMBERS)


def _compare(what: str, community: _Community, *, promised: bool) -> dict[str, Any]:
    pool = Pool(community.market(), "pairs")
    groups, nets = tuple(range(community.net_wh.size)), tuple(community.net_wh.tolist())
    cleared = pool.clear(groups, nets)  # compiles
    peer = _dense_network_simplex(*community.pairs())
    ours, theirs, saved = float("inf"), float("inf"), 0.0
    for _ in range(_RUNS):
        started = time.perf_counter()
        cleared = pool.clear(groups, nets)
        ours = min(ours, time.perf_counter() - started)
        if peer is not None:
            started = time.perf_counter()
            saved = peer()
            theirs = min(theirs, time.perf_counter() - started)
    gap = pool.engine.proof(cleared.problem, cleared.solution).duality_gap_nano
    what = f"{what}: whole clearing against POT's dense network simplex"
    note = f"gap {gap}; {len(cleared.trades):,} trades"
    target = "faster" if promised else ""
    if peer is None:
        missing = "POT is not installed: pip install 'peerwatt[bench]'"
        return row(what, ours, None, target, None, f"{note}; {missing}")
    exact = _savings_nano(cleared)
    note += f"; POT's savings differ by {abs(saved - exact) / max(1, exact):.0e}"
    return row(what, ours, theirs, target, theirs > ours and not gap if promised else None, note)


def _savings_nano(cleared: ClearedInterval) -> int:
    return outside_cost_nano(cleared.problem) - cleared.supplier_nano - cleared.fees_nano


def _dense_network_simplex(
    gain: Integers, supply: Integers, demand: Integers
) -> Callable[[], float] | None:
    """POT's solver on a matrix made ready; returns the savings in nano."""
    try:
        transport = importlib.import_module("ot")
    except ImportError:
        return None
    cost = np.zeros((supply.size + 1, demand.size + 1))
    cost[:-1, :-1] = -gain
    sources = np.append(supply, demand.sum()).astype(np.float64)
    sinks = np.append(demand, supply.sum()).astype(np.float64)

    def solve() -> float:
        _, log = transport.emd(sources, sinks, cost, numItermax=10**9, log=True)
        return -float(log["cost"])

    return solve


def _radial_feeder(members: int) -> _Community:
    """On which the pairs are not needed (`tree_sweep` is far quicker): the hard case, where very many pairs tie."""
    feeder = random_feeder(members)
    market = feeder.market
    return _Community(
        feeder.pair_fees(), market.import_price, market.export_price, feeder.net_wh.copy()
    )


def _random_fees(members: int) -> _Community:
    random = np.random.default_rng(2)
    fees = np.tril(random.integers(0, 250_000, (members, members)), -1)
    return _in_classes(fees + fees.T, random)


def _meshed_grid(members: int) -> _Community:
    """Members spread over the buses of a grid with loops."""
    random = np.random.default_rng(3)
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
    at = random.integers(0, count, members)
    return _in_classes(fees[np.ix_(at, at)], random)


def _in_classes(fees: Integers, random: np.random.Generator) -> _Community:
    """Members in a few tariff classes, half of them with a surplus."""
    members = len(fees)
    return _Community(
        fees,
        random.choice(np.array([250_000, 280_000, 300_000]), members),
        random.choice(np.array([60_000, 80_000]), members),
        random.integers(1, 3000, members) * np.where(np.arange(members) % 2, 1, -1),
    )
