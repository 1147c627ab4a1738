"""Random markets for hypothesis: small, with ties, constant costs, agents that must or cannot trade made likely on purpose."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_TENTHS = st.integers(-50, 50).map(lambda value: value / 10)


@st.composite
def agents(draw: st.DrawFn, most: int = 6, must: bool = True) -> list[dict[str, Any]]:
    """Agents as case data."""
    count = draw(st.integers(1, most))
    found = []
    for number in range(count):
        kind = draw(st.sampled_from(["sell", "buy", "both", "idle", *(["must"] if must else [])]))
        reach = draw(st.integers(1, 100)) / 10
        lower, upper = {
            "sell": (0.0, reach),
            "buy": (-reach, 0.0),
            "both": (-reach, draw(st.integers(1, 50)) / 10),
            "idle": (0.0, 0.0),
            "must": (reach, reach + 1),
        }[kind]
        if kind == "must" and draw(st.booleans()):
            lower, upper = -upper, -lower
        found.append(
            {
                "id": f"n{number}",
                "a": draw(st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0])),
                "b": float(draw(st.integers(0, 20))),
                "lower": lower,
                "upper": upper,
            }
        )
    return found


@st.composite
def pair_cases(draw: st.DrawFn, must: bool = True) -> dict[str, Any]:
    """Cases with preferences, perhaps a matrix of fees, a list of pairs, an outside."""
    found = draw(agents(must=must))
    count = len(found)
    square = st.lists(st.integers(0, 30), min_size=count * count, max_size=count * count)

    def matrix() -> list[list[float]]:
        values = draw(square)
        return [
            [0.0 if i == j else values[i * count + j] / 10 for j in range(count)]
            for i in range(count)
        ]

    case: dict[str, Any] = {"agents": found, "preferences": matrix()}
    if draw(st.booleans()):
        case["fees"] = matrix() if draw(st.booleans()) else 0.5
    if draw(st.integers(0, 3)) == 0:
        case["pairs"] = [
            [f"n{i}", f"n{j}"] for i in range(count) for j in range(i) if draw(st.booleans())
        ]
    if draw(st.booleans()):
        export = float(draw(st.integers(0, 10)))
        case["outside"] = {
            "import_price": export + draw(st.integers(0, 10)),
            "export_price": export,
        }
    return case


@st.composite
def tree_cases(draw: st.DrawFn) -> dict[str, Any]:
    """Cases on a radial network, some lines with limits."""
    found = draw(agents(most=8))
    nodes = draw(st.integers(1, 5))
    for agent in found:
        agent["node"] = f"v{draw(st.integers(0, nodes - 1))}"
    edges = []
    for node in range(1, nodes):
        edge: dict[str, Any] = {
            "from": f"v{draw(st.integers(0, node - 1))}",
            "to": f"v{node}",
            "fee": draw(st.integers(0, 20)) / 10,
        }
        if draw(st.booleans()):
            edge["capacity"] = draw(st.integers(0, 60)) / 10
        edges.append(edge)
    case: dict[str, Any] = {
        "agents": found,
        "fees": draw(st.sampled_from([0.0, 0.5])),
        "network": {
            "nodes": [
                {"id": f"v{node}", "access_fee": draw(st.sampled_from([0.0, 0.3]))}
                for node in range(nodes)
            ],
            "edges": edges,
        },
    }
    if draw(st.booleans()):
        export = float(draw(st.integers(0, 10)))
        case["outside"] = {
            "import_price": export + draw(st.integers(0, 10)),
            "export_price": export,
        }
    return case
