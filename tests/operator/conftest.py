"""Databases of both kinds for the coordinator's tests."""

from tests.support.databases import cluster, database, new_database

__all__ = ["cluster", "database", "new_database"]
