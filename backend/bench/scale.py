"""`peerwatt bench scale`: a hundred communities in one process, ten thousand on several workers."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

from eth_hash.auto import keccak
from web3.types import RPCEndpoint, RPCResponse

from backend.chain.client import ChainClient
from backend.chain.networks import embedded_network
from backend.domain.states import CycleState
from backend.ledger.store import LedgerStore
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.fleet import spread
from backend.operator.periods import PeriodCycle
from backend.operator.preparation import Preparation
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import EMPTY, OracleReport
from backend.settlement.trees import PositionalTree
from oracle.committee import group_totals

from .made_up import CHALLENGE_SECONDS, PERIOD, coordinated, day, member_periods, preparer
from .table import row

_INTERVAL_SECONDS = 900
_COMMUNITIES, _MEMBERS = 100, 100
_FLEET_MEMBERS = 10
_CYCLE_DAYS, _MOST_STEPS = 3, 20


class Settled(NamedTuple):
    """What a worker gives back of a community's day."""

    community: int
    batch_hash: bytes
    traded_wh: int
    processor_seconds: float


def settle(community: int, members: int, *, compiled: bool = False) -> Preparation:
    """Clears, proves and packs a community's day; with compiled loops in a process that does thousands."""
    preparing, found = preparer(members, compiled), member_periods(community, members)
    totals = pack_totals(group_totals(found, preparing.market, PERIOD))
    root = PositionalTree({item.member.slot: item.leaf() for item in found}).root
    report = OracleReport(PERIOD.number, 0, PERIOD.first_interval, 96, root, keccak(totals), EMPTY)
    return preparing.prepare(
        period=PERIOD,
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
    return [
        *_one_process(progress),
        *_whole_cycle(progress),
        *_workers(10_000 if full else 400, progress),
    ]


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


def _whole_cycle(progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Days of one community, from report to statements on an embedded chain, whose own work is another machine's elsewhere."""
    client = ChainClient.open(None)
    now, spent, on_chain = [0.0], [], [0.0]
    ask = client.web3.provider.make_request

    def timed(method: RPCEndpoint, params: Any) -> RPCResponse:
        started = process_time()
        try:
            return ask(method, params)
        finally:
            on_chain[0] += process_time() - started

    with (
        tempfile.TemporaryDirectory() as scratch,
        coordinated(
            client,
            embedded_network(client.chain_id),
            Path(scratch),
            _MEMBERS,
            PERIOD,
            day,
            lambda: now[0],
        ) as cycle,
    ):
        client.web3.provider.make_request = timed  # type: ignore[method-assign]  # this one chain's, to know its share
        for number in range(1 + _CYCLE_DAYS):
            progress(f"day {number} of {_CYCLE_DAYS} from report to statements")
            now[0] = (PERIOD.first_interval + 96 * (number + 1)) * _INTERVAL_SECONDS + 60.0
            started, chain = process_time(), on_chain[0]
            _until(cycle, client, number + 1, CycleState.SUBMITTED)
            client.advance(CHALLENGE_SECONDS + 1)
            _until(cycle, client, number + 1, CycleState.STATED)
            spent.append(process_time() - started - (on_chain[0] - chain))
    # The first day grants everybody credit and compiles what is compiled.
    seconds = sum(spent[1:]) / _CYCLE_DAYS
    share = seconds * _COMMUNITIES / 96 / _INTERVAL_SECONDS
    yield row(
        f"the same through the whole cycle (collected, cleared, proved, published, submitted, followed, booked, stated), "
        f"{_CYCLE_DAYS} days of one community times {_COMMUNITIES}: an interval's part",
        seconds * _COMMUNITIES / 96,
        None,
        "less than a tenth of 15 minutes",
        share < 0.1,
        f"{share:.2%} of the interval; a community's day {seconds:.2f} s of processor without the chain's own work",
    )


def _until(cycle: PeriodCycle, client: ChainClient, count: int, state: CycleState) -> None:
    for _ in range(_MOST_STEPS):
        failures = cycle.advance()
        if failures:
            raise failures[0]
        states = [item.state for item in cycle.store.items()]
        if len(states) == count and states[-1] is state:
            return
        client.advance(1)
    raise AssertionError(f"not {state.value} after {_MOST_STEPS} steps: {states}")


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
