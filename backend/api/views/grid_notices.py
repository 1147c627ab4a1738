"""Limits of the network and what each came to: the operator's fee notices, where coordination of the grid is run (docs/grid.md).

The pool market itself knows no limit of a line: its borders have fees. Limits are the operator's, who publishes for each interval
which of them was in danger, what it would have come to, what it came to, and what each zone pays for it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from backend.domain.case import CaseInterval
from backend.domain.errors import MalformedInput
from backend.domain.values import Value

from ..site import Site
from .values import Exact

Kind = Literal["voltage-low", "voltage-high", "line", "transformer"]
Status = Literal["within-limits", "healed", "curtailed", "scaled-back", "unsolved"]


class GridLimit(Value):
    """A limit that was broken or that charges somebody.

    Attributes:
        element: the bus, line or transformer.
        bound_per_unit: of the nominal voltage, of the rated current or of the rated power.
        before_per_unit: without the operator; null where the power flow has no solution.
        value_per_unit: with it.
        charges: whether there is a fee for it.
    """

    kind: Kind
    element: str
    bound_per_unit: float
    before_per_unit: float | None
    value_per_unit: float | None
    charges: bool


class FeeReason(Value):
    """What a limit charges a zone for a Wh fed in, and why."""

    kind: Kind
    element: str
    fee_nano_per_wh: Exact
    effect_percent_per_kw: float
    text: str


class ZoneFee(Value):
    """What a Wh fed in pays in a zone; drawing pays it with the opposite sign."""

    zone: str
    fee_nano_per_wh: Exact
    reasons: tuple[FeeReason, ...]


class GridNotice(Value):
    """The operator's notice of an interval."""

    interval: int
    start: datetime
    end: datetime
    status: Status
    limits: tuple[GridLimit, ...]
    zones: tuple[ZoneFee, ...]


class GridNotices(Value):
    """The notices of a day, oldest first; none where the grid is not coordinated."""

    period: int
    day: str
    notices: tuple[GridNotice, ...]


class _NoticeFile(Value):
    """Format `peerwatt/fee-notice/1`."""

    format: Literal["peerwatt/fee-notice/1"]
    interval: CaseInterval
    status: Status
    limits: tuple[GridLimit, ...]
    zones: tuple[ZoneFee, ...]


def grid_notices(site: Site, period: int) -> GridNotices:
    """The notices of a day.

    Args:
        site: the community.
        period: which day.

    Raises:
        MalformedInput: a notice is not one, or of another interval than its name says.
    """
    found = site.rules.period(period)
    intervals = range(found.first_interval, found.end_interval) if site.grid_notices else ()
    return GridNotices(
        period=period,
        day=site.day(period),
        notices=tuple(
            notice
            for interval in intervals
            if (notice := _notice(site, site.grid_notices, interval)) is not None
        ),
    )


def _notice(site: Site, folder: Path | None, interval: int) -> GridNotice | None:
    path = folder / f"{interval}.json" if folder else None
    if path is None or not path.is_file():
        return None
    mend = "put the file back as `peerwatt grid` wrote it"
    try:
        read = _NoticeFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MalformedInput("grid_notices", path.name, "not a fee notice", mend) from error
    start = site.interval_start(interval)
    if read.interval.start != start or read.interval.minutes != site.interval_minutes:
        raise MalformedInput("grid_notices", path.name, "of another interval", mend)
    return GridNotice(
        interval=interval,
        start=start,
        end=site.interval_start(interval + 1),
        status=read.status,
        limits=read.limits,
        zones=read.zones,
    )
