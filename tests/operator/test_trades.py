"""Trades before delivery by processes as an operator runs them: taken by the coordinator, committed before the gate, settled in two steps.

The chain and the coordinator's clock are set back to the day before, so that there is a gate to meet; the coordinator is killed
between taking a trade and committing it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account.messages import encode_defunct
from eth_keys.datatypes import PrivateKey
from typer.testing import CliRunner

from backend.api.configured import open_configured_site
from backend.api.views import member_statements, own_data
from backend.cli import app
from backend.domain.errors import CoordinatorRefused
from backend.domain.intervals import EPOCH_DATE
from backend.market.electrical_distance_fees import network_pair_fees
from backend.operator.access import access_text
from backend.operator.community import CommunityService
from backend.operator.config import load_configuration
from backend.operator.metrics import CoordinatorMetrics
from backend.operator.trade_client import AgreedTrade, AgreedTrades, TradeClient
from contracts.trade_book import TradeBookContract
from deploy.founding import load_founding
from tests.support.anvil import ask, mine, running_anvil
from tests.support.community import account
from tests.support.installation import Installation, installation
from tests.support.oracle import PASSWORD, energy_wh, past_period, write_keystore
from tests.support.postgres import Cluster

PERIOD = past_period(1)
INTERVAL = PERIOD.first_interval + 48
BEGINS = INTERVAL * 900
SELLER, BUYER, ENERGY_WH, PRICE = 3, 4, 250, 180_000


def trade_command(*arguments: object, code: int = 0) -> Any:
    """What `peerwatt trade` says."""
    done = CliRunner().invoke(app, ["trade", *map(str, arguments), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


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


def own_statement(made: Installation, slot: int, path: str) -> Any:
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


def test_a_signed_trade_is_committed_and_settled(tmp_path: Path, cluster: Cluster) -> None:
    with (
        running_anvil("--timestamp", str(PERIOD.first_interval * 900)) as chain,
        installation(tmp_path / "town", chain, cluster.create("trading"), 1, trades=True) as made,
    ):
        book = TradeBookContract(made.web3, made.contracts.addresses["TradeBook"])
        network = load_founding(made.folder / "founding.json").tariff.network
        fee = network_pair_fees(network).between("a", "a")
        trade = AgreedTrade(
            interval=INTERVAL,
            seller_slot=SELLER,
            buyer_slot=BUYER,
            energy_wh=ENERGY_WH,
            price_nano_per_wh=PRICE,
            fee_nano_per_wh=fee,
        )
        agreed = AgreedTrades(
            chain_id=made.web3.eth.chain_id,
            trade_book=book.address,
            first_interval=INTERVAL,
            interval_count=1,
            trades=(trade,),
        )
        client = TradeClient(made.url, "valley")
        to = ("--coordinator", made.url, "--community", "valley")
        key: dict[int, tuple[object, ...]] = {}
        for slot in (SELLER, BUYER, 5):
            secret = bytes(account("wallet", slot).key)
            write_keystore(tmp_path / f"{slot}.json", PrivateKey(secret))
            wallet = (
                "--keystore",
                tmp_path / f"{slot}.json",
                "--password-file",
                tmp_path / "password",
            )
            key[slot] = ("--slot", slot, *wallet)
        (tmp_path / "password").write_text(PASSWORD + "\n")
        # From one side to the other, as a file; whoever is no party cannot sign, and nothing is sent before both have.
        file = tmp_path / "trades.json"
        file.write_text(agreed.model_dump_json(exclude_none=True))
        assert trade_command("sign", file, *key[SELLER])["signed"] == 1
        assert trade_command("sign", file, *key[5], code=2)["error"]["field"] == "slot"
        assert "missing" in trade_command("send", file, *to, code=2)["error"]["message"]
        assert trade_command("sign", file, *key[BUYER])["signed"] == 1
        good = AgreedTrades.from_data(json.loads(file.read_text()))
        seller_twice = {"buyer_signature": good.trades[0].seller_signature}
        forged = good.model_copy(
            update={"trades": (good.trades[0].model_copy(update=seller_twice),)}
        )

        # Long before the gate: taken, once; what one side never signed is not.
        made.start(set_time(made, BEGINS - 3 * 3600))
        until(lambda: requests.get(f"{made.url}/ready", timeout=2).ok, made)
        with pytest.raises(CoordinatorRefused, match="has not signed this trade"):
            client.send(forged)
        assert trade_command("send", file, *to) == {"taken": 1}
        assert client.send(good) == 0
        assert book.commitments() == []
        made.kill()
        with pytest.raises(CoordinatorRefused, match="does not answer"):
            client.send(good)

        # Closed, an hour before the gate: committed, though the one who took it was killed.
        made.start(set_time(made, BEGINS - 3600))
        (commitment,) = until(book.commitments, made)
        assert (commitment.first_interval, commitment.interval_count) == (INTERVAL, 1)
        with pytest.raises(CoordinatorRefused, match="is closed"):
            client.send(good)
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
            statement = own_statement(made, slot, path)
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
        day_of = EPOCH_DATE + timedelta(days=PERIOD.number)
        chain_id, house = book.web3.eth.chain_id, made.contracts.addresses["ClearingHouse"]
        where = (*to, "--chain-id", chain_id, "--clearing-house", house)
        (shown,) = trade_command("own", day_of, *key[BUYER], *where)["trades"]
        assert (shown["energy_wh"], shown["position"]) == (ENERGY_WH, 0)
        assert trade_command("own", day_of, *key[5], *where)["trades"] == []
        with pytest.raises(CoordinatorRefused):
            client.own(SELLER, PERIOD.number, account("wallet", BUYER), chain_id, house)
        folders = [signer.folder / "trade-books" for signer in made.signers]
        assert all((folder / f"{INTERVAL}.json").exists() for folder in folders)
        # Its receipt shows the buyer what it bought, and holds.
        receipts = ("--day", day_of, "--receipts", tmp_path / "receipts")
        done = CliRunner().invoke(
            app, ["oracle", "report", *map(str, (made.signers[0].path, *receipts))]
        )
        assert done.exit_code == 0, done.output
        receipt = tmp_path / "receipts" / str(PERIOD.number) / f"{BUYER}.json"
        done = CliRunner().invoke(app, ["verify-reading", str(receipt), "--json"])
        verdict = json.loads(done.stdout)
        assert (verdict["faults"], verdict["bought_wh"]) == ([], ENERGY_WH)
        assert verdict["traded_nano"] == brought[BUYER]
        # The coordinator's own audit looks at the book too; whoever has it not cannot say.
        assert made.stop() == 0
        service = CommunityService(
            configuration, configuration.file.communities[0], CoordinatorMetrics()
        )
        registry = service.metrics.registry
        labels = {"community": "valley"}

        def unchecked() -> float | None:
            return registry.get_sample_value("peerwatt_coordinator_audit_unchecked", labels)

        try:
            assert (service.audit(), unchecked()) == (0, 0)
            (kept,) = made.folder.glob("trade-books/valley/books/*.json")
            away = kept.rename(tmp_path / "away.json")
            assert service.audit() == 0
            assert (unchecked() or 0) > 0
            signed = json.loads(away.read_bytes())
            signed["trades"][0]["energy_wh"] += 1
            kept.write_text(json.dumps(signed))
            assert (service.audit() or 0) > 0
        finally:
            service.close()
