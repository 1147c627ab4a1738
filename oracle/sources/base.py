"""What every source of readings is: something that can be tried out, and that delivers sightings of registers.

A source decodes what devices send; it neither signs nor stores. `decode` functions take bytes from anywhere and raise
nothing: what cannot be used becomes a `Refusal` that says why, so that it is kept and shown.

To add a source write one module here, with a class that satisfies `Source` and a class `Settings` that opens it (`registry.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal, localcontext
from threading import Event
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from backend.domain.errors import InputError, MalformedInput, PeerwattError
from backend.domain.readings import Quality
from backend.domain.values import parse_json

# 2000-01-01 and 2100-01-01: a clock outside has never been set.
_EARLIEST_MS = 946_684_800_000
_LATEST_MS = 4_102_444_800_000
_REGISTER_LIMIT_WH = 2**63
_WH_PER_UNIT = {"wh": Decimal(1), "kwh": Decimal(1000), "mwh": Decimal(1_000_000)}
# Decimal itself would take underscores, and the digits of all scripts.
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?")
MESSAGE_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a device's registers showed at a moment.

    Attributes:
        device: its name in the source.
        time_ms: Unix milliseconds, by the device's clock or the source's.
        import_wh: import register; None if the device does not say.
        export_wh: export register; None if the device does not say.
        quality: as the device calls it.
        evidence: the message, where the device signed it itself.
        row: its row, in a table.
    """

    device: str
    time_ms: int
    import_wh: int | None
    export_wh: int | None
    quality: Quality = Quality.MEASURED
    evidence: bytes = b""
    row: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message, or a part of one, that cannot be used.

    Attributes:
        device: whose, as far as known.
        code: short, for counting.
        reason: in words, naming field and value.
        message: what came.
        row: its row, in a table.
    """

    device: str
    code: str
    reason: str
    message: bytes = b""
    row: int | None = None


@dataclass(frozen=True, slots=True)
class IntervalEnergy:
    """What flowed in an interval, from a table that has no registers.

    Attributes:
        device: its name in the source.
        start_ms, end_ms: Unix milliseconds at which it begins and ends; both, so that an hour is not taken for a quarter of one.
        import_wh, export_wh: energy; None if the table does not say.
        quality: as the table calls it.
        row: its row.
    """

    device: str
    start_ms: int
    end_ms: int
    import_wh: int | None
    export_wh: int | None
    quality: Quality = Quality.MEASURED
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The number that a device gives a record of its own; one that never came shows as a gap between those that did.

    Attributes:
        device: its name in the source.
        kind: numbers of each kind count for themselves.
        number: 0 or more.
    """

    device: str
    kind: str
    number: int


Item = Sighting | IntervalEnergy | Page | Refusal


def _nothing() -> None:
    """Polled sources have nobody to tell."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Items that came together; `acknowledge` is called once they are on disk, and not before."""

    items: tuple[Item, ...]
    acknowledge: Callable[[], None] = field(default=_nothing)


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """What trying out a source showed.

    Attributes:
        works: whether it can be used.
        detail: in words.
        devices: names of devices it offers, as far as it tells.
    """

    works: bool
    detail: str
    devices: tuple[str, ...] = ()


class Source(Protocol):
    """A source of sightings."""

    name: str

    def test_connection(self) -> ConnectionTest:
        """Tries everything that later has to work, and says what does not; raises nothing."""

    def deliveries(self, stop: Event) -> Iterator[Delivery]:
        """What comes in, until `stop` is set or there is no more.

        Raises:
            SourceUnavailable: it does not answer; calling again later is right.
        """


class Unusable(Exception):
    """A part of a message cannot be used; becomes a `Refusal`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def guarded(
    decode: Callable[[], Iterable[Item]], message: bytes, device: str = ""
) -> tuple[Item, ...]:
    """The items of a decoder; what it finds unusable as a refusal."""
    if len(message) > MESSAGE_LIMIT_BYTES:
        reason = f"message has {len(message)} bytes, more than {MESSAGE_LIMIT_BYTES}"
        return (Refusal(device, "size", reason, message[:1024]),)
    try:
        return tuple(decode())
    except Unusable as error:
        return (Refusal(device, error.code, error.reason, message),)


def json_object(message: bytes) -> dict[str, Any]:
    """A JSON object from a message.

    Raises:
        Unusable: it is none.
    """
    data = json_value(message)
    if not isinstance(data, dict):
        raise Unusable("format", f"message: {type(data).__name__} where an object belongs")
    return data


def json_value(message: bytes) -> Any:
    """JSON from a message, with the limits of `parse_json`.

    Raises:
        Unusable: it is none.
    """
    try:
        return parse_json(message, "message")
    except InputError as error:
        raise Unusable("format", error.message) from None


def register_wh(value: object, unit: object, field_name: str, rounding: str = ROUND_FLOOR) -> int:
    """A register in whole watt-hours, rounded down: what is cut off is counted in a later reading.

    Args:
        value: number, or text of one.
        unit: `Wh`, `kWh` or `MWh` in any case.
        field_name: for the reason.
        rounding: another one, for the energy of an interval, where nothing is counted later.

    Raises:
        Unusable: no number, negative, too large, or the unit is not one of energy.
    """
    factor = _WH_PER_UNIT.get(unit.strip().lower()) if isinstance(unit, str) else None
    if factor is None:
        raise Unusable("unit", f"{field_name}: unit {_shown(unit)} is none of Wh, kWh, MWh")
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise Unusable("number", f"{field_name}: {_shown(value)} is no number")
    # The shortest text that gives a float back is what the device wrote, up to 15 digits.
    text = repr(value) if isinstance(value, float) else str(value).strip()
    if not _NUMBER.fullmatch(text):
        raise Unusable("number", f"{field_name}: {_shown(text)} is no register, which starts at 0")
    number = Decimal(text)
    if number < 0:
        raise Unusable("number", f"{field_name}: {_shown(text)} is no register, which starts at 0")
    if number.adjusted() > 19:
        raise Unusable("range", f"{field_name}: {_shown(value)} is too large")
    with localcontext(prec=60):
        energy = int((number * factor).to_integral_value(rounding))
    if energy >= _REGISTER_LIMIT_WH:
        raise Unusable("range", f"{field_name}: {_shown(value)} is too large")
    return energy


def unix_ms(seconds: object, field_name: str) -> int:
    """Unix seconds as milliseconds.

    Raises:
        Unusable: no number, or a time that no set clock shows.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise Unusable("clock", f"{field_name}: {_shown(seconds)} is no time")
    if (isinstance(seconds, float) and not math.isfinite(seconds)) or abs(seconds) > 1e12:
        raise Unusable("clock", f"{field_name}: {_shown(seconds)} is no time")
    return _plausible(round(seconds * 1000), field_name, seconds)


def iso_ms(
    text: object, field_name: str, zone: ZoneInfo | None = None, near_ms: int | None = None
) -> int:
    """A time in ISO 8601 as Unix milliseconds.

    Args:
        text: with an offset or `Z`, unless `zone` says where the clock hangs.
        field_name: for the reason.
        zone: of a time without offset.
        near_ms: when the message came; decides in the hour that clocks show twice.

    Raises:
        Unusable: no time, no offset where none may be missing, a local time that clocks skip or show twice.
    """
    if not isinstance(text, str) or len(text) > 40:
        raise Unusable("clock", f"{field_name}: {_shown(text)} is no time")
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Unusable("clock", f"{field_name}: {_shown(text)} is no time") from None
    return datetime_ms(moment, field_name, zone, near_ms)


def datetime_ms(
    moment: datetime, field_name: str, zone: ZoneInfo | None = None, near_ms: int | None = None
) -> int:
    """A date and time as Unix milliseconds; as `iso_ms`.

    Raises:
        Unusable: as `iso_ms`.
    """
    if not 2000 <= moment.year < 2100:
        raise Unusable("clock", f"{field_name}: {_shown(str(moment))} cannot be; set the clock")
    if moment.tzinfo is not None:
        return _plausible(_ms(moment), field_name, moment)
    if zone is None:
        raise Unusable(
            "clock", f"{field_name}: {_shown(str(moment))} has no offset, and no zone is configured"
        )
    first, second = (_ms(moment.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if first == second:
        return _plausible(first, field_name, moment)
    back = datetime.fromtimestamp(first / 1000, zone).replace(tzinfo=None)
    if abs(back - moment) >= timedelta(seconds=1):
        raise Unusable("clock", f"{field_name}: clocks skip {_shown(str(moment))}")
    if near_ms is None:
        raise Unusable(
            "clock", f"{field_name}: clocks show {_shown(str(moment))} twice; send the offset"
        )
    return min((first, second), key=lambda candidate: abs(candidate - near_ms))


def time_zone(name: str | None) -> ZoneInfo | None:
    """A zone by its IANA name.

    Raises:
        MalformedInput: there is none of this name.
    """
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise MalformedInput(
            "time_zone", name, "unknown", "give an IANA name such as Europe/Copenhagen"
        ) from None


def shown_text(value: object) -> str:
    """A value for a reason, cut short."""
    return _shown(value)


def failed_test(error: PeerwattError) -> ConnectionTest:
    """A connection test that ended with an error."""
    return ConnectionTest(False, f"{error.message}; mend: {error.remedy}")


def _ms(moment: datetime) -> int:
    return int(
        (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)
    )


def _plausible(time_ms: int, field_name: str, value: object) -> int:
    if not _EARLIEST_MS <= time_ms < _LATEST_MS:
        raise Unusable("clock", f"{field_name}: {_shown(str(value))} cannot be; set the clock")
    return time_ms


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:60] + "..." if len(text) > 60 else text)
