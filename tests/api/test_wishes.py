"""Wishes: signed by the member's wallet, kept as signed, and taken by the household's agent."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from backend.api.client import ApiProblem
from backend.api.wishes import (
    PreferredPartner,
    Wishes,
    household_wishes,
    wishes_digest,
    wishes_typed_data,
)
from backend.negotiation.households import Wishes as HouseholdWishes
from tests.support.demo_site import DemoWorld

PATH = "/api/v1/communities/demo/members/5/wishes"
SOME = Wishes(
    automatic=False,
    buy_limit_nano_per_wh=260_000,
    sell_limit_nano_per_wh=95_000,
    preferred=(PreferredPartner(slot=3, premium_nano_per_wh=5_000),),
    refused=(4,),
    green_premium_nano_per_wh=2_000,
)


def signed(world: DemoWorld, slot: int, number: int, wishes: Wishes, signer: int) -> dict[str, Any]:
    data = wishes_typed_data(world.site, slot, number, wishes)
    signature = world.wallet("member", signer).sign_message(encode_typed_data(full_message=data))
    return {
        "number": number,
        "wishes": wishes.model_dump(mode="json"),
        "signature": "0x" + bytes(signature.signature).hex(),
    }


def test_wishes_go_all_the_way(world: DemoWorld) -> None:
    client, key = world.client("member", 2), world.wallet("member", 2)
    assert client.wishes(5).wishes.automatic
    assert household_wishes(world.site, 5) is None
    kept = client.wish(5, SOME, key)
    assert (kept.number, kept.wishes) == (1, SOME)
    names = {item.slot: item.name for item in world.site.participants()}
    assert household_wishes(world.site, 5) == HouseholdWishes(
        buy_limit=260_000,
        sell_limit=95_000,
        preferred={names[3]: 5_000},
        refused=frozenset({names[4]}),
        green_premium=2_000,
    )
    second = client.wish(5, Wishes(), key)
    assert (second.number, client.wishes(5).wishes) == (2, Wishes())


def test_the_same_wishes_twice_are_kept_once(world: DemoWorld) -> None:
    browser = world.signed_in("member", 3)
    path = PATH.replace("/5/", "/6/")
    body = signed(world, 6, 1, SOME, 3)
    first, again = browser.post(path, json=body), browser.post(path, json=body)
    assert first.json() == again.json()
    other = browser.post(path, json=signed(world, 6, 1, Wishes(), 3))
    assert (other.status_code, other.json()["code"]) == (412, "web.changed_meanwhile")
    skipped = browser.post(path, json=signed(world, 6, 7, Wishes(), 3))
    assert skipped.status_code == 412


def test_nobody_elses_signature_counts(world: DemoWorld) -> None:
    browser = world.signed_in("member", 4)
    path = PATH.replace("/5/", "/7/")
    for body in (
        signed(world, 7, 1, SOME, 5),
        signed(world, 6, 1, SOME, 4),
        signed(world, 7, 2, SOME, 4) | {"number": 1},
        signed(world, 7, 1, SOME, 4) | {"wishes": Wishes().model_dump(mode="json")},
    ):
        answer = browser.post(path, json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, "signature")


@pytest.mark.parametrize(
    ("wishes", "status"),
    [
        (Wishes(refused=(5,)), 422),
        (Wishes(refused=(4, 4)), 422),
        (Wishes(refused=(900,)), 404),
        (Wishes(preferred=(PreferredPartner(slot=4, premium_nano_per_wh=1),), refused=(4,)), 422),
    ],
)
def test_impossible_partners_are_named(wishes: Wishes, status: int, world: DemoWorld) -> None:
    with pytest.raises(ApiProblem) as refused:
        world.client("member", 2).wish(5, wishes, world.wallet("member", 2))
    assert refused.value.status == status
    assert refused.value.problem["field"] == "partner"


def test_the_digest_is_eip_712s(world: DemoWorld) -> None:
    """Written out by hand from the standard, beside the library's."""
    from eth_hash.auto import keccak

    from backend.settlement.encoding import domain_separator, signed_word, word

    partner = b"Partner(uint256 slot,int64 premiumNanoPerWh)"
    whole = (
        b"Wishes(uint256 slot,uint64 number,bool automatic,int64 buyLimitNanoPerWh,int64 sellLimitNanoPerWh,"
        b"Partner[] preferred,uint256[] refused,int64 greenPremiumNanoPerWh,int64 localPremiumNanoPerWh)"
        + partner
    )
    struct = keccak(
        keccak(whole) + word(5) + word(1) + word(0) + signed_word(260_000) + signed_word(95_000)
        + keccak(keccak(keccak(partner) + word(3) + signed_word(5_000)))
        + keccak(word(4)) + signed_word(2_000) + signed_word(0)
    )  # fmt: skip
    domain = domain_separator(world.site.chain_id, world.site.contracts.addresses["MemberRegistry"])
    assert wishes_digest(world.site, 5, 1, SOME) == keccak(b"\x19\x01" + domain + struct)


def test_kept_wishes_cannot_be_changed(world: DemoWorld) -> None:
    world.client("member", 6).wish(9, SOME, world.wallet("member", 6))
    with (
        pytest.raises(DBAPIError, match="append-only"),
        world.site.ledger.engine.begin() as connection,
    ):
        connection.execute(text("UPDATE wish SET wishes = '{}'"))
