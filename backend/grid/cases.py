"""Two days on the bundled grid that break its limits: a summer noon full of sun, and a winter evening of cars and heat pumps.

Households, profiles and grid are SimBench's. What SimBench does not have is stated here: how far roofs, wall boxes and heat
pumps have spread, and what members are willing to pay or to forgo. Willingness is drawn from the household's name, so it is
the same on every machine.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from backend.domain.case import CaseInterval
from backend.domain.errors import MalformedInput
from oracle.sources.simbench import INTERVALS_PER_DAY, Element, ElementKind, Feeder, ProfileWindow

from .formats.simbench import simbench_grid
from .model import GridModel
from .offers import GridMember, GridOffers, Offer

IMPORT_PRICE: Final = 300_000
EXPORT_PRICE: Final = 60_000
TRADE_FEE: Final = 20_000
# Loads at power factor 0.97; inverters and chargers at 1.
_REACTIVE_PER_ACTIVE: Final = 0.25
_MINUTES: Final = 15
_HOURS: Final = _MINUTES / 60


@dataclass(frozen=True, slots=True)
class Scenario:
    """A day and how far things have spread.

    Attributes:
        peak_interval: number of the quarter-hour (UTC) to look at alone.
        roof_w: PV put on every household that has none in SimBench.
        charger_w, heat_pump_w: rating of the car charger and heat pump put in every household without.
        at_once: part of the added wall boxes in use, in every quarter-hour.
        flexible: whether PV, cars and heat pumps follow prices; without, curtailment has to do it.
        transformer_va: rating of another transformer with the same percentages, if it was replaced.
    """

    name: str
    title: str
    day: datetime.date
    peak_interval: int
    roof_w: int = 0
    charger_w: int = 0
    heat_pump_w: int = 0
    at_once: float = 1.0
    flexible: bool = True
    transformer_va: int | None = None


_SUNNIEST: Final = datetime.date(2016, 6, 23)

SCENARIOS: Final = {
    item.name: item
    for item in (
        Scenario(
            "summer-noon",
            "Summer noon, 12 kW of PV on every roof that has none",
            _SUNNIEST,
            peak_interval=48,
            roof_w=12_000,
        ),
        Scenario(
            "summer-noon-reinforced",
            "The same summer noon after the transformer was replaced by one of 1 MVA",
            _SUNNIEST,
            peak_interval=48,
            roof_w=12_000,
            transformer_va=1_000_000,
        ),
        Scenario(
            "summer-noon-inflexible",
            "The same summer noon, and nobody offers to feed in less",
            _SUNNIEST,
            peak_interval=48,
            roof_w=12_000,
            flexible=False,
        ),
        Scenario(
            "winter-evening",
            "Winter evening, a 5 kW heat pump in every household and an 11 kW wall box in use in three of ten",
            datetime.date(2016, 1, 27),
            peak_interval=79,
            charger_w=11_000,
            heat_pump_w=5_000,
            at_once=0.3,
        ),
    )
}


def scenario(name: str) -> Scenario:
    """A scenario by name.

    Raises:
        MalformedInput: there is none of that name.
    """
    if name not in SCENARIOS:
        raise MalformedInput("case", name, "no such case", f"choose one of {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


def scenario_grid(item: Scenario, feeder: Feeder) -> GridModel:
    """The bundled grid as the scenario has it."""
    grid = simbench_grid(feeder)
    if item.transformer_va is None:
        return grid
    factor = item.transformer_va / grid.transformers[0].rated_power_va
    replaced = tuple(
        replace(
            plate,
            rated_power_va=plate.rated_power_va * factor,
            iron_loss_w=plate.iron_loss_w * factor,
        )
        for plate in grid.transformers
    )
    return replace(grid, transformers=replaced)


def scenario_offers(item: Scenario, feeder: Feeder, interval: int) -> GridOffers:
    """What every connection point offers in a quarter-hour of the scenario's day, commercial ones included.

    Raises:
        MalformedInput: no such quarter-hour in a day.
    """
    if not 0 <= interval < INTERVALS_PER_DAY:
        raise MalformedInput("interval", interval, "no such quarter-hour", "give 0 to 95")
    window = next(w for w in feeder.windows if w.first_day <= item.day <= w.last_day)
    step = (item.day - window.first_day).days * INTERVALS_PER_DAY + interval
    behind: dict[str, list[Element]] = {}
    for element in feeder.elements:
        behind.setdefault(element.connection_point, []).append(element)
    start = datetime.datetime.combine(item.day, datetime.time(), datetime.UTC)
    return GridOffers(
        interval=CaseInterval(
            start=start + datetime.timedelta(minutes=_MINUTES * interval), minutes=_MINUTES
        ),
        import_price_nano_per_wh=IMPORT_PRICE,
        export_price_nano_per_wh=EXPORT_PRICE,
        trade_fee_nano_per_wh=TRADE_FEE,
        members=tuple(
            _member(item, point, elements, window, step) for point, elements in behind.items()
        ),
    )


def _member(
    item: Scenario, point: str, elements: list[Element], window: ProfileWindow, step: int
) -> GridMember:
    watts = dict.fromkeys(ElementKind, 0.0)
    for element in elements:
        watts[element.kind] += element.rated_power_w * _share(window, element.profile, step)
    kinds = {element.kind for element in elements}
    if ElementKind.HOUSEHOLD in kinds:
        if ElementKind.PV not in kinds:
            watts[ElementKind.PV] = item.roof_w * _share(
                window, _profile(window, "PV3", "PV"), step
            )
        if ElementKind.EV not in kinds and _draw(point, "charges") < item.at_once:
            watts[ElementKind.EV] = item.charger_w
        if ElementKind.HEAT_PUMP not in kinds:
            watts[ElementKind.HEAT_PUMP] = item.heat_pump_w * _share(
                window, _profile(window, "Air_Parallel_1", "Air", "Soil"), step
            )
    load_wh = _wh(watts[ElementKind.HOUSEHOLD] + watts[ElementKind.COMMERCIAL])
    pv_wh, car_wh, heat_wh = (
        _wh(watts[kind]) for kind in (ElementKind.PV, ElementKind.EV, ElementKind.HEAT_PUMP)
    )
    offers = [
        # Sun costs nothing, yet not everybody lets it go for nothing.
        Offer(kind="sell", limit_wh=pv_wh, price_nano_per_wh=_price(point, "pv", 0, 20_000)),
        # Waiting is harder for some cars and houses than for others.
        Offer(
            kind="buy", limit_wh=car_wh, price_nano_per_wh=_price(point, "car", 320_000, 500_000)
        ),
        Offer(
            kind="buy", limit_wh=heat_wh, price_nano_per_wh=_price(point, "heat", 400_000, 900_000)
        ),
    ]
    fixed_wh = -load_wh
    if not item.flexible:
        fixed_wh, offers = fixed_wh + pv_wh - car_wh - heat_wh, []
    return GridMember(
        id=point,
        connection_point=point,
        fixed_wh=fixed_wh,
        reactive_varh=-round(_REACTIVE_PER_ACTIVE * load_wh),
        offers=tuple(offer for offer in offers if offer.limit_wh),
    )


def day_net_w(item: Scenario, feeder: Feeder) -> npt.NDArray[np.float64]:
    """(96, N) power of each connection point if every offer is taken, for validations of a whole day."""
    found = []
    for interval in range(INTERVALS_PER_DAY):
        members = scenario_offers(item, feeder, interval).members
        found.append(
            [
                (m.fixed_wh + sum(o.limit_wh * (1 if o.kind == "sell" else -1) for o in m.offers))
                / _HOURS
                for m in members
            ]
        )
    return np.array(found)


def _share(window: ProfileWindow, profile: str, step: int) -> float:
    return float(window.profiles[profile][step]) / 100_000


def _profile(window: ProfileWindow, usual: str, *kinds: str) -> str:
    """The profile of what is added; on a SimBench grid that does not have the usual one, the first of its kind.

    Raises:
        MalformedInput: it has none of that kind.
    """
    if usual in window.profiles:
        return usual
    for name in sorted(window.profiles):
        if name.startswith(kinds):
            return name
    raise MalformedInput("profiles", usual, "not in this extract", "choose a grid that has some")


def _wh(watts: float) -> int:
    return round(watts * _HOURS)


def _draw(point: str, label: str) -> float:
    """From 0 to 1, depending on the names only."""
    digest = hashlib.sha256(f"{point}/{label}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _price(point: str, label: str, lowest: int, highest: int) -> int:
    return lowest + round(_draw(point, label) * (highest - lowest))
