"""The forward market of one interval as arrays (mechanism, section 9).

Agent n sells P_n (buys, if negative) at cost f_n(P) = a/2 P^2 + b P within [lower, upper]. With x_ij >= 0 the energy from
seller i to buyer j, m_n bought and e_n sold outside,

    minimise    sum f_n(P_n) + sum w_ij x_ij + import_price sum m_n - export_price sum e_n
    subject to  P_n = sum_j x_nj - sum_i x_in - m_n + e_n,   lower_n <= P_n <= upper_n

where w_ij is what both sides together pay or dislike per unit: both fees and both preferences. Its dual has one price for
each agent, not one for each pair:

    maximise    sum g_n(p_n),  g_n(p) = min over P in [lower_n, upper_n] of f_n(P) - p P
    subject to  p_j - p_i <= w_ij   for every pair,    p_j <= import_price,    p_i >= export_price

Whoever can only sell (lower >= 0) never buys, and the other way round; an agent with limits of both signs does both, also
at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.errors import MalformedInput, OutOfRange
from backend.domain.p2p import P2PCase

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def sums(number: Indices, values: Floats, count: int) -> Floats:
    """(count,) the sum of the values at each number."""
    return np.bincount(number, values, count).astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class Agents:
    """Costs and limits.

    Attributes:
        a: (N,) at least 0; marginal cost rises by a for each unit.
        b: (N,) marginal cost of the first unit.
        lower: (N,)
        upper: (N,)
    """

    a: Floats
    b: Floats
    lower: Floats
    upper: Floats

    @property
    def count(self) -> int:
        """N."""
        return self.a.size

    @property
    def sellers(self) -> Indices:
        """(S,) agents that can sell."""
        return np.flatnonzero(self.upper > 0)

    @property
    def buyers(self) -> Indices:
        """(B,) agents that can buy."""
        return np.flatnonzero(self.lower < 0)

    def cost(self, power: Floats) -> Floats:
        """(N,) f_n(P_n)."""
        return (0.5 * self.a * power + self.b) * power

    def response(self, price: Floats) -> Floats:
        """(N,) what each sells at its price; at the price of a constant cost (a = 0) the least that it can."""
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = (price - self.b) / self.a
        wanted = np.where(np.isnan(wanted), 0.0, wanted)
        return np.clip(wanted, self.lower, self.upper)

    def gain(self, price: Floats) -> Floats:
        """(N,) g_n(p_n), the dual's terms."""
        power = self.response(price)
        return self.cost(power) - price * power

    def outside(
        self, traded: Floats, import_price: float, export_price: float
    ) -> tuple[Floats, Floats]:
        """(N,), (N,) what each then buys and sells outside, given what it sells net to others.

        Who can only sell does not buy outside, and the other way round.
        """
        if not np.isfinite(import_price):
            return np.zeros(self.count), np.zeros(self.count)
        least = self.response(np.full(self.count, export_price))
        most = self.response(np.full(self.count, import_price))
        return (
            np.where(self.lower < 0, np.maximum(traded - most, 0.0), 0.0),
            np.where(self.upper > 0, np.maximum(least - traded, 0.0), 0.0),
        )

    def part(self, chosen: Indices) -> Agents:
        """Some of them."""
        return Agents(self.a[chosen], self.b[chosen], self.lower[chosen], self.upper[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class PairMarket:
    """All pairs with a cost of their own.

    Attributes:
        agents: N of them.
        sellers: (S,) numbers of agents that can sell, ascending.
        buyers: (B,) numbers of agents that can buy, ascending.
        weight: (S, B) w_ij, infinite where no trade is allowed.
        import_price: of a unit bought outside; infinite where there is no outside.
        export_price: of a unit sold outside; minus infinity where there is none.
    """

    agents: Agents
    sellers: Indices
    buyers: Indices
    weight: Floats
    import_price: float = np.inf
    export_price: float = -np.inf

    @classmethod
    def build(
        cls,
        agents: Agents,
        pair_cost: Floats | float,
        import_price: float = np.inf,
        export_price: float = -np.inf,
    ) -> PairMarket:
        """From what both sides of each pair pay together.

        Args:
            pair_cost: (N, N) symmetric, infinite where no trade is allowed; or one number for all pairs.

        Raises:
            OutOfRange: a pair of agents that can both buy and sell has a negative cost, which makes the market non-convex.
        """
        sellers, buyers = agents.sellers, agents.buyers
        if isinstance(pair_cost, float):
            weight = np.full((sellers.size, buyers.size), pair_cost)
        else:
            weight = np.ascontiguousarray(pair_cost[np.ix_(sellers, buyers)], dtype=np.float64)
        both = np.intersect1d(sellers, buyers)
        rows, columns = np.searchsorted(sellers, both), np.searchsorted(buyers, both)
        weight[rows, columns] = np.inf
        block = weight[np.ix_(rows, columns)]
        if block.size and block.min() < 0:
            one, other = np.unravel_index(int(block.argmin()), block.shape)
            raise OutOfRange(
                "preferences",
                float(block.min()),
                f"agents {both[one]} and {both[other]} would gain by selling to each other in a circle (non-convex)",
                "a pair of agents that both buy and sell needs fees and preferences that sum to at least 0",
            )
        return cls(agents, sellers, buyers, weight, import_price, export_price)

    @property
    def has_outside(self) -> bool:
        """Whether there is an outside to trade with."""
        return bool(np.isfinite(self.import_price))


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Who sells what to whom.

    Attributes:
        row: (T,) position in `PairMarket.sellers`.
        column: (T,) position in `PairMarket.buyers`.
        energy: (T,) at least 0.
        imported: (N,) bought outside, at least 0.
        exported: (N,) sold outside, at least 0.
    """

    row: Indices
    column: Indices
    energy: Floats
    imported: Floats
    exported: Floats

    @classmethod
    def none(cls, market: PairMarket) -> Trades:
        """Nobody trades."""
        nobody = np.zeros(0, np.int64)
        still = np.zeros(market.agents.count)
        return cls(nobody, nobody, np.zeros(0), still, still.copy())

    def power(self, market: PairMarket) -> Floats:
        """(N,) P_n that the trades add up to."""
        count = market.agents.count
        return (
            np.bincount(market.sellers[self.row], self.energy, count)
            - np.bincount(market.buyers[self.column], self.energy, count)
            - self.imported
            + self.exported
        )

    def cost(self, market: PairMarket) -> float:
        """The objective: agents' costs, pair costs, outside bill."""
        return float(
            market.agents.cost(self.power(market)).sum()
            + market.weight[self.row, self.column] @ self.energy
            + (market.import_price * self.imported.sum() if self.imported.any() else 0.0)
            - (market.export_price * self.exported.sum() if self.exported.any() else 0.0)
        )


def agents_of(case: P2PCase) -> Agents:
    """The agents as arrays."""
    columns = [(one.a, one.b, one.lower, one.upper) for one in case.agents]
    a, b, lower, upper = np.array(columns, dtype=np.float64).T.copy()
    return Agents(a, b, lower, upper)


def matrix_of(case: P2PCase, field: str) -> Floats:
    """(N, N) what each agent (row) pays or dislikes per unit traded with each other."""
    given = getattr(case, field)
    count = len(case.agents)
    if given is None:
        return np.zeros((count, count))
    if isinstance(given, float | int):
        matrix = np.full((count, count), float(given))
        np.fill_diagonal(matrix, 0.0)
        return matrix
    return np.array(given, dtype=np.float64)


def allowed_pairs(case: P2PCase) -> NDArray[np.bool_]:
    """(N, N) symmetric, false on the diagonal."""
    count = len(case.agents)
    if case.pairs == "all":
        return ~np.eye(count, dtype=np.bool_)
    number = {agent.id: index for index, agent in enumerate(case.agents)}
    allowed = np.zeros((count, count), np.bool_)
    for one, other in case.pairs:
        allowed[number[one], number[other]] = allowed[number[other], number[one]] = True
    return allowed


def outside_prices(case: P2PCase) -> tuple[float, float]:
    """Import and export price; infinite where there is no outside."""
    if case.outside is None:
        return np.inf, -np.inf
    return case.outside.import_price, case.outside.export_price


def check_feasible(market: PairMarket) -> None:
    """Refuses limits that no trades can keep.

    Raises:
        MalformedInput: naming what cannot be met.
    """
    agents = market.agents
    must_sell, must_buy = agents.lower > 0, agents.upper < 0
    if market.has_outside or not (must_sell.any() or must_buy.any()):
        return
    limits = float(agents.lower.sum()), float(agents.upper.sum())
    if limits[0] > 0 or limits[1] < 0:
        least = limits[0] > 0
        raise MalformedInput(
            "agents",
            limits[0] if least else -limits[1],
            f"together all must {'sell' if least else 'buy'} at least this much, and there is no outside",
            "widen a limit, or give `outside`",
        )
    if np.isfinite(market.weight).all():
        return
    if not _transport_exists(market):
        raise MalformedInput(
            "pairs",
            int(np.isfinite(market.weight).sum()),
            "with these pairs the limits of all agents cannot be kept at once",
            "allow more pairs, widen a limit, or give `outside`",
        )


def _transport_exists(market: PairMarket) -> bool:
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, vstack

    agents = market.agents
    row, column = np.nonzero(np.isfinite(market.weight))
    count = agents.count
    if not row.size:
        return bool(((agents.lower <= 0) & (agents.upper >= 0)).all())
    pairs = np.arange(row.size)
    balance = csr_array(
        (
            np.concatenate([np.ones(row.size), -np.ones(row.size)]),
            (
                np.concatenate([market.sellers[row], market.buyers[column]]),
                np.concatenate([pairs, pairs]),
            ),
        ),
        shape=(count, row.size),
    )
    found: Any = linprog(  # type: ignore[call-overload]  # its types know no sparse matrix
        np.zeros(row.size),
        A_ub=vstack([balance, -balance]),
        b_ub=np.concatenate([agents.upper, -agents.lower]),
        method="highs",
    )
    return bool(found.status == 0)
