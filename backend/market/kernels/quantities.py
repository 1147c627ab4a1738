"""Energies on a tree once prices have left each agent and each line a range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiling import Integers

Floats = NDArray[np.float64]


def tree_quantities(
    order: Integers,
    parent: Integers,
    fee: Floats,
    capacity: Floats,
    node_price: Floats,
    near: float,
    starts: Integers,
    least: Floats,
    most: Floats,
) -> tuple[Floats, Floats, float]:
    """Chooses within the ranges so that every node balances: agents in their order first, then lines, nearest to their least.

    Args:
        order: (V,) nodes, every parent before its children.
        parent: (V,) node above, -1 for the root.
        fee: (V,) what a unit pays between a node and its parent.
        capacity: (V,) most that crosses there, either way.
        node_price: (V,)
        near: prices that differ by less are alike.
        starts: (V + 1,) where each node's agents begin.
        least: (N,) least each agent sells, by node.
        most: (N,) most.

    Returns:
        What each agent sells (N,), what flows up each line (V,), and what does not balance at the root.
    """
    nodes = order.size
    # Sums of what agents and lines from below bring a node at least and at most; then what its own line takes of it.
    floor, low, high = np.zeros(nodes), np.zeros(nodes), np.zeros(nodes)
    traded, flow = least.copy(), np.zeros(nodes)
    for number in range(nodes - 1, -1, -1):
        node = order[number]
        for agent in range(starts[node], starts[node + 1]):
            low[node] += least[agent]
            high[node] += most[agent]
        floor[node] = low[node]
        above = parent[node]
        if above >= 0:
            # Where prices differ by more than the fee the line is full; where by less nothing flows.
            ahead = node_price[above] - node_price[node] - fee[node]
            back = node_price[node] - node_price[above] - fee[node]
            line_least = line_most = 0.0
            if ahead > near:
                line_least = line_most = capacity[node]
            elif back > near:
                line_least = line_most = -capacity[node]
            else:
                if ahead >= -near:
                    line_most = capacity[node]
                if back >= -near:
                    line_least = -capacity[node]
            up = max(low[node], line_least)
            down = min(high[node], line_most)
            # Prices are right to the last digits only; where they contradict each other, the line decides.
            if up > down:
                up = down = min(max((up + down) / 2, line_least), line_most)
            low[above] += up
            high[above] += down
            low[node], high[node] = up, down
    missing = 0.0
    # What a node still has to find beyond everybody's least: agents first, then lines from below as they are seen.
    wanted = np.zeros(nodes)
    for number in range(nodes):
        node = order[number]
        above = parent[node]
        if above >= 0:
            share = max(0.0, min(wanted[above], high[node] - low[node]))
            wanted[above] -= share
            flow[node] = low[node] + share
        wanted[node] = flow[node] - floor[node]
        for agent in range(starts[node], starts[node + 1]):
            more = max(0.0, min(wanted[node], most[agent] - least[agent]))
            traded[agent] += more
            wanted[node] -= more
    for node in range(nodes):
        missing = max(missing, abs(wanted[node]))
    return traded, flow, missing


def agent_ranges(
    starts: Integers,
    node_price: Floats,
    near: float,
    access: Floats,
    costs: tuple[Floats, Floats],
    limits: tuple[Floats, Floats],
    outside: tuple[float, float],
) -> tuple[Floats, Floats]:
    """What agents sell net within the market at prices a little lower, and a little higher, than they are.

    Args:
        starts: (V + 1,) where each node's agents begin.
        node_price: (V,)
        near: by how much lower and higher.
        access: (V,) what each end of a trade pays at a node.
        costs: (N,), (N,) a and b of the agents by node.
        limits: (N,), (N,) least and most that each sells.
        outside: import and export price; infinite where there is none.

    Returns:
        (N,), (N,) least and most.
    """
    curved, first = costs
    lower, upper = limits
    ranges = np.zeros((2, curved.size))
    plenty = 1.0
    for agent in range(curved.size):
        plenty += 2.0 * max(abs(lower[agent]), abs(upper[agent]))

    def wanted(agent: int, price: float) -> float:
        """What it sells at a price; at that of a constant cost as little as it can."""
        least, most = float(lower[agent]), float(upper[agent])
        if curved[agent] > 0.0:
            return min(max((price - float(first[agent])) / float(curved[agent]), least), most)
        if price == first[agent]:
            return min(max(0.0, least), most)
        return most if price > first[agent] else least

    for node in range(node_price.size):
        for agent in range(starts[node], starts[node + 1]):
            both = upper[agent] > 0.0 and lower[agent] < 0.0
            for side in range(2):
                price = node_price[node] + (near if side == 1 else -near)
                selling, buying = price - access[node], price + access[node]
                sold = bought = 0.0
                if upper[agent] > 0.0 and selling >= outside[1]:
                    sold = max(wanted(agent, selling), 0.0)
                if lower[agent] < 0.0 and buying <= outside[0]:
                    bought = min(wanted(agent, buying), 0.0)
                # Whoever does both resells without limit what outside trades.
                if both and selling > outside[0]:
                    sold += plenty
                if both and buying < outside[1]:
                    bought -= plenty
                ranges[side, agent] = sold + bought
    return ranges[0], ranges[1]


def tree_proof(
    parent: Integers,
    fee: Floats,
    capacity: Floats,
    access: Floats,
    node: Integers,
    node_price: Floats,
    costs: tuple[Floats, Floats],
    limits: tuple[Floats, Floats],
    outside: tuple[float, float],
    traded: Floats,
    flow: Floats,
) -> tuple[Floats, Floats, Floats, float, float, float]:
    """Adds what each agent does outside, the cost of it all, and a bound from the prices alone.

    Args:
        parent: (V,) node above, -1 for the root.
        fee: (V,) what a unit pays between a node and its parent.
        capacity: (V,) most that crosses there, either way.
        access: (V,) what each end of a trade pays at a node.
        node: (N,) where each agent is.
        node_price: (V,)
        costs: (N,), (N,) a and b of the agents.
        limits: (N,), (N,) least and most that each sells.
        outside: import and export price; infinite where there is none.
        traded: (N,) what each sells net within the market.
        flow: (V,) what flows up each line.

    Returns:
        (N,) prices, (N,) bought and (N,) sold outside, cost, bound, and by how much a limit is broken at most.
    """
    curved, first = costs
    lower, upper = limits
    price, imported, exported = np.zeros(node.size), np.zeros(node.size), np.zeros(node.size)
    cost = bound = broken = 0.0

    def wanted(agent: int, at: float) -> float:
        """What it sells at a price; at that of a constant cost as little as it can."""
        least, most = float(lower[agent]), float(upper[agent])
        slope, start = float(curved[agent]), float(first[agent])
        if slope > 0.0:
            return min(max((at - start) / slope, least), most)
        if at == start:
            return min(max(0.0, least), most)
        return most if at > start else least

    for agent in range(node.size):
        here, fixed = node_price[node[agent]], access[node[agent]]
        least, most, net = lower[agent], upper[agent], traded[agent]
        # Who can do neither has a price of its own.
        low = max(here - fixed, outside[1]) if most > 0.0 else -np.inf
        high = max(min(here + fixed, outside[0]) if least < 0.0 else np.inf, low)
        still = -np.inf if least > 0.0 else np.inf if most < 0.0 else first[agent]
        price[agent] = min(max(still, low), high)
        if outside[0] < np.inf:
            if least < 0.0:
                imported[agent] = max(net - wanted(agent, outside[0]), 0.0)
            if most > 0.0:
                exported[agent] = max(wanted(agent, outside[1]) - net, 0.0)
        if imported[agent] > 0.0:
            cost += outside[0] * imported[agent]
        if exported[agent] > 0.0:
            cost -= outside[1] * exported[agent]
        power = net - imported[agent] + exported[agent]
        broken = max(broken, least - power, power - most)
        cost += (0.5 * curved[agent] * power + first[agent]) * power + fixed * abs(net)
        best = wanted(agent, price[agent])
        bound += (0.5 * curved[agent] * best + first[agent] - price[agent]) * best
    for line in range(parent.size):
        cost += fee[line] * abs(flow[line])
        if parent[line] >= 0 and capacity[line] < np.inf:
            # Lines without a limit keep prices within the fee, to the last digit of a subtraction.
            beyond = abs(node_price[parent[line]] - node_price[line]) - fee[line]
            bound -= capacity[line] * max(beyond, 0.0)
    return price, imported, exported, cost, bound, broken
