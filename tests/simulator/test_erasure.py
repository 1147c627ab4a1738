"""Erasing a member: also from batches that were refused and prepared anew, and not before everything is final."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlmodel import Session, select

from backend.domain.errors import MalformedInput
from backend.domain.states import CycleState
from backend.ledger.tables import BatchRow, TradeRow
from backend.operator.erasure import erase_member
from tests.simulator.moves import calm_world
from tests.simulator.test_membership import FIRST, admit_newcomer, advance_until
from tests.simulator.world import World
from tests.support.town import FIRST_PERIOD

pytestmark = pytest.mark.xdist_group("simulator")


@pytest.fixture
def town(play: World) -> Iterator[World]:
    with calm_world(play) as world:
        yield world


def shown(town: World, slot: int) -> int:
    """In how many personal parts and statements a slot's first day is, whichever batch they belong to."""
    folder = town.folder / "bundles"
    found = [
        json.loads(path.read_bytes())
        for kind in ("personal", "statements")
        for path in (folder / kind).glob("*.json")
    ]
    return sum((part["slot"], part["period"]) == (slot, FIRST) for part in found)


def traded(town: World, slot: int) -> int:
    """In how many trades of the first day a slot buys or sells, whichever batch they belong to."""
    last = FIRST_PERIOD.end_interval
    with Session(town.processes[0].store.engine) as session:
        rows = session.exec(select(TradeRow).where(TradeRow.interval < last)).all()
    return sum(slot in (row.seller_slot, row.buyer_slot) for row in rows)


def test_what_a_refused_batch_published_is_erased_too(town: World) -> None:
    """Published, refused because members changed before it was submitted, prepared anew under another hash."""
    cycle, members = town.processes[0].cycle, town.town.people.members
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle, "_bond_stands", lambda item: False)
        advance_until(town, FIRST, CycleState.SUBMITTING)
    slot = max((item.slot for item in members), key=lambda slot: traded(town, slot))
    trades = traded(town, slot)
    assert (shown(town, slot), trades > 0) == (1, True)
    admit_newcomer(town)
    cycle._made = None  # as after a restart
    advance_until(town, FIRST, CycleState.STATED)
    with Session(town.processes[0].store.engine) as session:
        hashes = session.exec(select(BatchRow.bundle_hash).where(BatchRow.period == FIRST)).all()
    assert len(set(hashes)) == 2
    # Two parts, one statement, every trade twice.
    assert (shown(town, slot), traded(town, slot)) == (3, 2 * trades)
    assert erase_member(cycle.store, cycle.bundles, slot, FIRST + 1) == 2
    assert (shown(town, slot), traded(town, slot)) == (0, 0)
    # Again finds nothing more; everybody else's are there.
    assert erase_member(cycle.store, cycle.bundles, slot, FIRST + 1) == 0
    assert {shown(town, item.slot) for item in members if item.slot != slot} == {3}


def test_a_day_that_is_reported_and_has_no_batch_keeps_its_readings(town: World) -> None:
    """Without them the member would be billed nothing."""
    cycle = town.processes[0].cycle
    slot = town.town.people.members[0].slot
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle, "_settle", lambda: None)
        advance_until(town, FIRST, CycleState.COLLECTED)
    with pytest.raises(MalformedInput, match="is not final"):
        erase_member(cycle.store, cycle.bundles, slot, FIRST + 1)
    town.finish()
