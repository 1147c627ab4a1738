"""HTTP for sources: time limits, a limit to what is read, errors that say what to do. Credentials never get into a message."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import requests
from requests.auth import AuthBase

from backend.domain.errors import MalformedInput, SourceUnavailable

_TIMEOUT_SECONDS = (5, 20)
_RESPONSE_LIMIT_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: the body, and the tag to ask with next time."""

    status: int
    body: bytes
    tag: str


class ApiKey(AuthBase):
    """The header `Authorization: ApiKey ...`, where netrc and redirects to other hosts do not get at it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Adds the header."""
        request.headers["Authorization"] = f"ApiKey {self._key}"
        return request


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
) -> AuthBase | tuple[str, str] | None:
    """Credentials from the files that a configuration names.

    Raises:
        MalformedInput: a file cannot be read, or a user without password.
    """
    key, password = secret(folder, api_key_file), secret(folder, password_file)
    if key is not None:
        return ApiKey(key)
    if username is None:
        return None
    if password is None:
        raise MalformedInput("password_file", None, "missing", "name a file with the password")
    return username, password


def get(
    url: str, auth: AuthBase | tuple[str, str] | None = None, tag: str = "", **query: str
) -> Response:
    """Fetches a URL.

    Args:
        url: what.
        auth: credentials.
        tag: ETag of what is there already; 304 comes back if it is still right.
        query: parameters.

    Raises:
        SourceUnavailable: no answer, an error, too large an answer.
    """
    headers = {"If-None-Match": tag} if tag else {}
    try:
        # Redirects are refused: they would carry a request with credentials elsewhere.
        with requests.get(
            url,
            params=query,
            headers=headers,
            auth=auth,
            timeout=_TIMEOUT_SECONDS,
            stream=True,
            allow_redirects=False,
        ) as answer:
            body = bytearray()
            for chunk in answer.iter_content(_CHUNK_BYTES):
                body += chunk
                if len(body) > _RESPONSE_LIMIT_BYTES:
                    raise SourceUnavailable(
                        f"{_host(url)} sends more than {_RESPONSE_LIMIT_BYTES} bytes",
                        "ask for fewer devices or days at once",
                    )
            status = answer.status_code
            retry, new_tag = answer.headers.get("Retry-After", ""), answer.headers.get("ETag", "")
    except (requests.RequestException, ValueError) as error:
        # The library looks at the address of a redirect even if it does not go there, and falls over one that is none.
        raise SourceUnavailable(
            f"{_host(url)} does not answer: {type(error).__name__}", "check address and network"
        ) from None
    if status in (401, 403):
        raise SourceUnavailable(
            f"{_host(url)} refuses the credentials ({status})", "check key or password, and rights"
        )
    if status == 429:
        raise SourceUnavailable(
            f"{_host(url)} is asked too often (429)",
            f"ask less often{f'; again in {retry[:20]} s' if retry else ''}",
        )
    if status not in (200, 304, 404):
        raise SourceUnavailable(f"{_host(url)} answers {status}", "try again later")
    return Response(status, bytes(body), new_tag)


def _host(url: str) -> str:
    """The URL without query, user and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rsplit('@', maxsplit=1)[-1].split('?')[0]}"
