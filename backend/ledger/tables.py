"""Tables (sqlmodel). Append-only: a correction is a new version, never a change.

Money needs more than the 64 bits of an SQL integer only in sums over centuries; amounts of a period fit, and writing one
that does not is refused by the database driver rather than rounded.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class MemberRow(SQLModel, table=True):
    """A member as registered."""

    __tablename__ = "member"

    # The slot on chain: position in registry and trees.
    slot: int = Field(primary_key=True)
    name: str
    account: str
    # Whose signature makes a reading this member's.
    meter: str = Field(unique=True)
    node: str
    tariff_class: str
    from_period: int


class ReadingRow(SQLModel, table=True):
    """A register reading as a meter signed it, taken or rejected."""

    __tablename__ = "reading"
    __table_args__ = (UniqueConstraint("meter", "interval", "signature"),)

    id: int | None = Field(default=None, primary_key=True)
    meter: str = Field(index=True)
    interval: int = Field(index=True)
    # Cumulative registers: what the meter signs, so that a lost message loses no energy.
    import_register_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    export_register_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    sequence: int
    quality: int
    signature: bytes
    # Empty for a reading that was taken; the reason for one that was not.
    rejected_because: str = ""


class IntervalRow(SQLModel, table=True):
    """A cleared interval: the community's totals."""

    __tablename__ = "interval"

    # By batch, not by period: a refused or voided batch keeps what it claimed, as evidence.
    batch_hash: str = Field(primary_key=True)
    interval: int = Field(primary_key=True)
    demand_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    supply_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    traded_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    # What a Wh bought costs less and a Wh sold earns more than outside.
    discount_nano_per_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    premium_nano_per_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    cost_nano: int = Field(sa_column=Column(BigInteger, nullable=False))
    outside_cost_nano: int = Field(sa_column=Column(BigInteger, nullable=False))
    fees_nano: int = Field(sa_column=Column(BigInteger, nullable=False))


class TradeRow(SQLModel, table=True):
    """A trade between two members in one interval."""

    __tablename__ = "trade"

    batch_hash: str = Field(primary_key=True)
    # Position in the trades tree.
    position: int = Field(primary_key=True)
    interval: int
    seller_slot: int = Field(index=True)
    buyer_slot: int = Field(index=True)
    energy_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    fee_nano: int = Field(sa_column=Column(BigInteger, nullable=False))


class BatchRow(SQLModel, table=True):
    """A batch with the state it has reached."""

    __tablename__ = "batch"

    batch_hash: str = Field(primary_key=True)
    period: int = Field(index=True)
    version: int
    # prepared, submitted, refused, voided, final: see domain/states.py.
    state: str
    previous_batch: str
    ledger_root: str
    bundle_hash: str
    transaction_hash: str = ""
    gas_used: int = 0
    # Why a batch was refused or voided.
    reason: str = ""


class EntryRow(SQLModel, table=True):
    """One account's entry of a batch; the entries of a batch sum to zero."""

    __tablename__ = "entry"

    batch_hash: str = Field(primary_key=True)
    slot: int = Field(primary_key=True)
    amount_nano: int = Field(sa_column=Column(BigInteger, nullable=False))
    cumulative_nano: int = Field(sa_column=Column(BigInteger, nullable=False))


class VaultRow(SQLModel, table=True):
    """A deposit (positive) or withdrawal (negative)."""

    __tablename__ = "vault_movement"

    transaction_hash: str = Field(primary_key=True)
    slot: int = Field(index=True)
    tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
