"""Bad cases: a clear error that names the field, or a clear result; never a hang."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from backend.domain.errors import InputError
from backend.domain.p2p import P2PCase
from backend.market.p2p.methods import solve_case

from .cases import FOUR_AGENTS, TWO_AGENTS

NETWORK = {"nodes": [{"id": "a"}, {"id": "b"}], "edges": [{"from": "a", "to": "b", "fee": 1}]}
PLACED = [agent | {"node": "a"} for agent in TWO_AGENTS["agents"]]


def changed(**fields: Any) -> dict[str, Any]:
    return copy.deepcopy(TWO_AGENTS) | fields


def agent(**fields: Any) -> dict[str, Any]:
    case = copy.deepcopy(TWO_AGENTS)
    case["agents"][0] |= fields
    return case


BAD = [
    (changed(agents=[]), "agents"),
    (agent(lower=5.0), "agents[0].lower"),
    (agent(a=-1.0), "agents[0].a"),
    (agent(id="n2"), "agents[1].id"),
    (agent(id="outside"), "agents[0].id"),
    (agent(b=1e13), "agents[0].b"),
    (agent(b="8"), "agents[0].b"),
    (agent(power=1), "agents[0].power"),
    (changed(fees=-1), "fees"),
    (changed(fees=[[0, 1], [1, 2]]), "fees[1][1]"),
    (changed(preferences=[[0, 1]]), "preferences"),
    (changed(preferences=[[0, 1], [1]]), "preferences[1]"),
    (changed(preferences=[[3, 1], [1, 0]]), "preferences[0][0]"),
    (changed(pairs=[["n1", "n1"]]), "pairs[0]"),
    (changed(pairs=[["n1", "n2"], ["n2", "n1"]]), "pairs[1]"),
    (changed(pairs=[["n1", "n3"]]), "pairs[0][1]"),
    (changed(outside={"import_price": 1, "export_price": 2}), "outside.export_price"),
    (changed(network=NETWORK), "agents[0].node"),
    (changed(agents=PLACED, network=NETWORK, preferences=[[0, 1], [1, 0]]), "network"),
    (changed(agents=PLACED, network=NETWORK | {"edges": []}), "network.nodes[1].id"),
    (
        changed(agents=PLACED, network=NETWORK | {"edges": NETWORK["edges"] * 2}),
        "network.edges[1]",
    ),
]


@pytest.mark.parametrize(("data", "field"), BAD, ids=[field for _, field in BAD])
def test_a_bad_case_names_the_field(data: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        P2PCase.parse(data)
    assert caught.value.field.startswith(field)
    assert caught.value.remedy


@pytest.mark.parametrize("method", ["central", "sparse", "reference:clarabel"])
def test_limits_that_cannot_be_kept_are_refused(method: str) -> None:
    must_buy = agent(lower=-70.0, upper=-65.0)
    with pytest.raises(InputError, match=r"must buy|left over"):
        solve_case(P2PCase.parse(must_buy), method=method)
    apart = agent(lower=-30.0, upper=-1.0) | {"pairs": []}
    with pytest.raises(InputError, match="cannot be kept"):
        solve_case(P2PCase.parse(apart), method=method)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"organisation": "kibbutz"}, "organisation"),
        ({"method": "auction"}, "method"),
        ({"organisation": "community", "method": "sparse"}, "method"),
        ({"organisation": "microgrids"}, "agents[0].community"),
        ({"fairness": "peak"}, "fairness"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        solve_case(P2PCase.parse(FOUR_AGENTS), **options)
    assert caught.value.field == field


def test_agents_that_like_each_other_in_a_circle_are_not_convex() -> None:
    both = [{"id": f"n{i}", "a": 1, "b": 1, "lower": -1, "upper": 1} for i in range(2)]
    case = P2PCase.parse({"agents": both, "preferences": [[0, -3], [1, 0]]})
    with pytest.raises(InputError, match="non-convex"):
        solve_case(case)


def test_preferences_need_not_be_symmetric() -> None:
    """A pair counts what both say."""
    one = solve_case(P2PCase.parse(changed(preferences=[[0, 1], [0, 0]])))
    other = solve_case(P2PCase.parse(changed(preferences=[[0, 0], [1, 0]])))
    assert one.objective == pytest.approx(other.objective)
    assert one.trades[0].price == pytest.approx(other.trades[0].price - 1)


@pytest.mark.parametrize("method", ["central", "sparse", "admm", "rci"])
def test_agents_that_cannot_trade_stay_alone(method: str) -> None:
    """An isolated agent, and a market of one: nobody trades, at once."""
    alone = solve_case(P2PCase.parse(changed(pairs=[])), method=method)
    assert alone.trades == ()
    assert alone.objective == 0
    single = changed(agents=[copy.deepcopy(TWO_AGENTS["agents"][0])])
    assert solve_case(P2PCase.parse(single), method=method).outcome == "agreed"
