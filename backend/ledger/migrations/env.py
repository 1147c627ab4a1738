"""Alembic's entry: runs migrations on the connection that `database.migrate` hands over. Not for import: only alembic can run it."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from backend.ledger import tables  # noqa: F401  # fills the metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata
)
with context.begin_transaction():
    context.run_migrations()
