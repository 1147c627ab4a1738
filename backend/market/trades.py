"""Who bought from whom (mechanism, section 5): derived from the clearing without choice.

1. Each group's matched energy is shared among its members pro rata with telescoping floors:
   share_i = floor((P_i + q_i) M / Q) - floor(P_i M / Q), P_i the sum before i in member order. Every share is within
   1 Wh of exact and never above q_i, and the sum is exactly M.
2. At each node supply and demand meet first; what is left travels along the flows, nodes in order.
3. Between two nodes sellers and buyers are paired in order, so that there are fewer trades than sellers and buyers.

A trade's network fee is access(i) + shortest path + access(j); on the paths that carry energy that is the difference of
the node prices, by complementary slackness.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .problem import Graph, Problem, Solution


@dataclass(frozen=True, slots=True)
class MemberTrade:
    """A trade between members by their position in member order."""

    seller: int
    buyer: int
    energy_wh: int
    fee_nano: int


def telescoping_shares(quantities: Sequence[int], matched: int) -> list[int]:
    """Shares `matched` among `quantities` pro rata; each within one of exact, the sum exact.

    Args:
        quantities: non-negative integers.
        matched: at most their sum.
    """
    total = sum(quantities)
    shares, before, given = [], 0, 0
    for quantity in quantities:
        before += quantity
        upto = before * matched // total if total else 0
        shares.append(upto - given)
        given = upto
    return shares


def node_transfers(
    graph: Graph, net_export_wh: Sequence[int], flow_wh: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Decomposes edge flows into transfers between nodes.

    Args:
        graph: the network.
        net_export_wh: by node, what the flows carry away (negative: bring).
        flow_wh: by edge, signed, balanced with `net_export_wh`.

    Returns:
        (from, to, energy_wh), sources in node order, each source's flow followed along its lowest-numbered edges.
    """
    out: list[deque[list[int]]] = [deque() for _ in range(graph.node_count)]
    for tail, head, flow in zip(graph.edge_from, graph.edge_to, flow_wh, strict=True):
        if flow > 0:
            out[tail].append([head, flow])
        elif flow < 0:
            out[head].append([tail, -flow])
    wanting = [max(0, -net) for net in net_export_wh]
    transfers: dict[tuple[int, int], int] = {}
    for source, net in enumerate(net_export_wh):
        left = max(0, net)
        while left:
            path, node, amount = [], source, left
            seen = {source: 0}
            while node == source or not wanting[node]:
                step = out[node][0]
                path.append((node, step))
                node, amount = step[0], min(amount, step[1])
                if node in seen:  # a circle of free edges carries nothing to anybody
                    path = path[: _cancel_circle(out, path, seen[node])]
                    seen = {at: place for at, place in seen.items() if place <= len(path)}
                    amount = min([left, *(step[1] for _, step in path)])
                    continue
                seen[node] = len(path)
            amount = min(amount, wanting[node])
            for at, step in path:
                _reduce(out, at, step, amount)
            wanting[node] -= amount
            left -= amount
            transfers[source, node] = transfers.get((source, node), 0) + amount
    return [(source, sink, amount) for (source, sink), amount in transfers.items()]


def _reduce(out: list[deque[list[int]]], node: int, step: list[int], amount: int) -> None:
    step[1] -= amount
    if not step[1]:
        out[node].remove(step)


def _cancel_circle(
    out: list[deque[list[int]]], path: list[tuple[int, list[int]]], start: int
) -> int:
    circle = path[start:]
    amount = min(step[1] for _, step in circle)
    for at, step in circle:
        _reduce(out, at, step, amount)
    return start


def member_trades(
    problem: Problem,
    solution: Solution,
    member_group: Sequence[int],
    member_net_wh: Sequence[int],
) -> list[MemberTrade]:
    """All trades of the interval.

    Args:
        problem: the interval.
        solution: its canonical clearing.
        member_group: by member in member order, the group.
        member_net_wh: by member, positive for a surplus.

    Returns:
        Trades in the order: local ones by node, then transfers; sums equal the matched energies exactly.
    """
    graph = problem.market.graph
    sellers = _lines(problem, member_group, member_net_wh, solution.matched_supply_wh, 1)
    buyers = _lines(problem, member_group, member_net_wh, solution.matched_demand_wh, -1)
    supplied = [sum(energy for _, energy in line) for line in sellers]
    used = [sum(energy for _, energy in line) for line in buyers]
    meetings = [
        (node, node, min(supplied[node], used[node]))
        for node in range(graph.node_count)
        if supplied[node] and used[node]
    ]
    net_export = [supplied[node] - used[node] for node in range(graph.node_count)]
    meetings += node_transfers(graph, net_export, solution.flow_wh)
    price, access = solution.price_nano_per_wh, graph.access_fee_nano_per_wh
    trades = []
    for source, sink, energy in meetings:
        fee = access[source] + (price[sink] - price[source]) + access[sink]
        for seller, buyer, amount in _pair(sellers[source], buyers[sink], energy):
            trades.append(MemberTrade(seller, buyer, amount, fee * amount))
    return trades


def _lines(
    problem: Problem,
    member_group: Sequence[int],
    member_net_wh: Sequence[int],
    matched_wh: Sequence[int],
    sign: int,
) -> list[deque[list[int]]]:
    """By node, the members with energy to sell (sign 1) or to buy (sign -1): [member, matched Wh] in group, member order."""
    members: list[list[int]] = [[] for _ in problem.market.groups]
    for member, (group_number, net) in enumerate(zip(member_group, member_net_wh, strict=True)):
        if net * sign > 0:
            members[group_number].append(member)
    lines: list[deque[list[int]]] = [deque() for _ in range(problem.market.graph.node_count)]
    for number, group in enumerate(problem.market.groups):
        quantities = [member_net_wh[member] * sign for member in members[number]]
        shares = telescoping_shares(quantities, matched_wh[number])
        lines[group.node].extend(
            [member, share] for member, share in zip(members[number], shares, strict=True) if share
        )
    return lines


def _pair(
    selling: deque[list[int]], buying: deque[list[int]], energy_wh: int
) -> Iterator[tuple[int, int, int]]:
    """Takes `energy_wh` from the front of both lines."""
    while energy_wh:
        amount = min(selling[0][1], buying[0][1], energy_wh)
        yield selling[0][0], buying[0][0], amount
        energy_wh -= amount
        for line in (selling, buying):
            line[0][1] -= amount
            if not line[0][1]:
                line.popleft()
