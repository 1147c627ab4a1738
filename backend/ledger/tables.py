"""Tables (sqlmodel). Append-only: a correction is a new row, never a change; triggers in the migrations see to it.

Money needs more than the 64 bits of an SQL integer only in sums over centuries; amounts of a period fit, and writing one
that does not is refused rather than rounded. One database (or PostgreSQL schema) holds one community: see docs/adr/0021.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

# What accounting rests on: rows are neither changed nor removed. Of the others rows are not changed, but erasing a person's may be.
PERMANENT_TABLES = (
    "attempt",
    "batch",
    "batch_header",
    "batch_state",
    "cycle_state",
    "entry",
    "intent",
    "journal",
    "oracle_report",
    "outcome",
    "posting",
)
UNCHANGING_TABLES = (
    *PERMANENT_TABLES,
    "interval",
    "member",
    "reading",
    "reported_slot",
    "trade",
    "wish",
)


class MemberRow(SQLModel, table=True):
    """A member as registered."""

    __tablename__ = "member"

    # The slot on chain: position in registry and trees.
    slot: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
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

    meter: str = Field(primary_key=True)
    interval: int = Field(primary_key=True, index=True)
    # Part of the key: a reading that came twice with different content is kept twice, as evidence.
    signature: bytes = Field(primary_key=True)
    # Cumulative registers: what the meter signs, so that a lost message loses no energy.
    import_register_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    export_register_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    quality: int
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
    """A batch as it was prepared."""

    __tablename__ = "batch"

    batch_hash: str = Field(primary_key=True)
    number: int = Field(index=True)
    period: int = Field(index=True)
    version: int
    previous_batch: str
    ledger_root: str
    bundle_hash: str


class BatchStateRow(SQLModel, table=True):
    """A state that a batch has reached; the last one is the present one."""

    __tablename__ = "batch_state"

    batch_hash: str = Field(foreign_key="batch.batch_hash", primary_key=True)
    # 0 for the first state, and one more for each that follows.
    step: int = Field(primary_key=True)
    # prepared, submitted, refused, voided, final: see domain/states.py.
    state: str
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


class JournalRow(SQLModel, table=True):
    """A booking: what happened, once and for all. Its postings sum to zero."""

    __tablename__ = "journal"

    # From 1 without gaps.
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # deposit, withdrawal, guarantee, batch, correction.
    kind: str
    # What is booked, such as a batch hash; booking it again changes nothing.
    reference: str = Field(unique=True)
    # Chain time in seconds since the Unix epoch.
    occurred_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    # SHA-256 over the digest before and this booking, so that a change anywhere shows everywhere after.
    digest: str


class PostingRow(SQLModel, table=True):
    """One account's part of a booking."""

    __tablename__ = "posting"

    journal_number: int = Field(
        sa_column=Column(
            Integer, ForeignKey("journal.number"), primary_key=True, autoincrement=False
        )
    )
    # `slot:3`, `guarantor:0x...`, `vault`.
    account: str = Field(primary_key=True)
    # Positive: the community owes the account so much more. The vault has what it holds as a negative amount.
    amount_nano: int = Field(sa_column=Column(BigInteger, nullable=False))


class IndexedBlockRow(SQLModel, table=True):
    """A block that the indexer has read: the last final one and all after it, to notice when the chain takes one back."""

    __tablename__ = "indexed_block"

    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    block_hash: str
    timestamp: int = Field(sa_column=Column(BigInteger, nullable=False))
    final: bool


class ChainEventRow(SQLModel, table=True):
    """An event of the community's contracts. Removed again if its block is taken back."""

    __tablename__ = "chain_event"

    block_number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    log_index: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    timestamp: int = Field(sa_column=Column(BigInteger, nullable=False))
    transaction_hash: str
    contract: str
    name: str = Field(index=True)
    # JSON with sorted keys; bytes as 0x and hexadecimal digits.
    arguments: str


class BookedUntilRow(SQLModel, table=True):
    """How far the journal follows the chain; one row."""

    __tablename__ = "booked_until"

    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    block_number: int = Field(sa_column=Column(BigInteger, nullable=False))
    # Block of the oldest batch event that bookings to come may depend on.
    batches_from: int = Field(sa_column=Column(BigInteger, nullable=False))


class IntentRow(SQLModel, table=True):
    """A transaction that has been decided on: stored before anything is sent, with the one nonce it will ever have."""

    __tablename__ = "intent"
    __table_args__ = (UniqueConstraint("sender", "nonce"),)

    # What it is for; the same key never makes a second transaction.
    key: str = Field(primary_key=True)
    sender: str
    nonce: int = Field(sa_column=Column(BigInteger, nullable=False))
    to_address: str
    data: bytes
    # Text, because wei need more than 64 bits.
    value_wei: str
    gas: int = Field(sa_column=Column(BigInteger, nullable=False))


class AttemptRow(SQLModel, table=True):
    """A signed transaction of an intent: stored before it is sent. Later ones offer higher fees."""

    __tablename__ = "attempt"

    transaction_hash: str = Field(primary_key=True)
    intent_key: str = Field(foreign_key="intent.key", index=True)
    number: int
    raw: bytes
    max_fee_wei: str
    priority_fee_wei: str
    signed_at: int = Field(sa_column=Column(BigInteger, nullable=False))


class OutcomeRow(SQLModel, table=True):
    """What became of an intent, once its block is final."""

    __tablename__ = "outcome"

    intent_key: str = Field(foreign_key="intent.key", primary_key=True)
    transaction_hash: str
    block_number: int = Field(sa_column=Column(BigInteger, nullable=False))
    succeeded: bool
    gas_used: int = Field(sa_column=Column(BigInteger, nullable=False))


class CycleStateRow(SQLModel, table=True):
    """A state that a version of a period has reached in the coordinator's cycle; the last one is the present one."""

    __tablename__ = "cycle_state"

    period: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # 0 for the first state, and one more for each that follows: of two coordinators only one can add the next.
    step: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # See domain/states.py.
    state: str
    at: int = Field(sa_column=Column(BigInteger, nullable=False))
    # From `prepared` on.
    batch_hash: str = ""
    reason: str = ""


class OracleReportRow(SQLModel, table=True):
    """A report as the signers signed it: hashes only."""

    __tablename__ = "oracle_report"

    period: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # JSON: the report's fields and the signatures.
    report: str
    # Of the readings that the signers had, to notice late ones.
    readings_digest: str


class ReportedSlotRow(SQLModel, table=True):
    """A member's readings in a report. Personal; may be erased."""

    __tablename__ = "reported_slot"

    period: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    slot: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    salt: bytes
    vector: bytes


class BatchHeaderRow(SQLModel, table=True):
    """A batch's header in full, to build the next one on."""

    __tablename__ = "batch_header"

    batch_hash: str = Field(primary_key=True)
    # JSON with sorted keys; bytes as 0x and hexadecimal digits.
    header: str


class LookedAtRow(SQLModel, table=True):
    """Readings of a settled period that a correction was asked for; replaced when others come in."""

    __tablename__ = "looked_at"

    period: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    readings_digest: str


class PreviewRow(SQLModel, table=True):
    """An interval of a period without a batch, cleared from the readings that are there; replaced when more come in."""

    __tablename__ = "preview"

    interval: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    period: int = Field(index=True)
    cleared_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    missing: int
    demand_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    supply_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    traded_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    discount_nano_per_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    premium_nano_per_wh: int = Field(sa_column=Column(BigInteger, nullable=False))


class PreviewReadingRow(SQLModel, table=True):
    """A member's energy in an interval of a previewed period. Personal; replaced with the preview."""

    __tablename__ = "preview_reading"

    interval: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    slot: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False, index=True))
    import_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    export_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    quality: int


class PreviewTradeRow(SQLModel, table=True):
    """What two members trade in an interval of a previewed period. Personal; replaced with the preview."""

    __tablename__ = "preview_trade"

    interval: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    seller_slot: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, index=True)
    )
    buyer_slot: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, index=True)
    )
    energy_wh: int = Field(sa_column=Column(BigInteger, nullable=False))
    fee_nano: int = Field(sa_column=Column(BigInteger, nullable=False))


class WishRow(SQLModel, table=True):
    """What a member wishes for the negotiated market, as it signed it; the highest number counts. Personal; may be erased."""

    __tablename__ = "wish"

    slot: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # From 1, one more each time; part of what is signed.
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    # JSON with sorted keys.
    wishes: str
    account: str
    signature: bytes
    at: int = Field(sa_column=Column(BigInteger, nullable=False))


class KeptAnswerRow(SQLModel, table=True):
    """What a request with an idempotency key was answered; removed after a day."""

    __tablename__ = "kept_answer"

    caller: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    # SHA-256 over method, path and body.
    request_digest: str
    status: int
    body: bytes
    at: int = Field(sa_column=Column(BigInteger, nullable=False))
