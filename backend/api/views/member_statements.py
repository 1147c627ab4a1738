"""A member's statements: preview until there is a batch, provisional, final, correction."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from backend.domain.errors import UnknownReference
from backend.domain.values import Value

from ..site import Site, Standing, StandingBatch
from .member import MemberDay, balance_nano, day_of, member_day
from .member_trades import MemberTrade, member_trades, settled_trades
from .settled import OwnPart, settled_of
from .values import Exact, HexText, Quality

_QUALITIES = tuple(Quality)


class StatementSummary(Value):
    """A statement in a list.

    Attributes:
        kind: preview until there is a batch, provisional while it can be challenged, final, or correction.
        due_nano: what the day comes to, all versions together.
        amount_nano: what this batch books.
        cumulative_nano: everything settled so far.
    """

    slot: int
    period: int
    day: str
    version: int
    batch_number: int | None
    batch_hash: HexText | None
    kind: Literal["preview", "provisional", "final", "correction"]
    standing: Standing
    due_nano: Exact
    amount_nano: Exact
    cumulative_nano: Exact
    outside_amount_nano: Exact
    saved_nano: Exact


class Statement(Value):
    """A statement in full. Money in each interval adds up to `summary.due_nano`."""

    summary: StatementSummary
    name: str
    currency: str
    transaction_hash: HexText | None
    challenge_until: datetime | None
    day: MemberDay
    trades: tuple[MemberTrade, ...]


def statement_summaries(site: Site, slot: int) -> tuple[StatementSummary, ...]:
    """A member's statements, newest first: every version of every day that stands."""
    return site.made_once(("statements", slot), lambda: _summaries(site, slot))


def _summaries(site: Site, slot: int) -> tuple[StatementSummary, ...]:
    found = []
    for period in (site.running_period().number, *reversed(site.waiting_periods())):
        day = member_day(site, slot, period)
        if day is not None and site.newest_of(period) is None:
            found.append(_preview_summary(site, day))
    for batch in reversed(site.batches()):
        own = settled_of(site).own(batch.header, slot)
        day = day_of(site, batch, slot) if own else None
        if own is not None and day is not None:
            found.append(_summary(site, batch, own, day))
    return tuple(found)


def _summary(site: Site, batch: StandingBatch, own: OwnPart, day: MemberDay) -> StatementSummary:
    kind: Literal["preview", "provisional", "final", "correction"] = "provisional"
    if batch.header.version:
        kind = "correction"
    elif batch.standing is Standing.SETTLED:
        kind = "final"
    return StatementSummary(
        slot=own.slot,
        period=batch.header.period,
        day=site.day(batch.header.period),
        version=batch.header.version,
        batch_number=batch.number,
        batch_hash=batch.batch_hash,
        kind=kind,
        standing=batch.standing,
        due_nano=day.totals.amount_nano,
        amount_nano=own.amount_nano,
        cumulative_nano=own.cumulative_nano,
        outside_amount_nano=day.totals.outside_amount_nano,
        saved_nano=day.totals.saved_nano,
    )


def _preview_summary(site: Site, day: MemberDay) -> StatementSummary:
    return StatementSummary(
        slot=day.slot,
        period=day.period,
        day=day.day,
        version=0,
        batch_number=None,
        batch_hash=None,
        kind="preview",
        standing=day.standing,
        due_nano=day.totals.amount_nano,
        amount_nano=day.totals.amount_nano,
        cumulative_nano=balance_nano(site, day.slot) + day.totals.amount_nano,
        outside_amount_nano=day.totals.outside_amount_nano,
        saved_nano=day.totals.saved_nano,
    )


def statement(site: Site, slot: int, period: int, version: int | None = None) -> Statement:
    """A statement in full.

    Args:
        site: the community.
        slot: whose.
        period: which day.
        version: which version; the newest without.

    Raises:
        UnknownReference: there is no such statement.
    """
    versions = site.versions_of(period)
    running = None if versions else member_day(site, slot, period)
    if running is not None and not version:
        return Statement(
            summary=_preview_summary(site, running),
            name=site.participant(slot).name,
            currency=site.currency,
            transaction_hash=None,
            challenge_until=None,
            day=running,
            trades=member_trades(site, slot, period),
        )
    for batch in reversed(versions):
        if version is not None and batch.header.version != version:
            continue
        own = settled_of(site).own(batch.header, slot)
        day = day_of(site, batch, slot)
        if own is None or day is None:
            break
        return Statement(
            summary=_summary(site, batch, own, day),
            name=site.participant(slot).name,
            currency=site.currency,
            transaction_hash=batch.transaction_hash,
            challenge_until=day.challenge_until,
            day=day,
            trades=settled_trades(site, slot, batch),
        )
    raise UnknownReference("period", period, "no such statement", "see the list of statements")
