"""Substitute values for intervals that were not measured; every one of them is marked.

| rule | needs | gives |
|---|---|---|
| `linear` | registers on both sides of the gap, and a short gap | the energy between them in equal parts |
| `weekday` | the same intervals measured a week earlier | their shape; scaled to the energy between the registers where both are there |
| `zero` | nothing | neither import nor export |

The rules are tried in the order of the policy; where none applies the interval stays missing. Metering practice is the same
(VDE-AR-N 4400: interpolation up to two hours, comparable days beyond). Sums are exact: a part is
floor(cumulative share) - floor(the one before), so that the parts of a gap add up to what the registers grew by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from backend.domain.readings import IntervalReading, Quality

RULES = ("linear", "weekday", "zero")
INTERVALS_PER_WEEK = {5: 2016, 15: 672}


@dataclass(frozen=True, slots=True)
class SubstitutionPolicy:
    """Which rules apply; all signers of a community must have the same.

    Attributes:
        rules: of `RULES`, in the order they are tried.
        linear_limit_intervals: longest gap that is filled linearly; two hours of quarter-hours.
        reference_shift_intervals: how far the midnight a week earlier lies back; an hour off a week where clocks change.
    """

    rules: tuple[str, ...] = ()
    linear_limit_intervals: int = 8
    reference_shift_intervals: int = INTERVALS_PER_WEEK[15]

    @property
    def uses_weekday(self) -> bool:
        """Whether readings a week earlier are needed."""
        return "weekday" in self.rules


NO_SUBSTITUTION = SubstitutionPolicy()


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive intervals without a measured value.

    Attributes:
        intervals: their numbers.
        total: import and export between the registers around the gap; None if there are none that fit together.
    """

    intervals: range
    total: tuple[int, int] | None


def substitute(
    gaps: Iterable[Gap],
    policy: SubstitutionPolicy,
    first_interval: int,
    reference: Sequence[IntervalReading] | None,
) -> dict[int, tuple[IntervalReading, str]]:
    """Values for the gaps, by interval, each with the rule it comes from.

    Args:
        gaps: of one meter.
        policy: the rules.
        first_interval: of the period.
        reference: the energy of the day a week earlier, from its midnight on.
    """
    found = {}
    for gap in gaps:
        for rule in policy.rules:
            values = _fill(rule, gap, policy, first_interval, reference)
            if values is None:
                continue
            for interval, (taken, given) in zip(gap.intervals, values, strict=True):
                reading = IntervalReading(taken, given, Quality.SUBSTITUTED)
                found[interval] = (reading, f"substituted: {rule}")
            break
    return found


def _fill(
    rule: str,
    gap: Gap,
    policy: SubstitutionPolicy,
    first_interval: int,
    reference: Sequence[IntervalReading] | None,
) -> list[tuple[int, int]] | None:
    length = len(gap.intervals)
    if rule == "zero":
        return [(0, 0)] * length
    if rule == "linear":
        if gap.total is None or length > policy.linear_limit_intervals:
            return None
        return _scaled(gap.total, [1] * length, [1] * length)
    start = gap.intervals.start - first_interval
    days = (reference or ())[start : start + length]
    if len(days) < length or any(item.quality is not Quality.MEASURED for item in days):
        return None
    if gap.total is None:
        return [(item.import_wh, item.export_wh) for item in days]
    return _scaled(gap.total, [item.import_wh for item in days], [item.export_wh for item in days])


def _scaled(
    total: tuple[int, int], import_weights: list[int], export_weights: list[int]
) -> list[tuple[int, int]]:
    return list(
        zip(_parts(total[0], import_weights), _parts(total[1], export_weights), strict=True)
    )


def _parts(total: int, weights: list[int]) -> list[int]:
    """A total in whole parts by weight; their sum is the total."""
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    floors = [total * share // whole for share in accumulate(weights, initial=0)]
    return [later - earlier for earlier, later in pairwise(floors)]
