"""Which batches stand, from the chain's events."""

from __future__ import annotations

import json
from typing import Any

from sqlmodel import Session, col, select

from backend.settlement.encoding import BatchHeader
from contracts.events import header_of

from .tables import ChainEventRow

BATCH_EVENTS = ("BatchSubmitted", "BatchVoided", "CommunityFrozen")


def live_batches(
    session: Session, until_block: int | None = None
) -> dict[int, tuple[str, BatchHeader]]:
    """By number the hash and header of every batch that was submitted and not voided, in order.

    Args:
        session: of a database that an indexer fills.
        until_block: as of which block; None for the newest.
    """
    statement = select(ChainEventRow).where(col(ChainEventRow.name).in_(BATCH_EVENTS))
    if until_block is not None:
        statement = statement.where(ChainEventRow.block_number <= until_block)
    found: dict[int, tuple[str, BatchHeader]] = {}
    for event in session.exec(
        statement.order_by(col(ChainEventRow.block_number), col(ChainEventRow.log_index))
    ):
        arguments: dict[str, Any] = json.loads(event.arguments)
        if event.name == "BatchSubmitted":
            found[arguments["number"]] = (arguments["batchHash"], header_of(arguments))
            continue
        for number in [item for item in found if item > last_standing(event.name, arguments)]:
            del found[number]
    return dict(sorted(found.items()))


def submission_of(session: Session, batch_hash: str) -> ChainEventRow | None:
    """The newest event with which a batch was submitted; None if the chain was not read that far."""
    row = ChainEventRow
    events = session.exec(
        select(row)
        .where(row.name == "BatchSubmitted")
        .order_by(col(row.block_number).desc(), col(row.log_index).desc())
    )
    return next(
        (event for event in events if json.loads(event.arguments)["batchHash"] == batch_hash), None
    )


def last_standing(event: str, arguments: dict[str, Any]) -> int:
    """Number of the last batch that stands after a `BatchVoided` (it takes all after it along) or `CommunityFrozen`."""
    return int(arguments["number"] - 1 if event == "BatchVoided" else arguments["lastNumber"])
