"""Writing to and reading from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Engine, func
from sqlmodel import Session, select

from backend.domain.community import Member
from backend.domain.errors import PeerwattError
from backend.domain.readings import SignedReading
from backend.domain.states import BatchState
from backend.market.certificate import outside_cost_nano
from backend.market.pool import ClearedInterval
from backend.settlement.batch import Batch, interval_steps

from .batch_states import add_batch_state, last_batch_state
from .database import migrate, open_database
from .journal import JournalEntry, post
from .tables import (
    BatchRow,
    BatchStateRow,
    EntryRow,
    IntervalRow,
    MemberRow,
    ReadingRow,
    TradeRow,
)


class LedgerStore:
    """The ledger of one community in one database, brought to the present schema.

    Args:
        url: `sqlite:///ledger.sqlite` or `postgresql://user@host/name`.

    Raises:
        DatabaseFailed: the database does not answer.
        SchemaUnknown: a newer version of this software has been at work there.
    """

    def __init__(self, url: str) -> None:
        self.engine: Engine = open_database(url)
        try:
            migrate(self.engine)
        except PeerwattError:
            self.close()
            raise

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
                    number=header.number,
                    period=header.period,
                    version=header.version,
                    previous_batch="0x" + header.previous_batch.hex(),
                    ledger_root="0x" + header.ledger_root.hex(),
                    bundle_hash="0x" + header.bundle_hash.hex(),
                )
            )
            session.flush()
            session.add(
                BatchStateRow(batch_hash=batch_hash, step=0, state=BatchState.PREPARED.value)
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
        state: BatchState,
        *,
        transaction_hash: bytes = b"",
        gas_used: int = 0,
        reason: str = "",
    ) -> None:
        """Notes that a batch reached a state, with what became known of it; in that state already, nothing happens."""
        with Session(self.engine) as session:
            add_batch_state(
                session,
                "0x" + batch_hash.hex(),
                state,
                transaction_hash="0x" + transaction_hash.hex() if transaction_hash else "",
                gas_used=gas_used,
                reason=reason,
            )
            session.commit()

    def batch_state(self, batch_hash: bytes) -> BatchState | None:
        """The state a batch is in; None if there is no such batch."""
        with Session(self.engine) as session:
            last = last_batch_state(session, "0x" + batch_hash.hex())
            return BatchState(last.state) if last else None

    def book(self, entry: JournalEntry) -> bool:
        """Books what happened, once; returns whether it was new."""
        with Session(self.engine) as session:
            new = post(session, entry)
            session.commit()
            return new

    def entry_sums(self) -> dict[str, int]:
        """By batch hash the sum of its entries, which must be zero."""
        with Session(self.engine) as session:
            statement = select(EntryRow.batch_hash, func.sum(EntryRow.amount_nano)).group_by(
                EntryRow.batch_hash
            )
            return {batch_hash: int(total) for batch_hash, total in session.exec(statement)}
