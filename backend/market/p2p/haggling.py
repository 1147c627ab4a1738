"""The last digits of a negotiation's trades: neighbours that already trade move a little more, or less, by themselves.

What both ends of a link offer is a little less than they will agree on, and the rounds mend that slowly along chains of
trades. In a pass each end tells what one more unit is worth to it, then by how much it would change the trade at the price halfway;
the lesser change counts. Each agent divides its wish and its room by the number of its trading links, so no limit breaks, and
since costs are convex no pass makes the trades dearer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .problem import PairMarket, Trades


def haggled(market: PairMarket, trades: Trades, passes: int) -> tuple[Trades, int]:
    """The trades after some passes, and how many links took part.

    Args:
        market: without outside; with one the trades stay as they are.
        trades: that keep all limits.
        passes: two exchanges on each of the links with energy.
    """
    traded = np.flatnonzero(trades.energy > 0)
    if market.has_outside or not traded.size:
        return trades, 0
    agents, count = market.agents, market.agents.count
    row, column = trades.row[traded], trades.column[traded]
    ends = np.array([market.sellers[row], market.buyers[column]])
    weight, energy = market.weight[row, column], trades.energy[traded]
    links = np.maximum(np.bincount(ends.ravel(), minlength=count), 1)
    sign = np.array([[1.0], [-1.0]])
    for _ in range(passes):
        power = np.bincount(ends[0], energy, count) - np.bincount(ends[1], energy, count)
        worth = agents.b + agents.a * power
        margin = (worth[ends[1]] - worth[ends[0]] - weight) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            wish = np.abs(margin) / (agents.a * links)[ends]
        more = np.array([agents.upper - power, power - agents.lower]) / links
        rises = (margin > 0) == (sign > 0)
        room = np.where(rises, more[0][ends], more[1][ends])
        change = np.where(margin == 0, 0.0, np.maximum(np.minimum(wish, room), 0.0).min(axis=0))
        energy = np.maximum(energy + np.sign(margin) * change, 0.0)
    whole = trades.energy.copy()
    whole[traded] = energy
    return replace(trades, energy=whole), traded.size
