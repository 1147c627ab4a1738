"""A deployment that is killed anywhere is gone on with, and ends where an undisturbed one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from backend.chain.client import ChainClient, Sent
from backend.domain.errors import DeploymentDiffers, OutOfRange
from deploy.community import ADMIN_ROLE, COORDINATOR_ROLE, DELAYED_ROLES
from deploy.founding import FoundingFile
from deploy.runner import deploy, planned
from deploy.verification import OWN_CONTRACTS, differing_contracts
from oracle.signing import address_of
from tests.support.chain import restored
from tests.support.community import account, signer_keys


class Killed(BaseException):
    """What kill -9 looks like from inside."""


class Mortal(ChainClient):
    """Dies after so many transactions."""

    left = 10**9

    def send(self, call: Any, key: LocalAccount, value_wei: int = 0) -> Sent:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().send(call, key, value_wei)


FOUNDING = FoundingFile.from_data(
    {
        # After the embedded chain's genesis in 2016 nothing is known of the machine's clock; far enough for either.
        "first_day": "2090-01-01",
        "bond_wei": 10**17,
        "demand_bond_wei": 10**15,
        "collateral_step_nano": 10**9,
        "coordinator": account("coordinator").address,
        "administrator": account("administrator").address,
        "supplier": account("supplier").address,
        "dso": account("dso").address,
        "fund": account("fund").address,
        "oracle": {"threshold": 2, "signers": [address_of(key) for key in signer_keys()]},
        "tariff": {
            "share_millionths": 500_000,
            "network": {"nodes": [{"id": "a", "access_fee_nano_per_wh": 1000}], "edges": []},
            "tariff_classes": [
                {
                    "id": "household",
                    "import_price_nano_per_wh": 300_000,
                    "export_price_nano_per_wh": 60_000,
                }
            ],
            "groups": [["a", "household"]],
        },
    }
)


@pytest.mark.parametrize(
    "change",
    [
        {"change_delay_seconds": 79 * 3600 - 1},
        {"challenge_seconds": 40 * 3600},
        {"shortest_period_seconds": 43 * 3600},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changes_take_longer_than_leaving(change: dict[str, int]) -> None:
    """A day of 25 hours, its batch within six, and a day until it and then the collateral's announcement are through."""
    given = FOUNDING.model_dump(mode="json")
    assert (
        FoundingFile.from_data(given | {"change_delay_seconds": 79 * 3600}).exit_seconds
        == 79 * 3600
    )
    with pytest.raises(OutOfRange, match="change_delay_seconds"):
        FoundingFile.from_data(given | change)


@pytest.mark.parametrize("field", ["bond_wei", "demand_bond_wei"])
def test_a_lie_costs_something(field: str) -> None:
    with pytest.raises(OutOfRange, match=field):
        FoundingFile.from_data(FOUNDING.model_dump(mode="json") | {field: 0})


@pytest.fixture(scope="module")
def embedded() -> ChainClient:
    client = ChainClient.open(None)
    client.fund([account("deployer").address], 10**20)
    return client


def test_killed_every_few_transactions(embedded: ChainClient, tmp_path: Path) -> None:
    deployer, book = account("deployer"), tmp_path / "book.json"
    with restored(embedded.web3):
        plan = planned(embedded, deployer, FOUNDING, book)
        begun = embedded.web3.eth.get_transaction_count(deployer.address)
        sent, runs = 0, 0
        while not book.exists():
            # What a killed process knew is gone with it.
            client = Mortal(embedded.web3, embedded=True)
            client.left = 1 + runs % 7
            runs += 1
            try:
                deploy(client, deployer, FOUNDING, book)
            except Killed:
                sent += 1 + (runs - 1) % 7
                continue
            sent += 1 + (runs - 1) % 7 - client.left
        contracts = deploy(ChainClient(embedded.web3, embedded=True), deployer, FOUNDING, book)
        # Every transaction once.
        assert (
            embedded.web3.eth.get_transaction_count(deployer.address) == begun + sent == begun + 32
        )
        assert runs > 5
        written = json.loads(book.read_text())
        assert written["contracts"] == dict(contracts.addresses) == plan
        assert differing_contracts(contracts) == []
        assert contracts.has_role(COORDINATOR_ROLE, FOUNDING.coordinator) == (True, 0)
        for role in (*DELAYED_ROLES, ADMIN_ROLE):
            assert contracts.has_role(role, deployer.address) == (False, 0)
            assert contracts.has_role(role, FOUNDING.administrator) == (True, 4 * 86_400)
        assert contracts.oracle_config().threshold == 2


def test_what_differs_is_said(embedded: ChainClient, tmp_path: Path) -> None:
    deployer, book = account("deployer"), tmp_path / "book.json"
    with restored(embedded.web3):
        client = Mortal(embedded.web3, embedded=True)
        client.left = 3
        with pytest.raises(Killed):
            deploy(client, deployer, FOUNDING, book)
        other = FOUNDING.model_copy(update={"bond_wei": 1})
        with pytest.raises(DeploymentDiffers, match="founding_sha256"):
            deploy(ChainClient(embedded.web3, embedded=True), deployer, other, book)
        with pytest.raises(DeploymentDiffers, match="deployer"):
            deploy(ChainClient(embedded.web3, embedded=True), account("dso"), FOUNDING, book)
        # Somebody sends with the same key in between.
        transfer = {
            "to": account("dso").address,
            "value": 1,
            "gas": 21_000,
            "gasPrice": 10**10,
            "nonce": embedded.web3.eth.get_transaction_count(deployer.address),
            "chainId": embedded.chain_id,
        }
        signed = deployer.sign_transaction(transfer)  # type: ignore[arg-type]
        embedded.web3.eth.send_raw_transaction(signed.raw_transaction)
        with pytest.raises(DeploymentDiffers, match="needs nonce"):
            deploy(ChainClient(embedded.web3, embedded=True), deployer, FOUNDING, book)


def test_other_code_at_an_address_is_noticed(embedded: ChainClient, tmp_path: Path) -> None:
    with restored(embedded.web3):
        client = ChainClient(embedded.web3, embedded=True)
        contracts = deploy(client, account("deployer"), FOUNDING, tmp_path / "book.json")
        swapped = dict(contracts.addresses)
        swapped["Vault"], swapped["Challenges"] = swapped["Challenges"], swapped["Vault"]
        wrong = type(contracts)(embedded.web3, swapped)
        assert differing_contracts(wrong) == ["Vault", "Challenges"]
        # A trade book only where members trade before delivery.
        assert set(OWN_CONTRACTS) - {"TradeBook"} < set(contracts.addresses)
