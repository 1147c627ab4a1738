"""The auditor's pages: batches, and one in full with its verdict. What is on the chain is everybody's to see."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from backend.api.routes.auditor import mandated
from backend.api.sessions import AnyCaller
from backend.api.views import auditor

from .rendering import page

router = APIRouter(prefix="/{community}/audit")
Number = Annotated[int, Path(ge=1, lt=2**53)]


@router.get("")
def batches(request: Request, caller: AnyCaller) -> Response:
    """Pick a period."""
    caller.need_session()
    return page(request, "audit", caller, batches=auditor.audit_periods(caller.site))


@router.get("/{number}")
def batch(request: Request, caller: AnyCaller, number: Number) -> Response:
    """Commitments, totals, certificate, transaction."""
    caller.need_session()
    return page(
        request, "audit_batch", caller, found=auditor.audit_batch(caller.site, number),
        mandated=mandated(caller),
    )  # fmt: skip


@router.get("/{number}/verdict")
def verdict(request: Request, caller: AnyCaller, number: Number) -> Response:
    """The part of the page that shows the verdict, recomputed here and now."""
    caller.need_session()
    found = auditor.recomputed(caller.site, number, personal=mandated(caller))
    return page(request, "verdict", caller, verdict=found)
