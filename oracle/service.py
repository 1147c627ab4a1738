"""What a signer offers over HTTP: readings come in, drafts and signatures go out. Meant for the signers' own network.

Everything but `/health` and `/metrics` needs the token (`Authorization: Bearer ...`): readings are personal data.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from backend.domain.errors import (
    InputError,
    MalformedInput,
    PeerwattError,
    ReportRefused,
    StoreUnavailable,
)
from backend.settlement.encoding import pack_readings

from .intake import Acknowledgement, Intake
from .metrics import OracleMetrics, log
from .node import Draft, OracleNode
from .wire import address_bytes

BODY_LIMIT_BYTES = 64 * 1024 * 1024
_STATUS: tuple[tuple[type[PeerwattError], HTTPStatus], ...] = (
    (InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ReportRefused, HTTPStatus.CONFLICT),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
# Takes a pushed message, returns when its sightings are on disk.
Push = Callable[[bytes], int]
Result = TypeVar("Result")


class Retraction(BaseModel):
    """Body of `POST /retractions`."""

    meter: str
    reading_hash: str
    signature: str


class ReportHash(BaseModel):
    """Body of `POST /periods/N/V/confirm`."""

    hash: str


class Meters(BaseModel):
    """Body of `POST /periods/N/readings`."""

    meters: list[str]


def oracle_app(
    node: OracleNode, metrics: OracleMetrics, token: str, pushes: Mapping[str, Push] | None = None
) -> FastAPI:
    """The application.

    Args:
        node: the signer.
        metrics: its metrics.
        token: what requests must carry.
        pushes: by name of the source, where pushed messages go.
    """
    app = FastAPI(title="Peerwatt oracle signer", docs_url=None, redoc_url=None, openapi_url=None)

    def authorised(request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        # smart-me's realtime interface can send no header of ours.
        given = given or request.query_params.get("token", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(HTTPStatus.UNAUTHORIZED)

    guard = [Depends(authorised)]

    @app.exception_handler(PeerwattError)
    async def failed(request: Request, error: PeerwattError) -> JSONResponse:
        status = next(
            (code for kind, code in _STATUS if isinstance(error, kind)), HTTPStatus.BAD_REQUEST
        )
        log("request failed", code=error.code, status=int(status))
        return JSONResponse({"error": error.as_dict()}, status)

    @app.get("/health")
    def health() -> dict[str, Any]:
        known = node.directory.freshness()
        return {
            "status": "ok",
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
    def retract(body: Retraction) -> dict[str, Any]:
        return _acknowledged(take_retraction(node.intake, body))

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
    def digests(number: int) -> dict[str, str]:
        return {meter.hex(): digest.hex() for meter, digest in node.digests(number).items()}

    @app.post("/periods/{number}/readings", dependencies=guard)
    def readings(number: int, body: Meters) -> Response:
        meters = [address_bytes(meter) for meter in body.meters]
        return Response(node.packed(number, meters), media_type="application/octet-stream")

    @app.get("/periods/{number}/completeness", dependencies=guard)
    def completeness(number: int) -> dict[str, dict[int, str]]:
        return node.completeness(number)

    @app.get("/periods/{number}/{version}/draft", dependencies=guard)
    def draft(number: int, version: int) -> dict[str, Any]:
        return _draft_data(node.draft(number, version))

    @app.get("/periods/{number}/{version}/vectors", dependencies=guard)
    def vectors(number: int, version: int, report: str, slots: str = "") -> Response:
        made = node.draft_with(number, version, _hash(report))
        chosen = {int(slot) for slot in slots.split(",") if slot.isdecimal()}
        body = b"".join(
            item.member.slot.to_bytes(4, "big") + item.salt + pack_readings(item.readings)
            for item in made.member_periods
            if not chosen or item.member.slot in chosen
        )
        return Response(body, media_type="application/octet-stream")

    @app.post("/periods/{number}/{version}/confirm", dependencies=guard)
    def confirm(number: int, version: int, body: ReportHash) -> dict[str, str]:
        signed = node.confirm(number, version, _hash(body.hash))
        log("report signed", period=number, version=version)
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

    return app


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
    }


async def _body(request: Request) -> bytes:
    """The body, as far as the limit.

    Raises:
        HTTPException: it is longer.
    """
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > BODY_LIMIT_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


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
