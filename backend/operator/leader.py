"""One leader among the processes that serve a community (docs/adr/0026).

On PostgreSQL it holds an advisory lock, which ends with its connection; on SQLite a lock on a file beside the database, which ends
with its process. Whatever a former leader still does is harmless: states, intents and nonces are unique in the database.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from backend.domain.errors import DatabaseFailed

# The first of two numbers; the second one is the schema, which is the community.
_LOCK_CLASS = 0x70656572


class LeaderLock:
    """The right to go on with a community's cycle.

    Args:
        engine: the community's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._file: int | None = None
        # Cycle, preview and audit ask from threads of their own.
        self._asking = threading.Lock()

    def hold(self) -> bool:
        """Whether this process leads (still, or from now on).

        Raises:
            DatabaseFailed: the database does not answer; this process does not lead.
        """
        with self._asking:
            if self._engine.dialect.name == "postgresql":
                return self._hold_advisory()
            return self._hold_file()

    def release(self) -> None:
        """Lets another process lead."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            # Closing the session ends its locks, whatever state it is in.
            connection.invalidate()
            connection.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _hold_advisory(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                return True
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection = connection
            taken = connection.execute(
                text("SELECT pg_try_advisory_lock(:class, hashtext(current_schema()))"),
                {"class": _LOCK_CLASS},
            ).scalar_one()
        except DatabaseFailed:
            self.release()
            raise
        if not taken:
            self.release()
        return bool(taken)

    def _hold_file(self) -> bool:
        if self._file is not None:
            return True
        database = self._engine.url.database
        if not database or database == ":memory:":
            return True  # nobody else can reach it
        file = os.open(Path(database + ".leader"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True
