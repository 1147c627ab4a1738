"""A member's own data: readings, intervals, proofs, files; export and erasure."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from backend.domain.errors import NotThere
from backend.domain.values import Value

from ..sessions import AnyCaller
from ..site import Site
from ..views import member, member_statements, own_data
from ..views.values import Page, page
from .auditor import Number
from .member import After, Limit, Period, PeriodQuery, Slot

router = APIRouter(prefix="/communities/{community}/members/{slot}", tags=["own data"])
VersionQuery = Annotated[int | None, Query(ge=0, lt=2**31, description="The newest without.")]


class Erasure(Value):
    """What to erase. It cannot be undone; `confirm` says that this is known."""

    before_period: Annotated[int, Field(ge=0, lt=2**31)]
    confirm: Literal["erase my data"]


def _day(site: Site, slot: int, period: int) -> member.MemberDay:
    found = member.member_day(site, slot, period)
    if found is None:
        raise NotThere(f"there is nothing of period {period}", "see the list of statements")
    return found


@router.get("/readings")
def readings(
    slot: Slot, period: PeriodQuery, caller: AnyCaller, after: After = 0, limit: Limit = 100
) -> Page[own_data.Reading]:
    """The member's readings of a day, oldest first."""
    caller.need_slot(slot)
    return page(own_data.readings(_day(caller.site, slot, period)), after, limit)


@router.get("/intervals")
def intervals(
    slot: Slot, period: PeriodQuery, caller: AnyCaller, after: After = 0, limit: Limit = 100
) -> Page[member.MemberInterval]:
    """The member's intervals of a day with prices and amounts, oldest first."""
    caller.need_slot(slot)
    return page(_day(caller.site, slot, period).intervals, after, limit)


@router.get("/proofs/{number}")
def proof(slot: Slot, number: Number, caller: AnyCaller) -> own_data.Proof:
    """What proves the member's account in a batch; `{number}` is the batch's."""
    caller.need_slot(slot)
    return own_data.proof(caller.site, slot, number)


def _file(data: bytes, media_type: str, name: str) -> Response:
    return Response(
        data,
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get(
    "/statements/{period}/csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "A line for each interval."}},
)
def statement_csv(
    slot: Slot, period: Period, caller: AnyCaller, version: VersionQuery = None
) -> Response:
    """A statement as a table."""
    caller.need_slot(slot)
    found = member_statements.statement(caller.site, slot, period, version)
    name = f"statement-{slot}-{found.summary.day}-v{found.summary.version}.csv"
    return _file(own_data.statement_csv(found), "text/csv", name)


@router.get(
    "/statements/{period}/pdf",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}}, "description": "On paper."}},
)
def statement_pdf(
    slot: Slot, period: Period, caller: AnyCaller, version: VersionQuery = None
) -> Response:
    """A statement on paper."""
    caller.need_slot(slot)
    found = member_statements.statement(caller.site, slot, period, version)
    name = f"statement-{slot}-{found.summary.day}-v{found.summary.version}.pdf"
    return _file(own_data.statement_on_paper(caller.site, found), "application/pdf", name)


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "peerwatt/own-data/1"}},
)
def export(slot: Slot, caller: AnyCaller) -> Response:
    """Everything that is kept of the member."""
    caller.need_slot(slot)
    return _file(own_data.export(caller.site, slot), "application/zip", f"own-data-{slot}.zip")


@router.post("/erasures")
def erase(slot: Slot, body: Erasure, caller: AnyCaller) -> own_data.Erased:
    """Erases the member's readings, trades, statements and wishes; its account and everybody's proofs stay."""
    caller.need_slot(slot)
    return own_data.erase(caller.site, slot, body.before_period)
