"""Energy and money of a period, added up exactly and fast: NumPy where 64 bits are enough, integers of any size elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle_format import Series

_SAFE = 1 << 62
Numbers = NDArray[Any]


class Steps:
    """Discount and premium per interval.

    Args:
        steps: discount and premium in nano per Wh.
    """

    def __init__(self, steps: Sequence[tuple[int, int]]) -> None:
        self.largest = max((max(step) for step in steps), default=0)
        table = np.array(steps, dtype=object).reshape(-1, 2)
        fits = table.astype(np.int64) if self.largest < _SAFE else table
        self.discount, self.premium = fits[:, 0], fits[:, 1]

    def __len__(self) -> int:
        return len(self.discount)


def due_nano(series: Series, steps: Steps, prices: tuple[int, int]) -> int:
    """What a member receives (negative: pays) over a period.

    Args:
        series: its readings, one for each step.
        steps: discount and premium per interval.
        prices: outside import and export price.
    """
    net = series.net_wh
    bound = (max(abs(price) for price in prices) + steps.largest) * _largest(net) * len(net)
    if bound >= _SAFE:
        net = net.astype(object)
    buying, selling = prices[0] - steps.discount, prices[1] + steps.premium
    return int(np.where(net < 0, net * buying, net * selling).sum())


def outside_nano(series: Series, prices: tuple[int, int]) -> int:
    """What the same member would have received without the community."""
    return due_nano(series, Steps([(0, 0)] * len(series.quality)), prices)


def group_totals(
    readings: Mapping[int, Series], groups: Mapping[int, int | None], count: int, group_count: int
) -> tuple[Numbers, Numbers]:
    """Demand and supply, by group and interval.

    Args:
        readings: by slot.
        groups: number of each slot's group; None counts nowhere.
        count: intervals.
        group_count: groups.
    """
    found = np.zeros((2, group_count, count), dtype=np.int64)
    # 2^20 members of at most 2^56 Wh need more than 64 bits.
    if sum(_largest(series.net_wh) for series in readings.values()) >= _SAFE:
        found = found.astype(object)
    for slot, series in readings.items():
        group = groups[slot]
        if group is not None:
            net = series.net_wh
            found[0, group] += np.maximum(-net, 0)
            found[1, group] += np.maximum(net, 0)
    return found[0], found[1]


def _largest(values: Numbers) -> int:
    return int(np.abs(values).max(initial=0))
