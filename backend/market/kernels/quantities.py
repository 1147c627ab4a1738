"""Energies on a tree once prices have left each agent and each line a range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiling import Integers

Floats = NDArray[np.float64]


def tree_quantities(
    order: Integers,
    parent: Integers,
    line_least: Floats,
    line_most: Floats,
    starts: Integers,
    least: Floats,
    most: Floats,
) -> tuple[Floats, Floats, float]:
    """Chooses within the ranges so that every node balances: agents in their order first, then lines, nearest to their least.

    Args:
        order: (V,) nodes, every parent before its children.
        parent: (V,) node above, -1 for the root.
        line_least: (V,) least that flows from a node to its parent; (negative: downwards).
        line_most: (V,) most.
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
            up = max(low[node], line_least[node])
            down = min(high[node], line_most[node])
            # Prices are right to the last digits only; where they contradict each other, the line decides.
            if up > down:
                up = down = min(max((up + down) / 2, line_least[node]), line_most[node])
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
