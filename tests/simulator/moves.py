"""What a test does in the simulator's world by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eth_account.signers.local import LocalAccount
from web3.contract.contract import ContractFunction

from backend.chain.client import ChainClient
from backend.domain.states import CycleState
from tests.simulator.world import Process, World
from tests.support.anvil import ask


@contextmanager
def calm_world(play: World) -> Iterator[World]:
    """Nothing goes wrong but what the test does."""
    play.begin(1)
    play.faults.active = False
    yield play
    play.end()


@contextmanager
def mining_at_once(world: World) -> Iterator[None]:
    """Each transaction gets a block of its own when it comes."""
    ask(world.web3, "evm_setAutomine", True)
    head = world.web3.eth.get_block("latest")["timestamp"]
    ask(world.web3, "evm_setNextBlockTimestamp", max(int(world.now), head + 1))
    yield
    ask(world.web3, "evm_setAutomine", False)


def send(world: World, call: ContractFunction, key: LocalAccount, value_wei: int = 0) -> None:
    """In a block of its own, now."""
    with mining_at_once(world):
        ChainClient(world.web3, embedded=False).send(call, key, value_wei)


def until(world: World, *states: CycleState) -> None:
    """Until the first period is in one of these states."""
    for _ in range(40):
        items = world.processes[0].cycle.store.items()
        if items and items[0].state in states:
            return
        world._tick()
    raise AssertionError(world.processes[0].cycle.store.items())


def lose_database(world: World) -> None:
    """The coordinator begins with an empty one."""
    world.processes[0].end()
    for path in world.folder.glob("ledger.sqlite*"):
        path.unlink()
    world.processes[0] = Process(world)
