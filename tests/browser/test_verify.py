"""The verifier in the browser against honest sites, lying sites, and lying coordinators; a challenge it offers must succeed on chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.api.rpc import NodeDoor
from backend.settlement.batch import shift_money
from tests.support.claims import Claim, claim_of, renamed, shown, tampered
from tests.support.community import (
    BOND_WEI,
    CHALLENGE_SECONDS,
    DEMAND_BOND_WEI,
    LiveCommunity,
    account,
    period_energy,
)
from tests.support.lies import shift_cumulative, with_leaf
from tests.support.node_door import run_script, served, steps, with_state

SLOT = 4
ALL_GREEN = [
    "node",
    "record",
    "published",
    "prices",
    "readings",
    "amount",
    "proof",
    "balance",
    "trades",
]
Verify = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def verify(community: LiveCommunity) -> Iterator[Verify]:
    """Runs the browser's verifier on claims against this chain."""
    door = NodeDoor(community.client.web3, community.contracts.addresses)
    with served(door) as url:
        yield lambda *claims: run_script("verify.mjs", url, given=claims)


def send_challenge(community: LiveCommunity, found: dict[str, Any]) -> None:
    """Sends what the browser offers, from somebody's wallet."""
    key = account("outsider")
    web3 = community.client.web3
    transaction = {
        "from": key.address,
        "to": found["to"],
        "data": found["data"],
        "value": int(found["value"], 16),
        "gas": 3_000_000,
        "nonce": web3.eth.get_transaction_count(key.address),
        "maxFeePerGas": 3 * 10**9,
        "maxPriorityFeePerGas": 10**9,
        "chainId": community.client.chain_id,
    }
    signed = key.sign_transaction(transaction)
    receipt = web3.eth.get_transaction_receipt(
        web3.eth.send_raw_transaction(signed.raw_transaction)
    )
    assert receipt["status"] == 1


def test_honest_statements_are_green(community: LiveCommunity, verify: Verify) -> None:
    first, second = community.batches(2)
    community.submit(first, second)
    claims = [claim_of(community, slot, first) for slot in (0, 1, 2, 3, 7)]
    claims += [claim_of(community, slot, second, first) for slot in (0, 3, 5)]
    for result in verify(*claims):
        assert with_state(result, "green") == ALL_GREEN
        assert result["challenge"] is None
        assert result["finalAt"] is not None
    community.pass_challenge_window()
    (result,) = verify(claims[-1])
    assert with_state(result, "green") == ALL_GREEN
    assert result["finalAt"] is None


def test_an_honest_correction_is_green(community: LiveCommunity, verify: Verify) -> None:
    first, second = community.batches(2)
    community.submit_final(first, second)
    energy = period_energy(0, slot_4=((800, 0), (250, 0), (0, 0), (500, 0)))
    correction = community.correction(first, second, energy)
    community.submit(correction, corrected=first)
    claims = [claim_of(community, slot, correction, second, first) for slot in (1, 3, 4)]
    for result in verify(*claims):
        assert with_state(result, "green") == ALL_GREEN


def other_readings(data: dict[str, Any]) -> None:
    data["readings"] = "0x" + "00" * 6 + "01" + data["readings"][16:]


def other_amount(data: dict[str, Any]) -> None:
    data["amount_nano"] += 1
    data["cumulative_nano"] += 1


def other_balance(data: dict[str, Any]) -> None:
    data["cumulative_nano"] += 1


def other_proof(data: dict[str, Any]) -> None:
    data["ledger_proof"][0] = "0x" + "12" * 32


def other_sums(data: dict[str, Any]) -> None:
    data["ledger_proof"][3] = "0x" + "00" * 31 + "01"


def other_salt(data: dict[str, Any]) -> None:
    data["ledger_salt"] = "0x" + "12" * 32


def other_prices(data: dict[str, Any]) -> None:
    data["prices"] = data["prices"][:-1] + ("1" if data["prices"][-1] != "1" else "2")


def other_trade(data: dict[str, Any]) -> None:
    data["trades"][0]["energy_wh"] += 1


def no_number(data: dict[str, Any]) -> None:
    data["amount_nano"] = "twelve"


TAMPERED: tuple[tuple[str, Callable[[dict[str, Any]], None], set[str]], ...] = (
    ("personal", other_readings, {"published", "readings"}),
    ("personal", other_amount, {"published", "amount", "proof"}),
    ("personal", other_balance, {"published", "proof"}),
    ("personal", other_proof, {"published", "proof"}),
    ("personal", other_sums, {"published", "proof"}),
    ("personal", other_salt, {"published", "proof"}),
    ("public", other_prices, {"published", "prices"}),
    ("personal", other_trade, {"published"}),
    ("personal", no_number, {"published", "amount", "proof"}),
)


def test_a_site_that_tampers_is_seen(community: LiveCommunity, verify: Verify) -> None:
    first = community.batch(0)
    community.submit(first)
    honest = claim_of(community, SLOT, first)
    results = verify(*(tampered(honest, part, change) for part, change, _ in TAMPERED))
    for (_, change, red), result in zip(TAMPERED, results, strict=True):
        assert set(with_state(result, "red")) == red, change.__name__
        assert steps(result)["node"] == steps(result)["record"] == "green"
        # What cannot be proved is not green.
        if "readings" in red:
            assert {"amount", "proof", "balance"} <= set(with_state(result, "unknown"))


def test_a_site_that_lies_about_the_rest(community: LiveCommunity, verify: Verify) -> None:
    first, second = community.batches(2)
    community.submit(first, second)
    honest = claim_of(community, SLOT, second, first)
    page, chain, number, record = verify(
        honest | {"amountNano": str(int(honest["amountNano"]) + 10**9)},
        honest | {"chainId": 1},
        honest | {"number": 1},
        honest | {"batchHash": shown(bytes(27) + bytes(5))},
    )
    assert with_state(page, "red") == ["amount"]
    assert page["steps"][5]["why"] == "page_differs"
    # The ledger is right: nothing to challenge.
    assert page["challenge"] is None
    assert with_state(chain, "red") == ["node"]
    assert with_state(number, "red") == with_state(record, "red") == ["record"]
    for result in (chain, number, record):
        assert "green" not in list(steps(result).values())[2:]
        assert result["challenge"] is None


def test_a_wrong_balance_before_is_not_taken_for_proved(
    community: LiveCommunity, verify: Verify
) -> None:
    first, second = community.batches(2)
    community.submit(first, second)
    honest = claim_of(community, SLOT, second, first)
    (result,) = verify(tampered(honest, "personal", other_balance, first))
    assert steps(result)["balance"] == "unknown"
    assert with_state(result, "red") == []


def overcharged(community: LiveCommunity, correction: bool = False) -> Claim:
    """The coordinator submits a batch that bills a member too much."""
    first, second = community.batches(2)
    if not correction:
        lie = renamed(community, shift_money(first, SLOT, 0, 5 * 10**6))
        community.submit(lie)
        return claim_of(community, SLOT, lie)
    community.submit_final(first, second)
    energy = period_energy(0, slot_4=((800, 0), (250, 0), (0, 0), (500, 0)))
    honest = community.correction(first, second, energy)
    lie = renamed(community, shift_money(honest, SLOT, 0, 5 * 10**6))
    community.submit(lie, corrected=first)
    return claim_of(community, SLOT, lie, second, first)


@pytest.mark.parametrize("correction", [False, True])
def test_a_wrong_bill_is_challenged(
    community: LiveCommunity, verify: Verify, correction: bool
) -> None:
    claim = overcharged(community, correction)
    (result,) = verify(claim)
    assert with_state(result, "red") == ["amount"]
    found = result["challenge"]
    assert found["name"] == ("challengeCorrectedAmount" if correction else "challengeAmount")
    assert int(found["rewardWei"]) == BOND_WEI // 2
    send_challenge(community, found)
    (event,) = community.events("ClearingHouse", "BatchVoided")
    assert event["challenger"] == account("outsider").address
    (after,) = verify(claim)
    assert with_state(after, "red") == ["record"]
    assert after["challenge"] is None


def test_it_is_too_late_for_a_challenge(community: LiveCommunity, verify: Verify) -> None:
    claim = overcharged(community)
    community.pass_challenge_window()
    (result,) = verify(claim)
    assert with_state(result, "red") == ["amount"]
    assert result["challenge"] is None


def test_a_wrong_system_account_is_challenged(community: LiveCommunity, verify: Verify) -> None:
    slot = 1
    lie = renamed(community, shift_money(community.batch(0), SLOT, slot, 5 * 10**6))
    community.submit(lie)
    (result,) = verify(claim_of(community, slot, lie))
    assert with_state(result, "red") == ["amount"]
    assert result["challenge"]["name"] == "challengeSystemAmount"
    send_challenge(community, result["challenge"])
    assert community.contracts.head_number() == 0


def test_a_wrong_balance_is_challenged(community: LiveCommunity, verify: Verify) -> None:
    first, second = community.batches(2)
    lie = renamed(community, shift_cumulative(second, SLOT, 3, 10**6))
    community.submit(first, lie)
    (result,) = verify(claim_of(community, SLOT, lie, first))
    assert with_state(result, "red") == ["balance"]
    assert result["challenge"]["name"] == "challengeCumulative"
    send_challenge(community, result["challenge"])
    assert community.contracts.head_number() == 1


def test_a_wrong_first_balance_is_challenged(community: LiveCommunity, verify: Verify) -> None:
    lie = renamed(community, shift_cumulative(community.batch(0), SLOT, 3, 10**6))
    community.submit(lie)
    (result,) = verify(claim_of(community, SLOT, lie))
    assert result["challenge"]["name"] == "challengeCumulative"
    send_challenge(community, result["challenge"])
    assert community.contracts.head_number() == 0


def test_money_of_somebody_who_left(community: LiveCommunity, verify: Verify) -> None:
    first = community.batch(0)
    community.submit(first)
    until = community.contracts.first_future_period()
    community.send(community.contracts.depart(SLOT, until), community.wallet(SLOT))
    (result,) = verify(claim_of(community, SLOT, first))
    assert with_state(result, "green") == ALL_GREEN


def test_what_is_not_shown_is_demanded(community: LiveCommunity, verify: Verify) -> None:
    first = community.batch(0)
    community.submit(first)
    claim = claim_of(community, SLOT, first)
    claim["documents"][claim["batchHash"]]["personal"] = None
    (result,) = verify(claim)
    assert with_state(result, "red") == []
    found = result["challenge"]
    assert (found["name"], int(found["value"], 16)) == ("demandData", DEMAND_BOND_WEI)
    send_challenge(community, found)
    (waiting,) = verify(claim)
    assert waiting["challenge"]["name"] == "wait"
    community.travel_to(int(waiting["challenge"]["until"]) + 1)
    community.send(community.contracts.mint(account("outsider").address, 1), "outsider")
    (unanswered,) = verify(claim)
    assert unanswered["challenge"]["name"] == "voidUnanswered"
    send_challenge(community, unanswered["challenge"])
    assert community.contracts.head_number() == 0


def test_an_answered_demand_is_not_used(community: LiveCommunity, verify: Verify) -> None:
    first = community.batch(0)
    community.submit(first)
    claim = claim_of(community, SLOT, first)
    claim["documents"][claim["batchHash"]]["personal"] = None
    send_challenge(community, verify(claim)[0]["challenge"])
    community.send(community.contracts.answer_demand(first, SLOT), "coordinator")
    (result,) = verify(claim)
    assert result["challenge"] is None
    # The batch falls for another account, and is submitted again unchanged: what was answered before answers nothing now.
    call = community.contracts.demand_data(first.header, SLOT + 1)
    community.send(call, "outsider", DEMAND_BOND_WEI)
    community.client.advance(CHALLENGE_SECONDS // 3 + 60)
    community.send(community.contracts.void_unanswered(first.header, SLOT + 1), "outsider")
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
    community.submit(first)
    (result,) = verify(claim)
    assert result["challenge"]["name"] == "demandData"
    send_challenge(community, result["challenge"])
    assert verify(claim)[0]["challenge"]["name"] == "wait"


def test_after_two_thirds_of_the_time_nothing_is_demanded(
    community: LiveCommunity, verify: Verify
) -> None:
    first = community.batch(0)
    community.submit(first)
    claim = claim_of(community, SLOT, first)
    claim["documents"][claim["batchHash"]]["personal"] = None
    community.client.advance(CHALLENGE_SECONDS // 3 + 60)
    assert verify(claim)[0]["challenge"] is None


def test_a_receipt_of_the_oracle_takes_the_place_of_readings_that_are_withheld(
    community: LiveCommunity, verify: Verify
) -> None:
    lie = renamed(community, shift_money(community.batch(0), SLOT, 0, 5 * 10**6))
    community.submit(lie)
    claim = tampered(claim_of(community, SLOT, lie), "personal", other_readings)
    item = lie.member_periods[SLOT]
    receipt = {
        "vector": shown(item.packed()),
        "salt": shown(item.salt),
        "proof": [shown(word) for word in lie.readings_tree.proof(SLOT)],
    }
    claim["documents"][claim["batchHash"]]["receipt"] = json.dumps(receipt)
    (result,) = verify(claim)
    assert steps(result)["readings"] == steps(result)["proof"] == "green"
    assert steps(result)["amount"] == "red"
    send_challenge(community, result["challenge"])
    assert community.contracts.head_number() == 0


def test_a_leaf_that_commits_to_other_readings_is_demanded(
    community: LiveCommunity, verify: Verify
) -> None:
    lie = renamed(community, with_leaf(community.batch(0), SLOT, readings_commitment=bytes(32)))
    community.submit(lie)
    claim = claim_of(community, SLOT, lie)
    (result,) = verify(claim)
    assert with_state(result, "red") == ["proof"]
    assert result["challenge"]["name"] == "demandData"
