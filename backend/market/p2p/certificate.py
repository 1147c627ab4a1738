"""How good an answer is, proven over all pairs.

Prices that no pair contradicts bound the optimum from below (weak duality), trades from above; the gap between the two holds
however either was found. Residuals prove nothing: a dense ADMM run that stopped on residuals of 1e-6 was 0.5 % off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .problem import Floats, Indices, PairMarket, Trades

# Pairs looked at in one go: 4 MiB, which stays in a core's cache.
_BLOCK_PAIRS = 2**19


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is proven.

    Attributes:
        cost: the objective of the trades.
        bound: no trades cost less.
        primal_residual: by how much the trades break a limit, relative to the largest limit in use.
        price: (N,) prices that prove it.
    """

    cost: float
    bound: float
    primal_residual: float
    price: Floats

    @property
    def gap(self) -> float:
        """Relative to the larger of both and 1."""
        return (self.cost - self.bound) / max(1.0, abs(self.cost), abs(self.bound))


def certify(
    market: PairMarket, trades: Trades, price: Floats, *, tighten: bool = False
) -> Certificate:
    """The gap between trades and prices, over all pairs.

    Args:
        market: S sellers, B buyers.
        trades: any.
        price: (N,) any; made feasible first.
        tighten: also take back what was given in too much, in two more passes over all pairs.
    """
    feasible = feasible_prices(market, price)
    if tighten:
        _tighten(market, feasible)
    power = trades.power(market)
    agents = market.agents
    broken = np.maximum(agents.lower - power, power - agents.upper).max(initial=0.0)
    scale = max(1.0, float(np.abs(power).max(initial=0.0)))
    bound = float(agents.gain(feasible).sum())
    return Certificate(trades.cost(market), bound, float(max(0.0, broken)) / scale, feasible)


def row_blocks(market: PairMarket) -> Iterator[slice]:
    """Rows of the pair matrix, some at a time."""
    height = max(1, _BLOCK_PAIRS // max(1, market.buyers.size))
    for low in range(0, market.sellers.size, height):
        yield slice(low, min(low + height, market.sellers.size))


def feasible_prices(market: PairMarket, price: Floats) -> Floats:
    """(N,) the prices, changed until no pair contradicts them.

    First those who both buy and sell agree among themselves (as many rounds as a chain of them is long; usually none). Then
    sellers give in: wholly to those, by half to mere buyers. Then mere buyers take the cheapest offer. Two passes over all pairs.
    """
    prices = price.astype(np.float64, copy=True)
    sellers, buyers = market.sellers, market.buyers
    prices[buyers] = np.minimum(prices[buyers], market.import_price)
    prices[sellers] = np.maximum(prices[sellers], market.export_price)
    if not sellers.size or not buyers.size:
        return prices
    both = np.intersect1d(sellers, buyers)
    columns = np.searchsorted(buyers, both)
    if both.size:
        _settle(market.weight[np.ix_(np.searchsorted(sellers, both), columns)], both, prices)
    only = np.ones(buyers.size, np.bool_)
    only[columns] = False
    for rows in row_blocks(market):
        excess = prices[buyers] - market.weight[rows]
        excess -= prices[sellers[rows], None]
        raised = np.maximum(excess[:, only].max(axis=1, initial=0) / 2, 0)
        raised = np.maximum(raised, excess[:, columns].max(axis=1, initial=0))
        # Those who both buy and sell have agreed already, and have no mere buyer to give in to for the others' sake.
        raised[np.isin(sellers[rows], both, assume_unique=True)] = 0
        prices[sellers[rows]] += raised
    cheapest = prices[buyers]
    for rows in row_blocks(market):
        offers = market.weight[rows] + prices[sellers[rows], None]
        np.minimum(cheapest, offers.min(axis=0), out=cheapest)
    prices[buyers[only]] = cheapest[only]
    return prices


def _tighten(market: PairMarket, prices: Floats) -> None:
    """Lowers mere sellers' prices, then raises mere buyers', as far as all pairs allow and the bound rises."""
    sellers, buyers, agents = market.sellers, market.buyers, market.agents
    if not sellers.size or not buyers.size:
        return
    # Beyond its first unit's cost nothing changes for who need not trade.
    least = np.maximum(np.where(agents.lower > 0, -np.inf, agents.b), market.export_price)
    most = np.minimum(np.where(agents.upper < 0, np.inf, agents.b), market.import_price)
    for rows in row_blocks(market):
        here = sellers[rows]
        offers = (prices[buyers] - market.weight[rows]).max(axis=1)
        lower = np.minimum(prices[here], np.maximum(offers, least[here]))
        use = np.isfinite(lower) & (agents.lower[here] >= 0)
        prices[here] = np.where(use, lower, prices[here])
    offered = np.full(buyers.size, np.inf)
    for rows in row_blocks(market):
        offers = market.weight[rows] + prices[sellers[rows], None]
        np.minimum(offered, offers.min(axis=0), out=offered)
    higher = np.maximum(prices[buyers], np.minimum(offered, most[buyers]))
    use = np.isfinite(higher) & (agents.upper[buyers] <= 0)
    prices[buyers] = np.where(use, higher, prices[buyers])


def _settle(weight: Floats, both: Indices, prices: Floats) -> None:
    """Lowers prices of agents that both buy and sell to the cheapest chain of offers among them."""
    for _ in range(both.size):
        cheapest = (weight + prices[both, None]).min(axis=0)
        if (prices[both] <= cheapest).all():
            return
        prices[both] = np.minimum(prices[both], cheapest)
