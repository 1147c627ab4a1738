"""Demands belong to a submission: the same batch submitted again can be asked for the same again, and is answered again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backend.audit.chain_reader import ChainReader
from backend.audit.community_checks import check_community
from backend.audit.verdict import Checks
from backend.domain.states import CycleState
from backend.operator.demands import open_demands
from contracts.artifact import artifact
from contracts.bindings import header_tuple
from tests.simulator.world import World
from tests.support.anvil import ask
from tests.support.town import CHALLENGE_SECONDS, ETHER

pytestmark = pytest.mark.xdist_group("simulator")


@pytest.fixture
def calm(play: World) -> Iterator[World]:
    """Nothing goes wrong but what the test does."""
    play.begin(1)
    play.faults.active = False
    yield play
    play.end()


def demand(calm: World, slot: int) -> None:
    """A member wants to see its account."""
    header = calm.town.contracts.submitted_batches()[-1].header
    wallet = calm.town.wallet(slot)
    nonce = calm.web3.eth.get_transaction_count(wallet.address)
    given: Any = {"from": wallet.address, "value": 10**15, "nonce": nonce}
    built: Any = calm.town.contracts.demand_data(header, slot).build_transaction(given)
    calm.web3.eth.send_raw_transaction(wallet.sign_transaction(built).raw_transaction)
    calm._mine()


def void(calm: World) -> None:
    """The batch falls, as by a challenge; the contract of challenges is impersonated, because the batch is honest."""
    contracts = calm.town.contracts
    sender = contracts.addresses["Challenges"]
    ask(calm.web3, "anvil_impersonateAccount", sender)
    ask(calm.web3, "anvil_setBalance", sender, hex(ETHER))
    header = contracts.submitted_batches()[-1].header
    call = contracts.functions("ClearingHouse").voidBatch(
        header_tuple(header), 0, calm.town.wallet(calm.town.people.members[0].slot).address
    )
    call.transact({"from": sender, "gas": 500_000})
    calm._mine()
    ask(calm.web3, "anvil_stopImpersonatingAccount", sender)


def answered(calm: World) -> int:
    challenges = calm.web3.eth.contract(
        calm.town.contracts.addresses["Challenges"], abi=artifact("Challenges")["abi"]
    )
    return len(list(challenges.events.DemandAnswered().get_logs(from_block=0)))


def tick_until_submitted(calm: World) -> None:
    for _ in range(40):
        calm._tick()
        if calm.town.contracts.head_number():
            return
    raise AssertionError(calm.processes[0].cycle.store.items())


def test_a_demand_is_answered_again_after_a_void(calm: World) -> None:
    slot = calm.town.people.members[0].slot
    engine = calm.processes[0].store.engine
    tick_until_submitted(calm)
    first = calm.town.contracts.submitted_batches()[-1]
    demand(calm, slot)
    calm._tick()
    assert answered(calm) == 1 and not open_demands(engine)
    void(calm)
    assert calm.town.contracts.head_number() == 0
    tick_until_submitted(calm)
    assert calm.town.contracts.submitted_batches()[-1].batch_hash == first.batch_hash
    demand(calm, slot)
    calm._tick()
    assert answered(calm) == 2
    calm.finish()
    assert calm.processes[0].cycle.store.items()[0].state is CycleState.STATED


def test_an_answer_to_an_earlier_submission_answers_nothing_later(calm: World) -> None:
    """The auditor's view of the same: nobody answers the second time, and nobody voids."""
    slot = calm.town.people.members[0].slot
    tick_until_submitted(calm)
    demand(calm, slot)
    calm._tick()
    void(calm)
    tick_until_submitted(calm)
    demand(calm, slot)
    calm.now += CHALLENGE_SECONDS + 1
    calm._mine()
    reader = ChainReader(calm.web3, calm.town.contracts.addresses["ClearingHouse"])
    batches = reader.standing_batches()
    assert [batch.final for batch in batches] == [True]
    checks = Checks()
    check_community(reader, batches, checks)
    (found,) = (check for check in checks.items if check.what.startswith("every demand"))
    assert (found.passed, found.detail) == (False, f"slot {slot} of batch 1")
