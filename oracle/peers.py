"""The other signers, as whoever asks them sees them: each may be away, slow, or send anything at all."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from backend.domain.errors import InputError
from backend.domain.values import parse_json

from .bounded_http import ExchangeFailed, fetch
from .metrics import log

_RESPONSE_LIMIT_BYTES = 1024 * 1024 * 1024
_JSON_LIMIT_BYTES = 64 * 1024 * 1024
# Batches that wait for a signer; what is dropped it gets when the next report is put together.
_WAITING_BATCHES = 100


class SignerFailed(Exception):
    """A signer did not answer, or not with what it should."""


@dataclass(frozen=True, slots=True)
class SignerClient:
    """One signer, over HTTP.

    Args:
        url: where.
        token: for it.
        timeout_seconds: for each request, from connecting to the last byte.
    """

    url: str
    token: str
    timeout_seconds: float = 60

    def get(self, path: str, **query: str) -> bytes:
        """Fetches.

        Raises:
            SignerFailed: it did not answer.
        """
        return self._request("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, data: bytes | None = None, json: object = None) -> bytes:
        """Sends `data`, or `json`.

        Raises:
            SignerFailed: it did not answer.
        """
        return self._request("POST", path, _json_bytes(json) if data is None else data)

    def put(self, path: str, data: bytes) -> bytes:
        """Stores `data` there.

        Raises:
            SignerFailed: it did not answer, or refuses.
        """
        return self._request("PUT", path, data)

    def json(self, path: str, body: object = None) -> Any:
        """Fetches JSON; with a body, sends it.

        Raises:
            SignerFailed: it did not answer with any.
        """
        found = self.get(path) if body is None else self.post(path, json=body)
        return parsed(found)

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            answer = fetch(
                method,
                self.url.rstrip("/") + path,
                {"Authorization": f"Bearer {self.token}"},
                body,
                timeout_seconds=self.timeout_seconds,
                limit_bytes=_RESPONSE_LIMIT_BYTES,
            )
        except ExchangeFailed as error:
            raise SignerFailed(str(error)) from None
        if answer.status != 200:
            raise SignerFailed(f"answers {answer.status}: {_error_of(answer.body)}")
        return answer.body


def parsed(body: bytes) -> Any:
    """JSON from a signer.

    Raises:
        SignerFailed: it is none.
    """
    if len(body) > _JSON_LIMIT_BYTES:
        raise SignerFailed("answers too much")
    try:
        return parse_json(body, "answer")
    except InputError:
        raise SignerFailed("answers no JSON") from None


def _json_bytes(data: object) -> bytes:
    return json.dumps(data).encode()


def _error_of(body: bytes) -> str:
    try:
        text = str(parsed(body)["error"]["message"])[:300]
    except (SignerFailed, KeyError, TypeError):
        return ""
    # It goes into our own messages and onto screens.
    return "".join(sign if sign.isprintable() else "?" for sign in text)


class Forwarder:
    """Sends readings to the other signers in the background, each at its own pace: one that is slow holds nobody up.

    Args:
        clients: the other signers.

    Attributes:
        token: for them; may change.
    """

    def __init__(self, clients: Sequence[SignerClient]) -> None:
        self.token: str | None = None
        self._queues: list[queue.Queue[bytes]] = []
        for client in clients:
            waiting: queue.Queue[bytes] = queue.Queue(_WAITING_BATCHES)
            self._queues.append(waiting)
            # Ends with the process; what it has not sent is passed on when a report is put together.
            threading.Thread(
                target=self._send, args=(client, waiting), name="forward", daemon=True
            ).start()

    def __call__(self, data: bytes) -> None:
        """Queues readings; returns at once."""
        for waiting in self._queues:
            try:
                waiting.put_nowait(data)
            except queue.Full:
                log("signer too slow, readings not sent", logging.WARNING)

    def _send(self, client: SignerClient, waiting: queue.Queue[bytes]) -> None:
        while True:
            data = waiting.get()
            try:
                current = replace(client, token=self.token) if self.token else client
                current.post("/readings", data=data)
            except Exception as error:
                # Whatever it answers must not end this thread.
                log("signer not reached", logging.WARNING, kind=type(error).__name__)
