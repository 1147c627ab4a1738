"""Signing in and out, and what there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from backend.domain.values import Value

from ..roles import Role
from ..sessions import (
    MESSAGE_LIMIT,
    SIGNATURE_LIMIT,
    AnyCaller,
    AnySite,
    WebState,
    session_name,
    web_state,
)
from ..views.values import HexText

router = APIRouter(tags=["session"])
State = Annotated[WebState, Depends(web_state)]


class SignInTerms(Value):
    """What a sign-in text must say (EIP-4361). The nonce is good for one try."""

    nonce: str
    domain: str
    uri: str
    version: str
    chain_ids: tuple[int, ...]
    statement: str
    issued_at: datetime
    expiration_time: datetime


class SignIn(Value):
    """A signed text."""

    message: Annotated[str, Field(min_length=1, max_length=MESSAGE_LIMIT)]
    signature: Annotated[
        str, Field(pattern=r"^0x[0-9a-fA-F]*$", min_length=4, max_length=SIGNATURE_LIMIT)
    ]


class SignedIn(Value):
    """A session. Programs send `token` as `Authorization: Bearer ...`; browsers have it as a cookie."""

    address: HexText
    chain_id: int
    token: str
    ends_after_seconds: int


class CommunityLink(Value):
    """A community here."""

    name: str
    title: str
    chain_id: int
    clearing_house: HexText
    currency: str
    time_zone: str
    interval_minutes: int
    demo: bool


class Myself(Value):
    """Who asks, in a community."""

    address: HexText | None
    slots: tuple[int, ...]
    roles: tuple[Role, ...]


STATEMENT = "Sign in to your energy community. This moves no money."


@router.get("/session/terms")
def terms(state: State) -> SignInTerms:
    """A fresh nonce, and what else the text to be signed must say."""
    now = datetime.now(UTC).replace(microsecond=0)
    return SignInTerms(
        nonce=state.sessions.nonce(),
        domain=state.settings.domain,
        uri=state.settings.origin,
        version="1",
        chain_ids=tuple(sorted(state.chains)),
        statement=STATEMENT,
        issued_at=now,
        expiration_time=now + timedelta(seconds=state.settings.nonce_seconds),
    )


@router.post("/session")
def sign_in(body: SignIn, request: Request, response: Response, state: State) -> SignedIn:
    """Begins a session; one that the request came with ends."""
    name, session = state.sessions.sign_in(body.message, body.signature, state.chains)
    state.sessions.end(session_name(request))
    state.set_cookie(response, name)
    return SignedIn(
        address=session.address,
        chain_id=session.chain_id,
        token=name,
        ends_after_seconds=state.settings.session_seconds,
    )


@router.delete("/session", status_code=204)
def sign_out(request: Request, response: Response, state: State) -> None:
    """Ends the session."""
    state.sessions.end(session_name(request))
    state.delete_cookie(response)


@router.get("/communities")
def communities(state: State) -> tuple[CommunityLink, ...]:
    """The communities here."""
    return tuple(
        CommunityLink(
            name=site.name,
            title=site.title,
            chain_id=site.chain_id,
            clearing_house=site.contracts.addresses["ClearingHouse"],
            currency=site.currency,
            time_zone=site.time_zone,
            interval_minutes=site.interval_minutes,
            demo=site.demo is not None,
        )
        for site in state.sites.values()
    )


@router.get("/communities/{community}/me")
def me(caller: AnyCaller, site: AnySite) -> Myself:
    """Who asks, and as what."""
    return Myself(address=caller.address, slots=caller.slots, roles=tuple(sorted(caller.roles)))
