"""The portal: HTML pages for members, community, coordinator, network operator and auditors, over the read models of `backend/api/views`.

Pages are complete without scripts but for what a wallet has to do: signing in, signing, verifying in the browser.
"""

from __future__ import annotations

from fastapi import APIRouter

from . import (
    auditor_pages,
    community_pages,
    coordinator_pages,
    dso_pages,
    front_pages,
    member_pages,
)
from .rendering import error_page

__all__ = ["PARTS", "error_page", "portal_router"]


PARTS = (
    front_pages,
    member_pages,
    community_pages,
    coordinator_pages,
    dso_pages,
    auditor_pages,
)


def portal_router() -> APIRouter:
    """All pages; include it last, it takes every path of a community's name."""
    router = APIRouter()
    for part in PARTS:
        router.include_router(part.router)
    return router
