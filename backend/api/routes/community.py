"""What every member sees of the community."""

from __future__ import annotations

from fastapi import APIRouter

from backend.domain.errors import NotThere

from ..roles import Role
from ..sessions import AnyCaller, Caller
from ..views import community
from .member import Period

router = APIRouter(prefix="/communities/{community}", tags=["community"])
# Whoever has to do with the community; not strangers.
INSIDERS = tuple(Role)


def _inside(caller: Caller) -> Caller:
    caller.need(*INSIDERS)
    return caller


@router.get("/clearings/{period}")
def clearing(period: Period, caller: AnyCaller) -> community.CommunityDay:
    """The community's day: balance, states, prices, by interval."""
    found = community.community_day(_inside(caller).site, period)
    if found is None:
        raise NotThere(f"there is nothing of period {period}", "see the list of batches")
    return found


@router.get("/network/{period}")
def network(period: Period, caller: AnyCaller) -> community.TradeNetwork:
    """Who trades with whom, by places."""
    found = community.trade_network(_inside(caller).site, period)
    if found is None:
        raise NotThere(f"period {period} is not settled yet", "see the list of batches")
    return found


@router.get("/members")
def members(caller: AnyCaller) -> community.Participants:
    """The members, with what their plants can generate."""
    return community.participants(_inside(caller).site)


@router.get("/pairs/{period}")
def pairs(period: Period, caller: AnyCaller) -> community.Pairs:
    """Everybody's trades with everybody, for those who run or audit the community; a member has its own with its data."""
    caller.need(Role.COORDINATOR, Role.AUDITOR)
    found = community.pairs(caller.site, period, None)
    if found is None:
        raise NotThere(f"there is nothing of period {period}", "see the list of batches")
    return found
