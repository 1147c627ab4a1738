"""What the oracle's measurements share: signed readings, taking them, and how much memory that needs."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from coincurve import PrivateKey
from eth_hash.backends.pysha3 import keccak256

from backend.settlement.encoding import domain_separator, typed_data_digest
from oracle.directory import OwnKeys
from oracle.intake import Intake
from oracle.store import ReadingStore
from oracle.wire import RECORD, RECORD_BYTES, Record, struct_hash

CONTRACT = "0x" + "0a" * 20
DOMAIN = domain_separator(1, CONTRACT)


def meter_of(key: PrivateKey) -> bytes:
    """The address of a meter with this key."""
    return keccak256(key.public_key.format(compressed=False)[1:])[12:]


def sign(key: PrivateKey, record: Record) -> Record:
    """The record with its signature."""
    signature = key.sign_recoverable(typed_data_digest(DOMAIN, struct_hash(record)), hasher=None)
    return record._replace(signature=signature[:64] + bytes([27 + signature[64]]))


def signed(meters: int, interval: int) -> bytes:
    """One reading of each of as many meters, packed and signed."""
    parts = []
    for number in range(1, meters + 1):
        key = PrivateKey(number.to_bytes(32, "big"))
        record = Record(meter_of(key), interval, 1000 + number, 5, interval, 0, bytes(65))
        parts.append(RECORD.pack(*sign(key, record)))
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking readings cost: seconds of the processor, of the clock, and MiB at the peak."""

    processor: float
    clock: float
    grown_mib: float


def taking(folder: Path, data: bytes, name: str = "", **workers: Any) -> Taken:
    """Verifies and stores the data, in a store of its own or the one of this name."""
    store = ReadingStore(f"sqlite:///{folder / (name or os.urandom(8).hex())}.sqlite")
    intake = Intake(store, OwnKeys(), DOMAIN, **workers)
    before = forget_peak()
    clock, processor = perf_counter(), process_time()
    done = intake.take(data)
    found = Taken(process_time() - processor, perf_counter() - clock, peak_mib() - before)
    if done.taken != len(data) // RECORD_BYTES:
        raise AssertionError("all readings are new and valid")
    store.close()
    return found


def peak_mib() -> float:
    """The most memory this process has had since `forget_peak`."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget_peak() -> float:
    """Begins the measurement anew, where the system can; what the process has now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()
