"""Pages before anybody has signed in: communities, a community's front door, static files."""

from __future__ import annotations

from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from backend.api.sessions import AnyCaller, web_state

from .navigation import sections
from .rendering import page

router = APIRouter()
_STATIC: Final = StaticFiles(directory=Path(str(files("backend.portal") / "static")))
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "public, no-cache"


@router.get("/static/{path:path}")
async def static(path: str, request: Request) -> Response:
    """Style sheets, scripts and pictures; what is asked for by its digest never changes."""
    response = await _STATIC.get_response(path, request.scope)
    response.headers["Cache-Control"] = _FOR_EVER if "v" in request.query_params else _ASK_AGAIN
    return response


@router.get("/")
def communities(request: Request) -> Response:
    """The communities here; where there is one, its front door."""
    sites = web_state(request).sites
    if len(sites) == 1:
        return RedirectResponse(f"/{next(iter(sites))}", HTTPStatus.SEE_OTHER)
    return page(request, "communities", sites=list(sites.values()))


@router.get("/{community}")
def front(request: Request, caller: AnyCaller) -> Response:
    """The front door: who one may sign in as; whoever has signed in goes in."""
    if caller.signed_in:
        first = sections(caller)[0].items[0].path
        return RedirectResponse(f"/{caller.site.name}{first}", HTTPStatus.SEE_OTHER)
    return page(request, "front", caller, demo=caller.site.demo is not None)
