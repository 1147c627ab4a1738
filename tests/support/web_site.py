"""API and portal of a small demonstration, served to a real browser; its coordinator lies where a test wants it to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from backend.api.live import LiveMeters
from backend.api.rpc import catch_up
from backend.api.settings import WebSettings
from backend.api.site import Site
from backend.domain.intervals import Period
from backend.domain.readings import SignedReading
from backend.market.pool import ClearedInterval
from backend.operator.preparation import Preparation, Preparer
from backend.settlement.batch import Batch, shift_money
from backend.web_commands import application
from oracle.assembly import AssembledReport
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
class LateMeters(LiveMeters):
    """Meters of which some readings come in late; the signers correct a day when they are there."""

    withheld: dict[str, range] = field(default_factory=dict)
    came: bool = False

    def day(self, number: int) -> dict[str, list[SignedReading]]:
        """See `LiveMeters`, without what is late."""
        return {
            meter: [item for item in items if item.reading.interval not in self.late(meter)]
            for meter, items in super().day(number).items()
        }

    def late(self, meter: str) -> range:
        """The intervals that have not come in."""
        return range(0) if self.came else self.withheld.get(meter, range(0))

    def readings_digest(self, number: int) -> str | None:
        """See `ReportSource`."""
        found = super().readings_digest(number)
        return f"{found}, the late ones too" if found and self.came else found

    def report(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        """See `ReportSource`."""
        day = self.site.rules.period(number)
        of_day = range(day.first_interval, day.end_interval)
        corrected = any(late.start in of_day for late in self.withheld.values())
        if version == 1 and self.came and corrected:
            return self.confirmed(number, version, members)
        return super().report(number, version, members)


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

    def late_day(self, slot: int, hours: range) -> int:
        """Lets a day pass of which a member's readings are not all there; returns the batch's number.

        Args:
            slot: whose.
            hours: of the day, of which nothing comes in.
        """
        member = next(item for item in self.site.rules.members(0) if item.slot == slot)
        running = self.site.running_period()
        steps = running.interval_count // 24
        first = running.first_interval
        meters = self._late_meters()
        meters.came = False
        meters.withheld[member.meter] = range(
            first + steps * hours.start, first + steps * hours.stop
        )
        return self.next_day()

    def rest_comes_in(self) -> int:
        """Lets the late readings come in, and the day be corrected; returns the correction's number."""
        self._late_meters().came = True
        player, clock = self.site.demo.player, self.site.demo.clock
        head = self.site.batches()[-1].number
        # Only a final day is corrected.
        clock.starts += DAY_SECONDS + HOUR_SECONDS
        for _ in range(MOVES):
            assert not player.step(), player.failures
            self.site.changed()
            found = [item for item in self.site.batches() if item.number > head]
            corrections = [item.number for item in found if item.header.version]
            if corrections:
                return corrections[0]
        raise AssertionError("no correction")

    def _late_meters(self) -> LateMeters:
        player = self.site.demo.player
        if not isinstance(player.meters, LateMeters):
            given = player.meters
            late = LateMeters(
                given.community, given.contracts, given.chain_id, given.last, given.site
            )
            late._days = given._days
            player.meters = player.cycle.oracle = player.previewer.oracle = late
        return player.meters

    def demand(self, slot: int, number: int) -> None:
        """A member demands on chain to see its account; nobody has answered yet."""
        batch = self.site.batch(number)
        key = next(
            item.wallet
            for item in self.site.demo.community.participants
            if item.member.slot == slot
        )
        call = self.site.contracts.demand_data(batch.header, slot)
        web3 = self.site.web3
        signed = key.sign_transaction(
            call.build_transaction(
                {
                    "from": key.address,
                    "value": self.site.parameters.demand_bond_wei,
                    "nonce": web3.eth.get_transaction_count(key.address),
                    "gas": 500_000,
                    "maxFeePerGas": 10**10,
                    "maxPriorityFeePerGas": 0,
                }
            )
        )
        web3.eth.send_raw_transaction(signed.raw_transaction)
        catch_up(self.site)
        self.site.changed()


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
