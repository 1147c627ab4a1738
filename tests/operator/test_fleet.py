"""The same pure functions on workers that die."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from backend.bench.scale import settle
from backend.operator.fleet import spread

pytestmark = pytest.mark.filterwarnings("ignore:Port .* is already in use:UserWarning")
TASKS = 40
MEMBERS = 4


def batch_of(community: int) -> tuple[int, bytes]:
    return community, settle(community, MEMBERS).batch.header.hash()


def test_a_killed_worker_loses_nothing() -> None:
    killed: list[int] = []

    def watch(cluster: Any) -> None:
        def kill() -> None:
            time.sleep(1)
            pid = next(iter(cluster.workers.values())).pid
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

        threading.Thread(target=kill, daemon=True).start()

    found = []
    for item in spread(batch_of, range(TASKS), workers=2, batch_size=2, cluster=watch):
        found.append(item)
        if not killed:
            time.sleep(0.2)
    assert killed
    # Each once, and the same as without workers.
    assert sorted(found) == [batch_of(community) for community in range(TASKS)]
