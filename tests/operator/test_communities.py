"""Two communities in one process: one of quarter-hours on PostgreSQL, one of five minutes on SQLite; what fails in one leaves the other alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests

from backend.domain.intervals import local_day
from backend.domain.readings import RegisterReading
from backend.operator.run import CoordinatorProcess, interval_ends
from oracle.signing import sign_reading
from oracle.wire import pack
from tests.support import postgres
from tests.support.anvil import running_anvil
from tests.support.installation import SILENT_SLOT, Installation, installation, meter_of
from tests.support.oracle import SLOTS, key, registers_wh
from tests.support.postgres import Cluster

pytestmark = pytest.mark.xdist_group("installation")


class Both:
    """Valley's process has both communities in its configuration."""

    def __init__(self, valley: Installation, hill: Installation, cluster: Cluster) -> None:
        self.valley, self.hill, self.cluster = valley, hill, cluster
        hill.port = valley.port
        first, second = (json.loads(item.config.read_text()) for item in (valley, hill))
        (other,) = second["communities"]
        for field in ("address_book", "database_file", "keystore", "password_file", "salt_file"):
            other[field] = str(hill.folder / other[field])
        other["network"] = str(hill.folder / "network.json")
        other["bundles"] = {"folder": str(hill.folder / "bundles")}
        for signer in other["signers"]:
            signer["token_file"] = str(hill.folder / "token")
        first["communities"].append(other)
        valley.config.write_text(json.dumps(first))

    def get(self, path: str) -> requests.Response:
        return requests.get(self.valley.url + path, timeout=10)

    def wait(self, done: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if done():
                    return
            except (requests.RequestException, ValueError, KeyError, AssertionError):
                pass
            time.sleep(0.3)
        raise AssertionError(self.valley.log[-5000:])

    def metric(self, name: str, community: str) -> float:
        text = self.get("/metrics").text
        wanted = f'peerwatt_coordinator_{name}{{community="{community}"}} '
        (line,) = [line for line in text.splitlines() if line.startswith(wanted)]
        return float(line.removeprefix(wanted))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    hill_folder = tmp_path_factory.mktemp("hill")
    with (
        postgres.cluster() as cluster,
        running_anvil() as chain,
        installation(tmp_path_factory.mktemp("valley"), chain, cluster.create("two"), 1) as valley,
        installation(
            hill_folder, chain, f"sqlite:///{hill_folder}/ledger.sqlite", 1, "hill", 5
        ) as hill,
    ):
        yield Both(valley, hill, cluster)


def send_running(made: Installation) -> int:
    """What the meters have measured of today so far; returns how many intervals are over."""
    seconds = made.interval_minutes * 60
    first = local_day(datetime.now(UTC).date(), "UTC", made.interval_minutes).first_interval
    over = int(time.time()) // seconds
    signer = made.signers[0]
    signer.send(
        b"".join(
            pack(
                sign_reading(
                    key("meter", slot),
                    signer.config.domain,
                    RegisterReading(
                        meter_of(slot), interval, *registers_wh(slot, interval), interval
                    ),
                )
            )
            for slot in SLOTS
            if slot != SILENT_SLOT
            for interval in range(first - 1, over)
        )
    )
    return over - first


def test_one_that_cannot_be_opened_holds_the_other_up_by_nothing(both: Both) -> None:
    """Hill's address book is not there yet when the process starts."""
    book = both.hill.folder / "address-book.json"
    away = book.rename(book.with_suffix(".away"))
    for made in (both.valley, both.hill):
        made.publish_day(made.periods[0])
        for signer in made.signers:
            made.send_day(signer, made.periods[0])
    both.valley.start()
    both.valley.wait_until_stated(1)
    ready = both.get("/ready")
    assert ready.status_code == 503
    assert list(ready.json()["waiting"]) == ["hill"]
    assert both.get("/communities").json() == ["valley"]
    away.rename(book)
    both.hill.wait_until_stated(1)
    assert both.get("/ready").status_code == 200
    assert both.get("/communities").json() == ["hill", "valley"]


def test_five_minutes_are_settled_as_quarter_hours_are(both: Both) -> None:
    for made, intervals in ((both.valley, 96), (both.hill, 288)):
        (batch,) = both.get(f"/communities/{made.name}/batches").json()
        bundle = both.get(f"/communities/{made.name}/bundles/{batch['bundle_hash']}").json()
        assert bundle["period"]["interval_count"] == intervals, bundle["period"]
        assert batch["state"] == "stated"


def test_the_running_day_is_previewed(both: Both) -> None:
    """When the process starts, and from then on at the end of every interval."""
    wanted = {}
    for made in (both.valley, both.hill):
        wanted[made.name] = send_running(made)
    if 0 in wanted.values():
        pytest.skip("the day has only just begun")
    assert both.valley.stop() == 0
    both.valley.start()

    def missing(name: str) -> set[int]:
        found = both.get(f"/communities/{name}/preview").json()["intervals"]
        assert len(found) >= wanted[name]
        return {item["missing"] for item in found[: wanted[name]]}

    # The one meter that cannot sign has published nothing today.
    both.wait(lambda: missing("valley") == missing("hill") == {1})
    for made in (both.valley, both.hill):
        found = both.get(f"/communities/{made.name}/preview").json()
        assert found["final"] is False
        assert found["period"] == made.periods[0].number + 1
        assert sum(item["demand_wh"] for item in found["intervals"]) > 0
        newest = both.metric("cleared_interval_end_timestamp_seconds", made.name)
        assert newest % (made.interval_minutes * 60) == 0


def test_one_whose_database_is_gone_does_not_stop_the_other(both: Both) -> None:
    both.wait(
        lambda: all(
            both.metric("advanced_timestamp_seconds", name) > 0 for name in ("hill", "valley")
        )
    )
    both.cluster.kill()
    try:
        stopped = both.metric("advanced_timestamp_seconds", "valley")
        before = both.metric("advanced_timestamp_seconds", "hill")
        both.wait(lambda: both.metric("advanced_timestamp_seconds", "hill") > before + 3)
        assert both.get("/communities/hill/batches").status_code == 200
        assert both.get("/communities/valley/batches").status_code == 503
        assert both.metric("advanced_timestamp_seconds", "valley") <= stopped + 2
    finally:
        both.cluster.start()
    again = time.time()
    both.wait(lambda: both.metric("advanced_timestamp_seconds", "valley") > again)
    assert both.valley.stop() == 0
    both.valley.process = None


@pytest.mark.parametrize(("minutes", "after"), [(15, 0), (15, 120), (5, 30), (5, 3600)])
def test_previews_come_at_the_end_of_every_interval(minutes: int, after: int) -> None:
    """Also where readings are given more time than an interval lasts."""
    trigger = interval_ends(minutes, after)
    last = datetime(2026, 3, 28, 23, 59, 58, tzinfo=UTC)
    fired = trigger.get_next_fire_time(None, last)
    assert fired is not None
    for _ in range(300):
        assert (fired.timestamp() - after) % (minutes * 60) == 0
        assert 0 < (fired - last).total_seconds() <= minutes * 60
        last, fired = fired, trigger.get_next_fire_time(fired, fired)
        assert fired is not None


def test_a_clock_that_is_set_back_stops_nothing(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler would wait until it is again as late as it was."""
    process = CoordinatorProcess(both.valley.config)
    scheduler = process._scheduler
    job = scheduler.add_job(lambda: None, "interval", hours=1, id="a cycle")
    scheduler.start()
    try:
        job.modify(next_run_time=datetime.now(UTC) + timedelta(days=365))
        process.configuration.file.__dict__["poll_seconds"] = 0.05
        right, ahead = time.time, [365 * 86_400.0]
        monkeypatch.setattr(time, "time", lambda: right() + ahead[0])
        watch = threading.Thread(target=process._watch_clock)
        watch.start()
        time.sleep(0.2)
        ahead[0] = 0.0
        watch_until = time.monotonic() + 60
        while time.monotonic() < watch_until:
            found = scheduler.get_job("a cycle").next_run_time
            if found < datetime.now(UTC) + timedelta(hours=2):
                break
            time.sleep(0.02)
        assert found < datetime.now(UTC) + timedelta(hours=2)
        process._ended.set()
        watch.join()
    finally:
        scheduler.shutdown()
