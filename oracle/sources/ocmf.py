"""OCMF: records that the meter of a charging station signed itself.

Open Charge Metering Format 1.2, https://github.com/SAFE-eV/OCMF-Open-Charge-Metering-Format: `OCMF|payload|signature`, both
JSON, the signature ECDSA with SHA-256 over the payload's bytes, on P-256 (secp256r1, the default) or secp256k1. The record
goes with the sighting as evidence, so that whoever doubts the collector's signature can check the meter's.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from backend.domain.errors import MalformedInput
from backend.domain.readings import Quality

from .base import (
    Item,
    Page,
    Refusal,
    Sighting,
    Unusable,
    guarded,
    iso_ms,
    json_object,
    register_wh,
    shown_text,
)

_CURVES = {"ECDSA-secp256r1-SHA256": ec.SECP256R1, "ECDSA-secp256k1-SHA256": ec.SECP256K1}
_DEFAULT_ALGORITHM = "ECDSA-secp256r1-SHA256"
# A:B:C.D.E with A and B and F left out or wildcards; C tells direction, D = 8 a register. Hexadecimal after `01-00:`.
_OBIS = re.compile(r"(?:\w{1,2}-\w{1,2}:)?([0-9A-Fa-f]{1,2})\.0?8\.(\w{1,2})(?:[*.]\w{2,3})?")
# The OBIS value groups that OCMF adds: B0 and C0 are the totals of the meter; B1 to B3 and C1 to C3 are of a transaction or cable.
_IMPORT = {"1", "01", "B0"}
_EXPORT = {"2", "02", "C0"}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d),(\d{3})([+-]\d{4}) ([UISR])")
_PAGE = re.compile(r"([TF])([0-9]{1,18})")
_READING_LIMIT = 10_000


def public_key(text: str) -> ec.EllipticCurvePublicKey:
    """A meter's public key, as it is published: DER (SubjectPublicKeyInfo) in hexadecimal or base64.

    Raises:
        MalformedInput: it is none, or on another curve.
    """
    try:
        data = bytes.fromhex(text)
    except ValueError:
        try:
            data = b64decode(text, validate=True)
        except binascii.Error:
            data = b""
    try:
        key = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP256K1
    ):
        return key
    raise MalformedInput(
        "public_key",
        text[:40],
        "not a public key on P-256 or secp256k1",
        "give the meter's key in DER, hexadecimal or base64",
    )


def decode_ocmf(message: bytes, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> tuple[Item, ...]:
    """A record.

    Args:
        message: `OCMF|...|...`.
        keys: by serial number of the meter (MS), else of the gateway (GS).
    """

    def decode() -> Iterator[Item]:
        payload, signature = _sections(message)
        data = json_object(payload)
        device = _serial(data)
        _verify(payload, json_object(signature), keys.get(device), device)
        yield _page(data.get("PG"), device)
        yield from _sightings(data, device, message)

    return guarded(decode, message)


def _sections(message: bytes) -> tuple[bytes, bytes]:
    head, _, rest = message.strip().partition(b"|")
    payload, bar, signature = rest.rpartition(b"|")
    if head != b"OCMF" or not bar:
        raise Unusable("format", "no record: not OCMF|payload|signature")
    return payload, signature


def _serial(data: dict[str, Any]) -> str:
    for name in ("MS", "GS"):
        value = data.get(name)
        if isinstance(value, str) and 0 < len(value) <= 64:
            return value
    raise Unusable("format", "MS, GS: no serial number")


def _page(text: object, device: str) -> Page:
    match = _PAGE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Unusable("pagination", f"PG: {shown_text(text)} is no page")
    # T numbers records of transactions, F all others.
    return Page(device, match[1], int(match[2]))


def _verify(
    payload: bytes,
    signature: dict[str, Any],
    key: ec.EllipticCurvePublicKey | None,
    device: str,
) -> None:
    if key is None:
        raise Unusable("signer", f"meter {shown_text(device)}: no public key is registered")
    algorithm = signature.get("SA", _DEFAULT_ALGORITHM)
    curve = _CURVES.get(algorithm) if isinstance(algorithm, str) else None
    if curve is None:
        raise Unusable("signature", f"SA: {shown_text(algorithm)} is not supported")
    if not isinstance(key.curve, curve):
        raise Unusable("signature", f"SA: {algorithm} is not the curve of the registered key")
    try:
        encoded = signature["SD"]
        data = (
            b64decode(encoded, validate=True)
            if signature.get("SE", "hex") == "base64"
            else bytes.fromhex(encoded)
        )
        key.verify(data, payload, ec.ECDSA(SHA256()))
    except (KeyError, TypeError, ValueError):
        raise Unusable("signature", "SD: no signature") from None
    except InvalidSignature:
        raise Unusable("signature", "SD: not the meter's signature of this payload") from None


def _sightings(data: dict[str, Any], device: str, message: bytes) -> Iterator[Item]:
    readings = data.get("RD")
    if not isinstance(readings, list) or not 0 < len(readings) <= _READING_LIMIT:
        raise Unusable("format", "RD: no list of readings")
    found: dict[int, dict[str, tuple[int, Quality]]] = {}
    whole: dict[str, Any] = {}
    for number, reading in enumerate(readings):
        if not isinstance(reading, dict):
            raise Unusable("format", f"RD[{number}]: no object")
        # What is as in the reading before is left out.
        whole = whole | reading
        try:
            time_ms, direction, energy, quality = _reading(whole, f"RD[{number}]")
        except Unusable as error:
            yield Refusal(device, error.code, error.reason, message)
            continue
        registers = found.setdefault(time_ms, {})
        if registers.get(direction, (energy, quality))[0] != energy:
            raise Unusable("format", f"RD[{number}]: another value for the same moment")
        registers[direction] = (energy, quality)
    for time_ms, registers in found.items():
        yield Sighting(
            device,
            time_ms,
            registers["import"][0] if "import" in registers else None,
            registers["export"][0] if "export" in registers else None,
            max(quality for _, quality in registers.values()),
            message,
        )


def _reading(reading: dict[str, Any], where: str) -> tuple[int, str, int, Quality]:
    code = reading.get("RI")
    match = _OBIS.fullmatch(code) if isinstance(code, str) else None
    group = match[1].upper() if match else ""
    if group not in _IMPORT | _EXPORT:
        raise Unusable(
            "direction", f"{where}.RI: {shown_text(code)} is no register of import or export"
        )
    state, flags = reading.get("ST"), reading.get("EF", "")
    if state not in ("G", "S"):
        raise Unusable("state", f"{where}.ST: the meter says {shown_text(state)}")
    if not isinstance(flags, str) or flags.strip("Et"):
        raise Unusable("format", f"{where}.EF: {shown_text(flags)} is no list of errors")
    if flags:
        raise Unusable("state", f"{where}.EF: {'energy' if 'E' in flags else 'time'} is not usable")
    time_ms, synchronised = _moment(reading.get("TM"), where)
    energy = register_wh(reading.get("RV"), reading.get("RU"), f"{where}.RV")
    measured = state == "G" and synchronised
    direction = "import" if group in _IMPORT else "export"
    return time_ms, direction, energy, Quality.MEASURED if measured else Quality.SUBSTITUTED


def _moment(text: object, where: str) -> tuple[int, bool]:
    """Unix milliseconds, and whether the clock was synchronised (S), or ran on from when it was (R)."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Unusable("clock", f"{where}.TM: {shown_text(text)} is no time")
    time_ms = iso_ms(f"{match[1]}.{match[2]}{match[3]}", f"{where}.TM")
    return time_ms, match[4] in "SR"
