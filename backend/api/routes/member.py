"""A member's own: today, days, savings, trades, statements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from backend.domain.errors import NotThere
from backend.domain.units import SLOT_LIMIT

from ..answers import kept_json
from ..sessions import AnyCaller
from ..views import community, member, member_statements, member_trades
from ..views.values import Page, page

router = APIRouter(prefix="/communities/{community}/members/{slot}", tags=["member"])
Slot = Annotated[int, Path(ge=0, lt=SLOT_LIMIT, description="The member's slot on chain.")]
Period = Annotated[int, Path(ge=0, lt=2**31, description="Days since 1970-01-01, local date.")]
PeriodQuery = Annotated[int, Query(ge=0, lt=2**31, description="Days since 1970-01-01.")]
After = Annotated[int, Query(ge=0, lt=2**31, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Month = Annotated[str, Path(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="Such as 2016-06.")]


@router.get("/today", response_model=member.Today)
async def today(slot: Slot, caller: AnyCaller) -> Response:
    """The member's start page."""
    caller.need_slot(slot)
    return await kept_json(caller.site, ("today", slot), lambda: member.today(caller.site, slot))


@router.get("/days/{period}")
def day(slot: Slot, period: Period, caller: AnyCaller) -> member.MemberDay:
    """A day with its intervals."""
    caller.need_slot(slot)
    found = member.member_day(caller.site, slot, period)
    if found is None:
        raise NotThere(f"there is nothing of period {period}", "see the list of statements")
    return found


@router.get("/savings/{month}")
def savings(slot: Slot, month: Month, caller: AnyCaller) -> member.MonthSavings:
    """A month against being outside the community."""
    caller.need_slot(slot)
    return member.month_savings(caller.site, slot, month)


@router.get("/trades")
def trades(
    slot: Slot, period: PeriodQuery, caller: AnyCaller, after: After = 0, limit: Limit = 100
) -> Page[member_trades.MemberTrade]:
    """The member's trades of a day, each with the reason of its price."""
    caller.need_slot(slot)
    return page(member_trades.member_trades(caller.site, slot, period), after, limit)


@router.get("/statements")
def statements(
    slot: Slot, caller: AnyCaller, after: After = 0, limit: Limit = 100
) -> Page[member_statements.StatementSummary]:
    """The member's statements, newest first."""
    caller.need_slot(slot)
    return page(member_statements.statement_summaries(caller.site, slot), after, limit)


@router.get("/statements/{period}")
def statement(
    slot: Slot,
    period: Period,
    caller: AnyCaller,
    version: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> member_statements.Statement:
    """A statement in full; the newest version without `version`."""
    caller.need_slot(slot)
    return member_statements.statement(caller.site, slot, period, version)


@router.get("/partners/{period}")
def partners(slot: Slot, period: Period, caller: AnyCaller) -> community.Pairs:
    """With whom the member traded on a day, and how much."""
    caller.need_slot(slot)
    found = community.pairs(caller.site, period, slot)
    if found is None:
        raise NotThere(f"there is nothing of period {period}", "see the list of statements")
    return found
