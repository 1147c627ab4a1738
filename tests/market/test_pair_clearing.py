"""Whole clearings under pair fees: the graph engines where the fees are a graph's, independent optima where they are not."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.audit.certify import certify
from backend.domain.case import ClearingCase, check_network
from backend.domain.clearing import Clearing
from backend.domain.community import CommunityTariff
from backend.domain.errors import (
    DuplicateIdentifier,
    MalformedInput,
    OutOfRange,
    SolverUnavailable,
)
from backend.market.electrical_distance_fees import (
    PairFees,
    electrical_distance_fees,
    network_pair_fees,
)
from backend.market.pool import Pool, PoolBook, clear_case
from backend.market.pricing import PRICE_RULES
from backend.market.problem import PairMarket, market_of
from tests.market.pairwise import PairwiseMarket, between_nodes
from tests.market.strategies import cases, pair_cases
from tests.market.test_hard_cases import CASES
from tests.support.grids import MESHED

STUDY_RULES = [
    rule for rule in PRICE_RULES if rule not in ("savings-share", "competitive", "blend")
]


def clear(data: dict[str, Any], **options: Any) -> Clearing:
    return clear_case(ClearingCase.parse(data), **{"solver": "auto", **options})


def plain(clearing: Clearing) -> dict[str, Any]:
    return clearing.model_dump(mode="json", by_alias=True)


def result(clearing: Clearing) -> dict[str, Any]:
    """Without who made it."""
    return plain(clearing) | {"solver": "", "solver_gap_nano": 0}


def as_pair_fees(data: dict[str, Any]) -> dict[str, Any]:
    """The same case with its graph's shortest paths as a matrix."""
    case = ClearingCase.parse(data)
    between = between_nodes(case.network)
    names = [node.id for node in case.network.nodes]
    fees = [[between[one][other] for other in names] for one in names]
    nodes = data["network"]["nodes"]
    return data | {"network": {"nodes": nodes, "pair_fees_nano_per_wh": fees}}


@given(pair_cases())
def test_cost_is_the_pairwise_network_simplex_optimum(data: dict[str, Any]) -> None:
    clearing = clear(data)
    assert clearing.cost_nano == PairwiseMarket(ClearingCase.parse(data)).cost_by_network_simplex()
    assert clearing.duality_gap_nano == 0
    assert clearing.solver == "pairs"


@given(pair_cases(net_wh=st.integers(-3000, 3000)))
def test_cost_is_the_pairwise_linear_program_optimum(data: dict[str, Any]) -> None:
    assert (
        clear(data).cost_nano == PairwiseMarket(ClearingCase.parse(data)).cost_by_linear_program()
    )


@given(cases())
def test_fees_of_a_graph_give_what_the_graph_gives(data: dict[str, Any]) -> None:
    graph, pairs = plain(clear(data)), plain(clear(as_pair_fees(data)))
    # Not the network fees: optima can tie, a nearer trade with a dearer outside price.
    for name in ("cost_nano", "savings_nano", "dust_nano", "members", "state"):
        assert pairs[name] == graph[name], name
    for name in ("buy_price_nano_per_wh", "sell_price_nano_per_wh"):
        assert [g[name] for g in pairs["groups"]] == [g[name] for g in graph["groups"]]


@settings(max_examples=15)
@given(pair_cases(most_members=8))
def test_every_solver_gives_the_same_clearing(data: dict[str, Any]) -> None:
    found = [clear(data, solver=solver) for solver in ("pairs", "highs", "clarabel", "scs")]
    assert all(result(clearing) == result(found[0]) for clearing in found)
    assert all(clearing.solver_gap_nano >= 0 for clearing in found)


@given(pair_cases(), st.sampled_from(["savings-share", "competitive", "blend"]))
def test_clearings_are_certified_and_leave_nobody_worse_off(
    data: dict[str, Any], rule: str
) -> None:
    clearing = clear(data, rule=rule)
    assert certify(data, plain(clearing)) == []
    assert clearing.dust_nano >= 0
    if rule == "competitive":
        assert clearing.dust_nano == 0


@given(pair_cases())
def test_competitive_prices_leave_no_pair_a_better_trade(data: dict[str, Any]) -> None:
    market = PairwiseMarket(ClearingCase.parse(data))
    groups = {(g.node, g.tariff_class): g for g in clear(data, rule="competitive").groups}
    for seller in market.sellers:
        for buyer in market.buyers:
            asked = groups[seller.node, seller.tariff_class].sell_price_nano_per_wh
            paid = groups[buyer.node, buyer.tariff_class].buy_price_nano_per_wh
            assert paid <= asked + market.fee(seller, buyer)


@given(pair_cases())
def test_trades_pay_their_pairs_fee_and_are_few(data: dict[str, Any]) -> None:
    case = ClearingCase.parse(data)
    market, clearing = PairwiseMarket(case), clear(data)
    members = {member.id: member for member in case.members}
    carried: Counter[tuple[str, str]] = Counter()
    groups = set()
    for trade in clearing.trades:
        seller, buyer = members[trade.seller], members[trade.buyer]
        assert trade.fee_nano == market.fee(seller, buyer) * trade.energy_wh
        carried[seller.node, buyer.node] += trade.energy_wh
        groups.add((seller.node, seller.tariff_class, buyer.node, buyer.tariff_class))
    assert carried == {(flow.from_node, flow.to_node): flow.energy_wh for flow in clearing.flows}
    assert len(clearing.trades) <= len(members) + len(groups)


@given(pair_cases(), st.randoms(use_true_random=False))
def test_nothing_depends_on_how_the_case_is_written_down(data: dict[str, Any], random: Any) -> None:
    shuffled = json.loads(json.dumps(data))
    for part in ("members", "tariff_classes"):
        random.shuffle(shuffled[part])
    network = shuffled["network"]
    order = list(range(len(network["nodes"])))
    random.shuffle(order)
    fees = network["pair_fees_nano_per_wh"]
    network["nodes"] = [network["nodes"][index] for index in order]
    network["pair_fees_nano_per_wh"] = [[fees[one][other] for other in order] for one in order]
    assert clear(shuffled) == clear(data)


@given(
    st.one_of(cases(), pair_cases()),
    st.sampled_from(["savings-share", "competitive", "blend"]),
    st.data(),
)
def test_members_are_paid_the_same_under_any_name(
    data: dict[str, Any], rule: str, drawn: st.DataObject
) -> None:
    names = [member["id"] for member in data["members"]]
    new = dict(zip(names, drawn.draw(st.permutations([f"x{n}" for n in names])), strict=True))
    renamed = [member | {"id": new[member["id"]]} for member in data["members"]]
    one, other = clear(data, rule=rule), clear(data | {"members": renamed}, rule=rule)
    amounts = {member.id: member.amount_nano for member in other.members}
    assert {new[m.id]: m.amount_nano for m in one.members} == amounts
    assert (one.groups, one.flows) == (other.groups, other.flows)


@pytest.mark.parametrize("solver", ["auto", "highs", "clarabel", "scs"])
@pytest.mark.parametrize("name", [name for name in CASES if "disconnected" not in name])
def test_hard_case(name: str, solver: str) -> None:
    data, traded, state = CASES[name]
    data = as_pair_fees(data)
    clearing = clear(data, solver=solver)
    assert sum(trade.energy_wh for trade in clearing.trades) == traded
    assert clearing.state == state
    assert certify(data, plain(clearing)) == []


def test_a_day_through_cvxpy_is_the_days_intervals_one_by_one() -> None:
    data = json.loads(json.dumps(as_pair_fees(CASES["ties everywhere"][0])))
    random = np.random.default_rng(4)
    market = market_of(ClearingCase.parse(data))
    assert isinstance(market, PairMarket)
    nets = [tuple(row) for row in random.integers(-500, 500, (96, 18)).tolist()]
    nets[5] = (7,) * 18
    group = tuple(number % 3 for number in range(18))
    pool = Pool(market, "highs")
    day = list(pool.clear_many(group, nets))
    exact = Pool(market, "pairs")
    for cleared, net in zip(day, nets, strict=True):
        alone = exact.clear(group, net)
        assert (cleared.trades, cleared.amount_nano) == (alone.trades, alone.amount_nano)
        assert cleared.solver_gap_nano >= 0
    assert day[5].solver_gap_nano == 0
    assert pool.engine.program is not None
    assert pool.engine.program.solver_seconds > 0


def test_markets_that_differ_in_fees_alone_are_not_mixed_up() -> None:
    data = as_pair_fees(CASES["fee equal to the spread"][0])
    cheaper = json.loads(json.dumps(data))
    cheaper["network"]["pair_fees_nano_per_wh"] = [[0, 1], [1, 0]]
    book = PoolBook(solver="auto")
    traded = [len(book.clear(ClearingCase.parse(d)).trades) for d in (data, cheaper, data)]
    assert traded == [0, 1, 0]
    one, other = (market_of(ClearingCase.parse(d)) for d in (data, cheaper))
    assert one != other
    assert one == market_of(ClearingCase.parse(data))


@pytest.mark.parametrize("rule", STUDY_RULES)
def test_study_rules_take_pairs_without_fees_only(rule: str) -> None:
    nets = {"a.1": 9, "a.2": -5, "b.1": -9}
    data = as_pair_fees(CASES["fee equal to the spread"][0])
    data["members"] = [
        {"id": name, "node": name[0], "tariff_class": "c", "net_wh": net}
        for name, net in nets.items()
    ]
    with pytest.raises(MalformedInput, match="no network fees"):
        clear(data, rule=rule)
    data["network"]["pair_fees_nano_per_wh"] = [[0, 0], [0, 0]]
    assert certify(data, plain(clear(data, rule="mid-market-rate"))) == []
    assert clear(data, rule=rule).dust_nano >= 0


@pytest.mark.parametrize("solver", ["sweep", "flow"])
def test_methods_for_graphs_refuse_a_matrix(solver: str) -> None:
    with pytest.raises(SolverUnavailable, match="needs a network of edges"):
        clear(as_pair_fees(CASES["zero fees"][0]), solver=solver)


def test_the_method_for_a_matrix_refuses_a_graph() -> None:
    with pytest.raises(SolverUnavailable, match="matrix of pair fees"):
        clear(CASES["zero fees"][0], solver="pairs")
    with pytest.raises(SolverUnavailable, match="no solver 'guess'") as caught:
        clear(as_pair_fees(CASES["zero fees"][0]), solver="guess")
    assert "pairs" in caught.value.remedy


@pytest.mark.parametrize("grid", MESHED.values(), ids=MESHED.keys())
@pytest.mark.parametrize("kind", ["ptdf", "thevenin-reactance", "thevenin-complex"])
def test_meshed_grids_are_cleared_at_their_electrical_distance(grid: Any, kind: Any) -> None:
    fees = electrical_distance_fees(*grid(), 2000 if kind == "ptdf" else 1, kind, 500)
    assert isinstance(fees, PairFees)
    random = np.random.default_rng(7)
    members = [
        {"id": f"m{n:02d}", "node": bus, "tariff_class": "c", "net_wh": net}
        for n, (bus, net) in enumerate(
            zip(fees.buses, random.integers(-3000, 3000, len(fees.buses)).tolist(), strict=True)
        )
    ]
    network = fees.network().model_dump(mode="json", by_alias=True)
    data = CASES["zero fees"][0] | {"network": network, "members": members}
    case = ClearingCase.parse(data)
    clearing = clear_case(case, solver="auto")
    assert clearing.trades
    assert clearing.cost_nano == PairwiseMarket(case).cost_by_linear_program()
    assert certify(data, plain(clearing)) == []
    at = {member["id"]: member["node"] for member in members}
    for trade in clearing.trades:
        assert trade.fee_nano == trade.energy_wh * fees.between(at[trade.seller], at[trade.buyer])


def test_pair_fees_that_are_no_network_are_refused() -> None:
    twice = PairFees(("a", "a"), np.zeros((2, 2), np.int64), "")
    with pytest.raises(DuplicateIdentifier):
        twice.network()
    with pytest.raises(OutOfRange, match="more than a fee can be"):
        PairFees(("a",), np.array([[2**40]]), "").network()
    network = PairFees(("a", "b"), np.array([[2, 2**40 - 1], [2**40 - 1, 4]]), "").network()
    check_network(network)
    with pytest.raises(MalformedInput, match="such a matrix already"):
        network_pair_fees(network)
    with pytest.raises(MalformedInput, match="contracts prove clearings on a graph only"):
        CommunityTariff(network, (), (), 500_000)
