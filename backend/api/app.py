"""The web application: JSON under `/api/v1`, pages under `/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI

from . import challenges, relay, rpc, transactions
from .answers import Answers
from .limits import Gate
from .problems import ErrorPage, Problem, add_handlers
from .routes import auditor, community, coordinator, dso, events, member, own_data, session, wishes
from .sessions import WebState
from .settings import WebSettings
from .site import Site

API = "/api/v1"
_ROUTERS = (
    session.router,
    member.router,
    community.router,
    coordinator.router,
    dso.router,
    auditor.router,
    own_data.router,
    wishes.router,
    events.router,
    transactions.router,
    relay.router,
    challenges.router,
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {"application/problem+json": {}}}
    for status in (401, 403, 404, 409, 413, 422, 429, 500, 503)
}


def web_app(
    sites: Mapping[str, Site],
    settings: WebSettings,
    pages: Sequence[APIRouter] = (),
    error_page: ErrorPage | None = None,
) -> FastAPI:
    """The application.

    Args:
        sites: communities by name.
        settings: limits and times.
        pages: what is not JSON: portal, static files.
        error_page: makes a page of an error; without, every error is told as a problem.
    """
    app = FastAPI(
        title="Peerwatt",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        # The stack trace of a fault is nobody's business.
        debug=False,
    )
    app.state.web = WebState.of(sites, settings)
    for router in _ROUTERS:
        app.include_router(router, prefix=API, responses=_PROBLEMS)
    app.include_router(rpc.router, responses=_PROBLEMS)
    for router in pages:
        app.include_router(router, include_in_schema=False)
    add_handlers(app, error_page)
    app.add_middleware(Answers, state=app.state.web)
    app.add_middleware(Gate, settings=settings)
    return app
