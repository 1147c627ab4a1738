"""The community's pages: balance over the day, who trades with whom, participants. For everybody who belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from backend.api.roles import Role
from backend.api.sessions import AnyCaller, Caller
from backend.api.site import Site
from backend.api.views import community, member_trades

from .days import ChosenDay, DayQuery, chosen_day
from .navigation import OFFICERS
from .pictures import community_chart, feeder_picture, price_chart
from .rendering import look_of, page
from .words import price_unit, series_words

router = APIRouter(prefix="/{community}/community")


def _belongs(caller: Caller) -> None:
    caller.need(Role.MEMBER, Role.AUDITOR, Role.DSO, *OFFICERS)


@router.get("")
def balance(request: Request, caller: AnyCaller, day: DayQuery = None) -> Response:
    """What the community needed, had and traded over a day."""
    _belongs(caller)
    return page(request, "community", caller, **_balance(request, caller, day))


@router.get("/live")
def live(request: Request, caller: AnyCaller) -> Response:
    """The part of it that changes while one looks."""
    _belongs(caller)
    return page(request, "community_live", caller, **_balance(request, caller, None))


def _balance(request: Request, caller: Caller, wanted: str | None) -> dict[str, Any]:
    site, language = caller.site, look_of(request).language
    chosen, found = _chosen(site, wanted)
    words = series_words(language)
    rows = found.intervals if found else ()
    minutes = site.interval_minutes
    return {
        "chosen": chosen,
        "day": found,
        "newest": rows[-1] if rows else None,
        "running": chosen.after is None,
        "chart_data": community_chart(found, words, language) if found else None,
        "price_data": price_chart(rows, minutes, words, price_unit(site.currency), language),
        "slots": 24 * 60 // minutes,
    }


def _chosen(site: Site, wanted: str | None) -> tuple[ChosenDay, community.CommunityDay | None]:
    """The day to show, the running one without a wish."""
    chosen = chosen_day(site, wanted, running=True)
    found = community.community_day(site, chosen.period)
    if found is None and wanted is None and chosen.before:
        # The first interval of the running day is not over yet.
        chosen = chosen_day(site, chosen.before, running=True)
        found = community.community_day(site, chosen.period)
    return chosen, found


@router.get("/network")
def network(request: Request, caller: AnyCaller, day: DayQuery = None) -> Response:
    """Who trades with whom on the feeders, moving through the day."""
    _belongs(caller)
    return page(request, "network", caller, **_network(request, caller, day))


@router.get("/network/live")
def network_live(request: Request, caller: AnyCaller) -> Response:
    """The part of it that changes while one looks."""
    _belongs(caller)
    return page(request, "network_live", caller, **_network(request, caller, None))


def _network(request: Request, caller: Caller, wanted: str | None) -> dict[str, Any]:
    site, language = caller.site, look_of(request).language
    chosen, whole = _chosen(site, wanted)
    found = community.trade_network(site, chosen.period)
    people = community.participants(site)
    slot = caller.slots[0] if caller.slots else None
    own = member_trades.member_trades(site, slot, chosen.period) if slot is not None else ()
    picture = feeder_picture(found, people, caller.slots) if found else None
    steps = [
        {
            "interval": row.interval,
            "clock": f"{language.clock(row.start)}–{language.clock(row.end)}",
        }
        for row in (whole.intervals if whole else ())
    ]
    trades = picture.trades(found, own, slot) if picture and found else {}
    running = chosen.after is None
    return {
        "chosen": chosen,
        "network": found,
        "picture": picture,
        "place": len(steps) - 1 if running else _busiest(steps, trades),
        "running": running,
        "steps": steps,
        "feeder_data": {"trades": trades, "steps": steps},
        "sums": _sums(found),
        "own": own,
    }


def _busiest(steps: Sequence[Mapping[str, Any]], trades: Mapping[str, Any]) -> int:
    """The interval in which most was traded."""
    return max(
        range(len(steps)),
        key=lambda place: sum(t["wh"] for t in trades.get(str(steps[place]["interval"]), ())),
        default=0,
    )


def _sums(found: community.TradeNetwork | None) -> list[tuple[str, str, int]]:
    """The day's energy by seller's and buyer's place, most first."""
    sums: dict[tuple[str, str], int] = {}
    for trade in found.trades if found else ():
        key = (trade.from_place, trade.to_place)
        sums[key] = sums.get(key, 0) + trade.energy_wh
    return sorted(((*key, energy) for key, energy in sums.items()), key=lambda row: -row[2])


@router.get("/participants")
def participants(request: Request, caller: AnyCaller) -> Response:
    """Who takes part, and what they can generate."""
    _belongs(caller)
    return page(request, "participants", caller, participants=community.participants(caller.site))
