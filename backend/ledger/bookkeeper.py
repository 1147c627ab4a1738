"""From the chain's final events to the journal (docs/adr/0021).

Transfers are booked at the time of their block, batches at the time they can no longer be challenged, in the order of these
times; of the same time, batches first. That order depends on the chain alone, so whoever follows it from any start, with any
pauses, gets the same journal to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from backend.domain.errors import BundleUnavailable
from backend.settlement.encoding import BatchHeader, LedgerLeaf
from contracts.events import header_of

from .journal import JournalEntry, post, settlement, slot_account, transfer
from .live_batches import BATCH_EVENTS, last_standing
from .tables import BookedUntilRow, ChainEventRow, JournalRow

# The accounts of a batch, from its published bundle.
LeavesOf = Callable[[BatchHeader], dict[int, LedgerLeaf]]

_TRANSFERS = {
    # Event: kind, sign, argument that names the account, how its account is called.
    "Deposited": ("deposit", 1, "slot", slot_account),
    "Withdrawn": ("withdrawal", -1, "slot", slot_account),
    "GuaranteeDeposited": ("guarantee", 1, "guarantor", "guarantor:{}".format),
    "GuaranteeWithdrawn": ("guarantee", -1, "guarantor", "guarantor:{}".format),
}


@dataclass(frozen=True, slots=True)
class _OpenBatch:
    block_number: int
    batch_hash: str
    header: BatchHeader
    final_at: int


class Bookkeeper:
    """Books what is final.

    Args:
        engine: the community's database, which an indexer fills with events.
        challenge_seconds: how long the community's batches can be challenged.
        nano_per_token: value of the token's smallest unit.
        leaves_of: where bundles come from.
    """

    def __init__(
        self, engine: Engine, challenge_seconds: int, nano_per_token: int, leaves_of: LeavesOf
    ) -> None:
        self._engine = engine
        self._challenge_seconds = challenge_seconds
        self._nano_per_token = nano_per_token
        self._leaves_of = leaves_of

    def book_until(self, block_number: int, timestamp: int) -> int:
        """Books everything up to a final block; returns how many bookings are new.

        Args:
            block_number: of the final block; its events and all before must have been indexed.
            timestamp: its time.

        Raises:
            BundleUnavailable: a final batch's bundle is missing; what comes before it is booked.
            BookingRefused: the journal contradicts the chain.
        """
        new = 0
        with Session(self._engine) as session:
            cursor = session.get(BookedUntilRow, 1) or BookedUntilRow(
                id=1, block_number=-1, batches_from=0
            )
            open_batches: dict[int, _OpenBatch] = {}
            try:
                for event in self._events(session, cursor, block_number):
                    new += self._book_batches(session, open_batches, event.timestamp, cursor)
                    if event.name in BATCH_EVENTS:
                        self._note(open_batches, event)
                    elif event.block_number > cursor.block_number:
                        new += self._book_transfer(session, event)
                new += self._book_batches(session, open_batches, timestamp, cursor)
                cursor.block_number = max(cursor.block_number, block_number)
            except BundleUnavailable:
                # What comes before the missing bundle stays booked, and nothing after it is.
                session.add(cursor)
                session.commit()
                raise
            session.add(cursor)
            session.commit()
        return new

    def _events(
        self, session: Session, cursor: BookedUntilRow, last: int
    ) -> Iterator[ChainEventRow]:
        """What is to be booked now, with the batches of before that may still be open."""
        row = ChainEventRow
        wanted = col(row.name).in_([*BATCH_EVENTS, *_TRANSFERS])
        start = min(cursor.batches_from, cursor.block_number + 1)
        yield from session.exec(
            select(row)
            .where(wanted, row.block_number >= start, row.block_number <= last)
            .order_by(col(row.block_number), col(row.log_index))
        ).all()

    def _note(self, open_batches: dict[int, _OpenBatch], event: ChainEventRow) -> None:
        arguments: dict[str, Any] = json.loads(event.arguments)
        if event.name == "BatchSubmitted":
            open_batches[arguments["number"]] = _OpenBatch(
                event.block_number,
                arguments["batchHash"],
                header_of(arguments),
                event.timestamp + self._challenge_seconds,
            )
            return
        keep = last_standing(event.name, arguments)
        for number in [number for number in open_batches if number > keep]:
            del open_batches[number]

    def _book_batches(
        self,
        session: Session,
        open_batches: dict[int, _OpenBatch],
        timestamp: int,
        cursor: BookedUntilRow,
    ) -> int:
        """Books the batches that are final at a time."""
        new = 0
        for number in sorted(open_batches):
            batch = open_batches[number]
            if batch.final_at > timestamp:
                break
            known = session.exec(
                select(JournalRow.number).where(JournalRow.reference == batch.batch_hash)
            ).first()
            if known is None:
                new += post(session, self._settlement(batch))
            cursor.batches_from = batch.block_number
            del open_batches[number]
        return new

    def _settlement(self, batch: _OpenBatch) -> JournalEntry:
        leaves = self._leaves_of(batch.header)
        return settlement(
            "correction" if batch.header.version else "batch",
            bytes.fromhex(batch.batch_hash[2:]),
            batch.final_at,
            {slot: leaf.amount_nano for slot, leaf in leaves.items()},
        )

    def _book_transfer(self, session: Session, event: ChainEventRow) -> int:
        kind, sign, named, account = _TRANSFERS[event.name]
        arguments = json.loads(event.arguments)
        return post(
            session,
            transfer(
                kind,
                f"{event.transaction_hash}/{event.log_index}",
                event.timestamp,
                account(arguments[named]),
                sign * arguments["tokens"] * self._nano_per_token,
            ),
        )
