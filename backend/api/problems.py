"""Errors as problems (RFC 9457), with the codes of the error tree; for pages in plain words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from backend.domain.errors import (
    BundleStoreFailed,
    BundleUnavailable,
    ChangedMeanwhile,
    ClearingFailed,
    ContractRefused,
    CrossSite,
    DatabaseFailed,
    DuplicateIdentifier,
    InputError,
    KeyReused,
    LeadershipLost,
    MalformedInput,
    MethodRefused,
    MissingPackage,
    NodeError,
    NotFinal,
    NotPermitted,
    NotSignedIn,
    NotThere,
    OutOfRange,
    PeerwattError,
    QuorumNotReached,
    TooDear,
    TooLarge,
    TooManyRequests,
    UnknownReference,
    WebError,
)
from backend.domain.values import Value

_LOG = logging.getLogger("peerwatt.web")
PROBLEM_TYPE = "application/problem+json"
# The first that fits counts.
_STATUS: tuple[tuple[type[PeerwattError], HTTPStatus], ...] = (
    (NotSignedIn, HTTPStatus.UNAUTHORIZED),
    (NotPermitted, HTTPStatus.FORBIDDEN),
    (CrossSite, HTTPStatus.FORBIDDEN),
    (NotThere, HTTPStatus.NOT_FOUND),
    (MethodRefused, HTTPStatus.METHOD_NOT_ALLOWED),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (TooDear, HTTPStatus.SERVICE_UNAVAILABLE),
    (KeyReused, HTTPStatus.CONFLICT),
    (ChangedMeanwhile, HTTPStatus.PRECONDITION_FAILED),
    (UnknownReference, HTTPStatus.NOT_FOUND),
    (DuplicateIdentifier, HTTPStatus.CONFLICT),
    (InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (LeadershipLost, HTTPStatus.CONFLICT),
    (NotFinal, HTTPStatus.CONFLICT),
    (ContractRefused, HTTPStatus.CONFLICT),
    (MissingPackage, HTTPStatus.NOT_IMPLEMENTED),
    (QuorumNotReached, HTTPStatus.SERVICE_UNAVAILABLE),
    (ClearingFailed, HTTPStatus.SERVICE_UNAVAILABLE),
    (NodeError, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseFailed, HTTPStatus.SERVICE_UNAVAILABLE),
    (BundleStoreFailed, HTTPStatus.SERVICE_UNAVAILABLE),
    (BundleUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
_FRAMEWORKS: dict[HTTPStatus, WebError] = {
    HTTPStatus.NOT_FOUND: NotThere("there is no such page", "check the address"),
    HTTPStatus.METHOD_NOT_ALLOWED: MethodRefused(
        "the address does not take this method", "see /api/v1/openapi.json"
    ),
}
# Makes a page of an error, for people.
ErrorPage = Callable[[Request, int, PeerwattError], Response]


class Problem(Value):
    """RFC 9457, with the fields of our errors besides."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    field: str | None = None


def status_of(error: PeerwattError) -> HTTPStatus:
    """The HTTP status that says the same as an error."""
    return next(
        (status for kind, status in _STATUS if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def problem_of(error: PeerwattError, status: HTTPStatus) -> Problem:
    """An error as a problem. Of inputs the field is named; their value is not repeated."""
    return Problem(
        type=f"https://peerwatt.example/problems/{error.code}",
        title=status.phrase,
        status=int(status),
        detail=error.message,
        code=error.code,
        remedy=error.remedy,
        field=error.field if isinstance(error, InputError) else None,
    )


def _headers(error: PeerwattError) -> dict[str, str]:
    found = {"Cache-Control": "no-store"}
    if isinstance(error, NotSignedIn):
        found["WWW-Authenticate"] = 'SIWE realm="peerwatt"'
    if isinstance(error, TooManyRequests):
        found["Retry-After"] = str(error.wait_seconds)
    return found


def problem_response(error: PeerwattError, status: HTTPStatus | None = None) -> JSONResponse:
    """The answer that tells an error."""
    code = status or status_of(error)
    data = problem_of(error, code).model_dump(mode="json", exclude_none=True)
    return JSONResponse(data, code, _headers(error), PROBLEM_TYPE)


def as_input_error(error: RequestValidationError) -> InputError:
    """The first fault that the framework found, as an error of ours."""
    fault: dict[str, Any] = error.errors()[0]
    path = ".".join(str(part) for part in fault["loc"] if part != "body")
    kind = OutOfRange if "than" in fault["type"] else MalformedInput
    more = len(error.errors()) - 1
    problem = fault["msg"] + (f" ({more} more after this one)" if more else "")
    return kind(path or "body", "<not repeated>", problem, "see /api/v1/openapi.json")


def add_handlers(app: FastAPI, error_page: ErrorPage | None) -> None:
    """Lets every error be told as a problem, or as a page outside `/api` and `/rpc`."""

    def answer(request: Request, error: PeerwattError, status: HTTPStatus) -> Response:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _LOG.warning("request failed", extra={"code": error.code, "path": request.url.path})
        if error_page is None or request.url.path.startswith(("/api/", "/rpc/")):
            return problem_response(error, status)
        page = error_page(request, int(status), error)
        page.headers.update(_headers(error))
        return page

    @app.exception_handler(PeerwattError)
    async def failed(request: Request, error: PeerwattError) -> Response:
        return answer(request, error, status_of(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return answer(request, as_input_error(error), HTTPStatus.UNPROCESSABLE_ENTITY)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        found = _FRAMEWORKS.get(status, WebError(status.phrase.lower(), "see docs/api.md"))
        response = answer(request, found, status)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        # Only its kind is told; the text may hold what is nobody's business.
        _LOG.error("request broke", exc_info=error, extra={"path": request.url.path})
        hidden = PeerwattError(
            f"this should not have happened: {type(error).__name__}", "report this with the time"
        )
        return answer(request, hidden, HTTPStatus.INTERNAL_SERVER_ERROR)
