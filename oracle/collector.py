"""Turns what sources saw into signed readings, for meters that cannot sign themselves.

A sighting is a register at some moment; a reading is what the register showed at the end of an interval. The sighting nearest
to the border, within the tolerance, is taken as it is. Where there is none, the registers before and after the border are
joined by a straight line, and the reading is marked substituted.

Sightings are on disk before a source is told that they arrived. What has been signed once for a meter and interval is never
signed with another value: after a crash the store is asked first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from eth_hash.backends.pysha3 import keccak256
from eth_keys.datatypes import PrivateKey
from eth_utils.address import to_checksum_address

from backend.domain.readings import Quality, RegisterReading
from backend.settlement.encoding import meter_reading_hash

from .intake import Acknowledgement, Intake, Refused, rejection
from .interval_energy import RISE_WH, MadeRegisters
from .signing import address_of, retraction_digest, sign_digest, sign_reading
from .sources.base import IntervalEnergy, Item, Page, Refusal, Sighting, Unusable, shown_text
from .store import (
    Observation,
    ReadingStore,
    StoredPage,
    StoredReading,
    StoredRejection,
    StoredRetraction,
    Withdrawal,
)
from .wire import address_bytes, pack_all

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Device:
    """What a source calls a meter.

    Attributes:
        meter: address, 20 bytes.
        has_import, has_export: whether it has the register; one it does not have counts as zero, and only then.
    """

    meter: bytes
    has_import: bool = True
    has_export: bool = True


def meter_address(source: str, device: str) -> bytes:
    """An address for a meter without a key: nobody has the key that belongs to it."""
    return keccak256(b"peerwatt.meter.v1" + source.encode() + b"\0" + device.encode())[12:]


@dataclass(slots=True)
class Collector:
    """Collects for one oracle.

    Args:
        key: signs, if the registry of meters lets it.
        intake: takes what was signed.
        devices: by source and device's name.
        tolerance_seconds: how far a sighting may be from the border.
        correction_days: sightings older than that are refused.
        clock: seconds since the Unix epoch.
        forward: given every batch of signed readings, for the other signers.
        on_refusal: told of everything that cannot be used.
    """

    key: PrivateKey
    intake: Intake
    devices: Mapping[tuple[str, str], Device]
    tolerance_seconds: int = 30
    correction_days: int = 10
    clock: Callable[[], float] = time.time
    forward: Callable[[bytes], None] = field(default=lambda data: None)
    on_refusal: Callable[[Refusal], object] = field(default=lambda refusal: None)
    # Meters and borders that sightings came in for since they were last looked at.
    _pending: set[tuple[bytes, int]] = field(default_factory=set)

    @property
    def _store(self) -> ReadingStore:
        return self.intake.store

    @property
    def _interval_ms(self) -> int:
        return self.intake.interval_minutes * 60_000

    def accept(self, source: str, items: Iterable[Item]) -> int:
        """Puts items on disk; returns how many sightings were new.

        Raises:
            StoreUnavailable: nothing was written; the source must not be told that they arrived.
        """
        now = self.clock()
        observations: list[Observation] = []
        rejections: list[StoredRejection] = []
        refusals: list[Refused] = []
        made: dict[bytes, MadeRegisters] = {}
        pages: list[StoredPage] = []
        pairs = 0
        # Rows of energy by time, so that each continues the one before, however their table is sorted.
        order = sorted(items, key=lambda item: getattr(item, "start_ms", 0))
        for index, item in enumerate(order):
            refused: Refusal | None
            if isinstance(item, Page):
                pages.append(StoredPage(source, item.device, item.kind, item.number))
                continue
            if isinstance(item, Refusal):
                refused = item
            elif isinstance(item, Sighting):
                refused = self._observe(source, item, now, observations)
            else:
                before = len(observations)
                refused = self._observe_energy(source, item, now, observations, made)
                pairs += len(observations) - before == 2
            if refused is not None:
                self.on_refusal(refused)
                refusals.append(Refused(index, refused.code, refused.reason))
                rejections.append(
                    rejection(
                        source,
                        refused.device,
                        refused.code,
                        refused.reason,
                        refused.message,
                        int(now),
                    )
                )
        added = self._store.add(rejections=rejections, observations=observations, pages=pages)
        self._look_again(observations)
        self.intake.observe(Acknowledgement(refused=tuple(refusals)))
        return added.observations - pairs

    def _look_again(self, observations: Iterable[Observation]) -> None:
        for seen in observations:
            border = seen.time_ms // self._interval_ms - 1
            # The borders before and after; the one after can be the nearer.
            self._pending |= {(seen.meter, border), (seen.meter, border + 1)}

    def correct(self, source: str, items: Iterable[Item]) -> int:
        """Puts registers in the place of what was there around their times, and takes back the readings made of that.

        What is true from then on is signed by `sign_due`. A value that was once taken back stays so: its reading is known by
        its hash, and no retraction is undone.

        Args:
            source: whose devices they are.
            items: what its decoder gave; only sightings can be corrections.

        Returns:
            How many readings were taken back.

        Raises:
            StoreUnavailable: nothing was written; calling again is right.
        """
        sightings = [item for item in items if isinstance(item, Sighting)]
        self.accept(source, [item for item in items if isinstance(item, Refusal)])
        now, taken_back = self.clock(), 0
        for item in sightings:
            found: list[Observation] = []
            refused = self._observe(source, item, now, found)
            if refused is None:
                taken_back += self._replace(found[0])
            else:
                self.accept(source, [refused])
        return taken_back

    def _replace(self, new: Observation) -> int:
        reach_ms = self.tolerance_seconds * 1000
        first_ms, last_ms = new.time_ms - reach_ms, new.time_ms + reach_ms
        own = Withdrawal(*new[:4])
        if own in self._store.withdrawn(new.meter, first_ms, last_ms):
            reason = f"registers {new[2]} and {new[3]} at this time were taken back before"
            refused = Refusal(to_checksum_address(new.meter), "taken_back", reason, new.evidence)
            self.accept("correction", [refused])
            return 0
        old = [
            item
            for item in self._store.observations(new.meter, first_ms, last_ms)
            if item[2:5] != new[2:5]
        ]
        border = new.time_ms // self._interval_ms - 1
        signer = address_bytes(address_of(self.key))
        retractions = []
        for interval in (border, border + 1):
            around = self._around(new.meter, interval)
            becomes = self._made(
                new.meter, interval, sorted({item for item in around if item not in old} | {new})
            )
            if becomes is None:
                continue
            digest = meter_reading_hash(becomes)
            for row in self._valid_rows(new.meter, interval):
                if row.hash != digest:
                    proof = retraction_digest(
                        self.intake.domain, to_checksum_address(row.meter), row.hash
                    )
                    signature = sign_digest(self.key, proof)
                    retractions.append(StoredRetraction(row.meter, row.hash, signer, signature))
        # One transaction: a crash leaves the old reading, or neither, which `resume` then signs.
        self._store.add(
            retractions=retractions,
            observations=[new],
            withdrawals=[Withdrawal(*item[:4]) for item in old],
        )
        self._look_again([new])
        return len(retractions)

    def _valid_rows(self, meter: bytes, interval: int) -> list[StoredReading]:
        """This collector's readings of an interval that were not taken back."""
        own = address_bytes(address_of(self.key))
        rows = [row for row in self._store.readings([interval], meter, meter) if row.signer == own]
        gone = self._store.retractions() if rows else set()
        return [row for row in rows if (row.meter, row.hash, row.signer) not in gone]

    def resume(self) -> None:
        """Looks again at every border of the correction window that was seen and not signed; after a restart.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        since_ms = int(self.clock() * 1000) - self.correction_days * _DAY_MS
        own = address_bytes(address_of(self.key))
        for meter, border in self._store.unsigned_borders(self._interval_ms, since_ms, own):
            self._pending |= {(meter, border), (meter, border + 1)}

    def sign_due(self) -> int:
        """Signs every reading that can be made by now, stores and forwards them; returns how many are new.

        Raises:
            StoreUnavailable: nothing was signed that is not stored; calling again is right.
        """
        now_ms = self.clock() * 1000
        signed, settled = [], set()
        for meter, interval in sorted(self._pending):
            border_ms = (interval + 1) * self._interval_ms
            if now_ms < border_ms + self.tolerance_seconds * 1000:
                continue
            known = self._valid_rows(meter, interval)
            reading = None if known else self._made(meter, interval, self._around(meter, interval))
            if reading is not None:
                signed.append(sign_reading(self.key, self.intake.domain, reading))
            settled.add((meter, interval))
        data = pack_all(signed)
        done = self.intake.take(data, "collector") if data else Acknowledgement()
        # What cannot be made now is looked at again when the next sighting comes.
        self._pending -= settled
        if data:
            self.forward(data)
        return done.taken

    def _around(self, meter: bytes, interval: int) -> list[Observation]:
        """What was seen within an interval's length of the end of one."""
        end_ms = (interval + 1) * self._interval_ms
        return self._store.observations(
            meter, end_ms - self._interval_ms, end_ms + self._interval_ms
        )

    def _made(
        self, meter: bytes, interval: int, around: Sequence[Observation]
    ) -> RegisterReading | None:
        """The reading that follows from observations around its border, if one does."""
        border_ms = (interval + 1) * self._interval_ms
        within = [
            item
            for item in around
            if abs(item.time_ms - border_ms) <= self.tolerance_seconds * 1000
        ]
        if within:
            # By distance, then by the values: the same whatever order they came in.
            nearest = min(within, key=lambda item: (abs(item.time_ms - border_ms), item))
            registers, quality = nearest[2:4], nearest.quality
        else:
            before = [item for item in around if item.time_ms < border_ms]
            after = [item for item in around if item.time_ms > border_ms]
            if not before or not after:
                return None
            between = _between(max(before), min(after), border_ms)
            if between is None:
                return None
            registers, quality = between, Quality.SUBSTITUTED
        return RegisterReading(
            to_checksum_address(meter),
            interval,
            *registers,
            # One reading an interval, so its number counts them, across restarts too.
            sequence=interval,
            quality=Quality(quality),
        )

    def _observe(
        self, source: str, item: Sighting, now: float, observations: list[Observation]
    ) -> Refusal | None:
        device = self.devices.get((source, item.device))
        if device is None:
            reason = (
                f"device {shown_text(item.device)} of source {source} is not in the configuration"
            )
            return _refused(item, "unknown_device", reason)
        registers = []
        for name, value, has in (
            ("import", item.import_wh, device.has_import),
            ("export", item.export_wh, device.has_export),
        ):
            if value is None and has:
                reason = (
                    f"{name}: the device does not say; configure it as having none if that is so"
                )
                return _refused(item, "direction", reason)
            registers.append(value or 0)
        ahead = item.time_ms / 1000 - now
        if ahead > self.tolerance_seconds:
            reason = f"time is {ahead:.0f} s ahead of the oracle's clock"
            return _refused(item, "clock", reason)
        if -ahead > self.correction_days * 86_400:
            reason = f"time lies more than {self.correction_days} days back"
            return _refused(item, "late", reason)
        taken, given = registers
        observations.append(
            Observation(device.meter, item.time_ms, taken, given, int(item.quality), item.evidence)
        )
        return None

    def _observe_energy(
        self,
        source: str,
        item: IntervalEnergy,
        now: float,
        observations: list[Observation],
        made: dict[bytes, MadeRegisters],
    ) -> Refusal | None:
        interval_ms = self._interval_ms
        flow = Sighting(
            item.device, item.end_ms, item.import_wh, item.export_wh, item.quality, row=item.row
        )
        found: list[Observation] = []
        refused = self._observe(source, flow, now, found)
        if refused is not None:
            return refused
        (energy,) = found
        if energy.meter not in made:
            now_ms = int(now * 1000)
            since_ms = now_ms - (self.correction_days + 1) * _DAY_MS
            stored = self._store.observations(energy.meter, since_ms, now_ms + _DAY_MS)
            made[energy.meter] = MadeRegisters(interval_ms, stored)
        try:
            new = made[energy.meter].add(item.start_ms, item.end_ms, *energy[2:4])
        except Unusable as error:
            return _refused(flow, error.code, error.reason)
        observations += [
            energy._replace(time_ms=at, import_register_wh=taken, export_register_wh=given)
            for at, (taken, given) in new
        ]
        return None


def _refused(item: Sighting, code: str, reason: str) -> Refusal:
    where = "" if item.row is None else f"row {item.row}: "
    return Refusal(item.device, code, where + reason, item.evidence, item.row)


def _between(before: Observation, after: Observation, border_ms: int) -> tuple[int, int] | None:
    """Registers at the border on the straight line between two moments, rounded down.

    None where no line leads from one to the other: a register that starts anew, or the hole in a table of interval energies.
    """
    elapsed, span = border_ms - before.time_ms, after.time_ms - before.time_ms
    growth = [later - earlier for earlier, later in zip(before[2:4], after[2:4], strict=True)]
    if not all(0 <= amount < RISE_WH for amount in growth):
        return None
    taken, given = (
        earlier + amount * elapsed // span
        for earlier, amount in zip(before[2:4], growth, strict=True)
    )
    return taken, given
