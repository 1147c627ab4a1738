"""Around all JSON: ETags for what is read, and idempotency keys for what is written."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import TypeAdapter
from sqlalchemy import delete
from sqlmodel import Session, col
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.domain.errors import KeyReused, MalformedInput, PeerwattError
from backend.ledger.tables import KeptAnswerRow

from .problems import problem_response
from .sessions import WebState, session_name
from .site import Site

_COMMUNITY = re.compile(r"^/api/v1/communities/([a-z0-9-]{1,63})/")
_KEY = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
_KEPT_SECONDS = 86_400
_JSON = "application/json"
_ANYTHING: TypeAdapter[object] = TypeAdapter(object)


def etag_of(body: bytes) -> str:
    """A strong validator of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


# So many views are made at once: more threads would only take the processor from the one that answers everybody else.
_MAKERS = 2


async def kept_json(site: Site, key: object, make: Callable[[], object]) -> Response:
    """A view as JSON, made and written once for as long as the site does not change.

    Args:
        site: the community.
        key: names the view.
        make: makes it.
    """

    def write() -> tuple[bytes, str]:
        body = _ANYTHING.dump_json(make())
        return body, etag_of(body)

    found = site.peek(key)
    if found is None:
        limiter = site.kept("makers", lambda: CapacityLimiter(_MAKERS))
        found = await to_thread.run_sync(lambda: site.written_once(key, write), limiter=limiter)
    body, etag = found
    return Response(body, media_type=_JSON, headers={"ETag": etag})


@dataclass
class Answers:
    """Middleware: adds ETags and answers 304; answers a write that comes again with the same key as before.

    Args:
        app: what is behind.
        state: sites and sessions.
    """

    app: ASGIApp
    state: WebState
    _running: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await self._read(scope, receive, send)
        else:
            await self._write(scope, receive, send)

    # --- ETags ------------------------------------------------------------------------------------------------------------

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = Headers(scope=scope).get("if-none-match", "")
        start: Message | None = None
        parts: list[bytes] = []

        async def look(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                plain = headers.get("content-type", "").startswith(_JSON)
                if message["status"] == 200 and plain:
                    start = message
                    return
            if start is None:
                await send(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            await self._tagged(start, b"".join(parts), wanted, send)

        await self.app(scope, receive, look)

    @staticmethod
    async def _tagged(start: Message, body: bytes, wanted: str, send: Send) -> None:
        headers = MutableHeaders(raw=list(start["headers"]))
        etag = headers.get("etag") or etag_of(body)
        headers["ETag"] = etag
        headers["Cache-Control"] = "private, no-cache"
        headers["Vary"] = "Cookie, Authorization"
        known = {item.strip().removeprefix("W/") for item in wanted.split(",")}
        if etag in known:
            del headers["content-length"]
            start, body = {**start, "status": 304}, b""
        await send({**start, "headers": headers.raw})
        await send({"type": "http.response.body", "body": body})

    # --- Idempotency keys ---------------------------------------------------------------------------------------------------

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key")
        caller = self._caller(scope)
        if key is None or caller is None:
            await self.app(scope, receive, send)
            return
        site, address = caller
        try:
            if not _KEY.match(key):
                raise MalformedInput(
                    "Idempotency-Key", "<not repeated>", "not 1 to 128 letters, digits, . _ : -", "send such"
                )  # fmt: skip
            lock = self._running.setdefault((address, key), asyncio.Lock())
            async with lock:
                await self._once(site, address, key, scope, receive, send)
        except PeerwattError as error:
            await problem_response(error)(scope, receive, send)
        finally:
            self._running.pop((address, key), None)

    def _caller(self, scope: Scope) -> tuple[Site, str] | None:
        found = _COMMUNITY.match(scope["path"])
        site = self.state.sites.get(found.group(1)) if found else None
        session = self.state.sessions.find(session_name(Request(scope)))
        return (site, session.address) if site and session else None

    async def _once(
        self, site: Site, address: str, key: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # `Gate` has read the body already and gives it in one piece.
        first = await receive()
        content = first.get("body", b"")
        place = f"{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}\n"
        digest = hashlib.sha256(place.encode() + content).hexdigest()
        known = await run_in_threadpool(find_kept, site, address, key)
        if known is not None:
            if known.request_digest != digest:
                raise KeyReused(
                    "the idempotency key was sent with another request before", "use a new key"
                )
            headers = {"Idempotent-Replayed": "true"}
            again = Response(
                known.body or None, known.status, headers, _JSON if known.body else None
            )
            await again(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return first

        status = 500
        parts: list[bytes] = []

        async def look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))
            await send(message)

        await self.app(scope, replay, look)
        # What failed changed nothing, and may be tried again under the same key.
        if status < 400:
            row = KeptAnswerRow(
                caller=address,
                key=key,
                request_digest=digest,
                status=status,
                body=b"".join(parts),
                at=int(time.time()),
            )
            await run_in_threadpool(keep_answer, site, row)


def find_kept(site: Site, caller: str, key: str) -> KeptAnswerRow | None:
    """What a request was answered; None if it is new."""
    with Session(site.ledger.engine) as session:
        return session.get(KeptAnswerRow, (caller, key))


def keep_answer(site: Site, row: KeptAnswerRow) -> None:
    """Keeps an answer for a day."""
    with Session(site.ledger.engine) as session:
        session.exec(delete(KeptAnswerRow).where(col(KeptAnswerRow.at) < row.at - _KEPT_SECONDS))
        session.merge(row)
        session.commit()
