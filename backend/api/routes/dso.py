"""What the operator of the network sees."""

from __future__ import annotations

from fastapi import APIRouter

from backend.domain.errors import NotThere

from ..roles import Role
from ..sessions import AnyCaller, Caller
from ..site import Site
from ..views import dso, grid_notices
from .member import Period

router = APIRouter(prefix="/communities/{community}/dso", tags=["dso"])


def _operator(caller: Caller) -> Site:
    caller.need(Role.DSO, Role.COORDINATOR, Role.AUDITOR)
    return caller.site


@router.get("/fees")
def fees(caller: AnyCaller) -> dso.Fees:
    """Fees received."""
    return dso.fees(_operator(caller))


@router.get("/flows/{period}")
def flows(period: Period, caller: AnyCaller) -> dso.Flows:
    """Traded energy over every border."""
    found = dso.flows(_operator(caller), period)
    if found is None:
        raise NotThere(f"period {period} is not settled yet", "see the list of batches")
    return found


@router.get("/limits/{period}")
def limits(period: Period, caller: AnyCaller) -> dso.Limits:
    """Limits of connections, what was drawn and fed in, and the fees that stand for them."""
    found = dso.limits(_operator(caller), period)
    if found is None:
        raise NotThere(f"period {period} is not settled yet", "see the list of batches")
    return found


@router.get("/notices/{period}")
def notices(period: Period, caller: AnyCaller) -> grid_notices.GridNotices:
    """Limits of lines, transformers and voltages that were in danger, what they came to, and what they charge; empty where the grid is not coordinated."""
    return grid_notices.grid_notices(_operator(caller), period)
