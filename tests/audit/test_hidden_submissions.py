"""A coordinator that is a contract, or writes its bytes in a way that no encoder does: its batches are read all the same, and where
they cannot be, that is said and nothing else is held up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import ContractFunction

from backend.audit.auditor import audit
from backend.audit.bundle_files import BundleFiles
from backend.audit.calls import TRACE_METHOD, CallFinder
from backend.audit.chain_reader import ChainReader
from backend.audit.node import open_nodes
from backend.audit.watch import WatchEvent
from backend.audit.watching import WatchOptions, run_watch
from backend.operator.publication import publish_bundle
from backend.settlement.batch import Batch
from contracts.artifact import artifact
from contracts.bindings import constructor
from deploy.community import COORDINATOR_ROLE, PAUSER_ROLE
from tests.support.anvil import ask, running_anvil
from tests.support.chain import deploy_code

from .honest import CHALLENGE_SECONDS, HAMLET, Target, Town, key_of
from .lying_coordinator import moved
from .settled import Answer, lying_node

READABLE = "the submission can be read"


@pytest.fixture
def url() -> Iterator[str]:
    with running_anvil("--auto-impersonate") as found:
        yield found


def forwarder(house: str) -> str:
    """A contract that passes on to the clearing house, with all bits turned, as many bytes as the first word says."""
    copied = "6000358060206000376000"  # n, a copy of n bytes behind the first word, and i = 0
    turning = "5b81811015601e578051198152602001600b56"  # while i < n: turn the word at i
    passed = "5b50600060008260003473" + house[2:].lower() + "5af1"
    answered = "3d600060003e604c573d6000fd5b3d6000f3"
    return copied + turning + passed + answered


def turned(data: bytes) -> bytes:
    return len(data).to_bytes(32, "big") + bytes(255 - byte for byte in data)


@dataclass
class Passing:
    """How the coordinator's calls reach the clearing house."""

    town: Town
    to: ChecksumAddress
    pack: Callable[[bytes], bytes]

    def send(self, call: ContractFunction, value_wei: int = 0, behind: bytes = b"") -> None:
        """Sends a call, with other bytes behind it."""
        client, key = self.town.client, self.town.coordinator
        data = HexBytes(call._encode_transaction_data())
        built: Any = {
            "from": key.address,
            "to": self.to,
            "data": HexBytes(self.pack(bytes(data)) + behind),
            "value": value_wei,
            "nonce": client.web3.eth.get_transaction_count(key.address),
            "gas": 10_000_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
            "chainId": client.chain_id,
        }
        sent = client.web3.eth.send_raw_transaction(key.sign_transaction(built).raw_transaction)
        assert client.web3.eth.wait_for_transaction_receipt(sent)["status"] == 1


def passing(town: Town, kind: str) -> Passing:
    """The coordinator's role goes to a contract, which posts the bond."""
    house = town.contracts.addresses["ClearingHouse"]
    if kind == "odd bytes":
        return Passing(town, house, oddly)
    if kind == "wrapped":
        made = town.client.send(
            constructor(town.client.web3, "TestWallet", town.coordinator.address), town.coordinator
        )
        assert made.contract_address is not None
        to = Web3.to_checksum_address(made.contract_address)
        wallet = town.client.web3.eth.contract(to, abi=_execute_abi())
        found = Passing(
            town, to, lambda data: HexBytes(wallet.functions.execute(house, data)._encode_transaction_data())
        )  # fmt: skip
    else:
        to = deploy_code(town.client, forwarder(house), key_of("outsider"))
        found = Passing(town, to, turned)
    deployer = key_of("deployer")
    for role, account in ((PAUSER_ROLE, deployer.address), (COORDINATOR_ROLE, to)):
        town.client.send(town.contracts.grant_role(role, account, 0), deployer)
    found.send(town.contracts.post_bond(), 10**17)
    return found


def _execute_abi() -> Any:
    return artifact("TestWallet")["abi"]


def oddly(data: bytes) -> bytes:
    """The same submission as Solidity reads it: the clearing stands before the structure that it is in, with rubbish as padding."""
    start = 4 + 32
    at = start + 32 * 10  # report has seven words; then config, signatures and tariff
    offset = int.from_bytes(data[at : at + 32], "big")
    place = start + offset
    length = int.from_bytes(data[place : place + 32], "big")
    padded = -(-length // 32) * 32
    clearing = data[place : place + 32 + length] + b"\xee" * (padded - length)
    moved_to = (1 << 256) - len(clearing)
    structure = data[start:at] + moved_to.to_bytes(32, "big") + data[at + 32 :]
    return data[:4] + (32 + len(clearing)).to_bytes(32, "big") + clearing + structure


def submission(town: Town, batch: Batch) -> ContractFunction:
    return town.contracts.submit_batch(batch, town.market, HAMLET.share_millionths, town.oracle)


def watched(
    town: Town, url: str, folder: Path, slots: tuple[int, ...] = (), *, demand_all: bool = False
) -> list[WatchEvent]:
    """What the watchtower does at one look."""
    keystore, password = folder / "key.json", folder / "password"
    secret = Account.encrypt(key_of("outsider").key, "let me in", kdf="pbkdf2", iterations=2)
    keystore.write_text(json.dumps(secret))
    password.write_text("let me in\n")
    events: list[WatchEvent] = []
    options = WatchOptions(
        (url,), town.contracts.addresses["ClearingHouse"], str(folder / "bundles"), None, keystore,
        password, folder / "state", 0, 0, 1, True, 20, None, slots, demand_all,
    )  # fmt: skip
    run_watch(options, events.append)
    return events


def lie_of(town: Town, folder: Path) -> tuple[Target, Batch]:
    """A batch with money moved from one member to another, published as it is."""
    target = next(town.targets())
    lie = moved(target.batch, 3, 4)
    bundle = town.bundle(lie)
    publish_bundle(folder / "bundles" / "1", bundle)
    return target, lie.with_bundle_hash(bundle.hash)


@pytest.mark.parametrize("kind", ["odd bytes", "wrapped", "hidden", "decoy"])
def test_a_lie_falls_however_it_is_submitted(url: str, tmp_path: Path, kind: str) -> None:
    town = Town(url, HAMLET, seed=5)
    way = passing(town, kind)
    target, lie = lie_of(town, tmp_path)
    call, honest = submission(town, lie), submission(town, target.batch)
    # Behind what is hidden stands, for everybody to read, what an honest coordinator would have submitted.
    decoy = bytes(HexBytes(honest._encode_transaction_data())) if kind == "decoy" else b""
    way.send(call, behind=decoy)
    assert town.contracts.head_number() == 1
    (batch,) = ChainReader(
        open_nodes((url,)), town.contracts.addresses["ClearingHouse"]
    ).standing_batches()
    assert bytes(batch.submission["ledger"]["left"]) == lie.ledger.root_children[0].hash
    events = watched(town, url, tmp_path)
    assert [event.function for event in events if event.kind == "sent"] == ["challengeAmount"]
    assert town.contracts.head_number() == 0


def without_traces(question: Answer, answer: Answer) -> Answer:
    if question["method"] == TRACE_METHOD:
        return {"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32601, "message": "no"}}
    return answer


def test_what_cannot_be_read_is_never_verified_and_holds_nothing_up(
    url: str, tmp_path: Path
) -> None:
    """An honest batch behind a contract, and a lie after it; the node has no traces, then it has."""
    town = Town(url, HAMLET, seed=5)
    way = passing(town, "hidden")
    targets = town.targets()
    target = next(targets)
    bundle = town.bundle(target.batch)
    publish_bundle(tmp_path / "bundles" / "1", bundle)
    way.send(submission(town, target.batch))
    house, files = town.contracts.addresses["ClearingHouse"], BundleFiles(tmp_path / "bundles")
    with lying_node(url, without_traces) as poor:
        verdict = audit(open_nodes((poor,), 20), house, files)
        (period,) = verdict.periods
        assert period.verdict == "incomplete"
        assert READABLE in {check.what for check in period.checks if check.passed is None}
        events = watched(town, poor, tmp_path)
        assert any("debug_traceTransaction" in event.text for event in events)
        assert {event.kind for event in events} <= {"trouble", "verdict"}
        assert not [event for event in events if "verified" in event.text]
        # Of several nodes one with traces is enough.
        (period,) = audit(open_nodes((poor, url), 20), house, files).periods
        assert period.verdict == "verified"
    (period,) = audit(open_nodes((url,), 20), house, files).periods
    assert period.verdict == "verified"


def test_a_lie_about_the_ledger_falls_without_its_submission(url: str, tmp_path: Path) -> None:
    """The ledger's root is in the header: what the published parts show below it needs no calldata."""
    town = Town(url, HAMLET, seed=5)
    way = passing(town, "hidden")
    target = next(town.targets())
    lie = moved(target.batch, 0, 1)
    bundle = town.bundle(lie)
    publish_bundle(tmp_path / "bundles" / "1", bundle)
    way.send(submission(town, lie.with_bundle_hash(bundle.hash)))
    with lying_node(url, without_traces) as poor:
        events = watched(town, poor, tmp_path)
    assert [event.function for event in events if event.kind == "sent"] == ["challengeSystemAmount"]
    assert town.contracts.head_number() == 0


def test_whatever_goes_wrong_with_a_batch_the_watchtower_goes_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = Town(url, HAMLET, seed=5)
    _, lie = lie_of(town, tmp_path)
    town.client.send(submission(town, lie), town.coordinator)
    find = CallFinder.find
    monkeypatch.setattr(CallFinder, "find", lambda *given: {**find(*given), "submission": {"a": 1}})
    events = watched(town, url, tmp_path)
    assert [event.kind for event in events] == ["trouble"]
    assert "KeyError" in events[0].text
    monkeypatch.undo()
    assert "challengeAmount" in {event.function for event in watched(town, url, tmp_path)}


def test_nothing_is_demanded_that_nobody_asked_for(url: str, tmp_path: Path) -> None:
    """Somebody outside, who sees the public part alone: a demand would make an honest member's account public."""
    town = Town(url, HAMLET, seed=5)
    target = next(town.targets())
    publish_bundle(tmp_path / "bundles" / "1", town.bundle(target.batch))
    shutil.rmtree(tmp_path / "bundles" / "1" / "personal")
    town.client.send(submission(town, target.batch), town.coordinator)
    challenges = town.client.web3.eth.contract(
        town.contracts.addresses["Challenges"], abi=artifact("Challenges")["abi"]
    )

    def demanded() -> list[int]:
        found = challenges.events.DataDemanded().get_logs(from_block=0)
        return [entry["args"]["slot"] for entry in found]

    events = watched(town, url, tmp_path)
    assert {event.kind for event in events} == {"verdict", "trouble"}
    assert any("not demanded: --slot" in event.text for event in events)
    assert any(event.text.startswith("incomplete") for event in events) and demanded() == []
    # Of everything that is not shown, one's own slot alone; what others have demanded is not demanded again.
    watched(town, url, tmp_path, (4,))
    assert demanded() == [4]
    watched(town, url, tmp_path, (4,))
    watched(town, url, tmp_path, demand_all=True)
    assert demanded() == [4]
    ask(town.client.web3, "evm_increaseTime", CHALLENGE_SECONDS // 3 + 1)
    ask(town.client.web3, "evm_mine")
    sent = [event.function for event in watched(town, url, tmp_path) if event.kind == "sent"]
    assert sent == ["voidUnanswered"] and town.contracts.head_number() == 0
