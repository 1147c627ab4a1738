"""Answers to members who demand on chain to see their account: in time, or their batch falls for it."""

from __future__ import annotations

import json
from typing import NamedTuple

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from backend.chain.sender import Sender
from backend.ledger.tables import ChainEventRow


class Demand(NamedTuple):
    """A demand for an account's data.

    Attributes:
        batch_hash: 0x and hexadecimal digits.
        slot: whose account.
        deadline: chain time until which it must be answered; the same batch submitted again can be asked for the same again.
    """

    batch_hash: str
    slot: int
    deadline: int


def open_demands(engine: Engine) -> list[Demand]:
    """The demands that nobody has answered, as the newest block has it."""
    names = ("BatchSubmitted", "DataDemanded", "DemandAnswered")
    with Session(engine) as session:
        rows = session.exec(
            select(ChainEventRow)
            .where(col(ChainEventRow.name).in_(names))
            .order_by(col(ChainEventRow.block_number), col(ChainEventRow.log_index))
        ).all()
    found: dict[str, dict[int, Demand]] = {}
    for row in rows:
        given = json.loads(row.arguments)
        # Demands and answers are of one submission: a batch that was voided and is submitted again begins without them.
        asked = found.setdefault(given["batchHash"], {})
        if row.name == "BatchSubmitted":
            asked.clear()
        elif row.name == "DataDemanded":
            asked[given["slot"]] = Demand(given["batchHash"], given["slot"], given["deadline"])
        else:
            asked.pop(given["slot"], None)
    return sorted(demand for asked in found.values() for demand in asked.values())


def answer_key(sender: Sender, demand: Demand) -> str:
    """What the answer is sent under; another one where an earlier answer was mined and reverted."""
    return sender.next_key(f"answer {demand.batch_hash} {demand.slot} {demand.deadline}")
