"""What all read models share.

Energy in Wh, money in nano currency units, prices in nano per Wh: integers, always below 2^53, so that a browser's numbers hold
them exactly; a larger one is refused. Wei, which need more, are text. Times carry the community's offset from UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from pydantic import Field

from backend.domain.values import Value

EXACT_LIMIT = 2**53
# In smaller groups a sum tells too much about one of them.
SMALLEST_AGGREGATE = 5

Exact = Annotated[int, Field(gt=-EXACT_LIMIT, lt=EXACT_LIMIT)]
Wei = Annotated[str, Field(pattern=r"^[0-9]+$", description="A whole number of wei, as text.")]
HexText = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]*$")]
Item = TypeVar("Item")


class Quality(StrEnum):
    """How a reading came about."""

    MEASURED = "measured"
    SUBSTITUTED = "substituted"
    MISSING = "missing"


class EnergyState(StrEnum):
    """What the community has in an interval."""

    SURPLUS = "surplus"
    SHORTAGE = "shortage"
    BALANCED = "balanced"
    # Nobody needs or offers anything.
    IDLE = "idle"


class Page(Value, Generic[Item]):
    """Part of a list, oldest first unless said otherwise. `next` is what to send as `after` for more; null at the end."""

    items: tuple[Item, ...]
    next: int | None = None
    total: int


class Prices(Value):
    """Prices of an interval in nano per Wh; inside they lie between feed-in (export) and retail (import)."""

    buy_nano_per_wh: Exact
    sell_nano_per_wh: Exact
    outside_import_nano_per_wh: Exact
    outside_export_nano_per_wh: Exact


class IntervalTime(Value):
    """When an interval is.

    Attributes:
        interval: index since the Unix epoch.
        start, end: in the community's time zone.
    """

    interval: int
    start: datetime
    end: datetime


def page(items: Sequence[Item], after: int, limit: int) -> Page[Item]:
    """A page of a list.

    Args:
        items: the whole.
        after: how many to leave out.
        limit: how many at most.
    """
    until = after + limit
    return Page[Item](
        items=tuple(items[after:until]),
        next=until if until < len(items) else None,
        total=len(items),
    )


def energy_state(demand_wh: int, supply_wh: int) -> EnergyState:
    """What the community has: more than it needs, less, exactly as much, or nothing at all."""
    if not demand_wh and not supply_wh:
        return EnergyState.IDLE
    if demand_wh == supply_wh:
        return EnergyState.BALANCED
    return EnergyState.SURPLUS if supply_wh > demand_wh else EnergyState.SHORTAGE


def millionths(part: int, whole: int) -> int:
    """A share in millionths, rounded down; zero of nothing."""
    return part * 1_000_000 // whole if whole else 0
