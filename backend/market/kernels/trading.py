"""From matched energy to trades between members."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiling import NOWHERE, Integers

Positions = NDArray[np.int32]


def add_up(index: Integers, values: Integers, size: int) -> Integers:
    """Sums of `values` by `index`, exact in 64 bits, which `bincount` with weights is not."""
    total = np.zeros(size, np.int64)
    for position in range(index.size):
        total[index[position]] += values[position]
    return total


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
) -> tuple[Positions, Positions, Integers, Positions]:
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
    # Positions fit 32 bits, which is what a million members' trades are made of.
    seller = np.empty(room, np.int32)
    buyer = np.empty(room, np.int32)
    traded = np.empty(room, np.int64)
    transfer = np.empty(room, np.int32)
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
