"""`peerwatt bench oracle`: readings verified and stored, against what libsecp256k1 alone does; and a large community's report.

One process, one core, but for the row that says otherwise. The store is SQLite with an fsync for each batch, in a temporary
folder; readings come packed, as signers receive them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]
from coincurve.context import GLOBAL_CONTEXT
from eth_hash.backends.pysha3 import keccak256

from backend.domain.case import Network, NetworkNode, TariffClass
from backend.settlement.encoding import domain_separator, typed_data_digest
from oracle.config import CommitteeEntry, ConfigFile, MemberEntry, OracleConfig
from oracle.directory import OwnKeys
from oracle.intake import Intake
from oracle.node import OracleNode
from oracle.store import ReadingStore, StoredReading
from oracle.wire import RECORD, RECORD_BYTES, Record, records, struct_hash

from .table import best_of, row

_CONTRACT = "0x" + "0a" * 20
_DOMAIN = domain_separator(1, _CONTRACT)
_SAMPLE = 20_000
_METERS = 100_000
_REPORT_METERS = 10_000
_PERIOD = 20_000
_INTERVALS = 96
_BORDER_SECONDS = 900


def bench_oracle(*, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs every measurement of the oracle.

    Args:
        progress: told what is being measured.

    Returns:
        Rows as `table.row` makes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        parts = (_intake, _large, _report)
        return [entry for part in parts for entry in part(Path(folder), progress)]


def _signed(meters: int, interval: int) -> bytes:
    """One reading of each of as many meters, packed and signed."""
    parts = []
    for number in range(1, meters + 1):
        key = PrivateKey(number.to_bytes(32, "big"))
        meter = keccak256(key.public_key.format(compressed=False)[1:])[12:]
        record = Record(meter, interval, 1000 + number, 5, interval, 0, bytes(65))
        signature = key.sign_recoverable(
            typed_data_digest(_DOMAIN, struct_hash(record)), hasher=None
        )
        parts.append(RECORD.pack(*record[:6], signature[:64] + bytes([27 + signature[64]])))
    return b"".join(parts)


def _bare_seconds(data: bytes) -> float:
    """What libsecp256k1 needs to verify as many signatures as there are records, keys and digests ready; best of three."""
    context = GLOBAL_CONTEXT.ctx
    record = next(iter(records(data)))
    digest = typed_data_digest(_DOMAIN, struct_hash(record))
    key = PrivateKey((1).to_bytes(32, "big")).public_key.public_key
    signature = ffi.new("secp256k1_ecdsa_signature *")
    compact = record.signature[:64]
    count = len(data) // RECORD_BYTES

    def verify() -> None:
        for _ in range(count):
            lib.secp256k1_ecdsa_signature_parse_compact(context, signature, compact)
            if not lib.secp256k1_ecdsa_verify(context, signature, digest, key):
                raise AssertionError("the signature is valid")

    return best_of(3, verify)


def _taking(folder: Path, data: bytes, **workers: Any) -> tuple[float, float]:
    """Seconds to verify and store the data in a store of its own, and MiB that the process grew by at its peak."""
    path = folder / f"{os.urandom(8).hex()}.sqlite"
    store = ReadingStore(f"sqlite:///{path}")
    intake = Intake(store, OwnKeys(), _DOMAIN, **workers)
    before = _forget_peak()
    started = perf_counter()
    done = intake.take(data)
    seconds = perf_counter() - started
    if done.taken != len(data) // RECORD_BYTES:
        raise AssertionError("all readings are new and valid")
    store.close()
    return seconds, _peak_mib() - before


def _peak_mib() -> float:
    """The most memory this process has had since `_forget_peak`."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _forget_peak() -> float:
    """Begins the measurement anew, where the system can; what the process has now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_mib()


def _intake(folder: Path, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress(f"{_SAMPLE:,} readings: libsecp256k1 alone, then verified and stored")
    data = _signed(_SAMPLE, 1)
    bare = _bare_seconds(data)
    ours = min(_taking(folder, data)[0] for _ in range(3))
    yield row(
        f"{_SAMPLE:,} readings verified and stored, one core, against libsecp256k1 verifying alone",
        ours,
        bare,
        "half its speed",
        bare / ours >= 0.5,
        f"{_SAMPLE / ours:,.0f} a second against {_SAMPLE / bare:,.0f}",
    )
    cores = os.cpu_count() or 1
    if cores > 1:
        progress(f"the same with {cores} processes for the signatures")
        with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
            # Started before the clock runs.
            list(pool.map(abs, range(cores)))
            several = min(
                _taking(folder, data, workers=pool, worker_count=cores)[0] for _ in range(3)
            )
        yield row(
            f"the same with {cores} processes, against one",
            several,
            ours,
            "",
            None,
            f"{_SAMPLE / several:,.0f} a second",
        )


def _large(folder: Path, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress(f"{_METERS:,} meters sign a reading")
    data = _signed(_METERS, 1)
    progress(f"one border of {_METERS:,} meters, one core")
    seconds, grown = _taking(folder, data)
    yield row(
        f"{_METERS:,} meters, one border of quarter-hours, one core, against the quarter-hour",
        seconds,
        _BORDER_SECONDS,
        "a tenth of it",
        seconds * 10 <= _BORDER_SECONDS,
        f"{_BORDER_SECONDS / seconds:,.0f} times headroom; memory grew {grown:,.0f} MiB at its peak",
    )


def _report(folder: Path, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress(f"{_REPORT_METERS:,} meters: fill the store with a day")
    node = _full_node(folder)
    progress(f"report of {_REPORT_METERS:,} meters and {_INTERVALS} intervals")
    before = _forget_peak()
    started = perf_counter()
    draft = node.draft(_PERIOD, 0)
    seconds = perf_counter() - started
    if sum(item.quality != 0 for member in draft.member_periods for item in member.readings):
        raise AssertionError("every value is measured")
    node.store.close()
    yield row(
        f"report of {_REPORT_METERS:,} meters and {_INTERVALS} intervals, from the store to the hash",
        seconds,
        None,
        "at most 30 s",
        seconds <= 30,
        f"{_REPORT_METERS * _INTERVALS:,} values; memory grew {_peak_mib() - before:,.0f} MiB at its peak",
    )


def _full_node(folder: Path) -> OracleNode:
    """A signer with a day of readings; signatures are checked when readings come in, so here they are blank."""
    store = ReadingStore(f"sqlite:///{folder / 'report.sqlite'}")
    meters = [keccak256(number.to_bytes(4, "big"))[12:] for number in range(_REPORT_METERS)]
    first = _PERIOD * _INTERVALS
    for interval in range(first - 1, first + _INTERVALS):
        rows = []
        for number, meter in enumerate(meters):
            grown = (interval - first + 1) * (number % 7)
            record = Record(meter, interval, 1000 + grown, 500, interval, 0, bytes(65))
            rows.append(StoredReading(interval, meter, struct_hash(record), meter, *record[2:], 0))
        store.add(rows)
    config = OracleConfig(
        ConfigFile(
            chain_id=1,
            oracle_contract=_CONTRACT,
            store="",
            meters_file="",
            salts_file="",
            keystores="",
            password_file="",
            token_file="",
            committees=(CommitteeEntry(threshold=1, signers=(_CONTRACT,)),),
            network=Network(nodes=(NetworkNode(id="a"),), edges=()),
            tariff_classes=(
                TariffClass(
                    id="household",
                    import_price_nano_per_wh=300_000,
                    export_price_nano_per_wh=60_000,
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
        ),
        folder,
    )
    directory = OwnKeys()
    salts = {3 + number: bytes(32) for number in range(_REPORT_METERS)}
    intake = Intake(store, directory, config.domain)
    return OracleNode(config, store, directory, {}, salts, intake)
