"""Who may sign for which meter, from which interval to which.

A meter that can sign does so with its own key. For one that cannot, the gateway beside it or the oracle's collector signs,
and since the signer's address then differs from the meter's, every reading says so. `MeterDirectory` is what the rest of the
oracle asks; `FileDirectory` answers from a file, `ChainDirectory` (`meter_registry.py`) from the registry on chain.

Rights go by interval, never by the time a reading arrives: two signers that received the same readings in another order,
or years later, must come to the same report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Protocol

from eth_utils.address import to_checksum_address
from pydantic import AfterValidator, Field

from backend.domain.errors import DuplicateIdentifier, MalformedInput
from backend.domain.values import Value, parse_json

from .wire import address_bytes

MODULUS_LIMIT_WH = 2**63


class SignerKind(StrEnum):
    """What signs."""

    METER = "meter"
    GATEWAY = "gateway"
    COLLECTOR = "collector"


@dataclass(frozen=True, slots=True)
class SignerGrant:
    """The right to sign for a meter.

    Attributes:
        signer: address of the key, 20 bytes.
        kind: what holds the key.
        from_interval: the first interval whose reading it may sign.
        until_interval: the first one it may not any more; None while the right is open.
        revoked: the right never counts, whatever the interval: the key is known to be in wrong hands.
    """

    signer: bytes
    kind: SignerKind
    from_interval: int = 0
    until_interval: int | None = None
    revoked: bool = False

    def covers(self, interval: int) -> bool:
        """Whether a reading of that interval may be signed."""
        return (
            not self.revoked
            and self.from_interval <= interval
            and (self.until_interval is None or interval < self.until_interval)
        )


@dataclass(frozen=True, slots=True)
class MeterExchange:
    """A device was replaced within an interval; the new one has registers and a sequence of its own.

    Attributes:
        interval: in which it happened.
        closing_import_wh, closing_export_wh: what the old device showed last.
        opening_import_wh, opening_export_wh: what the new one showed first.
    """

    interval: int
    closing_import_wh: int
    closing_export_wh: int
    opening_import_wh: int
    opening_export_wh: int


@dataclass(frozen=True, slots=True)
class MeterRecord:
    """A registered meter.

    Attributes:
        meter: its address, 20 bytes.
        grants: who may sign.
        register_modulus_wh: where its registers start again at zero; None if they never do.
        exchanges: by interval.
    """

    meter: bytes
    grants: tuple[SignerGrant, ...]
    register_modulus_wh: int | None = None
    exchanges: tuple[MeterExchange, ...] = ()

    def may_sign(self, signer: bytes, interval: int) -> bool:
        """Whether the signer's reading of that interval counts."""
        return any(grant.signer == signer and grant.covers(interval) for grant in self.grants)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old what a directory knows of the chain may be.

    Attributes:
        block: number of the block it is known of.
        age_seconds: since a node last confirmed it.
        failure: why none does now; None if one does.
    """

    block: int
    age_seconds: float
    failure: str | None


class MeterDirectory(Protocol):
    """What the oracle asks about meters."""

    def record(self, meter: bytes) -> MeterRecord | None:
        """The meter's record, or None if it is not registered."""

    def reload(self) -> bool:
        """Takes over what has changed where the records come from; says whether anything has."""

    def freshness(self) -> Freshness | None:
        """How old it may be; None where that cannot matter."""


class OwnKeys:
    """Every address may sign for itself, and nobody else: meters with a key of their own."""

    def record(self, meter: bytes) -> MeterRecord:
        """The record of a meter that signs with the key its address comes from."""
        return MeterRecord(meter, (SignerGrant(meter, SignerKind.METER),))

    def reload(self) -> bool:
        """There is nothing that could change."""
        return False

    def freshness(self) -> None:
        """Nothing can be out of date."""


def refusal(directory: MeterDirectory, meter: bytes, signer: bytes, interval: int) -> str | None:
    """Why a reading by that signer does not count; None if it does."""
    found = directory.record(meter)
    if found is None:
        return f"meter: {to_checksum_address(meter)} is not registered"
    if found.may_sign(signer, interval):
        return None
    held = [grant for grant in found.grants if grant.signer == signer]
    who = to_checksum_address(signer)
    if not held:
        return (
            f"signature: made by {who}, not by meter {to_checksum_address(meter)} "
            "nor by anybody registered for it"
        )
    if all(grant.revoked for grant in held):
        return f"signature: the right of {who} to sign for this meter is revoked"
    return f"signature: {who} may not sign for this meter in interval {interval}"


# --- The file ----------------------------------------------------------------------------------------------------------

Interval = Annotated[int, Field(ge=0, lt=2**63)]
Register = Annotated[int, Field(ge=0, lt=2**63)]


def _is_address(text: str) -> str:
    address_bytes(text)
    return text


Address = Annotated[str, AfterValidator(_is_address)]


class GrantEntry(Value):
    """`meters[].signers[]` of the file."""

    signer: Address
    # Strict mode takes no text for an enumeration.
    kind: Literal["meter", "gateway", "collector"]
    from_interval: Interval = 0
    until_interval: Interval | None = None
    revoked: bool = False


class ExchangeEntry(Value):
    """`meters[].exchanges[]` of the file."""

    interval: Interval
    closing_import_wh: Register
    closing_export_wh: Register
    opening_import_wh: Register
    opening_export_wh: Register


class MeterEntry(Value):
    """`meters[]` of the file."""

    meter: Address
    signers: tuple[GrantEntry, ...]
    register_modulus_wh: Annotated[int, Field(gt=0, le=MODULUS_LIMIT_WH)] | None = None
    exchanges: tuple[ExchangeEntry, ...] = ()


class MetersFile(Value):
    """The file `peerwatt/meters/1`."""

    format: Literal["peerwatt/meters/1"] = "peerwatt/meters/1"
    meters: tuple[MeterEntry, ...]


class FileDirectory:
    """Meters from a file; `reload` takes a changed file over whole, or not at all.

    Args:
        path: a file of format `peerwatt/meters/1`.

    Raises:
        InputError: the file is not one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = 0
        self._records: Mapping[bytes, MeterRecord] = {}
        self.reload()

    def reload(self) -> bool:
        """Reads the file again if it has changed; says whether it has."""
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp == self._stamp:
                return False
            text = self._path.read_bytes()
        except OSError as error:
            raise MalformedInput(
                str(self._path), error.strerror, "cannot be read", "name the file of meters"
            ) from None
        self._records = parse_meters(text, self._path)
        self._stamp = stamp
        return True

    def record(self, meter: bytes) -> MeterRecord | None:
        """The meter's record, or None."""
        return self._records.get(meter)

    def freshness(self) -> None:
        """Whoever writes the file keeps it up to date."""


def parse_meters(text: bytes, path: Path) -> dict[bytes, MeterRecord]:
    """The records of a file, by meter.

    Raises:
        InputError: not the format, or a meter twice.
    """
    found: dict[bytes, MeterRecord] = {}
    for index, entry in enumerate(MetersFile.from_data(parse_json(text, path)).meters):
        meter = address_bytes(entry.meter)
        if meter in found:
            raise DuplicateIdentifier(
                f"meters[{index}].meter", entry.meter, "the meter is there twice", "keep one"
            )
        grants = (
            SignerGrant(
                address_bytes(item.signer),
                SignerKind(item.kind),
                item.from_interval,
                item.until_interval,
                item.revoked,
            )
            for item in entry.signers
        )
        exchanges = (MeterExchange(**item.model_dump()) for item in entry.exchanges)
        found[meter] = MeterRecord(
            meter, tuple(grants), entry.register_modulus_wh, tuple(exchanges)
        )
    return found
