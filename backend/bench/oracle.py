"""`peerwatt bench oracle`: readings verified and stored, against what libsecp256k1 alone does; and a large community's report.

What one core does is given in seconds of the processor, which other work on the machine does not lengthen as it does the clock's;
waiting for the disk is not in them. The store is SQLite with an fsync for each batch of 20,000, in a temporary folder; readings
come packed, as signers receive them. What memory is measured of runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]  # a C extension without stubs
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

from .table import row

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
    """Processor seconds in which libsecp256k1 verifies as many signatures as there are records, keys and digests ready."""
    context = GLOBAL_CONTEXT.ctx
    record = next(iter(records(data)))
    digest = typed_data_digest(_DOMAIN, struct_hash(record))
    key = PrivateKey((1).to_bytes(32, "big")).public_key.public_key
    signature = ffi.new("secp256k1_ecdsa_signature *")
    compact = record.signature[:64]
    started = process_time()
    for _ in range(len(data) // RECORD_BYTES):
        lib.secp256k1_ecdsa_signature_parse_compact(context, signature, compact)
        if not lib.secp256k1_ecdsa_verify(context, signature, digest, key):
            raise AssertionError("the signature is valid")
    return process_time() - started


@dataclass(frozen=True, slots=True)
class _Taken:
    """What taking readings cost: seconds of the processor, of the clock, and MiB at the peak."""

    processor: float
    clock: float
    grown_mib: float


def _taking(folder: Path, data: bytes, **workers: Any) -> _Taken:
    """Verifies and stores the data in a store of its own."""
    store = ReadingStore(f"sqlite:///{folder / os.urandom(8).hex()}.sqlite")
    intake = Intake(store, OwnKeys(), _DOMAIN, **workers)
    before = _forget_peak()
    clock, processor = perf_counter(), process_time()
    done = intake.take(data)
    found = _Taken(process_time() - processor, perf_counter() - clock, _peak_mib() - before)
    if done.taken != len(data) // RECORD_BYTES:
        raise AssertionError("all readings are new and valid")
    store.close()
    return found


def _taking_afresh(folder: Path, data: bytes) -> _Taken:
    """As `_taking`, in a process that has done nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_taking, folder, data).result()


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
    progress(f"{_SAMPLE:,} readings: libsecp256k1 alone, then verified and stored, in turns")
    data = _signed(_SAMPLE, 1)
    turns = [(_bare_seconds(data), _taking(folder, data)) for _ in range(3)]
    bare = min(alone for alone, _ in turns)
    ours = min((taken for _, taken in turns), key=lambda taken: taken.processor)
    yield row(
        f"{_SAMPLE:,} readings verified and stored, one core, against libsecp256k1 verifying alone",
        ours.processor,
        bare,
        "half its speed",
        bare / ours.processor >= 0.5,
        f"{_SAMPLE / ours.processor:,.0f} a second against {_SAMPLE / bare:,.0f}; "
        f"{_SAMPLE / ours.clock:,.0f} by the clock",
    )
    cores = os.cpu_count() or 1
    if cores > 1:
        progress(f"the same with {cores} processes for the signatures")
        with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
            # Started before the clock runs.
            list(pool.map(abs, range(cores)))
            several = min(
                _taking(folder, data, workers=pool, worker_count=cores).clock for _ in range(3)
            )
        alone = min(taken.clock for _, taken in turns)
        yield row(
            f"the same with {cores} processes against one, by the clock",
            several,
            alone,
            "",
            None,
            f"{_SAMPLE / several:,.0f} a second",
        )


def _large(folder: Path, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress(f"{_METERS:,} meters sign a reading")
    data = _signed(_METERS, 1)
    progress(f"one border of {_METERS:,} meters, one core")
    all_of_it = _taking_afresh(folder, data)
    half = _taking_afresh(folder, data[: len(data) // 2])
    yield row(
        f"{_METERS:,} meters, one border of quarter-hours, one core, against the quarter-hour",
        all_of_it.clock,
        _BORDER_SECONDS,
        "a tenth of it",
        all_of_it.clock * 10 <= _BORDER_SECONDS,
        f"by the clock; {_BORDER_SECONDS / all_of_it.clock:,.0f} times headroom",
    )
    yield row(
        f"{_METERS:,} readings in one message, memory at the peak, against half of them",
        all_of_it.clock,
        half.clock,
        "less than 100 MiB",
        all_of_it.grown_mib < 100,
        f"{all_of_it.grown_mib:,.0f} MiB against {half.grown_mib:,.0f} MiB",
    )


def _report(folder: Path, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress(f"{_REPORT_METERS:,} meters: fill the store with a day")
    node = _full_node(folder)
    progress(f"report of {_REPORT_METERS:,} meters and {_INTERVALS} intervals")
    before = _forget_peak()
    clock, processor = perf_counter(), process_time()
    draft = node.draft(_PERIOD, 0)
    clock, processor = perf_counter() - clock, process_time() - processor
    if sum(item.quality != 0 for member in draft.member_periods for item in member.readings):
        raise AssertionError("every value is measured")
    node.store.close()
    yield row(
        f"report of {_REPORT_METERS:,} meters and {_INTERVALS} intervals, from the store to the hash",
        processor,
        None,
        "at most 30 s",
        processor <= 30,
        f"{_REPORT_METERS * _INTERVALS:,} values; {clock:,.1f} s by the clock; memory grew {_peak_mib() - before:,.0f} MiB at its peak",
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
            clearing_house=_CONTRACT,
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
