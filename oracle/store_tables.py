"""The tables of the store of readings, and their rows."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, SmallInteger, Table, Text

from .wire import RECORD, Record

metadata = MetaData()

# Interval first: a border's readings are written, and read, next to each other.
reading_table = Table(
    "reading",
    metadata,
    Column("interval", BigInteger, primary_key=True, autoincrement=False),
    Column("meter", LargeBinary, primary_key=True),
    Column("hash", LargeBinary, primary_key=True),  # EIP-712 struct hash
    Column("signer", LargeBinary, primary_key=True),
    Column("import_register_wh", BigInteger, nullable=False),
    Column("export_register_wh", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("quality", SmallInteger, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False),  # Unix seconds
    sqlite_with_rowid=False,
)
retraction_table = Table(
    "retraction",
    metadata,
    Column("meter", LargeBinary, primary_key=True),
    Column("hash", LargeBinary, primary_key=True),  # of the reading taken back
    Column("signer", LargeBinary, primary_key=True),
    Column("signature", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
rejection_table = Table(
    "rejection",
    metadata,
    Column("id", LargeBinary, primary_key=True),  # keccak256 of source, message and reason
    Column("source", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("interval", BigInteger),
    Column("code", Text, nullable=False),  # short, for counting
    Column("reason", Text, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("received_at", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)
observation_table = Table(
    "observation",
    metadata,
    Column("meter", LargeBinary, primary_key=True),
    Column("time_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("import_register_wh", BigInteger, primary_key=True, autoincrement=False),
    Column("export_register_wh", BigInteger, primary_key=True, autoincrement=False),
    Column("quality", SmallInteger, nullable=False),
    Column("evidence", LargeBinary, nullable=False),  # what the device signed itself, if it did
    sqlite_with_rowid=False,
)
# Observations that a correction took the place of: they stay, and nothing is made of them any more.
withdrawn_table = Table(
    "withdrawn_observation",
    metadata,
    Column("meter", LargeBinary, primary_key=True),
    Column("time_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("import_register_wh", BigInteger, primary_key=True, autoincrement=False),
    Column("export_register_wh", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
page_table = Table(
    "page",
    metadata,
    Column("source", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
report_table = Table(
    "signed_report",
    metadata,
    Column("period", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("signer", LargeBinary, nullable=False),
    Column(
        "report", Text, nullable=False
    ),  # JSON: the report, its signature, what was reported of each slot
)


class StoredReading(NamedTuple):
    """A row of the table `reading`."""

    interval: int
    meter: bytes
    hash: bytes
    signer: bytes
    import_register_wh: int
    export_register_wh: int
    sequence: int
    quality: int
    signature: bytes
    received_at: int

    def record(self) -> Record:
        """The reading as it travels."""
        return Record._make((self[1], self[0], *self[4:9]))

    def packed(self) -> bytes:
        """The reading's 118 bytes."""
        return RECORD.pack(*self.record())


class StoredRejection(NamedTuple):
    """A row of the table `rejection`."""

    id: bytes
    source: str
    device: str
    interval: int | None
    code: str
    reason: str
    message: bytes
    received_at: int


class StoredRetraction(NamedTuple):
    """A row of the table `retraction`."""

    meter: bytes
    hash: bytes
    signer: bytes
    signature: bytes


class Observation(NamedTuple):
    """What a device's registers showed at a moment, before anybody signed it: a row of `observation`."""

    meter: bytes
    time_ms: int
    import_register_wh: int
    export_register_wh: int
    quality: int = 0
    evidence: bytes = b""


class Withdrawal(NamedTuple):
    """A row of `withdrawn_observation`."""

    meter: bytes
    time_ms: int
    import_register_wh: int
    export_register_wh: int


class StoredPage(NamedTuple):
    """A numbered record that a device sent: a row of `page`."""

    source: str
    device: str
    kind: str
    number: int


class MissingPages(NamedTuple):
    """Pages between two that came."""

    source: str
    device: str
    kind: str
    first: int
    last: int
