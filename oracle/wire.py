"""A signed reading as 118 bytes: how readings travel between collector and signers, and what is hashed of them.

| bytes | content |
|---|---|
| 20 | meter |
| 8 each | interval, import register (Wh), export register (Wh), sequence |
| 1 | quality |
| 65 | signature, r, s, v |

Integers are big-endian. `docs/protocol.md` has the EIP-712 struct that is signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from eth_hash.backends.pysha3 import keccak256
from eth_utils.address import to_checksum_address

from backend.domain.errors import MalformedInput, ReadingRejected
from backend.domain.readings import (
    MISSING_READING,
    IntervalReading,
    Quality,
    RegisterReading,
    SignedReading,
)
from backend.settlement.encoding import METER_READING_TYPE, tag

from .signing import ADDRESS_BYTES, recover_address

RECORD = Struct(">20sQQQQB65s")
RECORD_BYTES = RECORD.size
# The struct's words, zeros in front of each value as `abi.encode` has them.
_STRUCT = Struct(">32s12x20s24xQ24xQ24xQ24xQ31xB")
_TYPEHASH = tag(METER_READING_TYPE)
HASH_BYTES = 32
# Of one interval in a readings vector.
VECTOR_BYTES = 16
# Behind the vector, where members trade before delivery.
TRADED_BYTES = 16
_UNKNOWN = bytes(ADDRESS_BYTES)


class Record(NamedTuple):
    """A signed reading, unpacked."""

    meter: bytes
    interval: int
    import_register_wh: int
    export_register_wh: int
    sequence: int
    quality: int
    signature: bytes


def pack(signed: SignedReading) -> bytes:
    """The 118 bytes of a reading.

    Raises:
        MalformedInput: a number does not fit its field, or the signature does not have 65 bytes.
    """
    reading = signed.reading
    numbers = (
        reading.interval,
        reading.import_register_wh,
        reading.export_register_wh,
        reading.sequence,
    )
    if len(signed.signature) != 65 or not all(0 <= number < 2**64 for number in numbers):
        raise MalformedInput("reading", signed, "does not fit the record", "see oracle/wire.py")
    return RECORD.pack(
        address_bytes(reading.meter), *numbers, int(reading.quality), signed.signature
    )


def unpack(data: bytes) -> SignedReading:
    """The reading of 118 bytes; of the quality only the known numbers are taken.

    Raises:
        MalformedInput: another length, or an unknown quality.
    """
    if len(data) != RECORD_BYTES:
        raise MalformedInput("record", len(data), "wrong length", f"give {RECORD_BYTES} bytes")
    record = Record(*RECORD.unpack(data))
    if record.quality > max(Quality):
        raise MalformedInput("quality", record.quality, "unknown", "give 0, 1 or 2")
    reading = RegisterReading(
        to_checksum_address(record.meter), *record[1:5], quality=Quality(record.quality)
    )
    return SignedReading(reading, record.signature)


def pack_all(readings: Iterable[SignedReading]) -> bytes:
    """Records one after the other."""
    return b"".join(pack(reading) for reading in readings)


def records(data: bytes) -> Iterator[Record]:
    """The records of a message whose length is a multiple of 118.

    Raises:
        MalformedInput: it is not.
    """
    if len(data) % RECORD_BYTES:
        raise MalformedInput(
            "readings",
            f"<{len(data)} bytes>",
            "not a whole number of records",
            f"send {RECORD_BYTES} bytes for each reading",
        )
    return map(Record._make, RECORD.iter_unpack(data))


def struct_hash(record: Record) -> bytes:
    """EIP-712 struct hash, the same as `backend.settlement.encoding.meter_reading_hash`."""
    return keccak256(_STRUCT.pack(_TYPEHASH, *record[:6]))


def recover_signers(domain: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
    """By record its struct hash and who signed it (20 zero bytes if nobody did); for worker processes too."""
    prefix = b"\x19\x01" + domain
    found = []
    for record in records(data):
        digest = struct_hash(record)
        try:
            signer = recover_address(keccak256(prefix + digest), record.signature)
        except ReadingRejected:
            signer = _UNKNOWN
        found.append((digest, signer))
    return found


def unpack_readings(vector: bytes) -> tuple[IntervalReading, ...]:
    """The energy by interval in a packed readings vector; what has no known quality counts as missing."""
    found = []
    for start in range(0, len(vector), VECTOR_BYTES):
        part = vector[start : start + VECTOR_BYTES]
        quality = int.from_bytes(part[14:16], "big")
        if quality >= Quality.MISSING:
            found.append(MISSING_READING)
            continue
        energy = int.from_bytes(part[:7], "big"), int.from_bytes(part[7:14], "big")
        found.append(IntervalReading(*energy, Quality(quality)))
    return tuple(found)


def unpack_vector(
    vector: bytes, interval_count: int
) -> tuple[tuple[IntervalReading, ...], int | None]:
    """A packed readings vector with what trades brought behind it, where members trade before delivery."""
    length = VECTOR_BYTES * interval_count
    brought = vector[length:]
    return (
        unpack_readings(vector[:length]),
        int.from_bytes(brought, "big", signed=True) if brought else None,
    )


def address_bytes(address: str) -> bytes:
    """An address as 20 bytes.

    Raises:
        MalformedInput: not 40 hexadecimal digits after `0x`.
    """
    try:
        data = bytes.fromhex(address.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != ADDRESS_BYTES:
        raise MalformedInput("address", address, "not an address", "give 0x and 40 hex digits")
    return data
