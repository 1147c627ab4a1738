"""A whole installation of real processes: node, database, broker, three oracle signers, coordinator; founded with the commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from typer.testing import CliRunner
from web3 import HTTPProvider, Web3

from backend.chain.client import ChainClient
from backend.cli import app
from backend.domain.community import SUPPLIER_SLOT
from backend.domain.intervals import Period, local_day
from backend.domain.readings import RegisterReading
from backend.settlement.encoding import domain_separator, membership_hash, typed_data_digest
from contracts.bindings import CommunityContracts
from deploy.founding import load_founding
from oracle.collector import meter_address
from oracle.signing import address_of, sign_reading
from oracle.wire import pack
from tests.support.anvil import ask
from tests.support.broker import Broker, free_port
from tests.support.community import account, secret
from tests.support.oracle import (
    PASSWORD,
    PROCESS_SECONDS,
    PROGRAM,
    SLOTS,
    TOKEN,
    WITH_CLOCK,
    Signer,
    key,
    registers_wh,
    signer_addresses,
    write_keystore,
)

CHALLENGE_SECONDS = 4
# Its meter cannot sign and publishes on the broker.
SILENT_SLOT = 6
DEVICE = "house-6"
SILENT_METER = "0x" + meter_address("broker", DEVICE).hex()
TARIFF: dict[str, Any] = {
    "share_millionths": 500_000,
    "network": {"nodes": [{"id": "a", "access_fee_nano_per_wh": 10_000}], "edges": []},
    "tariff_classes": [
        {
            "id": "household",
            "import_price_nano_per_wh": 300_000,
            "export_price_nano_per_wh": 60_000,
        }
    ],
    "groups": [["a", "household"]],
}


def meter_of(slot: int) -> str:
    return SILENT_METER if slot == SILENT_SLOT else address_of(key("meter", slot))


def command(*arguments: str, code: int | None = 0) -> Any:
    """What a command says with --json; run here, since to start Python and load everything takes seconds each time."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert code is None or done.exit_code == code, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


@dataclass
class Installation:
    """Folder and processes.

    Attributes:
        folder: of everything.
        chain_url: a running anvil.
        database: URL of an empty database.
        days: so many past days are settled; the first is so many days ago.
        name: of the community.
        interval_minutes: 5 or 15.
        trades: whether members trade before delivery.
        sunny: slots whose meters that sign show thirty times the export.
    """

    folder: Path
    chain_url: str
    database: str
    broker: Broker
    days: int
    name: str = "valley"
    interval_minutes: Literal[5, 15] = 15
    trades: bool = False
    sunny: Sequence[int] = ()
    signers: list[Signer] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def periods(self) -> list[Period]:
        last = datetime.now(UTC).date()
        return [
            local_day(last - timedelta(days=self.days - index), "UTC", self.interval_minutes)
            for index in range(self.days)
        ]

    @property
    def web3(self) -> Web3:
        return Web3(HTTPProvider(self.chain_url))

    @property
    def config(self) -> Path:
        return self.folder / "coordinator.json"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def coordinator(self) -> LocalAccount:
        return account(f"coordinator of {self.name}")

    @property
    def contracts(self) -> CommunityContracts:
        book = json.loads((self.folder / "address-book.json").read_text())
        return CommunityContracts(self.web3, book["contracts"])

    @property
    def log(self) -> str:
        return (self.folder / "coordinator.log").read_text()

    # --- Founding ------------------------------------------------------------------------------------------------------------

    def found(self) -> None:
        """Deploys with `peerwatt deploy`, writes every configuration."""
        (self.folder / "bundles").mkdir(parents=True)
        deployer = account("installation deployer")
        client = ChainClient(self.web3, embedded=False)
        client.fund([deployer.address, self.coordinator.address], 100 * 10**18)
        for name, owner in (("deployer", deployer), ("coordinator", self.coordinator)):
            store = Account.encrypt(owner.key, PASSWORD, kdf="pbkdf2", iterations=1000)
            (self.folder / f"{name}.key.json").write_text(json.dumps(store))
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "salt").write_text(secret("installation salts").hex())
        (self.folder / "database").write_text(self.database)
        for path in self.folder.iterdir():
            if path.is_file():
                path.chmod(0o600)
        network = {
            "format": "peerwatt/network/1",
            "name": "local",
            "chain_id": client.chain_id,
            "rpc": [self.chain_url],
            "finality_depth": 2,
            "block_seconds": 1,
            "replace_after_seconds": 5,
        }
        (self.folder / "network.json").write_text(json.dumps(network))
        self.write_founding([])
        planned = self.deploy("--plan")["contracts"]
        domain = domain_separator(client.chain_id, planned["MemberRegistry"])
        self.write_founding([self._member(slot, domain) for slot in SLOTS])
        self.deploy()
        self._deposit(client)
        self.write_config()
        self._write_signers()

    def _deposit(self, client: ChainClient) -> None:
        """Money behind every member, and behind the supplier for sunny days."""
        contracts, payer = self.contracts, account("outsider")
        client.fund([payer.address], 10**18)
        tokens = 500_000_000
        calls = [contracts.mint(payer.address, 10 * tokens), contracts.approve(10 * tokens)]
        calls += [contracts.deposit(slot, tokens) for slot in SLOTS]
        calls += [
            contracts.deposit_guarantee(tokens),
            contracts.grant_credit(SUPPLIER_SLOT, tokens * 1000),
        ]
        for call in calls:
            client.send(call, payer)

    def deploy(self, *options: str, code: int = 0) -> Any:
        folder = self.folder
        return command(
            "deploy",
            str(folder / "founding.json"),
            *("--network", str(folder / "network.json")),
            *("--keystore", str(folder / "deployer.key.json")),
            *("--password-file", str(folder / "password")),
            *("--address-book", str(folder / "address-book.json")),
            *options,
            code=code,
        )

    def write_founding(self, members: Sequence[dict[str, Any]]) -> None:
        given = {
            "format": "peerwatt/founding/1",
            "first_day": self.periods[0].day.isoformat(),
            "interval_minutes": self.interval_minutes,
            "challenge_seconds": CHALLENGE_SECONDS,
            "bond_wei": 10**17,
            "demand_bond_wei": 10**15,
            "collateral_step_nano": 10**9,
            "coordinator": self.coordinator.address,
            "administrator": account("installation administrator").address,
            "supplier": account("supplier").address,
            "dso": account("dso").address,
            "fund": account("fund").address,
            "oracle": {"threshold": 2, "signers": signer_addresses()},
            "tariff": TARIFF,
            "members": list(members),
        }
        if self.trades:
            given["trade_book"] = {"gate_seconds": 60, "strike_seconds": 60, "bond_wei": 10**16}
        (self.folder / "founding.json").write_text(json.dumps(given))

    def _member(self, slot: int, domain: bytes) -> dict[str, Any]:
        given = load_founding(self.folder / "founding.json")
        wallet = account("wallet", slot)
        group = given.market.groups[0]
        struct = membership_hash(
            slot,
            wallet.address,
            given.first_period.number,
            group.node,
            group.tariff_class,
            given.collateral_steps,
        )
        signed = wallet.unsafe_sign_hash(typed_data_digest(domain, struct))  # type: ignore[arg-type]
        return {
            "account": wallet.address,
            "meter": meter_of(slot),
            "node": "a",
            "tariff_class": "household",
            "consent": "0x" + bytes(signed.signature).hex(),
        }

    def write_config(self, **changes: Any) -> None:
        """The coordinator's configuration."""
        if not self.signers:
            self.signers = [Signer(self.folder / f"signer-{n}", n) for n in range(3)]
        community = {
            "name": self.name,
            "interval_minutes": self.interval_minutes,
            "network": "network.json",
            "address_book": "address-book.json",
            "database_file": "database",
            "keystore": "coordinator.key.json",
            "password_file": "password",
            "salt_file": "salt",
            "signers": [{"url": item.url, "token_file": "token"} for item in self.signers],
            "settle_after_minutes": 0,
            "correction_check_minutes": 1,
            "preview_after_seconds": 0,
            "bundles": {"folder": "bundles"},
            "tariffs": [TARIFF],
            "members": [
                {
                    "slot": slot,
                    "name": f"member {slot}",
                    "account": account("wallet", slot).address,
                    "meter": meter_of(slot),
                    "node": "a",
                    "tariff_class": "household",
                    "fuse_limit_wh": 5000,
                }
                for slot in SLOTS
            ],
        }
        if self.trades:
            community["trades"] = {"close_before_seconds": 3600}
        data = {"port": self.port, "poll_seconds": 1, "communities": [community | changes]}
        self.config.write_text(json.dumps(data))

    def _write_signers(self) -> None:
        addresses = self.contracts.addresses
        meters = [
            {
                "meter": meter_of(slot),
                "signers": [
                    {"signer": address_of(key("collector")), "kind": "collector"}
                    if slot == SILENT_SLOT
                    else {"signer": meter_of(slot), "kind": "meter"}
                ],
            }
            for slot in SLOTS
        ]
        members = [
            {
                "slot": slot,
                "account": account("wallet", slot).address,
                "meter": meter_of(slot),
                "node": "a",
                "tariff_class": "household",
                "fuse_limit_wh": 5000,
            }
            for slot in SLOTS
        ]
        for signer in self.signers:
            peers = [{"url": other.url} for other in self.signers if other is not signer]
            collecting: dict[str, Any] = {}
            if signer.index == 0:
                collecting = {
                    "sources": [
                        {
                            "kind": "mqtt",
                            "name": "broker",
                            "host": "127.0.0.1",
                            "port": self.broker.port,
                            "subscriptions": [
                                {"topic": "tele/+/SENSOR", "payload": "tasmota", "time_zone": "UTC"}
                            ],
                        }
                    ],
                    "collector": {
                        "keystore": "collector.json",
                        "devices": [{"source": "broker", "device": DEVICE}],
                    },
                }
            signer.write(
                signer_addresses(),
                chain_id=self.web3.eth.chain_id,
                clearing_house=addresses["ClearingHouse"],
                oracle_contract=addresses["ReadingOracle"],
                network=TARIFF["network"],
                peers=peers,
                members=members,
                interval_minutes=self.interval_minutes,
                **collecting,
                **self._trade_books(),
            )
            write_keystore(signer.folder / "collector.json", key("collector"))
            (signer.folder / "meters.json").write_text(json.dumps({"meters": meters}))

    def _trade_books(self) -> dict[str, Any]:
        if not self.trades:
            return {}
        return {
            "trade_books": {
                "contract": self.contracts.addresses["TradeBook"],
                "rpc_url": self.chain_url,
                "confirmations": 2,
                "fee_slot": SILENT_SLOT,
            }
        }

    def registers_wh(self, slot: int, interval: int) -> tuple[int, int]:
        taken, given = registers_wh(slot, interval)
        return taken, 30 * given if slot in self.sunny else given

    # --- Readings ------------------------------------------------------------------------------------------------------------

    def send_day(self, signer: Signer, period: Period, leave_out: Sequence[int] = ()) -> None:
        """The meters that can sign send a day to one signer."""
        signer.send(self.signed_readings(registers_of(period), leave_out))

    def signed_readings(self, intervals: range, leave_out: Sequence[int] = ()) -> bytes:
        """What the meters that can sign send of some intervals."""
        domain = self.signers[0].config.domain
        return b"".join(
            pack(
                sign_reading(
                    key("meter", slot),
                    domain,
                    RegisterReading(
                        meter_of(slot), interval, *self.registers_wh(slot, interval), interval
                    ),
                )
            )
            for slot in SLOTS
            if slot != SILENT_SLOT and slot not in leave_out
            for interval in intervals
        )

    def publish_day(self, period: Period) -> None:
        """The meter that cannot sign publishes a day; when this returns the signer that collects has it."""
        self.broker.publish(self.silent_messages(registers_of(period)))
        # Sooner, and the day might be settled without them, and corrected later.
        deadline = time.monotonic() + PROCESS_SECONDS
        while self._lacks(period):
            assert time.monotonic() < deadline, self.signers[0].log[-5000:]
            time.sleep(0.2)

    def silent_messages(self, intervals: range) -> list[tuple[str, bytes]]:
        """What the meter that cannot sign publishes of some intervals: topics and payloads."""
        messages = []
        for interval in intervals:
            taken, given = registers_wh(SILENT_SLOT, interval)
            at = time.gmtime((interval + 1) * self.interval_minutes * 60)
            text = {
                "Time": time.strftime("%Y-%m-%dT%H:%M:%S", at),
                "ENERGY": {"Total": taken / 1000, "ExportActive": given / 1000},
            }
            messages.append((f"tele/{DEVICE}/SENSOR", json.dumps(text).encode()))
        return messages

    def _lacks(self, period: Period) -> bool:
        path = f"/periods/{period.number}/completeness"
        found = self.signers[0].client.json(path)
        assert isinstance(found, dict)
        return bool({meter.lower(): why for meter, why in found.items()}[SILENT_METER])

    # --- Processes -----------------------------------------------------------------------------------------------------------

    def start(self, ahead_seconds: float = 0) -> None:
        """Starts the coordinator, with a clock that goes wrong by so much."""
        program = [sys.executable, "-c", WITH_CLOCK.format(ahead_seconds)]
        with (self.folder / "coordinator.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(program if ahead_seconds else PROGRAM),
                    *("coordinator", "run", str(self.config)),
                ],
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """As the power going out."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """In order; returns the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        return self.process.wait(60)

    def states(self) -> dict[int, str]:
        """By period the state of its newest version."""
        rows = command("coordinator", "status", str(self.config))
        return {row["period"]: row["state"] for row in rows}

    def wait_until_stated(self, count: int, seconds: float = 180, days: int = 1) -> None:
        """Until so many batches, of so many days, are final with statements, as the coordinator's own HTTP interface says."""
        deadline = time.monotonic() + seconds
        found: list[str] = []
        while time.monotonic() < deadline:
            try:
                batches = requests.get(
                    f"{self.url}/communities/{self.name}/batches", timeout=10
                ).json()
                found = [item["state"] for item in batches]
                if len({item["period"] for item in batches}) < days:
                    found = []
            except (requests.RequestException, ValueError, TypeError):
                found = []
            if found.count("stated") >= count and len(found) == found.count("stated"):
                return
            time.sleep(0.5)
        raise AssertionError(f"{found}\n{self.log[-5000:]}")


def registers_of(period: Period) -> range:
    """The intervals at whose ends registers are read, with the one before the period."""
    return range(period.first_interval - 1, period.end_interval)


@contextmanager
def served(made: Installation) -> Iterator[str]:
    """The web site of an installation, `peerwatt serve` as a process; gives its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (made.folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [*PROGRAM, "serve", "--config", str(made.config), "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (made.folder / "serve.log").read_text()
            try:
                requests.get(f"{url}/api/v1/communities", timeout=10).raise_for_status()
                break
            except requests.RequestException:
                assert time.monotonic() < deadline, "the web site does not start"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM)


@contextmanager
def installation(
    folder: Path,
    chain_url: str,
    database: str,
    days: int = 2,
    name: str = "valley",
    interval_minutes: Literal[5, 15] = 15,
    *,
    trades: bool = False,
    sunny: Sequence[int] = (),
) -> Iterator[Installation]:
    """Founded, with signers and broker running; the coordinator is not started."""
    (folder / "broker").mkdir(parents=True)
    broker = Broker.in_folder(folder / "broker")
    with ExitStack() as stack:
        broker.start()
        stack.callback(broker.stop)
        made = Installation(
            folder / "installation",
            chain_url,
            database,
            broker,
            days,
            name,
            interval_minutes,
            trades,
            sunny,
        )
        # In this order: with an interval of none, blocks come by transaction only where that is said afterwards.
        ask(made.web3, "evm_setIntervalMining", 0)
        ask(made.web3, "evm_setAutomine", True)
        made.found()
        # Founded at once; from now on a block comes by the clock, as everywhere.
        ask(made.web3, "evm_setAutomine", False)
        ask(made.web3, "evm_setIntervalMining", 1)
        for signer in made.signers:
            signer.start()
            stack.callback(signer.stop)
        for signer in made.signers:
            signer.wait()
        stack.callback(made.stop)
        yield made


__all__ = ["Installation", "command", "installation", "served"]
