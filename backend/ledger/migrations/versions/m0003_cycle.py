"""The coordinator's cycle: how far each period is, and what that rests on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backend.ledger.append_only import refuse

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "cycle_state",
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("batch_hash", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("period", "version", "step"),
    )
    op.create_table(
        "oracle_report",
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("report", sa.String(), nullable=False),
        sa.Column("readings_digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("period", "version"),
    )
    op.create_table(
        "reported_slot",
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("period", "version", "slot"),
    )
    op.create_table(
        "batch_header",
        sa.Column("batch_hash", sa.String(), nullable=False),
        sa.Column("header", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("batch_hash"),
    )
    op.create_table(
        "looked_at",
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("readings_digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("period"),
    )
    op.create_table(
        "preview",
        sa.Column("interval", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("demand_wh", sa.BigInteger(), nullable=False),
        sa.Column("supply_wh", sa.BigInteger(), nullable=False),
        sa.Column("traded_wh", sa.BigInteger(), nullable=False),
        sa.Column("discount_nano_per_wh", sa.BigInteger(), nullable=False),
        sa.Column("premium_nano_per_wh", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("interval"),
    )
    op.create_index("ix_preview_period", "preview", ["period"], unique=False)
    permanent = ("batch_header", "cycle_state", "oracle_report")
    refuse("UPDATE", (*permanent, "reported_slot"))
    refuse("DELETE", permanent)
