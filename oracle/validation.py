"""From signed register readings to energy per interval; what fails is kept with its reason.

An interval is measured if the registers at its end and at the end of the interval before are both there and valid.
Otherwise it is missing, and the member is left to its outside supplier for it, which never makes it worse off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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

from .signing import recover

_REGISTER_LIMIT_WH = 2**64
_FIELD_LIMIT = 2**64


@dataclass(frozen=True, slots=True)
class Rejection:
    """A reading that was not taken, and why."""

    signed: SignedReading
    reason: str


@dataclass(frozen=True, slots=True)
class ValidatedPeriod:
    """One member's period: energy by interval, and what was rejected."""

    member: Member
    readings: tuple[IntervalReading, ...]
    rejections: tuple[Rejection, ...]


def check_reading(signed: SignedReading, meter: str, domain: bytes) -> RegisterReading:
    """Checks ranges and signature of one reading.

    Args:
        signed: as received.
        meter: address of the key that must have signed.
        domain: EIP-712 domain separator.

    Raises:
        ReadingRejected: naming what is wrong.
    """
    reading = signed.reading
    for name, value, limit in (
        ("interval", reading.interval, _FIELD_LIMIT),
        ("import_register_wh", reading.import_register_wh, _REGISTER_LIMIT_WH),
        ("export_register_wh", reading.export_register_wh, _REGISTER_LIMIT_WH),
        ("sequence", reading.sequence, _FIELD_LIMIT),
    ):
        if not 0 <= value < limit:
            raise ReadingRejected(
                f"{name}: {value} is outside 0..{limit - 1}", "read the meter again"
            )
    if reading.meter != meter:
        raise ReadingRejected(
            f"meter: {reading.meter} is not the member's meter {meter}",
            "register the meter, or send the reading to its owner's slot",
        )
    signer = recover(typed_data_digest(domain, meter_reading_hash(reading)), signed.signature)
    if signer != meter:
        raise ReadingRejected(
            f"signature: made by {signer}, not by meter {meter}",
            "sign with the meter's registered key, for this chain and oracle contract",
        )
    return reading


def validate_period(
    member: Member, period: Period, received: Iterable[SignedReading], domain: bytes
) -> ValidatedPeriod:
    """Energy of a member's period from whatever was received, in any order, with duplicates.

    Args:
        member: whose meter.
        period: the period; the register at the end of the interval before it is needed too.
        received: readings of this meter.
        domain: EIP-712 domain separator.
    """
    registers: dict[int, RegisterReading] = {}
    rejections: list[Rejection] = []
    for signed in received:
        try:
            reading = check_reading(signed, member.meter, domain)
        except ReadingRejected as error:
            rejections.append(Rejection(signed, error.message))
            continue
        known = registers.get(reading.interval)
        if known is None:
            registers[reading.interval] = reading
        elif known != reading:
            # Both are signed, so the meter contradicts itself; the first stays and the evidence is kept.
            rejections.append(
                Rejection(signed, f"interval {reading.interval}: differs from an earlier reading")
            )
    readings = []
    for interval in range(period.first_interval, period.first_interval + period.interval_count):
        before, after = registers.get(interval - 1), registers.get(interval)
        if before is None or after is None:
            readings.append(MISSING_READING)
            continue
        reason = _step_fault(member, before, after)
        if reason is None:
            readings.append(
                IntervalReading(
                    import_wh=after.import_register_wh - before.import_register_wh,
                    export_wh=after.export_register_wh - before.export_register_wh,
                    quality=Quality.MEASURED,
                )
            )
        else:
            readings.append(MISSING_READING)
            rejections.append(
                Rejection(SignedReading(after, b""), f"interval {interval}: {reason}")
            )
    return ValidatedPeriod(member, tuple(readings), tuple(rejections))


def _step_fault(member: Member, before: RegisterReading, after: RegisterReading) -> str | None:
    if after.sequence != before.sequence + 1:
        return f"sequence {after.sequence} does not follow {before.sequence}"
    for name, earlier, later in (
        ("import register", before.import_register_wh, after.import_register_wh),
        ("export register", before.export_register_wh, after.export_register_wh),
    ):
        if later < earlier:
            return f"{name} fell from {earlier} to {later} Wh"
        if later - earlier > member.fuse_limit_wh:
            return (
                f"{name} grew by {later - earlier} Wh, more than the fuse carries "
                f"({member.fuse_limit_wh} Wh)"
            )
    return None
