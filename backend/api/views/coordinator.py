"""What the coordinator sees of its work: completeness, how far periods are, outside position, exceptions with their mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from backend.domain.community import FIRST_MEMBER_SLOT, small_groups
from backend.domain.readings import Quality
from backend.domain.states import CycleState
from backend.domain.values import Value
from backend.ledger.cycle import Item
from oracle.wire import unpack_readings

from ..site import Site, Standing
from .community import community_day
from .settled import settled_of
from .values import Exact, HexText

_SHOWN_DAYS = 14


class CompletenessCell(Value):
    """A member's day: how many intervals came about how."""

    period: int
    measured: int
    substituted: int
    missing: int


class CompletenessRow(Value):
    """A member's days."""

    slot: int
    name: str
    cells: tuple[CompletenessCell, ...]


class Completeness(Value):
    """The completeness matrix; columns are `periods`, oldest first."""

    periods: tuple[int, ...]
    days: tuple[str, ...]
    rows: tuple[CompletenessRow, ...]


class PeriodState(Value):
    """How far a version of a period is.

    Attributes:
        state: of the cycle; see backend/domain/states.py.
        attempts: how often it was refused or voided.
        standing: what holds of its batch; null while none stands.
    """

    period: int
    day: str
    version: int
    state: str
    since: datetime | None
    attempts: int
    batch_number: int | None
    batch_hash: HexText | None
    transaction_hash: HexText | None
    standing: Standing | None
    challenge_until: datetime | None
    reason: str


class OutsidePosition(Value):
    """What the coordinator buys and sells outside in an interval."""

    interval: int
    start: datetime
    end: datetime
    buy_wh: Exact
    sell_wh: Exact


class PeriodPosition(Value):
    """The outside position of a day; of the running one as far as it is over."""

    period: int
    day: str
    buy_wh: Exact
    sell_wh: Exact
    intervals: tuple[OutsidePosition, ...]


class ExceptionItem(Value):
    """Something that wants attention, and what mends it."""

    code: str
    level: Literal["warning", "wrong"]
    period: int | None
    slot: int | None
    message: str
    remedy: str


class Overview(Value):
    """The coordinator's start page."""

    running: int
    running_day: str
    completeness: Completeness
    periods: tuple[PeriodState, ...]
    position: PeriodPosition | None
    exceptions: tuple[ExceptionItem, ...]


# --- Completeness and periods --------------------------------------------------------------------------------------------------


def completeness(site: Site, days: int = _SHOWN_DAYS) -> Completeness:
    """How many readings of each member's newest days came about how.

    Args:
        site: the community.
        days: how many, the running one included.
    """
    return site.made_once(("completeness", days), lambda: _completeness(site, days))


def _completeness(site: Site, days: int) -> Completeness:
    running = site.running_period().number
    known = {item.period for item in site.cycle.items()}
    known |= {batch.header.period for batch in site.batches()} | {running}
    periods = sorted(known)[-days:]
    members = site.participants()
    counts = {period: _qualities(site, period) for period in periods}
    return Completeness(
        periods=tuple(periods),
        days=tuple(site.day(period) for period in periods),
        rows=tuple(
            CompletenessRow(
                slot=member.slot,
                name=member.name,
                cells=tuple(_cell(period, counts[period].get(member.slot)) for period in periods),
            )
            for member in members
        ),
    )


def _cell(period: int, counts: Counter[Quality] | None) -> CompletenessCell:
    found = counts or Counter()
    return CompletenessCell(
        period=period,
        measured=found[Quality.MEASURED],
        substituted=found[Quality.SUBSTITUTED],
        missing=found[Quality.MISSING],
    )


def _qualities(site: Site, period: int) -> dict[int, Counter[Quality]]:
    """By slot how many intervals are of which quality: as settled, as reported, or as far as the day has gone."""
    batch = site.newest_of(period)
    slots = [member.slot for member in site.rules.members(period)]
    if batch is not None:
        parts = {slot: settled_of(site).own(batch.header, slot) for slot in slots}
        return {
            slot: Counter(item.quality for item in part.readings)
            for slot, part in parts.items()
            if part is not None
        }
    versions = [item.version for item in site.cycle.items() if item.period == period]
    report = site.cycle.report(period, max(versions)) if versions else None
    if report is not None:
        return {
            slot: Counter(item.quality for item in unpack_readings(vector))
            for slot, (_, vector) in report.slots.items()
        }
    return {
        slot: Counter(Quality(row.quality) for row in site.previewed(slot, period).readings)
        for slot in slots
    }


def periods(site: Site) -> tuple[PeriodState, ...]:
    """How far every version of every period is, newest first."""
    batches = {batch.batch_hash: batch for batch in site.batches()}
    found = []
    for item in reversed(site.cycle.items()):
        batch = batches.get(item.batch_hash)
        found.append(
            PeriodState(
                period=item.period,
                day=site.day(item.period),
                version=item.version,
                state=item.state.value,
                since=site.moment(item.at),
                attempts=item.attempts,
                batch_number=batch.number if batch else None,
                batch_hash=item.batch_hash or None,
                transaction_hash=batch.transaction_hash if batch else None,
                standing=batch.standing if batch else None,
                challenge_until=site.moment(batch.final_at) if batch else None,
                reason=item.reason,
            )
        )
    return tuple(found)


def position(site: Site, period: int) -> PeriodPosition | None:
    """What is to be bought and sold outside for a day; None if there is nothing of it."""
    day = community_day(site, period)
    if day is None:
        return None
    return PeriodPosition(
        period=period,
        day=day.day,
        buy_wh=day.totals.imported_wh,
        sell_wh=day.totals.exported_wh,
        intervals=tuple(
            OutsidePosition(
                interval=item.interval,
                start=item.start,
                end=item.end,
                buy_wh=item.imported_wh,
                sell_wh=item.exported_wh,
            )
            for item in day.intervals
        ),
    )


# --- Exceptions ------------------------------------------------------------------------------------------------------------------

_WAITING = {
    CycleState.COLLECTING: "see that enough oracle signers answer and have the day's readings",
    CycleState.COLLECTED: "run the cycle; it is prepared next",
    CycleState.PREPARED: "run the cycle; its bundle is published next",
    CycleState.PUBLISHED: "run the cycle; it is submitted next",
    CycleState.SUBMITTING: "see that the node answers and the coordinator's key can pay",
    CycleState.REFUSED: "read the reason; the cycle prepares it again by itself",
    CycleState.VOIDED: "read the reason; the cycle prepares it again by itself",
}


def exceptions(site: Site) -> tuple[ExceptionItem, ...]:
    """What wants attention, the worst first."""
    found = [
        *_stuck(site),
        *_overturned(site),
        *_demanded(site),
        *_failing(site),
        *_gaps(site),
        *_registered_otherwise(site),
        *_small(site),
    ]
    return tuple(sorted(found, key=lambda item: item.level != "wrong"))


def _stuck(site: Site) -> Iterator[ExceptionItem]:
    for item in site.cycle.items():
        if item.state in _WAITING:
            failed = item.state in (CycleState.REFUSED, CycleState.VOIDED)
            yield _exception(
                f"period.{item.state.value}",
                f"{site.day(item.period)} version {item.version} is {item.state.value}"
                + (f": {item.reason}" if item.reason else ""),
                _WAITING[item.state],
                wrong=failed,
                item=item,
            )


def _overturned(site: Site) -> Iterator[ExceptionItem]:
    standing = {batch.header.period for batch in site.batches()}
    for event in site.voided():
        if event["period"] not in standing:
            yield ExceptionItem(
                code="batch.voided",
                level="wrong",
                period=event["period"],
                slot=None,
                message=f"batch {event['number']} was overturned by {event['challenger']}",
                remedy="find out what was wrong before it is prepared again",
            )


def _demanded(site: Site) -> Iterator[ExceptionItem]:
    for batch in site.batches():
        if batch.standing is Standing.DISPUTED:
            yield ExceptionItem(
                code="batch.demanded",
                level="wrong",
                period=batch.header.period,
                slot=None,
                message=f"data of batch {batch.number} are demanded on the chain and not shown yet",
                remedy="see that the coordinator runs: it shows them by itself; what nobody shows in time falls",
            )


def _failing(site: Site) -> Iterator[ExceptionItem]:
    for failure in site.failures():
        yield ExceptionItem(
            code=failure.code,
            level="wrong",
            period=None,
            slot=None,
            message=failure.message,
            remedy=failure.remedy,
        )


def _gaps(site: Site) -> Iterator[ExceptionItem]:
    """Members whose newest days lack readings."""
    matrix = completeness(site, 2)
    for row in matrix.rows:
        for cell, day in zip(row.cells, matrix.days, strict=True):
            if cell.missing:
                yield ExceptionItem(
                    code="readings.missing",
                    level="warning",
                    period=cell.period,
                    slot=row.slot,
                    message=f"{row.name}: {cell.missing} readings of {day} are missing",
                    remedy="look after the meter and its gateway; what comes in late leads to a correction",
                )


def _registered_otherwise(site: Site) -> Iterator[ExceptionItem]:
    """Members on chain that the configuration does not know, or knows otherwise."""
    known = {item.slot: item for item in site.participants()}
    for event in site.events("MemberAdmitted"):
        slot, account = event["slot"], event["account"]
        if slot < FIRST_MEMBER_SLOT:
            continue
        item = known.get(slot)
        if item is None:
            what = f"slot {slot} is registered for {account} and not in the configuration"
        elif item.account.lower() != account.lower():
            what = f"slot {slot} is registered for {account}, and the configuration says {item.account}"
        else:
            continue
        yield ExceptionItem(
            code="member.differs",
            level="wrong",
            period=None,
            slot=slot,
            message=what,
            remedy="put the member into the configuration as it is registered",
        )


def _small(site: Site) -> Iterator[ExceptionItem]:
    members = site.rules.members(site.running_period().number)
    for (node, tariff_class), size in small_groups(members).items():
        yield ExceptionItem(
            code="group.small",
            level="warning",
            period=None,
            slot=None,
            message=f"{size} members at {node} in {tariff_class}: the chain shows their sum",
            remedy="merge nodes or tariff classes until every group is large enough",
        )


def _exception(code: str, message: str, remedy: str, *, wrong: bool, item: Item) -> ExceptionItem:
    return ExceptionItem(
        code=code,
        level="wrong" if wrong else "warning",
        period=item.period,
        slot=None,
        message=message,
        remedy=remedy,
    )


def overview(site: Site) -> Overview:
    """The coordinator's start page."""
    running = site.running_period().number
    return Overview(
        running=running,
        running_day=site.day(running),
        completeness=completeness(site),
        periods=periods(site)[:_SHOWN_DAYS],
        position=position(site, running),
        exceptions=exceptions(site),
    )
