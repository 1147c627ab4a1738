"""What is behind a connection point, and the household's own optimisation of it (step 1 of the Energy Collective slides).

A small quadratic program over a horizon decides what every asset does, given what a unit costs and earns in each interval. Its
optimal cost as a function of what is sold in the first interval is convex, because the program is; a quadratic through its slopes is
the cost that the household negotiates with, and the assets' set-points follow from what it agreed. Energy in kWh, prices in currency
per kWh; sold is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from backend.domain.errors import ClearingFailed, MalformedInput

Floats = NDArray[np.float64]
# The slope is taken at so many amounts between the least and the most that can be sold.
_SLOPES = 5
# Keeps plans unique where prices leave them open, in currency per kWh^2: a hundredth of a cent for a kWh.
_SMOOTHING = 1e-4


@dataclass(frozen=True, slots=True)
class FixedLoad:
    """Uses what it uses.

    Attributes:
        energy: kWh in each interval.
    """

    energy: tuple[float, ...]

    def values(self, horizon: int) -> list[Floats]:
        """What its model is told."""
        return [_series("energy", self.energy, horizon)]

    def model(self, horizon: int, given: Sequence[cp.Parameter]) -> Model:
        """Nothing to decide."""
        return Model(-given[0], [], cp.Constant(0.0))


@dataclass(frozen=True, slots=True)
class Solar:
    """A photovoltaic generator that may be curtailed.

    Attributes:
        energy: kWh that it could make in each interval.
    """

    energy: tuple[float, ...]

    def values(self, horizon: int) -> list[Floats]:
        """What its model is told."""
        return [_series("energy", self.energy, horizon)]

    def model(self, horizon: int, given: Sequence[cp.Parameter]) -> Model:
        """Makes between nothing and all."""
        made = cp.Variable(horizon)
        return Model(made, [made >= 0, made <= given[0]], cp.Constant(0.0))


@dataclass(frozen=True, slots=True)
class FlexibleLoad:
    """Must have used so much by then.

    Attributes:
        needed: kWh altogether.
        most: kWh in an interval.
        first: first interval in which it may run.
        end: first interval in which it may not any more.
    """

    needed: float
    most: float
    first: int
    end: int

    def values(self, horizon: int) -> list[Floats]:
        """What its model is told; of what may run beyond the horizon's end its share."""
        end = min(self.end, horizon)
        inside = np.array([self.first <= t < end for t in range(horizon)], dtype=float)
        needed = self.needed * max(0, end - self.first) / max(1, self.end - self.first)
        if needed > self.most * inside.sum() * (1 + 1e-9):
            raise MalformedInput(
                "flexible_load.needed",
                self.needed,
                "more than fits",
                "raise most, or widen the time",
            )
        return [self.most * inside, np.array(needed)]

    def model(self, horizon: int, given: Sequence[cp.Parameter]) -> Model:
        """Runs whenever it is cheap."""
        used = cp.Variable(horizon)
        limits = [used >= 0, used <= given[0], cp.sum(used) == given[1]]  # type: ignore[attr-defined]
        return Model(-used, limits, cp.Constant(0.0))


@dataclass(frozen=True, slots=True)
class Battery:
    """Stores; with `present`, the battery of a car that is away at times.

    Attributes:
        capacity: kWh.
        level: kWh stored at the start.
        most: kWh charged or discharged in an interval, at the connection.
        efficiency: of charging, and of discharging.
        wear: currency per kWh charged or discharged.
        final: kWh stored at the end at least.
        present: whether it is plugged in, for each interval; always, if empty.
        gives_back: whether it may discharge to the house.
        worth: currency per kWh that is still stored at the end.
    """

    capacity: float
    level: float
    most: float
    efficiency: float = 0.95
    wear: float = 0.01
    final: float = 0.0
    present: tuple[bool, ...] = ()
    gives_back: bool = True
    worth: float = 0.0

    def values(self, horizon: int) -> list[Floats]:
        """What its model is told."""
        if not 0 <= self.level <= self.capacity or not 0 < self.efficiency <= 1:
            raise MalformedInput(
                "battery", self.level, "a level above the capacity, or no efficiency", "correct it"
            )
        here = np.array(self.present[:horizon] or [True] * horizon, dtype=float)
        reach = self.level + self.efficiency * self.most * float(here.sum())
        if min(self.capacity, reach) < self.final - 1e-9:
            raise MalformedInput(
                "battery.final", self.final, "cannot be reached in time", "lower it, or plug in"
            )
        return [np.array(self.level), self.most * here]

    def model(self, horizon: int, given: Sequence[cp.Parameter]) -> Model:
        """Charges and discharges within its limits."""
        charged, gives = cp.Variable(horizon), cp.Variable(horizon)
        change = self.efficiency * charged - gives / self.efficiency
        stored = given[0] + cp.cumsum(change)  # type: ignore[attr-defined]
        limits = [
            charged >= 0,
            gives >= 0,
            charged <= given[1],
            gives <= (given[1] if self.gives_back else 0.0),
            stored >= 0,
            stored <= self.capacity,
            stored[horizon - 1] >= self.final,
        ]
        wear = self.wear * cp.sum(charged + gives)  # type: ignore[attr-defined]
        return Model(gives - charged, limits, wear - self.worth * stored[horizon - 1])


def electric_vehicle(
    capacity: float,
    level: float,
    most: float,
    leaves_with: float,
    present: Sequence[bool],
    *,
    gives_back: bool = False,
) -> Battery:
    """A car: a battery that is plugged in at times and must hold so much when the horizon, its departure, ends."""
    return Battery(
        capacity,
        level,
        most,
        final=leaves_with,
        present=tuple(present),
        gives_back=gives_back,
    )


Asset = FixedLoad | Solar | FlexibleLoad | Battery


@dataclass(frozen=True, slots=True)
class Model:
    """An asset's part of the program: what it gives in each interval, its limits, its own cost."""

    given: cp.Expression
    limits: list[cp.Constraint]
    cost: cp.Expression


@dataclass(frozen=True, slots=True)
class QuadraticCost:
    """What a household negotiates with: a/2 P^2 + b P on [lower, upper], in kWh and currency."""

    a: float
    b: float
    lower: float
    upper: float


class HomePlan:
    """The household's own optimisation.

    Args:
        assets: what it has.
        import_price: what a kWh costs in each interval, currency per kWh.
        export_price: what it earns; not above the import price.

    Raises:
        MalformedInput: lengths that differ, prices the wrong way round, or an asset whose limits cannot be kept.
    """

    def __init__(
        self, assets: Sequence[Asset], import_price: Sequence[float], export_price: Sequence[float]
    ) -> None:
        horizon = len(import_price)
        if horizon == 0:
            raise MalformedInput("import_price", [], "no interval to plan", "give one or more")
        buying = _series("import_price", import_price, horizon)
        selling = _series("export_price", export_price, horizon)
        if np.any(selling > buying):
            raise MalformedInput(
                "export_price", max(export_price), "above the import price", "swap them"
            )
        self._horizon = horizon
        self._told = [
            [cp.Parameter(value.shape, value=value) for value in asset.values(horizon)]
            for asset in assets
        ]
        models = [
            asset.model(horizon, told) for asset, told in zip(assets, self._told, strict=True)
        ]
        limits = [limit for model in models for limit in model.limits]
        self._given = [model.given for model in models]
        # A variable of its own: a parameter may not multiply what has parameters in it.
        net = cp.Variable(horizon)
        limits.append(net == (cp.sum(self._given) if models else np.zeros(horizon)))  # type: ignore[attr-defined]
        # What is exchanged later is paid at its prices; what is sold in the first interval is the negotiation's.
        paid = cp.maximum(cp.multiply(-net, buying), cp.multiply(-net, selling))  # type: ignore[attr-defined]
        own = cp.sum([model.cost for model in models]) if models else cp.Constant(0.0)  # type: ignore[attr-defined]
        own = own + _SMOOTHING / 2 * cp.sum_squares(net)  # type: ignore[attr-defined]
        self._first = net[0]
        self._direction, self._sold = cp.Parameter(), cp.Parameter()
        self._extreme = cp.Problem(cp.Minimize(self._direction * self._first), limits)
        self._alone = cp.Problem(cp.Minimize(own + cp.sum(paid)), limits)  # type: ignore[attr-defined]
        self._bound = cp.Problem(
            cp.Minimize(own + cp.sum(paid[1:])),  # type: ignore[attr-defined]
            [*limits, self._first == self._sold],
        )

    def update(self, assets: Sequence[Asset]) -> None:
        """The same assets with other energies and levels; quicker than a new plan, since nothing is compiled again."""
        for asset, told in zip(assets, self._told, strict=True):
            for parameter, value in zip(told, asset.values(self._horizon), strict=True):
                parameter.value = value

    def range(self) -> tuple[float, float]:
        """The least and the most that can be sold in the first interval, kWh."""
        ends = []
        for direction in (1.0, -1.0):
            self._direction.value = direction
            ends.append(direction * self._solved(self._extreme))
        return ends[0], max(ends)

    def alone(self) -> float:
        """What is sold in the first interval without a market, kWh."""
        self._solved(self._alone)
        return float(np.asarray(self._first.value))

    def cost(self, sold: float) -> float:
        """Cost of the whole plan, first interval's exchange apart, if so much is sold in it."""
        self._sold.value = sold
        return self._solved(self._bound)

    def quadratic(self) -> QuadraticCost:
        """The convex quadratic whose slope fits the plan's best between the ends of its range."""
        lower, upper = self.range()
        if upper - lower < 1e-6:
            return QuadraticCost(0.0, 0.0, lower, lower)
        amounts = np.linspace(lower, upper, _SLOPES)
        costs = np.array([self.cost(float(amount)) for amount in amounts])
        slopes, middles = np.diff(costs) / np.diff(amounts), (amounts[1:] + amounts[:-1]) / 2
        a = float(np.polyfit(middles, slopes, 1)[0])
        a = max(a, 0.0)
        return QuadraticCost(a, float(np.mean(slopes) - a * np.mean(middles)), lower, upper)

    def set_points(self, sold: float) -> list[float]:
        """What each asset gives in the first interval (takes, if negative), in the order of the assets, if so much is sold."""
        self.cost(sold)
        return [float(np.asarray(given.value)[0]) for given in self._given]

    @staticmethod
    def _solved(problem: cp.Problem) -> float:
        try:
            value = problem.solve(solver=cp.CLARABEL)
        except cp.SolverError as error:
            raise ClearingFailed(str(error), "check the household's assets") from None
        if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            raise ClearingFailed(
                f"a household's plan is {problem.status}", "check the limits of its assets"
            )
        return float(value)


def _series(field: str, values: Sequence[float], horizon: int) -> Floats:
    found = np.asarray(values, dtype=float)
    if found.shape != (horizon,) or not np.all(np.isfinite(found)):
        raise MalformedInput(
            field, len(values), f"not one number for each of {horizon} intervals", "correct it"
        )
    return found
