"""For people: the running day by member, members' wishes, and answers that are kept for requests that come again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backend.ledger.append_only import refuse

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "preview_reading",
        sa.Column("interval", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("import_wh", sa.BigInteger(), nullable=False),
        sa.Column("export_wh", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("interval", "slot"),
    )
    op.create_index("ix_preview_reading_slot", "preview_reading", ["slot"], unique=False)
    op.create_table(
        "preview_trade",
        sa.Column("interval", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seller_slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("buyer_slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("fee_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("interval", "seller_slot", "buyer_slot"),
    )
    for side in ("seller_slot", "buyer_slot"):
        op.create_index(f"ix_preview_trade_{side}", "preview_trade", [side], unique=False)
    op.create_table(
        "wish",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wishes", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "number"),
    )
    op.create_table(
        "kept_answer",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key"),
    )
    refuse("UPDATE", ("wish",))
