"""Walking a forest, and the two sweeps over it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .compiling import NOWHERE, UNBOUNDED, Integers


def root_forest(
    node_count: int, edge_from: Integers, edge_to: Integers
) -> tuple[bool, Integers, Integers, Integers]:
    """Walks the graph breadth first, each tree from its lowest-numbered node.

    Args:
        node_count: V.
        edge_from: (E,) node numbers.
        edge_to: (E,) node numbers.

    Returns:
        Whether the graph is a forest; order (V,) of the walk; parent (V,) and parent edge (V,) or `NOWHERE`.
    """
    degree = np.zeros(node_count + 1, np.int64)
    for e in range(edge_from.size):
        degree[edge_from[e] + 1] += 1
        degree[edge_to[e] + 1] += 1
    for v in range(node_count):
        degree[v + 1] += degree[v]
    start = degree.copy()
    neighbour = np.empty(2 * edge_from.size, np.int64)
    by_edge = np.empty(2 * edge_from.size, np.int64)
    for e in range(edge_from.size):
        for end in range(2):
            here = edge_from[e] if end == 0 else edge_to[e]
            there = edge_to[e] if end == 0 else edge_from[e]
            neighbour[start[here]] = there
            by_edge[start[here]] = e
            start[here] += 1
    order = np.empty(node_count, np.int64)
    parent = np.full(node_count, NOWHERE, np.int64)
    parent_edge = np.full(node_count, NOWHERE, np.int64)
    seen = np.zeros(node_count, np.bool_)
    found = 0
    tree_edges = 0
    for source in range(node_count):
        if seen[source]:
            continue
        seen[source] = True
        order[found] = source
        position = found
        found += 1
        while position < found:
            node = order[position]
            position += 1
            for slot in range(degree[node], degree[node + 1]):
                other = neighbour[slot]
                if not seen[other]:
                    seen[other] = True
                    parent[other] = node
                    parent_edge[other] = by_edge[slot]
                    order[found] = other
                    found += 1
                    tree_edges += 1
    return tree_edges == edge_from.size, order, parent, parent_edge


def meld(
    one: int, other: int, key: Integers, lazy: Integers, child: Integers, sibling: Integers
) -> int:
    """Joins two min-heaps whose keys can be shifted as a whole, in constant time.

    Pairing heaps (Fredman, Sedgewick, Sleator and Tarjan 1986). A node's `lazy` is still to be added to the keys of all below
    it, so what comes below it is stored as much lower.
    """
    if one == NOWHERE:
        return other
    if other == NOWHERE:
        return one
    if key[one] > key[other]:
        one, other = other, one
    key[other] -= lazy[one]
    lazy[other] -= lazy[one]
    sibling[other] = child[one]
    child[one] = other
    return one


def sweep_up(
    order: Integers,
    parent: Integers,
    parent_edge: Integers,
    edge_fee: Integers,
    access: Integers,
    group_start: Integers,
    import_price: Integers,
    export_price: Integers,
    demand: Integers,
    supply: Integers,
    capacity: int,
    join: Callable[..., int],
) -> tuple[bool, Integers, Integers]:
    """Upward sweep: between which prices each node's subtree needs nothing from above.

    A subtree's net supply is a step function of the price at its top. `low` holds the steps below the zero crossing (as
    much energy as there is demand), keyed by minus the price; `high` those above (as much as there is supply). On the way
    up an edge of fee w, what is exported gets dearer by w and what is imported must get cheaper by w: both keys grow by w.
    Where two subtrees meet, steps that overlap change sides, which is energy being traded.

    Args:
        order: breadth-first order of the nodes.
        parent: by node.
        parent_edge: by node.
        edge_fee: by edge, nano per Wh.
        access: by node, nano per Wh.
        group_start: (V + 1,) where each node's groups begin; groups are sorted by node.
        import_price: by group.
        export_price: by group.
        demand: by group, Wh.
        supply: by group, Wh.
        capacity: room for steps.
        join: `meld`, compiled if this is.

    Returns:
        Whether the room was enough; by node the lowest and highest price at which the subtree is balanced in itself.
    """
    nodes = order.size
    key = np.empty(capacity, np.int64)
    mass = np.empty(capacity, np.int64)
    lazy = np.zeros(capacity, np.int64)
    child = np.full(capacity, NOWHERE, np.int64)
    sibling = np.full(capacity, NOWHERE, np.int64)
    free = np.empty(capacity, np.int64)
    free_count = 0
    used = 0
    low = np.full(nodes, NOWHERE, np.int64)
    high = np.full(nodes, NOWHERE, np.int64)
    lowest = np.full(nodes, -UNBOUNDED, np.int64)
    highest = np.full(nodes, UNBOUNDED, np.int64)
    for position in range(nodes - 1, -1, -1):
        node = order[position]
        for group in range(group_start[node], group_start[node + 1]):
            for side in range(2):
                amount = demand[group] if side == 0 else supply[group]
                if amount == 0:
                    continue
                if used == capacity:
                    return False, lowest, highest
                mass[used] = amount
                if side == 0:
                    key[used] = access[node] - import_price[group]
                    low[node] = join(low[node], used, key, lazy, child, sibling)
                else:
                    key[used] = access[node] + export_price[group]
                    high[node] = join(high[node], used, key, lazy, child, sibling)
                used += 1
        while (
            low[node] != NOWHERE and high[node] != NOWHERE and key[low[node]] + key[high[node]] < 0
        ):
            below, above = low[node], high[node]
            price_below, price_above = -key[below], key[above]
            amount = min(mass[below], mass[above])
            for side in range(2):
                top = below if side == 0 else above
                if mass[top] > amount:
                    mass[top] -= amount
                    continue
                # Take the top away: join its children two by two, then the pairs.
                shift = lazy[top]
                item = child[top]
                lazy[top] = 0
                child[top] = NOWHERE
                pairs = NOWHERE
                while item != NOWHERE:
                    second = sibling[item]
                    following = NOWHERE
                    key[item] += shift
                    lazy[item] += shift
                    if second != NOWHERE:
                        following = sibling[second]
                        key[second] += shift
                        lazy[second] += shift
                        item = join(item, second, key, lazy, child, sibling)
                    sibling[item] = pairs
                    pairs = item
                    item = following
                rest = NOWHERE
                while pairs != NOWHERE:
                    following = sibling[pairs]
                    rest = join(rest, pairs, key, lazy, child, sibling)
                    pairs = following
                free[free_count] = top
                free_count += 1
                if side == 0:
                    low[node] = rest
                else:
                    high[node] = rest
            for side in range(2):
                value = -price_above if side == 0 else price_below
                into = low[node] if side == 0 else high[node]
                if into != NOWHERE and key[into] == value:
                    mass[into] += amount
                    continue
                if free_count > 0:
                    free_count -= 1
                    item = free[free_count]
                elif used < capacity:
                    item = used
                    used += 1
                else:
                    return False, lowest, highest
                key[item] = value
                mass[item] = amount
                into = join(into, item, key, lazy, child, sibling)
                if side == 0:
                    low[node] = into
                else:
                    high[node] = into
        if low[node] != NOWHERE:
            lowest[node] = -key[low[node]]
        if high[node] != NOWHERE:
            highest[node] = key[high[node]]
        above_node = parent[node]
        if above_node != NOWHERE:
            fee = edge_fee[parent_edge[node]]
            for side in range(2):
                top = low[node] if side == 0 else high[node]
                if top == NOWHERE:
                    continue
                key[top] += fee
                lazy[top] += fee
                if side == 0:
                    low[above_node] = join(low[above_node], top, key, lazy, child, sibling)
                else:
                    high[above_node] = join(high[above_node], top, key, lazy, child, sibling)
    return True, lowest, highest


def sweep_down(
    order: Integers,
    parent: Integers,
    parent_edge: Integers,
    edge_fee: Integers,
    lowest: Integers,
    highest: Integers,
    floor_price: int,
    ceiling_price: int,
) -> Integers:
    """Downward sweep: the canonical prices, midpoints of the smallest and the largest optimal ones.

    A node's price is its parent's moved into reach of the fee and, where that leaves a choice, into the interval in which its
    own subtree is balanced.

    Args:
        lowest: by node, from `sweep_up`.
        highest: by node, from `sweep_up`.
        floor_price: no optimal price need be below (`exact.price_bounds`).
        ceiling_price: nor above.

    Returns:
        By node, nano per Wh.
    """
    nodes = order.size
    smallest = np.empty(nodes, np.int64)
    largest = np.empty(nodes, np.int64)
    middle = np.empty(nodes, np.int64)
    for position in range(nodes):
        node = order[position]
        above = parent[node]
        if above == NOWHERE:
            smallest[node] = lowest[node]
            largest[node] = highest[node]
        else:
            fee = edge_fee[parent_edge[node]]
            for side in range(2):
                price = smallest[above] if side == 0 else largest[above]
                bottom, top = price - fee, price + fee
                if bottom >= highest[node]:
                    found = bottom
                elif top <= lowest[node]:
                    found = top
                elif side == 0:
                    found = max(bottom, lowest[node])
                else:
                    found = min(top, highest[node])
                if side == 0:
                    smallest[node] = found
                else:
                    largest[node] = found
        bottom = min(max(smallest[node], floor_price), ceiling_price)
        top = max(min(largest[node], ceiling_price), floor_price)
        middle[node] = (bottom + top) >> 1
    return middle
