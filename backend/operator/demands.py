"""Answers to members who demand on chain to see their account: in time, or their batch falls for it."""

from __future__ import annotations

import json

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from backend.chain.sender import Sender
from backend.ledger.tables import ChainEventRow


def open_demands(engine: Engine) -> list[tuple[str, int]]:
    """Batch hashes and slots of the demands that nobody has answered, as the newest block has it."""
    with Session(engine) as session:
        rows = session.exec(
            select(ChainEventRow).where(
                col(ChainEventRow.name).in_(("DataDemanded", "DemandAnswered"))
            )
        ).all()
    found: dict[str, set[tuple[str, int]]] = {"DataDemanded": set(), "DemandAnswered": set()}
    for row in rows:
        arguments = json.loads(row.arguments)
        found[row.name].add((arguments["batchHash"], arguments["slot"]))
    return sorted(found["DataDemanded"] - found["DemandAnswered"])


def answer_key(sender: Sender, batch_hash: str, slot: int) -> str:
    """What the answer is sent under; another one where an earlier answer was mined and reverted."""
    key = base = f"answer {batch_hash} {slot}"
    attempt = 0
    while (outcome := sender.outcome(key)) is not None and not outcome.succeeded:
        attempt += 1
        key = f"{base} {attempt}"
    return key
