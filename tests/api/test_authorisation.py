"""Who gets what: every route of the application with everybody who could ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.support.demo_site import DemoWorld

# Signed in as whom: role and number of the wallet; None is nobody.
CALLERS: dict[str, tuple[str, int] | None] = {
    "nobody": None,
    "stranger": ("stranger", 0),
    "owner": ("member", 0),
    "neighbour": ("member", 1),
    "coordinator": ("coordinator", 0),
    "administrator": ("administrator", 0),
    "dso": ("dso", 0),
    "auditor": ("auditor", 0),
}
EVERYBODY = set(CALLERS)
SESSION = EVERYBODY - {"nobody"}
INSIDE = SESSION - {"stranger"}
OWNER = {"owner"}
OFFICER = {"coordinator", "administrator"}
AUDITS = {"coordinator", "auditor"}
OPERATES = {"coordinator", "auditor", "dso"}
C, M = "/api/v1/communities/{community}", "/api/v1/communities/{community}/members/{slot}"

# Whoever is in the set is let in; everybody else gets 401 or 403 and nothing more.
EXPECTED: dict[str, set[str]] = {
    "GET /api/v1/session/terms": EVERYBODY,
    "POST /api/v1/session": EVERYBODY,
    "DELETE /api/v1/session": EVERYBODY,
    "GET /api/v1/communities": EVERYBODY,
    f"GET {C}/me": EVERYBODY,
    f"GET {C}/batches": EVERYBODY,
    f"GET {C}/batches/{{number}}": EVERYBODY,
    f"GET {C}/batches/{{number}}/bundle": EVERYBODY,
    f"GET {C}/tariffs": EVERYBODY,
    f"GET {C}/demo-wallets": EVERYBODY,
    "POST /rpc/{community}": EVERYBODY,
    f"GET {C}/batches/{{number}}/verdict": SESSION,
    f"GET {C}/batches/{{number}}/evidence": SESSION,
    f"GET {C}/clearings/{{period}}": INSIDE,
    f"GET {C}/network/{{period}}": INSIDE,
    f"GET {C}/members": INSIDE,
    f"GET {C}/events": INSIDE,
    f"GET {C}/pairs/{{period}}": AUDITS,
    f"GET {M}/today": OWNER,
    f"GET {M}/days/{{period}}": OWNER,
    f"GET {M}/savings/{{month}}": OWNER,
    f"GET {M}/trades": OWNER,
    f"GET {M}/partners/{{period}}": OWNER,
    f"GET {M}/statements": OWNER,
    f"GET {M}/statements/{{period}}": OWNER,
    f"GET {M}/statements/{{period}}/csv": OWNER,
    f"GET {M}/statements/{{period}}/pdf": OWNER,
    f"GET {M}/readings": OWNER,
    f"GET {M}/intervals": OWNER,
    f"GET {M}/proofs/{{number}}": OWNER,
    f"GET {M}/export": OWNER,
    f"POST {M}/erasures": OWNER,
    f"GET {M}/wishes": OWNER,
    f"POST {M}/wishes/text": OWNER,
    f"POST {M}/wishes": OWNER,
    f"GET {C}/coordinator/overview": OFFICER,
    f"GET {C}/coordinator/completeness": OFFICER,
    f"GET {C}/coordinator/periods": OFFICER,
    f"GET {C}/coordinator/position/{{period}}": OFFICER,
    f"GET {C}/coordinator/exceptions": OFFICER,
    f"GET {C}/coordinator/members": OFFICER,
    f"GET {C}/coordinator/keys": OFFICER,
    f"GET {C}/coordinator/health": OFFICER,
    f"POST {C}/coordinator/run": {"coordinator"},
    f"POST {C}/coordinator/preview": {"coordinator"},
    f"POST {C}/coordinator/finalise/{{period}}": {"coordinator"},
    f"GET {C}/dso/fees": OPERATES,
    f"GET {C}/dso/flows/{{period}}": OPERATES,
    f"GET {C}/dso/limits/{{period}}": OPERATES,
    f"GET {C}/dso/notices/{{period}}": OPERATES,
    # Transactions: see backend/api/transactions.py and relay.py.
    f"GET {M}/batches/{{number}}/evidence": OWNER,
    f"GET {M}/batches/{{number}}/challenges": OWNER,
    f"POST {M}/withdrawals": OWNER,
    f"POST {M}/announcements": OWNER,
    f"POST {M}/deposits": OWNER,
    f"POST {M}/departures": OWNER,
    f"POST {C}/memberships": SESSION,
    f"POST {M}/relayed/departures": OWNER,
    f"POST {M}/relayed/withdrawals": OWNER,
    f"GET {M}/relayed/{{key}}": OWNER,
    f"POST {C}/memberships/consents": SESSION,
    f"POST {C}/memberships/admissions": {"administrator"},
}
# Streams without end are looked at in test_events.py.
ENDLESS = {f"GET {C}/events"}


def json_routes(routes: Iterable[Any]) -> Iterator[str]:
    """Method and path of everything that is no page, in whichever router it is."""
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            yield from json_routes(route.effective_route_contexts())
        elif str(getattr(route, "path", "")).startswith(("/api/", "/rpc")):
            for method in set(route.methods) - {"HEAD"}:
                yield f"{method} {route.path}"


def test_every_route_is_listed_here(world: DemoWorld) -> None:
    found = set(json_routes(world.app.routes)) - {"GET /api/v1/openapi.json"}
    assert len(found) > 40
    assert found - set(EXPECTED) == set(), "say who may use it"
    assert set(EXPECTED) - found == set(), "is gone"


def body_of(name: str, world: DemoWorld) -> Any:
    account = world.wallet("stranger").address
    consent = {
        "slot": 3 + len(world.site.participants()), "account": account, "from_period": world.first + 5,
        "node": 0, "tariff_class": 0, "collateral_steps": 1, "signature": "0x" + "11" * 65,
    }  # fmt: skip
    bodies: dict[str, Any] = {
        "POST /api/v1/session": {"message": "x", "signature": "0x00"},
        f"POST {M}/erasures": {"before_period": 0, "confirm": "erase my data"},
        f"POST {M}/wishes/text": {"automatic": True},
        f"POST {M}/wishes": {"number": 1, "wishes": {}, "signature": "0x" + "11" * 65},
        f"POST {M}/withdrawals": {"amount_nano": 1_000_000},
        f"POST {M}/announcements": {"amount_nano": 1_000_000},
        f"POST {M}/deposits": {"amount_nano": 1_000_000},
        f"POST {M}/departures": {},
        f"POST {C}/memberships": {"node": "feeders-1-to-3", "tariff_class": "household"},
        f"POST {M}/relayed/departures": {"until_period": 20_000, "signature": "0x" + "11" * 65},
        f"POST {M}/relayed/withdrawals": {"amount_nano": 1_000_000},
        f"POST {C}/memberships/consents": consent,
        f"POST {C}/memberships/admissions": consent,
        "POST /rpc/{community}": {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []},
    }
    return bodies.get(name)


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - ENDLESS))
def test_the_wrong_person_gets_nothing(name: str, world: DemoWorld) -> None:
    method, _, path = name.partition(" ")
    url = path.format(
        community="demo", slot=3, number=1, period=world.first, month="2016-06", key="relay:x"
    )
    for who, wallet in CALLERS.items():
        browser = world.anybody() if wallet is None else world.signed_in(*wallet)
        if name == "DELETE /api/v1/session":
            browser = world.anybody()
        query = (
            {"period": world.first} if path.endswith(("/trades", "/readings", "/intervals")) else {}
        )
        answer = browser.request(method, url, params=query, json=body_of(name, world))
        if who in EXPECTED[name]:
            allowed = answer.status_code not in (403, 404) and (
                answer.status_code != 401 or path == "/api/v1/session"
            )
            # Of what is told to nobody else there is nothing to be found either.
            assert allowed or answer.json()["code"] == "web.not_there", (who, answer.text)
            continue
        assert answer.status_code == (401 if who == "nobody" else 403), (who, answer.text)
        problem = answer.json()
        assert set(problem) <= {"type", "title", "status", "detail", "code", "remedy", "field"}
        assert answer.headers["content-type"] == "application/problem+json"


def test_another_slot_that_does_not_exist_is_refused_like_one_that_does(world: DemoWorld) -> None:
    browser = world.signed_in("member", 0)
    answers = [
        browser.get(f"/api/v1/communities/demo/members/{slot}/today") for slot in (4, 0, 500_000)
    ]
    assert [item.status_code for item in answers] == [403, 403, 403]
    assert len({item.json()["remedy"] for item in answers}) == 1


def test_roles_follow_the_chain_and_no_table(world: DemoWorld) -> None:
    expected = {
        ("member", 0): {"slots": [3], "roles": ["member"]},
        ("member", 5): {"slots": [8], "roles": ["member"]},
        ("coordinator", 0): {"slots": [], "roles": ["coordinator"]},
        ("dso", 0): {"slots": [], "roles": ["dso"]},
        ("auditor", 0): {"slots": [], "roles": ["auditor"]},
        ("stranger", 0): {"slots": [], "roles": []},
    }
    for who, rights in expected.items():
        found = world.signed_in(*who).get("/api/v1/communities/demo/me").json()
        assert {name: found[name] for name in rights} == rights
        assert found["address"] == world.wallet(*who).address
