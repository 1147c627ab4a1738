"""Meter readings: registers as a meter signs them, and energy per interval as the oracle reports it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Quality(IntEnum):
    """How an interval's value came about. The numbers are part of the canonical encoding."""

    MEASURED = 0
    SUBSTITUTED = 1
    MISSING = 2


@dataclass(frozen=True, slots=True)
class RegisterReading:
    """What a meter's two registers show at the end of an interval.

    Attributes:
        meter: address of the meter's key, checksummed hex.
        interval: index since the Unix epoch of the interval that has just ended.
        import_register_wh: energy taken from the grid since the meter was made; only grows.
        export_register_wh: energy given to the grid since the meter was made; only grows.
        sequence: counts the meter's readings; one more each time.
        quality: what the meter says of the value.
    """

    meter: str
    interval: int
    import_register_wh: int
    export_register_wh: int
    sequence: int
    quality: Quality = Quality.MEASURED


@dataclass(frozen=True, slots=True)
class SignedReading:
    """A register reading with the meter's EIP-712 signature (65 bytes, r || s || v)."""

    reading: RegisterReading
    signature: bytes


@dataclass(frozen=True, slots=True)
class IntervalReading:
    """Energy of one interval at one connection point; import and export are always kept apart."""

    import_wh: int
    export_wh: int
    quality: Quality

    @property
    def net_wh(self) -> int:
        """Net position: positive for a surplus. Zero where the reading is missing: the member is left to its supplier."""
        return 0 if self.quality is Quality.MISSING else self.export_wh - self.import_wh


MISSING_READING = IntervalReading(0, 0, Quality.MISSING)
