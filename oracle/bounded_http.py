"""HTTP with somebody who need not be trusted: one deadline for all of it, a limit to the answer, no redirects.

Other libraries' limits are for each packet, so that whoever sends a byte now and then is waited for without end, and they look
at redirects that nobody follows. Here the time that is left is set anew before every packet, of the headers too.
"""

from __future__ import annotations

import io
import math
import socket
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

_CHUNK_BYTES = 1 << 20


class ExchangeFailed(Exception):
    """No answer, too late, too large, or cut off."""


class Answer(NamedTuple):
    """What came back; names of headers are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


def fetch(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    timeout_seconds: float,
    limit_bytes: int,
    silence_seconds: float = math.inf,
) -> Answer:
    """One request.

    Args:
        method: `GET` or `POST`.
        url: http or https.
        headers: to send.
        body: to send.
        timeout_seconds: for everything from connecting to the last byte.
        limit_bytes: how long the answer may be.
        silence_seconds: longest wait for the next packet, where large answers are given more time than nobody is.

    Raises:
        ExchangeFailed: naming the kind of failure; never the URL, which may hold a key. An answer that is cut off is one.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        patience = min(timeout_seconds, silence_seconds)
        connection = kind(parts.hostname or "", parts.port, timeout=patience)
        try:
            connection.connect()
            connection.sock = _Hurried(connection.sock, deadline, silence_seconds)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, dict(headers))
            return _read(connection.getresponse(), limit_bytes)
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        raise ExchangeFailed(f"does not answer: {type(error).__name__}") from None


def _read(response: HTTPResponse, limit_bytes: int) -> Answer:
    with response:
        if response.status == HTTPStatus.OK and response.length is None and not response.chunked:
            # Its end could not be told from a broken connection's.
            raise ExchangeFailed("does not say how long its answer is")
        body = bytearray()
        while chunk := response.read(_CHUNK_BYTES):
            body += chunk
            if len(body) > limit_bytes:
                raise ExchangeFailed("answers too much")
        if response.length:
            raise ExchangeFailed("answers less than it says")
        return Answer(
            response.status,
            bytes(body),
            {name.lower(): text for name, text in response.getheaders()},
        )


def _left(deadline: float, silence_seconds: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(left, silence_seconds)


class _Hurried:
    """A socket that counts all its waiting against one deadline; the part of its interface that http.client uses."""

    def __init__(self, connected: socket.socket, deadline: float, silence_seconds: float) -> None:
        self._socket = connected
        self._limits = deadline, silence_seconds

    def sendall(self, data: bytes) -> None:
        # Python's own limit for this call is for all of the data.
        self._socket.settimeout(_left(*self._limits))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_HurriedReader(self._socket, self._limits))

    def close(self) -> None:
        self._socket.close()


class _HurriedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, limits: tuple[float, float]) -> None:
        self._socket = connected
        self._limits = limits
        # Keeps the connection open until the answer is read, whoever closes the socket before.
        self._raw = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        self._socket.settimeout(_left(*self._limits))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
