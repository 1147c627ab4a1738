"""What the coordinator's cycle remembers: how far each version of a period is, and what that rests on.

A state is a new row; its number is part of the key, so of two processes that go on from the same state one fails.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, cast

from sqlalchemy import Engine, delete, func
from sqlalchemy import select as sql_select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from backend.domain.errors import LeadershipLost
from backend.domain.states import BatchState, CycleState
from backend.settlement.batch import SettledBatch
from backend.settlement.encoding import BatchHeader, LedgerLeaf, OracleReport
from contracts.bindings import MemberRecord

from .batch_states import add_batch_state
from .live_batches import live_batches, submission_of
from .membership import active_members
from .tables import (
    BatchHeaderRow,
    BatchRow,
    BookedUntilRow,
    CycleStateRow,
    EntryRow,
    IndexedBlockRow,
    JournalRow,
    LookedAtRow,
    OracleReportRow,
    PreviewReadingRow,
    PreviewRow,
    PreviewTradeRow,
    ReportedSlotRow,
)

_PREVIEWS_KEPT_DAYS = 7
_FAILED = (CycleState.REFUSED, CycleState.VOIDED)


@dataclass(frozen=True, slots=True)
class Item:
    """One version of a period, and how far it is.

    Attributes:
        state: the present one.
        step: its number.
        at: since when, in seconds since the Unix epoch.
        batch_hash: of its newest batch; empty before there is one.
        reason: why it was refused or voided.
        attempts: how often it was refused or voided.
    """

    period: int
    version: int
    state: CycleState
    step: int
    at: int
    batch_hash: str = ""
    reason: str = ""
    attempts: int = 0

    @property
    def name(self) -> str:
        """For people and keys."""
        return f"{self.period} v{self.version}"


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report with what was reported of every slot that has not been erased."""

    report: OracleReport
    signatures: tuple[bytes, ...]
    slots: Mapping[int, tuple[bytes, bytes]]
    readings_digest: str


class PreviewedReading(NamedTuple):
    """A member's energy in an interval of a previewed period; see `PreviewReadingRow`."""

    interval: int
    slot: int
    import_wh: int
    export_wh: int
    quality: int


class PreviewedTrade(NamedTuple):
    """What two members trade in an interval of a previewed period; see `PreviewTradeRow`."""

    interval: int
    seller_slot: int
    buyer_slot: int
    energy_wh: int
    fee_nano: int


class CycleStore:
    """The cycle's part of one community's database.

    Args:
        engine: the database, brought to the present schema.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # --- States ----------------------------------------------------------------------------------------------------------

    def items(self) -> list[Item]:
        """All versions of all periods, in the order in which they were begun."""
        row = CycleStateRow
        order = (col(row.period), col(row.version), col(row.step))
        columns: tuple[Any, ...] = (
            row.period,
            row.version,
            row.step,
            row.state,
            row.at,
            row.batch_hash,
            row.reason,
        )
        found: dict[tuple[int, int], Item] = {}
        begun: dict[tuple[int, int], tuple[int, int, int]] = {}
        with self.engine.connect() as connection:
            rows = connection.execute(sql_select(*columns).order_by(*order)).all()
        for period, version, step, name, at, batch_hash, reason in rows:
            key, state = (period, version), CycleState(name)
            # Never before the day, or the version, before it: a clock may have been set back in between.
            earlier = begun.get((period, version - 1) if version else (period - 1, 0))
            begun.setdefault(key, (max(at, earlier[0]) if earlier else at, version, period))
            attempts = (found[key].attempts if key in found else 0) + (state in _FAILED)
            found[key] = Item(period, version, state, step, at, batch_hash, reason, attempts)
        return [found[key] for key in sorted(found, key=begun.__getitem__)]

    def begun_at(self, item: Item) -> int:
        """When a version of a period was begun, in seconds since the Unix epoch."""
        row = CycleStateRow
        with Session(self.engine) as session:
            begun = session.exec(
                select(func.min(row.at)).where(
                    row.period == item.period, row.version == item.version
                )
            ).one()
        assert begun is not None, f"{item.name} was not begun"
        return begun

    def begin(self, period: int, version: int, at: int) -> Item:
        """A version of a period is begun.

        Raises:
            LeadershipLost: it has been begun already.
        """
        item = Item(period, version, CycleState.COLLECTING, -1, at)
        return self.move(item, CycleState.COLLECTING, at)

    def move(
        self, item: Item, state: CycleState, at: int, batch_hash: str = "", reason: str = ""
    ) -> Item:
        """Stores the next state.

        Raises:
            LeadershipLost: another process has gone on from the same state.
        """
        with Session(self.engine) as session:
            moved = self._add_state(session, item, state, at, batch_hash, reason)
            _commit(session)
        return moved

    def collected(
        self,
        item: Item,
        at: int,
        report: OracleReport,
        signatures: Iterable[bytes],
        slots: Mapping[int, tuple[bytes, bytes]],
        readings_digest: str,
    ) -> Item:
        """Stores a report and that it is there, together."""
        given = StoredReport(report, tuple(signatures), slots, readings_digest)
        with Session(self.engine) as session:
            self._add_report(session, item.period, item.version, given)
            moved = self._add_state(session, item, CycleState.COLLECTED, at)
            _commit(session)
        return moved

    def prepared(self, item: Item, at: int, header: BatchHeader) -> Item:
        """Stores a batch's header and that the batch is ready, together."""
        key = "0x" + header.hash().hex()
        with Session(self.engine) as session:
            if session.get(BatchHeaderRow, key) is None:
                session.add(BatchHeaderRow(batch_hash=key, header=_json(asdict(header))))
            moved = self._add_state(session, item, CycleState.PREPARED, at, key)
            _commit(session)
        return moved

    def adopt(
        self,
        header: BatchHeader,
        leaves: Mapping[int, LedgerLeaf],
        report: StoredReport | None,
        state: CycleState,
        at: int,
    ) -> None:
        """Takes over a batch that is on the chain and not in this database: batch, entries, header, report and states.

        Args:
            header: of the batch.
            leaves: its accounts.
            report: what it rests on; None if that is not known.
            state: SUBMITTED or FINAL.
            at: seconds since the Unix epoch.
        """
        key = "0x" + header.hash().hex()
        with Session(self.engine) as session:
            if session.get(BatchRow, key) is None:
                session.add(
                    BatchRow(
                        batch_hash=key,
                        number=header.number,
                        period=header.period,
                        version=header.version,
                        previous_batch="0x" + header.previous_batch.hex(),
                        ledger_root="0x" + header.ledger_root.hex(),
                        bundle_hash="0x" + header.bundle_hash.hex(),
                    )
                )
                session.flush()
                session.add_all(
                    EntryRow(
                        batch_hash=key,
                        slot=leaf.slot,
                        amount_nano=leaf.amount_nano,
                        cumulative_nano=leaf.cumulative_nano,
                    )
                    for leaf in leaves.values()
                )
            if session.get(BatchHeaderRow, key) is None:
                session.add(BatchHeaderRow(batch_hash=key, header=_json(asdict(header))))
            found = submission_of(session, key)
            add_batch_state(
                session,
                key,
                BatchState.SUBMITTED,
                transaction_hash=found.transaction_hash if found else "",
            )
            if state is CycleState.FINAL:
                add_batch_state(session, key, BatchState.FINAL)
            if report is not None:
                self._replace_report(session, header.period, header.version, report)
            last = session.exec(
                select(func.max(CycleStateRow.step)).where(
                    CycleStateRow.period == header.period, CycleStateRow.version == header.version
                )
            ).one()
            item = Item(header.period, header.version, state, -1 if last is None else last, at)
            self._add_state(session, item, state, at, key)
            _commit(session)

    @staticmethod
    def _add_report(session: Session, period: int, version: int, given: StoredReport) -> None:
        data = asdict(given.report) | {"signatures": list(given.signatures)}
        session.add(
            OracleReportRow(
                period=period,
                version=version,
                report=_json(data),
                readings_digest=given.readings_digest,
            )
        )
        session.add_all(
            ReportedSlotRow(period=period, version=version, slot=slot, salt=salt, vector=vector)
            for slot, (salt, vector) in given.slots.items()
        )

    def _replace_report(
        self, session: Session, period: int, version: int, given: StoredReport
    ) -> None:
        """What the chain rests on, if that is not what is stored."""
        row = session.get(OracleReportRow, (period, version))
        if row is not None:
            stored = json.loads(row.report)
            if all(_value(stored[name]) == value for name, value in asdict(given.report).items()):
                return
            session.delete(row)
            slot = ReportedSlotRow
            session.exec(
                delete(slot).where(col(slot.period) == period, col(slot.version) == version)
            )
            session.flush()
        self._add_report(session, period, version, given)

    @staticmethod
    def _add_state(
        session: Session,
        item: Item,
        state: CycleState,
        at: int,
        batch_hash: str = "",
        reason: str = "",
    ) -> Item:
        batch_hash = batch_hash or item.batch_hash
        step = item.step + 1
        session.add(
            CycleStateRow(
                period=item.period,
                version=item.version,
                step=step,
                state=state.value,
                at=at,
                batch_hash=batch_hash,
                reason=reason,
            )
        )
        attempts = item.attempts + (state in _FAILED)
        return Item(item.period, item.version, state, step, at, batch_hash, reason, attempts)

    # --- What states rest on -----------------------------------------------------------------------------------------------

    def report(self, period: int, version: int) -> StoredReport | None:
        """A stored report; None if there is none."""
        with Session(self.engine) as session:
            row = session.get(OracleReportRow, (period, version))
            if row is None:
                return None
            slots = session.exec(
                select(ReportedSlotRow).where(
                    ReportedSlotRow.period == period, ReportedSlotRow.version == version
                )
            ).all()
        data = json.loads(row.report)
        signatures = tuple(_value(item) for item in data.pop("signatures"))
        report = OracleReport(**{name: _value(value) for name, value in data.items()})
        return StoredReport(
            report,
            signatures,
            {item.slot: (bytes(item.salt), bytes(item.vector)) for item in slots},
            row.readings_digest,
        )

    def settled(self, batch_hash: str) -> SettledBatch:
        """A stored batch, as later ones build on it; what a period comes to is the sum of its versions."""
        with Session(self.engine) as session:
            header = self._header(session, batch_hash)
            entries = session.exec(select(EntryRow).where(EntryRow.batch_hash == batch_hash)).all()
            due = {row.slot: row.amount_nano for row in entries}
            corrected = header.corrected_batch
            while any(corrected):
                key = "0x" + corrected.hex()
                for slot, amount in session.exec(
                    select(EntryRow.slot, EntryRow.amount_nano).where(EntryRow.batch_hash == key)
                ):
                    due[slot] = due.get(slot, 0) + amount
                corrected = self._header(session, key).corrected_batch
        return SettledBatch(header, {row.slot: row.cumulative_nano for row in entries}, due)

    def header(self, batch_hash: str) -> BatchHeader:
        """A stored batch's header."""
        with Session(self.engine) as session:
            return self._header(session, batch_hash)

    @staticmethod
    def _header(session: Session, batch_hash: str) -> BatchHeader:
        row = session.get(BatchHeaderRow, batch_hash)
        assert row is not None, f"no header of {batch_hash}"
        data = json.loads(row.header)
        return BatchHeader(**{item.name: _value(data[item.name]) for item in fields(BatchHeader)})

    # --- The chain -----------------------------------------------------------------------------------------------------------

    def live(self, *, final_only: bool) -> dict[int, tuple[str, BatchHeader]]:
        """By number the batches that stand, in order; as the newest block has them, or the newest final one that is booked."""
        until = self.booked_block() if final_only else None
        with Session(self.engine) as session:
            return live_batches(session, until)

    def submitted_at(self, batch_hash: str) -> int | None:
        """Chain time at which a batch was submitted; None if it does not stand, as far as the chain was read."""
        with Session(self.engine) as session:
            if batch_hash not in {key for key, _ in live_batches(session).values()}:
                return None
            found = submission_of(session, batch_hash)
        assert found is not None
        return found.timestamp

    def final_time(self) -> int:
        """Time of the newest final block that was read; 0 before the first."""
        with Session(self.engine) as session:
            found = session.exec(
                select(func.max(IndexedBlockRow.timestamp)).where(col(IndexedBlockRow.final))
            ).one()
        return int(found or 0)

    def booked_block(self) -> int:
        """The newest final block that the journal has taken in; -1 before the first."""
        with Session(self.engine) as session:
            cursor = session.get(BookedUntilRow, 1)
            return cursor.block_number if cursor else -1

    def is_booked(self, batch_hash: str) -> bool:
        """Whether a batch is in the journal, and so final for good."""
        with Session(self.engine) as session:
            found = session.exec(
                select(JournalRow.number).where(JournalRow.reference == batch_hash)
            ).first()
            return found is not None

    def members(self, period: int) -> dict[int, MemberRecord]:
        """By slot who takes part in a period, as the newest block has it."""
        with Session(self.engine) as session:
            return active_members(session, period)

    # --- Late readings, previews, erasure ------------------------------------------------------------------------------------

    def looked_at(self, period: int) -> str | None:
        """The digest of the readings that a correction was last asked for."""
        with Session(self.engine) as session:
            row = session.get(LookedAtRow, period)
            return row.readings_digest if row else None

    def look_at(self, period: int, readings_digest: str) -> None:
        """Notes that a correction was asked for."""
        with Session(self.engine) as session:
            session.merge(LookedAtRow(period=period, readings_digest=readings_digest))
            session.commit()

    def replace_previews(
        self,
        period: int,
        rows: Sequence[PreviewRow],
        readings: Iterable[PreviewReadingRow] = (),
        trades: Iterable[PreviewTradeRow] = (),
    ) -> None:
        """Replaces intervals of the previews. A period's are kept until a batch of it stands, and for a week at most.

        Args:
            period: which one.
            rows: intervals.
            readings, trades: members' parts of these intervals.
        """
        replaced = [row.interval for row in rows]
        # Whoever made the rows goes on reading them.
        with Session(self.engine, expire_on_commit=False) as session:
            batches = {header.period for _, header in live_batches(session).values()}
            kept = session.exec(
                select(PreviewRow.interval, PreviewRow.period).where(PreviewRow.period != period)
            ).all()
            gone = [
                interval
                for interval, other in kept
                if other in batches or other < period - _PREVIEWS_KEPT_DAYS
            ]
            for table in (PreviewRow, PreviewReadingRow, PreviewTradeRow):
                session.exec(delete(table).where(col(table.interval).in_([*gone, *replaced])))
            session.add_all([*rows, *readings, *trades])
            session.commit()

    def preview_parts(
        self, intervals: Sequence[int]
    ) -> tuple[list[PreviewedReading], list[PreviewedTrade]]:
        """Every member's readings and trades of intervals of previewed periods, oldest first."""
        reading, trade = PreviewReadingRow, PreviewTradeRow
        readings: tuple[Any, ...] = (
            reading.interval,
            reading.slot,
            reading.import_wh,
            reading.export_wh,
            reading.quality,
        )
        trades: tuple[Any, ...] = (
            trade.interval,
            trade.seller_slot,
            trade.buyer_slot,
            trade.energy_wh,
            trade.fee_nano,
        )
        # Plain rows: objects of a thousand members' day would take seconds.
        with self.engine.connect() as connection:
            found = connection.execute(
                sql_select(*readings)
                .where(col(reading.interval).in_(intervals))
                .order_by(*readings[:2])
            ).all()
            traded = connection.execute(
                sql_select(*trades).where(col(trade.interval).in_(intervals)).order_by(*trades[:3])
            ).all()
        # Rows of the database already have these names.
        return cast(list[PreviewedReading], found), cast(list[PreviewedTrade], traded)

    def previews(self) -> list[PreviewRow]:
        """The cleared intervals of the running period, and of those that are over and have no batch yet; oldest first."""
        with Session(self.engine) as session:
            return list(session.exec(select(PreviewRow).order_by(col(PreviewRow.interval))))

    def erase_slot(self, slot: int, before_period: int) -> int:
        """Removes a slot's reported readings of periods before one; returns how many periods."""
        with Session(self.engine) as session:
            done = session.exec(
                delete(ReportedSlotRow).where(
                    col(ReportedSlotRow.slot) == slot, col(ReportedSlotRow.period) < before_period
                )
            )
            session.commit()
            return int(done.rowcount)


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest of a signer's digests by meter."""
    return hashlib.sha256(json.dumps(dict(digests), sort_keys=True).encode()).hexdigest()


def _commit(session: Session) -> None:
    try:
        session.commit()
    except IntegrityError as error:
        raise LeadershipLost(
            "another coordinator has gone on from the same state",
            "nothing; this process stands back, and goes on if the other one ends",
        ) from error


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), default=_hex)


def _hex(value: Any) -> str:
    if not isinstance(value, bytes):
        raise TypeError(type(value).__name__)
    return "0x" + value.hex()


def _value(value: Any) -> Any:
    return bytes.fromhex(value[2:]) if isinstance(value, str) else value
