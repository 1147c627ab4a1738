"""What a signer knows of the readings of a period: every member's energy, and what to compare and exchange with other signers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from backend.domain.community import Member
from backend.domain.intervals import Period
from backend.domain.readings import Quality

from .config import OracleConfig
from .directory import MeterDirectory
from .store import ReadingStore
from .substitution import NO_SUBSTITUTION
from .validation import ValidatedPeriod, energy_of
from .wire import Record, address_bytes

# Meters whose readings are held at once; a period of theirs takes some 40 MB.
_CHUNK_METERS = 1000


@dataclass(frozen=True, slots=True)
class PeriodReadings:
    """The readings in a store, period by period.

    Args:
        config: members, intervals and rules of substitution.
        store: where the readings are.
        directory: who may sign for which meter.
    """

    config: OracleConfig
    store: ReadingStore
    directory: MeterDirectory

    def validated(
        self, period: Period, of: Sequence[Member] | None = None
    ) -> Iterator[ValidatedPeriod]:
        """Every member's period (or of the meters given), in order of the meters' addresses; some hundred meters at a time."""
        members = sorted(
            self.config.members(period.number) if of is None else of,
            key=lambda item: address_bytes(item.meter),
        )
        policy = self.config.policy(period)
        retracted = self.store.retractions()
        for start in range(0, len(members), _CHUNK_METERS):
            chunk = members[start : start + _CHUNK_METERS]
            by_meter = self._readings(chunk, _boundary_intervals(period), retracted)
            for member in chunk:
                address = address_bytes(member.meter)
                meter = self.directory.record(address)
                records = by_meter.get(address, [])
                found = energy_of(member, period, records, meter, NO_SUBSTITUTION)
                has_gap = any(item.quality is Quality.MISSING for item in found.readings)
                if has_gap and policy.rules:
                    if policy.uses_weekday:
                        week_ago = [
                            interval - policy.reference_shift_intervals
                            for interval in _boundary_intervals(period)
                        ]
                        earlier = self._readings([member], week_ago, retracted)
                        records = records + earlier.get(address, [])
                    found = energy_of(member, period, records, meter, policy)
                yield found

    def _readings(
        self,
        members: Sequence[Member],
        intervals: Sequence[int],
        retracted: set[tuple[bytes, bytes, bytes]],
    ) -> dict[bytes, list[Record]]:
        """By meter the readings that count: of signers who may sign, and not taken back."""
        lowest, highest = address_bytes(members[0].meter), address_bytes(members[-1].meter)
        known = {
            meter: record
            for meter in {address_bytes(member.meter) for member in members}
            if (record := self.directory.record(meter)) is not None
        }
        # Meters with one key that may sign all the time, which is nearly all: one comparison instead of a search.
        earliest, latest = min(intervals), max(intervals)
        only = {
            meter: grant.signer
            for meter, record in known.items()
            for grant in record.grants
            if len(record.grants) == 1 and grant.covers(earliest) and grant.covers(latest)
        }
        found: dict[bytes, list[Record]] = {meter: [] for meter in known}
        last = b""
        for row in self.store.readings(intervals, lowest, highest):
            record = known.get(row.meter)
            # The same reading signed by two keys is one reading; such rows follow each other.
            if record is None or row.hash == last:
                continue
            if retracted and (row.meter, row.hash, row.signer) in retracted:
                continue
            if row.signer == only.get(row.meter) or record.may_sign(row.signer, row.interval):
                found[row.meter].append(row.record())
                last = row.hash
        return found

    def digests(self, number: int) -> dict[bytes, bytes]:
        """By meter a hash of all its readings and retractions that matter for the period: to see what signers differ in."""
        period = self.config.period(number)
        found: dict[bytes, list[bytes]] = {}
        for row in self.store.readings(self._relevant(period)):
            found.setdefault(row.meter, []).append(row.hash + row.signer)
        for meter, digest, signer in self.store.retractions():
            found.setdefault(meter, []).append(b"-" + digest + signer)
        return {meter: keccak(b"".join(sorted(parts))) for meter, parts in found.items()}

    def packed(self, number: int, meters: Sequence[bytes]) -> bytes:
        """The readings of meters that matter for the period, as records."""
        intervals = self._relevant(self.config.period(number))
        return b"".join(
            row.packed() for meter in meters for row in self.store.readings(intervals, meter, meter)
        )

    def _relevant(self, period: Period) -> list[int]:
        intervals = list(_boundary_intervals(period))
        policy = self.config.policy(period)
        if policy.uses_weekday:
            intervals = [item - policy.reference_shift_intervals for item in intervals] + intervals
        return intervals

    def completeness(self, number: int) -> dict[str, dict[int, str]]:
        """By meter and interval, why a value of the period so far is not measured; measured ones are left out."""
        found: dict[str, dict[int, str]] = {}
        for item in self.validated(self.config.period(number)):
            found[to_checksum_address(item.member.meter)] = dict(item.reasons)
        return found


def _boundary_intervals(period: Period) -> range:
    return range(period.first_interval - 1, period.first_interval + period.interval_count)
