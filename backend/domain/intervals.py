"""Intervals and periods.

An *interval* is a slot of 5 or 15 minutes, numbered since the Unix epoch in UTC. A *period* is what is settled together:
a local day, numbered in days since 1970-01-01 by its local date. On the days when clocks change it has 92 or 100
quarter-hours instead of 96.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

EPOCH_DATE = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Period:
    """A local day.

    Attributes:
        number: days from 1970-01-01 to the local date.
        first_interval: index since the Unix epoch of the first interval.
        interval_count: how many intervals the day has.
        interval_minutes: 5 or 15.
    """

    number: int
    first_interval: int
    interval_count: int
    interval_minutes: int

    @property
    def end_interval(self) -> int:
        """Index of the first interval after the period."""
        return self.first_interval + self.interval_count

    @property
    def day(self) -> date:
        """The local date."""
        return EPOCH_DATE + timedelta(days=self.number)

    def interval_start(self, index: int) -> datetime:
        """Start in UTC of the period's interval number `index` (0-based)."""
        seconds = (self.first_interval + index) * self.interval_minutes * 60
        return datetime.fromtimestamp(seconds, UTC)


def local_day(day: date, zone: str = "UTC", interval_minutes: int = 15) -> Period:
    """The period of a local date.

    Args:
        day: local date.
        zone: IANA time zone name, such as `Europe/Copenhagen`.
        interval_minutes: 5 or 15.

    Raises:
        ValueError: the zone is unknown, or midnight does not fall on an interval's border there.
    """
    tz = ZoneInfo(zone)
    seconds = interval_minutes * 60
    starts = int(datetime.combine(day, time(), tz).timestamp())
    ends = int(datetime.combine(day + timedelta(days=1), time(), tz).timestamp())
    if starts % seconds or ends % seconds:
        raise ValueError(
            f"midnight in {zone} on {day} is not a multiple of {interval_minutes} minutes"
        )
    return Period(
        number=(day - EPOCH_DATE).days,
        first_interval=starts // seconds,
        interval_count=(ends - starts) // seconds,
        interval_minutes=interval_minutes,
    )
