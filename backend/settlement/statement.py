"""A member's amount, recomputed from its own readings and the published prices; as `contracts/src/libraries/Statement.sol`."""

from __future__ import annotations

from collections.abc import Sequence

from backend.domain.readings import IntervalReading
from backend.market.problem import Group


def interval_amount_nano(reading: IntervalReading, step: tuple[int, int], group: Group) -> int:
    """What the member receives (negative: pays) for one interval.

    Args:
        reading: the member's energy.
        step: discount and premium of the interval, nano per Wh.
        group: the member's group.
    """
    discount, premium = step
    net = reading.net_wh
    if net < 0:
        return net * (group.import_price_nano_per_wh - discount)
    return net * (group.export_price_nano_per_wh + premium)


def statement_amount_nano(
    readings: Sequence[IntervalReading],
    steps: Sequence[tuple[int, int]],
    group: Group,
    traded_nano: int | None = None,
) -> int:
    """What the member receives (negative: pays) over the period, with what its trades brought."""
    return (traded_nano or 0) + sum(
        interval_amount_nano(reading, step, group)
        for reading, step in zip(readings, steps, strict=True)
    )
