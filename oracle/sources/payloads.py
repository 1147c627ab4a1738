"""Payloads of devices on MQTT: Tasmota, Shelly (second generation and later), DSMR telegrams of a P1 port.

Formats: Tasmota, https://tasmota.github.io/docs/MQTT/ and Energy-Saving; Shelly,
https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/EMData; DSMR, "P1 Companion Standard" 5.0.2 of Netbeheer
Nederland (OBIS codes of IEC 62056-6-1, CRC-16/ARC).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from .base import (
    Item,
    Sighting,
    Unusable,
    datetime_ms,
    guarded,
    iso_ms,
    json_object,
    register_wh,
    shown_text,
    unix_ms,
)

# --- Tasmota -----------------------------------------------------------------------------------------------------------


def decode_tasmota(
    message: bytes,
    device: str,
    received_ms: int,
    zone: ZoneInfo | None,
    import_field: str = "ENERGY.Total",
    export_field: str | None = "ENERGY.ExportActive",
) -> tuple[Item, ...]:
    """A message `tele/DEVICE/SENSOR`; registers are in kWh.

    Args:
        message: as received.
        device: name of the device, from the topic.
        received_ms: when.
        zone: of the device's clock; Tasmota sends no offset by default.
        import_field: path of the import register, such as `SML.Total_in` or `ENERGY.Total.0`.
        export_field: of the export register; None if the meter has none.
    """

    def decode() -> Iterator[Item]:
        data = json_object(message)
        section = import_field.split(".", 1)[0]
        if section not in data:
            return  # another sensor's message
        time_ms = iso_ms(data.get("Time"), "Time", zone, received_ms)
        taken = register_wh(_at(data, import_field), "kWh", import_field)
        given = None
        if export_field is not None:
            given = register_wh(_at(data, export_field), "kWh", export_field)
        yield Sighting(device, time_ms, taken, given)

    return guarded(decode, message, device)


def _at(data: Any, path: str) -> object:
    for part in path.split("."):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        else:
            raise Unusable("direction", f"{path}: not in the message")
    return data


# --- Shelly ------------------------------------------------------------------------------------------------------------

_SHELLY_REGISTERS = {
    "emdata": ("total_act", "total_act_ret"),
    "em1data": ("total_act_energy", "total_act_ret_energy"),
}


def decode_shelly(message: bytes) -> tuple[Item, ...]:
    """A notification on `SHELLY-ID/events/rpc`; registers are in Wh, the device is `SHELLY-ID/COMPONENT`.

    Notifications of other components (temperature, switches, instantaneous power) are passed over.
    """

    def decode() -> Iterator[Item]:
        data = json_object(message)
        if data.get("method") not in ("NotifyStatus", "NotifyFullStatus"):
            return
        source, status = data.get("src"), data.get("params")
        if not isinstance(source, str) or not source or not isinstance(status, dict):
            raise Unusable("format", "src or params: missing or of the wrong kind")
        for component, values in status.items():
            names = _SHELLY_REGISTERS.get(component.split(":")[0])
            if names is None:
                continue
            if not isinstance(values, dict):
                raise Unusable("format", f"params.{shown_text(component)}: no object")
            device = f"{source[:64]}/{component[:32]}"
            taken, given = (
                register_wh(values.get(name), "Wh", f"params.{component[:32]}.{name}")
                for name in names
            )
            yield Sighting(device, unix_ms(status.get("ts"), "params.ts"), taken, given)

    return guarded(decode, message)


# --- DSMR --------------------------------------------------------------------------------------------------------------

# A-B:C.D.E(value*unit); values of other media have other A-B.
_OBIS_LINE = re.compile(r"1-0:([12])\.8\.([012])\(([0-9]{1,9}\.[0-9]{3})\*(\w{2,3})\)")
_TIME_LINE = re.compile(r"0-0:1\.0\.0\(([0-9]{12})([SW])\)")
_IDENTIFIER_LINE = re.compile(r"0-0:96\.1\.1\(([0-9A-Fa-f]{2,96})\)")
_DUTCH_WINTER = timezone(timedelta(hours=1))
_DUTCH_SUMMER = timezone(timedelta(hours=2))


def decode_dsmr(message: bytes) -> tuple[Item, ...]:
    """A DSMR telegram, version 4 and later: with time stamp and checksum. The device is its equipment identifier."""

    def decode() -> Iterator[Item]:
        start, end = message.find(b"/"), message.rfind(b"!")
        if start < 0 or end < start:
            raise Unusable("format", "no telegram: nothing from / to !")
        checksum = message[end + 1 : end + 5]
        if not re.fullmatch(rb"[0-9A-Fa-f]{4}", checksum):
            raise Unusable("checksum", "no checksum after !")
        found = crc16(message[start : end + 1])
        if found != int(checksum, 16):
            raise Unusable("checksum", f"checksum is {found:04X}, not {checksum.decode()}")
        lines = message[start:end].decode("ascii", "replace").splitlines()
        time_ms, device, registers = _telegram(lines)
        yield Sighting(device, time_ms, _sum(registers, "1"), _sum(registers, "2"))

    return guarded(decode, message)


def _telegram(lines: list[str]) -> tuple[int, str, dict[tuple[str, str], int]]:
    time_ms, device = None, ""
    registers: dict[tuple[str, str], int] = {}
    for line in lines:
        if match := _TIME_LINE.fullmatch(line):
            time_ms = _dsmr_ms(*match.groups())
        elif match := _IDENTIFIER_LINE.fullmatch(line):
            device = match[1].upper()
        elif line.startswith(("1-0:1.8.", "1-0:2.8.")):
            match = _OBIS_LINE.fullmatch(line)
            if match is None:
                raise Unusable("number", f"{shown_text(line)}: no register")
            direction, tariff, value, unit = match.groups()
            if (direction, tariff) in registers:
                raise Unusable("format", f"1-0:{direction}.8.{tariff}: there twice")
            registers[direction, tariff] = register_wh(value, unit, f"1-0:{direction}.8.{tariff}")
    if time_ms is None:
        raise Unusable("clock", "0-0:1.0.0: no time stamp")
    if not device:
        raise Unusable("format", "0-0:96.1.1: no equipment identifier")
    return time_ms, device, registers


def _sum(registers: dict[tuple[str, str], int], direction: str) -> int | None:
    """The register of all tariffs; the total where the meter sends it, else the sum."""
    if (direction, "0") in registers:
        return registers[direction, "0"]
    parts = [registers[direction, tariff] for tariff in "12" if (direction, tariff) in registers]
    # With one of two tariffs missing the sum would be another register.
    return sum(parts) if len(parts) == 2 else None


def _dsmr_ms(digits: str, season: str) -> int:
    try:
        moment = datetime.strptime(digits, "%y%m%d%H%M%S")
    except ValueError:
        raise Unusable("clock", f"0-0:1.0.0: {shown_text(digits)} is no time") from None
    zone = _DUTCH_SUMMER if season == "S" else _DUTCH_WINTER
    return datetime_ms(moment.replace(tzinfo=zone), "0-0:1.0.0")


def crc16(data: bytes) -> int:
    """CRC-16/ARC: polynomial x^16 + x^15 + x^2 + 1 reflected, start 0."""
    value = 0
    for byte in data:
        value = (value >> 8) ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value


def _crc_entry(index: int) -> int:
    for _ in range(8):
        index = (index >> 1) ^ (0xA001 if index & 1 else 0)
    return index


_CRC_TABLE = tuple(_crc_entry(index) for index in range(256))
