"""Which day a page shows, and its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import Query

from backend.api.site import Site
from backend.domain.errors import MalformedInput, UnknownReference
from backend.domain.intervals import EPOCH_DATE

# In addresses: an ISO date of the community.
DayQuery = Annotated[str | None, Query(alias="day", max_length=10)]


@dataclass(frozen=True)
class ChosenDay:
    """A day of the community.

    Attributes:
        period: its number.
        before, after: the days on either side of it that have something to show, as ISO dates.
    """

    period: int
    before: str | None
    after: str | None


def period_of(day: str) -> int:
    """The number of a day.

    Raises:
        MalformedInput: not a date.
    """
    try:
        return (date.fromisoformat(day) - EPOCH_DATE).days
    except ValueError:
        raise MalformedInput("day", day, "not a date", "write it as 2026-06-21") from None


def chosen_day(site: Site, wanted: str | None, *, running: bool = False) -> ChosenDay:
    """The day asked for, else the newest settled one.

    Args:
        site: the community.
        wanted: ISO date.
        running: whether days without a batch can be shown, the running one included, and is what is shown without a wish.

    Raises:
        MalformedInput: not a date.
        UnknownReference: nothing has been settled yet.
    """
    periods = sorted({batch.header.period for batch in site.batches()})
    if running:
        periods = sorted({*periods, *site.waiting_periods(), site.running_period().number})
    if not periods:
        raise UnknownReference("day", wanted, "nothing has been settled yet", "come back tomorrow")
    period = periods[-1] if wanted is None else period_of(wanted)
    before = [item for item in periods if item < period]
    after = [item for item in periods if item > period]
    return ChosenDay(
        period,
        site.day(before[-1]) if before else None,
        site.day(after[0]) if after else None,
    )
