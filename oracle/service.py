"""What a signer offers over HTTP: readings come in, drafts and signatures go out. Meant for the signers' own network.

Everything but `/health` and `/metrics` needs the token (`Authorization: Bearer ...`): readings are personal data.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from backend.domain.errors import (
    InputError,
    MalformedInput,
    NodeUnreachable,
    PeerwattError,
    ReportRefused,
    StoreUnavailable,
    TradeBookOpen,
)
from backend.domain.tracing import trace_id
from backend.domain.units import SLOT_LIMIT
from backend.domain.values import Value, parse_json

from .intake import Acknowledgement, Intake
from .metrics import OracleMetrics, log
from .node import Draft, OracleNode
from .wire import address_bytes

BODY_LIMIT_BYTES = 64 * 1024 * 1024
JSON_LIMIT_BYTES = 1024 * 1024
_STATUS: tuple[tuple[type[PeerwattError], HTTPStatus], ...] = (
    (InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ReportRefused, HTTPStatus.CONFLICT),
    (TradeBookOpen, HTTPStatus.CONFLICT),
    (NodeUnreachable, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
# Takes a pushed message, returns when its sightings are on disk.
Push = Callable[[bytes], int]
Number = Annotated[int, Path(ge=0, lt=2**31)]
Version = Annotated[int, Path(ge=0, lt=2**32)]
Body = TypeVar("Body", bound=Value)


class Retraction(Value):
    """Body of `POST /retractions`."""

    meter: str
    reading_hash: str
    signature: str


class ReportHash(Value):
    """Body of `POST /periods/N/V/confirm`."""

    hash: str


class Meters(Value):
    """Body of `POST /periods/N/readings`."""

    meters: tuple[str, ...]


def oracle_app(
    node: OracleNode,
    metrics: OracleMetrics,
    token: str | Callable[[], str],
    pushes: Mapping[str, Push] | None = None,
    faults: Callable[[], Mapping[str, str]] = dict,
) -> FastAPI:
    """The application.

    Args:
        node: the signer.
        metrics: its metrics.
        token: what requests must carry; or what tells it, if it can change.
        pushes: by name of the source, where pushed messages go.
        faults: by name, what of the process does not work.
    """
    app = FastAPI(title="Peerwatt oracle signer", docs_url=None, redoc_url=None, openapi_url=None)

    def authorised(request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        # smart-me's realtime interface can send no header of ours.
        given = given or request.query_params.get("token", "")
        right = token if isinstance(token, str) else token()
        if not hmac.compare_digest(given.encode(), right.encode()):
            raise HTTPException(HTTPStatus.UNAUTHORIZED)

    # Of the routes none names a type of body: FastAPI would read and parse it before it looks at the token.
    guard = [Depends(authorised)]

    @app.exception_handler(PeerwattError)
    async def failed(request: Request, error: PeerwattError) -> JSONResponse:
        status = next(
            (code for kind, code in _STATUS if isinstance(error, kind)), HTTPStatus.BAD_REQUEST
        )
        log("request failed", code=error.code, status=int(status))
        return JSONResponse({"error": error.as_dict()}, status)

    @app.exception_handler(AnyHTTPException)
    async def refused(request: Request, error: AnyHTTPException) -> JSONResponse:
        phrase = HTTPStatus(error.status_code).phrase.lower()
        return _http_error(error.status_code, phrase, error.headers)

    @app.exception_handler(RequestValidationError)
    async def misdirected(request: Request, error: RequestValidationError) -> JSONResponse:
        return _http_error(int(HTTPStatus.UNPROCESSABLE_ENTITY), "a number in the path is none")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        # Only its kind is told; the text may hold readings.
        log("request broke", logging.ERROR, kind=type(error).__name__)
        return _http_error(int(HTTPStatus.INTERNAL_SERVER_ERROR), "an error of this signer")

    @app.get("/health")
    def health() -> dict[str, Any]:
        known = node.directory.freshness()
        wrong = dict(faults())
        return {
            "status": "failing" if wrong else "ok",
            "faults": wrong,
            "newest_interval": node.store.newest_interval(),
            "time": node.clock(),
            "meter_registry": known and asdict(known),
        }

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.post("/readings", dependencies=guard)
    async def take(request: Request) -> dict[str, Any]:
        data = await _body(request)
        return _acknowledged(await run_in_threadpool(node.intake.take, data, "http"))

    @app.post("/retractions", dependencies=guard)
    async def retract(request: Request) -> dict[str, Any]:
        body = await _json(request, Retraction)
        return _acknowledged(await run_in_threadpool(take_retraction, node.intake, body))

    @app.get("/retractions", dependencies=guard)
    def retractions() -> list[dict[str, str]]:
        return [
            {
                "meter": "0x" + row.meter.hex(),
                "reading_hash": "0x" + row.hash.hex(),
                "signature": "0x" + row.signature.hex(),
            }
            for row in node.store.all_retractions()
        ]

    @app.get("/periods/{number}/digests", dependencies=guard)
    def digests(number: Number) -> dict[str, str]:
        return {
            meter.hex(): digest.hex() for meter, digest in node.readings.digests(number).items()
        }

    @app.post("/periods/{number}/readings", dependencies=guard)
    async def readings(number: Number, request: Request) -> Response:
        body = await _json(request, Meters)
        meters = [address_bytes(meter) for meter in body.meters]
        data = await run_in_threadpool(node.readings.packed, number, meters)
        return Response(data, media_type="application/octet-stream")

    @app.get("/periods/{number}/completeness", dependencies=guard)
    def completeness(number: Number) -> dict[str, dict[int, str]]:
        return node.readings.completeness(number)

    @app.get("/periods/{number}/{version}/draft", dependencies=guard)
    def draft(number: Number, version: Version) -> dict[str, Any]:
        return _draft_data(node.offered(number, version))

    @app.get("/periods/{number}/{version}/vectors", dependencies=guard)
    def vectors(number: Number, version: Version, report: str, slots: str = "") -> Response:
        chosen = {_slot(slot) for slot in slots.split(",") if slot}
        made = node.draft_with(number, version, _hash(report))
        body = b"".join(
            item.member.slot.to_bytes(4, "big") + item.salt + item.packed()
            for item in made.member_periods
            if not chosen or item.member.slot in chosen
        )
        return Response(body, media_type="application/octet-stream")

    @app.post("/periods/{number}/{version}/confirm", dependencies=guard)
    async def confirm(number: Number, version: Version, request: Request) -> dict[str, str]:
        body = await _json(request, ReportHash)
        signed = await run_in_threadpool(node.confirm, number, version, _hash(body.hash))
        file = node.config.file
        trace = trace_id(file.chain_id, file.clearing_house, number)
        log("report signed", period=number, version=version, trace=trace)
        return {
            "hash": "0x" + signed.report_hash.hex(),
            "signer": signed.signer,
            "signature": "0x" + signed.signature.hex(),
        }

    @app.post("/sources/{name}", dependencies=guard)
    async def push(name: str, request: Request) -> dict[str, int]:
        taken = (pushes or {}).get(name)
        if taken is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        data = await _body(request)
        return {"taken": await run_in_threadpool(taken, data)}

    _add_trade_books(app, node, guard)
    return app


def _add_trade_books(app: FastAPI, node: OracleNode, guard: Sequence[Any]) -> None:
    @app.put("/trade-books/{first_interval}", dependencies=guard)
    async def take_book(first_interval: Number, request: Request) -> dict[str, int]:
        if node.trade_books is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        data = await _body(request)
        await run_in_threadpool(node.trade_books.take, first_interval, data)
        return {"first_interval": first_interval}


def take_retraction(intake: Intake, body: Retraction) -> Acknowledgement:
    """Takes back a reading.

    Raises:
        MalformedInput: a field is not what it should be.
        ReadingRejected: no valid signature.
        StoreUnavailable: it was not stored.
    """
    return intake.take_retraction(
        address_bytes(body.meter),
        _hash(body.reading_hash),
        _hexadecimal(body.signature, "signature"),
    )


def _acknowledged(done: Acknowledgement) -> dict[str, Any]:
    return {
        "taken": done.taken,
        "known": done.known,
        "refused": [
            {"index": item.index, "code": item.code, "reason": item.reason} for item in done.refused
        ],
    }


def _draft_data(made: Draft) -> dict[str, Any]:
    report = made.report
    return {
        "hash": "0x" + made.hash.hex(),
        "period": report.period,
        "version": report.version,
        "first_interval": report.first_interval,
        "interval_count": report.interval_count,
        "readings_root": "0x" + report.readings_root.hex(),
        "totals_hash": "0x" + report.totals_hash.hex(),
        "config_digest": "0x" + report.config_digest.hex(),
        "leaves": {str(item.member.slot): item.leaf().hex() for item in made.member_periods},
        "rejected": made.rejected,
        "is_kept": made.is_kept,
    }


async def _body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """The body, as far as the limit.

    Raises:
        HTTPException: it is longer.
    """
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > limit_bytes:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


async def _json(request: Request, kind: type[Body]) -> Body:
    """The body as a value; nesting without end is refused, where the standard parser would overflow the stack.

    Raises:
        InputError: it is none.
        HTTPException: it is too long.
    """
    return kind.from_data(parse_json(await _body(request, JSON_LIMIT_BYTES), "body"))


def _http_error(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    remedy = "see docs/oracle.md, HTTP"
    error = {"code": f"http.{status}", "message": message, "remedy": remedy}
    return JSONResponse({"error": error}, status, headers)


def _slot(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and int(text) < SLOT_LIMIT):
        raise MalformedInput("slots", text[:80], "not a slot", "give numbers of slots")
    return int(text)


def _hash(text: str) -> bytes:
    data = _hexadecimal(text, "hash")
    if len(data) != 32:
        raise MalformedInput("hash", text[:80], "not 32 bytes", "give 64 hexadecimal digits")
    return data


def _hexadecimal(text: str, field: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise MalformedInput(
            field, text[:80], "not hexadecimal", "give hexadecimal digits"
        ) from None
