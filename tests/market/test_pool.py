"""The pool: least cost by two independent formulations, exact sums, nobody worse off, one answer whatever the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.case import ClearingCase
from backend.domain.clearing import Clearing
from backend.domain.errors import DisconnectedNetwork, SolverUnavailable
from backend.market.pool import clear_case
from tests.market.pairwise import PairwiseMarket
from tests.market.strategies import cases

GOLDEN = Path(__file__).parent.parent / "golden"


def clear(data: dict[str, Any], **options: Any) -> tuple[ClearingCase, Clearing]:
    case = ClearingCase.parse(data)
    return case, clear_case(case, **options)


def result(clearing: Clearing) -> Clearing:
    """The clearing without who made it."""
    return clearing.model_copy(update={"solver": "", "solver_gap_nano": 0})


def small_case(*nets: int, **network: Any) -> dict[str, Any]:
    return {
        "format": "peerwatt/clearing-case/1",
        "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
        "network": network or {"nodes": [{"id": "a", "access_fee_nano_per_wh": 5000}]},
        "tariff_classes": [
            {
                "id": "household",
                "import_price_nano_per_wh": 300_000,
                "export_price_nano_per_wh": 60_000,
            }
        ],
        "members": [
            {"id": f"m{number}", "node": "a", "tariff_class": "household", "net_wh": net}
            for number, net in enumerate(nets)
        ],
    }


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.case.json")), ids=lambda path: path.stem)
def test_golden_case_worked_by_hand(path: Path) -> None:
    data = json.loads(path.read_text())
    expected = json.loads(path.with_name(path.name.replace(".case.", ".clearing.")).read_text())
    _, clearing = clear(data)
    found = clearing.model_dump(mode="json", by_alias=True)
    assert {name: found[name] for name in expected} == expected


@given(cases())
def test_cost_is_the_pairwise_network_simplex_optimum(data: dict[str, Any]) -> None:
    case, clearing = clear(data)
    assert clearing.cost_nano == PairwiseMarket(case).cost_by_network_simplex()
    assert clearing.duality_gap_nano == 0


@given(cases(net_wh=st.integers(-3000, 3000)))
def test_cost_is_the_pairwise_linear_program_optimum(data: dict[str, Any]) -> None:
    case, clearing = clear(data, solver="clarabel")
    assert clearing.cost_nano == PairwiseMarket(case).cost_by_linear_program()


@settings(max_examples=20)
@given(cases(most_members=8))
def test_every_solver_gives_the_same_clearing(data: dict[str, Any]) -> None:
    found = {
        result(clear(data, solver=solver)[1]).model_dump_json()
        for solver in ("highs", "clarabel", "scs", "flow", "auto")
    }
    assert len(found) == 1


@given(cases(), st.sampled_from(["savings-share", "competitive"]), st.integers(0, 10**6))
def test_money_sums_to_zero_and_nobody_is_worse_off(
    data: dict[str, Any], rule: str, share: int
) -> None:
    case, clearing = clear(data, rule=rule, share_millionths=share)
    paid = -sum(member.amount_nano for member in clearing.members)
    assert paid == clearing.cost_nano + clearing.dust_nano
    assert clearing.dust_nano >= 0
    assert clearing.savings_nano == clearing.outside_cost_nano - clearing.cost_nano >= 0
    market = PairwiseMarket(case)
    nets = {member.id: member for member in case.members}
    for member in clearing.members:
        of = nets[member.id]
        tariff = market.tariffs[of.tariff_class]
        outside = of.net_wh * (
            tariff.import_price_nano_per_wh if of.net_wh < 0 else tariff.export_price_nano_per_wh
        )
        assert member.amount_nano >= outside


@given(cases())
def test_savings_share_leaves_both_sides_strictly_better_off(data: dict[str, Any]) -> None:
    _, clearing = clear(data)
    demand = sum(group.demand_wh for group in clearing.groups)
    supply = sum(group.supply_wh for group in clearing.groups)
    tariffs = {tariff["id"]: tariff for tariff in data["tariff_classes"]}
    for group in clearing.groups:
        tariff = tariffs[group.tariff_class]
        discount = tariff["import_price_nano_per_wh"] - group.buy_price_nano_per_wh
        premium = group.sell_price_nano_per_wh - tariff["export_price_nano_per_wh"]
        # Strictly, up to the floor: half of what was saved is at least one nano for each Wh.
        assert discount == (clearing.savings_nano // (2 * demand) if demand else 0)
        assert premium == (clearing.savings_nano // (2 * supply) if supply else 0)


@given(cases())
def test_trades_add_up_and_pay_the_shortest_path(data: dict[str, Any]) -> None:
    case, clearing = clear(data)
    market = PairwiseMarket(case)
    members = {member.id: member for member in case.members}
    sold: dict[tuple[str, str], int] = {}
    bought: dict[tuple[str, str], int] = {}
    by_member: dict[str, int] = {}
    for trade in clearing.trades:
        seller, buyer = members[trade.seller], members[trade.buyer]
        assert trade.energy_wh > 0
        assert trade.fee_nano == market.fee(seller, buyer) * trade.energy_wh
        for book, member in ((sold, seller), (bought, buyer)):
            key = (member.node, member.tariff_class)
            book[key] = book.get(key, 0) + trade.energy_wh
            by_member[member.id] = by_member.get(member.id, 0) + trade.energy_wh
    for group in clearing.groups:
        key = (group.node, group.tariff_class)
        assert sold.get(key, 0) == group.matched_supply_wh
        assert bought.get(key, 0) == group.matched_demand_wh
    assert all(energy <= abs(members[name].net_wh) for name, energy in by_member.items())
    assert sum(trade.fee_nano for trade in clearing.trades) == clearing.fees_nano
    demand = sum(-member.net_wh for member in market.buyers)
    assert clearing.imported_wh == demand - sum(trade.energy_wh for trade in clearing.trades)


@given(cases(), st.randoms(use_true_random=False))
def test_nothing_depends_on_how_the_case_is_written_down(data: dict[str, Any], random: Any) -> None:
    _, clearing = clear(data)
    shuffled = json.loads(json.dumps(data))
    random.shuffle(shuffled["members"])
    random.shuffle(shuffled["network"]["nodes"])
    random.shuffle(shuffled["tariff_classes"])
    for edge in shuffled["network"]["edges"]:
        if random.random() < 0.5:
            edge["from"], edge["to"] = edge["to"], edge["from"]
    random.shuffle(shuffled["network"]["edges"])
    assert clear(shuffled)[1] == clearing


@given(cases())
def test_competitive_prices_leave_no_pair_a_better_trade(data: dict[str, Any]) -> None:
    case, clearing = clear(data, rule="competitive")
    market = PairwiseMarket(case)
    buy = {(g.node, g.tariff_class): g.buy_price_nano_per_wh for g in clearing.groups}
    sell = {(g.node, g.tariff_class): g.sell_price_nano_per_wh for g in clearing.groups}
    for seller in market.sellers:
        for buyer in market.buyers:
            asked = sell[seller.node, seller.tariff_class] + market.fee(seller, buyer)
            assert buy[buyer.node, buyer.tariff_class] <= asked
    assert clearing.dust_nano == 0


def test_exact_balance_at_one_node_trades_everything() -> None:
    _, clearing = clear(small_case(700, -300, -400))
    assert [(t.seller, t.buyer, t.energy_wh) for t in clearing.trades] == [
        ("m0", "m1", 300),
        ("m0", "m2", 400),
    ]
    assert clearing.imported_wh == clearing.exported_wh == 0


@pytest.mark.parametrize("nets", [(), (0,), (500,), (-500,), (300, 200), (-300, -200)])
def test_without_two_sides_nobody_trades_and_everybody_pays_outside(nets: tuple[int, ...]) -> None:
    _, clearing = clear(small_case(*nets))
    assert clearing.trades == ()
    assert clearing.savings_nano == clearing.fees_nano == clearing.dust_nano == 0
    assert clearing.cost_nano == clearing.outside_cost_nano


def test_a_fee_above_the_spread_keeps_neighbours_apart() -> None:
    network = {"nodes": [{"id": "a", "access_fee_nano_per_wh": 120_001}], "edges": []}
    _, clearing = clear(small_case(100, -100, **network))
    assert clearing.trades == ()


def test_energies_of_two_to_the_fortieth_stay_exact() -> None:
    _, clearing = clear(small_case(2**40, -(2**40)))
    assert clearing.savings_nano == 2**40 * 230_000
    assert clearing.trades[0].energy_wh == 2**40


@given(cases())
def test_the_tree_sweep_gives_the_same_clearing_where_the_network_has_no_circle(
    data: dict[str, Any],
) -> None:
    network = data["network"]
    network["edges"] = network["edges"][: len(network["nodes"]) - 1]
    try:
        case = ClearingCase.parse(data)
    except DisconnectedNetwork:
        return
    assert result(clear_case(case, solver="sweep")) == result(clear_case(case, solver="highs"))


def test_the_tree_sweep_refuses_a_network_with_a_circle() -> None:
    nodes = [{"id": name} for name in "abc"]
    edges = [
        {"from": one, "to": other, "fee_nano_per_wh": 1}
        for one, other in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    data = small_case(5, -5, nodes=nodes, edges=edges)
    with pytest.raises(SolverUnavailable):
        clear(data, solver="sweep")
    assert clear(data, solver="auto")[1].solver == "flow"
    assert clear(small_case(5, -5), solver="auto")[1].solver == "sweep"
