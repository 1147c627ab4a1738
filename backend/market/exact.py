"""From any engine's prices to the one canonical optimum, in integers.

The clearing is a minimum-cost circulation. A ground node stands for the outside: an arc ground -> v for each group's
supply (cost f + access, capacity S), v -> ground for its demand (cost access - r, capacity D), and both ways over each
edge (cost fee, no capacity). The matrix is totally unimodular, so integer data have integer optima, primal and dual
(Hoffman and Kruskal 1956).

`solve_from` starts from the prices an engine proposes: made feasible by one shortest-path pass, they fix the flow on
every arc whose reduced cost is not zero, and the primal-dual method (Ahuja, Magnanti, Orlin, Network Flows, 9.8)
carries what is still out of balance, moving prices where it must. Good prices leave it next to nothing to do; bad ones
cost time, never correctness.

Ties: the optimal prices form a lattice, so a smallest and a largest one exist, whatever optimum they are read from;
the floor of their midpoint is optimal too (L-natural convexity; Murota, Discrete Convex Analysis, 7). The canonical
prices are that midpoint. The canonical flow follows from the canonical prices: on a forest as `kernels.forest_flow` settles
ties, elsewhere as this procedure finds it from them. Both depend on the problem alone, so all engines give the same clearing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import MarketArrays
from .problem import Graph, Problem, Solution
from .tree_sweep import forest_clearing, middle_prices

_UNLIMITED = 1 << 80


@dataclass(slots=True)
class _Circulation:
    """Residual arcs in pairs: arc a and its reverse a ^ 1. Node `ground` is the last one."""

    head: list[int]
    cost: list[int]
    residual: list[int]
    leaving: list[list[int]]
    ground: int
    demand_arc: list[int]
    supply_arc: list[int]
    edge_arc: list[int]

    def add(self, tail: int, head: int, cost: int, capacity: int) -> int:
        arc = len(self.head)
        self.head += [head, tail]
        self.cost += [cost, -cost]
        self.residual += [capacity, 0]
        self.leaving[tail].append(arc)
        self.leaving[head].append(arc + 1)
        return arc

    def push(self, arc: int, amount: int) -> None:
        self.residual[arc] -= amount
        self.residual[arc ^ 1] += amount


def _circulation(problem: Problem) -> _Circulation:
    graph = problem.market.graph
    ground = graph.node_count
    net = _Circulation([], [], [], [[] for _ in range(ground + 1)], ground, [], [], [])
    for group, demand, supply in zip(
        problem.market.groups, problem.demand_wh, problem.supply_wh, strict=True
    ):
        access = graph.access_fee_nano_per_wh[group.node]
        net.demand_arc.append(
            net.add(group.node, ground, access - group.import_price_nano_per_wh, demand)
        )
        net.supply_arc.append(
            net.add(ground, group.node, access + group.export_price_nano_per_wh, supply)
        )
    for tail, head, fee in zip(
        graph.edge_from, graph.edge_to, graph.edge_fee_nano_per_wh, strict=True
    ):
        # Two arcs, one for each direction: `edge_arc` and `edge_arc + 2`.
        net.edge_arc.append(net.add(tail, head, fee, _UNLIMITED))
        net.add(head, tail, fee, _UNLIMITED)
    return net


def feasible_prices(graph: Graph, prices: Sequence[int]) -> list[int]:
    """The largest prices not above the given ones whose difference over every edge is at most its fee.

    Unchanged if they already are such; one Dijkstra pass with all nodes as sources, O(E log V).
    """
    ends = list(zip(graph.edge_from, graph.edge_to, graph.edge_fee_nano_per_wh, strict=True))
    if all(abs(prices[tail] - prices[head]) <= fee for tail, head, fee in ends):
        return list(prices)
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(graph.node_count)]
    for tail, head, fee in ends:
        neighbours[tail].append((head, fee))
        neighbours[head].append((tail, fee))
    found = list(prices)
    queue = [(price, node) for node, price in enumerate(found)]
    heapq.heapify(queue)
    while queue:
        price, node = heapq.heappop(queue)
        if price > found[node]:
            continue
        for other, fee in neighbours[node]:
            if price + fee < found[other]:
                found[other] = price + fee
                heapq.heappush(queue, (price + fee, other))
    return found


def solve_from(
    problem: Problem, proposed_price_nano_per_wh: Sequence[int], arrays: MarketArrays
) -> Solution:
    """The canonical optimum, starting from proposed node prices.

    Args:
        problem: the interval.
        proposed_price_nano_per_wh: by node; any integers.
        arrays: of the problem's market.

    Returns:
        The canonical solution; the same whatever was proposed.
    """
    lowest, highest = arrays.price_bounds()
    start = [min(max(price, lowest), highest) for price in proposed_price_nano_per_wh]
    start = feasible_prices(problem.market.graph, start)
    if arrays.is_forest:
        middle = middle_prices(
            arrays,
            np.array(problem.demand_wh, dtype=np.int64),
            np.array(problem.supply_wh, dtype=np.int64),
            np.array(start, dtype=np.int64),
        )
        if middle is not None:  # the engine's prices were optimal already
            return canonical_clearing(problem, middle.tolist(), arrays)
    net, _ = _solve(problem, start)
    largest = _distances(net, from_ground=True)
    smallest = _distances(net, from_ground=False)
    canonical = []
    for node in range(net.ground):
        above, below = largest[node], smallest[node]
        top = highest if above is None else max(min(above, highest), lowest)
        bottom = lowest if below is None else min(max(-below, lowest), highest)
        canonical.append((top + bottom) // 2)
    return canonical_clearing(problem, canonical, arrays)


def canonical_clearing(
    problem: Problem, price_nano_per_wh: Sequence[int], arrays: MarketArrays
) -> Solution:
    """The canonical clearing at the canonical prices.

    Args:
        problem: the interval.
        price_nano_per_wh: by node, canonical.
        arrays: of the problem's market.
    """
    if not arrays.is_forest:
        net, _ = _solve(problem, list(price_nano_per_wh))
        return _solution(net, price_nano_per_wh, without_circles(problem.market.graph, _flows(net)))
    demand, supply, flow = forest_clearing(
        arrays,
        np.array(problem.demand_wh, dtype=np.int64),
        np.array(problem.supply_wh, dtype=np.int64),
        np.array(price_nano_per_wh, dtype=np.int64),
    )
    return Solution(
        matched_demand_wh=tuple(demand.tolist()),
        matched_supply_wh=tuple(supply.tolist()),
        flow_wh=tuple(flow.tolist()),
        price_nano_per_wh=tuple(price_nano_per_wh),
    )


def without_circles(graph: Graph, flow_wh: Sequence[int]) -> list[int]:
    """The flow without energy that goes in circles, which an optimum can have where edges are free.

    Args:
        graph: the network.
        flow_wh: by edge, signed.

    Returns:
        By edge; balanced at every node as before, and no more on any edge.
    """
    flow = list(flow_wh)
    leaving: list[list[int]] = [[] for _ in range(graph.node_count)]
    for edge, amount in enumerate(flow):
        if amount:
            leaving[graph.edge_from[edge] if amount > 0 else graph.edge_to[edge]].append(edge)
    finished = [False] * graph.node_count
    for source in range(graph.node_count):
        path: list[int] = []
        place = {source: 0}
        node = source
        while True:
            while leaving[node] and (
                not flow[leaving[node][-1]] or finished[_head(graph, flow, leaving[node][-1])]
            ):
                leaving[node].pop()
            if not leaving[node]:
                finished[node] = True
                if not path:
                    break
                del place[node]
                edge = path.pop()
                node = graph.edge_from[edge] if flow[edge] > 0 else graph.edge_to[edge]
                continue
            edge = leaving[node][-1]
            path.append(edge)
            node = _head(graph, flow, edge)
            if node in place:
                start = place[node]
                amount = min(abs(flow[at]) for at in path[start:])
                for at in path[start:]:
                    flow[at] -= amount if flow[at] > 0 else -amount
                path, place, node = [], {source: 0}, source
                continue
            place[node] = len(path)
    return flow


def _head(graph: Graph, flow: Sequence[int], edge: int) -> int:
    return graph.edge_to[edge] if flow[edge] > 0 else graph.edge_from[edge]


def _solve(problem: Problem, prices: list[int]) -> tuple[_Circulation, list[int]]:
    """The primal-dual method from feasible prices; returns the optimal residual network and prices."""
    net = _circulation(problem)
    potential = [*prices, 0]
    excess = [0] * (net.ground + 1)
    for arc in range(0, len(net.head), 2):
        tail, head = net.head[arc ^ 1], net.head[arc]
        if net.residual[arc] and net.cost[arc] + potential[tail] - potential[head] < 0:
            amount = net.residual[arc]
            net.push(arc, amount)
            excess[tail] -= amount
            excess[head] += amount
    while any(amount > 0 for amount in excess):
        _raise_potentials(net, potential, excess)
        while _block(net, potential, excess):
            pass
    # Only differences to the ground mean anything.
    return net, [price - potential[net.ground] for price in potential[: net.ground]]


def _raise_potentials(net: _Circulation, potential: list[int], excess: list[int]) -> None:
    """Dijkstra from all nodes with too much, as far as the nearest with too little; keeps reduced costs at zero or above."""
    distance: list[int | None] = [0 if amount > 0 else None for amount in excess]
    settled = [False] * len(excess)
    queue = [(0, node) for node, amount in enumerate(excess) if amount > 0]
    reach = -1
    while queue:
        length, node = heapq.heappop(queue)
        if settled[node]:
            continue
        settled[node] = True
        if excess[node] < 0:
            reach = length
            break
        for arc in net.leaving[node]:
            if not net.residual[arc]:
                continue
            head = net.head[arc]
            step = length + net.cost[arc] + potential[node] - potential[head]
            known = distance[head]
            if known is None or step < known:
                distance[head] = step
                heapq.heappush(queue, (step, head))
    # INVARIANT: whoever has too much reaches somebody with too little, because what was pushed can be pushed back.
    assert reach >= 0, "a circulation problem always has a solution"
    for node, found in enumerate(distance):
        potential[node] += reach if found is None or found > reach else found


def _block(net: _Circulation, potential: list[int], excess: list[int]) -> bool:
    """One blocking flow over arcs of reduced cost zero, shortest in arcs (Dinic 1970); returns whether anything moved."""
    level = [0 if amount > 0 else -1 for amount in excess]
    queue = [node for node, amount in enumerate(excess) if amount > 0]
    for node in queue:  # grows while it is walked
        for arc in net.leaving[node]:
            head = net.head[arc]
            if level[head] < 0 and _tight(net, potential, node, arc):
                level[head] = level[node] + 1
                queue.append(head)
    if not any(excess[node] < 0 for node in queue):
        return False
    pointer = [0] * len(excess)
    for source in [node for node, amount in enumerate(excess) if amount > 0]:
        path: list[int] = []
        node = source
        while excess[source] > 0:
            if excess[node] < 0:
                amount = min(excess[source], -excess[node], *(net.residual[arc] for arc in path))
                for arc in path:
                    net.push(arc, amount)
                excess[source] -= amount
                excess[node] += amount
                path, node = [], source
                continue
            while pointer[node] < len(net.leaving[node]):
                arc = net.leaving[node][pointer[node]]
                if level[net.head[arc]] == level[node] + 1 and _tight(net, potential, node, arc):
                    break
                pointer[node] += 1
            else:  # a dead end: step back and do not come again
                if not path:
                    break
                node = net.head[path.pop() ^ 1]
                pointer[node] += 1
                continue
            path.append(arc)
            node = net.head[arc]
    return True


def _tight(net: _Circulation, potential: list[int], node: int, arc: int) -> bool:
    return net.residual[arc] > 0 and net.cost[arc] + potential[node] - potential[net.head[arc]] == 0


def _distances(net: _Circulation, *, from_ground: bool) -> list[int | None]:
    """Cheapest residual path from the ground to each node, or from each node to the ground (Bellman-Ford, queued)."""
    distance: list[int | None] = [None] * (net.ground + 1)
    distance[net.ground] = 0
    queue = [net.ground]
    waiting = {net.ground}
    position = 0
    while position < len(queue):
        node = queue[position]
        position += 1
        waiting.discard(node)
        here = distance[node]
        assert here is not None
        for leaving in net.leaving[node]:
            # Walking backwards, the arc into `node` is the reverse of one that leaves it.
            arc = leaving if from_ground else leaving ^ 1
            if not net.residual[arc]:
                continue
            other = net.head[leaving]
            length = here + net.cost[arc]
            known = distance[other]
            if known is None or length < known:
                distance[other] = length
                if other not in waiting:
                    waiting.add(other)
                    queue.append(other)
    return distance


def _flows(net: _Circulation) -> list[int]:
    # The two directions cancel: only the net flow pays.
    return [net.residual[arc ^ 1] - net.residual[arc + 3] for arc in net.edge_arc]


def _solution(net: _Circulation, prices: Sequence[int], flow_wh: Sequence[int]) -> Solution:
    return Solution(
        matched_demand_wh=tuple(net.residual[arc ^ 1] for arc in net.demand_arc),
        matched_supply_wh=tuple(net.residual[arc ^ 1] for arc in net.supply_arc),
        flow_wh=tuple(flow_wh),
        price_nano_per_wh=tuple(prices),
    )
