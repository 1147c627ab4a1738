"""A whole series of intervals in one loop: clear, prove, price and settle without going back to Python in between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .compiling import Integers

# Columns of what `clear_series` returns for each interval.
OUTSIDE, COST, FEES, DUST, GAP, DISCOUNT, PREMIUM, TRADES = range(8)
COLUMNS = 8
_MILLION = 1_000_000


def clear_series(
    nets: Integers,
    member_group: Integers,
    by_group: Integers,
    group_first: Integers,
    order: Integers,
    parent: Integers,
    parent_edge: Integers,
    edge_from: Integers,
    edge_to: Integers,
    edge_fee: Integers,
    access: Integers,
    group_node: Integers,
    group_start: Integers,
    import_price: Integers,
    export_price: Integers,
    floor_price: int,
    ceiling_price: int,
    share_millionths: int,
    capacity: int,
    amounts: Integers,
    seller: NDArray[np.int32],
    buyer: NDArray[np.int32],
    traded: Integers,
    fee_rate: Integers,
    join: Callable[..., int],
    sweep_up: Callable[..., tuple[bool, Integers, Integers]],
    sweep_down: Callable[..., Integers],
    forest_flow: Callable[..., tuple[bool, Integers, Integers, Integers]],
    transfers: Callable[..., tuple[bool, Integers, Integers, Integers]],
    share_members: Callable[..., Integers],
    pair_lines: Callable[..., tuple[Integers, Integers, Integers, Integers]],
    line_up: Callable[..., tuple[Integers, Integers, Integers]],
) -> tuple[int, Integers]:
    """Clears interval after interval; the caller has made sure that all money fits 62 bits.

    Args:
        nets: (T, N) net positions, Wh.
        member_group: (N,).
        by_group: members sorted by group.
        group_first: (G + 1,) where each group's members begin in `by_group`.
        order: and the following, as `MarketArrays`.
        share_millionths: the buyers' share of the savings.
        capacity: room for the sweep's steps.
        amounts: (T, N), filled: what each member receives, nano.
        seller: filled, trade by trade, intervals one after the other.
        buyer: filled.
        traded: filled, Wh.
        fee_rate: filled, nano per Wh.
        join: and the following, the loops of the other modules.

    Returns:
        How many intervals were done before room ran out or a proof failed; (T, COLUMNS) results.
    """
    groups, nodes, members = group_node.size, access.size, member_group.size
    results = np.zeros((nets.shape[0], COLUMNS), np.int64)
    done_trades = 0
    for t in range(nets.shape[0]):
        net = nets[t]
        demand = np.zeros(groups, np.int64)
        supply = np.zeros(groups, np.int64)
        for member in range(members):
            if net[member] < 0:
                demand[member_group[member]] -= net[member]
            else:
                supply[member_group[member]] += net[member]
        asked = 0
        offered = 0
        for g in range(groups):
            asked += import_price[g] * demand[g]
            offered += export_price[g] * supply[g]
        if not np.any(demand) or not np.any(supply):
            # With one side missing there is nothing to match, and prices beyond everybody's reach prove it.
            results[t, OUTSIDE] = asked - offered
            results[t, COST] = asked - offered
            for member in range(members):
                g = member_group[member]
                at = import_price[g] if net[member] < 0 else export_price[g]
                amounts[t, member] = net[member] * at
            continue
        enough, lowest, highest = sweep_up(
            order,
            parent,
            parent_edge,
            edge_fee,
            access,
            group_start,
            import_price,
            export_price,
            demand,
            supply,
            capacity,
            join,
        )
        if not enough:
            return t, results
        price = sweep_down(
            order, parent, parent_edge, edge_fee, lowest, highest, floor_price, ceiling_price
        )
        optimal, bought, sold, flow = forest_flow(
            order,
            parent,
            parent_edge,
            edge_from,
            edge_fee,
            access,
            group_start,
            import_price,
            export_price,
            demand,
            supply,
            price,
        )
        if not optimal:
            return t, results
        # The certificate, as `market.certificate` states it.
        outside = 0
        residual = 0
        fees = 0
        dual = 0
        total_demand = 0
        total_supply = 0
        balance = np.zeros(nodes, np.int64)
        for g in range(groups):
            v = group_node[g]
            r, f, a = import_price[g], export_price[g], access[v]
            outside += r * demand[g] - f * supply[g]
            residual += r * (demand[g] - bought[g]) - f * (supply[g] - sold[g])
            fees += a * (bought[g] + sold[g])
            dual += min(r, price[v] + a) * demand[g] - max(f, price[v] - a) * supply[g]
            total_demand += demand[g]
            total_supply += supply[g]
            balance[v] += sold[g] - bought[g]
            if bought[g] > demand[g] or sold[g] > supply[g]:
                return t, results
        for e in range(edge_fee.size):
            u, v = edge_from[e], edge_to[e]
            balance[u] -= flow[e]
            balance[v] += flow[e]
            fees += edge_fee[e] * abs(flow[e])
            if abs(price[u] - price[v]) > edge_fee[e]:
                return t, results
        for v in range(nodes):
            if balance[v] != 0:
                return t, results
        savings = outside - residual - fees
        discount = 0
        premium = 0
        if total_demand > 0:
            discount = savings * share_millionths // (_MILLION * total_demand)
        if total_supply > 0:
            premium = savings * (_MILLION - share_millionths) // (_MILLION * total_supply)
        for member in range(members):
            g = member_group[member]
            if net[member] < 0:
                amounts[t, member] = net[member] * (import_price[g] - discount)
            else:
                amounts[t, member] = net[member] * (export_price[g] + premium)

        # Who bought from whom, as `market.trades` derives it.
        sold_share = share_members(by_group, group_first, np.maximum(net, 0), sold)
        bought_share = share_members(by_group, group_first, np.maximum(-net, 0), bought)
        sell_first, sell_members, sell_amounts = line_up(
            sold_share, by_group, member_group, group_node, nodes
        )
        buy_first, buy_members, buy_amounts = line_up(
            bought_share, by_group, member_group, group_node, nodes
        )
        surplus = np.zeros(nodes, np.int64)
        used = np.zeros(nodes, np.int64)
        for g in range(groups):
            surplus[group_node[g]] += sold[g]
            used[group_node[g]] += bought[g]
        straight, source, sink, energy = transfers(edge_from, edge_to, flow, surplus - used)
        if not straight:
            return t, results
        local = np.flatnonzero(np.minimum(surplus, used))
        source = np.concatenate((local, source))
        sink = np.concatenate((local, sink))
        energy = np.concatenate((np.minimum(surplus, used)[local], energy))
        one, other, amount, number = pair_lines(
            source,
            sink,
            energy,
            sell_members,
            sell_first,
            sell_amounts,
            buy_members,
            buy_first,
            buy_amounts,
        )
        if done_trades + one.size > seller.size:
            return t, results
        for position in range(one.size):
            here, there = source[number[position]], sink[number[position]]
            seller[done_trades] = one[position]
            buyer[done_trades] = other[position]
            traded[done_trades] = amount[position]
            fee_rate[done_trades] = access[here] + price[there] - price[here] + access[there]
            done_trades += 1
        results[t, OUTSIDE] = outside
        results[t, COST] = residual + fees
        results[t, FEES] = fees
        results[t, DUST] = savings - discount * total_demand - premium * total_supply
        results[t, GAP] = residual + fees - dual
        results[t, DISCOUNT] = discount
        results[t, PREMIUM] = premium
        results[t, TRADES] = one.size
    return nets.shape[0], results


def members_in_line(
    share: Integers, by_group: Integers, member_group: Integers, group_node: Integers, nodes: int
) -> tuple[Integers, Integers, Integers]:
    """The members with a share, sorted by node, then group, then member order.

    Args:
        share: (N,) Wh.
        by_group: members sorted by group; groups are sorted by node.
        member_group: (N,).
        group_node: (G,).
        nodes: V.

    Returns:
        Where each node's members begin (V + 1,), the members, and their shares.
    """
    count = 0
    for member in range(share.size):
        if share[member] > 0:
            count += 1
    first = np.zeros(nodes + 1, np.int64)
    members = np.empty(count, np.int64)
    amounts = np.empty(count, np.int64)
    at = 0
    for slot in range(by_group.size):
        member = by_group[slot]
        if share[member] > 0:
            members[at] = member
            amounts[at] = share[member]
            first[group_node[member_group[member]] + 1] += 1
            at += 1
    for v in range(nodes):
        first[v + 1] += first[v]
    return first, members, amounts
