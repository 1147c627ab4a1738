"""The market as a linear program that knows the grid's limits (cvxpy with Clarabel).

    maximise    what buyers are willing to pay - what sellers ask - supplier's import + supplier's export - fee on trades
    subject to  every offer within its limit; the community balanced with its supplier; cuts:  effect . net <= room

A cut's multiplier is the price of its limit. Effect times multiplier, added up over the cuts, is the extra fee of a connection
point for each Wh fed in; what a trade from n to m pays is the difference of both, in proportion to its effect on the limits
and to nothing else. With these fees on top every member is content with its part: no other amount within its limits would
leave it better off (linear programming duality), so nobody has to be told, only charged.

An interior-point method ends in the middle of equally good answers, so offers that differ in nothing get about the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np
import numpy.typing as npt

from backend.domain.errors import ClearingFailed
from backend.domain.units import MILLION, WH_PER_KWH

from .offers import GridOffers

# Most of its names are made when it is imported, where mypy does not see them.
cp: Any = cvxpy

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SOLVED = (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)
_INFEASIBLE = (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE)


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Linearised limits, effect @ net <= room.

    Attributes:
        limit: (K,) position of each cut's limit in `GridPowerFlow.limits`.
        effect: (K, N) by member, scaled so that the largest of a row is 1.
        room_wh: (K,) in the same scale.
    """

    limit: Integers
    effect: Floats
    room_wh: Floats

    @classmethod
    def none(cls, members: int) -> Cuts:
        """No limits."""
        return cls(np.zeros(0, np.int64), np.zeros((0, members)), np.zeros(0))

    def without(self, limits: Integers) -> Cuts:
        """Those of other limits only."""
        keep = ~np.isin(self.limit, limits)
        return Cuts(self.limit[keep], self.effect[keep], self.room_wh[keep])

    def joined(self, other: Cuts) -> Cuts:
        """Both together."""
        return Cuts(
            np.concatenate((self.limit, other.limit)),
            np.concatenate((self.effect, other.effect)),
            np.concatenate((self.room_wh, other.room_wh)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """An outcome in whole numbers.

    Attributes:
        accepted_wh: (J,) of each offer.
        net_wh: (N,) by member.
        fee_parts_nano_per_wh: (K, N) what each cut charges each member for a Wh fed in; negative pays it.
    """

    accepted_wh: Integers
    net_wh: Integers
    fee_parts_nano_per_wh: Integers


class MarketProgram:
    """The offers of one interval as arrays.

    Attributes:
        fixed_wh: (N,) as offered, before any curtailment.
    """

    def __init__(self, offers: GridOffers) -> None:
        self.offers = offers
        flat = [(n, offer) for n, member in enumerate(offers.members) for offer in member.offers]
        self.member: Integers = np.array([n for n, _ in flat], dtype=np.int64)
        self.sign: Integers = np.array(
            [1 if offer.kind == "sell" else -1 for _, offer in flat], dtype=np.int64
        )
        self.limit_wh: Integers = np.array([offer.limit_wh for _, offer in flat], dtype=np.int64)
        self.price: Integers = np.array(
            [offer.price_nano_per_wh for _, offer in flat], dtype=np.int64
        )
        self.fixed_wh: Integers = np.array(
            [member.fixed_wh for member in offers.members], dtype=np.int64
        )

    def net_wh(self, accepted_wh: Integers, fixed_wh: Integers) -> Integers:
        """(N,) by member."""
        net = fixed_wh.copy()
        np.add.at(net, self.member, self.sign * accepted_wh)
        return net

    def highest_effect_wh(self, effect: Floats, fixed_wh: Integers) -> Floats:
        """(K,) the largest effect @ net that offers within their limits can have."""
        moved = effect[:, self.member] * (self.sign * self.limit_wh)
        highest: Floats = effect @ fixed_wh + np.maximum(moved, 0).sum(axis=1)
        return highest

    def welfare_nano(self, schedule: Schedule) -> int:
        """What the objective is worth at a schedule, in whole nano."""
        offers = self.offers
        value = -int((self.sign * self.price * schedule.accepted_wh).sum())
        supply = int(schedule.net_wh.clip(min=0).sum())
        demand = int(-schedule.net_wh.clip(max=0).sum())
        spread = offers.import_price_nano_per_wh - offers.export_price_nano_per_wh
        traded = min(supply, demand) if spread > offers.trade_fee_nano_per_wh else 0
        return (
            value
            - offers.import_price_nano_per_wh * (demand - traded)
            + offers.export_price_nano_per_wh * (supply - traded)
            - offers.trade_fee_nano_per_wh * traded
        )

    def clear(self, cuts: Cuts, fixed_wh: Integers) -> Schedule | None:
        """The best schedule within the cuts; None where no acceptance of offers meets them.

        Raises:
            ClearingFailed: the solver failed.
        """
        accepted, net, constraints = self._variables(fixed_wh / WH_PER_KWH)
        objective, balance = self._objective(accepted, net)
        limits: Any = cuts.effect @ net <= cuts.room_wh / WH_PER_KWH
        constraints = [*constraints, *balance, *([limits] if len(cuts.limit) else [])]
        if not _solve(cp.Problem(cp.Maximize(objective), constraints)):
            return None
        whole = np.zeros(0, np.int64)
        if len(self.member):
            whole = np.rint(WH_PER_KWH * np.asarray(accepted.value)).astype(np.int64)
            whole = whole.clip(0, self.limit_wh)
        parts = np.zeros(cuts.effect.shape, np.int64)
        if len(cuts.limit):
            multiplier = np.asarray(limits.dual_value).clip(min=0)
            parts = np.rint(MILLION * multiplier[:, None] * cuts.effect).astype(np.int64)
        return Schedule(whole, self.net_wh(whole, fixed_wh), parts)

    def least_curtailment(
        self, cuts: Cuts, fixed_wh: Integers, affected: npt.NDArray[np.bool_]
    ) -> float | None:
        """The smallest part of the affected members' fixed energy to cut off so that offers can do the rest; None if none is enough.

        Raises:
            ClearingFailed: the solver failed.
        """
        part = cp.Variable(bounds=[0, 1])
        _, net, constraints = self._variables(
            (fixed_wh - cp.multiply(part, np.where(affected, fixed_wh, 0))) / WH_PER_KWH
        )
        constraints.append(cuts.effect @ net <= cuts.room_wh / WH_PER_KWH)
        if not _solve(cp.Problem(cp.Minimize(part), constraints)):
            return None
        assert part.value is not None
        return float(part.value)

    def _variables(self, fixed_kwh: Any) -> tuple[Any, Any, list[Any]]:
        members, count = len(self.fixed_wh), len(self.member)
        net = cp.Variable(members)
        accepted = cp.Variable(max(count, 1))
        if not count:
            return accepted, net, [net == fixed_kwh, accepted == 0]
        adds = np.zeros((members, count))
        adds[self.member, np.arange(count)] = self.sign
        return (
            accepted,
            net,
            [
                accepted >= 0,
                accepted <= self.limit_wh / WH_PER_KWH,
                net == fixed_kwh + adds @ accepted,
            ],
        )

    def _objective(self, accepted: Any, net: Any) -> tuple[Any, list[Any]]:
        """Money in currency units, energy in kWh."""
        offers = self.offers
        supply = cp.Variable(len(self.fixed_wh), nonneg=True)
        imported, exported, traded = (cp.Variable(nonneg=True) for _ in range(3))
        value = (
            -(self.sign * self.price / MILLION) @ accepted if len(self.member) else cp.Constant(0.0)
        )
        objective = (
            value
            - offers.import_price_nano_per_wh / MILLION * imported
            + offers.export_price_nano_per_wh / MILLION * exported
            - offers.trade_fee_nano_per_wh / MILLION * traded
        )
        return objective, [
            supply >= net,
            cp.sum(supply) == traded + exported,
            cp.sum(supply) - cp.sum(net) == traded + imported,
        ]


def _solve(problem: Any) -> bool:
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.SolverError as error:
        raise ClearingFailed(
            f"Clarabel failed on the market with grid limits: {error}",
            "look for energies or prices of very different sizes in the offers",
        ) from None
    if problem.status in _SOLVED:
        return True
    if problem.status in _INFEASIBLE:
        return False
    raise ClearingFailed(
        f"Clarabel ended with {problem.status}", "look for a wrong number in the offers"
    )
