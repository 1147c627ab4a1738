"""A small demonstration, run once, and the web application on it; its clock stands until a test moves it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backend.api.client import ApiClient
from backend.api.demo import open_demo_site
from backend.api.settings import WebSettings
from backend.api.site import Site
from backend.chain.client import ChainClient
from backend.demo.community import DEFAULT_DAY, build_community
from backend.demo.day import (
    OUTPUT_FILES,
    Demonstration,
    DemoOptions,
    DemoRun,
    Progress,
    clear_output,
)
from backend.demo.summary import day_summary
from backend.domain.intervals import Period, local_day
from backend.ledger.store import LedgerStore
from backend.web_commands import application
from contracts.bindings import FoundingParameters

ORIGIN = "http://testserver"
MEMBERS = 12
_CENTURY_SECONDS = 100 * 366 * 86_400


class LastingDemonstration(Demonstration):
    """The chain's clock is ours and the data's days are long ago: here they can be corrected all the same."""

    def _parameters(self, first_period: Period) -> FoundingParameters:
        return replace(super()._parameters(first_period), correction_seconds=_CENTURY_SECONDS)


@dataclass
class DemoWorld:
    """Everything of one demonstration.

    Attributes:
        day: what the run said of itself (`peerwatt/day/1`), made without the API.
    """

    folder: Path
    site: Site
    app: FastAPI
    run: DemoRun
    day: dict[str, Any]
    first: int
    clients: dict[str, TestClient] = field(default_factory=dict)

    def wallet(self, role: str, index: int = 0) -> LocalAccount:
        """A demo wallet of a role; `stranger` is nobody's."""
        if role == "stranger":
            found: LocalAccount = Account.from_key(b"\x77" * 32)
            return found
        return [item.key for item in self.site.demo.wallets if item.role == role][index]

    def anybody(self) -> TestClient:
        """A browser that has not signed in."""
        return TestClient(self.app, base_url=ORIGIN)

    def signed_in(self, role: str, index: int = 0) -> TestClient:
        """A browser that has; the same one each time."""
        name = f"{role} {index}"
        if name not in self.clients:
            browser = self.anybody()
            ApiClient(ORIGIN, "demo", browser).sign_in(self.wallet(role, index))
            self.clients[name] = browser
        return self.clients[name]

    def client(self, role: str, index: int = 0) -> ApiClient:
        """A program that has signed in."""
        made = ApiClient(ORIGIN, "demo", TestClient(self.app, base_url=ORIGIN))
        made.sign_in(self.wallet(role, index))
        return made

    @property
    def hours(self) -> float:
        """How many hours ago its first day ended."""
        return (self.site.now() - (self.first + 1) * 86_400) / 3600

    def until(self, hours: float) -> None:
        """Lets the demonstration go on to so many hours after the end of its first day; never back."""
        target = self.first * 86_400 + 86_400 + hours * 3600
        clock = self.site.demo.clock
        clock.starts = max(clock.starts, target)
        assert self.site.demo.player.step() == []


@contextmanager
def demo_world(folder: Path, members: int = MEMBERS) -> Iterator[DemoWorld]:
    """Runs the demonstration and opens the site on the chain it left, without executing that again."""
    options = DemoOptions(members, 1, DEFAULT_DAY, 0, None, "auto", folder)
    clear_output(folder, OUTPUT_FILES)
    client = ChainClient.open(None)
    store = LedgerStore(f"sqlite:///{folder / 'ledger.sqlite'}")
    try:
        community = build_community(members, 0)
        run = LastingDemonstration(options, community, client, store, Progress()).run(
            [local_day(DEFAULT_DAY)]
        )
    finally:
        store.close()
    day = day_summary(run)
    (folder / "day.json").write_text(json.dumps(day))
    # A second of the clock is a microsecond of the demonstration: it stands, but for rounding.
    site = open_demo_site(folder, pace=1e-6, live=False, web3=client.web3)
    app = application(
        {site.name: site},
        WebSettings(origin=ORIGIN, requests_per_minute=100_000, sign_ins_per_minute=10_000),
    )
    try:
        yield DemoWorld(folder, site, app, run, day, day["periods"][0]["number"])
    finally:
        site.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_world(folder: Path) -> Iterator[DemoWorld]:
    """A community of 12 on its embedded chain: one day settled, the next one half over."""
    with demo_world(folder) as found:
        found.until(13)
        yield found


def wait_for(check: Any, seconds: float = 20) -> Any:
    """Asks until there is something."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
