"""The registry on chain says who is a member; configurations of coordinator and signers may be behind, and nothing false is submitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from backend.chain.client import ChainClient
from backend.domain.community import Member
from backend.domain.errors import (
    BundleStoreFailed,
    MembersDiffer,
    PeerwattError,
    QuorumNotReached,
)
from backend.domain.intervals import Period
from backend.domain.states import CycleState
from backend.operator.membership import differences
from backend.operator.preparation import Preparer
from backend.settlement.batch import SettledBatch
from backend.settlement.bundle import Bundle
from deploy.community import member_record, sign_membership
from tests.simulator.moves import send
from tests.simulator.world import TownRules, World
from tests.support.community import account
from tests.support.town import FIRST_PERIOD

pytestmark = pytest.mark.xdist_group("simulator")
FIRST = FIRST_PERIOD.number
NEWCOMER = 9


@dataclass
class Lacking:
    """The configuration without a member."""

    inner: TownRules
    slot: int

    def period(self, number: int) -> Period:
        return self.inner.period(number)

    def preparer(self, number: int) -> Preparer:
        return self.inner.preparer(number)

    def members(self, number: int) -> Sequence[Member]:
        return [item for item in self.inner.members(number) if item.slot != self.slot]


@pytest.fixture
def town(play: World) -> Iterator[World]:
    """On the morning of the first period; nothing goes wrong by itself."""
    play.begin(1)
    play.faults.active = False
    play._plan = play._plan_deliveries(1)
    yield play
    play.end()


def admit_newcomer(town: World) -> None:
    """On chain, and nowhere else."""
    people, contracts, wallet = town.town.people, town.town.contracts, account("newcomer")
    neighbour = people.members[0]
    newcomer = replace(neighbour, slot=NEWCOMER, account=wallet.address, meter=wallet.address)
    record = member_record(newcomer, people.market, FIRST, 1)
    client = ChainClient(town.web3, embedded=False)
    consent = sign_membership(client, contracts, NEWCOMER, record, wallet)
    send(town, contracts.admit(NEWCOMER, record, consent), people.account("deployer"))


def first_batch(town: World) -> SettledBatch:
    store = town.processes[0].cycle.store
    return store.settled(store.live(final_only=True)[1][0])


def states(town: World) -> dict[int, CycleState]:
    return {item.period: item.state for item in town.processes[0].cycle.store.items()}


def advance_until(town: World, period: int, state: CycleState, ticks: int = 40) -> None:
    for _ in range(ticks):
        if states(town).get(period) is state:
            return
        town._tick()
    raise AssertionError(states(town))


def failures(town: World) -> list[PeerwattError]:
    found = town.processes[0].cycle.advance()
    town._mine()
    return found


def test_a_member_that_nobody_configured_has_an_empty_account(town: World) -> None:
    admit_newcomer(town)
    advance_until(town, FIRST, CycleState.STATED)
    assert first_batch(town).cumulative_nano[NEWCOMER] == 0


def test_who_is_no_member_any_more_is_not_signed_for(town: World) -> None:
    """A report is signed once: signed with a stranger in it, the day could never be settled."""
    contracts, slot = town.town.contracts, town.town.people.members[-1].slot
    # The newest block is of the day before: what leaving takes is estimated in a block of the morning.
    town._mine()
    send(town, contracts.depart(slot, FIRST + 1), town.town.wallet(slot))
    advance_until(town, FIRST, CycleState.STATED)
    advance_until(town, FIRST + 1, CycleState.COLLECTING)
    (failed,) = failures(town)
    assert isinstance(failed, QuorumNotReached)
    assert f"[{slot}]" in failed.message and "correct its members" in failed.message
    for signer in town.signers:
        assert signer.node is not None
        assert signer.node.store.report(FIRST + 1, 0) is None
        # Mended at the signers; the coordinator's configuration may still name it.
        for entry in signer.node.config.file.members:
            if entry.slot == slot:
                object.__setattr__(entry, "until_period", FIRST + 1)
        signer.node._forget_drafts()
    try:
        advance_until(town, FIRST + 1, CycleState.STATED)
    finally:
        for entry in town._signer_file.members:
            object.__setattr__(entry, "until_period", None)
    store = town.processes[0].cycle.store
    newest = store.settled(list(store.live(final_only=True).values())[-1][0])
    assert newest.due_nano[slot] == 0
    assert newest.cumulative_nano[slot] != 0


def test_a_member_that_the_coordinator_lacks_is_told_before_anything_is_submitted(
    town: World,
) -> None:
    cycle, slot = town.processes[0].cycle, town.town.people.members[0].slot
    whole = cycle.rules
    cycle.rules = Lacking(town.rules, slot)
    advance_until(town, FIRST, CycleState.COLLECTED)
    (failed,) = failures(town)
    assert isinstance(failed, MembersDiffer)
    assert f"slot {slot} is a member on chain and not configured" in failed.message
    assert not town.town.contracts.submitted_batches()
    cycle.rules = whole
    advance_until(town, FIRST, CycleState.STATED)


def test_members_that_change_under_a_prepared_batch(town: World) -> None:
    """The founders may still do that, before their first batch; it is made anew, not insisted on."""
    cycle = town.processes[0].cycle

    def full(bundle: Bundle) -> None:
        raise BundleStoreFailed("no space left", "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle.bundles, "publish", full)
        advance_until(town, FIRST, CycleState.PREPARED)
    admit_newcomer(town)
    cycle._made = None  # as after a restart
    advance_until(town, FIRST, CycleState.REFUSED)
    advance_until(town, FIRST, CycleState.STATED)
    assert first_batch(town).cumulative_nano[NEWCOMER] == 0


def test_differences_are_named(town: World) -> None:
    people = town.town.people
    records = town.town.contracts.members()
    assert sorted(records) == [item.slot for item in people.members]
    town.processes[0].cycle.advance()
    assert town.processes[0].cycle.store.members(FIRST) == records
    assert differences(records, people.members, people.market) == {}
    first, second, third, *rest = people.members
    odd = [
        replace(first, account=account("dso").address),
        replace(second, node="nowhere"),
        replace(third, slot=NEWCOMER),
        *rest,
    ]
    said = differences(records, odd, people.market)
    assert sorted(said) == [first.slot, second.slot, third.slot, NEWCOMER]
    for slot, word in (
        (first.slot, "account"),
        (second.slot, "no group"),
        (third.slot, "not configured"),
        (NEWCOMER, "no member"),
    ):
        assert word in said[slot]
    moved = records | {first.slot: replace(records[first.slot], node=99)}
    assert "another node" in differences(moved, people.members, people.market)[first.slot]
