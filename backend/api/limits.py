"""What every request passes: size, pace, where it comes from; and what every answer carries."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic_core import from_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.domain.errors import CrossSite, MalformedInput, TooLarge, TooManyRequests

from .problems import problem_response
from .settings import WebSettings

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_CALLERS_KEPT = 20_000
_CALLERS_PER_ADDRESS = 50


@dataclass
class RateLimiter:
    """A bucket of requests for each caller, which fills again evenly.

    Args:
        per_minute: how many.
        clock: monotonic seconds.
    """

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, caller: str) -> None:
        """Counts a request.

        Raises:
            TooManyRequests: the caller's bucket is empty.
        """
        now = self.clock()
        left, at = self._left.pop(caller, (float(self.per_minute), now))
        rate = self.per_minute / 60
        left = min(self.per_minute, left + (now - at) * rate)
        if left < 1:
            self._left[caller] = (left, now)
            wait = int((1 - left) / rate) + 1
            raise TooManyRequests(
                f"more than {self.per_minute} requests in a minute", f"wait {wait} s", wait
            )
        self._left[caller] = (left - 1, now)
        while len(self._left) > _CALLERS_KEPT:
            self._left.popitem(last=False)


class Gate:
    """Refuses requests that are too large, too many, or another site's; adds headers to every answer.

    Cross-site requests are told by `Sec-Fetch-Site`, and by `Origin` where a browser does not send that; a program sends neither.
    The session's cookie is `SameSite=Strict` besides.

    Args:
        app: what is behind.
        settings: limits.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings
        self._requests = RateLimiter(settings.requests_per_minute)
        self._addresses = RateLimiter(_CALLERS_PER_ADDRESS * settings.requests_per_minute)
        self._sign_ins = RateLimiter(settings.sign_ins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    found.setdefault(name, value)
                if self._settings.secure:
                    found.setdefault("Strict-Transport-Security", "max-age=31536000")
                if scope["path"].startswith("/api/"):
                    found.setdefault("Cache-Control", "private, no-store")
            await send(message)

        try:
            self._check(scope, headers)
            body = await self._body(scope, headers, receive)
        except (TooLarge, TooManyRequests, CrossSite, MalformedInput) as error:
            await problem_response(error)(scope, receive, send_with_headers)
            return
        await self._app(scope, body, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        client = scope.get("client")
        address = client[0] if client else "unknown"
        # Many people may come from one address, and a stranger can invent cookies: so both are counted.
        cookie = headers.get("cookie", "") + headers.get("authorization", "")
        self._addresses.take(address)
        if cookie:
            self._requests.take(f"{address} {hash(cookie)}")
        if scope["method"] in _SAFE:
            return
        if scope["path"].endswith("/session"):
            self._sign_ins.take(address)
        self._check_site(headers)

    def _check_site(self, headers: Headers) -> None:
        fetched = headers.get("sec-fetch-site")
        origin = headers.get("origin")
        if fetched is not None:
            same = fetched in ("same-origin", "none")
        else:
            same = origin is None or urlsplit(origin)[:2] == urlsplit(self._settings.origin)[:2]
        if not same:
            raise CrossSite(
                "another web site made the browser send this", "open the page here and try again"
            )

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """Reads the body before anybody else does, so that one without a stated length cannot grow either."""
        if scope["method"] in _SAFE:
            return receive
        limit = self._settings.body_limit_bytes
        length = headers.get("content-length", "")
        body = b""
        more = True
        while more and len(body) <= limit and not (length.isdigit() and int(length) > limit):
            message = await receive()
            if message["type"] != "http.request":
                return receive
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if more or len(body) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes", "send less")
        if body and not headers.get("content-type", "").startswith(_FORMS):
            _check_json(body)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return replay


def _check_json(body: bytes) -> None:
    """Lets JSON pass that the standard parser can take: deep nesting overflows the stack of the whole process there.

    Raises:
        MalformedInput: not JSON, or nested too deeply.
    """
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedInput(
            "body", f"<{len(body)} bytes>", f"not JSON: {error}", "send JSON in UTF-8"
        ) from None
