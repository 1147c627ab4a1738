"""HTTP for sources: time limits, a limit to what is read, errors that say what to do. Credentials never get into a message."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from backend.domain.errors import MalformedInput, SourceUnavailable

from ..bounded_http import ExchangeFailed, fetch

# For all of an answer: a year of a large community behind a slow line.
_TIMEOUT_SECONDS = 120
_RESPONSE_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: the body, and the tag to ask with next time."""

    status: int
    body: bytes
    tag: str


def api_key(key: str) -> str:
    """smart-me's header `Authorization` for a key."""
    return f"ApiKey {key}"


def basic(username: str, password: str) -> str:
    """The header `Authorization` for a user (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def secret(folder: Path, name: str | None) -> str | None:
    """The text of a file with a key or password; it stands in no configuration, and in no message.

    Raises:
        MalformedInput: it cannot be read, or is empty.
    """
    if name is None:
        return None
    try:
        text = (folder / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedInput(
            name, type(error).__name__, "cannot be read", "name a readable file"
        ) from None
    if not text:
        raise MalformedInput(name, "", "empty", "put the key or password into the file")
    return text


def credentials(
    folder: Path, api_key_file: str | None, username: str | None, password_file: str | None
) -> str | None:
    """The header `Authorization` from the files that a configuration names.

    Raises:
        MalformedInput: a file cannot be read, or a user without password.
    """
    key, password = secret(folder, api_key_file), secret(folder, password_file)
    if key is not None:
        return api_key(key)
    if username is None:
        return None
    if password is None:
        raise MalformedInput("password_file", None, "missing", "name a file with the password")
    return basic(username, password)


def get(url: str, authorization: str | None = None, tag: str = "", **query: str) -> Response:
    """Fetches a URL.

    Args:
        url: what.
        authorization: the header of that name.
        tag: ETag of what is there already; 304 comes back if it is still right.
        query: parameters.

    Raises:
        SourceUnavailable: no answer, an error, too large an answer.
    """
    headers = {"Authorization": authorization, "If-None-Match": tag or None}
    try:
        # Redirects are refused: they would carry a request with credentials elsewhere.
        status, body, found = fetch(
            "GET",
            f"{url}?{urlencode(query)}" if query else url,
            {name: text for name, text in headers.items() if text is not None},
            timeout_seconds=_TIMEOUT_SECONDS,
            limit_bytes=_RESPONSE_LIMIT_BYTES,
        )
    except ExchangeFailed as error:
        raise SourceUnavailable(
            f"{shown(url)} {error}", "check address and network; ask for fewer devices or days"
        ) from None
    retry, new_tag = found.get("retry-after", ""), found.get("etag", "")
    if status in (401, 403):
        raise SourceUnavailable(
            f"{shown(url)} refuses the credentials ({status})", "check key or password, and rights"
        )
    if status == 429:
        raise SourceUnavailable(
            f"{shown(url)} is asked too often (429)",
            f"ask less often{f'; again in {retry[:20]} s' if retry.isascii() and retry.isdecimal() else ''}",
        )
    if status not in (200, 304, 404):
        raise SourceUnavailable(f"{shown(url)} answers {status}", "try again later")
    return Response(status, body, new_tag)


def shown(url: str) -> str:
    """The URL without query, user and password, for messages."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rsplit('@', maxsplit=1)[-1].split('?')[0]}"
