"""The store of readings: append-only, and what it acknowledges is on disk.

SQLite by default, PostgreSQL for real; both commit with fsync before `add` returns. A reading is known by interval, meter,
struct hash and signer, so that delivering it again changes nothing, and a contradictory one is kept beside the first.
Rejected readings are kept with their reason, retractions and signed reports likewise. Nothing is ever updated, or deleted but
raw observations that have served their purpose (`prune_observations`) and old rejections (`prune_rejections`).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, create_engine, event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from backend.domain.errors import MalformedInput, StoreUnavailable

from .store_tables import (
    MissingPages,
    Observation,
    StoredPage,
    StoredReading,
    StoredRejection,
    StoredRetraction,
    Withdrawal,
    metadata,
    observation_table,
    page_table,
    reading_table,
    rejection_table,
    report_table,
    retraction_table,
    withdrawn_table,
)

__all__ = [
    "Added",
    "MissingPages",
    "Observation",
    "ReadingStore",
    "StoredPage",
    "StoredReading",
    "StoredRejection",
    "StoredRetraction",
    "Withdrawal",
    "metadata",
    "reading_table",
]

_BUSY_TIMEOUT_SECONDS = 10
_MESSAGE_LIMIT_BYTES = 4096
# So many of the newest are kept: whoever may send could fill the disk with what is refused.
REJECTION_QUOTA = 100_000
_MAX_BYTES = b"\xff" * 20


@dataclass(frozen=True, slots=True)
class Added:
    """What was new; the rest was there already."""

    readings: int = 0
    rejections: int = 0
    retractions: int = 0
    observations: int = 0


class ReadingStore:
    """The store.

    Args:
        url: SQLAlchemy URL, such as `sqlite:///readings.sqlite` or `postgresql+psycopg://user@host/database`.
        busy_timeout_seconds: how long a lock is waited for; a SQLite URL can say otherwise with `?timeout=`, a PostgreSQL one
            with `?options=-c%20lock_timeout=`.

    Raises:
        StoreUnavailable: it cannot be opened.
        MalformedInput: the URL is none.
    """

    def __init__(self, url: str, busy_timeout_seconds: float = _BUSY_TIMEOUT_SECONDS) -> None:
        try:
            parsed = make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            options: dict[str, Any] = (
                {
                    "connect_args": {}
                    if "timeout" in parsed.query
                    else {"timeout": busy_timeout_seconds}
                }
                if self.is_sqlite
                else {
                    "pool_pre_ping": True,
                    # A server that does not answer must not hold up whoever waits for an acknowledgement.
                    "connect_args": {"connect_timeout": max(1, round(busy_timeout_seconds))},
                }
            )
            self._lock_timeout = (
                None if "options" in parsed.query else f"{busy_timeout_seconds * 1000:.0f}ms"
            )
            self._engine = create_engine(parsed, **options)
            self._driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        except (ArgumentError, ImportError) as error:
            raise MalformedInput(
                "store",
                url.rsplit("@", maxsplit=1)[-1],
                str(error).splitlines()[0],
                "give sqlite:///PATH, or postgresql+psycopg://USER@HOST/DATABASE with the extra `postgres`",
            ) from None
        event.listen(self._engine, "connect", self._prepare)
        # One writer at a time in this process, in whatever order threads come: SQLite would make them poll for the lock.
        self._writing = threading.Lock()
        self._rejections_since = 0
        with self._guarded(), self._engine.begin() as connection:
            if not self.is_sqlite:
                # Two processes that create tables at once would trip over each other.
                connection.execute(text("select pg_advisory_xact_lock(7733)"))
            metadata.create_all(connection)

    def _prepare(self, connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        if self.is_sqlite:
            cursor.execute("pragma journal_mode = wal")
            # In WAL mode anything less would not fsync at each commit.
            cursor.execute("pragma synchronous = full")
        else:
            cursor.execute("set synchronous_commit = on")
            if self._lock_timeout is not None:
                cursor.execute(f"set lock_timeout = '{self._lock_timeout}'")
            connection.commit()
        cursor.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not isinstance(error, SQLAlchemyError | self._driver_error):
                raise
            cause = getattr(error, "orig", None) or error
            raise StoreUnavailable(
                f"the store of readings failed: {str(cause).splitlines()[0]}",
                "nothing was acknowledged; free disk space or end whoever holds the lock, then send again",
            ) from error

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    # --- Writing -------------------------------------------------------------------------------------------------------

    def add(
        self,
        readings: Sequence[StoredReading] = (),
        rejections: Sequence[StoredRejection] = (),
        retractions: Sequence[StoredRetraction] = (),
        observations: Sequence[Observation] = (),
        withdrawals: Sequence[Withdrawal] = (),
        pages: Sequence[StoredPage] = (),
    ) -> Added:
        """Adds all of it or nothing; when this returns it is on disk.

        Raises:
            StoreUnavailable: it was not written.
        """
        clipped = [
            item._replace(message=item.message[:_MESSAGE_LIMIT_BYTES]) for item in rejections
        ]
        with self._writing, self._guarded(), self._engine.begin() as connection:
            self._insert(connection, withdrawn_table, withdrawals)
            self._insert(connection, page_table, pages)
            added = Added(
                self._insert(connection, reading_table, readings),
                self._insert(connection, rejection_table, clipped),
                self._insert(connection, retraction_table, retractions),
                self._insert(connection, observation_table, observations),
            )
        self._rejections_since += added.rejections
        if self._rejections_since > REJECTION_QUOTA:
            self._rejections_since = 0
            self.prune_rejections(0)
        return added

    def _insert(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> int:
        """Inserts what is not there; how many that were."""
        if not rows:
            return 0
        # In one order everywhere, so that two transactions with the same rows cannot wait for each other.
        ordered = sorted(rows, key=lambda row: row[: len(table.primary_key)])
        if self.is_sqlite:
            places = ", ".join("?" * len(table.columns))
            statement = f"insert or ignore into {table.name} values ({places})"
            return connection.exec_driver_sql(statement, ordered).rowcount
        arrays = ", ".join(
            f"%s::{column.type.compile(connection.dialect)}[]" for column in table.columns
        )
        statement = (
            f"insert into {table.name} select * from unnest({arrays}) on conflict do nothing"
        )
        columns = tuple(list(column) for column in zip(*ordered, strict=True))
        return connection.exec_driver_sql(statement, columns).rowcount

    def add_report(
        self, period: int, version: int, report_hash: bytes, signer: bytes, report: str
    ) -> None:
        """Keeps a signed report before the signature leaves the house.

        Raises:
            StoreUnavailable: it was not written, or one for this period and version is there already.
        """
        row = (period, version, report_hash, signer, report)
        with self._writing, self._guarded(), self._engine.begin() as connection:
            connection.execute(
                report_table.insert().values(
                    dict(zip(report_table.columns.keys(), row, strict=True))
                )
            )

    def prune_observations(self, before_ms: int) -> int:
        """Deletes raw observations older than a moment that no device signed; readings made from them stay."""
        table, gone = observation_table, withdrawn_table
        with self._writing, self._guarded(), self._engine.begin() as connection:
            connection.execute(gone.delete().where(gone.c.time_ms < before_ms))
            statement = table.delete().where(
                table.c.time_ms < before_ms, func.length(table.c.evidence) == 0
            )
            return connection.execute(statement).rowcount

    def prune_rejections(self, before: int, keep: int = REJECTION_QUOTA) -> int:
        """Deletes rejections from before a moment (Unix seconds), and the oldest beyond so many."""
        table = rejection_table
        with self._writing, self._guarded(), self._engine.begin() as connection:
            newest_kept = connection.execute(
                select(table.c.received_at)
                .order_by(table.c.received_at.desc())
                .offset(keep)
                .limit(1)
            ).scalar_one_or_none()
            # Those of that second go too: a flood within one second is no less a flood.
            oldest = before if newest_kept is None else max(before, newest_kept + 1)
            return connection.execute(table.delete().where(table.c.received_at < oldest)).rowcount

    # --- Reading -------------------------------------------------------------------------------------------------------

    def readings(
        self, intervals: Iterable[int], lowest: bytes = b"", highest: bytes = _MAX_BYTES
    ) -> Iterator[StoredReading]:
        """Readings of the intervals of the meters from `lowest` to `highest`, in order of interval, meter, hash, signer."""
        place = "?" if self.is_sqlite else "%s"
        statement = (
            f"select * from reading where interval = {place} and meter between {place} and {place}"
            " order by interval, meter, hash, signer"
        )
        with self._guarded(), self._engine.connect() as connection:
            # The driver's own cursor: SQLAlchemy's rows would cost twice what the database does, a million times a report.
            cursor = connection.connection.cursor()
            for interval in intervals:
                cursor.execute(statement, (interval, lowest, highest))
                yield from map(StoredReading._make, cursor.fetchall())
            cursor.close()

    def retractions(self) -> set[tuple[bytes, bytes, bytes]]:
        """Meter, hash of the reading and signer of every retraction; there are few."""
        with self._guarded(), self._engine.connect() as connection:
            found = connection.execute(select(*list(retraction_table.columns)[:3]))
            return {(row[0], row[1], row[2]) for row in found}

    def all_retractions(self) -> list[StoredRetraction]:
        """Every retraction with its signature."""
        with self._guarded(), self._engine.connect() as connection:
            return [StoredRetraction(*row) for row in connection.execute(select(retraction_table))]

    def counts(
        self, first_interval: int, last_interval: int, without: Collection[bytes] = ()
    ) -> dict[int, int]:
        """By interval, how many meters have a reading; some left out."""
        table = reading_table
        statement = (
            select(table.c.interval, func.count(table.c.meter.distinct()))
            .where(
                table.c.interval.between(first_interval, last_interval),
                table.c.meter.not_in(without),
            )
            .group_by(table.c.interval)
        )
        with self._guarded(), self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def newest_interval(self) -> int | None:
        """The newest interval of which there is a reading."""
        with self._guarded(), self._engine.connect() as connection:
            found: int | None = connection.execute(
                select(func.max(reading_table.c.interval))
            ).scalar_one()
            return found

    def rejections(self, limit: int = 100) -> list[StoredRejection]:
        """The newest rejections."""
        statement = (
            select(rejection_table).order_by(rejection_table.c.received_at.desc()).limit(limit)
        )
        with self._guarded(), self._engine.connect() as connection:
            return [StoredRejection(*row) for row in connection.execute(statement)]

    def rejection_counts(self) -> dict[str, int]:
        """By code, how many rejections there are."""
        statement = select(rejection_table.c.code, func.count()).group_by(rejection_table.c.code)
        with self._guarded(), self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def observations(self, meter: bytes, from_ms: int, until_ms: int) -> list[Observation]:
        """A meter's observations between two moments, both included, in order of time; without those withdrawn."""
        table, gone = observation_table, withdrawn_table
        same = [column == table.c[column.name] for column in gone.columns]
        statement = (
            select(table)
            .where(table.c.meter == meter, table.c.time_ms.between(from_ms, until_ms))
            .where(~select(gone.c.meter).where(*same).exists())
            .order_by(*table.primary_key.columns)
        )
        with self._guarded(), self._engine.connect() as connection:
            return [Observation(*row) for row in connection.execute(statement)]

    def unsigned_borders(
        self, interval_ms: int, since_ms: int, signer: bytes
    ) -> list[tuple[bytes, int]]:
        """Meters and intervals that were seen since a moment, at whose border before or after this signer signed nothing."""
        statement = text(
            "select distinct seen.meter, seen.time_ms / :length - 1 from observation seen"
            " where seen.time_ms >= :since and (select count(*) from reading made"
            " where made.meter = seen.meter and made.signer = :signer and made.interval in"
            " (seen.time_ms / :length - 1, seen.time_ms / :length)"
            " and not exists (select 1 from retraction back where back.meter = made.meter"
            " and back.hash = made.hash and back.signer = made.signer)) < 2"
        )
        values = {"length": interval_ms, "since": since_ms, "signer": signer}
        with self._guarded(), self._engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(statement, values)]

    def withdrawn(self, meter: bytes, from_ms: int, until_ms: int) -> set[Withdrawal]:
        """A meter's observations between two moments that corrections took the place of."""
        table = withdrawn_table
        statement = select(table).where(
            table.c.meter == meter, table.c.time_ms.between(from_ms, until_ms)
        )
        with self._guarded(), self._engine.connect() as connection:
            return {Withdrawal(*row) for row in connection.execute(statement)}

    def missing_pages(self) -> list[MissingPages]:
        """Gaps between the pages that came, by source, device and kind."""
        statement = text(
            "select source, device, kind, number + 1, next - 1 from (select source, device, kind, number,"
            " lead(number) over (partition by source, device, kind order by number) as next from page) pairs"
            " where next > number + 1 order by source, device, kind, number"
        )
        with self._guarded(), self._engine.connect() as connection:
            return [MissingPages(*row) for row in connection.execute(statement)]

    def report(self, period: int, version: int) -> str | None:
        """The report this store's signer signed, as it was kept."""
        table = report_table
        statement = select(table.c.report).where(
            table.c.period == period, table.c.version == version
        )
        with self._guarded(), self._engine.connect() as connection:
            found: str | None = connection.execute(statement).scalar_one_or_none()
            return found
