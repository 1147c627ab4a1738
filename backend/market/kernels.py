"""The inner loops, over plain integer arrays, so that the same source runs interpreted and compiled.

Small markets run it as it stands. Large ones have it compiled by numba (extra `scale`), where it is installed; results are
the same, only sooner. Loops here are written for a compiler, one scalar at a time, on purpose.

Every integer stays below 2^63: prices are below 2^42 after shifts along a path, energies below 2^62 in sum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# Below this many nodes and members, starting the compiler costs more than it saves.
COMPILE_FROM = 3000
NOWHERE = -1
UNBOUNDED = 1 << 60


@cache
def _numba() -> Any:
    try:
        import numba
    except ImportError:
        return None
    return numba


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    numba = _numba()
    return function if numba is None else numba.njit(function, cache=True, nogil=True)


def kernel(function: Callable[..., Any], *, compiled: bool) -> Callable[..., Any]:
    """The function as it stands, or compiled if numba is there."""
    return _compiled(function) if compiled else function


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
    one: int, other: int, key: Integers, lazy: Integers, left: Integers, right: Integers
) -> int:
    """Joins two min-heaps (skew heaps; Sleator and Tarjan 1986) whose keys can be shifted as a whole.

    A node's `lazy` is still to be added to the keys of its children's subtrees.
    """
    if one == NOWHERE:
        return other
    if other == NOWHERE:
        return one
    if key[one] > key[other]:
        one, other = other, one
    root = one
    while True:
        shift = lazy[one]
        if shift != 0:
            for child in (left[one], right[one]):
                if child != NOWHERE:
                    key[child] += shift
                    lazy[child] += shift
            lazy[one] = 0
        below = right[one]
        right[one] = left[one]
        if below == NOWHERE:
            left[one] = other
            return root
        if key[below] > key[other]:
            below, other = other, below
        left[one] = below
        one = below


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
    left = np.full(capacity, NOWHERE, np.int64)
    right = np.full(capacity, NOWHERE, np.int64)
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
                    low[node] = join(low[node], used, key, lazy, left, right)
                else:
                    key[used] = access[node] + export_price[group]
                    high[node] = join(high[node], used, key, lazy, left, right)
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
                shift = lazy[top]
                for child in (left[top], right[top]):
                    if child != NOWHERE and shift != 0:
                        key[child] += shift
                        lazy[child] += shift
                rest = join(left[top], right[top], key, lazy, left, right)
                lazy[top] = 0
                left[top] = NOWHERE
                right[top] = NOWHERE
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
                into = join(into, item, key, lazy, left, right)
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
                    low[above_node] = join(low[above_node], top, key, lazy, left, right)
                else:
                    high[above_node] = join(high[above_node], top, key, lazy, left, right)
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


def transfers(
    edge_from: Integers, edge_to: Integers, flow: Integers, net_export: Integers
) -> tuple[bool, Integers, Integers, Integers]:
    """Who supplies whom, between nodes: energy goes along the flow first in, first out.

    Nodes are taken in topological order of the flow, lowest number first among those that are ready. A node's queue holds what
    arrived, in order of arrival; its own surplus goes to the front. It serves its own need first, then its outgoing edges
    in their order.

    Args:
        edge_from: (E,).
        edge_to: (E,).
        flow: (E,) signed, Wh.
        net_export: (V,) supply minus use at each node, Wh.

    Returns:
        Whether the flow has no circle; source, sink and energy of each transfer.
    """
    nodes = net_export.size
    edges = flow.size
    out_start = np.zeros(nodes + 1, np.int64)
    waiting = np.zeros(nodes, np.int64)
    for e in range(edges):
        if flow[e] != 0:
            out_start[(edge_from[e] if flow[e] > 0 else edge_to[e]) + 1] += 1
            waiting[edge_to[e] if flow[e] > 0 else edge_from[e]] += 1
    for v in range(nodes):
        out_start[v + 1] += out_start[v]
    fill = out_start.copy()
    outgoing = np.empty(out_start[nodes], np.int64)
    for e in range(edges):
        if flow[e] != 0:
            tail = edge_from[e] if flow[e] > 0 else edge_to[e]
            outgoing[fill[tail]] = e
            fill[tail] += 1
    # A lot is split at most once by each need and each edge.
    room = 2 * nodes + edges + 1
    lot_source = np.empty(room, np.int64)
    lot_energy = np.empty(room, np.int64)
    lot_next = np.full(room, NOWHERE, np.int64)
    lots = 0
    first = np.full(nodes, NOWHERE, np.int64)
    last = np.full(nodes, NOWHERE, np.int64)
    source = np.empty(room, np.int64)
    sink = np.empty(room, np.int64)
    energy = np.empty(room, np.int64)
    count = 0
    ready = np.empty(nodes, np.int64)
    ready_count = 0
    for v in range(nodes):
        if waiting[v] == 0:
            ready[ready_count] = v
            ready_count += 1
    position = 0
    while position < ready_count:
        node = ready[position]
        position += 1
        if net_export[node] > 0:
            lot_source[lots] = node
            lot_energy[lots] = net_export[node]
            lot_next[lots] = first[node]
            if first[node] == NOWHERE:
                last[node] = lots
            first[node] = lots
            lots += 1
        need = -net_export[node]
        while need > 0:
            lot = first[node]
            if lot == NOWHERE:
                return False, source[:0], sink[:0], energy[:0]
            taken = min(need, lot_energy[lot])
            if count == source.size:
                return False, source[:0], sink[:0], energy[:0]
            source[count] = lot_source[lot]
            sink[count] = node
            energy[count] = taken
            count += 1
            need -= taken
            lot_energy[lot] -= taken
            if lot_energy[lot] == 0:
                first[node] = lot_next[lot]
        for slot in range(out_start[node], out_start[node + 1]):
            e = outgoing[slot]
            head = edge_to[e] if flow[e] > 0 else edge_from[e]
            rest = abs(flow[e])
            if slot == out_start[node + 1] - 1:
                # All that is left goes the last way, however long the queue.
                if first[node] != NOWHERE:
                    if first[head] == NOWHERE:
                        first[head] = first[node]
                    else:
                        lot_next[last[head]] = first[node]
                    last[head] = last[node]
                    first[node] = NOWHERE
                rest = 0
            while rest > 0:
                lot = first[node]
                if lot == NOWHERE:
                    return False, source[:0], sink[:0], energy[:0]
                taken = min(rest, lot_energy[lot])
                rest -= taken
                if taken == lot_energy[lot]:
                    first[node] = lot_next[lot]
                    moved = lot
                else:
                    lot_energy[lot] -= taken
                    moved = lots
                    lots += 1
                    lot_source[moved] = lot_source[lot]
                    lot_energy[moved] = taken
                lot_next[moved] = NOWHERE
                if first[head] == NOWHERE:
                    first[head] = moved
                else:
                    lot_next[last[head]] = moved
                last[head] = moved
            waiting[head] -= 1
            if waiting[head] == 0:
                ready[ready_count] = head
                ready_count += 1
    return ready_count == nodes, source[:count], sink[:count], energy[:count]


def share_members(
    member_order: Integers, group_first: Integers, quantity: Integers, matched: Integers
) -> Integers:
    """Telescoping shares of each group's matched energy (mechanism, section 5) in sums that fit 64 bits.

    floor((P + q) M / Q) is computed by long division in halves where P M would not fit.

    Args:
        member_order: members sorted by group, in member order within.
        group_first: (G + 1,) where each group's members begin.
        quantity: by member, Wh on this side of the market, zero for the others.
        matched: by group, Wh.

    Returns:
        By member, Wh.
    """
    share = np.zeros(quantity.size, np.int64)
    for group in range(matched.size):
        total = 0
        for slot in range(group_first[group], group_first[group + 1]):
            total += quantity[member_order[slot]]
        if total == 0 or matched[group] == 0:
            continue
        if matched[group] == total:
            for slot in range(group_first[group], group_first[group + 1]):
                share[member_order[slot]] = quantity[member_order[slot]]
            continue
        # before * M = whole * Q + rest, carried from member to member with rest < Q.
        whole = 0
        rest = 0
        for slot in range(group_first[group], group_first[group + 1]):
            member = member_order[slot]
            # Add quantity * M, bit by bit from the top, so that no intermediate exceeds 2 Q.
            part_whole = 0
            part_rest = 0
            amount = quantity[member]
            if amount != 0 and matched[group] <= (1 << 62) // amount:
                part_whole = amount * matched[group] // total
                part_rest = amount * matched[group] % total
            else:
                for bit in range(61, -1, -1):
                    part_whole *= 2
                    part_rest *= 2
                    if part_rest >= total:
                        part_rest -= total
                        part_whole += 1
                    if (amount >> bit) & 1:
                        part_rest += matched[group]
                        if part_rest >= total:
                            part_rest -= total
                            part_whole += 1
            rest += part_rest
            step = part_whole
            if rest >= total:
                rest -= total
                step += 1
            share[member] = step
            whole += step
    return share


def pair_lines(
    source: Integers,
    sink: Integers,
    energy: Integers,
    sell_members: Integers,
    sell_first: Integers,
    sell_share: Integers,
    buy_members: Integers,
    buy_first: Integers,
    buy_share: Integers,
) -> tuple[Integers, Integers, Integers, Integers]:
    """Pairs sellers and buyers in order, transfer by transfer.

    Args:
        source: by transfer, node.
        sink: by transfer, node.
        energy: by transfer, Wh.
        sell_members: sellers sorted by node, then group, then member order.
        sell_first: (V + 1,) where each node's sellers begin.
        sell_share: by entry of `sell_members`, Wh; used up.
        buy_members: as `sell_members`, for buyers.
        buy_first: as `sell_first`.
        buy_share: as `sell_share`; used up.

    Returns:
        By trade: seller, buyer, energy, transfer.
    """
    room = sell_members.size + buy_members.size + energy.size
    seller = np.empty(room, np.int64)
    buyer = np.empty(room, np.int64)
    traded = np.empty(room, np.int64)
    transfer = np.empty(room, np.int64)
    sell_at = sell_first[:-1].copy()
    buy_at = buy_first[:-1].copy()
    count = 0
    for number in range(energy.size):
        left = energy[number]
        here, there = source[number], sink[number]
        while left > 0:
            while sell_share[sell_at[here]] == 0:
                sell_at[here] += 1
            while buy_share[buy_at[there]] == 0:
                buy_at[there] += 1
            one, other = sell_at[here], buy_at[there]
            amount = min(left, sell_share[one], buy_share[other])
            seller[count] = sell_members[one]
            buyer[count] = buy_members[other]
            traded[count] = amount
            transfer[count] = number
            count += 1
            sell_share[one] -= amount
            buy_share[other] -= amount
            left -= amount
    return seller[:count], buyer[:count], traded[:count], transfer[:count]
