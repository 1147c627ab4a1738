"""Whether a ledger is sound: what `peerwatt db check` says."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Engine, func, text
from sqlmodel import Session, col, select

from . import journal
from .database import current_revision, newest_revision
from .tables import PERMANENT_TABLES, UNCHANGING_TABLES, EntryRow


def check(engine: Engine) -> list[str]:
    """What is wrong with the ledger, in words; nothing if it is sound.

    Raises:
        DatabaseFailed: the database does not answer.
    """
    with engine.connect() as connection:
        return check_connection(connection)


def check_connection(connection: Connection) -> list[str]:
    """As `check`, inside a transaction of the caller."""
    revision = current_revision(connection)
    if revision is None:
        return ["there is no ledger in this database"]
    if revision != newest_revision():
        return [f"the schema is {revision}; this version works with {newest_revision()}"]
    return [*_storage_faults(connection), *_money_faults(connection)]


def _storage_faults(connection: Connection) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        for (answer,) in connection.execute(text("PRAGMA integrity_check")):
            if answer != "ok":
                yield f"the file is damaged: {answer}"
        for row in connection.execute(text("PRAGMA foreign_key_check")):
            yield f"a row of {row[0]} refers to one of {row[2]} that is not there"
        named = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    else:
        # A trigger that was switched off protects nothing.
        named = (
            "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O' "
            "AND pg_table_is_visible(tgrelid)"
        )
    triggers = set(connection.execute(text(named)).scalars())
    wanted = {f"{table}_no_update" for table in UNCHANGING_TABLES}
    wanted |= {f"{table}_no_delete" for table in PERMANENT_TABLES}
    for name in sorted(wanted - triggers):
        yield f"the trigger {name}, which keeps the ledger append-only, is missing or off"


def _money_faults(connection: Connection) -> Iterator[str]:
    with Session(connection) as session:
        yield from journal.faults(session)
        unbalanced = select(EntryRow.batch_hash).group_by(col(EntryRow.batch_hash))
        for batch_hash in session.exec(unbalanced.having(func.sum(EntryRow.amount_nano) != 0)):
            yield f"the entries of batch {batch_hash} do not sum to zero"
