"""A member's pages: today, savings, trades, wishes, statements, money, data."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import RedirectResponse, Response

from backend.api.sessions import AnyCaller, Caller
from backend.api.views import (
    community,
    member,
    member_statements,
    member_trades,
    membership,
    own_data,
)
from backend.api.wishes import newest_wishes
from backend.domain.errors import MalformedInput
from backend.domain.units import NANO_PER_UNIT

from .days import DayQuery, chosen_day, period_of
from .languages import Language
from .pictures import bar_chart, member_chart, price_chart, price_scale
from .rendering import look_of, page
from .words import price_unit, series_words

router = APIRouter(prefix="/{community}")
Number = Annotated[int, Path(ge=0, lt=2**31)]
Month = Annotated[str | None, Query(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]


@router.get("/today")
def today(request: Request, caller: AnyCaller) -> Response:
    """What is going on: the newest interval, the day so far, the newest settled day."""
    return page(request, "today", caller, **_today(request, caller))


@router.get("/today/live")
def live(request: Request, caller: AnyCaller) -> Response:
    """The part of it that changes while one looks."""
    return page(request, "today_live", caller, **_today(request, caller))


def _today(request: Request, caller: Caller) -> dict[str, Any]:
    language = look_of(request).language
    found = member.today(caller.site, caller.own_slot())
    shown = found.day or (found.waiting[-1] if found.waiting else found.settled)
    newest = found.newest or (shown.intervals[-1] if shown and shown.intervals else None)
    return {
        "today": found,
        "shown": shown,
        "newest": newest,
        "scale": price_scale(newest.prices) if newest else None,
        "chart_data": member_chart(shown, series_words(language), language) if shown else None,
        "price_data": _prices(caller, shown, language) if shown else None,
    }


def _prices(caller: Caller, day: member.MemberDay, language: Language) -> dict[str, object]:
    unit = price_unit(caller.site.currency)
    return price_chart(day.intervals, day.interval_minutes, series_words(language), unit, language)


@router.get("/savings")
def savings(request: Request, caller: AnyCaller, month: Month = None) -> Response:
    """A month against being outside the community."""
    slot = caller.own_slot()
    months = sorted({caller.site.day(batch.header.period)[:7] for batch in caller.site.batches()})
    running = caller.site.day(caller.site.running_period().number)[:7]
    shown = month or (months[-1] if months else running)
    language = look_of(request).language
    found = member.month_savings(caller.site, slot, shown)
    words = series_words(language)
    chart = bar_chart(
        [language.day(day.day, "d MMM") for day in found.days],
        [(words["saved"], "inside", [day.saved_nano / NANO_PER_UNIT for day in found.days])],
        caller.site.currency,
        2,
    )
    earlier = [item for item in months if item < shown]
    later = [item for item in months if item > shown]
    return page(
        request, "savings", caller, savings=found, chart_data=chart,
        before=earlier[-1] if earlier else None, after=later[0] if later else None,
    )  # fmt: skip


@router.get("/trades")
def trades(request: Request, caller: AnyCaller, day: DayQuery = None) -> Response:
    """With whom, how much, at which price, and why."""
    slot = caller.own_slot()
    chosen = chosen_day(caller.site, day, running=True)
    found = member_trades.member_trades(caller.site, slot, chosen.period)
    if not found and day is None and chosen.before:
        chosen = chosen_day(caller.site, chosen.before, running=True)
        found = member_trades.member_trades(caller.site, slot, chosen.period)
    names = {item.slot: item.name for item in community.participants(caller.site).items}
    by_interval: dict[int, list[member_trades.MemberTrade]] = {}
    for trade in found:
        by_interval.setdefault(trade.interval, []).append(trade)
    sums = {
        side: (
            sum(item.energy_wh for item in found if item.side == side),
            sum(item.amount_nano for item in found if item.side == side),
        )
        for side in ("bought", "sold")
    }
    whole = member.member_day(caller.site, slot, chosen.period)
    return page(
        request, "trades", caller, chosen=chosen, ahead=whole if whole and whole.ahead else None, names=names, sums=sums,
        intervals=list(by_interval.values()),
        partners=_partners(found, names),
    )  # fmt: skip


def _partners(
    trades: tuple[member_trades.MemberTrade, ...], names: dict[int, str]
) -> list[tuple[str, int, int]]:
    """Name, energy bought and sold, by partner; who traded most comes first."""
    found: dict[int, list[int]] = {}
    for trade in trades:
        sums = found.setdefault(trade.partner_slot, [0, 0])
        sums[trade.side == "sold"] += trade.energy_wh
    rows = [(names.get(slot, str(slot)), sums[0], sums[1]) for slot, sums in found.items()]
    return sorted(rows, key=lambda row: (-row[1] - row[2], row[0]))


@router.get("/statements")
def statements(request: Request, caller: AnyCaller) -> Response:
    """All statements, newest first."""
    slot = caller.own_slot()
    # By day, whenever they were booked.
    found = sorted(
        member_statements.statement_summaries(caller.site, slot),
        key=lambda item: (item.period, item.version),
        reverse=True,
    )
    return page(
        request, "statements", caller, statements=found, balance=member.balance_nano(caller.site, slot),
    )  # fmt: skip


@router.get("/statements/{period}")
def statement(
    request: Request,
    caller: AnyCaller,
    period: Number,
    version: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> Response:
    """A statement in full, with everything to verify it."""
    slot = caller.own_slot()
    found = member_statements.statement(caller.site, slot, period, version)
    language = look_of(request).language
    before = _version_before(caller, slot, found)
    return page(
        request, "statement", caller, statement=found, slot=slot, before=before,
        changes=_changes(before, found) if before else [],
        chart_data=member_chart(found.day, series_words(language), language),
        price_data=_prices(caller, found.day, language),
        versions=[item for item in member_statements.statement_summaries(caller.site, slot) if item.period == period],
    )  # fmt: skip


def _version_before(
    caller: Caller, slot: int, shown: member_statements.Statement
) -> member_statements.Statement | None:
    """The statement that a correction corrects."""
    period, version = shown.summary.period, shown.summary.version
    earlier = [
        item.version
        for item in member_statements.statement_summaries(caller.site, slot)
        if item.period == period and item.version < version
    ]
    if not earlier:
        return None
    return member_statements.statement(caller.site, slot, period, max(earlier))


def _changes(
    before: member_statements.Statement, after: member_statements.Statement
) -> list[tuple[member.MemberInterval, member.MemberInterval]]:
    """The intervals whose readings a correction changed."""
    return [
        (old, new)
        for old, new in zip(before.day.intervals, after.day.intervals, strict=True)
        if (old.import_wh, old.export_wh, old.quality)
        != (new.import_wh, new.export_wh, new.quality)
    ]


@router.get("/wishes")
def wishes(request: Request, caller: AnyCaller) -> Response:
    """What the member wants of the market before delivery."""
    slot = caller.own_slot()
    stored = newest_wishes(caller.site, slot)
    preferred = stored.wishes.preferred
    stances = {item.slot: "preferred" for item in preferred}
    stances |= dict.fromkeys(stored.wishes.refused, "refused")
    others = [item for item in community.participants(caller.site).items if item.slot != slot]
    return page(
        request, "wishes", caller, slot=slot, stored=stored, stances=stances, others=others,
        premium=preferred[0].premium_nano_per_wh if preferred else 0,
        unit=price_unit(caller.site.currency),
    )  # fmt: skip


@router.get("/money")
def money(request: Request, caller: AnyCaller) -> Response:
    """The member's account in the vault: deposit, withdraw, announce."""
    slot = caller.own_slot()
    return page(request, "money", caller, slot=slot, entry=_entry(caller, slot))


@router.get("/my-data")
def my_data(
    request: Request, caller: AnyCaller, erased: Annotated[int | None, Query(ge=0)] = None
) -> Response:
    """What is kept of the member: to take along, to erase; leaving."""
    slot = caller.own_slot()
    return page(
        request, "my_data", caller, slot=slot, entry=_entry(caller, slot), erased=erased,
        newest_day=caller.site.day(caller.site.running_period().number),
    )  # fmt: skip


async def sent_form(request: Request) -> dict[str, str]:
    """A form's fields; the last of a name."""
    text = (await request.body()).decode(errors="replace")
    return dict(parse_qsl(text, max_num_fields=20))


@router.post("/my-data/erase")
def erase(caller: AnyCaller, form: Annotated[dict[str, str], Depends(sent_form)]) -> Response:
    """Erases what is older than a day."""
    slot = caller.own_slot()
    if form.get("sure") != "yes":
        raise MalformedInput("sure", form.get("sure"), "not confirmed", "tick the box")
    done = own_data.erase(caller.site, slot, period_of(form.get("before", "")))
    return RedirectResponse(
        f"/{caller.site.name}/my-data?erased={done.batches}", HTTPStatus.SEE_OTHER
    )


@router.get("/join")
def join(request: Request, caller: AnyCaller) -> Response:
    """Becoming a member."""
    caller.need_session()
    site = caller.site
    tariff = site.rules.preparer(site.running_period().number).tariff
    return page(
        request, "join", caller,
        nodes=sorted({node for node, _ in tariff.group_keys}),
        classes=sorted({name for _, name in tariff.group_keys}),
    )  # fmt: skip


def _entry(caller: Caller, slot: int) -> membership.MemberEntry:
    return next(item for item in membership.members(caller.site) if item.slot == slot)
