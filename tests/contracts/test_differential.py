"""Python and Solidity implement the same rules: on random inputs they agree byte for byte, and refuse the same ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_hash.auto import keccak
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from web3.contract import Contract

from backend.domain.community import DSO_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.domain.errors import ContractRefused
from backend.domain.readings import IntervalReading, Quality
from backend.domain.units import PRICE_LIMIT_NANO_PER_WH, SLOT_LIMIT
from backend.market.certificate import (
    dual_value_nano,
    duality_gap_nano,
    infeasibility,
    network_fees_nano,
    outside_cost_nano,
    primal_cost_nano,
)
from backend.market.pricing import savings_share_steps
from backend.market.problem import Group, Market, Problem, Solution
from backend.settlement.encoding import (
    EMPTY,
    BatchHeader,
    LedgerLeaf,
    OracleReport,
    domain_separator,
    genesis_hash,
    interval_record,
    oracle_config_digest,
    pack_prices,
    pack_readings,
    pack_totals,
    readings_leaf,
    tariff_hash,
)
from backend.settlement.statement import statement_amount_nano
from backend.settlement.trees import ACCOUNT_DEPTH, PositionalTree, SumTree
from contracts.artifact import artifact
from contracts.bindings import (
    NO_GROUP,
    CommunityContracts,
    constructor,
    header_tuple,
    leaf_tuple,
    report_tuple,
    tariff_tuple,
)
from tests.support.chain import answer, restored, said
from tests.support.community import (
    BOND_WEI,
    CHALLENGE_SECONDS,
    FIRST_INTERVAL,
    FIRST_PERIOD,
    LiveCommunity,
    account,
)
from tests.support.strategies import (
    SHARES,
    SLOTS,
    WORDS,
    Cleared,
    cleared_markets,
    headers,
    leaves_by_position,
    ledgers,
    markets,
    positions,
    readings,
    reports,
    signed,
    unsigned,
)

Refusal = tuple[Any, ...]


# --- Certificates ----------------------------------------------------------------------------------------------------


def records(cleared: Cleared) -> bytes:
    """All interval records, one after the other."""
    return b"".join(interval_record(problem, solution) for problem, solution in cleared.intervals)


def python_verdict(cleared: Cleared) -> Refusal | tuple[int, int, int, bytes, bytes]:
    """What Python makes of the certificates: totals, or the first fault in the contract's words."""
    supplier = fees = fund = 0
    steps = []
    for number, (problem, solution) in enumerate(cleared.intervals):
        fault = infeasibility(problem, solution)
        if fault is not None:
            return in_solidity(number, fault, problem, solution)
        gap = duality_gap_nano(problem, solution)
        if gap:
            return ("NotOptimal", number, gap)
        cost = primal_cost_nano(problem, solution)
        savings = outside_cost_nano(problem) - cost
        demand, supply = sum(problem.demand_wh), sum(problem.supply_wh)
        discount, premium = savings_share_steps(savings, demand, supply, cleared.share_millionths)
        steps.append((discount, premium))
        supplier += cost - network_fees_nano(problem, solution)
        fees += network_fees_nano(problem, solution)
        fund += savings - discount * demand - premium * supply
    totals = pack_totals((problem.demand_wh, problem.supply_wh) for problem, _ in cleared.intervals)
    return supplier, fees, fund, keccak(totals), keccak(pack_prices(steps))


def in_solidity(interval: int, fault: str, problem: Problem, solution: Solution) -> Refusal:
    """A fault in Python's words as the custom error that says the same."""
    numbers = [int(text) for text in re.findall(r"-?\d+", fault)]
    if fault.startswith("group"):
        return ("MatchedAboveMetered", interval, numbers[0])
    if fault.startswith("edge"):
        edge, gap, fee = numbers
        assert fee == problem.market.graph.edge_fee_nano_per_wh[edge]
        return ("PriceGapAboveFee", interval, edge, gap, fee)
    node, excess = numbers
    assert len(solution.price_nano_per_wh) > node
    return ("NodeOutOfBalance", interval, node, excess)


def solidity_verdict(
    harness: Contract, cleared: Cleared, data: bytes | None = None, count: int | None = None
) -> Refusal | tuple[int, int, int, bytes, bytes]:
    """What the contract makes of them."""
    outcome = answer(
        harness.functions.verifyCertificates(
            tariff_tuple(cleared.market, cleared.share_millionths),
            records(cleared) if data is None else data,
            len(cleared.intervals) if count is None else count,
        )
    )
    if isinstance(outcome, ContractRefused):
        refused = said(outcome)
        assert refused is not None
        return refused
    return tuple(outcome)


@given(cleared=cleared_markets())
def test_certificates_of_optimal_clearings(harness: Contract, cleared: Cleared) -> None:
    """Supplier, fees, fund, totals hash and prices hash."""
    expected = python_verdict(cleared)
    assert isinstance(expected[0], int), expected
    assert solidity_verdict(harness, cleared) == expected


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Cleared]:
    """A cleared market with one field of one interval changed, by a little or to an extreme."""
    cleared = draw(cleared_markets(most_intervals=2))
    number = draw(st.integers(0, len(cleared.intervals) - 1))
    problem, solution = cleared.intervals[number]
    field = draw(
        st.sampled_from(
            [
                "demand_wh",
                "supply_wh",
                "matched_demand_wh",
                "matched_supply_wh",
                "flow_wh",
                "price_nano_per_wh",
            ]
        )
    )
    owner: Problem | Solution = problem if field in {"demand_wh", "supply_wh"} else solution
    values = list(getattr(owner, field))
    assume(values)
    position = draw(st.integers(0, len(values) - 1))
    is_signed = field in {"flow_wh", "price_nano_per_wh"}
    step = st.sampled_from([1, -1, 7, -7, 100, -100])
    smallest, largest = (-(2**63), 2**63 - 1) if is_signed else (0, 2**64 - 1)
    value = draw(
        st.one_of(
            step.map(lambda by: values[position] + by),
            signed(64) if is_signed else unsigned(64),
        )
    )
    assume(smallest <= value <= largest and value != values[position])
    values[position] = value
    changed = replace(owner, **{field: tuple(values)})
    pair = (changed, solution) if owner is problem else (problem, changed)
    intervals = list(cleared.intervals)
    intervals[number] = pair  # type: ignore[call-overload]
    return field, replace(cleared, intervals=tuple(intervals))


@settings(max_examples=2 * settings.default.max_examples)
@given(mutation=mutations())
def test_certificates_with_one_field_changed(
    harness: Contract, mutation: tuple[str, Cleared]
) -> None:
    """Refused by both with the same reason and numbers, or taken by both with the same totals."""
    _, cleared = mutation
    assert solidity_verdict(harness, cleared) == python_verdict(cleared)


@pytest.mark.parametrize(
    "name", ["MatchedAboveMetered", "PriceGapAboveFee", "NodeOutOfBalance", "NotOptimal", "taken"]
)
def test_mutations_reach_every_verdict(name: str) -> None:
    """The test above is worth something only if its cases end in every way there is."""

    def reaches(mutation: tuple[str, Cleared]) -> bool:
        verdict = python_verdict(mutation[1])
        return verdict[0] == name if name != "taken" else isinstance(verdict[0], int)

    search = settings(max_examples=5000, derandomize=True, database=None, phases=[Phase.generate])
    assert find(mutations(), reaches, settings=search)


@given(cleared=cleared_markets(most_intervals=1), data=st.data())
def test_a_clearing_that_wastes_energy_is_never_taken(
    harness: Contract, cleared: Cleared, data: st.DataObject
) -> None:
    """Trade withdrawn at one node, in balance: the gap says exactly what that costs, by both."""
    problem, solution = cleared.intervals[0]
    groups = cleared.market.groups
    pairs = [
        (buyer, seller)
        for buyer, one in enumerate(groups)
        for seller, other in enumerate(groups)
        if one.node == other.node
        and solution.matched_demand_wh[buyer]
        and solution.matched_supply_wh[seller]
    ]
    assume(pairs)
    buyer, seller = data.draw(st.sampled_from(pairs))
    most = min(solution.matched_demand_wh[buyer], solution.matched_supply_wh[seller])
    amount = data.draw(st.integers(1, most))
    demand, supply = list(solution.matched_demand_wh), list(solution.matched_supply_wh)
    demand[buyer] -= amount
    supply[seller] -= amount
    worse = replace(solution, matched_demand_wh=tuple(demand), matched_supply_wh=tuple(supply))
    gain = (
        groups[buyer].import_price_nano_per_wh
        - groups[seller].export_price_nano_per_wh
        - 2 * cleared.market.graph.access_fee_nano_per_wh[groups[buyer].node]
    )
    assert primal_cost_nano(problem, worse) - primal_cost_nano(problem, solution) == gain * amount
    verdict = solidity_verdict(harness, replace(cleared, intervals=((problem, worse),)))
    if gain:
        assert verdict == ("NotOptimal", 0, gain * amount)
    else:  # as good as before
        assert isinstance(verdict[0], int)


@given(cleared=cleared_markets(most_intervals=1), data=st.data())
def test_no_node_prices_prove_more_than_the_optimum(cleared: Cleared, data: st.DataObject) -> None:
    """Weak duality: for any prices within the fees the gap is not negative, so nobody passes for better than optimal."""
    problem, solution = cleared.intervals[0]
    shift = data.draw(st.integers(-(10**6), 10**6))
    prices = tuple(price + shift for price in solution.price_nano_per_wh)
    assert dual_value_nano(problem, prices) <= primal_cost_nano(problem, solution)


@given(cleared=cleared_markets(most_intervals=2), cut=st.integers(-40, 40))
def test_records_of_another_length(harness: Contract, cleared: Cleared, cut: int) -> None:
    data = records(cleared)
    assume(cut and len(data) + cut >= 0)
    wrong = data + bytes(cut) if cut > 0 else data[:cut]
    expected = ("WrongRecordLength", len(wrong), len(data))
    assert solidity_verdict(harness, cleared, wrong) == expected
    count = len(cleared.intervals)
    expected = ("WrongRecordLength", len(data), len(data) // count * (count + 1))
    assert solidity_verdict(harness, cleared, data, count + 1) == expected


@given(cleared=cleared_markets(most_intervals=1), data=st.data())
def test_what_follows_the_records_does_not_matter(
    harness: Contract, cleared: Cleared, data: st.DataObject
) -> None:
    """The last eight-byte fields are read as part of a longer word: bytes after them must not leak in."""
    call = harness.functions.verifyCertificates(
        tariff_tuple(cleared.market, cleared.share_millionths), records(cleared), 1
    )
    dirty = call._encode_transaction_data() + data.draw(st.binary(min_size=1, max_size=64)).hex()
    web3 = harness.w3
    clean = web3.eth.call({"to": harness.address, "data": call._encode_transaction_data()})
    assert web3.eth.call({"to": harness.address, "data": dirty}) == clean  # type: ignore[typeddict-item]


# --- Prices and bills ------------------------------------------------------------------------------------------------


@given(savings=unsigned(128), demand=unsigned(80), supply=unsigned(80), share=SHARES)
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
    return (0, 1, [word], [])


@given(
    group=GROUPS,
    intervals=st.lists(st.tuples(readings(), st.tuples(unsigned(64), unsigned(64))), max_size=6),
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
    if given_readings != count:
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


@given(market=markets(), share=unsigned(32))
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
    for slot in {*list(leaves)[:3], elsewhere}:
        node = tree.node(0, slot)
        call = harness.functions.ledgerRootOf(node.hash, node.sums, slot, tree.proof(slot))
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
        at ^= 1 << data.draw(st.integers(0, ACCOUNT_DEPTH - 1))
        assume(tree.node(0, at) != node)
    else:
        place = data.draw(st.integers(0, len(proof) - 1))
        proof[place] = keccak(proof[place])
    outcome = answer(harness.functions.ledgerRootOf(leaf, sums, at, proof))
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
)
def test_proofs_of_another_length_and_slots_outside(
    harness: Contract, length: int, slot: int
) -> None:
    functions = harness.functions
    expected: Refusal = ("WrongProofLength", length, ACCOUNT_DEPTH)
    assert said(answer(functions.positionalRootOf(EMPTY, slot, [EMPTY] * length))) == expected
    outcome = answer(functions.positionalRootOf(EMPTY, slot, [EMPTY] * ACCOUNT_DEPTH))
    assert outcome == EMPTY if slot < 2**20 else said(outcome) == ("SlotOutsideTree", slot)
    outcome = answer(functions.ledgerRootOf(EMPTY, EMPTY, slot, [EMPTY] * 2 * ACCOUNT_DEPTH))
    assert outcome == EMPTY if slot < 2**20 else said(outcome) == ("SlotOutsideTree", slot)
    if length != 2 * ACCOUNT_DEPTH:
        expected = ("WrongProofLength", length, 2 * ACCOUNT_DEPTH)
        outcome = answer(functions.ledgerRootOf(EMPTY, EMPTY, slot, [EMPTY] * length))
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


@settings(max_examples=settings.default.max_examples // 3)  # each deploys a contract
@given(
    numbers=st.lists(st.integers(1, 2**160 - 1), min_size=1, max_size=31, unique=True), k=st.data()
)
def test_oracle_config_digests(
    deployed: LiveCommunity, numbers: list[int], k: st.DataObject
) -> None:
    web3 = deployed.client.web3
    signers = [web3.to_checksum_address(f"0x{number:040x}") for number in sorted(numbers)]
    threshold = k.draw(st.integers(1, len(signers)))
    with restored(web3):
        authority = deployed.contracts.addresses["AccessManager"]
        sent = deployed.reopened().client.send(
            constructor(web3, "ReadingOracle", authority, signers, threshold), account("deployer")
        )
        assert sent.contract_address is not None
        oracle = web3.eth.contract(
            address=web3.to_checksum_address(sent.contract_address),
            abi=artifact("ReadingOracle")["abi"],
        )
        assert oracle.functions.configDigest().call() == oracle_config_digest(
            web3.eth.chain_id, sent.contract_address, threshold, signers
        )


@settings(max_examples=settings.default.max_examples // 3)  # each deploys a contract
@given(
    period=st.one_of(st.just(1), st.just(2**64 - 1), st.integers(1, 2**64 - 1)),
    interval=unsigned(64),
)
def test_genesis_hashes(deployed: LiveCommunity, period: int, interval: int) -> None:
    web3 = deployed.client.web3
    addresses = deployed.contracts.addresses
    with restored(web3):
        sent = deployed.reopened().client.send(
            constructor(
                web3,
                "ClearingHouse",
                *(
                    addresses[name]
                    for name in ("AccessManager", "MemberRegistry", "TariffBook", "ReadingOracle")
                ),
                period,
                interval,
                900,
                1,
                0,
            ),
            account("deployer"),
        )
        assert sent.contract_address is not None
        house = web3.eth.contract(
            address=web3.to_checksum_address(sent.contract_address),
            abi=artifact("ClearingHouse")["abi"],
        )
        assert house.functions.genesisHash().call() == genesis_hash(
            web3.eth.chain_id, sent.contract_address, period, interval
        )


def test_there_is_no_period_before_period_zero(deployed: LiveCommunity) -> None:
    """The head begins one below the first period."""
    web3 = deployed.client.web3
    addresses = deployed.contracts.addresses
    with restored(web3):
        call = constructor(
            web3,
            "ClearingHouse",
            *(
                addresses[name]
                for name in ("AccessManager", "MemberRegistry", "TariffBook", "ReadingOracle")
            ),
            0,
            0,
            900,
            1,
            0,
        )
        refused = deployed.reopened().client.refusal(call, account("deployer"))  # type: ignore[arg-type]
        assert said(refused) == ("Panic", 0x11)


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


def test_constants_are_the_same_on_both_sides(deployed: LiveCommunity) -> None:
    """Slots, limits and deployment parameters; and the contracts know each other."""
    house = deployed.contract("ClearingHouse").functions
    assert (
        house.SUPPLIER_SLOT().call(),
        house.DSO_SLOT().call(),
        house.FUND_SLOT().call(),
    ) == (SUPPLIER_SLOT, DSO_SLOT, FUND_SLOT)
    # 25 hours of 5 minutes.
    assert house.MAX_INTERVALS().call() == 25 * 12
    assert deployed.contract("MemberRegistry").functions.NO_GROUP().call() == NO_GROUP
    limit = deployed.contract("TariffBook").functions.PRICE_LIMIT().call()
    assert limit == PRICE_LIMIT_NANO_PER_WH
    assert SLOT_LIMIT == 1 << ACCOUNT_DEPTH
    assert deployed.contracts.parameters() == {
        "first_period": FIRST_PERIOD,
        "first_interval": FIRST_INTERVAL,
        "interval_seconds": 900,
        "challenge_seconds": CHALLENGE_SECONDS,
        "bond_wei": BOND_WEI,
    }
    addresses = deployed.contracts.addresses
    found = CommunityContracts.from_clearing_house(
        deployed.client.web3, addresses["ClearingHouse"], addresses["Vault"]
    )
    assert found.addresses == addresses


def test_the_oracle_contract_names_the_domain_that_python_signs_for(
    deployed: LiveCommunity,
) -> None:
    oracle = deployed.contract("ReadingOracle")
    _, name, version, chain_id, contract, salt, extensions = oracle.functions.eip712Domain().call()
    assert (name, version, salt, extensions) == ("Peerwatt", "1", EMPTY, [])
    assert domain_separator(chain_id, contract) == deployed.place.domain
