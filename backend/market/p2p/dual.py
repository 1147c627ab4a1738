"""Arbitrary preferences, exactly: the dual over agents' prices, with column generation over pairs.

The proximal method of multipliers on the dual (Rockafellar 1976), each step by a semismooth Newton method (Li, Sun and Toh,
A highly efficient semismooth Newton augmented Lagrangian method, SIAM J. Optim. 28(1), 2018). With reduced costs
r_ij = w_ij + p_i - p_j and trades x as multipliers a step minimises over the N prices

    - sum g_n(p_n) + 1/(2 sigma) sum max(0, x_ij - sigma r_ij)^2 + 1/(2 tau) |p - p_k|^2

whose Hessian is that of a graph of few pairs: those with x_ij > sigma r_ij. Pairs are taken in only when their prices
contradict them: after each round one pass over the matrix finds each agent's worst contradictions. No pair is left out at the end,
because the certificate looks at all of them.

Constant costs (a = 0) respond to prices in jumps; a second proximal term, on their power, takes their edge off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.linalg import cg, splu

from backend.domain.errors import ClearingFailed

from .certificate import Certificate, certify, row_blocks
from .forest import forest_solution
from .problem import Agents, Floats, Indices, PairMarket, Trades, check_feasible, sums

first = itemgetter(0)

_FIRST_PARTNERS = 4
_NEW_PARTNERS = 2
_ROUNDS = 60
_STEPS = 40
_NEWTON_STEPS = 60
# Relative gap from which on it is worth guessing who trades with whom.
_POLISH_FROM = 1e-5
_POLISHING_STEPS = 2


@dataclass(frozen=True, slots=True)
class CentralSolution:
    """Trades with prices that prove them.

    Attributes:
        trades: who sells what to whom.
        certificate: over all pairs.
        rounds: passes over the pair matrix.
        newton_steps: linear systems solved.
    """

    trades: Trades
    certificate: Certificate
    rounds: int
    newton_steps: int


@dataclass
class _Columns:
    """Candidate pairs, then imports, then exports, as columns of the balance; all energies and prices scaled."""

    row: Indices
    column: Indices
    from_agent: Indices
    to_agent: Indices
    cost: Floats
    energy: Floats = field(default_factory=lambda: np.zeros(0))


def solve_pairwise(
    market: PairMarket,
    *,
    tolerance: float = 1e-9,
    start: Floats | None = None,
    progress: Callable[[int, float], None] = lambda _round, _gap: None,
) -> CentralSolution:
    """The optimum, with a certified relative gap over all pairs.

    Args:
        market: S sellers, B buyers; memory is that of its matrix and a few arrays of length N.
        tolerance: largest relative gap.
        start: (N,) prices to begin with, such as those of the interval before.
        progress: told the number of the round and the gap reached.

    Raises:
        MalformedInput: no trades keep all limits.
        ClearingFailed: the tolerance was not reached.
    """
    check_feasible(market)
    return _Solver(market, tolerance, start).run(progress)


class _Solver:
    """Everything in units in which a typical energy and a typical price difference are 1."""

    def __init__(self, market: PairMarket, tolerance: float, start: Floats | None) -> None:
        self.market, self.tolerance = market, tolerance
        agents = market.agents
        reach = np.maximum(np.abs(agents.lower), np.abs(agents.upper))
        finite = market.weight[:1][np.isfinite(market.weight[:1])]
        spread = np.ptp(agents.b) + (np.abs(finite).mean() if finite.size else 0.0)
        marginal = np.median(agents.a * reach) if agents.count else 0.0
        self.price_unit = float(max(spread, marginal, 1e-9))
        positive = agents.a > 0
        bend = np.median(self.price_unit / agents.a[positive]) if positive.any() else np.inf
        self.energy_unit = float(
            max(
                min(
                    bend,
                    np.median(
                        reach[reach > 0],
                    )
                    if (reach > 0).any()
                    else 1.0,
                ),
                1e-9,
            )
        )
        e, p = self.energy_unit, self.price_unit
        self.offset = float(np.median(agents.b))
        self.agents = Agents(
            agents.a * e / p, (agents.b - self.offset) / p, agents.lower / e, agents.upper / e
        )
        self.import_price = (market.import_price - self.offset) / p
        self.export_price = (market.export_price - self.offset) / p
        self.newton_steps = 0
        self.sigma = 1.0
        self.power = np.clip(np.zeros(agents.count), self.agents.lower, self.agents.upper)
        self.price = self._first_prices() if start is None else (start - self.offset) / p

    # --- Columns ---------------------------------------------------------------------------------------------------

    def _first_prices(self) -> Floats:
        """One price for all at which they balance, by bisection: what a market without pair costs would pay."""
        ends = self.agents.b + self.agents.a * np.clip(0, self.agents.lower, self.agents.upper)
        low, high = float(ends.min()) - 1, float(ends.max()) + 1
        for _ in range(60):
            middle = (low + high) / 2
            if self.agents.response(np.full(self.agents.count, middle)).sum() > 0:
                high = middle
            else:
                low = middle
        middle = min(max((low + high) / 2, self.export_price), self.import_price)
        return np.full(self.agents.count, middle)

    def _outside_columns(self) -> _Columns:
        market = self.market
        nobody = np.zeros(0, np.int64)
        columns = _Columns(nobody, nobody, nobody, nobody, np.zeros(0), np.zeros(0))
        if market.has_outside:
            sink = market.agents.count
            buyers, sellers = market.buyers, market.sellers
            columns.from_agent = np.concatenate([np.full(buyers.size, sink), sellers])
            columns.to_agent = np.concatenate([buyers, np.full(sellers.size, sink)])
            columns.cost = np.concatenate(
                [np.full(buyers.size, self.import_price), np.full(sellers.size, -self.export_price)]
            )
            columns.row = columns.column = np.full(columns.cost.size, -1)
            columns.energy = np.zeros(columns.cost.size)
        return columns

    def _first_pairs(self, most: int) -> Indices:
        """Pairs, as row * B + column, that are the best `most` of a row or a column at the first prices."""
        market, width = self.market, self.market.buyers.size
        if not width or not market.sellers.size:
            return np.zeros(0, np.int64)
        price = self.price * self.price_unit
        found = []
        best = np.full((0, width), np.inf)
        best_row = np.zeros((0, width), np.int64)
        for rows in row_blocks(market):
            reduced = market.weight[rows] - price[market.buyers]
            reduced += price[market.sellers[rows], None]
            numbers = np.arange(rows.start, rows.stop)
            near = _smallest(reduced, most)
            found.append((numbers[:, None] * width + near).ravel())
            near = _smallest(reduced.T, most).T
            best = np.concatenate([best, np.take_along_axis(reduced, near, 0)])
            best_row = np.concatenate([best_row, numbers[near]])
            order = _smallest(best.T, most).T
            best = np.take_along_axis(best, order, 0)
            best_row = np.take_along_axis(best_row, order, 0)
        found.append((best_row * width + np.arange(width)).ravel())
        return np.unique(np.concatenate(found))

    def _worst_pairs(self, most: int) -> tuple[Indices, float]:
        """Pairs that contradict the prices, the worst `most` of each row and column; and the least reduced cost of all."""
        market, width = self.market, self.market.buyers.size
        price = self.price * self.price_unit
        found, costs = [np.zeros(0, np.int64)], [np.zeros(0)]
        for rows in row_blocks(market):
            reduced = market.weight[rows] - price[market.buyers]
            reduced += price[market.sellers[rows], None]
            flat = np.flatnonzero(reduced < -1e-13 * self.price_unit)
            found.append(flat + rows.start * width)
            costs.append(reduced.ravel()[flat])
        pairs, reduced = np.concatenate(found), np.concatenate(costs)
        if not pairs.size:
            return pairs, 0.0
        keep = np.zeros(pairs.size, np.bool_)
        for group in (pairs // width, pairs % width):
            order = np.lexsort((reduced, group))
            first = np.r_[True, group[order][1:] != group[order][:-1]]
            rank = np.arange(order.size) - np.maximum.accumulate(
                np.where(first, np.arange(order.size), 0)
            )
            keep[order[rank < most]] = True
        return pairs[keep], float(reduced.min()) / self.price_unit

    def _with_pairs(self, columns: _Columns, pairs: Indices) -> _Columns:
        """Adds pairs that are not there yet; drops none."""
        market = self.market
        width = market.buyers.size
        inside = columns.row >= 0
        known = columns.row[inside] * width + columns.column[inside]
        fresh = np.setdiff1d(pairs, known, assume_unique=False)
        row, column = fresh // width, fresh % width
        cost = market.weight[row, column] / self.price_unit
        use = np.isfinite(cost)
        row, column, cost = row[use], column[use], cost[use]
        return _Columns(
            np.concatenate([columns.row, row]),
            np.concatenate([columns.column, column]),
            np.concatenate([columns.from_agent, market.sellers[row]]),
            np.concatenate([columns.to_agent, market.buyers[column]]),
            np.concatenate([columns.cost, cost]),
            np.concatenate([columns.energy, np.zeros(cost.size)]),
        )

    # --- Rounds ----------------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[int, float], None]) -> CentralSolution:
        columns = self._outside_columns()
        columns = self._with_pairs(columns, self._first_pairs(_FIRST_PARTNERS))
        accuracy = 1e-2
        best: tuple[float, Trades, Certificate] | None = None
        for number in range(1, _ROUNDS + 1):
            self._proximal_steps(columns, accuracy)
            worth = self._certified(columns, columns.energy, self.price)
            # Where the optimum is unique, trading pairs form a forest, as long as there are no circles of equal costs.
            like_forest = np.count_nonzero(columns.energy) < 1.02 * self.agents.count
            if self.tolerance < worth[0] < _POLISH_FROM and like_forest:
                worth = min(worth, self._certified(columns, *self._polished(columns)), key=first)
            best = worth if best is None else min(best, worth, key=first)
            progress(number, best[2].gap)
            if best[0] <= self.tolerance:
                break
            pairs, lowest = self._worst_pairs(_NEW_PARTNERS)
            before = columns.cost.size
            columns = self._with_pairs(columns, pairs)
            if columns.cost.size == before or -lowest < 10 * accuracy:
                accuracy = max(accuracy / 10, 1e-12)
        assert best is not None
        if best[0] > max(self.tolerance, 1e-12):
            raise ClearingFailed(
                f"relative gap {best[2].gap:.1e}, limits kept to {best[2].primal_residual:.1e}, after {_ROUNDS} rounds",
                "report this with the case",
            )
        return CentralSolution(best[1], best[2], number, self.newton_steps)

    def _certified(
        self, columns: _Columns, energy: Floats, price: Floats
    ) -> tuple[float, Trades, Certificate]:
        """The larger of gap and residual, and what has them."""
        trades = self._trades(columns, energy)
        certificate = certify(self.market, trades, price * self.price_unit + self.offset)
        return max(certificate.gap, certificate.primal_residual), trades, certificate

    def _polished(self, columns: _Columns) -> tuple[Floats, Floats]:
        """Energies and prices to the last digits, if it is known by now who trades with whom.

        Wrong guesses show by a negative energy or a pair that contradicts the prices, and are turned.
        """
        energy, price = columns.energy, self.price
        ends = columns.from_agent, columns.to_agent
        for _ in range(_POLISHING_STEPS):
            price, energy = forest_solution(self.agents, ends, columns.cost, energy, price)
            missing = (energy <= 0) & (self._reduced(columns, price) < -1e-13)
            if not missing.any() and energy.min(initial=0.0) >= 0:
                break
            energy = np.where(missing, np.inf, energy)
        return np.where(np.isfinite(energy), np.maximum(energy, 0), 0.0), price

    def _trades(self, columns: _Columns, scaled: Floats) -> Trades:
        """Back in the market's units."""
        market = self.market
        energy = scaled * self.energy_unit
        inside = (columns.row >= 0) & (energy > 0)
        sink = market.agents.count
        imports = (columns.from_agent == sink) & (energy > 0)
        exports = (columns.to_agent == sink) & (energy > 0)
        imported = sums(columns.to_agent[imports], energy[imports], sink)
        exported = sums(columns.from_agent[exports], energy[exports], sink)
        return Trades(
            columns.row[inside], columns.column[inside], energy[inside], imported, exported
        )

    def _proximal_steps(self, columns: _Columns, accuracy: float) -> None:
        """Steps of the proximal method of multipliers until balance and prices are as accurate as asked."""
        sigma = self.sigma
        for _ in range(_STEPS):
            before = columns.energy
            imbalance = self._newton(columns, sigma, accuracy * 0.1)
            reduced = self._reduced(columns, self.price)
            # At the new multipliers x = max(0, x - sigma r) the price side is off by what x still moved.
            moved = float(np.abs(columns.energy - before).max(initial=0.0)) / sigma
            off = max(moved, float(np.maximum(-reduced, 0).max(initial=0.0)))
            if imbalance <= accuracy and off <= accuracy:
                break
            if off > accuracy:
                sigma = min(sigma * 4, 1e7)
        self.sigma = max(sigma / 4, 1.0)

    def _reduced(self, columns: _Columns, prices: Floats) -> Floats:
        price = np.append(prices, 0.0)
        reduced: Floats = columns.cost + price[columns.from_agent] - price[columns.to_agent]
        return reduced

    def _newton(self, columns: _Columns, sigma: float, accuracy: float) -> float:
        """Minimises one step's function, moves prices and energies there, and returns the largest imbalance left."""
        agents, count = self.agents, self.agents.count
        energy, anchor, power = columns.energy, self.price.copy(), self.power
        tau = 100.0
        # A step's second proximal term bends constant costs; for others it changes nothing that matters.
        bend = np.maximum(agents.a, 1.0 / (10 * sigma))
        soft = Agents(bend, agents.b - (bend - agents.a) * power, agents.lower, agents.upper)
        price = self.price

        def evaluate(price: Floats) -> tuple[Floats, Floats, Floats]:
            full = np.append(price, 0.0)
            moved = energy - sigma * (
                columns.cost + full[columns.from_agent] - full[columns.to_agent]
            )
            np.maximum(moved, 0, out=moved)
            made = soft.response(price)
            net = np.bincount(columns.from_agent, moved, count + 1) - np.bincount(
                columns.to_agent, moved, count + 1
            )
            return made - net[:count] + (price - anchor) / tau, moved, made

        gradient, moved, made = evaluate(price)
        for _ in range(_NEWTON_STEPS):
            size = np.abs(gradient).max(initial=0.0)
            if size <= accuracy:
                break
            active = moved > 0
            inner = (made > agents.lower) & (made < agents.upper)
            direction = self._direction(
                columns, active, np.where(inner, 1 / bend, 0.0) + 1 / tau, sigma, -gradient
            )
            self.newton_steps += 1
            slope = float(gradient @ direction)
            length, trial = _least_along(evaluate, price, direction, slope)
            price = price + length * direction
            gradient, moved, made = trial
        self.price, columns.energy, self.power = price, moved, made
        return float(np.abs(gradient - (price - anchor) / tau).max(initial=0.0))

    def _direction(
        self, columns: _Columns, active: np.ndarray, diagonal: Floats, sigma: float, right: Floats
    ) -> Floats:
        """Solves (diagonal + sigma times the Laplacian of the active pairs) d = right."""
        count = right.size
        start, end = columns.from_agent[active], columns.to_agent[active]
        inside = (start < count) & (end < count)
        full = np.bincount(start, minlength=count + 1) + np.bincount(end, minlength=count + 1)
        main = diagonal + sigma * full[:count]
        start, end = start[inside], end[inside]
        off = np.full(2 * start.size, -sigma)
        matrix: csc_array = (
            coo_array(
                (off, (np.concatenate([start, end]), np.concatenate([end, start]))),
                shape=(count, count),
            )
            + diags_array(main)
        ).tocsc()
        if count <= 300 or start.size <= 1.15 * count:
            factors = splu(
                matrix,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
            return np.asarray(factors.solve(right))
        size = float(np.linalg.norm(right))
        found, _ = cg(
            matrix,
            right,
            rtol=max(1e-12, min(1e-2, 0.1 * size)),
            maxiter=1000,
            M=diags_array(1 / main),
        )
        return np.asarray(found)


def _smallest(values: Floats, most: int) -> Indices:
    """(rows, at most `most`) columns of each row's smallest values."""
    if values.shape[1] <= most:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    found: Indices = np.argpartition(values, most - 1, axis=1)[:, :most]
    return found


def _least_along(
    evaluate: Callable[[Floats], tuple[Floats, Floats, Floats]],
    price: Floats,
    direction: Floats,
    slope: float,
) -> tuple[float, tuple[Floats, Floats, Floats]]:
    """How far to go: the whole step, or where the convex function along it is nearly flat (Illinois method on its slope).

    On slopes, because the function's value loses its last digits long before the slope does.
    """
    low, high, low_slope = 0.0, 1.0, slope
    length = 1.0
    trial = evaluate(price + direction)
    high_slope = here = float(trial[0] @ direction)
    for _ in range(40):
        if abs(here) <= 0.3 * abs(slope) or (length == 1.0 and here <= 0):
            break
        length = (low * high_slope - high * low_slope) / (high_slope - low_slope)
        trial = evaluate(price + length * direction)
        here = float(trial[0] @ direction)
        if here > 0:
            high, high_slope = length, here
            low_slope /= 2
        else:
            low, low_slope = length, here
            high_slope /= 2
    return length, trial
