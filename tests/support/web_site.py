"""API and portal of a small demonstration, served to a real browser; its coordinator lies where a test wants it to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from backend.api.settings import WebSettings
from backend.api.site import Site
from backend.domain.intervals import Period
from backend.market.pool import ClearedInterval
from backend.operator.preparation import Preparation, Preparer
from backend.settlement.batch import Batch, shift_money
from backend.web_commands import application
from tests.support.demo_site import demo_world

MEMBERS = 5
DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600
# More than a period takes from its report to the chain.
MOVES = 12


class LyingPreparer(Preparer):
    """Bills one member too much, and credits it to the outside supplier."""

    victim = 0
    amount_nano = 0

    def pack(
        self, period: Period, batch: Batch, cleared: tuple[ClearedInterval, ...]
    ) -> Preparation:
        """See `Preparer`."""
        lie = shift_money(batch, self.victim, 0, self.amount_nano)
        return super().pack(period, lie, cleared)


@dataclass
class ServedSite:
    """A site under its address."""

    url: str
    site: Site

    def next_day(self, victim: int = 0, amount_nano: int = 0) -> int:
        """Lets a day pass and be submitted; returns the batch's number.

        Args:
            victim: slot that the coordinator bills too much; without, it is honest.
            amount_nano: how much too much.
        """
        player = self.site.demo.player
        rules = self.site.rules
        if victim:
            honest = rules.preparer(0)
            lying = LyingPreparer(
                honest.tariff,
                honest.chain_id,
                honest.clearing_house,
                honest.genesis,
                honest.salt_key,
                "auto",
            )
            lying.victim, lying.amount_nano = victim, amount_nano
            player.cycle.rules = replace(rules, made=lying)
        head = self.site.batches()[-1].number
        self.site.demo.clock.starts += DAY_SECONDS + HOUR_SECONDS
        for _ in range(MOVES):
            assert not player.step(), player.failures
            self.site.changed()
            if self.site.batches()[-1].number > head:
                break
        player.cycle.rules = rules
        assert self.site.batches()[-1].number == head + 1
        return head + 1


@contextmanager
def served_app(app: FastAPI, listening: socket.socket) -> Iterator[None]:
    """The application, answering on a socket."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def served_demo(folder: Path) -> Iterator[ServedSite]:
    """The smallest demonstration that shows everything, under an address; it stands still until a test lets time pass."""
    with demo_world(folder, MEMBERS) as world, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        # Tests are faster than people.
        settings = WebSettings(origin=url, requests_per_minute=100_000, sign_ins_per_minute=1000)
        with served_app(application({world.site.name: world.site}, settings), listening):
            yield ServedSite(url, world.site)
