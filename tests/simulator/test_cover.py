"""Nothing is submitted that could be voided for an account that owes more than stands behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.domain.community import SUPPLIER_SLOT
from backend.domain.errors import AccountsUncovered
from backend.domain.states import CycleState
from backend.operator.cover import Cover
from backend.operator.guarantees import Guarantees
from backend.operator.payouts import Payouts
from backend.settlement.trees import SumTree
from contracts.bindings import header_tuple, leaf_tuple
from tests.simulator.moves import calm_world, mining_at_once, send, until
from tests.simulator.world import DEPOSIT_TOKENS, NANO_PER_TOKEN, World
from tests.support.town import FIRST_PERIOD

pytestmark = pytest.mark.xdist_group("simulator")
SECOND = FIRST_PERIOD.number + 1
LIMIT_NANO = 10 * DEPOSIT_TOKENS * NANO_PER_TOKEN


@pytest.fixture
def world(play: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The first period is final, the second one is not begun; the supplier, who owes for both, has credit for the first only."""
    with calm_world(play) as made:
        until(made, CycleState.SUBMITTED)
        cycle = made.processes[0].cycle
        with monkeypatch.context() as patch:
            patch.setattr(cycle, "_settle", lambda: None)
            until(made, CycleState.STATED)
        payouts = Payouts(
            cycle.contracts, cycle.sender, cycle.store, cycle.bundles, lambda: 2.0**40
        )
        with mining_at_once(made):
            guarantees(made).vouch(SUPPLIER_SLOT, owed(made, 0), payouts.state())
        cycle.books.follow()
        assert cycle.cover.granted_nano(SUPPLIER_SLOT) == owed(made, 0)
        yield made


def owed(world: World, period: int) -> int:
    return -world.honest_nano[period][SUPPLIER_SLOT]


def guarantees(world: World) -> Guarantees:
    cycle = world.processes[0].cycle
    return Guarantees(cycle.contracts, cycle.sender, cycle.cover)


def lock(world: World, target_nano: int) -> None:
    """So much stands behind all credit of the coordinator."""
    cycle, contracts = world.processes[0].cycle, world.town.contracts
    wallet = world.town.people.participants[0].wallet
    send(world, contracts.mint(cycle.sender.key.address, target_nano // NANO_PER_TOKEN), wallet)
    with mining_at_once(world):
        guarantees(world).lock(target_nano)
    assert guarantees(world).status()[0] == target_nano


def refusals(world: World) -> list[str]:
    found = world.processes[0].cycle.advance()
    world._tick()
    return [item.message for item in found if isinstance(item, AccountsUncovered)]


def state_of(world: World, period: int) -> CycleState | None:
    items = world.processes[0].cycle.store.items()
    return next((item.state for item in items if item.period == period), None)


def test_a_batch_waits_for_who_cannot_pay(world: World) -> None:
    """Until there is a deposit; nothing was sent meanwhile."""
    cycle, contracts = world.processes[0].cycle, world.town.contracts
    sent = world.web3.eth.get_transaction_count(cycle.sender.key.address)
    said = [message for _ in range(6) for message in refusals(world)]
    assert said
    assert all(f"slot {SUPPLIER_SLOT} lacks 0.31 EUR" in message for message in said)
    assert "more credit than the coordinator grants" in said[0]
    assert state_of(world, SECOND) is CycleState.SUBMITTING
    assert world.web3.eth.get_transaction_count(cycle.sender.key.address) == sent
    wallet = world.town.people.participants[0].wallet
    for call in (
        contracts.mint(wallet.address, DEPOSIT_TOKENS),
        contracts.approve(DEPOSIT_TOKENS),
        contracts.deposit(SUPPLIER_SLOT, DEPOSIT_TOKENS),
    ):
        send(world, call, wallet)
    world.finish()


def test_the_coordinator_vouches_up_to_its_limit(world: World) -> None:
    """A tenth of it at a time, once; as long as its guarantee lasts."""
    cycle, contracts = world.processes[0].cycle, world.town.contracts
    cycle.cover.credit_limit_nano = LIMIT_NANO
    lock(world, owed(world, 0) + NANO_PER_TOKEN)
    said = [message for _ in range(6) for message in refusals(world)]
    assert said
    assert "of the coordinator's guarantee 0.00 EUR are free" in said[0]
    lock(world, LIMIT_NANO)
    world.finish()
    assert contracts.credit_nano(SUPPLIER_SLOT) == owed(world, 0) + LIMIT_NANO // 10
    assert cycle.cover.granted_nano(SUPPLIER_SLOT) == contracts.credit_nano(SUPPLIER_SLOT)


def test_a_guarantee_that_is_short_gives_just_what_is_missing(world: World) -> None:
    cycle, contracts = world.processes[0].cycle, world.town.contracts
    cycle.cover.credit_limit_nano = LIMIT_NANO
    lock(world, owed(world, 0) + owed(world, 1))
    world.finish()
    assert contracts.credit_nano(SUPPLIER_SLOT) == owed(world, 0) + owed(world, 1)


def test_cover_that_is_demanded_is_given_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that came uncovered between the look and the block."""
    cycle, contracts = world.processes[0].cycle, world.town.contracts
    with monkeypatch.context() as patch:
        patch.setattr(Cover, "is_covered", lambda *_: True)
        for _ in range(8):
            if state_of(world, SECOND) is CycleState.SUBMITTED:
                break
            world._tick()
    (item,) = [found for found in cycle.store.items() if found.period == SECOND]
    header = cycle.store.header(item.batch_hash)
    leaves = cycle.bundles.leaves(header)
    demand = contracts.functions("Challenges").demandCover(
        header_tuple(header),
        leaf_tuple(leaves[SUPPLIER_SLOT]),
        SumTree(leaves, header.ledger_depth).proof(SUPPLIER_SLOT),
    )
    send(world, demand, world.town.people.participants[0].wallet)
    cycle.cover.credit_limit_nano = LIMIT_NANO
    for _ in range(3):
        cycle.advance()
        world._mine()
    submitted = cycle.store.submitted_at(item.batch_hash)
    assert submitted is not None
    cumulative = leaves[SUPPLIER_SLOT].cumulative_nano
    assert contracts.cover_nano(SUPPLIER_SLOT, cumulative, submitted) >= 0
    world.finish()
    assert [found.attempts for found in cycle.store.items()] == [0, 0]
