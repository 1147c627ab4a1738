"""`peerwatt bench oracle`: readings verified and stored, against what libsecp256k1 alone does; and a large community's report.

What one core does is given in seconds of the processor, which other work on the machine does not lengthen as it does the clock's;
waiting for the disk is not in them. The store is SQLite with an fsync for each batch of 20,000, in a temporary folder; readings
come packed, as signers receive them. What memory is measured of runs in a process of its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]  # a C extension without stubs
from coincurve.context import GLOBAL_CONTEXT

from backend.settlement.encoding import typed_data_digest
from oracle.wire import RECORD_BYTES, records, struct_hash

from .oracle_load import DOMAIN, Taken, signed, taking
from .oracle_report import bench_report
from .table import row

_SAMPLE = 20_000
_METERS = 100_000
_BORDER_SECONDS = 900


def bench_oracle(*, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs every measurement of the oracle.

    Args:
        progress: told what is being measured.

    Returns:
        Rows as `table.row` makes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        parts = (_intake, _large, bench_report)
        return [entry for part in parts for entry in part(Path(folder), progress)]


def _bare_seconds(data: bytes) -> float:
    """Processor seconds in which libsecp256k1 verifies as many signatures as there are records, keys and digests ready."""
    context = GLOBAL_CONTEXT.ctx
    record = next(iter(records(data)))
    digest = typed_data_digest(DOMAIN, struct_hash(record))
    key = PrivateKey((1).to_bytes(32, "big")).public_key.public_key
    signature = ffi.new("secp256k1_ecdsa_signature *")
    compact = record.signature[:64]
    started = process_time()
    for _ in range(len(data) // RECORD_BYTES):
        lib.secp256k1_ecdsa_signature_parse_compact(context, signature, compact)
        if not lib.secp256k1_ecdsa_verify(context, signature, digest, key):
            raise AssertionError("the signature is valid")
    return process_time() - started


def _taking_afresh(folder: Path, data: bytes) -> Taken:
    """As `taking`, in a process that has done nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(taking, folder, data).result()


def _intake(folder: Path, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    progress(f"{_SAMPLE:,} readings: libsecp256k1 alone, then verified and stored, in turns")
    data = signed(_SAMPLE, 1)
    turns = [(_bare_seconds(data), taking(folder, data)) for _ in range(3)]
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
                taking(folder, data, workers=pool, worker_count=cores).clock for _ in range(3)
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
    data = signed(_METERS, 1)
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
