"""The transformer's meter bounds the members': honest days pass, what is hidden or invented is flagged."""

from __future__ import annotations

import numpy as np
import pytest

from backend.grid.cases import SCENARIOS, day_net_w
from backend.grid.power_flow import GridPowerFlow
from oracle.transformer_check import StatedLosses, TransformerGap, transformer_gaps
from tests.support.grid_cases import feeder, village

# Iron and what else always flows: 1.2 kW is 300 Wh in a quarter-hour.
STATED = StatedLosses(fixed_wh=310, permille_of_throughput=80)


def registers(energy_wh: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[list[int]]:
    """What counters show that are read in whole Wh at each interval's end."""
    return np.diff(np.floor(np.cumsum(energy_wh, axis=0)), axis=0, prepend=0).astype(int).tolist()


def day() -> tuple[list[int], list[int], list[list[int]], list[list[int]]]:
    """A winter day with the losses that the AC power flow has."""
    powers = day_net_w(SCENARIOS["winter-evening"], feeder())
    source = GridPowerFlow(village()).run(powers).source_w[:, None] / 4
    come, gone = registers(source.clip(min=0)), registers((-source).clip(min=0))
    imported, exported = registers((-powers / 4).clip(min=0)), registers((powers / 4).clip(min=0))
    return [row[0] for row in come], [row[0] for row in gone], imported, exported


def test_a_days_real_losses_are_within_the_stated_ones() -> None:
    assert transformer_gaps(*day(), STATED) == []


def test_losses_stated_too_low_are_seen() -> None:
    gaps = transformer_gaps(*day(), StatedLosses(fixed_wh=310, permille_of_throughput=0))
    assert gaps
    assert all(gap.gap_wh > 0 for gap in gaps)


@pytest.mark.parametrize(("change", "sign"), [(-0.2, 1), (0.2, -1)])
def test_a_meter_that_lies_in_the_evening_is_flagged(change: float, sign: int) -> None:
    come, gone, imported, exported = day()
    for interval in range(76, 80):
        imported[interval] = [round(wh * (1 + change)) for wh in imported[interval]]
    gaps = transformer_gaps(come, gone, imported, exported, STATED)
    assert [gap.interval for gap in gaps] == [76, 77, 78, 79]
    assert all(gap.gap_wh * sign > 0 for gap in gaps)


def test_by_hand() -> None:
    # 1000 in; members take 700 and feed in 100, others take 300: 100 left for losses, of 20 + 10 % of 800 stated.
    stated = StatedLosses(20, 100, rounding_wh=0)
    assert transformer_gaps([1000], [0], [[700, 0]], [[0, 100]], stated, [300]) == []
    (gap,) = transformer_gaps([1001], [0], [[700, 0]], [[0, 100]], stated, [300])
    assert gap == TransformerGap(0, losses_wh=101, allowed_wh=100, gap_wh=1)
    (gap,) = transformer_gaps([890], [0], [[700, 0]], [[0, 100]], stated, [300])
    assert gap == TransformerGap(0, losses_wh=-10, allowed_wh=100, gap_wh=-10)
    assert (
        transformer_gaps([890], [0], [[700, 0]], [[0, 100]], StatedLosses(20, 100, 10), [300]) == []
    )


def test_series_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="intervals"):
        transformer_gaps([1], [0], [], [[0]], STATED)
    with pytest.raises(ValueError, match="imports"):
        transformer_gaps([1], [0], [[1]], [[0, 0]], STATED)
    with pytest.raises(ValueError, match="negative"):
        StatedLosses(-1, 0)
