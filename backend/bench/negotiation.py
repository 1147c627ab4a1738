"""`peerwatt bench negotiation`: the forward market's methods side by side, in one run, as ratios."""

from __future__ import annotations

import numpy as np

from backend.market.p2p.problem import Agents, PairMarket


def random_pairs(count: int, seed: int = 0, *, by_distance: bool = False) -> PairMarket:
    """Half sellers, half buyers, every pair with a cost of its own.

    Args:
        count: agents.
        seed: for everything.
        by_distance: pair costs as distances on a map, and a premium for seven of ten sellers; else each drawn for itself.
    """
    random = np.random.default_rng(seed)
    half = count // 2
    rest = count - half
    agents = Agents(
        random.uniform(0.5, 5, count),
        np.concatenate([random.uniform(10, 40, half), random.uniform(50, 90, rest)]),
        np.concatenate([np.zeros(half), -random.uniform(2, 15, rest)]),
        np.concatenate([random.uniform(2, 15, half), np.zeros(rest)]),
    )
    if by_distance:
        place = random.random((count, 2))
        across = place[:half, None] - place[None, half:]
        weight = 20 * np.sqrt((across**2).sum(axis=-1))
        weight += np.where(random.random((half, 1)) < 0.3, 0.0, 2.0)
    else:
        weight = random.uniform(0, 20, (half, rest))
    return PairMarket(agents, np.arange(half), np.arange(half, count), weight)
