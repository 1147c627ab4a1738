"""kill -9 at random moments, full disk, locked database, broker gone, duplicates and reordering: nothing acknowledged is lost.

Each process here is a real one, and what it acknowledged is written down by the test, outside of it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import pytest
import requests

from backend.domain.errors import StoreUnavailable
from oracle.collector import meter_address
from oracle.directory import OwnKeys
from oracle.intake import Intake
from oracle.peers import SignerFailed
from oracle.store import ReadingStore
from oracle.wire import RECORD_BYTES
from tests.support.broker import Broker
from tests.support.community import PAPER
from tests.support.oracle import (
    PROCESS_SECONDS,
    Signer,
    address_of,
    impatient,
    key,
    locked,
    packed,
    past_period,
    running,
    signer_addresses,
    write_keystore,
)
from tests.support.postgres import Cluster, cluster, fresh_database, tablespace

PERIOD = past_period(3)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Cluster]:
    """A server to kill: with no other test's databases it is soon back."""
    with cluster() as server:
        yield server


@pytest.fixture(scope="module")
def day() -> bytes:
    """388 signed readings."""
    return packed(PERIOD)


def take_batches(url: str, data: bytes, batches: list[tuple[int, int]], output: int) -> None:
    """Takes batches of the data and writes their number, four bytes, when each is on disk."""
    intake = Intake(ReadingStore(url), OwnKeys(), PAPER.domain)
    for number, (start, end) in enumerate(batches):
        intake.take(data[start * RECORD_BYTES : end * RECORD_BYTES])
        os.write(output, number.to_bytes(4, "big"))


def killed_while_taking(
    url: str, data: bytes, batches: list[tuple[int, int]], seconds: float
) -> list[int]:
    """A process of its own that takes batches, killed after a while; the numbers of those it acknowledged."""
    reading, writing = os.pipe()
    process = get_context("fork").Process(target=take_batches, args=(url, data, batches, writing))
    process.start()
    os.close(writing)
    process.join(seconds)
    process.kill()
    process.join()
    with os.fdopen(reading, "rb") as pipe:
        written = pipe.read()
    return [
        int.from_bytes(written[at : at + 4], "big") for at in range(0, len(written) // 4 * 4, 4)
    ]


def stored(url: str) -> set[bytes]:
    store = ReadingStore(url)
    intervals = range(PERIOD.first_interval - 1, PERIOD.first_interval + 96)
    found = [row.packed() for row in store.readings(intervals)]
    store.close()
    assert len(found) == len(set(found))
    return set(found)


def split(data: bytes) -> list[bytes]:
    return [data[start : start + RECORD_BYTES] for start in range(0, len(data), RECORD_BYTES)]


def test_kill_9_at_random_moments(store_url: str, day: bytes) -> None:
    """Batches in random order with repetitions; the process is killed in the middle of whatever it does, again and again."""
    chance = random.Random(5)
    records = split(day)
    acknowledged: set[bytes] = set()
    for _ in range(12):
        starts = [chance.randrange(len(records)) for _ in range(60)]
        batches = [(start, start + chance.randrange(1, 60)) for start in starts]
        for number in killed_while_taking(store_url, day, batches, 0.05 + chance.random() * 0.2):
            acknowledged |= set(records[slice(*batches[number])])
        assert acknowledged <= stored(store_url) <= set(records)
    assert acknowledged
    store = ReadingStore(store_url)
    Intake(store, OwnKeys(), PAPER.domain).take(day)
    store.close()
    assert stored(store_url) == set(records)


def test_a_database_server_that_is_killed(own_postgres: Cluster, day: bytes) -> None:
    """What PostgreSQL acknowledged is there when it is back; in between nothing is taken, and nothing is lost by asking."""
    store = ReadingStore(fresh_database(own_postgres))
    intake = Intake(store, OwnKeys(), PAPER.domain)
    records = split(day)
    for start in range(0, 100, 10):
        intake.take(b"".join(records[start : start + 10]))
    own_postgres.kill()
    try:
        with pytest.raises(StoreUnavailable):
            intake.take(day)
    finally:
        own_postgres.start()
    assert stored_in(store) == set(records[:100])
    assert intake.take(day).taken == len(records) - 100
    store.close()


def test_a_signer_outlives_its_database_server(
    own_postgres: Cluster, tmp_path: Path, day: bytes
) -> None:
    """The server dies again and again while readings come in; the signer goes on without a restart, and lost nothing it acknowledged."""
    url = fresh_database(own_postgres)
    records = split(day)
    chance = random.Random(7)
    acknowledged: set[bytes] = set()
    refusals: list[str] = []
    stop = threading.Event()

    def send_on(signer: Signer) -> None:
        while not stop.is_set():
            start = chance.randrange(len(records))
            batch = records[start : start + 30]
            try:
                signer.send(b"".join(batch))
            except SignerFailed as error:
                refusals.append(str(error))
            else:
                acknowledged.update(batch)

    with running(tmp_path, 1, lambda: url) as (signer,):
        sending = threading.Thread(target=send_on, args=(signer,))
        sending.start()
        try:
            for _ in range(3):
                known = len(refusals)
                time.sleep(0.1 + chance.random() * 0.3)
                own_postgres.kill()
                wait_for(lambda known=known: len(refusals) > known)  # type: ignore[misc]
                own_postgres.start()
        finally:
            stop.set()
            sending.join()
        assert all("answers 503" in text for text in refusals), refusals
        assert acknowledged
        assert acknowledged <= stored(url) <= set(records)
        signer.send(day)
        assert stored(url) == set(records)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PROCESS_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes."""
    folder = Path(tempfile.mkdtemp(prefix="peerwatt-full-", dir="/tmp"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small file system needs the right to mount one")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database_on_a_small_disk(
    kind: str, request: pytest.FixtureRequest
) -> Iterator[tuple[str, Path]]:
    """Its URL, and the folder where something else can take up the room."""
    if kind == "sqlite":
        with small_disk(1) as folder:
            yield f"sqlite:///{folder / 'readings.sqlite'}", folder
        return
    server = request.getfixturevalue("postgres")
    # The server's own catalogue takes 8 of them.
    with small_disk(16) as folder, tablespace(server, folder) as name:
        yield fresh_database(server, name), folder


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_full_disk(kind: str, request: pytest.FixtureRequest, day: bytes) -> None:
    """What was acknowledged stays; what is not is refused as a whole, and taken when there is room again."""
    with database_on_a_small_disk(kind, request) as (url, folder):
        ballast = folder / "ballast"
        store = ReadingStore(url)
        intake = Intake(store, OwnKeys(), PAPER.domain)
        records = split(day)
        intake.take(b"".join(records[:10]))
        try:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            taken = take_until_refused(intake, records)
            assert taken < len(records)
            assert stored_in(store) == set(records[:taken])
        finally:
            ballast.unlink()
        intake.take(day)
        assert stored_in(store) == set(records)
        store.close()


def take_until_refused(intake: Intake, records: list[bytes]) -> int:
    """How many readings were acknowledged before the store refused."""
    for start in range(10, len(records), 20):
        with suppress(StoreUnavailable):
            intake.take(b"".join(records[start : start + 20]))
            continue
        return start
    return len(records)


def stored_in(store: ReadingStore) -> set[bytes]:
    intervals = range(PERIOD.first_interval - 1, PERIOD.first_interval + 96)
    return {row.packed() for row in store.readings(intervals)}


def take_within(url: str, data: bytes, batches: list[tuple[int, int]], output: int) -> None:
    """As `take_batches`, where no file may become larger than 150 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
    with suppress(StoreUnavailable):
        take_batches(url, data, batches, output)


def test_a_file_that_may_not_grow(tmp_path: Path, day: bytes) -> None:
    """As a quota: the process itself meets the limit in the middle of writing."""
    url = f"sqlite:///{tmp_path / 'readings.sqlite'}"
    records = split(day)
    batches = [(start, start + 8) for start in range(0, len(records), 8)]
    reading, writing = os.pipe()
    process = get_context("fork").Process(target=take_within, args=(url, day, batches, writing))
    process.start()
    os.close(writing)
    process.join()
    assert process.exitcode == 0
    with os.fdopen(reading, "rb") as pipe:
        count = len(pipe.read()) // 4
    assert 0 < count < len(batches)
    assert set(records[: count * 8]) <= stored(url)


def test_a_lock_is_not_waited_for_without_end(store_url: str, day: bytes) -> None:
    store = ReadingStore(store_url, busy_timeout_seconds=0.2)
    intake = Intake(store, OwnKeys(), PAPER.domain)
    with locked(store_url), pytest.raises(StoreUnavailable):
        intake.take(day)
    assert intake.take(day).taken == len(split(day))
    store.close()


def test_a_locked_database_makes_a_signer_say_so_and_recover(
    store_url: str, tmp_path: Path, day: bytes
) -> None:
    with running(tmp_path, 1, lambda: impatient(store_url)) as (signer,):
        first, second = day[: 118 * 50], day[118 * 50 :]
        assert signer.send(first)["taken"] == 50
        with locked(store_url):
            answer = requests.post(
                signer.url + "/readings",
                data=second,
                headers={"Authorization": f"Bearer {signer.client.token}"},
                timeout=60,
            )
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "oracle.store_unavailable"
        assert signer.send(day) == {"taken": 338, "known": 50, "refused": []}
        # Killed with everything in the write-ahead log, and there again.
        signer.kill()
        assert stored(store_url) == set(split(day))


def test_a_collector_is_killed_while_the_broker_comes_and_goes(
    store_url: str, tmp_path: Path
) -> None:
    """From a device's message to a signed reading, through Mosquitto, with everything dying in between."""
    broker_folder = tmp_path / "broker"
    broker_folder.mkdir()
    broker = Broker.in_folder(broker_folder)
    broker.start()
    signer = Signer(tmp_path / "signer", 0)
    meter = "0x" + meter_address("broker", "house-1").hex()
    signer.write(
        signer_addresses(),
        store=store_url,
        sources=[
            {
                "kind": "mqtt",
                "name": "broker",
                "host": "127.0.0.1",
                "port": broker.port,
                "subscriptions": [
                    {
                        "topic": "tele/+/SENSOR",
                        "payload": "tasmota",
                        "time_zone": "UTC",
                        "export_field": None,
                    }
                ],
            }
        ],
        collector={
            "keystore": "collector.json",
            "devices": [{"source": "broker", "device": "house-1", "has_export": False}],
        },
    )
    write_keystore(signer.folder / "collector.json", key("collector"))
    (signer.folder / "meters.json").write_text(
        json.dumps(
            {
                "meters": [
                    {
                        "meter": meter,
                        "signers": [{"signer": address_of(key("collector")), "kind": "collector"}],
                    }
                ]
            }
        )
    )
    chance = random.Random(3)
    messages = []
    for index in range(97):
        at = time.gmtime((PERIOD.first_interval + index) * 900)
        text = json.dumps(
            {"Time": time.strftime("%Y-%m-%dT%H:%M:%S", at), "ENERGY": {"Total": index / 1000}}
        )
        messages.append(("tele/house-1/SENSOR", text.encode()))
    order = messages * 2
    chance.shuffle(order)
    signer.start()
    try:
        signer.wait()
        for part in range(2):
            broker.publish(order[part * 97 : (part + 1) * 97])
            time.sleep(chance.random())
            signer.kill()
            broker.stop()
            broker.start()
            signer.start()
            signer.wait()
        deadline = time.monotonic() + PROCESS_SECONDS
        expected = {PERIOD.first_interval - 1 + index: index for index in range(97)}
        while (found := registers_of(store_url, bytes.fromhex(meter[2:]))) != expected:
            assert time.monotonic() < deadline, (len(found), signer.log[-2000:])
            time.sleep(0.3)
    finally:
        signer.stop()
        broker.stop()


def registers_of(url: str, meter: bytes) -> dict[int, int]:
    store = ReadingStore(url)
    intervals = range(PERIOD.first_interval - 1, PERIOD.first_interval + 96)
    rows = list(store.readings(intervals, meter, meter))
    store.close()
    found = {row.interval: row.import_register_wh for row in rows}
    assert len(found) == len(rows), "never two readings of one interval"
    return found
