"""A deployment that is killed anywhere is gone on with, and ends where an undisturbed one does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from backend.chain.client import ChainClient, Sent
from backend.chain.failover import FailoverProvider
from backend.chain.networks import Network
from backend.domain.errors import DeploymentDiffers, InsufficientFunds, NotMined, OutOfRange
from deploy.community import ADMIN_ROLE, COORDINATOR_ROLE, DELAYED_ROLES
from deploy.founding import FoundingFile
from deploy.runner import deploy, planned
from deploy.verification import OWN_CONTRACTS, differing_contracts
from oracle.signing import address_of
from tests.support.anvil import ask, mine, running_anvil
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


# --- On a node whose blocks take their time --------------------------------------------------------------------------------

TRANSACTIONS = 32


@pytest.fixture(scope="module")
def slow_node() -> Iterator[str]:
    with running_anvil("--no-mining") as url:
        yield url


def funded(url: str, name: str) -> tuple[ChainClient, LocalAccount]:
    """A connection as the program makes it, and a key with money."""
    client, deployer = ChainClient.open(url), account(f"deployer {name}")
    ask(client.web3, "anvil_setBalance", deployer.address, hex(10**20))
    return ChainClient(Web3(FailoverProvider([url], 31337)), embedded=False), deployer


def pending(web3: Web3) -> int:
    return int(ask(web3, "txpool_status")["pending"], 16)


def test_killed_before_and_after_it_sends_on_a_slow_node(
    slow_node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every transaction once, whatever was on its way when the program ended."""
    client, deployer = funded(slow_node, "killed")
    raw, book = ChainClient.open(slow_node).web3, tmp_path / "book.json"
    network = Network("anvil", 31337, 2)
    eth = type(client.web3.eth)
    send = eth.send_raw_transaction
    runs = 0
    while not book.exists():
        left, after = 1 + runs % 5, runs % 2
        runs += 1

        def dying(self: Any, transaction: Any, after: int = after) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise Killed
            found = send(self, transaction)
            if left == 0:
                raise Killed
            return found

        with monkeypatch.context() as patch:
            patch.setattr(eth, "send_raw_transaction", dying)
            try:
                deploy(client, deployer, FOUNDING, book, network=network, sleep=lambda _: mine(raw))
            except Killed:
                continue
    assert runs > 5
    assert raw.eth.get_transaction_count(deployer.address) == TRANSACTIONS
    assert pending(raw) == 0
    contracts = deploy(client, deployer, FOUNDING, book, network=network)
    assert differing_contracts(contracts) == []
    assert contracts.has_role(COORDINATOR_ROLE, FOUNDING.coordinator) == (True, 0)
    assert raw.eth.get_transaction_count(deployer.address) == TRANSACTIONS


def test_what_waits_too_long_is_said_and_gone_on_with(slow_node: str, tmp_path: Path) -> None:
    client, deployer = funded(slow_node, "waits")
    raw, book = ChainClient.open(slow_node).web3, tmp_path / "book.json"
    network = Network("anvil", 31337, 2, replace_after_seconds=0)
    for _ in range(2):
        # The second run offers the same transaction with a higher fee.
        with pytest.raises(NotMined, match="AccessManager") as caught:
            deploy(client, deployer, FOUNDING, book, network=network, timeout_seconds=0)
        assert "run it again" in caught.value.remedy
        assert pending(raw) == 1
    told: list[tuple[str, bool]] = []
    deploy(
        client,
        deployer,
        FOUNDING,
        book,
        lambda what, done: told.append((what, done)),
        network=network,
        sleep=lambda _: mine(raw),
    )
    # It had been sent before.
    assert told[0] == ("AccessManager", True)
    assert raw.eth.get_transaction_count(deployer.address) == TRANSACTIONS


def test_a_transaction_of_a_deployment_that_was_given_up_is_replaced(
    slow_node: str, tmp_path: Path
) -> None:
    """Its nonce is taken, at a fee that nobody knows any more."""
    client, deployer = funded(slow_node, "anew")
    raw, network = ChainClient.open(slow_node).web3, Network("anvil", 31337, 2)
    with pytest.raises(NotMined):
        deploy(client, deployer, FOUNDING, tmp_path / "a.json", network=network, timeout_seconds=0)
    other = FOUNDING.model_copy(update={"bond_wei": 10**16})
    deploy(client, deployer, other, tmp_path / "b.json", network=network, sleep=lambda _: mine(raw))
    assert raw.eth.get_transaction_count(deployer.address) == TRANSACTIONS


def test_without_money_it_says_so(slow_node: str, tmp_path: Path) -> None:
    client, deployer = funded(slow_node, "poor")
    raw, book = ChainClient.open(slow_node).web3, tmp_path / "book.json"
    ask(raw, "anvil_setBalance", deployer.address, hex(10**9))
    with pytest.raises(InsufficientFunds):
        deploy(client, deployer, FOUNDING, book, network=Network("anvil", 31337, 2))
    assert not book.exists()


def test_the_program_is_killed_while_its_transaction_waits(slow_node: str, tmp_path: Path) -> None:
    """kill -9 on `peerwatt deploy`, twice; the third run goes on with what waits, and sends nothing twice."""
    _, deployer = funded(slow_node, "program")
    raw = ChainClient.open(slow_node).web3
    (tmp_path / "key.json").write_text(
        json.dumps(Account.encrypt(deployer.key, "secret", kdf="pbkdf2", iterations=1000))
    )
    (tmp_path / "password").write_text("secret")
    for name in ("key.json", "password"):
        (tmp_path / name).chmod(0o600)
    (tmp_path / "founding.json").write_text(FOUNDING.model_dump_json())
    network = {"format": "peerwatt/network/1", "name": "slow", "chain_id": 31337}
    network |= {"rpc": [slow_node], "finality_depth": 2, "block_seconds": 1}
    (tmp_path / "network.json").write_text(json.dumps(network))
    book = tmp_path / "address-book.json"
    program = [sys.executable, "-c", "from backend.cli import main; main()"]
    program += ["deploy", str(tmp_path / "founding.json")]
    program += ["--network", str(tmp_path / "network.json"), "--address-book", str(book)]
    program += ["--keystore", str(tmp_path / "key.json")]
    program += ["--password-file", str(tmp_path / "password"), "--json"]

    def run() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            program,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )

    for mined in (0, 1):
        with run() as process:
            while raw.eth.get_transaction_count(deployer.address) < mined or not pending(raw):
                assert process.poll() is None
                if pending(raw) and raw.eth.get_transaction_count(deployer.address) < mined:
                    mine(raw)
                time.sleep(0.05)
            process.kill()
    assert pending(raw) == 1
    # The rest at once; what waits is mined when the program sends it again, or with the next one.
    ask(raw, "evm_setAutomine", True)
    try:
        mine(raw)
        with run() as process:
            assert process.stdout is not None
            told = json.loads(process.stdout.read())
    finally:
        ask(raw, "evm_setAutomine", False)
    assert told["done_before"] == 2
    assert json.loads(book.read_text())["contracts"] == told["contracts"]
    assert raw.eth.get_transaction_count(deployer.address) == TRANSACTIONS
