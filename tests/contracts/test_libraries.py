"""Python and Solidity hash, price and prove alike: on random inputs they agree byte for byte, and refuse the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from eth_hash.auto import keccak
from hypothesis import assume, given
from hypothesis import strategies as st
from web3.contract import Contract

from backend.domain.errors import ContractRefused
from backend.domain.readings import IntervalReading, Quality
from backend.market.pricing import savings_share_steps
from backend.market.problem import Group, Market
from backend.settlement.clearing_encoding import pack_prices, tariff_hash
from backend.settlement.encoding import (
    EMPTY,
    BatchHeader,
    LedgerLeaf,
    OracleReport,
    pack_readings,
    readings_leaf,
)
from backend.settlement.statement import statement_amount_nano
from backend.settlement.trees import ACCOUNT_DEPTH, PositionalTree, SumTree
from contracts.bindings import header_tuple, leaf_tuple, report_tuple, tariff_tuple
from tests.support.chain import answer, said
from tests.support.strategies import (
    SHARES,
    SLOTS,
    WORDS,
    any_markets,
    headers,
    leaves_by_position,
    ledgers,
    positions,
    readings,
    reports,
    signed,
    unsigned,
)

# --- Prices and bills ------------------------------------------------------------------------------------------------


@given(savings=unsigned(126), demand=unsigned(80), supply=unsigned(80), share=SHARES)
def test_savings_share_prices(
    harness: Contract, savings: int, demand: int, supply: int, share: int
) -> None:
    found = answer(harness.functions.savingsShare(savings, demand, supply, share))
    assert tuple(found) == savings_share_steps(savings, demand, supply, share)


GROUPS = st.builds(
    Group,
    node=unsigned(32),
    tariff_class=unsigned(32),
    import_price_nano_per_wh=signed(64),
    export_price_nano_per_wh=signed(64),
)


def tariff_of(group: Group, access_fee: int = 0) -> tuple[Any, ...]:
    """A tariff with one group."""
    word = (
        group.import_price_nano_per_wh.to_bytes(8, "big", signed=True)
        + group.export_price_nano_per_wh.to_bytes(8, "big", signed=True)
        + access_fee.to_bytes(8, "big")
        + group.node.to_bytes(4, "big")
        + group.tariff_class.to_bytes(4, "big")
    )
    return (0, 1, 0, [word], [])


@given(
    # As TariffBook and Certificate bound them.
    group=st.builds(
        Group,
        node=st.just(0),
        tariff_class=st.just(0),
        import_price_nano_per_wh=st.integers(1 - 2**40, 2**40 - 1),
        export_price_nano_per_wh=st.integers(1 - 2**40, 2**40 - 1),
    ),
    intervals=st.lists(st.tuples(readings(), st.tuples(unsigned(42), unsigned(42))), max_size=6),
)
def test_statement_amounts(
    harness: Contract, group: Group, intervals: list[tuple[IntervalReading, tuple[int, int]]]
) -> None:
    member = [reading for reading, _ in intervals]
    steps = [step for _, step in intervals]
    call = harness.functions.amount(
        pack_readings(member), pack_prices(steps), tariff_of(group), 0, len(intervals)
    )
    assert answer(call) == statement_amount_nano(member, steps, group)


@given(count=st.integers(0, 4), given_readings=st.integers(0, 5), given_prices=st.integers(0, 5))
def test_statements_of_another_length(
    harness: Contract, count: int, given_readings: int, given_prices: int
) -> None:
    group = Group(0, 0, 1, 1)
    call = harness.functions.amount(
        bytes(16 * given_readings), bytes(16 * given_prices), tariff_of(group), 0, count
    )
    # One more is what trades before delivery brought.
    if given_readings not in (count, count + 1):
        expected: Any = ("WrongLength", 16 * given_readings, 16 * count)
    elif given_prices != count:
        expected = ("WrongLength", 16 * given_prices, 16 * count)
    else:
        assert answer(call) == 0
        return
    assert said(answer(call)) == expected


@given(
    slot=unsigned(256),
    member=st.lists(readings(), max_size=6),
    salt=WORDS,
)
def test_readings_leaves(
    harness: Contract, slot: int, member: list[IntervalReading], salt: bytes
) -> None:
    packed = pack_readings(member)
    assert answer(harness.functions.readingsLeaf(slot, packed, salt)) == readings_leaf(
        slot, packed, salt
    )


@given(market=any_markets(), share=unsigned(32))
def test_tariff_hashes(harness: Contract, market: Market, share: int) -> None:
    call = harness.functions.tariffHash(tariff_tuple(market, share))
    assert answer(call) == tariff_hash(market, share)


# --- Trees -----------------------------------------------------------------------------------------------------------


@given(leaves=ledgers(), elsewhere=SLOTS)
def test_ledger_roots_and_proofs(
    harness: Contract, leaves: dict[int, LedgerLeaf], elsewhere: int
) -> None:
    """Every account's path leads to the root that Python computes; so does an empty slot's."""
    tree = SumTree(leaves)
    for slot in {*list(leaves)[:3], elsewhere % 2**tree.depth}:
        node = tree.node(0, slot)
        call = harness.functions.ledgerRootOf(
            node.hash, node.sums, slot, tree.depth, tree.proof(slot)
        )
        assert answer(call) == tree.root.hash
        if slot in leaves:
            assert node.hash == leaves[slot].hash()


@given(leaves=ledgers(), data=st.data())
def test_ledger_proofs_bind_hash_sums_slot_and_path(
    harness: Contract, leaves: dict[int, LedgerLeaf], data: st.DataObject
) -> None:
    assume(leaves)
    tree = SumTree(leaves)
    slot = data.draw(st.sampled_from(sorted(leaves)))
    node, proof = tree.node(0, slot), tree.proof(slot)
    change = data.draw(st.sampled_from(["hash", "sums", "slot", "path"]))
    leaf, sums, at = node.hash, node.sums, slot
    if change == "hash":
        leaf = keccak(leaf)
    elif change == "sums":
        sums = keccak(sums)
    elif change == "slot":
        at ^= 1 << data.draw(st.integers(0, tree.depth - 1))
        assume(tree.node(0, at) != node)
    else:
        place = data.draw(st.integers(0, len(proof) - 1))
        proof[place] = keccak(proof[place])
    outcome = answer(harness.functions.ledgerRootOf(leaf, sums, at, tree.depth, proof))
    # Sums that no longer fit 128 bits have no root at all.
    assert isinstance(outcome, ContractRefused) or outcome != tree.root.hash
    if isinstance(outcome, ContractRefused):
        assert outcome.error_name == "Panic"


@given(leaves=leaves_by_position(), elsewhere=positions())
def test_positional_roots_and_proofs(
    harness: Contract, leaves: dict[int, bytes], elsewhere: int
) -> None:
    tree = PositionalTree(leaves)
    for position in {*list(leaves)[:3], elsewhere}:
        leaf = leaves.get(position, EMPTY)
        call = harness.functions.positionalRootOf(leaf, position, tree.proof(position))
        assert answer(call) == tree.root


@given(
    length=st.sampled_from([0, 1, ACCOUNT_DEPTH - 1, ACCOUNT_DEPTH + 1, 2 * ACCOUNT_DEPTH]),
    slot=unsigned(256),
    depth=st.integers(1, ACCOUNT_DEPTH),
)
def test_proofs_of_another_length_and_slots_outside(
    harness: Contract, length: int, slot: int, depth: int
) -> None:
    functions = harness.functions
    expected: tuple[Any, ...] = ("WrongProofLength", length, ACCOUNT_DEPTH)
    assert said(answer(functions.positionalRootOf(EMPTY, slot, [EMPTY] * length))) == expected
    outcome = answer(functions.positionalRootOf(EMPTY, slot, [EMPTY] * ACCOUNT_DEPTH))
    assert outcome == EMPTY if slot < 2**20 else said(outcome) == ("SlotOutsideTree", slot)
    outcome = answer(functions.ledgerRootOf(EMPTY, EMPTY, slot, depth, [EMPTY] * 2 * depth))
    assert outcome == EMPTY if slot < 2**depth else said(outcome) == ("SlotOutsideTree", slot)
    if length != 2 * depth:
        expected = ("WrongProofLength", length, 2 * depth)
        outcome = answer(functions.ledgerRootOf(EMPTY, EMPTY, slot, depth, [EMPTY] * length))
        assert said(outcome) == expected


# --- Hashes ----------------------------------------------------------------------------------------------------------


@given(header=headers())
def test_batch_hashes(harness: Contract, header: BatchHeader) -> None:
    assert answer(harness.functions.batchHash(header_tuple(header))) == header.hash()


@given(
    leaf=st.builds(LedgerLeaf, unsigned(32), signed(128), signed(128), WORDS, WORDS),
)
def test_leaf_hashes(harness: Contract, leaf: LedgerLeaf) -> None:
    assert answer(harness.functions.leafHash(leaf_tuple(leaf))) == leaf.hash()


@given(report=reports())
def test_report_hashes(harness: Contract, report: OracleReport) -> None:
    assert answer(harness.functions.reportHash(report_tuple(report))) == report.struct_hash()


QUALITIES: list[tuple[Quality, Callable[[int], bool]]] = [
    (Quality.MEASURED, lambda amount: amount != 0),
    (Quality.SUBSTITUTED, lambda amount: amount != 0),
    (Quality.MISSING, lambda amount: amount == 0),
]


@pytest.mark.parametrize(
    ("quality", "billed"), QUALITIES, ids=lambda value: getattr(value, "name", "")
)
def test_only_a_missing_reading_is_not_billed(
    harness: Contract, quality: Quality, billed: Callable[[int], bool]
) -> None:
    packed = pack_readings([IntervalReading(3, 10, quality)])
    tariff = tariff_of(Group(0, 0, 300_000, 80_000))
    call = harness.functions.amount(packed, pack_prices([(1, 1)]), tariff, 0, 1)
    assert billed(answer(call))
