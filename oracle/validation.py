"""From signed register readings to energy per interval; what fails is kept with its reason.

An interval is measured if the registers at its end and at the end of the interval before are both there and valid. Otherwise
a substitution rule may fill it (`substitution.py`); what is left is missing, and the member is left to its outside supplier
for it, which never makes it worse off.

Everything depends on the set of readings alone, never on the order they came in: signers receive over different ways. Where
two readings of one interval contradict each other neither counts, and both are evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from eth_utils.address import to_checksum_address

from backend.domain.community import Member
from backend.domain.errors import ReadingRejected
from backend.domain.intervals import Period
from backend.domain.readings import (
    MISSING_READING,
    IntervalReading,
    Quality,
    RegisterReading,
    SignedReading,
)
from backend.settlement.encoding import meter_reading_hash, typed_data_digest

from .directory import MeterDirectory, MeterExchange, MeterRecord, OwnKeys, refusal
from .signing import recover_address
from .substitution import NO_SUBSTITUTION, Gap, SubstitutionPolicy, substitute
from .wire import Record, address_bytes

_FIELD_LIMIT = 2**64
_OWN_KEYS = OwnKeys()
_QUALITIES = tuple(Quality)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A reading that was not taken, and why; the code is short, for counting."""

    signed: SignedReading
    reason: str
    code: str = "signer"


@dataclass(frozen=True, slots=True)
class ValidatedPeriod:
    """One member's period.

    Attributes:
        member: whose.
        readings: energy by interval.
        rejections: readings that do not count, with their signatures.
        reasons: by number of the interval, why it is not measured.
    """

    member: Member
    readings: tuple[IntervalReading, ...]
    rejections: tuple[Rejection, ...]
    reasons: Mapping[int, str]


@dataclass(slots=True)
class _Boundary:
    """What the registers showed at the end of an interval; several readings may say the same."""

    import_wh: int
    export_wh: int
    quality: int
    records: list[Record]


def check_reading(
    signed: SignedReading, meter: str, domain: bytes, directory: MeterDirectory = _OWN_KEYS
) -> RegisterReading:
    """Checks ranges and signature of one reading.

    Args:
        signed: as received.
        meter: address of the member's meter.
        domain: EIP-712 domain separator.
        directory: who may sign for it; by default the meter's own key alone.

    Raises:
        ReadingRejected: naming what is wrong.
    """
    reading = signed.reading
    for name, value in (
        ("interval", reading.interval),
        ("import_register_wh", reading.import_register_wh),
        ("export_register_wh", reading.export_register_wh),
        ("sequence", reading.sequence),
    ):
        if not 0 <= value < _FIELD_LIMIT:
            raise ReadingRejected(
                f"{name}: {value} is outside 0..{_FIELD_LIMIT - 1}", "read the meter again"
            )
    if reading.meter != meter:
        raise ReadingRejected(
            f"meter: {reading.meter} is not the member's meter {meter}",
            "register the meter, or send the reading to its owner's slot",
        )
    digest = typed_data_digest(domain, meter_reading_hash(reading))
    signer = recover_address(digest, signed.signature)
    reason = refusal(directory, address_bytes(meter), signer, reading.interval)
    if reason:
        raise ReadingRejected(
            reason, "sign with a key registered for the meter, for this chain and oracle contract"
        )
    return reading


def validate_period(
    member: Member,
    period: Period,
    received: Iterable[SignedReading],
    domain: bytes,
    directory: MeterDirectory = _OWN_KEYS,
    policy: SubstitutionPolicy = NO_SUBSTITUTION,
) -> ValidatedPeriod:
    """Energy of a member's period from whatever was received, in any order, with duplicates.

    Args:
        member: whose meter.
        period: the period; the register at the end of the interval before it is needed too.
        received: readings of this meter.
        domain: EIP-712 domain separator.
        directory: who may sign for the meter.
        policy: how gaps are filled.
    """
    taken: list[Record] = []
    refused: list[Rejection] = []
    for signed in received:
        try:
            reading = check_reading(signed, member.meter, domain, directory)
        except ReadingRejected as error:
            refused.append(Rejection(signed, error.message))
            continue
        taken.append(_record(reading, signed.signature))
    meter = directory.record(address_bytes(member.meter))
    found = energy_of(member, period, taken, meter, policy)
    return replace(found, rejections=(*refused, *found.rejections))


def energy_of(
    member: Member,
    period: Period,
    records: Iterable[Record],
    meter: MeterRecord | None,
    policy: SubstitutionPolicy = NO_SUBSTITUTION,
) -> ValidatedPeriod:
    """As `validate_period`, from readings whose signatures have been checked.

    Args:
        member: whose meter.
        period: the period.
        records: the meter's readings; those a week earlier too, if the policy uses them.
        meter: exchanges and rollover; None for a meter without.
        policy: how gaps are filled.
    """
    everything = list(records)
    first, count = period.first_interval, period.interval_count
    end = first + count
    of_period = [item for item in everything if first - 1 <= item.interval < end]
    boundaries, contradicting = _boundaries(of_period)
    rejections = [
        _rejection(
            item,
            f"interval {item.interval}: contradicts another reading of this interval",
            "contradiction",
        )
        for item in contradicting
    ]
    contradicted = {item.interval for item in contradicting}
    steps = _Steps(member.fuse_limit_wh, meter)
    energy: dict[int, IntervalReading] = {}
    reasons: dict[int, str] = {}
    for interval in range(first, end):
        before, after = boundaries.get(interval - 1), boundaries.get(interval)
        if before is None or after is None:
            lacking = interval if after is None else interval - 1
            reasons[interval] = _absence(lacking, contradicted)
            continue
        step = steps.between(before, after, interval)
        if isinstance(step, str):
            reasons[interval] = step
            rejections += [
                _rejection(item, f"interval {interval}: {step}", "step") for item in after.records
            ]
            continue
        quality = _QUALITIES[max(before.quality, after.quality)]
        energy[interval] = IntervalReading(*step, quality)
        if quality is Quality.SUBSTITUTED:
            reasons[interval] = "the meter calls the register substituted"
    if len(energy) < count and policy.rules:
        gaps = [
            _gap(run, boundaries, steps)
            for run in _runs(interval for interval in range(first, end) if interval not in energy)
        ]
        reference = _week_earlier(member, period, everything, meter, policy)
        for interval, (reading, rule) in substitute(gaps, policy, first, reference).items():
            energy[interval] = reading
            reasons[interval] = f"{rule}; {reasons[interval]}"
    readings = tuple(energy.get(interval, MISSING_READING) for interval in range(first, end))
    return ValidatedPeriod(member, readings, tuple(rejections), reasons)


def _boundaries(records: Iterable[Record]) -> tuple[dict[int, _Boundary], list[Record]]:
    """By interval what the registers showed; and the readings that contradict each other, of which none counts."""
    found: dict[int, _Boundary] = {}
    contradicted: dict[int, list[Record]] = {}
    for item in records:
        known = found.get(item.interval)
        if known is None:
            found[item.interval] = _Boundary(item[2], item[3], item.quality, [item])
        elif (known.import_wh, known.export_wh, known.quality) == (item[2], item[3], item.quality):
            # Read twice and nothing else said: both sequence numbers count.
            known.records.append(item)
        else:
            contradicted.setdefault(item.interval, []).append(item)
    for interval in contradicted:
        contradicted[interval] += found.pop(interval).records
    evidence = [
        item for interval in sorted(contradicted) for item in sorted(contradicted[interval])
    ]
    # The meter itself says that it has no value: as if it had not been read.
    usable = {key: item for key, item in found.items() if item.quality != Quality.MISSING}
    return usable, evidence


@dataclass(frozen=True, slots=True)
class _Steps:
    """The rule from one register to the next: grows, at most by what the fuse carries, in sequence."""

    fuse_limit_wh: int
    meter: MeterRecord | None

    def between(
        self, before: _Boundary, after: _Boundary, interval: int, intervals: int = 1
    ) -> tuple[int, int] | str:
        """Import and export of the `intervals` intervals that end with `interval`, or what is wrong."""
        taken, given = after.import_wh - before.import_wh, after.export_wh - before.export_wh
        # What nearly every step is; the rest of the rule says the same of it, more slowly.
        if (
            intervals == len(before.records) == len(after.records) == 1
            and after.records[0].sequence == before.records[0].sequence + 1
            and 0 <= taken <= self.fuse_limit_wh
            and 0 <= given <= self.fuse_limit_wh
            and not (self.meter and self.meter.exchanges)
        ):
            return taken, given
        exchange = self._exchange(interval, intervals)
        if exchange is None:
            fault = _sequence_fault(before, after, intervals)
            if fault:
                return fault
        amounts = []
        for name, earlier, later, swap in (
            ("import register", before.import_wh, after.import_wh, _swap(exchange, "import")),
            ("export register", before.export_wh, after.export_wh, _swap(exchange, "export")),
        ):
            amount = self._growth(earlier, later, swap, intervals)
            if amount < 0:
                return f"{name} fell from {earlier} to {later} Wh"
            if amount > self.fuse_limit_wh * intervals:
                return (
                    f"{name} grew by {amount} Wh, more than the fuse carries "
                    f"({self.fuse_limit_wh * intervals} Wh)"
                )
            amounts.append(amount)
        return amounts[0], amounts[1]

    def _growth(
        self, earlier: int, later: int, swap: tuple[int, int] | None, intervals: int
    ) -> int:
        """What the register grew by; negative if it fell."""
        if swap:
            closing, opening = swap
            return min(closing - earlier, later - opening, 0) or closing - earlier + later - opening
        modulus = self.meter.register_modulus_wh if self.meter else None
        if later < earlier and modulus and earlier < modulus:
            wrapped = later + modulus - earlier
            # A fall that is no rollover stays a fall.
            if wrapped <= self.fuse_limit_wh * intervals:
                return wrapped
        return later - earlier

    def _exchange(self, interval: int, intervals: int) -> MeterExchange | None:
        for item in self.meter.exchanges if self.meter else ():
            if interval - intervals < item.interval <= interval:
                return item
        return None


def _swap(exchange: MeterExchange | None, direction: str) -> tuple[int, int] | None:
    if exchange is None:
        return None
    if direction == "import":
        return exchange.closing_import_wh, exchange.opening_import_wh
    return exchange.closing_export_wh, exchange.opening_export_wh


def _sequence_fault(before: _Boundary, after: _Boundary, intervals: int) -> str | None:
    earlier = [item.sequence for item in before.records]
    later = [item.sequence for item in after.records]
    if intervals == 1:
        follows = any(number + 1 in later for number in earlier)
    else:
        # Over a gap readings were lost or the meter could not read; it may only not count backwards.
        follows = max(later) > min(earlier)
    return None if follows else f"sequence {later[0]} does not follow {earlier[0]}"


def _runs(intervals: Iterable[int]) -> list[range]:
    """Ascending intervals as runs without holes."""
    numbers = list(intervals)
    cuts = [0, *(i for i, (a, b) in enumerate(pairwise(numbers), 1) if b != a + 1), len(numbers)]
    return [range(numbers[a], numbers[b - 1] + 1) for a, b in pairwise(cuts) if a < b]


def _gap(run: range, boundaries: Mapping[int, _Boundary], steps: _Steps) -> Gap:
    before, after = boundaries.get(run.start - 1), boundaries.get(run.stop - 1)
    if before is None or after is None:
        return Gap(run, None)
    total = steps.between(before, after, run.stop - 1, len(run)) if len(run) > 1 else ""
    return Gap(run, None if isinstance(total, str) else total)


def _week_earlier(
    member: Member,
    period: Period,
    records: Sequence[Record],
    meter: MeterRecord | None,
    policy: SubstitutionPolicy,
) -> tuple[IntervalReading, ...] | None:
    """The member's measured energy of the day a week earlier, as many intervals as the period has."""
    if not policy.uses_weekday:
        return None
    first = period.first_interval - policy.reference_shift_intervals
    earlier = Period(period.number - 7, first, period.interval_count, period.interval_minutes)
    return energy_of(member, earlier, records, meter).readings


def _absence(interval: int, contradicted: set[int]) -> str:
    if interval in contradicted:
        return f"readings of interval {interval} contradict each other"
    return f"no register at the end of interval {interval}"


def _record(reading: RegisterReading, signature: bytes) -> Record:
    return Record(
        address_bytes(reading.meter),
        reading.interval,
        reading.import_register_wh,
        reading.export_register_wh,
        reading.sequence,
        int(reading.quality),
        signature,
    )


def _rejection(item: Record, reason: str, code: str) -> Rejection:
    reading = RegisterReading(
        to_checksum_address(item.meter), *item[1:5], quality=Quality(item.quality)
    )
    return Rejection(SignedReading(reading, item.signature), reason, code)
