"""Writing to and reading from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import Engine, func
from sqlalchemy.engine import make_url
from sqlmodel import Session, SQLModel, col, create_engine, select

from backend.domain.community import Member
from backend.domain.readings import SignedReading
from backend.market.certificate import outside_cost_nano
from backend.market.pool import ClearedInterval
from backend.settlement.batch import Batch, interval_steps

from .tables import (
    BatchRow,
    EntryRow,
    IntervalRow,
    MemberRow,
    ReadingRow,
    TradeRow,
    VaultRow,
)


class LedgerStore:
    """The ledger in one database.

    Args:
        url: SQLAlchemy URL, such as `sqlite:///ledger.sqlite`.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = create_engine(url)
        SQLModel.metadata.create_all(self.engine)

    def close(self) -> None:
        """Lets go of the database."""
        self.engine.dispose()

    def add_members(self, members: Iterable[Member], from_period: int) -> None:
        """Registers members; one that is there already stays as it is."""
        with Session(self.engine) as session:
            known = set(session.exec(select(MemberRow.slot)))
            session.add_all(
                MemberRow(
                    slot=member.slot,
                    name=member.name,
                    account=member.account,
                    meter=member.meter,
                    node=member.node,
                    tariff_class=member.tariff_class,
                    from_period=from_period,
                )
                for member in members
                if member.slot not in known
            )
            session.commit()

    def add_readings(self, readings: Iterable[tuple[SignedReading, str]]) -> None:
        """Stores readings with the reason of their rejection (empty: taken); known ones are left alone."""
        with Session(self.engine) as session:
            rows = [
                ReadingRow(
                    meter=signed.reading.meter,
                    interval=signed.reading.interval,
                    import_register_wh=signed.reading.import_register_wh,
                    export_register_wh=signed.reading.export_register_wh,
                    sequence=signed.reading.sequence,
                    quality=int(signed.reading.quality),
                    signature=signed.signature,
                    rejected_because=reason,
                )
                for signed, reason in readings
            ]
            if rows:
                first, last = min(row.interval for row in rows), max(row.interval for row in rows)
                known = set(
                    session.exec(
                        select(ReadingRow.meter, ReadingRow.interval, ReadingRow.signature).where(
                            ReadingRow.interval >= first, ReadingRow.interval <= last
                        )
                    )
                )
                session.add_all(
                    row for row in rows if (row.meter, row.interval, row.signature) not in known
                )
            session.commit()

    def add_batch(
        self,
        batch: Batch,
        cleared: Sequence[ClearedInterval],
        share_millionths: int,
    ) -> None:
        """Stores a prepared batch with its intervals, trades and entries, all or nothing; a known one is left alone."""
        header = batch.header
        batch_hash = "0x" + header.hash().hex()
        with Session(self.engine) as session:
            if session.get(BatchRow, batch_hash) is not None:
                return
            session.add(
                BatchRow(
                    batch_hash=batch_hash,
                    period=header.period,
                    version=header.version,
                    state="prepared",
                    previous_batch="0x" + header.previous_batch.hex(),
                    ledger_root="0x" + header.ledger_root.hex(),
                    bundle_hash="0x" + header.bundle_hash.hex(),
                )
            )
            session.add_all(
                EntryRow(
                    batch_hash=batch_hash,
                    slot=leaf.slot,
                    amount_nano=leaf.amount_nano,
                    cumulative_nano=leaf.cumulative_nano,
                )
                for leaf in batch.leaves.values()
            )
            session.add_all(self._interval_rows(batch, cleared, share_millionths))
            session.add_all(
                TradeRow(
                    batch_hash=batch_hash,
                    position=position,
                    interval=trade.interval,
                    seller_slot=trade.seller_slot,
                    buyer_slot=trade.buyer_slot,
                    energy_wh=trade.energy_wh,
                    fee_nano=trade.fee_nano,
                )
                for position, trade in enumerate(batch.trades)
            )
            session.commit()

    @staticmethod
    def _interval_rows(
        batch: Batch, cleared: Sequence[ClearedInterval], share_millionths: int
    ) -> Iterable[IntervalRow]:
        batch_hash = "0x" + batch.header.hash().hex()
        for index, interval in enumerate(cleared):
            discount, premium = interval_steps(interval, share_millionths)
            yield IntervalRow(
                batch_hash=batch_hash,
                interval=batch.header.first_interval + index,
                demand_wh=sum(interval.problem.demand_wh),
                supply_wh=sum(interval.problem.supply_wh),
                traded_wh=sum(interval.solution.matched_demand_wh),
                discount_nano_per_wh=discount,
                premium_nano_per_wh=premium,
                cost_nano=interval.supplier_nano + interval.fees_nano,
                outside_cost_nano=outside_cost_nano(interval.problem),
                fees_nano=interval.fees_nano,
            )

    def set_batch_state(
        self,
        batch_hash: bytes,
        state: str,
        *,
        transaction_hash: bytes | None = None,
        gas_used: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Moves a batch to a state, with what became known of it."""
        with Session(self.engine) as session:
            row = session.get_one(BatchRow, "0x" + batch_hash.hex())
            row.state = state
            if transaction_hash is not None:
                row.transaction_hash = "0x" + transaction_hash.hex()
            if gas_used is not None:
                row.gas_used = gas_used
            if reason is not None:
                row.reason = reason
            session.add(row)
            session.commit()

    def add_vault_movement(self, transaction_hash: bytes, slot: int, tokens: int) -> None:
        """Stores a deposit or withdrawal once."""
        with Session(self.engine) as session:
            key = "0x" + transaction_hash.hex()
            if session.get(VaultRow, key) is None:
                session.add(VaultRow(transaction_hash=key, slot=slot, tokens=tokens))
                session.commit()

    def entry_sums(self) -> dict[str, int]:
        """By batch hash the sum of its entries, which must be zero."""
        with Session(self.engine) as session:
            statement = select(EntryRow.batch_hash, func.sum(EntryRow.amount_nano)).group_by(
                EntryRow.batch_hash
            )
            return {batch_hash: int(total) for batch_hash, total in session.exec(statement)}

    def batches(self) -> list[BatchRow]:
        """All batches in order of period."""
        with Session(self.engine) as session:
            return list(session.exec(select(BatchRow).order_by(col(BatchRow.period))))
