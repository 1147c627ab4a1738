"""A typed client of the web API: every answer as the read model that the server made it from.

client = ApiClient("https://community.example", "name")
client.sign_in(account)
print(client.today(client.me().slots[0]).balance_nano)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import requests
from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount
from pydantic import TypeAdapter
from siwe import SiweMessage

from backend.domain.errors import NodeUnreachable, PeerwattError

from .relay import Relayed
from .routes.coordinator import Done, Previewed
from .routes.session import CommunityLink, Myself, SignedIn, SignInTerms
from .transactions import Prepared
from .views import (
    auditor,
    community,
    coordinator,
    dso,
    grid_notices,
    installation,
    member,
    member_statements,
    member_trades,
    membership,
    own_data,
)
from .views.values import Page
from .wishes import SignedWishes, StoredWishes, Wishes

Model = TypeVar("Model")
_PAGE = 1000


class Http(Protocol):
    """What sends requests: `requests.Session`, or a test client."""

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Sends a request."""


class ApiProblem(PeerwattError):
    """The server refused; carries the code and remedy it told.

    Args:
        status: HTTP.
        problem: RFC 9457, as sent.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        detail = str(problem.get("detail", f"the server answers {status}"))
        super().__init__(detail, str(problem.get("remedy", "")))
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", "web"))  # type: ignore[misc]  # the server's


class ApiClient:
    """Speaks with one community of one site.

    Args:
        origin: of the site.
        community: its name.
        http: sends requests.
    """

    def __init__(self, origin: str, community: str, http: Http | None = None) -> None:
        self.origin = origin.rstrip("/")
        self.community = community
        self._http = http or requests.Session()
        self._token: str | None = None

    # --- Session -----------------------------------------------------------------------------------------------------------

    def communities(self) -> tuple[CommunityLink, ...]:
        """The communities of the site."""
        return self._read(tuple[CommunityLink, ...], "/api/v1/communities")

    def sign_in(self, key: LocalAccount) -> SignedIn:
        """Begins a session.

        Raises:
            ApiProblem: the site does not take it.
        """
        terms = self._read(SignInTerms, "/api/v1/session/terms")
        wanted = next(item for item in self.communities() if item.name == self.community)
        text = SiweMessage(
            domain=terms.domain,
            address=key.address,
            uri=terms.uri,
            version=terms.version,
            chain_id=wanted.chain_id,
            nonce=terms.nonce,
            statement=terms.statement,
            issued_at=_iso(terms.issued_at),
            expiration_time=_iso(terms.expiration_time),
        ).prepare_message()
        signature = key.sign_message(encode_defunct(text=text)).signature
        body = {"message": text, "signature": "0x" + bytes(signature).hex()}
        found = self._write(SignedIn, "/api/v1/session", body)
        self._token = found.token
        return found

    def sign_out(self) -> None:
        """Ends the session."""
        self._send("DELETE", "/api/v1/session")
        self._token = None

    def me(self) -> Myself:
        """Who the server takes us for."""
        return self._get(Myself, "/me")

    # --- Member ------------------------------------------------------------------------------------------------------------

    def today(self, slot: int) -> member.Today:
        """The member's start page."""
        return self._get(member.Today, f"/members/{slot}/today")

    def day(self, slot: int, period: int) -> member.MemberDay:
        """A day of the member."""
        return self._get(member.MemberDay, f"/members/{slot}/days/{period}")

    def savings(self, slot: int, month: str) -> member.MonthSavings:
        """A month against being outside."""
        return self._get(member.MonthSavings, f"/members/{slot}/savings/{month}")

    def readings(self, slot: int, period: int) -> Iterator[own_data.Reading]:
        """The readings of a day."""
        return self._all(own_data.Reading, f"/members/{slot}/readings", {"period": period})

    def intervals(self, slot: int, period: int) -> Iterator[member.MemberInterval]:
        """The intervals of a day."""
        return self._all(member.MemberInterval, f"/members/{slot}/intervals", {"period": period})

    def trades(self, slot: int, period: int) -> Iterator[member_trades.MemberTrade]:
        """The trades of a day."""
        return self._all(member_trades.MemberTrade, f"/members/{slot}/trades", {"period": period})

    def partners(self, slot: int, period: int) -> community.Pairs:
        """With whom the member traded."""
        return self._get(community.Pairs, f"/members/{slot}/partners/{period}")

    def statements(self, slot: int) -> Iterator[member_statements.StatementSummary]:
        """The statements, newest first."""
        return self._all(member_statements.StatementSummary, f"/members/{slot}/statements", {})

    def statement(
        self, slot: int, period: int, version: int | None = None
    ) -> member_statements.Statement:
        """A statement; the newest version without one."""
        return self._get(
            member_statements.Statement,
            f"/members/{slot}/statements/{period}",
            {"version": version},
        )

    def statement_csv(self, slot: int, period: int) -> bytes:
        """A statement as a table."""
        return self._file(f"/members/{slot}/statements/{period}/csv")

    def statement_pdf(self, slot: int, period: int) -> bytes:
        """A statement on paper."""
        return self._file(f"/members/{slot}/statements/{period}/pdf")

    def proof(self, slot: int, number: int) -> own_data.Proof:
        """What proves the member's account in a batch."""
        return self._get(own_data.Proof, f"/members/{slot}/proofs/{number}")

    def export(self, slot: int) -> bytes:
        """Everything that is kept of the member, a ZIP file."""
        return self._file(f"/members/{slot}/export")

    def erase(self, slot: int, before_period: int) -> own_data.Erased:
        """Erases the member's data of periods before one; it cannot be undone."""
        body = {"before_period": before_period, "confirm": "erase my data"}
        return self._post(own_data.Erased, f"/members/{slot}/erasures", body)

    def wishes(self, slot: int) -> StoredWishes:
        """What the member wishes."""
        return self._get(StoredWishes, f"/members/{slot}/wishes")

    def wish(self, slot: int, wishes: Wishes, key: LocalAccount) -> StoredWishes:
        """Signs wishes and lets the server keep them."""
        body = wishes.model_dump(mode="json")
        prepared = self._post(Prepared, f"/members/{slot}/wishes/text", body)
        signature = key.sign_message(encode_typed_data(full_message=prepared.typed_data)).signature
        signed = SignedWishes(
            number=prepared.body["number"],
            wishes=wishes,
            signature="0x" + bytes(signature).hex(),
        )
        return self._post(StoredWishes, f"/members/{slot}/wishes", signed.model_dump(mode="json"))

    def depart(self, slot: int, key: LocalAccount, until_period: int | None = None) -> Relayed:
        """Signs a departure and lets the relay send it; without a period, as soon as can be."""
        asked = {"until_period": until_period}
        prepared = self._post(Prepared, f"/members/{slot}/departures", asked)
        signature = key.sign_message(encode_typed_data(full_message=prepared.typed_data)).signature
        body = prepared.body | {"signature": "0x" + bytes(signature).hex()}
        return self._post(Relayed, f"/members/{slot}/relayed/departures", body)

    def withdraw(self, slot: int, amount_nano: int) -> Relayed:
        """Lets the relay send a withdrawal to the slot's account."""
        body = {"amount_nano": amount_nano}
        return self._post(Relayed, f"/members/{slot}/relayed/withdrawals", body)

    def relayed(self, slot: int, sent: Relayed) -> Relayed:
        """How far the relay is with something."""
        return self._read(Relayed, sent.status)

    # --- Community -----------------------------------------------------------------------------------------------------------

    def clearing(self, period: int) -> community.CommunityDay:
        """The community's day."""
        return self._get(community.CommunityDay, f"/clearings/{period}")

    def network(self, period: int) -> community.TradeNetwork:
        """Who trades with whom, by places."""
        return self._get(community.TradeNetwork, f"/network/{period}")

    def members(self) -> community.Participants:
        """The members."""
        return self._get(community.Participants, "/members")

    def pairs(self, period: int) -> community.Pairs:
        """Everybody's trades with everybody."""
        return self._get(community.Pairs, f"/pairs/{period}")

    def events(self) -> Iterator[dict[str, Any]]:
        """Waits for changes; ends when the server ends it."""
        answer = self._send("GET", self._path("/events"), stream=True)
        for line in answer.iter_lines():
            text = line.decode() if isinstance(line, bytes) else str(line)
            if text.startswith("data: "):
                yield json.loads(text.removeprefix("data: "))

    # --- Coordinator -----------------------------------------------------------------------------------------------------------

    def overview(self) -> coordinator.Overview:
        """The coordinator's start page."""
        return self._get(coordinator.Overview, "/coordinator/overview")

    def completeness(self, days: int = 14) -> coordinator.Completeness:
        """Who lacks readings."""
        return self._get(coordinator.Completeness, "/coordinator/completeness", {"days": days})

    def periods(self) -> Iterator[coordinator.PeriodState]:
        """How far every period is."""
        return self._all(coordinator.PeriodState, "/coordinator/periods", {})

    def position(self, period: int) -> coordinator.PeriodPosition:
        """What is bought and sold outside."""
        return self._get(coordinator.PeriodPosition, f"/coordinator/position/{period}")

    def exceptions(self) -> tuple[coordinator.ExceptionItem, ...]:
        """What wants attention."""
        return self._get(tuple[coordinator.ExceptionItem, ...], "/coordinator/exceptions")

    def accounts(self) -> Iterator[membership.MemberEntry]:
        """The members with their accounts."""
        return self._all(membership.MemberEntry, "/coordinator/members", {})

    def keys(self) -> installation.Keys:
        """Roles and keys."""
        return self._get(installation.Keys, "/coordinator/keys")

    def health(self) -> installation.Health:
        """How the community's services are."""
        return self._get(installation.Health, "/coordinator/health")

    def run(self) -> Done:
        """Goes on with the cycle."""
        return self._post(Done, "/coordinator/run", None)

    def finalise(self, period: int) -> Done:
        """Finalises a period that can no longer be challenged."""
        return self._post(Done, f"/coordinator/finalise/{period}", None)

    def preview(self) -> Previewed:
        """Clears the running day so far."""
        return self._post(Previewed, "/coordinator/preview", None)

    # --- Operator and auditor ----------------------------------------------------------------------------------------------------

    def fees(self) -> dso.Fees:
        """The operator's fees."""
        return self._get(dso.Fees, "/dso/fees")

    def flows(self, period: int) -> dso.Flows:
        """Flows over borders."""
        return self._get(dso.Flows, f"/dso/flows/{period}")

    def limits(self, period: int) -> dso.Limits:
        """Limits of connections."""
        return self._get(dso.Limits, f"/dso/limits/{period}")

    def notices(self, period: int) -> grid_notices.GridNotices:
        """The operator's notices of limits of the network."""
        return self._get(grid_notices.GridNotices, f"/dso/notices/{period}")

    def batches(self) -> Iterator[auditor.AuditPeriod]:
        """The batches, newest first."""
        return self._all(auditor.AuditPeriod, "/batches", {})

    def batch(self, number: int) -> auditor.AuditBatch:
        """A batch in full."""
        return self._get(auditor.AuditBatch, f"/batches/{number}")

    def bundle(self, number: int) -> bytes:
        """The public part of a bundle."""
        return self._file(f"/batches/{number}/bundle")

    def tariffs(self) -> tuple[membership.TariffEntry, ...]:
        """Every tariff that was announced."""
        return self._get(tuple[membership.TariffEntry, ...], "/tariffs")

    def verdict(self, number: int) -> auditor.Verdict:
        """The recomputed verdict."""
        return self._get(auditor.Verdict, f"/batches/{number}/verdict")

    def evidence(self, number: int) -> bytes:
        """What the verdict rests on, a ZIP file."""
        return self._file(f"/batches/{number}/evidence")

    # --- HTTP ------------------------------------------------------------------------------------------------------------------

    def _path(self, path: str) -> str:
        return f"/api/v1/communities/{self.community}{path}"

    def _get(self, model: type[Model], path: str, query: dict[str, Any] | None = None) -> Model:
        return self._read(model, self._path(path), query)

    def _post(self, model: type[Model], path: str, body: Any) -> Model:
        return self._write(model, self._path(path), body)

    def _file(self, path: str) -> bytes:
        return bytes(self._send("GET", self._path(path)).content)

    def _all(self, model: type[Model], path: str, query: dict[str, Any]) -> Iterator[Model]:
        after: int | None = 0
        while after is not None:
            asked = query | {"after": after, "limit": _PAGE}
            # pydantic makes the type at run time.
            found = self._read(Page[model], self._path(path), asked)  # type: ignore[valid-type]
            yield from found.items
            after = found.next

    def _read(self, model: type[Model], path: str, query: dict[str, Any] | None = None) -> Model:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return _parsed(model, self._send("GET", path, params=given).content)

    def _write(self, model: type[Model], path: str, body: Any) -> Model:
        # Sent again after a lost answer, it changes nothing a second time.
        headers = {"Idempotency-Key": str(uuid4())}
        return _parsed(model, self._send("POST", path, json=body, headers=headers).content)

    def _send(self, method: str, path: str, **options: Any) -> Any:
        headers = dict(options.pop("headers", {}))
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            answer = self._http.request(method, self.origin + path, headers=headers, **options)
        except requests.RequestException as error:
            raise NodeUnreachable(
                f"{self.origin} does not answer: {type(error).__name__}", "try again later"
            ) from error
        if answer.status_code >= 400:
            raise ApiProblem(answer.status_code, _problem(answer.json))
        return answer


def _parsed(model: type[Model], content: bytes) -> Model:
    return TypeAdapter(model).validate_json(content)


def _problem(read: Callable[[], Any]) -> dict[str, Any]:
    try:
        found = read()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
