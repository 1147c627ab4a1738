"""Prices and energies to the last digits, once it is known who trades with whom.

Trading pairs without a circle of equal costs form a forest. Within a tree all prices follow from one of them, by the pairs' costs;
that one follows from the tree's balance, which is one piecewise linear equation; energies follow leaf by leaf. O(N) a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from .problem import Agents, Floats, Indices

_BISECTIONS = 60


def forest_solution(
    agents: Agents,
    ends: tuple[Indices, Indices],
    cost: Floats,
    energy: Floats,
    price: Floats,
) -> tuple[Floats, Floats]:
    """Prices at which all chosen pairs break even and all trees balance, and the energies that go with them.

    Args:
        agents: N of them.
        ends: (K,) from and to; N stands for the outside, whose price is 0.
        cost: (K,) per unit.
        energy: (K,) above zero for chosen pairs; of a circle the pair with the least is left out.
        price: (N,) to begin with.

    Returns:
        Prices (N,); energies (K,), some negative if the choice was wrong.
    """
    count = agents.count
    chosen = _spanning(ends, energy, count + 1)
    start, end = ends[0][chosen], ends[1][chosen]
    links = coo_array((np.ones(chosen.size), (start, end)), shape=(count + 1, count + 1))
    trees, tree = connected_components(links, directed=False)
    order, parent, edge = _walk(start, end, tree, trees, count + 1)
    offset, parents, edges = [0.0] * (count + 1), parent.tolist(), edge.tolist()
    # A root has no link; whatever stands there for it is not read.
    to_node = np.append(end, -1)[edge] == np.arange(count + 1)
    paid = np.append(cost[chosen], 0.0)[edge]
    steps = np.where(to_node, paid, -paid).tolist()
    for node in order:
        if parents[node] >= 0:
            offset[node] = offset[parents[node]] + steps[node]
    relative = np.array(offset)
    shift = _balancing_shift(agents, relative, tree, trees, price)
    prices = relative[:count] + shift[tree[:count]]
    power = _balanced_power(agents, prices, tree, trees)
    net, flow = [*power.tolist(), 0.0], [0.0] * chosen.size
    heads = end.tolist()
    for node in reversed(order):
        above = parents[node]
        if above >= 0:
            net[above] += net[node]
            flow[edges[node]] = -net[node] if heads[edges[node]] == node else net[node]
    found = np.zeros(energy.size)
    found[chosen] = flow
    return prices, found


def _spanning(ends: tuple[Indices, Indices], energy: Floats, nodes: int) -> Indices:
    """Chosen pairs without circles: those with most energy first."""
    used = np.flatnonzero(energy > 0)
    rank = np.empty(used.size)
    rank[np.argsort(-energy[used], kind="stable")] = np.arange(1, used.size + 1)
    low = np.minimum(ends[0][used], ends[1][used])
    high = np.maximum(ends[0][used], ends[1][used])
    # Two agents that sell to each other are one link, whichever has more energy.
    order = np.lexsort((rank, high, low))
    low, high, rank, used = low[order], high[order], rank[order], used[order]
    first = np.ones(used.size, np.bool_)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    graph = coo_array((rank[first], (low[first], high[first])), shape=(nodes, nodes)).tocsr()
    kept = minimum_spanning_tree(graph).data.astype(np.int64)
    by_rank = np.empty(used.size + 1, np.int64)
    by_rank[rank.astype(np.int64)] = used
    chosen: Indices = by_rank[kept]
    return chosen


def _walk(
    start: Indices, end: Indices, tree: NDArray[np.int32], trees: int, nodes: int
) -> tuple[list[int], Indices, Indices]:
    """Nodes from the roots outwards, each one's parent (-1 for a root) and link to it (0 for a root)."""
    roots = np.unique(tree, return_index=True)[1]
    top = nodes
    number = np.arange(1, start.size + 1, dtype=np.float64)
    rows = np.concatenate([start, np.full(trees, top)])
    columns = np.concatenate([end, roots])
    graph = coo_array(
        (np.concatenate([number, np.full(trees, start.size + 1.0)]), (rows, columns)),
        shape=(nodes + 1, nodes + 1),
    ).tocsr()
    order, before = breadth_first_order(graph, top, directed=False)
    parent = before[:nodes].astype(np.int64)
    link = np.zeros(nodes, np.int64)
    # A link joins a node and its parent, in either direction.
    down = parent[end] == start
    link[end[down]] = np.flatnonzero(down)
    link[start[~down]] = np.flatnonzero(~down)
    parent[parent == top] = -1
    return order[1:].tolist(), parent, link


def _balancing_shift(
    agents: Agents, relative: Floats, tree: NDArray[np.int32], trees: int, price: Floats
) -> Floats:
    """(trees,) what to add to each tree's relative prices so that it balances; the outside's tree has its price."""
    count = agents.count
    here = tree[:count]
    base = relative[:count]
    sure = np.where(agents.a > 0, agents.a, 0.0)
    low, high = np.full(trees, np.inf), np.full(trees, -np.inf)
    np.minimum.at(low, here, agents.b + sure * agents.lower - base - 1)
    np.maximum.at(high, here, agents.b + sure * agents.upper - base + 1)
    empty = np.isinf(low)
    low[empty], high[empty] = 0.0, 0.0
    guess = np.bincount(here, price - base, trees) / np.maximum(
        np.bincount(here, minlength=trees), 1
    )
    shift = np.clip(guess, low, high)
    for _ in range(_BISECTIONS):
        at = base + shift[here]
        surplus = np.bincount(here, agents.response(at), trees)
        low, high = np.where(surplus <= 0, shift, low), np.where(surplus >= 0, shift, high)
        inner = (agents.a > 0) & (at > agents.b + agents.a * agents.lower)
        inner &= at < agents.b + agents.a * agents.upper
        slope = np.bincount(here, np.where(inner, 1 / np.where(inner, agents.a, 1.0), 0.0), trees)
        newton = shift - surplus / np.where(slope > 0, slope, 1.0)
        within = (slope > 0) & (newton >= low) & (newton <= high)
        moved = np.where(surplus == 0, shift, np.where(within, newton, (low + high) / 2))
        if np.abs(moved - shift).max(initial=0.0) <= 1e-16 * (1 + np.abs(shift).max(initial=0.0)):
            break
        shift = moved
    outside = tree[count]
    shift[outside] = -relative[count]
    return shift


def _balanced_power(agents: Agents, prices: Floats, tree: NDArray[np.int32], trees: int) -> Floats:
    """(N,) powers that balance in each tree: what is missing is put on the agent with a constant cost nearest to its price."""
    here = tree[: agents.count]
    power = agents.response(prices)
    missing = -np.bincount(here, power, trees)
    missing[tree[agents.count]] = 0.0
    constant = np.flatnonzero(agents.a == 0)
    nearest = constant[np.argsort(np.abs(prices - agents.b)[constant], kind="stable")]
    _, first = np.unique(here[nearest], return_index=True)
    for agent in nearest[first].tolist():
        power[agent] += missing[here[agent]]
    return power
