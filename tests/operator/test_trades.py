"""Trades before delivery by processes as an operator runs them: taken by the coordinator, committed before the gate, settled in two steps.

The chain and the coordinator's clock are set back to the day before, so that there is a gate to meet; the coordinator is killed
between taking a trade and committing it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
from eth_account.messages import encode_defunct

from backend.api.configured import open_configured_site
from backend.api.views import member_statements, own_data
from backend.market.electrical_distance_fees import network_pair_fees
from backend.operator.access import access_text
from backend.operator.config import load_configuration
from backend.settlement.encoding import typed_data_digest
from backend.settlement.forward import ForwardTrade, SignedTrade, book_data
from contracts.trade_book import TradeBookContract
from deploy.founding import load_founding
from tests.support import postgres
from tests.support.anvil import ask, mine, running_anvil
from tests.support.community import account
from tests.support.installation import Installation, installation
from tests.support.oracle import energy_wh, past_period

PERIOD = past_period(1)
INTERVAL = PERIOD.first_interval + 48
BEGINS = INTERVAL * 900
SELLER, BUYER, ENERGY_WH, PRICE = 3, 4, 250, 180_000


def signed(trade: ForwardTrade, domain: bytes, buyer: int = BUYER) -> SignedTrade:
    digest: Any = typed_data_digest(domain, trade.struct_hash())
    seller, other = (
        bytes(account("wallet", slot).unsafe_sign_hash(digest).signature)
        for slot in (trade.seller_slot, buyer)
    )
    return SignedTrade(trade, seller, other, bytes(32))


def set_time(made: Installation, timestamp: int) -> float:
    """The chain's clock; returns how far it is ahead of ours."""
    ask(made.web3, "anvil_setTime", hex(timestamp))
    mine(made.web3)
    return timestamp - time.time()


def until(what: Callable[[], Any], made: Installation, seconds: float = 600) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except requests.RequestException:
            pass
        time.sleep(0.3)
    raise AssertionError(made.log[-5000:])


def own(made: Installation, slot: int, path: str) -> Any:
    house, now = made.contracts.addresses["ClearingHouse"], int(time.time())
    text = access_text(made.web3.eth.chain_id, house, slot, now)
    signature = account("wallet", slot).sign_message(encode_defunct(text=text)).signature
    headers = {
        "X-Peerwatt-Issued-At": str(now),
        "X-Peerwatt-Signature": "0x" + bytes(signature).hex(),
    }
    answer = requests.get(f"{made.url}/communities/valley{path}", headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_signed_trade_is_committed_and_settled(tmp_path: Path) -> None:
    with (
        postgres.cluster() as cluster,
        running_anvil("--timestamp", str(PERIOD.first_interval * 900)) as chain,
        installation(tmp_path / "town", chain, cluster.create("valley"), 1, trades=True) as made,
    ):
        book = TradeBookContract(made.web3, made.contracts.addresses["TradeBook"])
        network = load_founding(made.folder / "founding.json").tariff.network
        fee = network_pair_fees(network).between("a", "a")
        trade = ForwardTrade(INTERVAL, SELLER, BUYER, ENERGY_WH, PRICE, fee)
        good, forged = signed(trade, book.domain), signed(trade, book.domain, buyer=SELLER)

        def post(one: SignedTrade) -> requests.Response:
            data = book_data([one], INTERVAL, 1, book.web3.eth.chain_id, book.address)
            return requests.post(f"{made.url}/communities/valley/trades", json=data, timeout=20)

        # Long before the gate: taken, once; what one side never signed is not.
        made.start(set_time(made, BEGINS - 3 * 3600))
        until(lambda: requests.get(f"{made.url}/ready", timeout=2).ok, made)
        assert post(forged).status_code == 422
        assert post(good).json() == {"taken": 1}
        assert post(good).json() == {"taken": 0}
        assert book.commitments() == []
        made.kill()

        # Closed, an hour before the gate: committed, though the one who took it was killed.
        made.start(set_time(made, BEGINS - 3600))
        (commitment,) = until(book.commitments, made)
        assert (commitment.first_interval, commitment.interval_count) == (INTERVAL, 1)
        late = post(good)
        assert (late.status_code, "closed" in late.text) == (422, True)
        made.kill()

        # The day after: metered, reported as deviations, settled.
        set_time(made, int(time.time()))
        made.publish_day(PERIOD)
        for signer in made.signers:
            made.send_day(signer, PERIOD)
        made.start()
        made.wait_until_stated(1, 900)

        answer = requests.get(f"{made.url}/communities/valley/batches", timeout=10).json()
        day = range(PERIOD.first_interval, PERIOD.end_interval)
        brought = {
            SELLER: ENERGY_WH * (PRICE - fee // 2),
            BUYER: -ENERGY_WH * (PRICE + fee - fee // 2),
            5: 0,
        }
        for slot, nano in brought.items():
            path = f"/bundles/{answer[0]['bundle_hash']}/statement/{slot}"
            statement = own(made, slot, path)
            metered = [sum(energy_wh(slot, at)[side] for at in day) for side in (0, 1)]
            assert statement["forward_nano"] == nano
            assert statement["import_wh"] == metered[0] + ENERGY_WH * (slot == SELLER)
            assert statement["export_wh"] == metered[1] + ENERGY_WH * (slot == BUYER)
            assert statement["amount_nano"] == statement["due_nano"]
        # The web shows the same: what the meter measured, the trade beside it, and one amount.
        configuration = load_configuration(made.folder / "coordinator.json")
        site = open_configured_site(configuration, configuration.file.communities[0])
        for slot, nano in brought.items():
            shown = member_statements.statement(site, slot, PERIOD.number)
            totals, ahead = shown.day.totals, shown.day.ahead
            assert ahead is not None
            assert (totals.import_wh, totals.export_wh) == tuple(
                sum(energy_wh(slot, at)[side] for at in day) for side in (0, 1)
            )
            assert (ahead.amount_nano, ahead.other_nano) == (nano, 0)
            assert shown.summary.due_nano == shown.summary.amount_nano
            assert [item.energy_wh for item in ahead.trades] == [ENERGY_WH] * (slot != 5)
            at_noon = shown.day.intervals[48]
            assert at_noon.ahead_amount_nano == nano
            assert (at_noon.sold_ahead_wh, at_noon.bought_ahead_wh) == (
                ENERGY_WH * (slot == SELLER),
                ENERGY_WH * (slot == BUYER),
            )
            table = own_data.statement_csv(shown).decode().splitlines()
            assert sum(Decimal(row.split(",")[-4]) for row in table[1:]) * 10**9 == nano
            assert own_data.statement_on_paper(site, shown).startswith(b"%PDF")
        site.close()
        # Either side can prove its trade, and nobody else sees it.
        (shown,) = own(made, BUYER, f"/trades/{PERIOD.number}/{BUYER}")["trades"]
        assert (shown["energy_wh"], shown["position"]) == (ENERGY_WH, 0)
        assert own(made, 5, f"/trades/{PERIOD.number}/5")["trades"] == []
        folders = [signer.folder / "trade-books" for signer in made.signers]
        assert all((folder / f"{INTERVAL}.json").exists() for folder in folders)
