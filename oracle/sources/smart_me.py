"""Meters in the smart-me cloud: asked for over REST, or pushed by its realtime API.

REST (https://api.smart-me.com/swagger): `GET /Devices` with an API key or basic authentication gives every device with its
registers. Push (https://wiki.smart-me.com, "Realtime (Webhook) API"): a protobuf message `DeviceDataArray` with the registers
in milliwatt-hours by OBIS code. A register without direction (`CounterReading`) is never used.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field

from backend.domain.errors import SourceUnavailable
from backend.domain.values import Value

from . import http
from .base import (
    ConnectionTest,
    Delivery,
    Item,
    Refusal,
    Sighting,
    Unusable,
    failed_test,
    guarded,
    iso_ms,
    json_value,
    register_wh,
    shown_text,
    unix_ms,
)

DEFAULT_URL = "https://api.smart-me.com"
_ELECTRICITY = 1
_UTC = ZoneInfo("UTC")
_DEVICE_LIMIT = 100_000
_SLACK_SECONDS = 60
_BACKFILL_BORDERS = 96


class Settings(Value):
    """Fields of a source of kind `smart-me`."""

    url: str = DEFAULT_URL
    api_key_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    poll_seconds: Annotated[float, Field(gt=0)] = 30
    interval_minutes: Annotated[int, Field(gt=0, le=60)] = 15

    def open(self, name: str, folder: Path) -> SmartMe:
        """The source."""
        auth = http.credentials(folder, self.api_key_file, self.username, self.password_file)
        return SmartMe(auth, self.url, self.poll_seconds, name, self.interval_minutes)


class SmartMe:
    """The REST interface, asked every `poll_seconds`.

    Args:
        authorization: HTTP's header of that name (`http.credentials`).
        url: of the cloud, or of a cache that answers like it.
        poll_seconds: smart-me devices send about once a second to a minute.
        name: of the source.
        interval_minutes: borders of such intervals that were missed are asked for afterwards.
    """

    def __init__(
        self,
        authorization: str | None,
        url: str = DEFAULT_URL,
        poll_seconds: float = 30,
        name: str = "smart-me",
        interval_minutes: int = 15,
    ) -> None:
        self.name = name
        self._authorization = authorization
        self._url = url.rstrip("/")
        self._poll_seconds = poll_seconds
        self._interval_seconds = interval_minutes * 60
        # When the devices were last asked for; stays over the calls that follow a failure.
        self._asked_at: float | None = None

    def test_connection(self) -> ConnectionTest:
        """Lists the electricity meters and says which of them have both registers."""
        try:
            items = self.devices()
        except SourceUnavailable as error:
            return failed_test(error)
        meters = tuple(item.device for item in items if isinstance(item, Sighting))
        refused = [item.reason for item in items if isinstance(item, Refusal)]
        detail = f"{len(meters)} electricity meters"
        if refused:
            detail += f"; {len(refused)} that cannot be used, the first: {refused[0]}"
        return ConnectionTest(bool(meters), detail, meters)

    def devices(self) -> tuple[Item, ...]:
        """The registers of every electricity meter now.

        Raises:
            SourceUnavailable: no answer.
        """
        answer = http.get(f"{self._url}/Devices", self._authorization)
        if answer.status != 200:
            raise SourceUnavailable(
                f"{http.shown(self._url)}/Devices answers {answer.status}",
                "check the address of the interface",
            )
        return decode_devices(answer.body)

    def at(self, device: str, moment: datetime) -> tuple[Item, ...]:
        """The registers that the cloud recorded last before a moment: to fill in what was not asked for in time.

        Raises:
            SourceUnavailable: no answer.
        """
        date = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = http.get(f"{self._url}/MeterValues/{UUID(device)}", self._authorization, date=date)
        if answer.status != 200:
            return (Refusal(device, "absent", f"no values before {date}"),)
        return decode_values(answer.body, device)

    def deliveries(self, stop: Event) -> Iterator[Delivery]:
        """The registers of all meters, every `poll_seconds`; after a break those at the borders that were missed too."""
        while not stop.is_set():
            items = self.devices()
            now = time.time()
            yield Delivery(items)
            meters = [item.device for item in items if isinstance(item, Sighting)]
            for border in self._missed(now):
                yield Delivery(tuple(item for device in meters for item in self.at(device, border)))
                # Border by border: a cloud that answers only so many requests at a time is not asked from the start again.
                self._asked_at = border.timestamp()
            self._asked_at = now
            stop.wait(self._poll_seconds)

    def _missed(self, now: float) -> list[datetime]:
        """Borders of intervals between the last two times that devices were asked for, the newest day at most."""
        if self._asked_at is None:
            return []
        first, last = (int(moment // self._interval_seconds) for moment in (self._asked_at, now))
        if now - self._asked_at < 2 * self._poll_seconds + _SLACK_SECONDS:
            return []
        borders = range(max(first + 1, last - _BACKFILL_BORDERS), last + 1)
        return [datetime.fromtimestamp(number * self._interval_seconds, UTC) for number in borders]


def decode_devices(message: bytes) -> tuple[Item, ...]:
    """The answer to `GET /Devices`; devices that are no electricity meters are passed over."""

    def decode() -> Iterator[Item]:
        data = json_value(message)
        if not isinstance(data, list) or len(data) > _DEVICE_LIMIT:
            raise Unusable("format", "answer: not a list of devices")
        for entry in data:
            if not isinstance(entry, dict):
                reason = f"device: {shown_text(entry)} is no object"
                yield Refusal("", "format", reason, repr(entry).encode()[:1024])
                continue
            fields = _fields(entry)
            if fields.get("deviceenergytype") in (_ELECTRICITY, "MeterTypeElectricity"):
                yield from decode_device(fields)

    # The answer is as long as there are devices; a message limit is for single ones.
    try:
        return tuple(decode())
    except Unusable as error:
        return (Refusal("", error.code, error.reason, message[:1024]),)


def decode_device(fields: dict[str, Any], time_field: str = "valuedate") -> tuple[Item, ...]:
    """One device's object, its field names in lower case: versions of the interface write them differently."""
    message = repr(fields).encode()[:1024]
    device = fields.get("id")

    def decode() -> Iterator[Item]:
        yield Sighting(
            _device_id(device),
            # Times of this interface are UTC, written with and without Z.
            iso_ms(fields.get(time_field), time_field, _UTC),
            _register(fields, "counterreadingimport"),
            _register(fields, "counterreadingexport"),
        )

    return guarded(decode, message, str(device)[:64])


def decode_values(message: bytes, device: str) -> tuple[Item, ...]:
    """The answer to `GET /MeterValues/ID`."""

    def decode() -> Iterator[Item]:
        yield from decode_device(_fields(json_value(message)) | {"id": device}, "date")

    return guarded(decode, message, device)


def _fields(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise Unusable("format", f"device: {shown_text(entry)} is no object")
    return {name.lower(): value for name, value in entry.items()}


def _register(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    return register_wh(value, fields.get("counterreadingunit"), name)


def _device_id(value: object) -> str:
    try:
        return str(UUID(value if isinstance(value, str) else ""))
    except ValueError:
        raise Unusable("format", f"id: {shown_text(value)} is no device") from None


# --- Push --------------------------------------------------------------------------------------------------------------

_IMPORT_OBIS = bytes.fromhex("0100010800ff")
_EXPORT_OBIS = bytes.fromhex("0100020800ff")
_MILLIWATT_HOURS = 1000
# protobuf-net's DateTime: a number of units since 1970, by scale.
_MS_PER_SCALE = {0: 86_400_000.0, 1: 3_600_000.0, 2: 60_000.0, 3: 1000.0, 4: 1.0, 5: 1e-4}
_LOCAL_TIME = 2


def decode_push(message: bytes) -> tuple[Item, ...]:
    """A message of the realtime API, protobuf `DeviceDataArray`."""

    def decode() -> Iterator[Item]:
        for number, entry in _protobuf(message):
            if number != 1:
                continue
            if not isinstance(entry, bytes):
                raise Unusable("format", "DeviceDataItems: not a message")
            yield from guarded(partial(_pushed_items, entry), entry)

    return guarded(decode, message)


def _pushed_items(entry: bytes) -> tuple[Item, ...]:
    return (_pushed(entry),)


def _pushed(entry: bytes) -> Sighting:
    device, time_ms = "", None
    registers: dict[bytes, int] = {}
    for number, value in _protobuf(entry):
        if not isinstance(value, bytes):
            raise Unusable("format", f"field {number}: not a message")
        if number == 1:
            device = _guid(value)
        elif number == 2:
            time_ms = _time_ms(value)
        elif number == 3:
            obis, energy = _device_value(value)
            if obis in (_IMPORT_OBIS, _EXPORT_OBIS):
                if obis in registers:
                    raise Unusable("format", f"OBIS {obis.hex()}: there twice")
                registers[obis] = energy
    if not device or time_ms is None:
        raise Unusable("format", "DeviceId or DateTime: missing")
    if not registers:
        raise Unusable("direction", "no register with a direction (1-0:1.8.0, 1-0:2.8.0)")
    return Sighting(device, time_ms, registers.get(_IMPORT_OBIS), registers.get(_EXPORT_OBIS))


def _guid(message: bytes) -> str:
    halves = {number: value for number, value in _protobuf(message) if number in (1, 2)}
    low, high = halves.get(1), halves.get(2)
    if not isinstance(low, bytes) or not isinstance(high, bytes) or len(low) + len(high) != 16:
        raise Unusable("format", "DeviceId: not two numbers of 8 bytes")
    return str(UUID(bytes_le=low + high))


def _time_ms(message: bytes) -> int:
    values = {number: value for number, value in _protobuf(message) if isinstance(value, int)}
    raw = values.get(1, 0)
    offset = (raw >> 1) ^ -(raw & 1)  # zigzag
    if values.get(3) == _LOCAL_TIME:
        raise Unusable("clock", "DateTime: local time without an offset")
    scale = _MS_PER_SCALE.get(values.get(2, 0))
    if scale is None:
        raise Unusable("clock", f"DateTime: unknown scale {values.get(2)}")
    return unix_ms(offset * scale / 1000, "DateTime")


def _device_value(message: bytes) -> tuple[bytes, int]:
    fields = dict(_protobuf(message))
    obis, value = fields.get(1), fields.get(2)
    if not isinstance(obis, bytes) or not isinstance(value, bytes) or len(value) != 8:
        raise Unusable("format", "DeviceValue: no OBIS code, or no value")
    number = struct.unpack("<d", value)[0]
    if obis not in (_IMPORT_OBIS, _EXPORT_OBIS):
        return obis, 0
    return obis, register_wh(number, "Wh", f"OBIS {obis.hex()}") // _MILLIWATT_HOURS


def _protobuf(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a protobuf message: numbers for varints, bytes for everything else."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Unusable("format", f"protobuf: field {number} has unknown type {kind}")
        if position + length > len(message):
            raise Unusable("format", f"protobuf: field {number} is cut off")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise Unusable("format", "protobuf: cut off within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise Unusable("format", "protobuf: a number has more than 10 bytes")
