"""Sparse-partner negotiation, all agents side by side: few partners at first, more only where prices show that they are missing.

The optimal trades form a forest, so agents need few partners, if something proves that the others do not matter. That something is
the price check: now and then each agent posts one price; each seller compares its row with the buyers' prices, and whoever finds
a pair that would gain asks for it. The same posted prices give the certificate over all pairs, on which the negotiation stops.

The notice board knows posted prices and sums, no costs. Before, everybody has told each possible partner once what trading with it
costs (fee and preference); that is counted, and so is each price that somebody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .certificate import Certificate, certify, row_blocks
from .haggling import haggled
from .negotiator import RELAXATION, LinkEnds, Negotiators, tuned_step
from .problem import Floats, Indices, PairMarket, Trades, check_feasible

_FIRST_PARTNERS = 3
_ROUNDS_PER_CHECK = 10
_ROUNDS_PER_STEP = 20
# After so many rounds the step stays, so that convergence is the textbook's.
_TUNED_ROUNDS = 2000
_SUMS_POSTED = 5
# Where the gap is nearly small enough, this many passes of `haggling`.
_HAGGLES = 8
_HAGGLE_FROM = 3.0
# From an earlier interval all prices are first moved alike, in so many steps.
_SHIFTS = 3


@dataclass(frozen=True, slots=True)
class Check:
    """What a price check found.

    Attributes:
        round: after which round.
        gap: certified over all pairs.
        primal_residual: by how much limits are broken.
        apart: root mean square by which ends of links disagree.
        moved: root mean square by which agreed energies moved in the last round, times the step.
        objective: cost of what both ends of each link offer.
        links: in use.
        step: rho.
        messages: sent so far.
        scalars: numbers in them so far.
        price: (N,) what each agent posted; none where only sums are known.
    """

    round: int
    gap: float
    primal_residual: float
    apart: float
    moved: float
    objective: float
    links: int
    step: float
    messages: int
    scalars: int
    price: Floats | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Where a negotiation stands: enough to continue it, or to begin the next interval's from.

    Attributes:
        row: (L,) each link's seller, as position in `PairMarket.sellers`.
        column: (L,) its buyer.
        energy: (L,) agreed.
        price: (L,) agreed.
        marginal: (N,) agents' prices.
        step: rho.
    """

    row: Indices
    column: Indices
    energy: Floats
    price: Floats
    marginal: Floats
    step: float


@dataclass(frozen=True, slots=True, eq=False)
class Negotiated:
    """How a negotiation ended.

    Attributes:
        agreed: whether the gap asked for was reached; otherwise the trades are still what both sides of each offered.
        trades: of each link the lesser of both offers.
        certificate: over all pairs.
        checks: one after another.
        standing: to go on from.
    """

    agreed: bool
    trades: Trades
    certificate: Certificate
    checks: list[Check] = field(default_factory=list)
    standing: Standing | None = None


def negotiate(
    market: PairMarket,
    seller_cost: Floats,
    buyer_cost: Floats,
    *,
    tolerance: float = 1e-4,
    most_rounds: int = 5000,
    start: Standing | None = None,
    textbook: bool = False,
    step: float | None = None,
    absent: Mapping[int, NDArray[np.bool_]] | None = None,
    progress: Callable[[Check], None] = lambda _: None,
) -> Negotiated:
    """Rounds until the certificate holds.

    Args:
        market: S sellers, B buyers.
        seller_cost: (S, B) the sellers' part of the pairs' costs.
        buyer_cost: (S, B) the buyers' part.
        tolerance: largest relative gap over all pairs.
        most_rounds: after which the outcome is stated as it is.
        start: of an earlier negotiation between the same agents.
        textbook: consensus ADMM as published, a baseline: all pairs from the start, one step throughout, no relaxation.
        step: rho to begin with; from first prices and limits if not given.
        absent: by round, from then on: (N,) which agents are away.
        progress: told each check.

    Raises:
        MalformedInput: no trades keep all limits.
    """
    check_feasible(market)
    return _Negotiation(market, seller_cost, buyer_cost, start, textbook, step).run(
        tolerance, most_rounds, dict(absent or {}), progress
    )


class _Negotiation:
    def __init__(
        self,
        market: PairMarket,
        seller_cost: Floats,
        buyer_cost: Floats,
        start: Standing | None,
        textbook: bool,
        step: float | None,
    ) -> None:
        self.textbook = textbook
        self.whole = self.market = market
        self.seller_cost, self.buyer_cost = seller_cost, buyer_cost
        self.everybody = self._assemble(market)
        first = self.everybody.first_price()
        self.first_spread = max(float(np.std(first)), 1e-9 * (1 + float(np.abs(first).max())))
        reach = np.maximum(np.abs(market.agents.lower), np.abs(market.agents.upper))
        typical = float(np.median(reach[reach > 0])) if (reach > 0).any() else 1.0
        self.step = 0.1 * self.first_spread / typical if step is None else step
        self.row = self.column = np.zeros(0, np.int64)
        finite = int(np.isfinite(market.weight).sum())
        self.messages = self.scalars = 0
        if start is None:
            # Each end of each possible pair tells the other its cost, once.
            self.messages = self.scalars = 0 if textbook else 2 * finite
            self._connect(self._cheapest_pairs())
        else:
            shift = self._common_shift(start.marginal)
            self.step, self.everybody.marginal = start.step, start.marginal + shift
            pairs = start.row * market.buyers.size + start.column
            self._connect(pairs, replace(start, price=start.price + shift))

    def _common_shift(self, price: Floats) -> float:
        """By how much all prices must move alike until what everybody now wants at them adds up to nothing (Newton)."""
        agents, shift = self.market.agents, 0.0
        for _ in range(_SHIFTS):
            wanted = agents.response(price + shift)
            inner = (wanted > agents.lower) & (wanted < agents.upper) & (agents.a > 0)
            # Each posts what it wants and how that answers prices.
            self.messages += agents.count
            self.scalars += 2 * agents.count
            if not inner.any():
                break
            shift -= float(wanted.sum()) / float((1 / agents.a[inner]).sum())
        return shift

    def _assemble(self, market: PairMarket) -> Negotiators:
        return Negotiators(market.agents, market.import_price, market.export_price)

    def _cheapest_pairs(self) -> Indices:
        """Each agent's few cheapest partners, as row * B + column."""
        weight, width = self.market.weight, self.market.buyers.size
        if not weight.size:
            return np.zeros(0, np.int64)
        if self.textbook:
            return np.arange(weight.size)
        most = min(_FIRST_PARTNERS, width), min(_FIRST_PARTNERS, weight.shape[0])
        of_sellers = np.argpartition(weight, most[0] - 1, axis=1)[:, : most[0]]
        of_buyers = np.argpartition(weight, most[1] - 1, axis=0)[: most[1]]
        return np.concatenate(
            [
                (np.arange(weight.shape[0])[:, None] * width + of_sellers).ravel(),
                (of_buyers * width + np.arange(width)).ravel(),
            ]
        )

    def _connect(self, pairs: Indices, start: Standing | None = None) -> None:
        market, width = self.market, max(1, self.market.buyers.size)
        known = self.row * width + self.column
        if start is None:
            pairs = np.setdiff1d(pairs, known)
        row, column = pairs // width, pairs % width
        use = np.isfinite(market.weight[row, column])
        row, column = row[use], column[use]
        seller, buyer = market.sellers[row], market.buyers[column]
        ask, bid = self.seller_cost[row, column], self.buyer_cost[row, column]
        marginal = self.everybody.marginal
        price = (marginal[seller] + ask + marginal[buyer] - bid) / 2
        energy = np.zeros(row.size)
        if start is not None:
            price, energy = start.price[use], start.energy[use]
        links, ones = self.row.size, np.ones(row.size)
        ends, everybody = self.everybody.ends, self.everybody
        everybody.connect(
            LinkEnds(
                np.concatenate([seller, buyer]),
                np.concatenate([ones, -ones]),
                np.concatenate([ask, bid]),
                np.concatenate([energy, energy]),
                np.concatenate([price, price]),
            )
        )
        # Sellers' ends first, then buyers' in the same order.
        order = np.concatenate(
            [
                np.arange(links),
                2 * links + np.arange(row.size),
                links + np.arange(links),
                2 * links + row.size + np.arange(row.size),
            ]
        )
        assert ends.owner.size == 2 * links
        everybody.ends, everybody.offer = everybody.ends.part(order), everybody.offer[order]
        self.row, self.column = (
            np.concatenate([self.row, row]),
            np.concatenate([self.column, column]),
        )

    def run(
        self,
        tolerance: float,
        most_rounds: int,
        absent: dict[int, NDArray[np.bool_]],
        progress: Callable[[Check], None],
    ) -> Negotiated:
        checks: list[Check] = []
        best: tuple[float, Trades, Certificate] | None = None
        number, agreed = 0, False
        pending = sorted(absent)
        while number < most_rounds:
            number += 1
            if pending and number >= pending[0]:
                self._leave(absent[pending.pop(0)])
                best = None
            apart, moved = self._round()
            if number % _ROUNDS_PER_CHECK and number != most_rounds:
                continue
            trades = self._trades()
            proof = certify(self.market, trades, self.everybody.marginal, tighten=True)
            self._count_check()
            if not self.textbook and tolerance < proof.gap <= _HAGGLE_FROM * tolerance:
                trades, proof = self._haggle(trades, proof)
            worth = max(proof.gap, proof.primal_residual)
            if best is None or worth < best[0]:
                best = worth, trades, proof
            size = max(1, self.everybody.ends.owner.size)
            check = Check(
                number,
                proof.gap,
                proof.primal_residual,
                float(np.sqrt(apart / size)),
                float(np.sqrt(moved / size)) * self.step,
                proof.cost,
                self.row.size,
                self.step,
                self.messages,
                self.scalars,
                self.everybody.marginal.copy(),
            )
            checks.append(check)
            progress(check)
            agreed = worth <= tolerance
            if agreed and not pending:
                break
            if self.textbook:
                continue
            self._connect(self._missing_pairs())
            if number <= _TUNED_ROUNDS and number % _ROUNDS_PER_STEP == 0:
                self._tune(apart, moved)
        if best is None:
            trades = self._trades()
            best = np.inf, trades, certify(self.market, trades, self.everybody.marginal)
        links = self.row.size
        ends = self.everybody.ends
        standing = Standing(
            self.row,
            self.column,
            ends.energy[:links],
            ends.price[:links],
            self.everybody.marginal,
            self.step,
        )
        return Negotiated(agreed, best[1], best[2], checks, standing)

    def _round(self) -> tuple[float, float]:
        offer, links = self.everybody.propose(self.step), self.row.size
        answer = np.concatenate([offer[links:], offer[:links]])
        self.messages += 2 * links
        self.scalars += 2 * links
        return self.everybody.agree(
            answer, self.step, relaxation=1.0 if self.textbook else RELAXATION
        )

    def _trades(self) -> Trades:
        market, links = self.market, self.row.size
        energy = np.minimum(self.everybody.offer[:links], self.everybody.offer[links:])
        still = np.zeros(market.agents.count)
        trades = Trades(self.row, self.column, energy, still, still)
        imported, exported = market.agents.outside(
            trades.power(market), market.import_price, market.export_price
        )
        return replace(trades, imported=imported, exported=exported)

    def _haggle(self, trades: Trades, proof: Certificate) -> tuple[Trades, Certificate]:
        trades, links = haggled(self.market, trades, _HAGGLES)
        # In each pass both ends of a link tell a worth, then an energy.
        self.messages += 4 * _HAGGLES * links
        self.scalars += 4 * _HAGGLES * links
        return trades, replace(proof, cost=trades.cost(self.market))

    def _count_check(self) -> None:
        """Posted: a price, two corrected ones, and sums from each; read: buyers' by sellers, corrected ones by buyers, and again."""
        agents = self.market.agents.count
        self.messages += 3 * agents
        self.scalars += (3 + _SUMS_POSTED) * agents

    def _missing_pairs(self) -> Indices:
        """For each row and column the pair that contradicts the posted prices most."""
        market, width = self.market, self.market.buyers.size
        if not width or not market.sellers.size:
            return np.zeros(0, np.int64)
        price, columns = self.everybody.marginal, np.arange(width)
        found = []
        best, best_row = np.full(width, -1e-9 * self.first_spread), np.full(width, -1, np.int64)
        for rows in row_blocks(market):
            reduced = market.weight[rows] - price[market.buyers]
            reduced += price[market.sellers[rows], None]
            numbers = np.arange(rows.start, rows.stop)
            nearest = reduced.argmin(axis=1)
            gains = reduced[np.arange(numbers.size), nearest] < -1e-9 * self.first_spread
            found.append((numbers * width + nearest)[gains])
            lowest = reduced.argmin(axis=0)
            value = reduced[lowest, columns]
            better = value < best
            best, best_row = (
                np.where(better, value, best),
                np.where(better, numbers[lowest], best_row),
            )
        found.append((best_row * width + columns)[best_row >= 0])
        return np.unique(np.concatenate(found))

    def _tune(self, apart: float, moved: float) -> None:
        links = self.row.size
        ends = self.everybody.ends
        carries = ends.energy[:links] > 1e-9 * max(1e-300, float(ends.energy.max(initial=0.0)))
        if not carries.any():
            return
        root = float(np.sqrt(2 * carries.sum()))
        self.step = tuned_step(
            self.step,
            float(np.sqrt(apart)),
            float(np.sqrt(moved)),
            float(np.linalg.norm(ends.energy)),
            float(np.std(ends.price[:links][carries])) * root,
            self.first_spread * root,
        )

    def _leave(self, away: NDArray[np.bool_]) -> None:
        """Who is away trades nothing, and its links are dropped; who is back has links offered again by the next check."""
        whole = self.whole
        agents = whole.agents
        market = replace(
            whole,
            agents=replace(
                agents,
                lower=np.where(away, 0.0, agents.lower),
                upper=np.where(away, 0.0, agents.upper),
            ),
            weight=np.where(
                away[whole.sellers][:, None] | away[whole.buyers], np.inf, whole.weight
            ),
        )
        before = self.everybody
        self.market = market
        stays = np.isfinite(market.weight[self.row, self.column])
        self.everybody = self._assemble(market)
        self.everybody.marginal = before.marginal
        both = np.concatenate([stays, stays])
        self.everybody.ends, self.everybody.offer = before.ends.part(both), before.offer[both]
        self.row, self.column = self.row[stays], self.column[stays]
        self._connect(self._cheapest_pairs())
