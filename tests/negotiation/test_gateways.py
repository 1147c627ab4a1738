"""The two-sweep protocol message by message against the sweep over arrays, and between processes over a real broker."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.bench.negotiation import random_tree
from backend.domain.errors import InputError, MalformedInput
from backend.domain.p2p import P2PCase
from backend.market.p2p.methods import solve_case
from backend.market.p2p.organisations import tree_market
from backend.market.p2p.sweep import solve_tree
from backend.negotiation.gateway import (
    Curve,
    Gateway,
    agent_curve,
    gateways_of,
    solution_of,
    solve_by_gateways,
    total,
)
from backend.negotiation.gateways import sweep_over_broker
from tests.market.p2p.strategies import tree_cases
from tests.support.broker import Broker


@settings(max_examples=80)
@given(tree_cases())
def test_messages_find_what_the_arrays_find(case: dict[str, Any]) -> None:
    market = tree_market(P2PCase.parse(case), "full")
    assert market is not None
    try:
        expected = solve_tree(market)
    except InputError:
        with pytest.raises(InputError):
            solve_by_gateways(market)
        return
    found, messages = solve_by_gateways(market)
    assert messages == 2 * (market.order.size - 1)
    scale = max(1.0, abs(expected.cost))
    assert found.cost == pytest.approx(expected.cost, abs=1e-9 * scale)
    assert found.gap <= 1e-9
    assert found.residual <= 1e-9


def test_a_thousand_gateways_with_full_lines() -> None:
    market = random_tree(1000)
    found, messages = solve_by_gateways(market)
    assert messages == 2 * 999
    assert found.cost == pytest.approx(solve_tree(market).cost, rel=1e-9)
    assert abs(found.gap) <= 1e-9


@given(st.integers(0, 10_000))
def test_any_order_and_any_repetition_gives_the_same(seed: int) -> None:
    shuffle = random.Random(seed)
    market = random_tree(12)
    gateways = {one.name: one for one in gateways_of(market)}
    post = [(one.name, *sent) for one in gateways.values() for sent in one.begin()]
    for _ in range(400):
        if not post:
            break
        place = shuffle.randrange(len(post))
        sender, to, body = post[place] if shuffle.random() < 0.3 else post.pop(place)
        post += [(to, *answer) for answer in gateways[to].hear(sender, body)]
        if shuffle.random() < 0.2:
            name = shuffle.choice(list(gateways))
            post += [(name, *sent) for sent in gateways[name].begin()]
    while post:
        sender, to, body = post.pop()
        post += [(to, *answer) for answer in gateways[to].hear(sender, body)]
    found = solution_of(market, gateways)
    assert found.cost == pytest.approx(solve_tree(market).cost, rel=1e-9)


def test_curves() -> None:
    seller = agent_curve(2.0, 10.0, 0.0, 5.0, access=1.0)
    assert seller.between(11.0) == (0, 0)
    assert seller.between(13.0) == (1, 1)
    assert seller.between(99.0) == (5, 5)
    flat = agent_curve(0.0, 10.0, 0.0, 5.0, access=0.0)
    assert flat.between(10.0) == (0, 5)
    buyer = agent_curve(2.0, 30.0, -5.0, 0.0, access=0.0)
    both = total([seller, buyer])
    low, high = both.prices_at(0.0)
    assert low == high
    assert sum(part.between(low)[0] for part in (seller, buyer)) == pytest.approx(0)
    seen = both.over(fee=3.0, capacity=2.0)
    assert seen.between(low + 3.0) == pytest.approx((0, 0))
    assert seen.energy[0] == -2
    assert seen.energy[-1] == 2
    with pytest.raises(MalformedInput):
        agent_curve(1.0, 1.0, 3.0, 5.0, access=0.0).over(1.0, 2.0)


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "curve"},
        {"kind": "curve", "price": [1.0], "energy": []},
        {"kind": "curve", "price": [2.0, 1.0], "energy": [0.0, 1.0]},
        {"kind": "curve", "price": [1.0, 2.0], "energy": [0.0, -1.0]},
        {"kind": "curve", "price": [float("nan")], "energy": [0.0]},
        {"kind": "curve", "price": ["1"], "energy": [0.0]},
    ],
)
def test_what_is_no_curve_is_refused(body: dict[str, Any]) -> None:
    root = Gateway("0", None, ("1",), {})
    with pytest.raises(MalformedInput):
        list(root.hear("1", body))
    assert list(root.hear("stranger", {"kind": "curve", "price": [0.0], "energy": [0.0]})) == []


def test_a_repeated_curve_is_answered_again_and_a_second_one_ignored() -> None:
    root = Gateway("0", None, ("1",), {"own": Curve((5.0, 6.0), (-1.0, 0.0))})
    first = {"kind": "curve", "price": [1.0, 2.0], "energy": [0.0, 4.0]}
    answer = list(root.hear("1", first))
    assert answer == [("1", {"kind": "price", "price": root.price, "energy": 1.0})]
    assert list(root.hear("1", first | {"energy": [0.0, 9.0]})) == answer


# --- Between processes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    found = Broker.in_folder(Path(tmp_path_factory.mktemp("gateways")))
    found.start()
    yield found
    found.stop()


def feeder_case(nodes: int) -> P2PCase:
    chance = random.Random(nodes)
    agents = []
    for number in range(nodes):
        sells = chance.random() < 0.5
        agents.append(
            {
                "id": f"n{number}",
                "a": chance.uniform(0.5, 5),
                "b": chance.uniform(10, 40) if sells else chance.uniform(50, 90),
                "lower": 0.0 if sells else -chance.uniform(2, 15),
                "upper": chance.uniform(2, 15) if sells else 0.0,
                "node": f"v{number}",
            }
        )
    edges: list[dict[str, Any]] = [
        {"from": f"v{chance.randrange(number)}", "to": f"v{number}", "fee": chance.uniform(0, 2)}
        for number in range(1, nodes)
    ]
    edges[0]["capacity"] = 1.0
    network = {"nodes": [{"id": f"v{number}"} for number in range(nodes)], "edges": edges}
    return P2PCase.parse({"agents": agents, "network": network})


def test_twenty_gateways_as_processes(broker: Broker) -> None:
    case = feeder_case(20)
    found = sweep_over_broker(case, ("127.0.0.1", broker.port), patience=1.0, seconds=120)
    exact = solve_case(case)
    assert found.outcome == "agreed"
    assert found.objective == pytest.approx(exact.objective, rel=1e-9)
    assert found.certified_gap <= 1e-9
    assert found.iterations == 2
