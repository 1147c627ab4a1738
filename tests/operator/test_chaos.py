"""Real processes, and everything taken away from under them: node reorganised, PostgreSQL and Mosquitto stopped and started, coordinator
and signers killed at random; afterwards the honest result, once.

`PEERWATT_CHAOS_ROUNDS` (6) disturbances, chosen by `PEERWATT_CHAOS_SEED` (0).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from pathlib import Path

import pytest
from web3 import HTTPProvider, Web3

from backend.domain.readings import IntervalReading, Quality
from backend.market.pool import Pool
from backend.market.problem import build_market
from backend.settlement.batch import interval_steps
from backend.settlement.statement import statement_amount_nano
from deploy.founding import load_founding
from tests.support import postgres
from tests.support.anvil import ask, running_anvil
from tests.support.installation import Installation, command, installation
from tests.support.oracle import SLOTS, registers_wh

pytestmark = pytest.mark.xdist_group("installation")
ROUNDS = int(os.environ.get("PEERWATT_CHAOS_ROUNDS", "6"))
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


def test_the_honest_result_is_reached(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with (
        postgres.cluster() as cluster,
        running_anvil() as chain,
        installation(tmp_path, chain, cluster.create("chaos"), DAYS) as made,
    ):
        web3 = Web3(HTTPProvider(chain))

        def kill_coordinator() -> None:
            made.kill()
            made.start()

        def kill_signer() -> None:
            signer = chance.choice(made.signers)
            signer.kill()
            time.sleep(chance.random() * 2)
            signer.start()

        def stop_database() -> None:
            cluster.kill()
            time.sleep(chance.random() * 3)
            cluster.start()

        def stop_broker() -> None:
            made.broker.stop()
            time.sleep(chance.random() * 2)
            made.broker.start()

        def reorganise() -> None:
            # As deep as is not final.
            ask(web3, "anvil_reorg", chance.choice((1, 2)), [])

        disturbances = [kill_coordinator, kill_signer, stop_database, stop_broker, reorganise]
        made.start()
        for index, period in enumerate(made.periods):
            made.publish_day(period)
            # Each day reaches one signer only; the others get it from there.
            made.send_day(made.signers[index % 3], period)
        told = []
        for number in range(ROUNDS):
            # Each kind once before any comes again.
            disturb = disturbances[number] if number < 5 else chance.choice(disturbances)
            told.append(disturb.__name__)
            disturb()
            time.sleep(chance.random() * 4)
        for signer in made.signers:
            signer.wait()
        # A day settled before all of its readings had reached the signers is corrected when they have.
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
