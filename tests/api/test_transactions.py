"""What wallets are given to sign, and the relay: only what was signed, once, for its owner, and not without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_tester.exceptions import TransactionFailed
from fastapi.testclient import TestClient
from web3 import Web3

from backend.api.relay import is_signed, relay_of
from backend.chain.embedded import embedded_tester
from backend.domain.errors import TooManyRequests
from backend.ledger.outbox import Outbox
from backend.settlement.encoding import departure_hash, domain_separator, typed_data_digest
from tests.support.chain import restored
from tests.support.demo_site import DemoWorld, running_world

BASE = "/api/v1/communities/demo"
# The last but one; what happens to it here, other tests do not see.
MEMBER = 10
SLOT = 3 + MEMBER
OWN = f"{BASE}/members/{SLOT}"
EURO = 10**9


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoWorld]:
    """Its own: what happens here, other tests do not see."""
    with running_world(tmp_path_factory.mktemp("demo")) as found:
        yield found


@pytest.fixture
def owner(world: DemoWorld) -> TestClient:
    """The member's browser."""
    return world.signed_in("member", MEMBER)


def prepared(browser: TestClient, url: str, **body: Any) -> dict[str, Any]:
    answer = browser.post(url, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def problem(browser: TestClient, url: str, **body: Any) -> tuple[int, str]:
    answer = browser.post(url, json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def signed(key: LocalAccount, data: dict[str, Any]) -> str:
    return "0x" + bytes(key.sign_message(encode_typed_data(full_message=data)).signature).hex()


def test_the_departure_signed_is_the_protocols(world: DemoWorld, owner: TestClient) -> None:
    data = prepared(owner, f"{OWN}/departures")["typed_data"]
    site = world.site
    domain = domain_separator(site.chain_id, site.contracts.addresses["MemberRegistry"])
    until = data["message"]["untilPeriod"]
    digest = typed_data_digest(domain, departure_hash(SLOT, until))
    raw = bytes.fromhex(signed(world.wallet("member", MEMBER), data)[2:])
    assert is_signed(site.web3, world.wallet("member", MEMBER).address, digest, raw)
    assert not is_signed(site.web3, world.wallet("member", MEMBER + 1).address, digest, raw)
    for spoiled in (b"", raw[:-1], raw[:-1] + b"\x00", bytes(64) + b"\x1b", raw + b"\x00"):
        assert not is_signed(site.web3, world.wallet("member", MEMBER).address, digest, spoiled)


def test_a_departure_is_relayed_once(world: DemoWorld, owner: TestClient) -> None:
    first = prepared(owner, f"{OWN}/departures")
    signature = signed(world.wallet("member", MEMBER), first["typed_data"])
    body = first["body"] | {"signature": signature}
    relayed = prepared(owner, first["submit"], **body)
    assert relayed["succeeded"]
    # The demonstration's chain is final at once.
    assert relayed["state"] == "final"
    again = prepared(owner, first["submit"], **body)
    assert again == relayed == owner.get(relayed["status"]).json()
    assert world.site.contracts.member_at(SLOT).until_period == first["body"]["until_period"]
    outbox = Outbox(world.site.ledger.engine)
    assert len(outbox.attempts(f"relay:{SLOT}:departure:{body['until_period']}")) == 1


def test_what_is_not_signed_by_the_owner_is_not_relayed(
    world: DemoWorld, owner: TestClient
) -> None:
    first = prepared(owner, f"{OWN}/departures")
    before = world.site.web3.eth.block_number
    neighbour = signed(world.wallet("member", MEMBER + 1), first["typed_data"])
    good = signed(world.wallet("member", MEMBER), first["typed_data"])
    until = first["body"]["until_period"]
    for body in (
        {"until_period": until, "signature": neighbour},
        {"until_period": until + 5, "signature": good},
        {"until_period": until, "signature": "0x1234"},
        {"until_period": until, "signature": "0x123"},
    ):
        assert problem(owner, first["submit"], **body) == (422, "input.malformed")
    assert problem(owner, f"{OWN}/departures", until_period=1) == (422, "input.out_of_range")
    # Signed well, but for another slot than the session's.
    stranger = world.signed_in("member", MEMBER + 1)
    assert problem(stranger, first["submit"], until_period=until, signature=good)[0] == 403
    assert world.site.web3.eth.block_number == before


def test_a_withdrawal_is_relayed_once(world: DemoWorld) -> None:
    site = world.site
    # The richest have taken everything out, and the first one's session is ended by other tests.
    gone = {item.slot for item in world.run.withdrawals}
    index = next(index for index in range(1, 12) if index + 3 not in gone)
    own, browser = f"{BASE}/members/{index + 3}", world.signed_in("member", index)
    address = world.wallet("member", index).address
    tokens, coins = site.contracts.token_balance(address), site.web3.eth.get_balance(address)
    found = prepared(browser, f"{own}/withdrawals", amount_nano=EURO)
    relayed = prepared(browser, found["submit"], **found["body"])
    assert relayed["succeeded"]
    assert site.contracts.token_balance(address) - tokens == 10**6
    assert site.web3.eth.get_balance(address) == coins
    every = prepared(browser, f"{own}/withdrawals")
    most = every["body"]["amount_nano"]
    assert int(every["facts"]["amount_nano"]) == most > 0
    # Too much, and less than the token's smallest unit, which is nothing.
    for amount in (most + 1000, 999):
        refused = problem(browser, f"{own}/withdrawals", amount_nano=amount)
        assert refused == (422, "input.out_of_range")
    assert problem(browser, found["submit"], amount_nano=10**15)[1] == "input.out_of_range"


def test_the_relay_has_had_enough(world: DemoWorld, owner: TestClient) -> None:
    relay = relay_of(world.site)
    assert relay is not None
    for index in range(10):
        call, _ = _withdrawal(world, 5)
        relay.send(5, f"test:{index}", call)
    call, _ = _withdrawal(world, 5)
    with pytest.raises(TooManyRequests):
        relay.send(5, "test:10", call)
    # What was decided goes on.
    relay.send(5, "test:0", call)
    # Others are not held up.
    other, _ = _withdrawal(world, 4)
    relay.send(4, "test:0", other)


def _withdrawal(world: DemoWorld, slot: int) -> Any:
    from backend.api.transactions import withdrawal

    return withdrawal(world.site, slot, 1000)


def test_nobody_asks_for_what_was_relayed_for_others(world: DemoWorld, owner: TestClient) -> None:
    assert owner.get(f"{OWN}/relayed/relay:5:test:0").status_code == 404
    assert owner.get(f"{OWN}/relayed/relay:{SLOT}:nothing").status_code == 404


def test_a_deposit_takes_two_steps(world: DemoWorld, owner: TestClient) -> None:
    first = prepared(owner, f"{OWN}/deposits", amount_nano=2 * EURO)
    assert first["typed_data"]["primaryType"] == "Permit"
    assert first["typed_data"]["message"]["value"] == str(2 * 10**6)
    signature = signed(world.wallet("member", MEMBER), first["typed_data"])
    second = prepared(owner, first["submit"], **first["body"], signature=signature)
    assert second["transaction"]["to"] == world.site.contracts.addresses["Vault"]
    for body in (
        {"amount_nano": EURO, "signature": signature},
        {"amount_nano": EURO, "deadline": 1, "signature": "0x1234"},
        {"amount_nano": EURO, "deadline": 1, "signature": "0x123"},
    ):
        assert problem(owner, first["submit"], **body) == (422, "input.malformed")


def test_joining(world: DemoWorld, owner: TestClient) -> None:
    newcomer = world.signed_in("stranger")
    market = world.site.rules.preparer(0).market
    node, tariff_class = sorted(market.group_index)[0]
    found = prepared(newcomer, f"{BASE}/memberships", node=node, tariff_class=tariff_class)
    key = world.wallet("stranger")
    assert found["body"]["slot"] == len(world.site.participants()) + 3
    body = found["body"] | {"signature": signed(key, found["typed_data"])}
    checked = prepared(newcomer, found["submit"], **body)
    assert checked["file"] == body
    spoiled = body | {"collateral_steps": 0}
    assert problem(newcomer, found["submit"], **spoiled) == (422, "input.malformed")
    # Another one than signed in.
    assert problem(owner, found["submit"], **body) == (422, "input.malformed")
    unknown = {"node": "nowhere", "tariff_class": tariff_class}
    assert problem(newcomer, f"{BASE}/memberships", **unknown) == (404, "input.unknown_reference")
    assert problem(newcomer, f"{BASE}/memberships/admissions", **body)[0] == 403


def send(world: DemoWorld, key: LocalAccount, call: dict[str, Any]) -> None:
    """As a wallet would."""
    web3 = world.site.web3
    web3.eth.send_transaction(
        {"from": web3.eth.accounts[0], "to": key.address, "value": Web3.to_wei(1, "ether")}
    )
    built: Any = {
        "to": call["to"],
        "data": call["data"],
        "value": 0,
        "nonce": web3.eth.get_transaction_count(key.address),
        "gas": 1_000_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 10**9,
        "chainId": world.site.chain_id,
    }
    sent = web3.eth.send_raw_transaction(key.sign_transaction(built).raw_transaction)
    assert web3.eth.wait_for_transaction_receipt(sent)["status"] == 1


def test_somebody_is_admitted_although_the_registrar_must_wait(world: DemoWorld) -> None:
    """After the first batch, with the delay that everybody who can change something has: announced, waited for, made."""
    site, newcomer, key = world.site, world.signed_in("stranger"), world.wallet("stranger")
    node, tariff_class = sorted(site.rules.preparer(0).market.group_index)[0]
    asked = {"node": node, "tariff_class": tariff_class}
    administrator, registrar = world.wallet("administrator"), world.signed_in("administrator")
    admissions = f"{BASE}/memberships/admissions"
    with restored(site.web3):
        found = prepared(newcomer, f"{BASE}/memberships", **asked)
        body = found["body"] | {"signature": signed(key, found["typed_data"])}
        delay = 4 * 86_400
        first = site.contracts.first_future_period() + -(-delay // (23 * 3600)) + 1
        assert body["from_period"] == first
        announced = prepared(registrar, admissions, **body)
        assert announced["what"] == "announced admission"
        assert announced["transaction"]["to"] == site.contracts.addresses["AccessManager"]
        send(world, administrator, announced["transaction"])
        # Its slot is taken from now on.
        other = prepared(newcomer, f"{BASE}/memberships", **asked)
        assert other["body"]["slot"] == body["slot"] + 1
        for changed in (
            {"collateral_steps": 2},
            {"from_period": first - 3, "slot": body["slot"] + 1},
        ):
            message = found["typed_data"]["message"]
            names = {"collateral_steps": "collateralSteps", "from_period": "fromPeriod"}
            spoiled = message | {names.get(name, name): value for name, value in changed.items()}
            signature = signed(key, found["typed_data"] | {"message": spoiled})
            refused = problem(registrar, admissions, **body | changed | {"signature": signature})
            assert refused == (422, "input.out_of_range")
        early = prepared(registrar, admissions, **body)
        assert early["what"] == "admission"
        ready_at = int(early["facts"]["ready_at"])
        call: Any = early["transaction"] | {"from": administrator.address}
        with pytest.raises(TransactionFailed):
            site.web3.eth.call(call)
        tester = embedded_tester(site.web3)
        tester.time_travel(ready_at + 1)
        send(world, administrator, early["transaction"])
        assert site.contracts.member_at(body["slot"]).account == key.address
        assert site.contracts.member_at(body["slot"]).from_period == first


def test_the_evidence_is_what_was_published(world: DemoWorld, owner: TestClient) -> None:
    site = world.site
    batch = site.batch(1)
    found = owner.get(f"{OWN}/batches/1/evidence").json()
    (shown,) = found["documents"].values()
    hash_ = batch.header.bundle_hash
    assert shown["public"].encode() == site.bundles.store.public(hash_)
    assert shown["personal"].encode() == site.bundles.store.personal(hash_, SLOT)
    assert (found["batch_hash"], found["number"]) == (batch.batch_hash, 1)
    assert owner.get(f"{OWN}/batches/99/evidence").status_code == 404


def test_the_keys_of_the_demonstration_are_served_in_a_demonstration_only(
    world: DemoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = world.anybody().get(f"{BASE}/demo-wallets").json()
    for item in listed:
        assert Account.from_key(item["private_key"]).address == item["address"]
    monkeypatch.setattr(world.site, "demo", None)
    answer = world.anybody().get(f"{BASE}/demo-wallets")
    assert (answer.status_code, answer.json()["code"]) == (404, "web.not_there")
