"""Erasing a member's data. Everybody else's proofs hold salted hashes and sums only, and stay valid."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete
from sqlmodel import Session, col, or_, select

from backend.domain.errors import MalformedInput
from backend.ledger.cycle import CycleStore, Item
from backend.ledger.tables import BatchRow, TradeRow, WishRow

from .bundle_store import BundleStore


def erase_member(
    store: CycleStore,
    bundles: BundleStore,
    slot: int,
    before_period: int,
    is_given_up: Callable[[Item], bool] = lambda item: False,
) -> int:
    """Erases readings, trades, statements and personal parts of a slot; returns from how many batches.

    The account in the ledger tree (what it was owed and owes) stays: it is what the journal books, and what withdrawals prove. The
    oracle erases by removing the slot's salt secret and readings from its own stores.

    Args:
        store: the cycle's part of the database.
        bundles: where bundles are kept.
        slot: whose data.
        before_period: of periods before this one.
        is_given_up: whether nothing more becomes of a correction; such a one need not be final.

    Raises:
        MalformedInput: a period among them is not final: its data may still be demanded on chain.
    """
    for item in store.items():
        if item.period >= before_period or is_given_up(item):
            continue
        if not (item.batch_hash and store.is_booked(item.batch_hash)):
            raise MalformedInput(
                "before", item.period, "is not final", "wait until it is, or name an earlier day"
            )
    with Session(store.engine) as session:
        # Those too that were refused or voided and prepared anew: each has a bundle and trades of its own.
        batches = session.exec(
            select(BatchRow.batch_hash, BatchRow.bundle_hash)
            .where(col(BatchRow.period) < before_period)
            .order_by(col(BatchRow.period), col(BatchRow.number))
        ).all()
    done = 0
    for batch_hash, bundle_hash in batches:
        # Bundle first: where the process ends in between, doing it again goes on.
        done += bundles.erase(bytes.fromhex(bundle_hash[2:]), slot)
        with Session(store.engine) as session:
            session.exec(
                delete(TradeRow).where(
                    col(TradeRow.batch_hash) == batch_hash,
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
