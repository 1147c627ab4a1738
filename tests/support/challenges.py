"""Challenges as tests send them, and what must be true after one that succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from web3.contract.contract import ContractFunction

from backend.domain.community import DSO_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch
from contracts.bindings import FAULTS, header_tuple, leaf_tuple, tariff_tuple
from tests.support.community import BOND_WEI, SHARE_MILLIONTHS, LiveCommunity, account

# Any challenge; what a day's readings add is told in docs/benchmarks.md.
CHALLENGE_GAS = 150_000


@dataclass(frozen=True)
class Claim:
    """The arguments of `challengeAmount`, to be spoiled one at a time."""

    header: Any
    readings: bytes
    readings_salt: bytes
    readings_proof: list[bytes]
    prices: bytes
    tariff: Any
    leaf: Any
    ledger_proof: list[bytes]

    def call(self, community: LiveCommunity) -> ContractFunction:
        """The challenge."""
        evidence = (self.readings, self.readings_salt, self.readings_proof, self.prices)
        made: ContractFunction = community.functions("Challenges").challengeAmount(
            self.header, evidence, self.tariff, self.leaf, self.ledger_proof
        )
        return made


def claim(community: LiveCommunity, batch: Batch, slot: int) -> Claim:
    """What a member brings against its bill."""
    item = batch.member_periods[slot]
    return Claim(
        header=header_tuple(batch.header),
        readings=item.packed(),
        readings_salt=item.salt,
        readings_proof=batch.readings_tree.proof(slot),
        prices=batch.packed_prices,
        tariff=tariff_tuple(community.market, SHARE_MILLIONTHS),
        leaf=leaf_tuple(batch.leaves[slot]),
        ledger_proof=batch.ledger.proof(slot),
    )


def against_amount(
    community: LiveCommunity, batch: Batch, slot: int, corrected: Batch | None = None
) -> ContractFunction:
    """A member's challenge against its bill."""
    return community.contracts.challenge_amount(
        batch, slot, community.market, community.paper.share_millionths, corrected
    )


def against_node(
    community: LiveCommunity, batch: Batch, level: int, index: int
) -> ContractFunction:
    """The challenge against one inner node of the batch's tree as it is."""
    tree = batch.ledger
    left, right = tree.node(level - 1, 2 * index), tree.node(level - 1, 2 * index + 1)
    return community.contracts.challenge_tree_sum(
        batch.header,
        level,
        index,
        tree.node(level, index).sums,
        (left.hash, left.sums, right.hash, right.sums),
        tree.proof(index, level),
    )


def against_leaf(community: LiveCommunity, batch: Batch, slot: int) -> ContractFunction:
    """The challenge against what the tree counts for one leaf."""
    return community.contracts.challenge_leaf_sum(
        batch.header,
        slot,
        batch.leaves[slot],
        batch.ledger.node(0, slot).sums,
        batch.ledger.proof(slot),
    )


def against_outside(
    community: LiveCommunity, batch: Batch, level: int, index: int
) -> ContractFunction:
    """The challenge against a node behind the last slot."""
    return community.contracts.challenge_outside(
        batch.header,
        level,
        index,
        batch.ledger.node(level, index),
        batch.ledger.proof(index, level),
    )


def every_challenge(
    community: LiveCommunity,
    batch: Batch,
    previous: Batch | None = None,
    corrected: Batch | None = None,
) -> Iterator[tuple[str, ContractFunction]]:
    """All challenges that a batch's data allow to somebody who knows all of them."""
    contracts = community.contracts
    for slot in batch.leaves:
        yield "leaf sum", against_leaf(community, batch, slot)
        yield "cumulative", contracts.challenge_cumulative(batch, slot, previous)
        yield "inactive", contracts.challenge_inactive(batch, slot)
        yield "cover", contracts.demand_cover(batch, slot)
    for slot in (SUPPLIER_SLOT, DSO_SLOT, FUND_SLOT):
        yield "system amount", contracts.challenge_system_amount(batch, slot, corrected)
    for slot in batch.member_periods:
        yield "amount", against_amount(community, batch, slot, corrected)
    for level in range(1, batch.ledger.depth):
        for index in range(1 << (batch.ledger.depth - level)):
            yield "tree sum", against_node(community, batch, level, index)


def assert_overturned(
    community: LiveCommunity, call: ContractFunction, fault: str, number: int = 1
) -> None:
    """A passer-by sends the challenge; the batch and all after it are gone, half the bond is paid and half burned."""
    recorded = community.recorded(number)
    last = community.contracts.head_number()
    period = community.contracts.submitted_batches()[number - 1].header.period
    house = community.place.clearing_house
    held = community.client.balance_wei(house)
    sent = community.send(call, "outsider")
    assert sent.gas_used <= CHALLENGE_GAS
    assert community.contracts.head_number() == number - 1
    for fallen in range(number, last + 1):
        assert community.recorded(fallen) == bytes(32)
    assert held - community.client.balance_wei(house) == BOND_WEI
    (event,) = community.events("ClearingHouse", "BatchVoided")
    assert event == {
        "number": number,
        "period": period,
        "challenger": account("outsider").address,
        "batchHash": recorded,
        "fault": FAULTS.index(fault),
        "lastNumber": last,
    }


def spoiled(made: Claim, **fields: Any) -> Claim:
    """The claim with one argument otherwise."""
    return replace(made, **fields)
