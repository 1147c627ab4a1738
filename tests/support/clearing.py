"""The cheapest clearing of an interval, found without any code of `backend.market`: networkx's network simplex, then Bellman-Ford.

Not the canonical one (there may be many); the certificate has to hold for each of them.
"""

from __future__ import annotations

import networkx as nx

from backend.market.problem import Problem, Solution

_GROUND = -1
_SOURCE = -2


def cheapest(problem: Problem) -> Solution:
    """An optimal clearing with node prices that prove it."""
    graph = problem.market.graph
    net = nx.MultiDiGraph()
    net.add_nodes_from(range(graph.node_count))
    net.add_node(_GROUND)
    for number, group in enumerate(problem.market.groups):
        access = graph.access_fee_nano_per_wh[group.node]
        net.add_edge(
            _GROUND,
            group.node,
            key=("supply", number),
            weight=group.export_price_nano_per_wh + access,
            capacity=problem.supply_wh[number],
        )
        net.add_edge(
            group.node,
            _GROUND,
            key=("demand", number),
            weight=access - group.import_price_nano_per_wh,
            capacity=problem.demand_wh[number],
        )
    ends = list(zip(graph.edge_from, graph.edge_to, graph.edge_fee_nano_per_wh, strict=True))
    for number, (tail, head, fee) in enumerate(ends):
        net.add_edge(tail, head, key=("along", number), weight=fee)
        net.add_edge(head, tail, key=("against", number), weight=fee)
    _, flow = nx.network_simplex(net)
    price = _potentials(net, flow)
    groups = range(len(problem.market.groups))
    nodes = [group.node for group in problem.market.groups]
    return Solution(
        matched_demand_wh=tuple(flow[nodes[g]][_GROUND]["demand", g] for g in groups),
        matched_supply_wh=tuple(flow[_GROUND][nodes[g]]["supply", g] for g in groups),
        flow_wh=tuple(
            flow[tail][head]["along", e] - flow[head][tail]["against", e]
            for e, (tail, head, _) in enumerate(ends)
        ),
        price_nano_per_wh=tuple(price[v] - price[_GROUND] for v in range(graph.node_count)),
    )


def _potentials(net: nx.MultiDiGraph, flow: dict) -> dict[int, int]:  # type: ignore[type-arg]
    """Shortest distances in the residual network from a source beside it, which prove the flow optimal."""
    residual = nx.MultiDiGraph()
    for node in net:
        residual.add_edge(_SOURCE, node, weight=0)
    for tail, head, key, data in net.edges(keys=True, data=True):
        used = flow[tail][head][key]
        if used < data.get("capacity", used + 1):
            residual.add_edge(tail, head, weight=data["weight"])
        if used:
            residual.add_edge(head, tail, weight=-data["weight"])
    found: dict[int, int] = nx.single_source_bellman_ford_path_length(residual, _SOURCE)
    return found
