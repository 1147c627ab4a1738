"""A site from the folder that `peerwatt demo` wrote: its chain executed again, its keys made again, its clock its own."""

from __future__ import annotations

import datetime
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from hexbytes import HexBytes
from sqlmodel import Session, col, select
from web3 import Web3

from backend.chain.client import replay
from backend.chain.networks import embedded_network
from backend.demo.community import CURRENCY, DemoCommunity, Participant, build_community
from backend.domain.community import Member
from backend.domain.errors import MalformedInput
from backend.domain.intervals import EPOCH_DATE, Period, local_day
from backend.domain.readings import Quality, RegisterReading, SignedReading
from backend.domain.values import Value, parse_json
from backend.ledger.database import opened
from backend.ledger.store import LedgerStore
from backend.ledger.tables import ReadingRow
from backend.operator.books import CommunityBooks
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.preparation import Preparer
from backend.settlement.encoding import genesis_hash
from contracts.bindings import CommunityContracts
from oracle.config import read_bytes

from .bundles import Bundles
from .live import LivePlayer, make_player
from .site import ParticipantFacts, Site

DEMO_NAME = "demo"
DEMO_TITLE = "SimBench 1-LV-rural3"
TIME_ZONE = "UTC"
INTERVAL_MINUTES = 15
DAY_SECONDS = 86_400
# With the sender's margin below what one transaction may have.
_GAS = 14_000_000


class DemoFile(Value):
    """The file `peerwatt/demo/1`: what a run was asked for."""

    format: Literal["peerwatt/demo/1"] = "peerwatt/demo/1"
    members: int
    days: int
    first_day: datetime.date
    seed: int


@dataclass(frozen=True)
class DemoWallet:
    """A wallet whose key everybody knows.

    Attributes:
        role: `member`, `coordinator`, `dso`, `auditor` or `administrator`.
        name: for people.
    """

    role: str
    name: str
    key: LocalAccount


@dataclass(frozen=True)
class DemoRules:
    """What holds in the demonstration (`periods.CommunityRules`)."""

    community: DemoCommunity
    made: Preparer

    def period(self, number: int) -> Period:
        """The day.

        Raises:
            MalformedInput: no such day.
        """
        try:
            return local_day(EPOCH_DATE + datetime.timedelta(days=number))
        except (ValueError, OverflowError) as error:
            raise MalformedInput(
                "period", number, str(error), "give days since 1970-01-01"
            ) from None

    def preparer(self, number: int) -> Preparer:
        """The tariff never changes."""
        return self.made

    def members(self, number: int) -> tuple[Member, ...]:
        """Nor do the members."""
        return self.community.members


@dataclass
class DemoClock:
    """Time in the demonstration: the day after its last, played at a pace.

    Args:
        starts: what it shows first, seconds since the Unix epoch.
        pace: how many seconds pass in one.
    """

    starts: float
    pace: float = 60.0

    def __post_init__(self) -> None:
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self.starts + (time.monotonic() - self._began) * self.pace


@dataclass
class Demo:
    """What only a demonstration has.

    Attributes:
        file: what the run was asked for.
        community: everybody with their keys.
        clock: its time.
        books: reads the chain.
        journal: the transactions that made the chain, new ones included.
    """

    file: DemoFile
    folder: Path
    community: DemoCommunity
    clock: DemoClock
    books: CommunityBooks
    journal: list[dict[str, Any]]
    player: LivePlayer = field(init=False)

    @property
    def wallets(self) -> tuple[DemoWallet, ...]:
        """Wallets to try everything out with."""
        found = [
            DemoWallet("member", item.member.name, item.wallet)
            for item in self.community.participants
        ]
        roles = ("coordinator", "dso", "auditor", "administrator")
        return (*found, *(DemoWallet(role, role, self.community.account(role)) for role in roles))


def demo_file(folder: Path) -> DemoFile:
    """What a run was asked for.

    Raises:
        MalformedInput: the folder is not what `peerwatt demo` writes.
    """
    path = folder / "demo.json"
    if not path.exists() or not (folder / "chain.json").exists():
        raise MalformedInput(
            "folder",
            str(folder),
            "has no community with an embedded chain",
            "run `peerwatt demo` again, without --chain",
        )
    return DemoFile.from_data(parse_json(read_bytes(path), path))


def open_demo_site(
    folder: Path,
    *,
    pace: float = 60.0,
    solver: str = "auto",
    live: bool = True,
    web3: Web3 | None = None,
) -> Site:
    """The site of a demonstration. It works on a copy, below `live` in the folder, and begins anew every time.

    Args:
        folder: that `peerwatt demo` wrote.
        pace: how many seconds of the demonstration pass in one.
        solver: of the clearing.
        live: whether time goes on by itself; without, `site.demo.player.step` lets it.
        web3: the chain the run was on, if it is still there; otherwise it is executed again.

    Raises:
        MalformedInput: the folder is not what `peerwatt demo` writes.
    """
    file = demo_file(folder)
    community = build_community(file.members, file.seed)
    book = parse_json(read_bytes(folder / "address-book.json"), folder / "address-book.json")
    journal = parse_json(read_bytes(folder / "chain.json"), folder / "chain.json")
    if web3 is None:
        web3 = replay(journal)
    one_at_a_time(web3, journal)
    contracts = CommunityContracts(web3, book["contracts"])
    chain_id = web3.eth.chain_id
    house = contracts.addresses["ClearingHouse"]
    founded = contracts.parameters()
    genesis = genesis_hash(chain_id, house, founded.first_period, founded.first_interval)
    preparer = Preparer(
        community.tariff, chain_id, house, genesis, community.key("coordinator salts"), solver
    )
    last = file.first_day + datetime.timedelta(days=file.days)
    clock = DemoClock((last - EPOCH_DATE).days * DAY_SECONDS, pace)
    ledger, store = _anew(folder)
    facts = tuple(_facts(item, founded.first_period) for item in community.participants)
    network = embedded_network(chain_id)
    books = CommunityBooks(web3, network, contracts, ledger.engine, store.leaves)
    site = Site(
        name=DEMO_NAME,
        title=DEMO_TITLE,
        currency=CURRENCY,
        time_zone=TIME_ZONE,
        interval_minutes=INTERVAL_MINUTES,
        web3=web3,
        chain_id=chain_id,
        contracts=contracts,
        ledger=ledger,
        bundles=Bundles(store),
        rules=DemoRules(community, preparer),
        participants=lambda: facts,
        now=clock.now,
        demo=Demo(file, folder, community, clock, books, journal),
    )
    site.demo.player = make_player(site, _last_readings(folder), network)
    site.failures = lambda: site.demo.player.failures
    site.actions = site.demo.player
    site.demo.player.step()
    if live:
        site.demo.player.start()
    return site


def _anew(folder: Path) -> tuple[LedgerStore, BundleStore]:
    """A ledger that is still empty, since the chain executed again has other block times; and the run's bundles, copied."""
    target = folder / "live"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    objects = FolderStore(target / "bundles")
    for path in sorted((folder / "bundles").rglob("*.json")):
        kind = "public" if path.name == "public.json" else "personal"
        data = path.read_bytes()
        objects.put(f"{kind}/{keccak(data).hex()}.json", data)
    return LedgerStore(f"sqlite:///{target / 'ledger.sqlite'}"), BundleStore(objects)


def _facts(item: Participant, first_period: int) -> ParticipantFacts:
    return ParticipantFacts(
        slot=item.member.slot,
        name=item.member.name,
        account=item.member.account,
        meter=item.member.meter,
        node=item.member.node,
        tariff_class=item.member.tariff_class,
        generation_peak_w=item.household.pv_peak_w,
        heat_pump=item.household.has_heat_pump,
        ev=item.household.has_ev,
        from_period=first_period,
    )


def _last_readings(folder: Path) -> dict[str, SignedReading]:
    """The newest reading of every meter, from the run's ledger."""
    with (
        opened(f"sqlite:///{folder / 'ledger.sqlite'}") as engine,
        Session(engine) as session,
    ):
        rows = session.exec(
            select(ReadingRow)
            .where(ReadingRow.rejected_because == "")
            .order_by(col(ReadingRow.interval))
        ).all()
    return {
        row.meter: SignedReading(
            RegisterReading(
                row.meter,
                row.interval,
                row.import_register_wh,
                row.export_register_wh,
                row.sequence,
                Quality(row.quality),
            ),
            row.signature,
        )
        for row in rows
    }


def one_at_a_time(web3: Web3, journal: list[dict[str, Any]]) -> None:
    """Lets one thread at a time ask the embedded chain, which knows no threads, and writes down what changes it."""
    provider: Any = web3.provider
    ask = provider.make_request
    guard = threading.RLock()

    def make_request(method: Any, params: Any) -> Any:
        with guard:
            if method == "eth_estimateGas":
                # The embedded chain executes a transaction twenty times over to find out; once shows whether it reverts.
                found = ask("eth_call", [{**params[0], "gas": _GAS}, "latest"])
                return found if "error" in found else {**found, "result": _GAS}
            found = ask(method, params)
            if method == "eth_sendRawTransaction" and "error" not in found:
                journal.append({"kind": "raw", "transaction": HexBytes(params[0]).to_0x_hex()})
            return found

    def advance(seconds: int) -> None:
        with guard:
            head = ask("eth_getBlockByNumber", ["latest", False])["result"]["timestamp"]
            provider.ethereum_tester.time_travel(int(head) + seconds)
            journal.append({"kind": "advance", "seconds": seconds})

    provider.make_request = make_request
    # Made before, it would go around.
    provider._request_func_cache = (None, None)
    provider.advance = advance
