"""What pictures and charts are drawn from: positions of the feeder's parts, series of a day. Figures for people are in the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, Final

from backend.api.views.community import CommunityDay, Participants, TradeNetwork
from backend.api.views.member import MemberDay
from backend.api.views.member_trades import MemberTrade
from backend.api.views.values import Prices
from backend.domain.units import WH_PER_KWH

from .languages import Language

_NANO_PER_WH_IN_CENTS: Final = 10_000
# The feeder's picture.
WIDTH: Final = 520
_ROW: Final = 116
_TOP: Final = 76
_FIRST_HOUSE: Final = 140
_LAST_HOUSE: Final = 496
_STATION_X: Final = 30


@dataclass(frozen=True)
class House:
    """A member's place in the feeder's picture."""

    slot: int
    name: str
    x: int
    y: int
    plant: bool
    own: bool


@dataclass(frozen=True)
class Branch:
    """A feeder that leaves the substation; where `hidden`, too few live there to show what they trade."""

    id: str
    y: int
    members: int
    hidden: bool
    houses: tuple[House, ...]


@dataclass(frozen=True)
class FeederPicture:
    """The community on its feeders; x to the right, y down."""

    width: int
    height: int
    station: tuple[int, int]
    branches: tuple[Branch, ...]

    def trades(
        self, network: TradeNetwork, own: Sequence[MemberTrade], slot: int | None
    ) -> dict[str, Any]:
        """What the script animates: by interval, paths along the feeder with their energy.

        Args:
            network: trades between places.
            own: the member's own trades.
            slot: whose they are.
        """
        branches = {branch.id: branch for branch in self.branches}
        houses = {house.slot: house for branch in self.branches for house in branch.houses}
        steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for trade in network.trades:
            path = self._between(branches[trade.from_place], branches[trade.to_place])
            steps[trade.interval].append(
                {
                    "path": path,
                    "wh": trade.energy_wh,
                    "own": False,
                    "from": trade.from_place,
                    "to": trade.to_place,
                }
            )
        for item in own:
            here, there = houses.get(slot or 0), houses.get(item.partner_slot)
            if here is None or there is None:
                continue
            seller, buyer = (here, there) if item.side == "sold" else (there, here)
            steps[item.interval].append(
                {
                    "path": self._door_to_door(seller, buyer),
                    "wh": item.energy_wh,
                    "own": True,
                    "from": seller.name,
                    "to": buyer.name,
                }
            )
        return {str(interval): found for interval, found in steps.items()}

    def _between(self, seller: Branch, buyer: Branch) -> str:
        """Along a feeder, or from one to another through the substation."""
        middle = (_FIRST_HOUSE + _LAST_HOUSE) // 2
        if seller.id == buyer.id:
            return f"M{_FIRST_HOUSE - 40} {seller.y}H{_LAST_HOUSE}"
        x, y = self.station
        return (
            f"M{middle} {seller.y}H{x + 40}C{x} {seller.y} {x} {seller.y} {x} {y}"
            f"C{x} {buyer.y} {x} {buyer.y} {x + 40} {buyer.y}H{middle}"
        )

    def _door_to_door(self, seller: House, buyer: House) -> str:
        if abs(seller.y - buyer.y) < _ROW // 2:
            lift = min(seller.y, buyer.y) - 34
            return f"M{seller.x} {seller.y}C{seller.x} {lift} {buyer.x} {lift} {buyer.x} {buyer.y}"
        x, y = self.station
        return (
            f"M{seller.x} {seller.y}C{seller.x - 70} {seller.y} {x} {seller.y} {x} {y}"
            f"C{x} {buyer.y} {buyer.x - 70} {buyer.y} {buyer.x} {buyer.y}"
        )


def feeder_picture(
    network: TradeNetwork, participants: Participants, own_slots: Iterable[int]
) -> FeederPicture:
    """Places the members on the feeders they live on, in slot order."""
    own = set(own_slots)
    places = network.places
    branches = []
    for row, node in enumerate(places):
        people = [item for item in participants.items if item.node in node.nodes]
        y = _TOP + _ROW * row
        step = (_LAST_HOUSE - _FIRST_HOUSE) / max(1, len(people) - 1)
        houses = tuple(
            House(
                slot=item.slot,
                name=item.name,
                x=round(_FIRST_HOUSE + step * place),
                # Right and left of the street, so that a long one stays readable.
                y=y + (17 if place % 2 else -17),
                plant=bool(item.generation_peak_w),
                own=item.slot in own,
            )
            for place, item in enumerate(people)
        )
        branches.append(Branch(node.id, y, node.members, network.hidden, houses))
    height = _TOP + _ROW * (len(places) - 1) + 50
    return FeederPicture(
        WIDTH, height, (_STATION_X, _TOP + _ROW * (len(places) - 1) // 2), tuple(branches)
    )


@dataclass(frozen=True)
class PriceScale:
    """Positions of an interval's prices between feed-in and retail, from 0 to 1000."""

    buy: int
    sell: int


def price_scale(prices: Prices) -> PriceScale:
    """Where prices lie between the outside ones."""
    low, high = prices.outside_export_nano_per_wh, prices.outside_import_nano_per_wh
    width = max(1, high - low)

    def place(price: int) -> int:
        return max(0, min(1000, (price - low) * 1000 // width))

    return PriceScale(place(prices.buy_nano_per_wh), place(prices.sell_nano_per_wh))


# --- Charts: series that `static/charts.js` draws --------------------------------------------------------------------------------


def _kwh(values: Iterable[int]) -> list[float]:
    return [value / WH_PER_KWH for value in values]


def _cents(values: Iterable[int]) -> list[float]:
    return [value / _NANO_PER_WH_IN_CENTS for value in values]


def _series(name: str, colour: str, values: Sequence[float], **more: Any) -> dict[str, Any]:
    return {"name": name, "colour": colour, "values": values, **more}


def member_chart(day: MemberDay, words: Mapping[str, str], language: Language) -> dict[str, Any]:
    """A member's day: import upwards, export downwards, each by where it came from or went."""
    rows = day.intervals
    up, down = {"stack": "all"}, {"stack": "all", "sign": -1}
    return {
        "times": _times(rows, day.interval_minutes, language),
        "slots": _slots_of(day.interval_minutes),
        "unit": "kWh",
        "places": 3,
        "series": [
            _series(words["from_neighbours"], "inside", _kwh(r.bought_inside_wh for r in rows), **up),
            _series(words["from_outside"], "import", _kwh(r.bought_outside_wh for r in rows), **up),
            _series(words["to_neighbours"], "inside", _kwh(-r.sold_inside_wh for r in rows), light=True, **down),
            _series(words["to_outside"], "export", _kwh(-r.sold_outside_wh for r in rows), **down),
        ],
    }  # fmt: skip


def price_chart(
    rows: Sequence[Any], minutes: int, words: Mapping[str, str], unit: str, language: Language
) -> dict[str, Any]:
    """Prices over a day, between feed-in and retail.

    Args:
        rows: intervals with `start` and `prices`.
        minutes: of an interval.
        words: names of the four prices.
        unit: of prices.
        language: of the times.
    """
    prices = [row.prices for row in rows]
    line = {"line": True}
    return {
        "times": _times(rows, minutes, language),
        "slots": _slots_of(minutes),
        "unit": unit,
        "places": 2,
        "series": [
            _series(words["retail"], "soft", _cents(p.outside_import_nano_per_wh for p in prices), dashed=True, **line),
            _series(words["buy"], "import", _cents(p.buy_nano_per_wh for p in prices), **line),
            _series(words["sell"], "export", _cents(p.sell_nano_per_wh for p in prices), **line),
            _series(words["feed_in"], "soft", _cents(p.outside_export_nano_per_wh for p in prices), dashed=True, **line),
        ],
    }  # fmt: skip


def community_chart(
    day: CommunityDay, words: Mapping[str, str], language: Language
) -> dict[str, Any]:
    """The community's day: what is needed upwards, what is left over downwards."""
    rows = day.intervals
    stack = {"stack": "all"}
    return {
        "times": _times(rows, day.interval_minutes, language),
        "slots": _slots_of(day.interval_minutes),
        "unit": "kWh",
        "places": 2,
        "series": [
            _series(words["traded"], "inside", _kwh(r.traded_wh for r in rows), **stack),
            _series(words["imported"], "import", _kwh(r.imported_wh for r in rows), **stack),
            _series(words["exported"], "export", _kwh(-r.exported_wh for r in rows), sign=-1, **stack),
        ],
    }  # fmt: skip


def bar_chart(
    times: Sequence[str], series: Sequence[tuple[str, str, Sequence[float]]], unit: str, places: int
) -> dict[str, Any]:
    """Bars beside each other; each series has a name, a colour and its values."""
    made = [_series(name, colour, values) for name, colour, values in series]
    return {
        "times": list(times),
        "slots": len(times),
        "unit": unit,
        "places": places,
        "series": made,
    }


def _times(rows: Sequence[Any], minutes: int, language: Language) -> list[str]:
    """When intervals begin, those included that are still to come on the day."""
    found = [language.clock(row.start) for row in rows]
    if not rows:
        return found
    day, zone = rows[0].start.date(), rows[0].start.tzinfo
    moment = rows[-1].start.astimezone(UTC)
    while (later := (moment := moment + timedelta(minutes=minutes)).astimezone(zone)).date() == day:
        found.append(language.clock(later))
    return found


def _slots_of(minutes: int) -> int:
    return 24 * 60 // minutes
