"""Real processes, and everything taken away from under them while a day's readings come in and the day before is settled.

The day comes in slices of three hours. With each slice one thing is disturbed: the node reorganised, PostgreSQL or Mosquitto stopped and
started, the coordinator or a signer killed; each once before any comes again, in an order that `PEERWATT_CHAOS_SEED` (0) chooses.
`PEERWATT_CHAOS_SLICES` (8) is for more of them. Afterwards the honest result, once.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from web3 import HTTPProvider, Web3

from backend.domain.readings import IntervalReading, Quality
from backend.market.pool import Pool
from backend.market.problem import build_market
from backend.settlement.batch import interval_steps
from backend.settlement.statement import statement_amount_nano
from deploy.founding import load_founding
from oracle.peers import SignerFailed
from tests.support import postgres
from tests.support.anvil import ask, running_anvil
from tests.support.installation import (
    SILENT_METER,
    Installation,
    command,
    installation,
    registers_of,
)
from tests.support.oracle import PROCESS_SECONDS, SLOTS, Signer, registers_wh

pytestmark = pytest.mark.xdist_group("installation")
SLICES = int(os.environ.get("PEERWATT_CHAOS_SLICES", "8"))
SEED = int(os.environ.get("PEERWATT_CHAOS_SEED", "0"))
DAYS = 2


def honest_nano(made: Installation) -> dict[int, int]:
    """What every member is owed for all days, worked out from the true registers without any of the processes."""
    given = load_founding(made.folder / "founding.json")
    tariff = given.tariff
    market = build_market(tariff.network, tariff.tariff_classes, tuple(tariff.groups))
    pool = Pool(market, "highs", share_millionths=tariff.share_millionths)
    total = dict.fromkeys(SLOTS, 0)
    for period in made.periods:
        readings = {
            slot: tuple(
                IntervalReading(
                    registers_wh(slot, interval)[0] - registers_wh(slot, interval - 1)[0],
                    registers_wh(slot, interval)[1] - registers_wh(slot, interval - 1)[1],
                    Quality.MEASURED,
                )
                for interval in range(period.first_interval, period.end_interval)
            )
            for slot in SLOTS
        }
        steps = [
            interval_steps(
                pool.clear(
                    tuple(0 for _ in SLOTS), tuple(readings[slot][index].net_wh for slot in SLOTS)
                ),
                tariff.share_millionths,
            )
            for index in range(period.interval_count)
        ]
        for slot in SLOTS:
            total[slot] += statement_amount_nano(readings[slot], steps, market.groups[0])
    return total


def exported(made: Installation, folder: Path) -> tuple[list[Path], dict[int, int]]:
    """The bundles of all batches, and what the last of them says every member is owed."""
    command("coordinator", "export", str(made.config), str(folder), "--personal")
    folders = sorted(folder.iterdir(), key=lambda path: int(path.name))
    last = folders[-1] / "personal"
    return folders, {
        slot: json.loads((last / f"{slot}.json").read_text())["cumulative_nano"] for slot in SLOTS
    }


class Gateway:
    """What publishes for the meter that cannot sign: it keeps what the broker has not acknowledged, and sends it again."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="gateway", clean_session=False
        )
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = self._acknowledged
        self._published = self._heard = 0
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _acknowledged(self, client: Any, data: Any, mid: int, reason: Any, more: Any) -> None:
        self._heard += 1

    def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for topic, payload in messages:
            self._client.publish(topic, payload, 1)
            self._published += 1

    def outstanding(self) -> int:
        """How many messages the broker has not acknowledged."""
        return self._published - self._heard

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Meters:
    """The meters that sign: each slice goes to one signer, again and again until that one has acknowledged it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(SLICES)
        self._sent: list[Future[int]] = []

    def send(self, signer: Signer, data: bytes) -> None:
        self._sent.append(self._pool.submit(self._insist, signer, data))

    @staticmethod
    def _insist(signer: Signer, data: bytes) -> int:
        deadline = time.monotonic() + PROCESS_SECONDS
        for failed in itertools.count():
            try:
                signer.send(data)
                return failed
            except SignerFailed:
                assert time.monotonic() < deadline, signer.log[-5000:]
                time.sleep(0.2)
        raise AssertionError

    def failures(self) -> int:
        """How often nobody acknowledged, when all is acknowledged at last."""
        with self._pool:
            return sum(item.result() for item in self._sent)


def stored(signer: Signer, meter: str, intervals: range) -> int:
    """How many readings of a meter are on a signer's disk; the signer itself need not run."""
    path = signer.folder / "readings.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        row = store.execute(
            "select count(distinct interval) from reading where meter = ? and interval between ? and ?",
            (bytes.fromhex(meter[2:]), intervals[0], intervals[-1]),
        ).fetchone()
    return int(row[0])


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PROCESS_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_honest_result_is_reached(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with (
        postgres.cluster() as cluster,
        running_anvil() as chain,
        installation(tmp_path, chain, cluster.create("chaos"), DAYS) as made,
    ):
        web3 = Web3(HTTPProvider(chain))
        gateway, meters = Gateway(made.broker.port), Meters()
        collecting = made.signers[0]
        overdue: list[int] = []

        def kill_coordinator(part: range) -> None:
            gateway.publish(made.silent_messages(part))
            meters.send(chance.choice(made.signers), made.signed_readings(part))
            made.kill()
            time.sleep(chance.random() * 2)
            made.start()

        def kill_signer(part: range) -> None:
            signer = chance.choice(made.signers)
            signer.kill()
            gateway.publish(made.silent_messages(part))
            meters.send(signer, made.signed_readings(part))
            time.sleep(0.5 + chance.random())
            signer.start()

        def stop_database(part: range) -> None:
            cluster.kill()
            gateway.publish(made.silent_messages(part))
            meters.send(chance.choice(made.signers), made.signed_readings(part))
            time.sleep(chance.random() * 3)
            cluster.start()

        def stop_broker(part: range) -> None:
            meters.send(chance.choice(made.signers[1:]), made.signed_readings(part))
            # Half of the slice is with the broker, and not with the signer, which hangs; half of it comes while the broker is away.
            half = len(part) // 2
            assert collecting.process is not None
            collecting.process.send_signal(signal.SIGSTOP)
            before = stored(collecting, SILENT_METER, part)
            gateway.publish(made.silent_messages(part[:half]))
            until(lambda: gateway.outstanding() == 0)
            overdue.append(half - stored(collecting, SILENT_METER, part) + before)
            made.broker.stop()
            collecting.process.send_signal(signal.SIGCONT)
            gateway.publish(made.silent_messages(part[half:]))
            time.sleep(chance.random() * 2)
            assert gateway.outstanding() == len(part) - half
            made.broker.start()

        def reorganise(part: range) -> None:
            gateway.publish(made.silent_messages(part))
            meters.send(chance.choice(made.signers), made.signed_readings(part))
            # As deep as is not final.
            ask(web3, "anvil_reorg", chance.choice((1, 2)), [])

        first, last = made.periods
        made.publish_day(first)
        made.send_day(made.signers[1], first)
        # The first day is settled while the second one comes in; that one is due when it is there.
        midnight = last.end_interval * last.interval_minutes * 60
        waits = min(int(time.time() - midnight) // 60 + 30, 24 * 60 - 1)
        made.write_config(settle_after_minutes=waits)
        made.start()
        disturbances: list[Callable[[range], None]] = []
        told = []
        for number in range(SLICES):
            if not disturbances:
                disturbances = [
                    kill_coordinator,
                    kill_signer,
                    stop_database,
                    stop_broker,
                    reorganise,
                ]
                chance.shuffle(disturbances)
            cuts = [last.interval_count * part // SLICES for part in (number, number + 1)]
            # The register at the day's beginning is the end of the interval before.
            begins = last.first_interval + cuts[0] - (number == 0)
            disturb = disturbances.pop()
            told.append(disturb.__name__)
            disturb(range(begins, last.first_interval + cuts[1]))
            time.sleep(chance.random() * 2)
        for signer in made.signers:
            signer.wait()
        until(lambda: gateway.outstanding() == 0)
        gateway.close()
        assert meters.failures() > 0, told
        assert overdue, told
        assert min(overdue) > 0, "nothing was outstanding when the broker was stopped"
        until(lambda: stored(collecting, SILENT_METER, registers_of(last)) == 97)
        made.write_config()
        # What reaches signers after the day was settled is corrected.
        honest = honest_nano(made)
        deadline = time.monotonic() + 600
        for attempt in itertools.count():
            made.wait_until_stated(DAYS, seconds=300, days=DAYS)
            folders, cumulative = exported(made, tmp_path / f"out-{attempt}")
            if cumulative == honest or time.monotonic() > deadline:
                break
            time.sleep(2)
        assert cumulative == honest, told
        # Once: every standing batch is another day or a correction of it, and no money was sent twice.
        rows = command("coordinator", "status", str(made.config))
        assert len(folders) == len(rows)
        assert made.contracts.bond()[1] == 10**17
        assert command("db", "check", "--database", made.database)["sound"]
        assert made.stop() == 0
        made.process = None
