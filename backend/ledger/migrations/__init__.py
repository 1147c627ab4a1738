"""The schema's history (alembic); `database.migrate` runs it."""
