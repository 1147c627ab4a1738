"""What seeds do not reach: a database restored from an older backup, a clock that jumps, a chain that takes back what was final."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.domain.errors import QuorumNotReached, ReorgTooDeep
from backend.domain.states import CycleState
from tests.simulator.moves import calm_world, lose_database, until
from tests.simulator.world import FINALITY_DEPTH, PERIODS, TICK_SECONDS, Process, World
from tests.support.town import FIRST_PERIOD

pytestmark = pytest.mark.xdist_group("simulator")
FIRST = FIRST_PERIOD.number


@pytest.fixture
def calm(play: World) -> Iterator[World]:
    with calm_world(play) as world:
        yield world


def copied(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as given, sqlite3.connect(target) as taken:
        given.backup(taken)
    given.close()
    taken.close()


def test_a_batch_sent_after_the_backup_that_was_restored_is_found_again(calm: World) -> None:
    """What it would send again is refused, because it stands already; it is taken over once its block is final."""
    ledger, backup = calm.folder / "ledger.sqlite", calm.folder / "backup.sqlite"
    calm.processes[0].cycle.advance()
    copied(ledger, backup)
    cycle = calm.processes[0].cycle
    # One block at a time, so that the batch's own is not final when it is noticed.
    while not any(item.state is CycleState.SUBMITTED for item in cycle.store.items()):
        assert calm.now < FIRST_PERIOD.end_interval * 900 + 7200, cycle.store.items()
        calm.now += TICK_SECONDS
        calm._deliver()
        cycle.advance()
        calm._mine()
    calm.processes[0].end()
    for path in calm.folder.glob("ledger.sqlite*"):
        path.unlink()
    copied(backup, ledger)
    calm.processes[0] = Process(calm)
    calm.finish()
    first = calm.processes[0].cycle.store.items()[0]
    assert first.attempts > 0, "it was not sent again, which proves nothing"


def test_a_clock_that_jumps_ahead_and_back(calm: World) -> None:
    cycle = calm.processes[0].cycle
    right = cycle.now
    cycle.now = lambda: right() + 10_000
    for _ in range(3):
        failures = cycle.advance()
        calm._mine()
    assert any(isinstance(error, QuorumNotReached) for error in failures)
    assert len(cycle.store.items()) == PERIODS
    assert {item.state for item in cycle.store.items()} == {CycleState.COLLECTING}
    cycle.now = right
    calm.finish()
    # In the order of the days, whenever they were begun.
    headers = [header for _, header in cycle.store.live(final_only=True).values()]
    assert [(header.period, header.version) for header in headers] == [(FIRST, 0), (FIRST + 1, 0)]


def test_a_reorg_deeper_than_finality_stops_it_and_a_new_database_goes_on(calm: World) -> None:
    until(calm, CycleState.SUBMITTED)
    for _ in range(FINALITY_DEPTH + 1):
        calm._mine()
    process = calm.processes[0]
    process.cycle.advance()
    before = process.cycle.store.items()
    calm._reorg(FINALITY_DEPTH + 3)
    for _ in range(3):
        failures = process.cycle.advance()
        assert [type(error) for error in failures] == [ReorgTooDeep]
        assert "rebuild the ledger" in failures[0].remedy
        calm._mine()
    # Nothing was built on what is not there any more.
    assert process.cycle.store.items() == before
    lose_database(calm)
    calm.finish()
