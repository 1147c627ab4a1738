"""Triggers by which the database itself refuses to change what was written."""

from __future__ import annotations

from collections.abc import Iterable

from alembic import op

_FUNCTION = """
CREATE FUNCTION peerwatt_append_only() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$ LANGUAGE plpgsql
"""


def refuse(effect: str, tables: Iterable[str]) -> None:
    """Refuses UPDATE or DELETE on tables from now on."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in tables:
        name = f"{table}_no_{effect.lower()}"
        if postgresql:
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {effect} ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION peerwatt_append_only()"
            )
        else:
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {effect} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'table {table} is append-only'); END"
            )


def add_function() -> None:
    """What the triggers call, where they need it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
