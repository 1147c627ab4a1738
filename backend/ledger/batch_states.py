"""What became of a batch, state by state."""

from __future__ import annotations

from sqlmodel import Session, col, select

from backend.domain.errors import UnknownReference
from backend.domain.states import BatchState

from .tables import BatchRow, BatchStateRow


def add_batch_state(
    session: Session,
    batch_hash: str,
    state: BatchState,
    *,
    transaction_hash: str = "",
    gas_used: int = 0,
    reason: str = "",
) -> None:
    """Notes that a batch reached a state, with what became known of it; in that state already, nothing happens.

    Raises:
        UnknownReference: no such batch.
    """
    if session.get(BatchRow, batch_hash) is None:
        raise UnknownReference(
            "batch_hash", batch_hash, "no such batch in the ledger", "store the batch first"
        )
    last = last_batch_state(session, batch_hash)
    if last is not None and last.state == state:
        return
    session.add(
        BatchStateRow(
            batch_hash=batch_hash,
            step=last.step + 1 if last else 0,
            state=state.value,
            transaction_hash=transaction_hash,
            gas_used=gas_used,
            reason=reason,
        )
    )
    session.flush()


def last_batch_state(session: Session, batch_hash: str) -> BatchStateRow | None:
    """The present state; None if there is none."""
    return session.exec(
        select(BatchStateRow)
        .where(BatchStateRow.batch_hash == batch_hash)
        .order_by(col(BatchStateRow.step).desc())
        .limit(1)
    ).first()
