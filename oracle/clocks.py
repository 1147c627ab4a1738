"""Which signers' clocks go wrong, seen by whoever asks all of them.

A signer with a slow clock refuses readings as not over yet and periods as not begun; one with a fast clock takes readings of
the future. Neither shows in a report, so clocks are compared each time one is put together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from backend.domain.errors import InputError
from backend.domain.values import parse_json


@dataclass(frozen=True, slots=True)
class ClockReading:
    """How far a signer's clock is ahead of the asker's.

    Attributes:
        offset_seconds: negative if it is behind.
        uncertainty_seconds: half of the time that asking took.
    """

    offset_seconds: float
    uncertainty_seconds: float


def read_clock(
    ask: Callable[[str], bytes], clock: Callable[[], float] = time.time
) -> ClockReading | None:
    """Asks a signer for its time; None if it does not say.

    Args:
        ask: fetches a path of the signer.
        clock: the asker's, seconds since the Unix epoch.
    """
    before = clock()
    body = ask("/health")
    after = clock()
    try:
        told = float(parse_json(body, "answer")["time"])
    except (InputError, ValueError, KeyError, TypeError, OverflowError):
        return None
    if not math.isfinite(told):
        return None
    return ClockReading(told - (before + after) / 2, (after - before) / 2)


def wrong_clocks(clocks: Mapping[str, ClockReading], tolerance_seconds: float) -> dict[str, float]:
    """By signer, how many seconds its clock is ahead of the middle one; those within the tolerance are left out.

    The asker's own clock is one of those compared: with two signers it decides, and with more it does not matter.
    """
    middle = median([0.0, *(item.offset_seconds for item in clocks.values())]) if clocks else 0.0
    return {
        name: item.offset_seconds - middle
        for name, item in clocks.items()
        if abs(item.offset_seconds - middle) - item.uncertainty_seconds > tolerance_seconds
    }


def describe_clock(ahead_seconds: float) -> str:
    """A clock that goes wrong, in words."""
    side = "ahead of" if ahead_seconds > 0 else "behind"
    return f"clock is {abs(ahead_seconds):.0f} s {side} the others"
