"""What can be chosen of the web API."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20
# Longer than pages wait between two looks.
KEEP_ALIVE_SECONDS = 30


@dataclass(frozen=True)
class WebSettings:
    """Limits and times.

    Attributes:
        origin: as browsers see the site, such as `https://community.example`; sign-in texts name its host.
        session_seconds: a session ends when it was not used for so long.
        session_limit_seconds: and in any case after so long.
        nonce_seconds: how long a sign-in may take.
        body_limit_bytes: largest body of a request.
        requests_per_minute: of one caller.
        sign_ins_per_minute: of one network address.
    """

    origin: str = "http://127.0.0.1:8080"
    session_seconds: int = 30 * 60
    session_limit_seconds: int = 8 * 3600
    nonce_seconds: int = 5 * 60
    body_limit_bytes: int = MEBIBYTE
    requests_per_minute: int = 1200
    sign_ins_per_minute: int = 60

    @property
    def domain(self) -> str:
        """Host and port, as sign-in texts name them."""
        return self.origin.partition("://")[2].rstrip("/")

    @property
    def secure(self) -> bool:
        """Whether browsers come over TLS."""
        return self.origin.startswith("https://")
