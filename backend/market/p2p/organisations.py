"""The three organisations of the Energy Collective slides as markets that the methods solve.

| organisation | who meets whom | market |
|---|---|---|
| `full` | every allowed pair, directly | `PairMarket`; `TreeMarket` where tariffs alone tell pairs apart |
| `community` | everybody through the community manager: sum q_n = 0, import and export through it | `TreeMarket`, one node |
| `microgrids` | communities inside, communities with each other (hybrid) | `TreeMarket`, a star |

The manager's fairness options (Moret and Pinson, Energy collectives: a community and fairness based approach to future electricity
markets, IEEE Trans. Power Systems 34(5), 2019) change what counts, not what is paid outside: `cost` as it is; `import` adds a weight to
every unit imported; `peak` adds it to the exchange in either direction; `autarky` avoids any exchange that limits do not force.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from backend.domain.errors import MalformedInput
from backend.domain.p2p import P2PCase, P2PNetwork

from .problem import (
    Floats,
    PairMarket,
    agents_of,
    allowed_pairs,
    matrix_of,
    outside_prices,
)
from .sweep import TreeMarket

ORGANISATIONS: Final = ("full", "community", "microgrids")
FAIRNESS: Final = ("cost", "import", "peak", "autarky")


def pair_market(case: P2PCase) -> PairMarket:
    """Full peer-to-peer, every pair with a cost of its own.

    Raises:
        MalformedInput: the network has lines with limits, which pairs cannot say.
        OutOfRange: the market is not convex.
    """
    agents, (import_price, export_price) = agents_of(case), outside_prices(case)
    return PairMarket.build(agents, both_sides_pay(case), import_price, export_price)


def side_costs(case: P2PCase) -> tuple[Floats, Floats]:
    """(N, N) what each agent (row) pays in fees per unit traded with each other; and what it dislikes, its preferences.

    Raises:
        MalformedInput: the network has lines with limits.
    """
    if case.network is None:
        return matrix_of(case, "fees"), matrix_of(case, "preferences")
    for index, edge in enumerate(case.network.edges):
        if edge.capacity is not None:
            raise MalformedInput(
                f"network.edges[{index}].capacity",
                edge.capacity,
                "a line with a limit, which no trade between two can know",
                "choose the method central or sweep",
            )
    market = tree_market(case, "full")
    assert market is not None
    half = _paths(market) / 2
    fees = half[np.ix_(market.node, market.node)] + market.access[market.node][:, None]
    np.fill_diagonal(fees, 0.0)
    return fees, np.zeros_like(fees)


def both_sides_pay(case: P2PCase) -> Floats:
    """(N, N) symmetric, infinite where no trade is allowed."""
    fees, preferences = side_costs(case)
    one_side = fees + preferences
    return np.where(allowed_pairs(case), one_side + one_side.T, np.inf)


def tree_market(case: P2PCase, organisation: str) -> TreeMarket | None:
    """The market as a tree; None for full peer-to-peer if pairs differ by more than tariffs.

    Raises:
        MalformedInput: the case says something that the organisation does not know.
    """
    agents, outside = agents_of(case), outside_prices(case)
    if organisation == "full":
        if case.network is not None:
            return _on_network(case, case.network)
        if case.preferences is not None or case.pairs != "all" or isinstance(case.fees, tuple):
            return None
        return TreeMarket.single(agents, float(case.fees), *outside)
    for field in ("preferences", "pairs", "network"):
        if getattr(case, field) not in (None, "all"):
            raise MalformedInput(
                field,
                "...",
                f"a community manager's market ({organisation}) has no pairs that could differ",
                "remove the field, or choose the organisation full",
            )
    if isinstance(case.fees, tuple):
        raise MalformedInput(
            "fees", "...", f"a matrix, with organisation {organisation}", "give one number"
        )
    if organisation == "community":
        return TreeMarket.single(agents, float(case.fees), *outside)
    return _star(case, float(case.fees))


def with_fairness(market: TreeMarket, fairness: str, weight: float) -> TreeMarket:
    """The market with the outside prices that the manager counts with.

    Args:
        market: whose outside prices are the real ones.
        fairness: one of `FAIRNESS`.
        weight: per unit; not used by `cost` and `autarky`.
    """
    importing, exporting = market.import_price, market.export_price
    if fairness == "cost" or not np.isfinite(importing):
        return market
    if fairness == "import":
        return replace(market, import_price=importing + weight)
    if fairness == "autarky":
        agents = market.agents
        ends = np.concatenate(
            [agents.b + agents.a * agents.lower, agents.b + agents.a * agents.upper]
        )
        paths = float(market.fee.sum()) + 2 * float(market.access.max(initial=0.0))
        # Dearer than anything that an agent could do instead.
        weight = 1.0 + float(np.ptp(ends)) + abs(importing) + abs(exporting) + paths
    return replace(market, import_price=importing + weight, export_price=exporting - weight)


def _on_network(case: P2PCase, network: P2PNetwork) -> TreeMarket:
    number = {node.id: index for index, node in enumerate(network.nodes)}
    count = len(number)
    links: list[list[tuple[int, float, float]]] = [[] for _ in range(count)]
    for edge in network.edges:
        one, other = number[edge.from_node], number[edge.to_node]
        most = np.inf if edge.capacity is None else edge.capacity
        links[one].append((other, edge.fee, most))
        links[other].append((one, edge.fee, most))
    parent, fee, capacity = np.full(count, -1, np.int64), np.zeros(count), np.full(count, np.inf)
    order = [0]
    for node in order:
        for other, price, most in links[node]:
            if other != parent[node]:
                parent[other], fee[other], capacity[other] = node, price, most
                order.append(other)
    return TreeMarket(
        agents_of(case),
        np.array([number[str(agent.node)] for agent in case.agents], dtype=np.int64),
        np.array([node.access_fee for node in network.nodes]) + _scalar_fee(case),
        np.array(order, dtype=np.int64),
        parent,
        fee,
        capacity,
        *outside_prices(case),
    )


def _scalar_fee(case: P2PCase) -> float:
    assert not isinstance(case.fees, tuple)
    return float(case.fees)


def _star(case: P2PCase, fee: float) -> TreeMarket:
    names: dict[str, int] = {}
    for index, agent in enumerate(case.agents):
        if agent.community is None:
            raise MalformedInput(
                f"agents[{index}].community",
                None,
                "microgrids, and no community",
                "say to which community the agent belongs",
            )
        names.setdefault(agent.community, len(names) + 1)
    count = len(names) + 1
    parent = np.zeros(count, np.int64)
    parent[0] = -1
    lines = np.full(count, case.between_fee)
    lines[0] = 0.0
    return TreeMarket(
        agents_of(case),
        np.array([names[str(agent.community)] for agent in case.agents], dtype=np.int64),
        np.full(count, fee),
        np.arange(count, dtype=np.int64),
        parent,
        lines,
        np.full(count, np.inf),
        *outside_prices(case),
    )


def _paths(market: TreeMarket) -> Floats:
    """(V, V) sum of the lines' fees between every two nodes."""
    count = market.order.size
    distance = np.zeros((count, count))
    seen: list[int] = []
    for node in market.order.tolist():
        above = int(market.parent[node])
        if above >= 0:
            distance[node, seen] = distance[above, seen] + market.fee[node]
            distance[seen, node] = distance[node, seen]
        seen.append(node)
    return distance
