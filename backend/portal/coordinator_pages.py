"""The coordinator's pages: completeness, periods with run and preview, exceptions, members and tariffs, keys, roles and health."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from backend.api.roles import Role
from backend.api.routes import coordinator as actions
from backend.api.sessions import AnyCaller
from backend.api.site import Site
from backend.api.views import coordinator, installation, membership
from backend.domain.units import WH_PER_KWH

from .days import DayQuery, chosen_day
from .member_pages import Number
from .navigation import OFFICERS
from .pictures import bar_chart
from .rendering import look_of, page
from .words import cycle_words, exception_words, health_words, role_words, series_words

router = APIRouter(prefix="/{community}/coordinator")


def _officer(caller: AnyCaller) -> Site:
    caller.need(*OFFICERS)
    return caller.site


@router.get("")
def completeness(request: Request, caller: AnyCaller) -> Response:
    """Who lacks readings of which day."""
    return page(request, "completeness", caller, **_completeness(_officer(caller)))


@router.get("/live")
def live(request: Request, caller: AnyCaller) -> Response:
    """The part of it that changes while one looks."""
    return page(request, "completeness_live", caller, **_completeness(_officer(caller)))


def _completeness(site: Site) -> dict[str, Any]:
    return {
        "matrix": coordinator.completeness(site),
        "exceptions": len(coordinator.exceptions(site)),
    }


@router.get("/periods")
def periods(request: Request, caller: AnyCaller, day: DayQuery = None) -> Response:
    """How far every period is, what can be done, and what is to be bought and sold outside."""
    site, language = _officer(caller), look_of(request).language
    chosen = chosen_day(site, day, running=True)
    position = coordinator.position(site, chosen.period)
    words = series_words(language)
    chart = None
    if position:
        rows = position.intervals
        chart = bar_chart(
            [language.clock(row.start) for row in rows],
            [
                (words["imported"], "import", [row.buy_wh / WH_PER_KWH for row in rows]),
                (words["exported"], "export", [row.sell_wh / WH_PER_KWH for row in rows]),
            ],
            "kWh",
            2,
        )
    return page(
        request, "periods", caller, periods=coordinator.periods(site), position=position, chosen=chosen,
        chart_data=chart, states=cycle_words(language),
        can_act=caller.has(Role.COORDINATOR) and site.actions is not None,
        running=site.day(site.running_period().number),
    )  # fmt: skip


@router.post("/run")
def run(caller: AnyCaller) -> Response:
    """Goes on with every period as far as it can."""
    actions.run(caller)
    return _back(caller.site)


@router.post("/preview")
def preview(caller: AnyCaller) -> Response:
    """Clears the running day as far as it is over."""
    actions.preview(caller)
    return _back(caller.site)


@router.post("/finalise/{period}")
def finalise(caller: AnyCaller, period: Number) -> Response:
    """Writes the statements of a day that can no longer be challenged."""
    actions.finalise(period, caller)
    return _back(caller.site)


def _back(site: Site) -> Response:
    return RedirectResponse(f"/{site.name}/coordinator/periods", HTTPStatus.SEE_OTHER)


@router.get("/exceptions")
def exceptions(request: Request, caller: AnyCaller) -> Response:
    """What wants attention, and what mends it."""
    site, language = _officer(caller), look_of(request).language
    found = [(item, exception_words(item, language)) for item in coordinator.exceptions(site)]
    return page(request, "exceptions", caller, exceptions=found)


@router.get("/members")
def members(request: Request, caller: AnyCaller) -> Response:
    """The members with their accounts, and the tariffs."""
    site = _officer(caller)
    return page(
        request, "members", caller, members=membership.members(site), tariffs=membership.tariffs(site)
    )  # fmt: skip


@router.get("/roles")
def roles(request: Request, caller: AnyCaller) -> Response:
    """Keys, roles, bond and the health of everything."""
    site, language = _officer(caller), look_of(request).language
    health = installation.health(site)
    return page(
        request, "roles", caller, keys=installation.keys(site), health=health, role_names=role_words(language),
        checks=[(check, health_words(check, language)) for check in health.checks],
    )  # fmt: skip
