"""What the coordinator sees and does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from backend.domain.errors import NotThere, PeerwattError
from backend.domain.values import Value

from ..roles import Role
from ..sessions import AnyCaller, Caller
from ..site import CoordinatorActions, Site
from ..views import coordinator, installation, membership
from ..views.values import Page, page
from .member import After, Limit, Period

router = APIRouter(prefix="/communities/{community}/coordinator", tags=["coordinator"])
# Whoever works for the community, or on its keys.
OFFICERS = (
    Role.COORDINATOR,
    Role.ADMINISTRATOR,
    Role.REGISTRAR,
    Role.TARIFF,
    Role.ORACLE,
    Role.METER,
    Role.PAUSER,
)


class Done(Value):
    """What an action came to: how far periods are now, and what could not go on."""

    periods: tuple[coordinator.PeriodState, ...]
    failures: tuple[coordinator.ExceptionItem, ...]


class Previewed(Value):
    """How many intervals were cleared anew."""

    period: int
    intervals: int


def _officer(caller: Caller) -> Site:
    caller.need(*OFFICERS)
    return caller.site


def _actions(caller: Caller) -> CoordinatorActions:
    """Only the coordinator itself acts.

    Raises:
        NotThere: there is nothing to be done by hand here.
    """
    caller.need(Role.COORDINATOR)
    if caller.site.actions is None:
        raise NotThere(
            "this server cannot act for the coordinator", "act where the coordinator runs"
        )
    return caller.site.actions


@router.get("/overview")
def overview(caller: AnyCaller) -> coordinator.Overview:
    """The coordinator's start page."""
    return coordinator.overview(_officer(caller))


@router.get("/completeness")
def completeness(
    caller: AnyCaller, days: Annotated[int, Query(ge=1, le=62)] = 14
) -> coordinator.Completeness:
    """Who lacks readings of which day."""
    return coordinator.completeness(_officer(caller), days)


@router.get("/periods")
def periods(
    caller: AnyCaller, after: After = 0, limit: Limit = 100
) -> Page[coordinator.PeriodState]:
    """How far every period is, newest first."""
    return page(coordinator.periods(_officer(caller)), after, limit)


@router.get("/position/{period}")
def position(period: Period, caller: AnyCaller) -> coordinator.PeriodPosition:
    """What is bought and sold outside on a day."""
    found = coordinator.position(_officer(caller), period)
    if found is None:
        raise NotThere(f"there is nothing of period {period}", "see the list of periods")
    return found


@router.get("/exceptions")
def exceptions(caller: AnyCaller) -> tuple[coordinator.ExceptionItem, ...]:
    """What wants attention, and what mends it."""
    return coordinator.exceptions(_officer(caller))


@router.get("/members")
def members(
    caller: AnyCaller, after: After = 0, limit: Limit = 100
) -> Page[membership.MemberEntry]:
    """The members with their accounts."""
    return page(membership.members(_officer(caller)), after, limit)


@router.get("/keys")
def keys(caller: AnyCaller) -> installation.Keys:
    """Roles and keys."""
    return installation.keys(_officer(caller))


@router.get("/health")
def health(caller: AnyCaller) -> installation.Health:
    """How the community's services are."""
    return installation.health(_officer(caller))


@router.post("/run")
def run(caller: AnyCaller) -> Done:
    """Goes on with every period as far as it can: the same step that the running coordinator takes by itself."""
    failures = _actions(caller).run()
    return _done(caller.site, failures)


@router.post("/finalise/{period}")
def finalise(period: Period, caller: AnyCaller) -> Done:
    """Finalises a period whose newest batch can no longer be challenged, and writes its statements; goes on with nothing else.

    Whoever asks too early is told until when the batch can be challenged (409, `operator.not_final`).
    """
    _actions(caller).finalise(period)
    return _done(caller.site, [])


def _done(site: Site, failures: Sequence[PeerwattError]) -> Done:
    site.changed()
    return Done(
        periods=coordinator.periods(site),
        failures=tuple(
            coordinator.ExceptionItem(
                code=failure.code,
                level="wrong",
                period=None,
                slot=None,
                message=failure.message,
                remedy=failure.remedy,
            )
            for failure in failures
        ),
    )


@router.post("/preview")
def preview(caller: AnyCaller) -> Previewed:
    """Clears the running day as far as it is over."""
    period = caller.site.running_period().number
    found = _actions(caller).preview(period)
    caller.site.changed()
    return Previewed(period=period, intervals=found)
