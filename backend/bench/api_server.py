"""The server that `peerwatt bench api` measures: real application, sessions and tables; the chain has founders and no members.

As in an installation another process, the coordinator, writes what an interval came to.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from fastapi import APIRouter

from backend.api.app import web_app
from backend.api.bundles import Bundles
from backend.api.roles import ChainRoles, Rights, Role
from backend.api.serving import serve_app
from backend.api.sessions import Session, WebState, session_key
from backend.api.settings import WebSettings
from backend.api.site import ParticipantFacts, Site
from backend.chain.client import ChainClient, account_from_secret
from backend.demo.community import build_community, secret
from backend.domain.community import FIRST_MEMBER_SLOT, Member
from backend.domain.intervals import EPOCH_DATE, Period, local_day
from backend.ledger.cycle import CycleStore
from backend.ledger.store import LedgerStore
from backend.ledger.tables import PreviewReadingRow, PreviewRow, PreviewTradeRow
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.preparation import Preparer
from contracts.bindings import OracleConfig
from deploy.community import DeploymentSettings, deploy_community, founding_parameters

_DAY = local_day(EPOCH_DATE.replace(year=2026, month=6, day=29))
_FIRST_INTERVALS = 48
_ETHER = 10**18


@dataclass
class BenchRules:
    """One tariff, and members spread over its groups."""

    preparer_: Preparer
    members_: tuple[Member, ...]

    def period(self, number: int) -> Period:
        """The day."""
        return local_day(EPOCH_DATE + timedelta(days=number))

    def preparer(self, number: int) -> Preparer:
        """The tariff never changes."""
        return self.preparer_

    def members(self, number: int) -> tuple[Member, ...]:
        """Nor do the members."""
        return self.members_


class KnownRoles(ChainRoles):
    """Rights as `ChainRoles` keeps them between two questions; admitting a thousand members takes the embedded chain minutes.

    Args:
        site: the community.
        rights: by address.
    """

    def __init__(self, site: Site, rights: dict[str, Rights]) -> None:
        super().__init__(site)
        self.rights = rights

    def known(self, address: str) -> Rights | None:
        """See `ChainRoles`."""
        return self.rights.get(address)

    def of(self, address: str) -> Rights:
        """See `ChainRoles`."""
        return self.rights[address]


def previewed(
    interval: int, slots: Sequence[int], random: np.random.Generator
) -> tuple[PreviewRow, list[PreviewReadingRow], list[PreviewTradeRow]]:
    """An interval of the running day: half of the members sell to the other half."""
    energy = random.integers(0, 900, len(slots))
    half = len(slots) // 2
    readings = [
        PreviewReadingRow(
            interval=interval,
            slot=slot,
            import_wh=int(energy[index]) if index >= half else 0,
            export_wh=int(energy[index]) if index < half else 0,
            quality=0,
        )
        for index, slot in enumerate(slots)
    ]
    trades = [
        PreviewTradeRow(
            interval=interval,
            seller_slot=slots[index],
            buyer_slot=slots[half + index],
            energy_wh=int(min(energy[index], energy[half + index])),
            fee_nano=30_000 * int(min(energy[index], energy[half + index])),
        )
        for index in range(half)
    ]
    row = PreviewRow(
        interval=interval,
        period=_DAY.number,
        cleared_at=int(time.time()),
        missing=0,
        demand_wh=int(energy[half:].sum()),
        supply_wh=int(energy[:half].sum()),
        traded_wh=sum(trade.energy_wh for trade in trades),
        discount_nano_per_wh=40_000,
        premium_nano_per_wh=50_000,
    )
    return row, readings, trades


def open_bench_site(folder: Path, count: int) -> Site:
    """A community of `count` members with half a day of previews."""
    demo = build_community(20, 0)
    client = ChainClient.open(None)
    deployer = demo.account("deployer")
    client.fund([deployer.address], 20 * _ETHER)
    founding = founding_parameters(
        _DAY, challenge_seconds=86_400, bond_wei=_ETHER // 10, demand_bond_wei=_ETHER // 1000
    )
    oracle = OracleConfig(1, (deployer.address,))
    settings = DeploymentSettings(
        founding,
        oracle,
        10**10,
        6,
        coordinator=demo.account("coordinator").address,
        supplier=demo.account("supplier").address,
        dso=demo.account("dso").address,
        fund=demo.account("fund").address,
    )
    contracts = deploy_community(client, deployer, settings).contracts
    groups = demo.tariff.group_keys
    members = tuple(
        Member(
            FIRST_MEMBER_SLOT + index,
            f"house-{index}",
            account_from_secret(secret(1, "bench", index)).address,
            f"0x{index + 1:040x}",
            *groups[index % len(groups)],
            10_000,
        )
        for index in range(count)
    )
    house = contracts.addresses["ClearingHouse"]
    preparer = Preparer(demo.tariff, client.chain_id, house, bytes(32), bytes(32), "sweep")
    facts = tuple(
        ParticipantFacts(
            item.slot, item.name, item.account, item.meter, item.node, item.tariff_class
        )
        for item in members
    )
    site = Site(
        name="bench", title="bench", currency="EUR", time_zone="UTC", interval_minutes=15,
        web3=client.web3, chain_id=client.chain_id, contracts=contracts,
        ledger=LedgerStore(f"sqlite:///{folder / 'ledger.sqlite'}"),
        bundles=Bundles(BundleStore(FolderStore(folder / "bundles"))),
        rules=BenchRules(preparer, members), participants=lambda: facts,
        now=lambda: _DAY.first_interval * 900 + _FIRST_INTERVALS * 900 + 60,
    )  # fmt: skip
    slots = [item.slot for item in members]
    random = np.random.default_rng(0)
    for index in range(_FIRST_INTERVALS):
        keep(site.cycle, index, slots, random)
    return site


def keep(store: CycleStore, index: int, slots: Sequence[int], random: np.random.Generator) -> None:
    """Stores an interval, as the previewer does."""
    row, readings, trades = previewed(_DAY.first_interval + index, slots, random)
    store.replace_previews(_DAY.number, [row], readings, trades)


def coordinate(folder: Path, count: int) -> None:
    """Stores the interval that is over next, for every line that comes in."""
    ledger = LedgerStore(f"sqlite:///{folder / 'ledger.sqlite'}")
    slots = range(FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + count)
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        keep(CycleStore(ledger.engine), _FIRST_INTERVALS + number, slots, np.random.default_rng(1))


def signed_in(
    state: WebState, site: Site, members: tuple[Member, ...]
) -> Iterator[tuple[int, str]]:
    """A session for every member; signing in itself is not what is measured."""
    now = state.sessions.clock()
    for member in members:
        name = f"bench-{member.slot}"
        session = Session(session_key(name), member.account, site.chain_id, now, now)
        state.sessions.put(session)
        yield member.slot, name


def serve(folder: Path, count: int, port: int) -> None:
    """Serves until it is ended."""
    site = open_bench_site(folder, count)
    members = tuple(site.rules.members(_DAY.number))
    router = APIRouter()

    @router.get("/bench/empty")
    def empty() -> dict[str, str]:
        return {}

    limit = 1_000_000
    settings = WebSettings(f"http://127.0.0.1:{port}", requests_per_minute=limit)
    app = web_app({"bench": site}, settings, [router])
    state: WebState = app.state.web
    rights = {item.account: Rights((item.slot,), frozenset({Role.MEMBER})) for item in members}
    state.roles = {"bench": KnownRoles(site, rights)}
    tokens = list(signed_in(state, site, members))
    (folder / "tokens.json").write_text(json.dumps(tokens))
    serve_app(app, "127.0.0.1", port)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        coordinate(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
