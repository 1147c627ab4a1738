"""Backup to one file and back, between SQLite and PostgreSQL too (docs/files.md, `peerwatt/backup/1`).

A backup is taken in one transaction, so it is the database of one moment. It is written whole or not at all; restoring goes
into an empty database, and either everything is there and sound afterwards or nothing is.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, insert, inspect, select

from backend.domain.errors import BackupDamaged, LedgerDamaged, MalformedInput, SchemaUnknown
from backend.durable_files import sync_folder

from .check import check_connection
from .database import current_revision, migrate_connection

BACKUP_FORMAT = "peerwatt/backup/1"
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What a backup holds: the schema's revision, and rows by table."""

    revision: str
    rows: dict[str, int]


def backup(engine: Engine, path: Path) -> BackupSummary:
    """Writes the database to a file that is there whole or not at all.

    Raises:
        SchemaUnknown: there is no ledger in the database.
        MalformedInput: the file is there already.
    """
    if path.exists():
        raise MalformedInput("file", str(path), "is there already", "name a new file")
    isolated = engine
    if engine.dialect.name == "postgresql":
        isolated = engine.execution_options(isolation_level="REPEATABLE READ")
    temporary = path.with_name(path.name + ".part")
    rows: dict[str, int] = {}
    with isolated.connect() as connection, temporary.open("wb") as raw:
        revision = current_revision(connection)
        if revision is None:
            raise SchemaUnknown(
                "there is no ledger in this database", "correct the URL; nothing was written"
            )
        digest = hashlib.sha256()
        # Without a time in it, the same database gives the same file.
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:

            def write(data: Any) -> None:
                line = json.dumps(data, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                file.write(line)

            write({"format": BACKUP_FORMAT, "revision": revision})
            for table in _tables(connection):
                rows[table.name] = 0
                for row in connection.execute(select(table).order_by(*table.primary_key)):
                    write([table.name, [_encoded(value) for value in row]])
                    rows[table.name] += 1
            file.write(json.dumps({"sha256": digest.hexdigest()}).encode() + b"\n")
        raw.flush()
        os.fsync(raw.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)
    return BackupSummary(revision, rows)


def restore(engine: Engine, path: Path) -> BackupSummary:
    """Fills an empty database from a backup and brings it to the present schema, all or nothing.

    Raises:
        BackupDamaged: the file is not what was written.
        SchemaUnknown: the database is not empty, or the backup is from a newer version.
        LedgerDamaged: what was backed up contradicts itself.
    """
    for _ in _lines(path):  # to the end and its checksum, before anything is touched
        pass
    lines = _lines(path)
    revision = str(next(lines)["revision"])
    with engine.begin() as connection:
        if inspect(connection).get_table_names():
            raise SchemaUnknown(
                "the database to restore into is not empty", "make a new one and give its URL"
            )
        migrate_connection(connection, revision)
        tables = {table.name: table for table in _tables(connection)}
        rows = dict.fromkeys(tables, 0)
        for table, batch in _by_table(lines, tables):
            connection.execute(insert(table), batch)
            rows[table.name] += len(batch)
        migrate_connection(connection)
        faults = check_connection(connection)
        if faults:
            raise LedgerDamaged(
                f"the restored ledger is not sound: {faults[0]}",
                "restore an older backup, or rebuild the ledger from chain and bundles",
            )
    return BackupSummary(revision, rows)


def _tables(connection: Connection) -> list[Table]:
    """The database's tables as they are, those that others refer to first."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def _by_table(
    lines: Iterator[Any], tables: dict[str, Table]
) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """Rows of one table together, some at once."""
    gathered: list[dict[str, Any]] = []
    last: Table | None = None
    for name, values in lines:
        table = tables[name]
        if last is not None and gathered and (table is not last or len(gathered) == _ROWS_AT_ONCE):
            yield last, gathered
            gathered = []
        last = table
        decoded = [_decoded(value) for value in values]
        gathered.append(dict(zip(table.columns.keys(), decoded, strict=True)))
    if last is not None and gathered:
        yield last, gathered


def _lines(path: Path) -> Iterator[Any]:
    """What the lines of a backup say, without the checksum, which is verified at the end."""
    try:
        with gzip.open(path, "rb") as file:
            digest = hashlib.sha256()
            before = file.readline()
            header = json.loads(before or b"{}")
            if not isinstance(header, dict) or header.get("format") != BACKUP_FORMAT:
                raise MalformedInput(
                    "file", str(path), f"not a {BACKUP_FORMAT} file", "give one of `db backup`"
                )
            for line in file:
                digest.update(before)
                yield json.loads(before)
                before = line
            if json.loads(before).get("sha256") != digest.hexdigest():
                raise ValueError("the checksum differs")
    except FileNotFoundError:
        raise MalformedInput("file", str(path), "is not there", "give a backup file") from None
    except MalformedInput:
        raise
    except (OSError, EOFError, zlib.error, ValueError, AttributeError) as error:
        raise BackupDamaged(
            f"{path} is damaged: {error or type(error).__name__}", "use another backup"
        ) from None


def _encoded(value: Any) -> Any:
    return {"hex": bytes(value).hex()} if isinstance(value, bytes | memoryview) else value


def _decoded(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
