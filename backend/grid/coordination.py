"""Mutual coordination of market and system operator (DTU slides, "Mutual coordination"; mechanism, section 10).

1. The market clears without the grid. 2. The operator runs the AC power flow. 3. Where a limit is broken it linearises the flow
there; the market clears again with these cuts, whose multipliers are the extra fees. 4. The operator checks again, and so on.

Why it ends. Rounds are bounded, and each further one asks for twice the margin. The older tangents of a limit stay as long as it
is still broken, so what was cut off stays cut off; once it holds the newest replaces them, being the truest. (Voltage rises
less and less with power fed in, so tangents of the upper limit lie on the safe side.) If the last round is still not good, all
offers are scaled down by one fraction found by AC power flows, which succeeds wherever accepting none does.

When no fee can help, the limits are broken by what nobody offered to change. Then the *curtailment rule* applies: every
connection point whose fixed energy pushes a limit that cannot be met by offers, with at least a tenth of the effect of the
strongest, loses the same fraction of it: kept = |fixed| (1000 - c) // 1000 with c the smallest number of thousandths at which
the offers can do the rest. One number and one list, which anybody can recompute from the published offers and grid.

Where these are not enough (a limit that only those with little effect move, tangents from too far away), no offer is accepted and all
members alike fall under the rule, with the smallest c that the AC power flow bears. If even c = 1000 leaves a limit broken, the
members cannot mend it and the outcome says so (`unsolved`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from backend.domain.errors import PowerFlowFailed

from .market_program import Cuts, Floats, Integers, MarketProgram, Schedule
from .offers import GridOffers
from .power_flow import GridPowerFlow

Status = Literal["within-limits", "healed", "curtailed", "scaled-back", "unsolved"]

_THOUSAND: Final = 1000
# A connection point with less than this part of the strongest effect on a limit has no share in breaking it.
_SHARE_OF_STRONGEST: Final = 0.1
# Solver and rounding to Wh stay below.
_TOLERANCE: Final = 1e-9
# Points between no offer and every accepted one, among which the first linearisation chooses.
_POINTS: Final = 16


@dataclass(frozen=True, slots=True)
class Rules:
    """How the operator proceeds.

    Attributes:
        most_rounds: AC checks at most, before scaling back.
        margin: kept to every limit, per unit, in the first round with cuts; doubled in each further one.
        unused: room left at a binding limit (per unit) above which the flow is linearised once more, to give it back.
    """

    most_rounds: int = 8
    margin: float = 2e-4
    unused: float = 4e-3


@dataclass(frozen=True, slots=True)
class Round:
    """One check: the schedule's welfare, and the limits it breaks with their values, in per unit."""

    welfare_nano: int
    broken: tuple[tuple[int, float], ...]
    margin: float


@dataclass(frozen=True, slots=True, eq=False)
class Coordination:
    """What came out.

    Attributes:
        rounds: one for each AC check of a schedule.
        before, after: schedules without and with the grid.
        values_before, values_after: (limits,) of the power flow; None where it has no solution.
        cuts: those of the last round, the rows of `after.fee_parts_nano_per_wh`.
        sensitivities: (limits, members) per W, where the last cuts were made; of zones the mean of their members.
        fixed_wh: (N,) after curtailment.
        curtailed_permille: c of the rule.
        affected: (N,) whom it hit.
        cause: the limits that offers cannot meet, for which it was needed.
        scaled_back_permille: what was left of all accepted offers, 1000 if the rounds sufficed.
        zones: of each member, if fees are the same within a zone.
    """

    status: Status
    offers: GridOffers
    program: MarketProgram
    rounds: tuple[Round, ...]
    before: Schedule
    after: Schedule
    values_before: Floats | None
    values_after: Floats | None
    cuts: Cuts
    sensitivities: Floats | None
    fixed_wh: Integers
    curtailed_permille: int = 0
    affected: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    cause: tuple[int, ...] = ()
    scaled_back_permille: int = _THOUSAND
    zones: tuple[str, ...] | None = None


class Coordinator:
    """The operator of one grid.

    Args:
        flow: the grid.
        rules: how to proceed.
        zone_of: by connection point, if all of a zone are to pay the same fee: its members' mean effect counts as everyone's.
            What that leaves broken further rounds mend.
    """

    def __init__(
        self,
        flow: GridPowerFlow,
        rules: Rules | None = None,
        zone_of: Mapping[str, str] | None = None,
    ) -> None:
        self.flow = flow
        self.rules = rules or Rules()
        self.zone_of = zone_of

    def coordinate(self, offers: GridOffers) -> Coordination:
        """Market and operator in turn, until every limit holds.

        Raises:
            InputError: the offers do not fit the grid.
            ClearingFailed: the solver failed.
        """
        offers.check(self.flow.model.connection_points)
        zones = None
        if self.zone_of is not None:
            zones = tuple(self.zone_of[member.connection_point] for member in offers.members)
        return _Case(self.flow, self.rules, offers, zones).run()


class _Case:
    """One interval on its way."""

    def __init__(
        self,
        flow: GridPowerFlow,
        rules: Rules,
        offers: GridOffers,
        zones: tuple[str, ...] | None,
    ) -> None:
        self.flow, self.rules, self.offers, self.zones = flow, rules, offers, zones
        self.program = MarketProgram(offers)
        points = {point: index for index, point in enumerate(flow.model.connection_points)}
        self.point = np.array([points[m.connection_point] for m in offers.members], dtype=np.int64)
        self.w_per_wh = 60 / offers.interval.minutes
        self.reactive_var = self._by_point(
            np.array([m.reactive_varh for m in offers.members], dtype=np.int64)
        )
        self.fixed_wh = self.program.fixed_wh
        self.curtailed = 0
        self.affected = np.zeros(len(offers.members), np.bool_)
        self.cause: tuple[int, ...] = ()
        self.rounds: list[Round] = []

    def run(self) -> Coordination:
        members = len(self.offers.members)
        before = after = self._cleared(Cuts.none(members))
        values_before = values = self._check(before, 0.0)
        cuts, effects = Cuts.none(members), None
        margin = self.rules.margin
        best: tuple[Schedule, Floats, Cuts, Floats] | None = None
        while len(self.rounds) < self.rules.most_rounds and not (
            values is not None and self._holds(values) and not self._wasteful(after, values, cuts)
        ):
            if values is not None and self._holds(values):
                assert effects is not None
                best = self._better(best, (after, values, cuts, effects))
            if effects is None or values is None:
                around, at = self._near_the_limits(after, values)
            else:
                around, at = after.net_wh.astype(np.float64), values
            effects = self._effects(around)
            cuts = self._next_cuts(cuts, around, at, effects, margin)
            found = self._cleared_or_curtailed(cuts)
            if found is None:
                return self._scaled_back(before, after, values_before, cuts, effects)
            after = found
            values = self._check(after, margin)
            if best is not None and values is not None and self._holds(values):
                break
            margin *= 2
        if best is not None:
            # The attempt to give room back may have failed.
            if values is not None and self._holds(values):
                assert effects is not None
                best = self._better(best, (after, values, cuts, effects))
            after, values, cuts, effects = best
        if values is None or not self._holds(values):
            return self._scaled_back(before, after, values_before, cuts, effects)
        status: Status = (
            "curtailed" if self.curtailed else "healed" if effects is not None else "within-limits"
        )
        return self._outcome(status, before, after, values_before, values, cuts, effects)

    # --- Checks -------------------------------------------------------------------------------------------------------

    def _by_point(self, by_member: Integers | Floats) -> Floats:
        found = np.zeros(len(self.flow.model.connection_points))
        np.add.at(found, self.point, by_member * self.w_per_wh)
        return found

    def _values(self, net_wh: Integers | Floats) -> Floats | None:
        try:
            found: Floats = self.flow.run(self._by_point(net_wh), self.reactive_var).values()[0]
        except PowerFlowFailed:
            return None
        return found

    def _values_on(self, way_wh: Integers | Floats) -> list[Floats | None]:
        """Each of many points in one batch, or one by one where some have no power flow."""
        by_point = np.array([self._by_point(net) for net in way_wh])
        try:
            return list(self.flow.run(by_point, self.reactive_var).values())
        except PowerFlowFailed:
            return [self._values(net) for net in way_wh]

    def _check(self, schedule: Schedule, margin: float) -> Floats | None:
        values = self._values(schedule.net_wh)
        broken: tuple[tuple[int, float], ...] = ()
        if values is not None:
            over = np.flatnonzero(values > self.flow.bounds + _TOLERANCE).tolist()
            broken = tuple((k, float(values[k])) for k in over)
        self.rounds.append(Round(self.program.welfare_nano(schedule), broken, margin))
        return values

    def _holds(self, values: Floats) -> bool:
        return bool((values <= self.flow.bounds + _TOLERANCE).all())

    def _wasteful(self, schedule: Schedule, values: Floats, cuts: Cuts) -> bool:
        """Whether a limit that costs somebody money leaves room unused."""
        charged = np.unique(cuts.limit[schedule.fee_parts_nano_per_wh.any(axis=1)])
        return bool((self.flow.bounds - values > self.rules.unused)[charged].any())

    def _better(
        self,
        one: tuple[Schedule, Floats, Cuts, Floats] | None,
        other: tuple[Schedule, Floats, Cuts, Floats],
    ) -> tuple[Schedule, Floats, Cuts, Floats]:
        if one is None:
            return other
        return max(one, other, key=lambda item: self.program.welfare_nano(item[0]))

    # --- Cuts ---------------------------------------------------------------------------------------------------------

    def _near_the_limits(self, schedule: Schedule, values: Floats | None) -> tuple[Floats, Floats]:
        """Where to linearise first: on the way from no offer to every accepted one, the last point that holds.

        Tangents there are truer than far out at the broken schedule. Where not even the first point holds, it is the
        schedule itself, or if that has no power flow the furthest point that has one.
        """
        parts = np.arange(_POINTS) / _POINTS
        way = self.fixed_wh + parts[:, None] * (schedule.net_wh - self.fixed_wh)
        seen = self._values_on(way)
        good = [k for k, found in enumerate(seen) if found is not None and self._holds(found)]
        if not good and values is not None:
            return schedule.net_wh.astype(np.float64), values
        solved = good or [k for k, found in enumerate(seen) if found is not None]
        if not solved:
            # Without any energy the grid has a power flow, or it is no grid.
            return np.zeros(len(self.fixed_wh)), self.flow.run(
                np.zeros_like(self.reactive_var)
            ).values()[0]
        at = seen[solved[-1]]
        assert at is not None
        return way[solved[-1]], at

    def _effects(self, net_wh: Floats) -> Floats:
        by_point = self.flow.sensitivities(self._by_point(net_wh), self.reactive_var)
        effects: Floats = by_point[:, self.point]
        if self.zones is None:
            return effects
        names = np.array(self.zones)
        for zone in set(self.zones):
            inside = names == zone
            effects[:, inside] = effects[:, inside].mean(axis=1, keepdims=True)
        return effects

    def _next_cuts(
        self, cuts: Cuts, around_wh: Floats, at: Floats, effects: Floats, margin: float
    ) -> Cuts:
        """Tangents to every limit that the offers could break, with the older ones of limits still broken."""
        scale = np.abs(effects).max(axis=1)
        known = scale > 1e-12  # per W: what moves by less than 1e-6 with a MW is no limit of ours
        effect = np.divide(
            effects, scale[:, None], where=known[:, None], out=np.zeros_like(effects)
        )
        room_w = np.divide(
            self.flow.bounds - margin - at, scale, where=known, out=np.full(len(scale), np.inf)
        )
        room_wh = effect @ around_wh + room_w / self.w_per_wh
        could = known & (self.program.highest_effect_wh(effect, self.program.fixed_wh) > room_wh)
        # Curtailment may take away what held a limit down.
        could |= known & (self.program.highest_effect_wh(effect, self.fixed_wh) > room_wh)
        chosen = np.flatnonzero(could)
        kept = cuts.without(np.flatnonzero(at <= self.flow.bounds))
        return kept.joined(Cuts(chosen, effect[chosen], room_wh[chosen]))

    # --- Schedules ----------------------------------------------------------------------------------------------------

    def _cleared(self, cuts: Cuts) -> Schedule:
        found = self.program.clear(cuts, self.fixed_wh)
        assert found is not None, "without cuts every acceptance is allowed"
        return found

    def _cleared_or_curtailed(self, cuts: Cuts) -> Schedule | None:
        """Clears within the cuts, after curtailment by the rule where offers alone cannot; None where that cannot either."""
        found = self.program.clear(cuts, self.fixed_wh)
        while found is None and self.curtailed < _THOUSAND:
            fixed = self.program.fixed_wh
            broken = cuts.effect @ fixed > cuts.room_wh
            pushes = cuts.effect[broken] * fixed > 0
            strong = np.abs(cuts.effect[broken]) >= _SHARE_OF_STRONGEST
            self.affected |= (pushes & strong).any(axis=0)
            self.cause = tuple(sorted({*self.cause, *cuts.limit[broken].tolist()}))
            part = self.program.least_curtailment(cuts, fixed, self.affected)
            if part is None:
                return None
            # At least one more than before: rounding must not keep us here.
            self.curtailed = min(max(ceil(_THOUSAND * part - 1e-6), self.curtailed + 1), _THOUSAND)
            self.fixed_wh = np.where(self.affected, _kept(fixed, self.curtailed), fixed)
            found = self.program.clear(cuts, self.fixed_wh)
        return found

    # --- Outcomes -----------------------------------------------------------------------------------------------------

    def _scaled_back(
        self,
        before: Schedule,
        after: Schedule,
        values_before: Floats | None,
        cuts: Cuts,
        effects: Floats | None,
    ) -> Coordination:
        """The largest whole number of thousandths of all accepted offers at which the limits hold; fees as of the last cuts."""
        low, high, values_low = 0, _THOUSAND, self._values(self.fixed_wh)
        if values_low is None or not self._holds(values_low):
            values_low = self._curtail_everybody()
        if values_low is None:
            return self._outcome("unsolved", before, after, values_before, None, cuts, effects)
        chosen = Schedule(
            np.zeros_like(after.accepted_wh), self.fixed_wh, after.fee_parts_nano_per_wh
        )
        while high - low > 1:
            middle = (low + high) // 2
            accepted = after.accepted_wh * middle // _THOUSAND
            net = self.program.net_wh(accepted, self.fixed_wh)
            values = self._values(net)
            if values is not None and self._holds(values):
                low, values_low = middle, values
                chosen = Schedule(accepted, net, after.fee_parts_nano_per_wh)
            else:
                high = middle
        outcome = self._outcome(
            "scaled-back", before, chosen, values_before, values_low, cuts, effects
        )
        return replace(outcome, scaled_back_permille=low)

    def _curtail_everybody(self) -> Floats | None:
        """The last resort: the rule for all members alike, with the smallest c at which the AC power flow holds with no offer."""
        low, high, fixed = 0, _THOUSAND, self.program.fixed_wh
        empty = self._values(np.zeros_like(fixed))
        if empty is None or not self._holds(empty):
            return None
        self.affected = np.ones(len(fixed), np.bool_)
        while high - low > 1:
            middle = (low + high) // 2
            values = self._values(_kept(fixed, middle))
            if values is not None and self._holds(values):
                high = middle
            else:
                low = middle
        self.curtailed, self.fixed_wh = high, _kept(fixed, high)
        broken = self._values(fixed)
        if broken is not None:
            self.cause = tuple(np.flatnonzero(broken > self.flow.bounds + _TOLERANCE).tolist())
        return self._values(self.fixed_wh)

    def _outcome(
        self,
        status: Status,
        before: Schedule,
        after: Schedule,
        values_before: Floats | None,
        values_after: Floats | None,
        cuts: Cuts,
        effects: Floats | None,
    ) -> Coordination:
        if len(after.fee_parts_nano_per_wh) != len(cuts.limit):
            cuts = Cuts.none(len(self.offers.members))
        return Coordination(
            status,
            self.offers,
            self.program,
            tuple(self.rounds),
            before,
            after,
            values_before,
            values_after,
            cuts,
            effects,
            self.fixed_wh,
            self.curtailed,
            self.affected,
            self.cause,
            zones=self.zones,
        )


def _kept(fixed_wh: Integers, curtailed_permille: int) -> Integers:
    """What the rule leaves of fixed energy, rounded towards nothing."""
    kept: Integers = np.sign(fixed_wh) * (
        np.abs(fixed_wh) * (_THOUSAND - curtailed_permille) // _THOUSAND
    )
    return kept
