"""A database that is lost: everything in it comes back from chain and bundles, and what stands on the chain is gone on with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from backend.chain.sender import Sender
from backend.domain.states import CycleState
from backend.ledger.cycle import Item
from backend.settlement.encoding import BatchHeader
from deploy.community import COORDINATOR_ROLE, PAUSER_ROLE
from tests.simulator.moves import calm_world, lose_database, send, until
from tests.simulator.world import World
from tests.support.anvil import ask

pytestmark = pytest.mark.xdist_group("simulator")
# What was decided, and when, is not on the chain; all else is.
TABLES = {
    "batch": "*",
    "batch_header": "*",
    "entry": "*",
    "interval": "*",
    "trade": "*",
    "reported_slot": "*",
    "oracle_report": "period, version, report",
    "journal": "*",
    "posting": "*",
}


@pytest.fixture
def calm(play: World) -> Iterator[World]:
    with calm_world(play) as world:
        yield world


def rows(world: World) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    with sqlite3.connect(world.folder / "ledger.sqlite") as connection:
        for table, columns in TABLES.items():
            found[table] = sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall())
        found["standing"] = sorted(
            connection.execute(
                "SELECT batch_hash, transaction_hash FROM batch_state WHERE state = 'submitted'"
            ).fetchall()
        )
    connection.close()
    return found


def header_of(world: World, item: Item) -> BatchHeader:
    return world.processes[0].cycle.store.header(item.batch_hash)


def test_everything_comes_back(calm: World) -> None:
    calm.finish()
    before = rows(calm)
    assert all(before.values())
    lose_database(calm)
    calm.finish()
    assert rows(calm) == before


def test_of_an_erased_member_only_the_account_comes_back(calm: World) -> None:
    calm.finish()
    process = calm.processes[0]
    before, slot = rows(calm), calm.town.people.members[0].slot
    for _, header in process.cycle.store.live(final_only=True).values():
        assert process.cycle.bundles.erase(header.bundle_hash, slot)
    lose_database(calm)
    for _ in range(4):
        assert calm.processes[0].cycle.advance() == []
    after = rows(calm)
    for table in ("batch", "batch_header", "entry", "journal", "posting", "standing"):
        assert after[table] == before[table]
    assert {row[2] for row in after["reported_slot"]} == {
        row[2] for row in before["reported_slot"]
    } - {slot}


def submitted_and_taken_over(world: World) -> Item:
    """A batch in a final block that can still be challenged, in a database that was empty before."""
    until(world, CycleState.SUBMITTED)
    for _ in range(6):
        world._mine()
    lose_database(world)
    assert world.processes[0].cycle.advance() == []
    item = world.processes[0].cycle.store.items()[0]
    assert item.state is CycleState.SUBMITTED
    return item


def test_a_batch_that_was_taken_over_answers_for_itself(calm: World) -> None:
    item, contracts = submitted_and_taken_over(calm), calm.town.contracts
    slot = calm.town.people.members[0].slot
    demand = contracts.demand_data(header_of(calm, item), slot)
    send(calm, demand, calm.town.wallet(slot), value_wei=10**15)
    for _ in range(3):
        calm.processes[0].cycle.advance()
        calm._mine()
    with sqlite3.connect(calm.folder / "ledger.sqlite") as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM chain_event")}
    connection.close()
    assert "DemandAnswered" in names
    calm.finish()


def overturn(world: World, item: Item) -> None:
    """By a demand that nobody answers."""
    contracts, slot = world.town.contracts, world.town.people.members[0].slot
    wallet, header = world.town.wallet(slot), header_of(world, item)
    send(world, contracts.demand_data(header, slot), wallet, value_wei=10**15)
    world.now += contracts.parameters().challenge_seconds // 3 + 60
    world._mine()
    send(world, contracts.void_unanswered(header, slot), wallet)
    assert contracts.head_number() == 0


def test_a_batch_that_was_taken_over_and_is_overturned_is_made_again(calm: World) -> None:
    overturn(calm, submitted_and_taken_over(calm))
    calm.finish()
    first = calm.processes[0].cycle.store.items()[0]
    assert (first.state, first.attempts) == (CycleState.STATED, 1)


def test_so_is_one_that_a_former_key_sent(calm: World) -> None:
    """While it was open the coordinator was given a new key."""
    until(calm, CycleState.SUBMITTED)
    process, people = calm.processes[0], calm.town.people
    item, former = process.cycle.store.items()[0], process.cycle.sender
    successor = people.account("new coordinator")
    ask(calm.web3, "anvil_setBalance", successor.address, hex(10**19))
    contracts = calm.town.contracts
    deployer = people.account("deployer")
    for role, account in ((PAUSER_ROLE, deployer), (COORDINATOR_ROLE, successor)):
        send(calm, contracts.grant_role(role, account.address, 0), deployer)
    sender = Sender(former.web3, former.network, successor, former._outbox, now=former._now)
    process.cycle.sender = process.cycle.cover.sender = sender
    overturn(calm, item)
    until(calm, CycleState.STATED)
    first = process.cycle.store.items()[0]
    assert first.attempts == 1
    assert contracts.bond()[0] == successor.address
