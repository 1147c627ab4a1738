"""Members, readings, clearings, batches and the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backend.ledger.append_only import add_function, refuse

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "batch",
        sa.Column("batch_hash", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("previous_batch", sa.String(), nullable=False),
        sa.Column("ledger_root", sa.String(), nullable=False),
        sa.Column("bundle_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("batch_hash"),
    )
    op.create_index("ix_batch_number", "batch", ["number"], unique=False)
    op.create_index("ix_batch_period", "batch", ["period"], unique=False)
    op.create_table(
        "entry",
        sa.Column("batch_hash", sa.String(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.Column("cumulative_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("batch_hash", "slot"),
    )
    op.create_table(
        "interval",
        sa.Column("batch_hash", sa.String(), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("demand_wh", sa.BigInteger(), nullable=False),
        sa.Column("supply_wh", sa.BigInteger(), nullable=False),
        sa.Column("traded_wh", sa.BigInteger(), nullable=False),
        sa.Column("discount_nano_per_wh", sa.BigInteger(), nullable=False),
        sa.Column("premium_nano_per_wh", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("outside_cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("fees_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("batch_hash", "interval"),
    )
    op.create_table(
        "journal",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("reference"),
    )
    op.create_table(
        "member",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("meter", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("tariff_class", sa.String(), nullable=False),
        sa.Column("from_period", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("slot"),
        sa.UniqueConstraint("meter"),
    )
    op.create_table(
        "reading",
        sa.Column("meter", sa.String(), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("import_register_wh", sa.BigInteger(), nullable=False),
        sa.Column("export_register_wh", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("quality", sa.Integer(), nullable=False),
        sa.Column("rejected_because", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("meter", "interval", "signature"),
    )
    op.create_index("ix_reading_interval", "reading", ["interval"], unique=False)
    op.create_table(
        "trade",
        sa.Column("batch_hash", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("seller_slot", sa.Integer(), nullable=False),
        sa.Column("buyer_slot", sa.Integer(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("fee_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("batch_hash", "position"),
    )
    op.create_index("ix_trade_buyer_slot", "trade", ["buyer_slot"], unique=False)
    op.create_index("ix_trade_seller_slot", "trade", ["seller_slot"], unique=False)
    op.create_table(
        "batch_state",
        sa.Column("batch_hash", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("transaction_hash", sa.String(), nullable=False),
        sa.Column("gas_used", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_hash"],
            ["batch.batch_hash"],
        ),
        sa.PrimaryKeyConstraint("batch_hash", "step"),
    )
    op.create_table(
        "posting",
        sa.Column("journal_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("amount_nano", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["journal_number"],
            ["journal.number"],
        ),
        sa.PrimaryKeyConstraint("journal_number", "account"),
    )
    add_function()
    # Lists of that time, not of today: a migration says what it did.
    permanent = ("batch", "batch_state", "entry", "journal", "posting")
    refuse("UPDATE", (*permanent, "interval", "member", "reading", "trade"))
    refuse("DELETE", permanent)
