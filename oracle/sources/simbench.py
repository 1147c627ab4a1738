"""Households of a real low-voltage grid, replayed from the SimBench extract in `oracle/data`.

SimBench (www.simbench.de) gives, for one German village grid, which connection point has which
loads and which photovoltaic generator, and the average active power of each for every quarter-hour.
A household here is everything behind one connection point; what its meter sees is

    net power = sum over loads (rating x profile) - sum over generators (rating x profile)

imported where positive and exported where negative, netted inside each quarter-hour. Batteries are
left out. The data are under the ODbL 1.0; `oracle/data/simbench/README.md` has source and licence.

Energy is counted as a meter counts it: two registers run through the whole recorded window and are
read, in whole watt-hours, at every quarter-hour's end. Ratings are whole watts and profiles whole
hundred-thousandths, so the registers are exact integers: the result is the same on every machine,
and over any run of days of one window the rounding adds up to less than one watt-hour.
"""

from __future__ import annotations

import datetime

import numpy as np

from .simbench_extract import (
    INTERVALS_PER_DAY,
    INTERVALS_PER_HOUR,
    PROFILE_STEPS_PER_UNIT,
    PROFILES,
    Bus,
    Element,
    ElementKind,
    Feeder,
    IntegerArray,
    Line,
    ProfileWindow,
    Transformer,
    available_days,
    load_feeder,
)
from .simbench_households import Household, select_households

__all__ = [
    "INTERVALS_PER_DAY",
    "Bus",
    "Element",
    "ElementKind",
    "Feeder",
    "Household",
    "Line",
    "ProfileWindow",
    "Transformer",
    "available_days",
    "behind_the_meter_wh",
    "interval_energy_wh",
    "load_feeder",
    "select_households",
]

# One watt of rating, at one step of the profile, for one quarter-hour: the registers' own unit.
_STEPS_PER_WATT_HOUR = INTERVALS_PER_HOUR * PROFILE_STEPS_PER_UNIT


def interval_energy_wh(
    household: Household, day: datetime.date, feeder: Feeder
) -> tuple[IntegerArray, IntegerArray]:
    """What the household's meter counts on the UTC day `day`: `(import_wh, export_wh)`.

    Two int64 arrays of shape `(96,)`, watt-hours per quarter-hour, first the one beginning at
    00:00 UTC. Generation is netted against load inside each quarter-hour, so in none of them do
    both registers advance.

    Raises ValueError if there are no data for `day`, or none for a profile of the household.
    """
    window = _window_of(feeder, day)
    net = _load_steps(household, window) - _generation_steps(household, window)
    zero = np.int64(0)
    imported = _registered_wh(np.maximum(net, zero), window, day)
    exported = _registered_wh(np.maximum(-net, zero), window, day)
    return imported, exported


def behind_the_meter_wh(
    household: Household, day: datetime.date, feeder: Feeder
) -> tuple[IntegerArray, IntegerArray]:
    """What the household consumed and produced on the UTC day `day`: `(consumed_wh, produced_wh)`.

    Two int64 arrays of shape `(96,)`, counted like `interval_energy_wh` but before netting, which
    is what no grid meter sees: it is for showing how much a household used of its own generation.

    Raises ValueError if there are no data for `day`, or none for a profile of the household.
    """
    window = _window_of(feeder, day)
    consumed = _registered_wh(_load_steps(household, window), window, day)
    produced = _registered_wh(_generation_steps(household, window), window, day)
    return consumed, produced


def _window_of(feeder: Feeder, day: datetime.date) -> ProfileWindow:
    for window in feeder.windows:
        if window.first_day <= day <= window.last_day:
            return window
    ranges = " and ".join(f"{window.first_day} to {window.last_day}" for window in feeder.windows)
    raise ValueError(f"no SimBench data for {day}; UTC days available: {ranges}")


def _load_steps(household: Household, window: ProfileWindow) -> IntegerArray:
    """Consumption in every quarter-hour of the window, in units of the registers."""
    loads = [element for element in household.elements if element.kind is not ElementKind.PV]
    # The window is rolled as a ring: its energy stays what it is, at the price of its two ends
    # meeting, four quarter-hours at most.
    return np.roll(_sum_of(loads, window), household.load_shift_quarter_hours)


def _generation_steps(household: Household, window: ProfileWindow) -> IntegerArray:
    """Generation in every quarter-hour of the window, in units of the registers."""
    return _sum_of([e for e in household.elements if e.kind is ElementKind.PV], window)


def _sum_of(elements: list[Element], window: ProfileWindow) -> IntegerArray:
    total = np.zeros(window.days * INTERVALS_PER_DAY, dtype=np.int64)
    for element in elements:
        if element.profile not in window.profiles:
            raise ValueError(f"{PROFILES} has no column {element.profile!r}")
        total += element.rated_power_w * window.profiles[element.profile]
    return total


def _registered_wh(steps: IntegerArray, window: ProfileWindow, day: datetime.date) -> IntegerArray:
    """The advance of a whole-watt-hour register in each quarter-hour of `day`.

    The register runs from the window's start, so what is cut off in one quarter-hour or day is
    counted in a later one and nothing is lost.
    """
    register_wh = np.cumsum(steps, dtype=np.int64) // _STEPS_PER_WATT_HOUR
    advance_wh = np.diff(register_wh, prepend=np.int64(0))
    first = (day - window.first_day).days * INTERVALS_PER_DAY
    return advance_wh[first : first + INTERVALS_PER_DAY]
