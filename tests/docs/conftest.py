"""A real PostgreSQL for what the pages say of databases."""

from tests.support.databases import cluster

__all__ = ["cluster"]
