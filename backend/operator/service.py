"""What the coordinator offers over HTTP: health, metrics, batches and bundles for everybody, personal parts for their owners.

A member proves who it is with its wallet: it signs a text (`access.py`) and sends the
signature along. The server keeps no password and no session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from backend.domain.errors import InputError, PeerwattError
from backend.domain.values import parse_json

from .access import CLOCK_TOLERANCE_SECONDS, TOKEN_SECONDS, is_owner
from .community import CommunityService
from .metrics import CoordinatorMetrics

_TRADES_LIMIT_BYTES = 1024 * 1024
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_PRIVATE = {"Cache-Control": "private, no-store"}


def coordinator_app(
    communities: Mapping[str, CommunityService],
    metrics: CoordinatorMetrics,
    stale_after_seconds: float,
    waiting: Mapping[str, PeerwattError],
    now: Callable[[], float] = time.time,
) -> FastAPI:
    """The application.

    Args:
        communities: by name.
        metrics: theirs.
        stale_after_seconds: a community that has not gone on for so long is not ready.
        waiting: those that could not be opened yet, and why.
        now: seconds since the Unix epoch.
    """
    app = FastAPI(title="Peerwatt coordinator", docs_url=None, redoc_url=None, openapi_url=None)

    def found(name: str) -> CommunityService:
        if name not in communities:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no such community")
        return communities[name]

    def authorised(service: CommunityService, slot: int, request: Request) -> None:
        """Lets the owner of a slot through and nobody else."""
        try:
            issued_at = int(request.headers.get("X-Peerwatt-Issued-At", ""))
            given = request.headers.get("X-Peerwatt-Signature", "").removeprefix("0x")
            signature = bytes.fromhex(given)
        except ValueError:
            raise HTTPException(HTTPStatus.UNAUTHORIZED) from None
        if not -CLOCK_TOLERANCE_SECONDS <= now() - issued_at <= TOKEN_SECONDS:
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "issued too long ago, or in the future")
        # Whether there is such a slot is nobody else's business either.
        if not is_owner(service.contracts, service.chain_id, slot, issued_at, signature):
            raise HTTPException(HTTPStatus.UNAUTHORIZED)

    @app.exception_handler(PeerwattError)
    async def failed(request: Request, error: PeerwattError) -> JSONResponse:
        bad = isinstance(error, InputError)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if bad else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"error": error.as_dict()}, status)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    def ready() -> JSONResponse:
        reasons = {name: [error.as_dict()] for name, error in dict(waiting).items()}
        for name, service in dict(communities).items():
            age = now() - service.advanced_at
            # Less than none: the clock was set back, and nothing has gone on since.
            if not -CLOCK_TOLERANCE_SECONDS <= age <= stale_after_seconds:
                reasons[name] = [failure.as_dict() for failure in service.failures]
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return JSONResponse({"ready": not reasons, "waiting": reasons}, status)

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/communities")
    def names() -> list[str]:
        return sorted(communities)

    @app.get("/communities/{name}/batches")
    def batches(name: str) -> list[dict[str, Any]]:
        service = found(name)
        states = {item.batch_hash: item.state.value for item in service.store.items()}
        return [
            {
                "number": number,
                "period": header.period,
                "version": header.version,
                "batch_hash": batch_hash,
                "bundle_hash": "0x" + header.bundle_hash.hex(),
                "state": states.get(batch_hash, ""),
                "trace": service.trace(header.period),
            }
            for number, (batch_hash, header) in service.store.live(final_only=False).items()
        ]

    @app.get("/communities/{name}/preview")
    def preview(name: str) -> dict[str, Any]:
        rows = found(name).store.previews()
        rows = [row for row in rows if row.period == rows[-1].period]
        return {
            "final": False,
            "intervals": [row.model_dump(exclude={"period"}) for row in rows],
            "period": rows[0].period if rows else None,
        }

    @app.get("/communities/{name}/bundles/{bundle_hash}")
    def public(name: str, bundle_hash: str) -> Response:
        return _json(found(name).bundles.public(_hash(bundle_hash)), _FOR_EVER)

    @app.get("/communities/{name}/bundles/{bundle_hash}/personal/{slot}")
    def personal(name: str, bundle_hash: str, slot: int, request: Request) -> Response:
        service = found(name)
        authorised(service, slot, request)
        return _json(service.bundles.personal(_hash(bundle_hash), slot), _PRIVATE)

    @app.get("/communities/{name}/bundles/{bundle_hash}/statement/{slot}")
    def statement(name: str, bundle_hash: str, slot: int, request: Request) -> Response:
        service = found(name)
        authorised(service, slot, request)
        return _json(service.bundles.statement(_hash(bundle_hash), slot), _PRIVATE)

    _add_trades(app, found, authorised)
    return app


def _add_trades(
    app: FastAPI,
    found: Callable[[str], CommunityService],
    authorised: Callable[[CommunityService, int, Request], None],
) -> None:
    """Trades before delivery: what both sides signed comes in, each side sees its own."""

    @app.post("/communities/{name}/trades")
    async def trade(name: str, request: Request) -> dict[str, int]:
        service, body = found(name), bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _TRADES_LIMIT_BYTES:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        data = parse_json(bytes(body), "body")
        return {"taken": await run_in_threadpool(service.take_trades, data)}

    @app.get("/communities/{name}/trades/{period}/{slot}")
    def own_trades(name: str, period: int, slot: int, request: Request) -> JSONResponse:
        service = found(name)
        authorised(service, slot, request)
        return JSONResponse({"trades": service.own_trades(slot, period)}, headers=_PRIVATE)


def _json(data: bytes | None, headers: dict[str, str]) -> Response:
    if data is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return Response(data, media_type="application/json", headers=headers)


def _hash(text: str) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != 32:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return data
