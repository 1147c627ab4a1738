"""Who takes part in a period, from the chain's events: what the registry says, not what a configuration says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from sqlmodel import Session, col, select

from backend.domain.community import FIRST_MEMBER_SLOT
from contracts.bindings import MemberRecord

from .tables import ChainEventRow

_MEMBER_EVENTS = ("MemberAdmitted", "MemberLeft")


def active_members(session: Session, period: int) -> dict[int, MemberRecord]:
    """By slot the members that are active in a period, as of the newest block; without the system's own accounts.

    A period that has begun keeps its members for good, but for a community's founders before their first batch.

    Args:
        session: of a database that an indexer fills.
        period: its number.
    """
    events = select(ChainEventRow).where(col(ChainEventRow.name).in_(_MEMBER_EVENTS))
    ordered = events.order_by(col(ChainEventRow.block_number), col(ChainEventRow.log_index))
    records = _records(session.exec(ordered))
    return {
        slot: record
        for slot, record in sorted(records.items())
        if slot >= FIRST_MEMBER_SLOT and record.is_active(period)
    }


def _records(events: Iterable[ChainEventRow]) -> dict[int, MemberRecord]:
    found: dict[int, MemberRecord] = {}
    for event in events:
        given = json.loads(event.arguments)
        slot = given["slot"]
        if event.name == "MemberLeft":
            found[slot] = replace(found[slot], until_period=given["untilPeriod"])
            continue
        found[slot] = MemberRecord(
            given["account"],
            given["fromPeriod"],
            0,
            given["node"],
            given["tariffClass"],
            given["collateralSteps"],
        )
    return found
