"""Where signed readings come in: checked, stored, and only then acknowledged.

What is checked here needs nothing but the reading itself: its numbers, its signature, who may sign for the meter, and that
its interval is over. Whether it fits the readings beside it is seen when the period is put together (`validation.py`), where
all of them are there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from eth_hash.backends.pysha3 import keccak256
from eth_utils.address import to_checksum_address

from backend.domain.errors import ReadingRejected
from backend.domain.readings import Quality

from .directory import MeterDirectory, refusal
from .signing import recover_address, retraction_digest
from .store import ReadingStore, StoredReading, StoredRejection, StoredRetraction
from .wire import RECORD_BYTES, Record, records, recover_signers

_REGISTER_LIMIT_WH = 2**63
_NOBODY = bytes(20)
# Small enough that a batch is stored in one short transaction, large enough that its fsync costs each reading little.
BATCH_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class Refused:
    """One reading that was not taken.

    Attributes:
        index: its place in the message.
        code: short, for counting.
        reason: in words.
    """

    index: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What became of a message; all of it is on disk.

    Attributes:
        taken: readings that are new.
        known: readings that were there already.
        refused: readings that were rejected; kept with their reason.
        intervals: of the message, if anything in it was new.
    """

    taken: int = 0
    known: int = 0
    refused: tuple[Refused, ...] = ()
    intervals: frozenset[int] = field(default=frozenset(), compare=False)


@dataclass(slots=True)
class Intake:
    """Takes signed readings.

    Args:
        store: where they go.
        directory: who may sign for which meter.
        domain: EIP-712 domain separator.
        interval_minutes: 5 or 15.
        clock_tolerance_seconds: how long before its interval is over by our clock a reading may arrive.
        clock: seconds since the Unix epoch.
        workers: processes that check signatures; in this one if there are none.
        worker_count: how many there are.
        observe: told of every acknowledgement, for metrics.
        observe_rejection: told the code of every reading that was taken and turned out not to fit the others.
    """

    store: ReadingStore
    directory: MeterDirectory
    domain: bytes
    interval_minutes: int = 15
    clock_tolerance_seconds: int = 30
    clock: Callable[[], float] = time.time
    workers: Executor | None = None
    worker_count: int = 1
    observe: Callable[[Acknowledgement], None] = field(default=lambda done: None)
    observe_rejection: Callable[[str], None] = field(default=lambda code: None)

    def take(self, data: bytes, source: str = "readings") -> Acknowledgement:
        """Checks and stores packed readings (`oracle/wire.py`), in batches of `BATCH_RECORDS`.

        Args:
            data: any number of records.
            source: who sent them, for the rejections.

        Raises:
            MalformedInput: not a whole number of records; nothing was stored.
            StoreUnavailable: not all was stored; sending all of it again is right.
        """
        records(data)
        total = Acknowledgement()
        step = BATCH_RECORDS * RECORD_BYTES
        for start in range(0, len(data), step):
            done = self._take_batch(data[start : start + step], source, start // RECORD_BYTES)
            total = Acknowledgement(
                total.taken + done.taken,
                total.known + done.known,
                total.refused + done.refused,
                total.intervals | done.intervals,
            )
        self.observe(total)
        return total

    def take_retraction(
        self, meter: bytes, reading_hash: bytes, signature: bytes
    ) -> Acknowledgement:
        """Takes back a reading; who may sign for the meter at any time may do so for readings of its own.

        Raises:
            ReadingRejected: no valid signature, or of somebody who was never registered for the meter.
            StoreUnavailable: it was not stored.
        """
        digest = retraction_digest(self.domain, to_checksum_address(meter), reading_hash)
        signer = recover_address(digest, signature)
        found = self.directory.record(meter)
        if found is None or all(grant.signer != signer for grant in found.grants):
            raise ReadingRejected(
                f"signature: made by {to_checksum_address(signer)}, who is not registered for the meter",
                "sign with the key that signed the reading",
            )
        row = StoredRetraction(meter, reading_hash, signer, signature)
        added = self.store.add(retractions=[row])
        return Acknowledgement(taken=added.retractions, known=1 - added.retractions)

    def _take_batch(self, data: bytes, source: str, offset: int) -> Acknowledgement:
        now = int(self.clock())
        newest = (now + self.clock_tolerance_seconds) // (self.interval_minutes * 60) - 1
        rows: list[StoredReading] = []
        refused: list[Refused] = []
        rejections: list[StoredRejection] = []
        for index, (record, (digest, signer)) in enumerate(
            zip(records(data), self._signers(data), strict=True)
        ):
            fault = self._fault(record, signer, newest)
            if fault is None:
                rows.append(StoredReading(record[1], record[0], digest, signer, *record[2:], now))
                continue
            code, reason = fault
            refused.append(Refused(offset + index, code, reason))
            raw = data[index * RECORD_BYTES : (index + 1) * RECORD_BYTES]
            rejections.append(
                rejection(
                    source,
                    "0x" + record.meter.hex(),
                    code,
                    reason,
                    raw,
                    now,
                    min(record.interval, _REGISTER_LIMIT_WH - 1),
                )
            )
        added = self.store.add(rows, rejections)
        # The store does not say which of them were new.
        intervals = frozenset(row.interval for row in rows) if added.readings else frozenset()
        known = len(rows) - added.readings
        return Acknowledgement(added.readings, known, tuple(refused), intervals)

    def _signers(self, data: bytes) -> list[tuple[bytes, bytes]]:
        if self.workers is None or self.worker_count < 2:
            return recover_signers(self.domain, data)
        share = -(-len(data) // RECORD_BYTES // self.worker_count) * RECORD_BYTES or RECORD_BYTES
        parts = [data[start : start + share] for start in range(0, len(data), share)]
        found = self.workers.map(recover_signers, [self.domain] * len(parts), parts)
        return [item for part in found for item in part]

    def _fault(self, record: Record, signer: bytes, newest: int) -> tuple[str, str] | None:
        if max(record[1:5]) >= _REGISTER_LIMIT_WH:
            return "range", f"a number is outside 0..{_REGISTER_LIMIT_WH - 1}"
        if record.quality > Quality.MISSING:
            return "quality", f"quality: {record.quality} is none of 0, 1, 2"
        if signer == _NOBODY:
            return "signature", "signature is not valid, or not in canonical form"
        if record.interval > newest:
            return "clock", f"interval {record.interval} is not over by the oracle's clock"
        reason = refusal(self.directory, record.meter, signer, record.interval)
        return ("signer", reason) if reason else None


def rejection(
    source: str,
    device: str,
    code: str,
    reason: str,
    message: bytes,
    received_at: int,
    interval: int | None = None,
) -> StoredRejection:
    """A rejection; the same message refused for the same reason is one, however often it comes."""
    source, device, reason = (_printable(text) for text in (source, device, reason))
    identity = keccak256(b"\0".join((source.encode(), code.encode(), reason.encode(), message)))
    return StoredRejection(identity, source, device, interval, code, reason, message, received_at)


def _printable(text: str) -> str:
    """Text that every database takes: no half of a surrogate pair, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def count_codes(refused: Sequence[Refused]) -> Counter[str]:
    """How many were refused for what."""
    return Counter(item.code for item in refused)
