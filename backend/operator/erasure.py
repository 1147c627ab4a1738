"""Erasing a member's data. Everybody else's proofs hold salted hashes and sums only, and stay valid."""

from __future__ import annotations

from sqlalchemy import delete
from sqlmodel import Session, col, or_

from backend.domain.errors import MalformedInput
from backend.ledger.cycle import CycleStore
from backend.ledger.tables import TradeRow, WishRow

from .bundle_store import BundleStore


def erase_member(store: CycleStore, bundles: BundleStore, slot: int, before_period: int) -> int:
    """Erases readings, trades, statements and personal parts of a slot; returns from how many batches.

    The account in the ledger tree (what it was owed and owes) stays: it is what the journal books, and what withdrawals prove. The
    oracle erases by removing the slot's salt secret and readings from its own stores.

    Args:
        store: the cycle's part of the database.
        bundles: where bundles are kept.
        slot: whose data.
        before_period: of periods before this one.

    Raises:
        MalformedInput: a period among them is not final: its data may still be demanded on chain.
    """
    chosen = [item for item in store.items() if item.period < before_period and item.batch_hash]
    for item in chosen:
        if not store.is_booked(item.batch_hash):
            raise MalformedInput(
                "before", item.period, "is not final", "wait until it is, or name an earlier day"
            )
    done = 0
    for item in chosen:
        # Bundle first: where the process ends in between, doing it again goes on.
        done += bundles.erase(store.header(item.batch_hash).bundle_hash, slot)
        with Session(store.engine) as session:
            session.exec(
                delete(TradeRow).where(
                    col(TradeRow.batch_hash) == item.batch_hash,
                    or_(col(TradeRow.seller_slot) == slot, col(TradeRow.buyer_slot) == slot),
                )
            )
            session.commit()
    store.erase_slot(slot, before_period)
    return done


def erase_wishes(store: CycleStore, slot: int) -> None:
    """Erases what a slot's owner wished of the negotiated market; it is automatic again."""
    with Session(store.engine) as session:
        session.exec(delete(WishRow).where(col(WishRow.slot) == slot))
        session.commit()
