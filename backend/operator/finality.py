"""Whether a period is final, and if not, exactly why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backend.domain.errors import NotFinal, UnknownReference
from backend.domain.intervals import EPOCH_DATE
from backend.domain.states import CycleState
from backend.ledger.cycle import CycleStore, Item


def final_item(store: CycleStore, period: int, challenge_seconds: int) -> Item:
    """The newest version of a period, if it is final.

    Args:
        store: the cycle, as far as the chain was read.
        period: days since 1970-01-01.
        challenge_seconds: how long a batch can be challenged.

    Raises:
        UnknownReference: the period was not begun.
        NotFinal: its newest batch can still be challenged, or is not on the chain.
    """
    versions = [item for item in store.items() if item.period == period]
    if not versions:
        raise UnknownReference("period", period, "was not begun", "see the list of periods")
    item = max(versions, key=lambda found: found.version)
    if item.state in (CycleState.FINAL, CycleState.STATED):
        return item
    name = f"{EPOCH_DATE + timedelta(days=period)} version {item.version}"
    submitted = store.submitted_at(item.batch_hash) if item.batch_hash else None
    if item.state is not CycleState.SUBMITTED or submitted is None:
        why = f": {item.reason}" if item.reason else ""
        raise NotFinal(
            f"{name} is {item.state.value}, and no batch of it stands on the chain{why}",
            "run the cycle first",
        )
    until, read = _time(submitted + challenge_seconds), _time(store.final_time())
    raise NotFinal(
        f"{name} can be challenged until {until}, and the chain's newest final block is of {read}",
        f"finalise it when a block after {until} is final",
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
