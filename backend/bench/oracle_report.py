"""The oracle's report of a large community: one signer's part of it, and all of it by three signers over HTTP, with full stores.

The three run as `peerwatt oracle run`, each with its keystore and its copy of a day of readings; one of them lacks some, so that they
are passed on first. They share this machine's cores, where in a community each has a machine of its own: what counts is one signer's time.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from coincurve import PrivateKey
from eth_account import Account
from sqlalchemy import create_engine

from backend.domain.case import Network, NetworkNode, TariffClass
from oracle.assembly import Assembly
from oracle.config import CommitteeEntry, ConfigFile, MemberEntry, OracleConfig, PeerEntry
from oracle.directory import OwnKeys
from oracle.intake import Intake
from oracle.node import OracleNode
from oracle.peers import SignerClient, SignerFailed
from oracle.signing import address_of, private_key
from oracle.store import ReadingStore, StoredReading, reading_table
from oracle.wire import Record, struct_hash

from .oracle_load import CONTRACT, forget_peak, meter_of, peak_mib, sign, signed, taking
from .table import row

_METERS = 10_000
_PERIOD = 20_000
_INTERVALS = 96
_FIRST = _PERIOD * _INTERVALS
_SIGNERS = 3
_THRESHOLD = 2
_TARGET_SECONDS = 60
# What one signer lacks: readings of so many meters in so many intervals.
_LATE_METERS, _LATE = 100, range(_FIRST + 40, _FIRST + 50)
_ARRIVING = 20_000
_PATIENCE_SECONDS = 600
_SECRET = "bench"


def bench_report(folder: Path, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Rows of what a report takes, and of readings that come into a full store."""
    progress(f"{_METERS:,} meters: fill the store with a day")
    keys = [PrivateKey((1 + number).to_bytes(32, "big")) for number in range(_METERS)]
    meters = [meter_of(key) for key in keys]
    _fill(folder / "full.sqlite", keys, meters)
    yield _draft(folder, meters, progress)
    yield _arriving(folder, progress)
    yield _by_three(folder, meters, progress)


def _fill(path: Path, keys: Sequence[PrivateKey], meters: Sequence[bytes]) -> None:
    """A day of readings. Signatures are checked when readings come in, so only those are real that have to come in again."""
    store = ReadingStore(f"sqlite:///{path}")
    for interval in range(_FIRST - 1, _FIRST + _INTERVALS):
        rows = []
        for number, (key, meter) in enumerate(zip(keys, meters, strict=True)):
            grown = (interval - _FIRST + 1) * (number % 7)
            record = Record(meter, interval, 1000 + grown, 500, interval, 0, bytes(65))
            if number < _LATE_METERS and interval in _LATE:
                record = sign(key, record)
            rows.append(StoredReading(interval, meter, struct_hash(record), meter, *record[2:], 0))
        store.add(rows)
    store.close()


def _draft(
    folder: Path, meters: Sequence[bytes], progress: Callable[[str], None]
) -> dict[str, Any]:
    progress(f"report of {_METERS:,} meters and {_INTERVALS} intervals, one signer's part")
    config = OracleConfig(_config(meters, (CONTRACT,)), folder)
    store = ReadingStore(f"sqlite:///{folder / 'full.sqlite'}")
    directory = OwnKeys()
    salts = {3 + number: bytes(32) for number in range(_METERS)}
    intake = Intake(store, directory, config.domain)
    node = OracleNode(config, store, directory, {}, salts, intake)
    before = forget_peak()
    clock, processor = perf_counter(), process_time()
    draft = node.draft(_PERIOD, 0)
    clock, processor = perf_counter() - clock, process_time() - processor
    if sum(item.quality != 0 for member in draft.member_periods for item in member.readings):
        raise AssertionError("every value is measured")
    store.close()
    return row(
        f"report of {_METERS:,} meters and {_INTERVALS} intervals, from the store to the hash",
        processor,
        None,
        "at most 30 s",
        processor <= 30,
        f"{_METERS * _INTERVALS:,} values; {clock:,.1f} s by the clock; memory grew {peak_mib() - before:,.0f} MiB at its peak",
    )


def _arriving(folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    progress(f"{_ARRIVING:,} readings into that store, and into an empty one")
    data = signed(_ARRIVING, _FIRST + _INTERVALS)
    # What the file is afterwards the signers must not have.
    shutil.copy(folder / "full.sqlite", folder / "taken.sqlite")
    full, empty = taking(folder, data, "taken"), taking(folder, data)
    return row(
        f"{_ARRIVING:,} readings verified and stored beside {_METERS * (_INTERVALS + 1):,}, against an empty store",
        full.processor,
        empty.processor,
        "at least 0.8",
        empty.processor / full.processor >= 0.8,
        f"{_ARRIVING / full.processor:,.0f} a second",
    )


def _by_three(
    folder: Path, meters: Sequence[bytes], progress: Callable[[str], None]
) -> dict[str, Any]:
    progress(f"{_SIGNERS} signers start with {_METERS * (_INTERVALS + 1):,} readings each")
    keys = [private_key(bytes([9 + number]) * 32) for number in range(_SIGNERS)]
    ports = [_free_port() for _ in keys]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    addresses = tuple(sorted((address_of(key) for key in keys), key=lambda item: int(item, 16)))
    places = [folder / f"signer-{number}" for number in range(_SIGNERS)]
    for place, key, port in zip(places, keys, ports, strict=True):
        peers = tuple(PeerEntry(url=url) for url in urls if not url.endswith(f":{port}"))
        file = _config(meters, addresses, port=port, peers=peers)
        _write(place, file, key.to_bytes(), meters, folder / "full.sqlite")
    engine = create_engine(f"sqlite:///{places[-1] / 'readings.sqlite'}")
    table = reading_table
    with engine.begin() as connection:
        late = connection.execute(
            table.delete().where(
                table.c.interval.in_(_LATE), table.c.meter.in_(meters[:_LATE_METERS])
            )
        ).rowcount
    engine.dispose()
    if late != _LATE_METERS * len(_LATE):
        raise AssertionError("the last signer lacks readings")
    config = OracleConfig(_config(meters, addresses), folder)
    clients = [SignerClient(url, _SECRET, _PATIENCE_SECONDS) for url in urls]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with _running(places, clients):
        progress("they exchange what one lacks, draft, and sign")
        assembly = Assembly(clients, config.domain, config.committee(_PERIOD), _PATIENCE_SECONDS)
        clock, own = perf_counter(), process_time()
        found = assembly.report(_PERIOD)
        clock, own = perf_counter() - clock, process_time() - own
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    each = (used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime) / _SIGNERS
    if found.disagreements or found.failures or len(found.slots) != _METERS:
        raise AssertionError("all three find the same")
    return row(
        f"report of {_METERS:,} meters and {_INTERVALS} intervals by {_SIGNERS} signers over HTTP, one of which lacks {late:,} readings",
        each + own,
        None,
        f"seconds, not minutes: at most {_TARGET_SECONDS} s",
        each + own <= _TARGET_SECONDS,
        f"a signer's processor with its start {each:,.1f} s, whoever asks {own:,.1f} s; {clock:,.0f} s by the clock with all of them on "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}; a signer has at most {used.ru_maxrss / 1024:,.0f} MiB",
    )


@contextmanager
def _running(places: Sequence[Path], clients: Sequence[SignerClient]) -> Iterator[None]:
    program = [sys.executable, "-c", "from backend.cli import main; main()", "oracle", "run"]
    processes = []
    try:
        for place in places:
            with (place / "log").open("wb") as log:
                processes.append(
                    subprocess.Popen([*program, str(place / "oracle.json")], stdout=log, stderr=log)
                )
        for place, process, client in zip(places, processes, clients, strict=True):
            while not _answers(client):
                if process.poll() is not None:
                    raise AssertionError((place / "log").read_text())
                time.sleep(0.1)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _answers(client: SignerClient) -> bool:
    with suppress(SignerFailed):
        client.get("/health")
        return True
    return False


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write(
    place: Path, config: ConfigFile, key: bytes, meters: Sequence[bytes], store: Path
) -> None:
    """A signer's folder."""
    (place / "keys").mkdir(parents=True)
    # Guessing the password is not what is measured.
    keystore = Account.encrypt(key, _SECRET, kdf="pbkdf2", iterations=1000)
    (place / "keys" / "key.json").write_text(json.dumps(keystore))
    (place / "secret").write_text(_SECRET)
    salts = {3 + number: "00" * 32 for number in range(len(meters))}
    (place / "salts.json").write_text(json.dumps(salts))
    own = ["0x" + meter.hex() for meter in meters]
    entries = [{"meter": meter, "signers": [{"signer": meter, "kind": "meter"}]} for meter in own]
    (place / "meters.json").write_text(json.dumps({"meters": entries}))
    (place / "oracle.json").write_text(config.model_dump_json(exclude_none=True))
    shutil.copy(store, place / "readings.sqlite")


def _config(
    meters: Sequence[bytes],
    signers: tuple[str, ...],
    port: int = 8700,
    peers: tuple[PeerEntry, ...] = (),
) -> ConfigFile:
    return ConfigFile(
        chain_id=1,
        clearing_house=CONTRACT,
        oracle_contract=CONTRACT,
        store="sqlite:///readings.sqlite",
        meters_file="meters.json",
        salts_file="salts.json",
        keystores="keys",
        password_file="secret",
        token_file="secret",
        port=port,
        peers=peers,
        committees=(CommitteeEntry(threshold=min(_THRESHOLD, len(signers)), signers=signers),),
        network=Network(nodes=(NetworkNode(id="a"),), edges=()),
        tariff_classes=(
            TariffClass(
                id="household", import_price_nano_per_wh=300_000, export_price_nano_per_wh=60_000
            ),
        ),
        members=tuple(
            MemberEntry(
                slot=3 + number,
                meter="0x" + meter.hex(),
                node="a",
                tariff_class="household",
                fuse_limit_wh=10_000,
            )
            for number, meter in enumerate(meters)
        ),
    )
