"""Which households of the SimBench grid make a community, and in what order they join it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from .simbench_extract import CONNECTION_POINTS, Element, ElementKind, Feeder

# Choosing households. A zone below ten households would be emptied by a community of twenty, so
# small zones come in only once the large ones have given four each (twenty, in this grid).
_SMALL_ZONE_HOUSEHOLDS = 10
_LAPS_BEFORE_SMALL_ZONES = 4
# Barn roofs and heat pumps of whole blocks come last: they would drown the families next door.
_LARGEST_FAMILY_ELEMENT_W = 12_000

_SMALLEST_SCALE_PERMILLE = 700
_LARGEST_SCALE_PERMILLE = 1300
_LARGEST_SHIFT_QUARTER_HOURS = 4


@dataclass(frozen=True, slots=True)
class Household:
    """Everything behind one household meter.

    `elements` carry the ratings of *this* household. Where `derived` is true it is not in SimBench
    but was made from a real one: every rating times `scale_permille` / 1000, and its loads moved
    `load_shift_quarter_hours` later (earlier if negative). The sun is the same for everybody, so
    PV is never moved. A derived household shares its connection point with its original.
    """

    household_id: str
    connection_point: str
    bus: str
    zone: str
    pv_peak_w: int
    has_heat_pump: bool
    has_ev: bool
    elements: tuple[Element, ...]
    derived: bool = False
    scale_permille: int = 1000
    load_shift_quarter_hours: int = 0


def select_households(feeder: Feeder, members: int = 20, seed: int = 0) -> tuple[Household, ...]:
    """The first `members` households of the order that `seed` gives, `house-01` first.

    The zones take turns. In each zone households with PV alternate with households without, and of
    the latter those with a heat pump or an electric car come first, so that even a small community
    has sellers and buyers in each of its zones. Within that pattern `seed` decides.

    Household k is the same whatever `members` is. Beyond what the grid has, further ones are
    derived from the real ones in the same order (see `Household`), with scales of 0.7 to 1.3 and
    shifts of at most an hour.

    Raises ValueError if `members` is below one or the grid has no household.
    """
    if members < 1:
        raise ValueError(f"members must be at least 1, not {members}")
    real = _order(_households(feeder), seed)
    if not real:
        raise ValueError(f"{CONNECTION_POINTS} has no element of kind 'household'")
    chosen: list[Household] = []
    for number in range(1, members + 1):
        household = real[(number - 1) % len(real)]
        if number > len(real):
            household = _derive(household, number, seed)
        chosen.append(replace(household, household_id=f"house-{number:02d}"))
    return tuple(chosen)


def _households(feeder: Feeder) -> list[Household]:
    """The connection points with a household load, in the file's order and not yet numbered."""
    behind: dict[str, list[Element]] = {}
    for element in feeder.elements:
        behind.setdefault(element.connection_point, []).append(element)
    return [
        _household(tuple(elements))
        for elements in behind.values()
        if any(element.kind is ElementKind.HOUSEHOLD for element in elements)
    ]


def _household(elements: tuple[Element, ...]) -> Household:
    kinds = {element.kind for element in elements}
    return Household(
        household_id="",
        connection_point=elements[0].connection_point,
        bus=elements[0].bus,
        zone=elements[0].zone,
        pv_peak_w=sum(e.rated_power_w for e in elements if e.kind is ElementKind.PV),
        has_heat_pump=ElementKind.HEAT_PUMP in kinds,
        has_ev=ElementKind.EV in kinds,
        elements=elements,
    )


def _order(households: list[Household], seed: int) -> list[Household]:
    """Households in the order in which they join a community."""
    zones: dict[str, list[Household]] = {}
    for household in households:
        zones.setdefault(household.zone, []).append(household)
    turns: list[tuple[int, int, Household]] = []
    by_size = sorted(zones, key=lambda zone: (-len(zones[zone]), zone))
    for rank, zone in enumerate(by_size):
        late = len(zones[zone]) < _SMALL_ZONE_HOUSEHOLDS
        first_lap = _LAPS_BEFORE_SMALL_ZONES if late else 0
        queue = _queue(zones[zone], seed, car_first=rank % 2 == 1)
        turns.extend((first_lap + lap, rank, household) for lap, household in enumerate(queue))
    turns.sort(key=lambda turn: turn[:2])
    return [household for _, _, household in turns]


def _queue(households: list[Household], seed: int, car_first: bool) -> list[Household]:
    """One zone's households: PV, heat pump or car, PV, neither, and so on while there are any.

    `car_first` says whether, of the second kind, a car or a heat pump opens; the zones differ in it
    so that a small community has both.
    """

    def turn(household: Household) -> tuple[bool, int]:
        outsized = any(
            element.rated_power_w > _LARGEST_FAMILY_ELEMENT_W
            for element in household.elements
            if element.kind in (ElementKind.PV, ElementKind.HEAT_PUMP)
        )
        return outsized, _draw(seed, household.connection_point)

    waiting = sorted(households, key=turn)
    producers = [h for h in waiting if h.pv_peak_w > 0]
    heat_pumps = [h for h in waiting if h.pv_peak_w == 0 and h.has_heat_pump]
    cars = [h for h in waiting if h.pv_peak_w == 0 and h.has_ev and not h.has_heat_pump]
    plain = [h for h in waiting if not (h.pv_peak_w > 0 or h.has_heat_pump or h.has_ev)]
    flexible = _alternate(cars, heat_pumps) if car_first else _alternate(heat_pumps, cars)
    return _alternate(producers, _alternate(flexible, plain))


def _alternate(first: list[Household], second: list[Household]) -> list[Household]:
    """One of each in turn, then the rest of the longer list."""
    common = min(len(first), len(second))
    pairs = [household for pair in zip(first, second, strict=False) for household in pair]
    return pairs + first[common:] + second[common:]


def _derive(original: Household, number: int, seed: int) -> Household:
    """A household that is not in SimBench, like `original` but larger or smaller and shifted."""
    scales = _LARGEST_SCALE_PERMILLE - _SMALLEST_SCALE_PERMILLE + 1
    shifts = 2 * _LARGEST_SHIFT_QUARTER_HOURS + 1
    scale_permille = _SMALLEST_SCALE_PERMILLE + _draw(seed, f"scale of {number}") % scales
    shift = _draw(seed, f"shift of {number}") % shifts - _LARGEST_SHIFT_QUARTER_HOURS
    return replace(
        _household(tuple(_scaled(element, scale_permille) for element in original.elements)),
        derived=True,
        scale_permille=scale_permille,
        load_shift_quarter_hours=shift,
    )


def _scaled(element: Element, scale_permille: int) -> Element:
    rated_power_w = (element.rated_power_w * scale_permille + 500) // 1000
    return replace(element, rated_power_w=rated_power_w)


def _draw(seed: int, label: str) -> int:
    """A number below 2**64 that depends on `seed` and `label` only.

    A hash and not a random generator: draws must not depend on how many were made before, nor on
    the version of a library.
    """
    digest = hashlib.sha256(f"{seed}/{label}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
