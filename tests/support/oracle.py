"""Oracle signers as processes of their own: each with its folder, keystore, store and configuration."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import requests
from eth_account import Account
from eth_keys.datatypes import PrivateKey

from backend.domain.intervals import Period, local_day
from backend.domain.readings import RegisterReading, SignedReading
from oracle.assembly import Assembly
from oracle.config import OracleConfig, load_config
from oracle.peers import SignerClient
from oracle.signing import address_of, private_key, sign_reading
from oracle.store import metadata
from oracle.wire import pack_all
from tests.support.broker import free_port
from tests.support.community import PAPER, secret

PROGRAM = [sys.executable, "-c", "from backend.cli import main; main()"]
# Before anything else is imported, so that all of the program has this clock.
WITH_CLOCK = """
import time
right = time.time
time.time = lambda: right() + {}
from backend.cli import main
main()
"""
PASSWORD = "a password that no log shows"
TOKEN = "a-token-that-no-log-shows"
MEMBERS = 4
SLOTS = range(3, 3 + MEMBERS)
PROCESS_SECONDS = 240


def key(role: str, index: int = 0) -> PrivateKey:
    return private_key(secret(f"oracle tests {role}", index))


def write_keystore(path: Path, made: PrivateKey) -> None:
    """An encrypted keystore; few iterations, since what is tested is not the cost of guessing."""
    store = Account.encrypt(made.to_bytes(), PASSWORD, kdf="pbkdf2", iterations=1000)
    path.write_text(json.dumps(store))


def past_period(days: int) -> Period:
    """A day of UTC, `days` before today."""
    return local_day(datetime.now(UTC).date() - timedelta(days=days))


def day_of(period: Period) -> str:
    return period.day.isoformat()


def energy_wh(slot: int, interval: int) -> tuple[int, int]:
    """A member's import and export in an interval; export in the middle of the day."""
    return 100 + slot + interval % 5, 30 if 40 <= interval % 96 < 60 else 0


def registers_wh(slot: int, interval: int) -> tuple[int, int]:
    """What the registers show at its end: the sums of `energy_wh` over all intervals since 1970."""
    count = interval + 1
    rest = count % 5
    taken = count * (100 + slot) + count // 5 * 10 + rest * (rest - 1) // 2
    return taken, interval // 96 * 600 + 30 * min(max(interval % 96 - 39, 0), 20)


def readings(period: Period, slot: int, domain: bytes = PAPER.domain) -> list[SignedReading]:
    """A member's registers from the start of a day to its end."""
    return [
        sign_reading(
            key("meter", slot),
            domain,
            RegisterReading(
                address_of(key("meter", slot)), interval, *registers_wh(slot, interval), interval
            ),
        )
        for interval in range(
            period.first_interval - 1, period.first_interval + period.interval_count
        )
    ]


def packed(period: Period, domain: bytes = PAPER.domain) -> bytes:
    """Every member's day."""
    return b"".join(pack_all(readings(period, slot, domain)) for slot in SLOTS)


@dataclass
class Signer:
    """One signer's folder and process."""

    folder: Path
    index: int
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        return self.folder / "oracle.json"

    @property
    def arguments(self) -> list[str]:
        return ["oracle", "run", str(self.path)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> SignerClient:
        return SignerClient(self.url, TOKEN, 60)

    @property
    def config(self) -> OracleConfig:
        return load_config(self.path)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def write(self, signers: Sequence[str], **changes: Any) -> None:
        """Its folder."""
        (self.folder / "keys").mkdir(parents=True, exist_ok=True)
        write_keystore(self.folder / "keys" / "first.json", key("signer", self.index))
        (self.folder / "password").write_text(PASSWORD + "\n")
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "salts.json").write_text(
            json.dumps({slot: secret("salt", slot).hex() for slot in SLOTS})
        )
        meters = [
            {
                "meter": address_of(key("meter", slot)),
                "signers": [{"signer": address_of(key("meter", slot)), "kind": "meter"}],
            }
            for slot in SLOTS
        ]
        (self.folder / "meters.json").write_text(json.dumps({"meters": meters}))
        data: dict[str, Any] = {
            "chain_id": PAPER.chain_id,
            "clearing_house": PAPER.clearing_house,
            "oracle_contract": PAPER.reading_oracle,
            "store": own_file(),
            "meters_file": "meters.json",
            "salts_file": "salts.json",
            "keystores": "keys",
            "password_file": "password",
            "token_file": "token",
            "port": self.port,
            "correction_days": 20,
            "committees": [{"threshold": 2, "signers": list(signers)}],
            "substitution": {"rules": []},
            "network": {"nodes": [{"id": "a"}], "edges": []},
            "tariff_classes": [
                {
                    "id": "household",
                    "import_price_nano_per_wh": 300_000,
                    "export_price_nano_per_wh": 60_000,
                }
            ],
            "members": [
                {
                    "slot": slot,
                    "meter": address_of(key("meter", slot)),
                    "node": "a",
                    "tariff_class": "household",
                    "fuse_limit_wh": 5000,
                }
                for slot in SLOTS
            ],
        }
        self.path.write_text(json.dumps(data | changes))

    def change(self, **changes: Any) -> None:
        """Changes its configuration, at once or not at all."""
        new = self.folder / "new.json"
        new.write_text(json.dumps(json.loads(self.path.read_text()) | changes))
        new.rename(self.path)

    def start(self, ahead_seconds: float = 0) -> None:
        """Starts its process, with a clock that goes wrong by so much."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WITH_CLOCK.format(ahead_seconds), *self.arguments]
                if ahead_seconds
                else [*PROGRAM, *self.arguments],
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + PROCESS_SECONDS
        while time.monotonic() < deadline:
            try:
                if requests.get(self.url + "/health", timeout=1).ok:
                    return
            except requests.RequestException:
                time.sleep(0.05)
            assert self.process is not None
            assert self.process.poll() is None, self.log
        raise AssertionError(f"the signer does not start: {self.log}")

    def kill(self) -> None:
        """As the power going out."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PROCESS_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def send(self, data: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.client.post("/readings", data=data))
        return answer


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Somebody else holds a store of readings and writes nothing."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as blocker:
            blocker.execute("begin immediate")
            yield
            blocker.rollback()
        return
    with psycopg.connect(url.replace("+psycopg", "")) as blocker:
        for table in metadata.tables:
            blocker.execute(f"lock table {table} in exclusive mode".encode())
        yield
        blocker.rollback()


def impatient(url: str) -> str:
    """The same store, where nobody waits longer than a fifth of a second for a lock."""
    if url.startswith("sqlite"):
        return url + "?timeout=0.2"
    return url + "&options=-c%20lock_timeout%3D200ms"


def signer_addresses(count: int = 3) -> list[str]:
    return [address_of(key("signer", index)) for index in range(count)]


def own_file() -> str:
    """A store that each signer has in its own folder."""
    return "sqlite:///readings.sqlite"


@contextmanager
def running(
    folder: Path, count: int = 3, new_store: Callable[[], str] = own_file, **changes: Any
) -> Iterator[list[Signer]]:
    """Signers that run, each with a store of its own; stopped afterwards."""
    signers = [Signer(folder / str(index), index) for index in range(count)]
    for signer in signers:
        peers = [{"url": other.url} for other in signers if other is not signer]
        signer.write(signer_addresses(), peers=peers, store=new_store(), **changes)
        signer.start()
    try:
        for signer in signers:
            signer.wait()
        yield signers
    finally:
        for signer in signers:
            signer.stop()


def assembly(signers: Sequence[Signer], patience_seconds: float = 60) -> Assembly:
    """Whoever asks them for a report of a past day."""
    config = signers[0].config
    committee = config.committee(past_period(2).number)
    return Assembly([item.client for item in signers], config.domain, committee, patience_seconds)
