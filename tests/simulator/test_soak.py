"""A month for a hundred members in accelerated time: memory stays flat, and the database grows by what a day needs.

Five days by default; `PEERWATT_SOAK_DAYS=30 pytest tests/simulator/test_soak.py -rP` for the month.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from web3 import HTTPProvider, Web3

from backend.bench.made_up import CHALLENGE_SECONDS, PERIOD, coordinated, day
from backend.chain.client import ChainClient
from backend.chain.networks import Network
from backend.domain.intervals import EPOCH_DATE, Period, local_day
from backend.domain.states import CycleState
from backend.ledger.check import check
from backend.operator.periods import PeriodCycle
from tests.support.anvil import ask, running_anvil

DAYS = int(os.environ.get("PEERWATT_SOAK_DAYS", "5"))
MEMBERS = 100


def clock_change_day(number: int) -> Period:
    """Days of Vienna in five minutes, among them the longest and the shortest there are."""
    return local_day(EPOCH_DATE + timedelta(days=number), "Europe/Vienna", 5)


def resident_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Clock(list[float]):
    """The coordinator's and the chain's time."""

    def __call__(self) -> float:
        return self[0]

    def set(self, web3: Web3, seconds: float) -> None:
        self[0] = seconds
        ask(web3, "evm_setNextBlockTimestamp", int(seconds))
        ask(web3, "evm_mine")


@contextmanager
def on_anvil(
    folder: Path, count: int, first: Period, period: Callable[[int], Period]
) -> Iterator[tuple[PeriodCycle, Web3, Clock]]:
    """A community founded on a node of its own, and its coordinator's cycle."""
    begins = first.first_interval * first.interval_minutes * 60
    with running_anvil("--timestamp", str(begins - 3600)) as url:
        web3 = Web3(HTTPProvider(url))
        client = ChainClient(web3, embedded=False)
        network, now = Network("soak", client.chain_id, 2), Clock([float(begins)])
        with coordinated(client, network, folder, count, first, period, now) as cycle:
            yield cycle, web3, now


def test_days_of_23_and_25_hours(tmp_path: Path) -> None:
    """The contract takes them as they are, one after the other without a gap, each as soon as it is over."""
    for first_day, counts in (
        (date(2026, 3, 28), [288, 276, 288]),
        (date(2026, 10, 24), [288, 300, 288]),
    ):
        first = clock_change_day((first_day - EPOCH_DATE).days)
        folder = tmp_path / str(first_day)
        folder.mkdir()
        with on_anvil(folder, 8, first, clock_change_day) as (cycle, web3, now):
            for number in range(first.number, first.number + 3):
                end = clock_change_day(number).end_interval * 300
                now.set(web3, end - 1)
                assert cycle.advance() == []
                assert number not in [item.period for item in cycle.store.items()]
                now.set(web3, end + 5)
                for _ in range(4):
                    assert cycle.advance() == []
                    ask(web3, "evm_mine")
            for _ in range(3):
                now.set(web3, now() + CHALLENGE_SECONDS)
                ask(web3, "anvil_mine", hex(3))
                assert cycle.advance() == []
            headers = [header for _, header in cycle.store.live(final_only=True).values()]
            assert [header.interval_count for header in headers] == counts
            assert [item.state for item in cycle.store.items()] == [CycleState.STATED] * 3


def test_memory_is_flat_and_the_database_grows_by_the_day(tmp_path: Path) -> None:
    begins = PERIOD.first_interval * 900
    with on_anvil(tmp_path, MEMBERS, PERIOD, day) as (cycle, web3, now):
        memory, sizes = [], []
        for number in range(DAYS):
            now.set(web3, begins + (number + 1) * 86_400 + 60)
            for _ in range(4):
                assert cycle.advance() == []
                ask(web3, "evm_mine")
            memory.append(resident_mib())
            sizes.append(sum(p.stat().st_size for p in tmp_path.glob("ledger.sqlite*")) / 2**20)
        # The last day becomes final.
        for _ in range(3):
            now.set(web3, now() + CHALLENGE_SECONDS)
            ask(web3, "anvil_mine", hex(3))
            assert cycle.advance() == []
        items = cycle.store.items()
        assert [item.state for item in items[:DAYS]] == [CycleState.STATED] * DAYS
        assert check(cycle.ledger.engine) == []
    kept = sum(path.stat().st_size for path in (tmp_path / "bundles").rglob("*.json")) / 2**20
    grown = memory[-1] - memory[DAYS // 2]
    print(
        f"{DAYS} days, {MEMBERS} members: memory {memory[0]:.0f} MiB after the first day, {memory[-1]:.0f} MiB after the last "
        f"({grown:+.1f} MiB in the second half); database {(sizes[-1] - sizes[0]) / (DAYS - 1):.2f} MiB a day, bundles {kept / DAYS:.2f} MiB a day"
    )
    # A leak of a day's data would show: its readings and proofs are some MiB in memory.
    assert grown < 1.0 * max(DAYS // 2, 8)
    assert (sizes[-1] - sizes[0]) / (DAYS - 1) < 4
