"""Signing in with a wallet: what is taken, what is not, and how a session ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from siwe import SiweMessage

from backend.api.sessions import SessionStore
from backend.api.settings import WebSettings
from backend.domain.errors import NotSignedIn
from contracts.bindings import constructor
from tests.support.demo_site import ORIGIN, DemoWorld

ME = "/api/v1/communities/demo/me"


def text_of(world: DemoWorld, key: LocalAccount, nonce: str, **changes: Any) -> str:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "domain": "testserver",
        "address": key.address,
        "uri": ORIGIN,
        "version": "1",
        "chain_id": world.site.chain_id,
        "nonce": nonce,
        "issued_at": iso(now),
        "expiration_time": iso(now + timedelta(minutes=5)),
    }
    given = {name: value for name, value in (fields | changes).items() if value is not None}
    message: str = SiweMessage(**given).prepare_message()
    return message


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def signed(text: str, key: LocalAccount) -> dict[str, str]:
    signature = bytes(key.sign_message(encode_defunct(text=text)).signature)
    return {"message": text, "signature": "0x" + signature.hex()}


def nonce_of(browser: Any) -> str:
    return str(browser.get("/api/v1/session/terms").json()["nonce"])


def test_a_nonce_is_good_once(world: DemoWorld) -> None:
    browser, key = world.anybody(), world.wallet("member")
    body = signed(text_of(world, key, nonce_of(browser)), key)
    assert browser.post("/api/v1/session", json=body).status_code == 200
    again = world.anybody().post("/api/v1/session", json=body)
    assert again.status_code == 401
    assert again.json()["code"] == "web.not_signed_in"


def test_a_nonce_that_failed_is_used_up(world: DemoWorld) -> None:
    browser, key = world.anybody(), world.wallet("member")
    text = text_of(world, key, nonce_of(browser))
    wrong = signed(text, world.wallet("stranger"))
    assert browser.post("/api/v1/session", json=wrong).status_code == 401
    assert browser.post("/api/v1/session", json=signed(text, key)).status_code == 401


PAST = datetime.now(UTC) - timedelta(hours=1)
FUTURE = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("not for testserver", {"domain": "evil.example"}),
        ("URI", {"uri": "https://evil.example"}),
        ("chain", {"chain_id": 1}),
        ("expired", {"issued_at": iso(PAST), "expiration_time": iso(PAST + timedelta(minutes=5))}),
        ("no expiration", {"expiration_time": None}),
        ("too long", {"expiration_time": iso(FUTURE)}),
        ("future", {"issued_at": iso(FUTURE), "expiration_time": iso(FUTURE)}),
        ("not valid yet", {"not_before": iso(FUTURE)}),
        ("nonce", {"nonce": "inventedbyme123"}),
        ("scheme", {"scheme": "https"}),
    ],
)
def test_a_text_that_says_something_else_is_refused(
    why: str, changes: dict[str, Any], world: DemoWorld
) -> None:
    browser, key = world.anybody(), world.wallet("member")
    given = {"nonce": nonce_of(browser)} | changes
    text = text_of(world, key, **given)
    answer = browser.post("/api/v1/session", json=signed(text, key))
    assert answer.status_code == 401, why
    assert browser.get(ME).json()["address"] is None


@pytest.mark.parametrize("signature", ["0x00", "0x" + "00" * 65, "0x" + "ff" * 65, "0x123"])
def test_nonsense_for_a_signature_is_refused(signature: str, world: DemoWorld) -> None:
    browser, key = world.anybody(), world.wallet("member")
    text = text_of(world, key, nonce_of(browser))
    answer = browser.post("/api/v1/session", json={"message": text, "signature": signature})
    assert answer.status_code == 401


@pytest.mark.parametrize("text", ["", "x", "testserver wants you to sign in", "\n" * 100, "é" * 50])
def test_nonsense_for_a_text_is_refused(text: str, world: DemoWorld) -> None:
    answer = world.anybody().post(
        "/api/v1/session", json={"message": text, "signature": "0x" + "11" * 65}
    )
    assert answer.status_code in (401, 422)


def test_a_contract_wallet_signs_in_by_its_own_rule(world: DemoWorld) -> None:
    """ERC-1271: a contract that takes its owner's signatures, and nobody else's."""
    owner, contract = world.wallet("member", 2), deploy_wallet(world, world.wallet("member", 2))
    browser = world.anybody()
    text = text_of(world, owner, nonce_of(browser), address=contract)
    assert browser.post("/api/v1/session", json=signed(text, owner)).status_code == 200
    assert browser.get(ME).json()["address"] == contract
    other = world.anybody()
    text = text_of(world, owner, nonce_of(other), address=contract)
    refused = other.post("/api/v1/session", json=signed(text, world.wallet("member", 3)))
    assert refused.status_code == 401


def test_signing_in_never_takes_over_a_given_session(world: DemoWorld) -> None:
    """Session fixation: whatever the browser brings, the session's name is new, and the old one ends."""
    browser, key = world.anybody(), world.wallet("member")
    browser.cookies.set("peerwatt_session", "chosen-by-somebody-else")
    browser.post("/api/v1/session", json=signed(text_of(world, key, nonce_of(browser)), key))
    first = browser.cookies.get("peerwatt_session", domain="testserver.local")
    assert first != "chosen-by-somebody-else"
    before = browser.get(ME, headers={"Authorization": "Bearer chosen-by-somebody-else"})
    assert before.json()["address"] is None
    held = world.app.state.web.sessions
    assert not held.holds("chosen-by-somebody-else")


def test_a_second_sign_in_ends_the_first_session(world: DemoWorld) -> None:
    browser, key = world.anybody(), world.wallet("member")

    def sign_in(token: str | None) -> str:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = signed(text_of(world, key, nonce_of(browser)), key)
        return str(browser.post("/api/v1/session", json=body, headers=headers).json()["token"])

    first = sign_in(None)
    second = sign_in(first)
    assert first != second
    anybody = world.anybody()
    assert anybody.get(ME, headers={"Authorization": f"Bearer {first}"}).json()["address"] is None
    found = anybody.get(ME, headers={"Authorization": f"Bearer {second}"}).json()
    assert found["address"] == key.address


def test_signing_out_ends_the_session_everywhere(world: DemoWorld) -> None:
    browser, key = world.anybody(), world.wallet("member")
    body = signed(text_of(world, key, nonce_of(browser)), key)
    token = browser.post("/api/v1/session", json=body).json()["token"]
    assert browser.get(ME).json()["slots"] == [3]
    assert browser.delete("/api/v1/session").status_code == 204
    assert browser.get(ME).json()["address"] is None
    stolen = world.anybody().get(ME, headers={"Authorization": f"Bearer {token}"})
    assert stolen.json()["address"] is None


def test_the_cookie_is_for_this_site_and_no_script(world: DemoWorld) -> None:
    browser, key = world.anybody(), world.wallet("member")
    body = signed(text_of(world, key, nonce_of(browser)), key)
    cookie = browser.post("/api/v1/session", json=body).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert WebSettings(origin="https://a.example").secure


def test_sessions_are_short() -> None:
    time = [0.0]
    settings = WebSettings(session_seconds=100, session_limit_seconds=250)
    store = SessionStore(settings, lambda: time[0])
    name, session = begin(store)
    for moment in (90, 180, 240):
        time[0] = moment
        assert store.find(name) is session
    time[0] = 251
    assert store.find(name) is None
    name, _ = begin(store)
    time[0] += 101
    assert not store.holds(name)
    assert store.find(name) is None


def test_a_nonce_grows_old() -> None:
    time = [0.0]
    store = SessionStore(WebSettings(nonce_seconds=60), lambda: time[0])
    key = LocalAccountMaker.make()
    nonce = store.nonce()
    time[0] = 61
    now = datetime.now(UTC)
    message = SiweMessage(
        domain="127.0.0.1:8080", address=key.address, uri="http://127.0.0.1:8080", version="1", chain_id=1,
        nonce=nonce, issued_at=iso(now), expiration_time=iso(now + timedelta(minutes=5)),
    )  # fmt: skip
    with pytest.raises(NotSignedIn, match="too old"):
        store.sign_in(message.prepare_message(), "0x00", {})


class LocalAccountMaker:
    @staticmethod
    def make() -> LocalAccount:
        from eth_account import Account

        made: LocalAccount = Account.from_key(b"\x31" * 32)
        return made


def begin(store: SessionStore) -> tuple[str, Any]:
    """A session of a key on a chain without contracts."""
    key = LocalAccountMaker.make()
    now = datetime.now(UTC)
    text = SiweMessage(
        domain=store.settings.domain, address=key.address, uri=store.settings.origin, version="1", chain_id=1,
        nonce=store.nonce(), issued_at=iso(now), expiration_time=iso(now + timedelta(minutes=5)),
    ).prepare_message()  # fmt: skip

    class NoCode:
        class eth:
            @staticmethod
            def get_code(address: str) -> bytes:
                return b""

    signature = bytes(key.sign_message(encode_defunct(text=text)).signature)
    return store.sign_in(text, "0x" + signature.hex(), {1: NoCode()})  # type: ignore[dict-item]


def deploy_wallet(world: DemoWorld, owner: LocalAccount) -> str:
    """A contract that takes its owner's signatures for its own (contracts/src/testing/TestWallet.sol)."""
    web3 = world.site.web3
    made = constructor(web3, "TestWallet", owner.address)
    sent = made.transact({"from": web3.eth.accounts[0], "gas": 3_000_000})
    return str(web3.eth.get_transaction_receipt(sent)["contractAddress"])
