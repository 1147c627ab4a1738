"""Opening a database and bringing it to the present schema.

SQLite and PostgreSQL behave alike here: transactions that include schema changes, foreign keys, and a second writer that waits
instead of failing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlmodel import create_engine

from backend.domain.errors import DatabaseFailed, MalformedInput, SchemaUnknown
from backend.durable_files import make_folder

_BUSY_TIMEOUT_MILLISECONDS = 10_000
# Any number that no other software takes for a lock in the same database.
_MIGRATION_LOCK = 0x7065_6572_0001


def open_database(url: str) -> Engine:
    """An engine for the URL; nothing is asked of the database yet.

    Raises:
        MalformedInput: neither a SQLite nor a PostgreSQL URL, or the driver is not there.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ArgumentError("unsupported")
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            make_folder(Path(parsed.database).parent)
        engine = create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        no_driver = isinstance(error, ModuleNotFoundError)
        raise MalformedInput(
            "database",
            url.rsplit("@", maxsplit=1)[-1],  # without the password
            "its driver is not installed" if no_driver else "not a database URL",
            "install the extra `postgres`"
            if no_driver
            else "give sqlite:///FILE or postgresql://USER@HOST/NAME",
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "handle_error", _as_our_error)
    return engine


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """As `open_database`, for one use."""
    engine = open_database(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # Python's driver would commit before schema changes; transactions begin in `_begin_sqlite` instead.
    connection.isolation_level = None
    for pragma in (
        "foreign_keys=ON",
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={_BUSY_TIMEOUT_MILLISECONDS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail, not wait, if another wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _as_our_error(context: ExceptionContext) -> None:
    failed = context.sqlalchemy_exception
    # SQLite says of a damaged file that it is no database: the base class, and none of its kinds.
    if isinstance(failed, OperationalError) or type(failed) is DatabaseError:
        shown = str(failed.orig).strip().splitlines()
        raise DatabaseFailed(
            f"the database failed: {shown[0] if shown else type(failed.orig).__name__}",
            "see that it runs, that the URL is right, and that its disk is sound and not full; then repeat",
        ) from failed


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """The schema that this software works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_revision(connection: Connection) -> str | None:
    """The schema a database has; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings a database to a schema, all or nothing; one process at a time.

    Raises:
        SchemaUnknown: a newer version of this software has been at work there.
    """
    with engine.begin() as connection:
        migrate_connection(connection, revision)


def migrate_connection(connection: Connection, revision: str = "head") -> None:
    """As `migrate`, inside a transaction of the caller."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    found = current_revision(connection)
    known = {item.revision for item in ScriptDirectory.from_config(_config()).walk_revisions()}
    unknown = {found, revision} - known - {None, "head"}
    if unknown:
        raise SchemaUnknown(
            f"the schema {unknown.pop()} is not one of this version, whose newest is {newest_revision()}",
            "install the version of Peerwatt that wrote it, or a newer one",
        )
    if found != newest_revision():
        command.upgrade(_config(connection), revision)
