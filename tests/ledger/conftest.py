"""Every test of the ledger runs twice: on SQLite and on a real PostgreSQL."""

from tests.support.databases import cluster, database, new_database

__all__ = ["cluster", "database", "new_database"]
