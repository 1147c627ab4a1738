"""`peerwatt bench scale`: a hundred communities in one process, ten thousand on several workers."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
from eth_hash.auto import keccak

from backend.domain.case import TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, CommunityTariff, Member
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality
from backend.ledger.store import LedgerStore
from backend.market.network import zonal_network
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.fleet import spread
from backend.operator.preparation import Preparation, Preparer
from backend.settlement.batch import MemberPeriod
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import EMPTY, OracleReport
from backend.settlement.trees import PositionalTree
from oracle.committee import group_totals

from .table import row

_PERIOD = Period(20_000, 20_000 * 96, 96, 15)
_ZONES = ("north", "east", "south", "west")
_CLASSES = (
    TariffClass(id="heat-pump", import_price_nano_per_wh=270_000, export_price_nano_per_wh=80_000),
    TariffClass(id="household", import_price_nano_per_wh=320_000, export_price_nano_per_wh=80_000),
)
_INTERVAL_SECONDS = 900
_COMMUNITIES, _MEMBERS = 100, 100
_FLEET_MEMBERS = 10


class Settled(NamedTuple):
    """What a worker gives back of a community's day."""

    community: int
    batch_hash: bytes
    traded_wh: int
    processor_seconds: float


@lru_cache(maxsize=4)
def _preparer(members: int, compiled: bool = False) -> Preparer:
    keys = {(item.node, item.tariff_class) for item in _members(members)}
    tariff = CommunityTariff(
        zonal_network(_ZONES, list(pairwise(_ZONES)), 10_000, 15_000),
        _CLASSES,
        tuple(sorted(keys)),
        500_000,
    )
    return Preparer(tariff, 1, "0x" + "c1" * 20, EMPTY, bytes(32), compiled=compiled)


@lru_cache(maxsize=4)
def _members(count: int) -> tuple[Member, ...]:
    return tuple(
        Member(
            FIRST_MEMBER_SLOT + index,
            f"member {index}",
            "0x" + f"{index:040x}",
            "0x" + f"{index:040x}",
            _ZONES[index % 4],
            _CLASSES[index % 3 == 0].id,
            10_000,
        )
        for index in range(count)
    )


def member_periods(community: int, members: int) -> tuple[MemberPeriod, ...]:
    """A day of made-up households, half of them with sun on the roof; the same for the same number."""
    random = np.random.default_rng(community)
    hours = np.arange(96) / 4
    load = random.integers(20, 400, (members, 96))
    sun = np.clip(np.sin((hours - 6) / 12 * np.pi), 0, None) * random.integers(0, 900, (members, 1))
    given = np.where(np.arange(members)[:, None] % 2 == 0, sun, 0).astype(int)
    net = given - load
    return tuple(
        MemberPeriod(
            member,
            tuple(
                IntervalReading(max(-int(value), 0), max(int(value), 0), Quality.MEASURED)
                for value in net[index]
            ),
            keccak(community.to_bytes(4, "big") + index.to_bytes(4, "big")),
        )
        for index, member in enumerate(_members(members))
    )


def settle(community: int, members: int, *, compiled: bool = False) -> Preparation:
    """Clears, proves and packs a community's day; with compiled loops in a process that does thousands."""
    preparer, found = _preparer(members, compiled), member_periods(community, members)
    totals = pack_totals(group_totals(found, preparer.market, _PERIOD))
    root = PositionalTree({item.member.slot: item.leaf() for item in found}).root
    report = OracleReport(
        _PERIOD.number, 0, _PERIOD.first_interval, 96, root, keccak(totals), EMPTY
    )
    return preparer.prepare(
        period=_PERIOD,
        report=report,
        signatures=(bytes(65), bytes(65)),
        member_periods=found,
        previous=None,
    )


def settle_on_worker(community: int) -> Settled:
    """The same as a task: a number in, a few values out."""
    started = process_time()
    made = settle(community, _FLEET_MEMBERS, compiled=True)
    traded = sum(sum(item.solution.matched_demand_wh) for item in made.cleared)
    return Settled(community, made.batch.header.hash(), traded, process_time() - started)


def bench_scale(
    *, full: bool = False, progress: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Rows of the table.

    Args:
        full: ten thousand communities on the workers instead of four hundred.
        progress: told what is being measured.
    """
    return [*_one_process(progress), *_workers(10_000 if full else 400, progress)]


def _one_process(progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    settle(0, _MEMBERS)  # what is compiled, compiled
    wall, processor = perf_counter(), process_time()
    with tempfile.TemporaryDirectory() as scratch:
        bundles = BundleStore(FolderStore(Path(scratch)))
        for community in range(_COMMUNITIES):
            if community % 10 == 0:
                progress(f"a day of community {community} of {_COMMUNITIES}")
            store = LedgerStore(f"sqlite:///{scratch}/{community}.sqlite")
            made = settle(community, _MEMBERS)
            bundles.publish(made.bundle)
            store.add_batch(made.batch, made.cleared, 500_000)
            store.close()
    wall, processor = perf_counter() - wall, process_time() - processor
    share = wall / 96 / _INTERVAL_SECONDS
    yield row(
        f"{_COMMUNITIES} communities of {_MEMBERS} members, one process: an interval's part of a day cleared, proved, bundled, stored",
        wall / 96,
        None,
        "less than a tenth of 15 minutes",
        share < 0.1,
        f"{share:.2%} of the interval; the whole day {wall:,.0f} s by the clock, {processor:,.0f} s of processor",
    )


class _Pace:
    """What a number of workers did, over all their runs."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.found: dict[int, bytes] = {}
        self.timed, self.seconds, self.processor_seconds = 0, 0.0, 0.0

    def run(
        self, communities: Iterable[int], progress: Callable[[str], None], kill: bool = False
    ) -> None:
        """Settles communities.

        Args:
            communities: which.
            progress: told how many are done.
            kill: one worker, when half is done.
        """
        given = list(communities)
        clusters: list[Any] = []
        # Workers start and compile while the first batches are under way; the clock runs from then on.
        started, first = perf_counter(), 0
        settled: list[float] = []
        work = spread(settle_on_worker, given, workers=self.workers, cluster=clusters.append)
        for count, item in enumerate(work, 1):
            self.found[item.community] = item.batch_hash
            settled.append(item.processor_seconds)
            if not first and count >= 16 * self.workers:
                started, first = perf_counter(), count
                settled.clear()
            if kill and count == len(given) // 2:
                os.kill(next(iter(clusters[0].workers.values())).pid, signal.SIGKILL)
            if count % 200 == 0:
                progress(f"{count} of {len(given)} communities on {self.workers} workers")
        self.seconds += perf_counter() - started
        self.timed += len(given) - first
        self.processor_seconds += sum(settled)

    @property
    def rate(self) -> float:
        """Communities a second."""
        return self.timed / self.seconds

    @property
    def processor_ms(self) -> float:
        """Of a community, in its task."""
        return self.processor_seconds / self.timed * 1e3


def _workers(communities: int, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Two workers take all, of whom one is killed; one takes a tenth before and a tenth after, so that a load that changes shows in both."""
    alone, both = _Pace(1), _Pace(2)
    tenth = communities // 10
    alone.run(range(tenth), progress)
    both.run(range(communities), progress, kill=True)
    alone.run(range(tenth, 2 * tenth), progress)
    same = all(both.found[community] == batch for community, batch in alone.found.items())
    if not same or len(both.found) != communities:
        raise AssertionError("workers differ, or lost something")
    speedup = both.rate / alone.rate
    yield row(
        f"{communities:,} communities of {_FLEET_MEMBERS} members x 96 intervals, Dask, one of two workers killed half-way, "
        "none lost: rate of two workers against one",
        1 / both.rate,
        1 / alone.rate,
        "near-linear: at least 1.7x",
        speedup >= 1.7,
        f"{both.rate * 96:,.0f} intervals a second on two, all of them in {both.seconds:,.0f} s; a day of a community takes "
        f"{alone.processor_ms:.0f} ms of processor on one, {both.processor_ms:.0f} ms on two; load {os.getloadavg()[0]:.1f} "
        f"on {os.cpu_count()} cores",
    )
