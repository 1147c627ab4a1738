"""The canonical clearing of a forest at given prices, and canonical prices of a given clearing."""

from __future__ import annotations

import numpy as np

from .compiling import NOWHERE, UNBOUNDED, Integers


def forest_flow(
    order: Integers,
    parent: Integers,
    parent_edge: Integers,
    edge_from: Integers,
    edge_fee: Integers,
    access: Integers,
    group_start: Integers,
    import_price: Integers,
    export_price: Integers,
    demand: Integers,
    supply: Integers,
    price: Integers,
) -> tuple[bool, Integers, Integers, Integers]:
    """The canonical clearing at given optimal prices on a forest.

    Prices settle everything but ties: groups whose outside price equals the node price, and edges whose price difference
    equals the fee. Ties are settled so that as little as possible is traded and moved for nothing: every tied group starts
    at no trade and every tied edge at the flow nearest zero; what a subtree then lacks or has too much is taken from the
    node's own groups in their order first, then from its children in breadth-first order.

    Returns:
        Whether the prices were optimal; matched demand and supply by group; flow by edge, all in Wh.
    """
    nodes = order.size
    groups = demand.size
    matched_demand = np.zeros(groups, np.int64)
    matched_supply = np.zeros(groups, np.int64)
    flow = np.zeros(edge_from.size, np.int64)
    base = np.zeros(nodes, np.int64)
    free_demand = np.zeros(nodes, np.int64)
    free_supply = np.zeros(nodes, np.int64)
    for node in range(nodes):
        for group in range(group_start[node], group_start[node + 1]):
            buying = import_price[group] - access[node]
            selling = export_price[group] + access[node]
            if price[node] < buying:
                matched_demand[group] = demand[group]
                base[node] -= demand[group]
            elif price[node] == buying:
                free_demand[node] += demand[group]
            if price[node] > selling:
                matched_supply[group] = supply[group]
                base[node] += supply[group]
            elif price[node] == selling:
                free_supply[node] += supply[group]
    # How much a subtree can send up, from and to; then what it sends if nothing is asked of it.
    least = base - free_demand
    most = base + free_supply
    resting = np.zeros(nodes, np.int64)
    children_rest = np.zeros(nodes, np.int64)
    for position in range(nodes - 1, -1, -1):
        node = order[position]
        above = parent[node]
        if above == NOWHERE:
            if least[node] > 0 or most[node] < 0:
                return False, matched_demand, matched_supply, flow
            least[node] = 0
            most[node] = 0
            continue
        fee = edge_fee[parent_edge[node]]
        if price[above] - price[node] != fee:
            most[node] = min(most[node], 0)
        if price[node] - price[above] != fee:
            least[node] = max(least[node], 0)
        if least[node] > most[node]:
            return False, matched_demand, matched_supply, flow
        resting[node] = min(max(0, least[node]), most[node])
        least[above] += least[node]
        most[above] += most[node]
        children_rest[above] += resting[node]
    # From the top: what each node must still find, first among its own groups, then among its children.
    wanted = np.zeros(nodes, np.int64)
    for position in range(nodes):
        node = order[position]
        above = parent[node]
        sends = 0
        if above != NOWHERE:
            sends = resting[node]
            change = 0
            if wanted[above] > 0:
                change = min(wanted[above], most[node] - resting[node])
            elif wanted[above] < 0:
                change = max(wanted[above], least[node] - resting[node])
            sends += change
            wanted[above] -= change
            edge = parent_edge[node]
            flow[edge] = sends if edge_from[edge] == node else -sends
        missing = sends - base[node] - children_rest[node]
        for group in range(group_start[node], group_start[node + 1]):
            if missing > 0 and price[node] == export_price[group] + access[node]:
                matched_supply[group] = min(missing, supply[group])
                missing -= matched_supply[group]
            elif missing < 0 and price[node] == import_price[group] - access[node]:
                matched_demand[group] = min(-missing, demand[group])
                missing += matched_demand[group]
        wanted[node] = missing
    return True, matched_demand, matched_supply, flow


def forest_price_middle(
    order: Integers,
    parent: Integers,
    parent_edge: Integers,
    edge_from: Integers,
    edge_fee: Integers,
    access: Integers,
    group_start: Integers,
    import_price: Integers,
    export_price: Integers,
    demand: Integers,
    supply: Integers,
    matched_demand: Integers,
    matched_supply: Integers,
    flow: Integers,
    floor_price: int,
    ceiling_price: int,
) -> Integers:
    """The canonical prices of a forest, read from any optimal clearing.

    The optimal prices are those that no residual arc contradicts; the smallest and the largest are shortest residual paths to
    and from the outside, which on a tree take one pass up and one down.

    Args:
        matched_demand: by group, of an optimal clearing.
        matched_supply: by group.
        flow: by edge, signed.
        floor_price: no optimal price need be below.
        ceiling_price: nor above.

    Returns:
        By node, nano per Wh; the same as `sweep_down`'s.
    """
    nodes = order.size
    above = np.full(nodes, UNBOUNDED, np.int64)
    below = np.full(nodes, -UNBOUNDED, np.int64)
    for node in range(nodes):
        for group in range(group_start[node], group_start[node + 1]):
            buying = import_price[group] - access[node]
            selling = export_price[group] + access[node]
            if matched_demand[group] > 0:
                above[node] = min(above[node], buying)
            if matched_demand[group] < demand[group]:
                below[node] = max(below[node], buying)
            if matched_supply[group] > 0:
                below[node] = max(below[node], selling)
            if matched_supply[group] < supply[group]:
                above[node] = min(above[node], selling)
    for direction in range(2):
        for step in range(nodes):
            node = order[nodes - 1 - step] if direction == 0 else order[step]
            top = parent[node]
            if top == NOWHERE:
                continue
            edge = parent_edge[node]
            fee = edge_fee[edge]
            upward = flow[edge] if edge_from[edge] == node else -flow[edge]
            # price[top] - price[node] lies between these.
            least = fee if upward > 0 else -fee
            most = -fee if upward < 0 else fee
            if direction == 0:
                above[top] = min(above[top], above[node] + most)
                below[top] = max(below[top], below[node] + least)
            else:
                above[node] = min(above[node], above[top] - least)
                below[node] = max(below[node], below[top] - most)
    middle = np.empty(nodes, np.int64)
    for node in range(nodes):
        bottom = min(max(below[node], floor_price), ceiling_price)
        top_price = max(min(above[node], ceiling_price), floor_price)
        middle[node] = (bottom + top_price) >> 1
    return middle
