"""What anybody can check: batches with their commitments, the public bundles, the recomputed verdict, the evidence."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from backend.domain.errors import NotThere

from ..roles import Role
from ..sessions import AnyCaller, AnySite, Caller
from ..views import auditor, membership
from ..views.values import Page, page
from .member import After, Limit

router = APIRouter(prefix="/communities/{community}", tags=["auditor"])
Number = Annotated[int, Path(ge=1, lt=2**53, description="The batch's number.")]


def mandated(caller: Caller) -> bool:
    """Whether the caller may see members' parts in order to audit them."""
    return caller.has(Role.AUDITOR)


@router.get("/batches")
def batches(site: AnySite, after: After = 0, limit: Limit = 100) -> Page[auditor.AuditPeriod]:
    """The batches that stand, newest first. For everybody."""
    return page(auditor.audit_periods(site), after, limit)


@router.get("/batches/{number}")
def batch(number: Number, site: AnySite) -> auditor.AuditBatch:
    """Commitments, totals, certificate and transaction of a batch. For everybody."""
    return auditor.audit_batch(site, number)


@router.get(
    "/batches/{number}/bundle",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}, "description": "peerwatt/bundle/2"}},
)
def bundle(number: Number, site: AnySite) -> Response:
    """The public part of a batch's bundle, as it was hashed. For everybody."""
    found = site.batch(number)
    data = site.bundles.store.public(found.header.bundle_hash)
    if data is None:
        raise NotThere(f"the bundle of batch {number} is not here", "ask the coordinator")
    return Response(data, media_type="application/json")


@router.get("/tariffs")
def tariffs(site: AnySite) -> tuple[membership.TariffEntry, ...]:
    """Every tariff that was announced, newest first. For everybody."""
    return membership.tariffs(site)


@router.get("/batches/{number}/verdict")
def verdict(number: Number, caller: AnyCaller) -> auditor.Verdict:
    """The auditor's verdict, recomputed here and now; with members' parts for a mandated auditor. Takes a few seconds."""
    caller.need_session()
    return auditor.recomputed(caller.site, number, personal=mandated(caller))


@router.get(
    "/batches/{number}/evidence",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "peerwatt/evidence/1"}},
)
def evidence(number: Number, caller: AnyCaller) -> Response:
    """Everything the verdict rests on, in one file; with members' parts for a mandated auditor."""
    caller.need_session()
    data = auditor.evidence(caller.site, number, personal=mandated(caller))
    name = f"evidence-{caller.site.name}-{number}.zip"
    return Response(
        data,
        media_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
