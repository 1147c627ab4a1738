"""Sign-In with Ethereum (EIP-4361) and sessions; who asks, as a dependency for routes and pages.

Sessions live in this process: whoever restarts it signs everybody out. Of a session's name only the hash is kept.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from siwe import SiweMessage, VerificationError, generate_nonce
from web3 import Web3

from backend.domain.errors import NotPermitted, NotSignedIn, NotThere

from .roles import ChainRoles, Rights, Role
from .settings import WebSettings
from .site import Site

COOKIE = "peerwatt_session"
# Under this name browsers take it from this host only, over TLS.
SECURE_COOKIE = "__Host-peerwatt_session"
MESSAGE_LIMIT = 4096
SIGNATURE_LIMIT = 16_384
_NONCES_KEPT = 10_000
_SESSIONS_KEPT = 100_000
# A sign-in text may not be good for longer than this.
_LONGEST_TEXT_SECONDS = 15 * 60
_CLOCK_TOLERANCE_SECONDS = 60
# ERC-1271: what a contract wallet answers to a signature that is its own.
_MAGIC = bytes.fromhex("1626ba7e")
_NAME_BYTES = 32


@dataclass
class Session:
    """Somebody who has signed in.

    Attributes:
        key: hash of the session's name.
        address: checksummed.
        chain_id: where the address is its owner's; a contract wallet may be somebody else's on another chain.
        began, used: seconds on the monotonic clock.
    """

    key: str
    address: str
    chain_id: int
    began: float
    used: float


@dataclass
class SessionStore:
    """Nonces and sessions.

    Args:
        settings: times and the site's origin.
        clock: monotonic seconds.
    """

    settings: WebSettings
    clock: Callable[[], float] = time.monotonic
    _nonces: OrderedDict[str, float] = field(default_factory=OrderedDict, repr=False)
    _sessions: OrderedDict[str, Session] = field(default_factory=OrderedDict, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def nonce(self) -> str:
        """A fresh one, for one sign-in."""
        made: str = generate_nonce()
        with self._guard:
            self._nonces[made] = self.clock()
            while len(self._nonces) > _NONCES_KEPT:
                self._nonces.popitem(last=False)
        return made

    def sign_in(self, text: str, signature: str, chains: Mapping[int, Web3]) -> tuple[str, Session]:
        """Checks a signed text and begins a session.

        Args:
            text: as the wallet signed it, EIP-4361.
            signature: 0x and hexadecimal digits.
            chains: the chains of the communities here.

        Returns:
            The session's name, for its owner alone, and the session.

        Raises:
            NotSignedIn: the text or its signature is not what it should be.
        """
        message = self._parsed(text)
        # Whatever else is wrong: a nonce is good for one try.
        with self._guard:
            issued = self._nonces.pop(message.nonce, None)
        if issued is None or self.clock() - issued > self.settings.nonce_seconds:
            raise _refused("its nonce is unknown, used or too old")
        web3 = chains.get(message.chain_id)
        if web3 is None:
            raise _refused(f"chain {message.chain_id} is not one of this site's")
        self._check_text(message)
        address = Web3.to_checksum_address(message.address)
        if not _signed(message, signature, address, web3):
            raise _refused("the signature is not the account's")
        name = secrets.token_urlsafe(_NAME_BYTES)
        now = self.clock()
        session = Session(session_key(name), address, message.chain_id, now, now)
        self.put(session)
        return name, session

    def put(self, session: Session) -> None:
        """Keeps a session; of too many the oldest goes."""
        with self._guard:
            self._sessions[session.key] = session
            while len(self._sessions) > _SESSIONS_KEPT:
                self._sessions.popitem(last=False)

    def find(self, name: str | None) -> Session | None:
        """The session of a name; None if there is none, or it has ended."""
        if not name or len(name) > 2 * _NAME_BYTES:
            return None
        key = session_key(name)
        now = self.clock()
        with self._guard:
            session = self._sessions.get(key)
            if session is None:
                return None
            idle, age = now - session.used, now - session.began
            if idle > self.settings.session_seconds or age > self.settings.session_limit_seconds:
                del self._sessions[key]
                return None
            session.used = now
            return session

    def holds(self, name: str | None) -> bool:
        """Whether a session still holds; looking does not make it last longer."""
        with self._guard:
            session = self._sessions.get(session_key(name or ""))
            now = self.clock()
            return (
                session is not None
                and now - session.used <= self.settings.session_seconds
                and now - session.began <= self.settings.session_limit_seconds
            )

    def end(self, name: str | None) -> None:
        """Signs out."""
        with self._guard:
            self._sessions.pop(session_key(name or ""), None)

    @staticmethod
    def _parsed(text: str) -> SiweMessage:
        if len(text) > MESSAGE_LIMIT:
            raise _refused("it is too long")
        try:
            return SiweMessage.from_message(text)
        except Exception:  # whatever a stranger's text makes the parser raise
            raise _refused("it is not a text of EIP-4361") from None

    def _check_text(self, message: SiweMessage) -> None:
        settings = self.settings
        if message.domain != settings.domain:
            raise _refused(f"it is for {message.domain}, not for {settings.domain}")
        if message.scheme is not None and message.scheme != settings.origin.partition("://")[0]:
            raise _refused("it is for another scheme")
        if message.uri.rstrip("/") != settings.origin.rstrip("/"):
            raise _refused("its URI is another site's")
        now = datetime.now(UTC)
        if message.expiration_time is None:
            raise _refused("it has no expiration time")
        until = _time(message.expiration_time)
        since = _time(message.issued_at)
        if until <= now:
            raise _refused("it has expired")
        if (until - since).total_seconds() > _LONGEST_TEXT_SECONDS:
            raise _refused("it is good for too long")
        if (since - now).total_seconds() > _CLOCK_TOLERANCE_SECONDS:
            raise _refused("it was issued in the future")
        if message.not_before is not None and _time(message.not_before) > now:
            raise _refused("it is not valid yet")


def _time(text: object) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))


def _signed(message: SiweMessage, signature: str, address: str, web3: Web3) -> bool:
    """Whether an account signed a text: with its key, or as a contract by its own rule (ERC-1271)."""
    if len(signature) > SIGNATURE_LIMIT:
        return False
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        return False
    if web3.eth.get_code(Web3.to_checksum_address(address)):
        return _contract_signed(message, raw, address, web3)
    try:
        message.verify(signature)
    except (VerificationError, ValueError, TypeError, IndexError):
        return False
    except Exception:  # a stranger's bytes in the curve's library
        return False
    return True


def _contract_signed(message: SiweMessage, raw: bytes, address: str, web3: Web3) -> bool:
    from eth_abi.abi import encode
    from eth_account.messages import _hash_eip191_message, encode_defunct

    digest = _hash_eip191_message(encode_defunct(text=message.prepare_message()))
    data = _MAGIC + encode(["bytes32", "bytes"], [digest, raw])
    try:
        found = web3.eth.call({"to": Web3.to_checksum_address(address), "data": data})
    except Exception:  # a contract of a stranger's may revert in any way
        return False
    return bytes(found[:4]) == _MAGIC and len(found) == 32


def session_key(name: str) -> str:
    """What is kept of a session's name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _refused(why: str) -> NotSignedIn:
    return NotSignedIn(f"the sign-in is not accepted: {why}", "ask for a new nonce and sign again")


# --- Who asks ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Caller:
    """Who asks, in one community.

    Attributes:
        site: the community.
        address: checksummed; None for somebody who has not signed in.
        session: key of the session.
        rights: what the chain says of the address.
    """

    site: Site
    address: str | None = None
    session: str = ""
    rights: Rights = field(default_factory=Rights)

    @property
    def slots(self) -> tuple[int, ...]:
        """Member slots that are the caller's."""
        return self.rights.slots

    @property
    def roles(self) -> frozenset[Role]:
        """The caller's roles in the community."""
        return self.rights.roles

    @property
    def signed_in(self) -> bool:
        """Whether there is a session."""
        return self.address is not None

    def has(self, *roles: Role) -> bool:
        """Whether the caller has one of the roles."""
        return not self.roles.isdisjoint(roles)

    def need(self, *roles: Role) -> None:
        """Lets callers with one of the roles pass.

        Raises:
            NotSignedIn: nobody has signed in.
            NotPermitted: somebody else has.
        """
        self.need_session()
        if not self.has(*roles):
            names = " or ".join(sorted(roles))
            raise NotPermitted(
                f"this is for the {names}, and {self.address} is not on this chain",
                "sign in with another wallet",
            )

    def need_session(self) -> str:
        """The caller's address.

        Raises:
            NotSignedIn: nobody has signed in.
        """
        if self.address is None:
            raise NotSignedIn("nobody has signed in", "sign in with your wallet")
        return self.address

    def need_slot(self, slot: int) -> int:
        """Lets the owner of a member's slot pass, and nobody else, whether there is such a slot or not.

        Raises:
            NotSignedIn: nobody has signed in.
            NotPermitted: it is not the caller's.
        """
        self.need_session()
        if slot not in self.slots:
            raise NotPermitted(f"slot {slot} is not yours", "name one of your own slots")
        return slot

    def own_slot(self) -> int:
        """The caller's slot; the first of several.

        Raises:
            NotSignedIn: nobody has signed in.
            NotPermitted: the caller has none.
        """
        self.need(Role.MEMBER)
        return self.slots[0]


@dataclass
class WebState:
    """What the application keeps; at `app.state.web`."""

    sites: Mapping[str, Site]
    settings: WebSettings
    sessions: SessionStore
    roles: Mapping[str, ChainRoles]

    @classmethod
    def of(cls, sites: Mapping[str, Site], settings: WebSettings) -> WebState:
        """A fresh one."""
        roles = {name: ChainRoles(site) for name, site in sites.items()}
        return cls(sites, settings, SessionStore(settings), roles)

    @property
    def chains(self) -> dict[int, Web3]:
        """The communities' chains."""
        return {site.chain_id: site.web3 for site in self.sites.values()}

    @property
    def cookie(self) -> str:
        """The cookie's name."""
        return SECURE_COOKIE if self.settings.secure else COOKIE

    def set_cookie(self, response: Response, name: str) -> None:
        """Lets the browser keep a session."""
        response.set_cookie(
            self.cookie,
            name,
            max_age=self.settings.session_limit_seconds,
            path="/",
            secure=self.settings.secure,
            httponly=True,
            samesite="strict",
        )

    def delete_cookie(self, response: Response) -> None:
        """Lets the browser forget it."""
        response.delete_cookie(
            self.cookie, path="/", secure=self.settings.secure, httponly=True, samesite="strict"
        )


def web_state(request: Request) -> WebState:
    """The application's state."""
    found: WebState = request.app.state.web
    return found


def session_name(request: Request) -> str | None:
    """What names the session: the cookie, or for programs `Authorization: Bearer ...`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.cookies.get(web_state(request).cookie)


CommunityName = Annotated[
    str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the community.")
]


def site_of(request: Request, community: CommunityName) -> Site:
    """The community in the path.

    Raises:
        NotThere: there is none of that name.
    """
    sites = web_state(request).sites
    if community not in sites:
        raise NotThere(f"there is no community {community} here", "see the list of communities")
    return sites[community]


def caller_of(request: Request, site: Site) -> Caller:
    """Who asks; also somebody who has not signed in."""
    state = web_state(request)
    session = state.sessions.find(session_name(request))
    if session is None or session.chain_id != site.chain_id:
        return Caller(site)
    return Caller(site, session.address, session.key, state.roles[site.name].of(session.address))


# The same for the framework, which gives what is not `async` to a thread each time: thousands of dashboards would wait for threads.


async def _site(request: Request, community: CommunityName) -> Site:
    return site_of(request, community)


async def _caller(request: Request, site: Annotated[Site, Depends(_site)]) -> Caller:
    state = web_state(request)
    session = state.sessions.find(session_name(request))
    if session is None or session.chain_id != site.chain_id:
        return Caller(site)
    roles = state.roles[site.name]
    rights = roles.known(session.address)
    if rights is None:
        rights = await run_in_threadpool(roles.of, session.address)
    return Caller(site, session.address, session.key, rights)


# For routes and pages: `def page(caller: AnyCaller)`.
AnySite = Annotated[Site, Depends(_site)]
AnyCaller = Annotated[Caller, Depends(_caller)]
