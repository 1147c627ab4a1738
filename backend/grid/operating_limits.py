"""Dynamic operating limits: what each connection point may draw and feed in, whatever the others do within theirs.

The alternative to fees that many operators ask for ("operating envelopes"; Petrou et al., "Ensuring distribution network
integrity using dynamic operating limits for prosumers", IEEE Trans. Smart Grid 12(5), 2021). Two linear programs for each
direction: first the largest fraction of its wish that everybody can have alike, then, with 98 % of that kept for everybody, as
much in all as the grid bears. Limits are linearised with all at their limits; of each effect only the harmful sign counts, as others may stay away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cvxpy
import numpy as np
import numpy.typing as npt

from backend.domain.errors import ClearingFailed, OutOfRange, PowerFlowFailed

from .power_flow import Floats, GridPowerFlow

# Most of its names are made when it is imported, where mypy does not see them.
cp: Any = cvxpy

_ROUNDS: Final = 6
_MARGIN: Final = 1e-4
_TOLERANCE: Final = 1e-9
_COMMON_KEPT: Final = 0.98


@dataclass(frozen=True, slots=True, eq=False)
class OperatingLimits:
    """Whole watts by connection point, both not negative.

    Attributes:
        draw_w, feed_in_w: (N,).
        common_fraction: of the wishes, what everybody has at least, (draw, feed in).
    """

    draw_w: npt.NDArray[np.int64]
    feed_in_w: npt.NDArray[np.int64]
    common_fraction: tuple[float, float]


def operating_limits(
    flow: GridPowerFlow, draw_wish_w: npt.ArrayLike, feed_in_wish_w: npt.ArrayLike
) -> OperatingLimits:
    """Limits within which nobody can break the grid, up to the wishes.

    Checked by AC power flows with all at the limit of one direction, and of every mixture in which each is at one of its
    limits at random (64 of them); scaled down by thousandths if one is broken.

    Args:
        draw_wish_w, feed_in_wish_w: (N,) by connection point, such as the ratings of the connections.

    Raises:
        InputError: a wish is negative.
        PowerFlowFailed: the grid breaks its limits with nobody on it.
        ClearingFailed: the solver failed.
    """
    wishes = [np.asarray(wish, dtype=np.float64) for wish in (draw_wish_w, feed_in_wish_w)]
    for name, wish in zip(("draw_wish_w", "feed_in_wish_w"), wishes, strict=True):
        if not (np.isfinite(wish) & (wish >= 0)).all():
            raise OutOfRange(
                name, float(wish.min()), "negative or not finite", "give watts of at least 0"
            )
    if not _holds(flow, np.zeros((1, len(wishes[0])))):
        raise PowerFlowFailed(
            "the grid breaks its limits with no member on it",
            "mend what `peerwatt grid check` shows first",
        )
    (draw, draw_part), (feed_in, feed_in_part) = (
        _one_direction(flow, wish, sign) for wish, sign in zip(wishes, (-1, 1), strict=True)
    )
    random = np.random.default_rng(0)
    at_feed_in = random.random((64, len(draw))) < 0.5
    at_feed_in[0], at_feed_in[1] = True, False
    scale = 1000
    while not _holds(flow, np.where(at_feed_in, feed_in, -draw) * scale / 1000):
        scale -= 1
    return OperatingLimits(
        (draw * scale / 1000).astype(np.int64),
        (feed_in * scale / 1000).astype(np.int64),
        (draw_part * scale / 1000, feed_in_part * scale / 1000),
    )


def _holds(flow: GridPowerFlow, net_w: Floats) -> bool:
    try:
        return bool((flow.run(net_w).values() <= flow.bounds + _TOLERANCE).all())
    except PowerFlowFailed:
        return False


def _one_direction(flow: GridPowerFlow, wish: Floats, sign: int) -> tuple[Floats, float]:
    """The limits with everybody drawing (-1) or feeding in (1), and the fraction that all have in common."""
    fraction = 1.0
    while not _solvable(flow, sign * wish * fraction):
        fraction /= 2
    limits = wish * fraction
    common = fraction
    for _ in range(_ROUNDS):
        at = flow.run(sign * limits).values()[0]
        effects = flow.sensitivities(sign * limits)
        harmful = np.maximum(sign * effects, 0)
        # Measured where all are at their limits, so what helps there is already counted; take that help away.
        # With nobody there the grid holds (checked above), so no room is below zero.
        room = (flow.bounds - _MARGIN - at + (sign * effects) @ limits).clip(min=0)
        useful = ((harmful @ wish) > room) & (harmful.max(axis=1) > 1e-12)
        found, common = _share_out(harmful[useful], room[useful], wish)
        settled = np.abs(found - limits).max(initial=0) < 1
        limits = found
        if settled and _holds(flow, sign * limits[None, :]):
            break
    return limits, common


def _solvable(flow: GridPowerFlow, net_w: Floats) -> bool:
    try:
        flow.run(net_w)
    except PowerFlowFailed:
        return False
    return True


def _share_out(harmful: Floats, room_w: Floats, wish: Floats) -> tuple[Floats, float]:
    """The common fraction first, then the largest sum that leaves 98 % of it to everybody."""
    if not len(room_w):
        return wish, 1.0
    scale = harmful.max(axis=1)
    rows, room = harmful / scale[:, None], room_w / scale
    part = cp.Variable(len(wish), bounds=[0, 1])
    kept = [rows @ cp.multiply(wish / 1000, part) <= room / 1000]
    least = cp.Variable()
    _solved(cp.Problem(cp.Maximize(least), [*kept, part >= least]))
    # Without a little of it back nobody could have more: everybody has some effect on every limit.
    common = _COMMON_KEPT * max(float(least.value or 0.0), 0.0)
    _solved(cp.Problem(cp.Maximize((wish / 1000) @ part), [*kept, part >= common]))
    return wish * np.asarray(part.value).clip(0, 1), common


def _solved(problem: Any) -> None:
    problem.solve(solver=cp.CLARABEL)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise ClearingFailed(
            f"Clarabel ended with {problem.status} on the operating limits",
            "look for a wrong number in the wishes",
        )
