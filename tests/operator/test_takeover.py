"""Two coordinators of one community as processes: one leads, the other stands by; killed, the leader is followed by the other one."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.operator.test_chaos import exported, honest_nano
from tests.support.anvil import running_anvil
from tests.support.broker import free_port
from tests.support.installation import Installation, command, installation
from tests.support.oracle import PROCESS_SECONDS, PROGRAM
from tests.support.postgres import Cluster

pytestmark = pytest.mark.xdist_group("installation")
DAYS = 1


@dataclass
class Coordinator:
    """One process with a configuration that differs in its port only."""

    made: Installation
    name: str
    port: int
    process: subprocess.Popen[bytes]

    def configure(self) -> None:
        """As the installation's configuration is now."""
        write(self.made, self.name, self.port)

    @property
    def log(self) -> str:
        return (self.made.folder / f"{self.name}.log").read_text()

    def states(self) -> list[str]:
        """Which states it has brought about, in order."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line["state"] for line in lines if line.get("event") == "period moved"]

    def leads(self) -> bool | None:
        """What it says of itself; None while it does not answer."""
        try:
            text = requests.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        except requests.RequestException:
            return None
        for line in text.splitlines():
            if line.startswith(f'peerwatt_coordinator_leader{{community="{self.made.name}"}}'):
                return float(line.split()[-1]) == 1
        return None


def write(made: Installation, name: str, port: int) -> Path:
    path = made.folder / f"{name}.json"
    new = made.folder / f"{name}.new"
    new.write_text(json.dumps(json.loads(made.config.read_text()) | {"port": port}))
    return new.replace(path)


@contextmanager
def running(made: Installation, name: str) -> Iterator[Coordinator]:
    port = free_port()
    config = write(made, name, port)
    with (made.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*PROGRAM, "coordinator", "run", str(config)], stdout=log, stderr=log
        )
    try:
        yield Coordinator(made, name, port, process)
    finally:
        process.kill()
        process.wait()


def until(what: Callable[[], bool], *coordinators: Coordinator) -> None:
    deadline = time.monotonic() + PROCESS_SECONDS
    while not what():
        assert time.monotonic() < deadline, [item.log[-3000:] for item in coordinators]
        time.sleep(0.05)


def test_the_other_one_settles_what_a_killed_leader_began(tmp_path: Path, cluster: Cluster) -> None:
    with (
        running_anvil() as chain,
        installation(tmp_path, chain, cluster.create("takeover"), DAYS) as made,
    ):
        for period in made.periods:
            made.publish_day(period)
            made.send_day(made.signers[0], period)
        # Nothing is due before both are there.
        made.write_config(settle_after_minutes=14 * 1440)
        with running(made, "one") as one, running(made, "other") as other:
            until(lambda: {one.leads(), other.leads()} == {True, False}, one, other)
            first, second = (one, other) if one.leads() else (other, one)
            made.write_config()
            first.configure()
            second.configure()
            until(lambda: "submitting" in first.states(), first, second)
            first.process.kill()
            first.process.wait()
            assert "stated" not in first.states()
            assert second.states() == []
            until(lambda: second.leads() is True, second)
            made.port = second.port
            made.wait_until_stated(DAYS, days=DAYS)
            # It went on where the other one was: nothing was begun twice, and what came of it is the honest result.
            assert second.states().count("stated") >= DAYS
            folders, cumulative = exported(made, tmp_path / "bundles")
            assert cumulative == honest_nano(made)
            assert len(folders) == len(command("coordinator", "status", str(made.config)))
            assert command("db", "check", "--database", made.database)["sound"]
            # Back again, the former leader stands by, until the present one is stopped in order.
            with running(made, first.name) as again:
                until(lambda: again.leads() is False, again)
                second.process.terminate()
                assert second.process.wait(60) == 0
                until(lambda: again.leads() is True, again)
