"""The door to the node: the community's contracts and nothing else, and everybody's answers alike."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from fastapi.testclient import TestClient
from web3 import Web3
from web3.types import RPCEndpoint

from backend.api.rpc import NodeDoor
from backend.chain.failover import FailoverProvider
from backend.domain.errors import NodeUnreachable
from tests.support.anvil import running_anvil
from tests.support.community import account
from tests.support.demo_site import DemoWorld

STRANGER = "0x" + "77" * 20


def ask(world: DemoWorld, method: str, *params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    answer = world.anybody().post("/rpc/demo", json=body)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    assert (found["jsonrpc"], found["id"]) == ("2.0", 7)
    return found


def refused(found: dict[str, Any]) -> int:
    assert "result" not in found
    code: int = found["error"]["code"]
    return code


def test_it_reads_as_a_node_writes(world: DemoWorld) -> None:
    site = world.site
    house = site.contracts.addresses["ClearingHouse"]
    assert int(ask(world, "eth_chainId")["result"], 16) == site.chain_id
    block = ask(world, "eth_getBlockByNumber", "latest", False)["result"]
    head = site.web3.eth.get_block("latest")
    assert int(block["number"], 16) == head["number"]
    assert int(block["timestamp"], 16) == head["timestamp"]
    call = {"to": house, "data": site.contracts.functions("ClearingHouse").headNumber().selector}
    number = ask(world, "eth_call", call, "latest")["result"]
    assert int(number, 16) == site.contracts.head_number()
    logs = ask(world, "eth_getLogs", {"address": house, "fromBlock": "0x0", "toBlock": "latest"})[
        "result"
    ]
    assert len(logs) >= site.contracts.head_number()
    assert all(isinstance(log["blockNumber"], str) for log in logs)
    transaction = ask(world, "eth_getTransactionByHash", logs[0]["transactionHash"])["result"]
    assert transaction["hash"] == logs[0]["transactionHash"]
    receipt = ask(world, "eth_getTransactionReceipt", logs[0]["transactionHash"])["result"]
    assert receipt["status"] == "0x1"


@pytest.mark.parametrize(
    "method",
    ["eth_accounts", "eth_sendTransaction", "personal_sign", "evm_increaseTime", "debug_traceCall"],
)
def test_methods_not_on_the_list(world: DemoWorld, method: str) -> None:
    assert refused(ask(world, method, {})) == -32601


def test_contracts_of_strangers(world: DemoWorld) -> None:
    house = world.site.contracts.addresses["ClearingHouse"]
    for method, params in (
        ("eth_call", [{"to": STRANGER, "data": "0x"}, "latest"]),
        ("eth_call", [{"data": "0x6000"}, "latest"]),
        ("eth_call", [{"to": house, "data": "0x"}, "latest", {house: {"code": "0x00"}}]),
        ("eth_call", [{"to": house, "data": "0x", "gas": "0xffffffff"}, "latest"]),
        ("eth_estimateGas", [{"to": STRANGER, "data": "0x"}]),
        ("eth_getLogs", [{"fromBlock": "0x0"}]),
        ("eth_getLogs", [{"address": [house, STRANGER]}]),
        ("eth_getLogs", [{"address": []}]),
        ("eth_sendRawTransaction", ["0x1234"]),
        ("eth_sendRawTransaction", [""]),
        ("eth_getBalance", [house, "latest", 1, 2, 3]),
    ):
        assert refused(ask(world, method, *params)) == -32602, (method, params)


@pytest.mark.parametrize(
    "kind", [{"gasPrice": 10**10}, {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}]
)
def test_transactions_to_strangers(world: DemoWorld, kind: dict[str, int]) -> None:
    key = world.wallet("member")
    given = {"to": STRANGER, "value": 1, "gas": 21_000, "nonce": 0, "chainId": world.site.chain_id}
    signed = Account.sign_transaction(given | kind, key.key)
    raw = "0x" + bytes(signed.raw_transaction).hex()
    assert refused(ask(world, "eth_sendRawTransaction", raw)) == -32602


def test_a_revert_carries_its_data(world: DemoWorld) -> None:
    vault = world.site.contracts
    call = vault.functions("Vault").withdrawNeverSettled(3, 1)
    data = call.build_transaction({"chainId": 1, "gas": 0, "gasPrice": 0, "nonce": 0})["data"]
    error = ask(world, "eth_call", {"to": vault.addresses["Vault"], "data": data}, "latest")[
        "error"
    ]
    assert (error["code"], error["message"]) == (3, "execution reverted")
    # HasFinalBatch()
    assert len(error["data"]) == 10


def test_what_a_real_node_refuses_is_answered_and_no_fault_of_the_site() -> None:
    key = account("stranger at the door")
    given = {"to": key.address, "value": 1, "gas": 21_000, "nonce": 0, "chainId": 31337}
    raw = bytes(Account.sign_transaction(given | {"gasPrice": 10**10}, key.key).raw_transaction)
    with running_anvil() as url:
        web3 = Web3(FailoverProvider([url], 31337))
        web3.provider.make_request(RPCEndpoint("anvil_setBalance"), [key.address, hex(10**18)])
        door = NodeDoor(web3, {"Vault": key.address})
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction"}
        for what in ("result", "error"):
            answer = door.reply(request | {"params": ["0x" + raw.hex()]})
            assert what in answer
    assert answer["error"]["code"] == -32000
    assert "nonce too low" in answer["error"]["message"]
    with pytest.raises(NodeUnreachable):
        door.reply(request | {"params": ["0x" + raw.hex()]})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("[]", -32600),
        ("[" + ",".join(["{}"] * 21) + "]", -32600),
        ("7", -32600),
        ('{"method": 7}', -32600),
        ('{"method": "eth_chainId", "params": {"a": 1}}', -32602),
    ],
)
def test_what_is_no_request(world: DemoWorld, body: str, code: int) -> None:
    answer = world.anybody().post("/rpc/demo", content=body)
    assert answer.status_code == 200
    assert refused(answer.json()) == code


def test_what_is_not_json(world: DemoWorld) -> None:
    answer = world.anybody().post("/rpc/demo", content="not json")
    # Refused at the gate, like every body that is not.
    assert (answer.status_code, answer.json()["code"]) == (422, "input.malformed")


def test_several_at_once(world: DemoWorld) -> None:
    bodies = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": "b", "method": "eth_accounts"},
    ]
    first, second = world.anybody().post("/rpc/demo", json=bodies).json()
    assert (first["id"], int(first["result"], 16)) == ("a", world.site.chain_id)
    assert (second["id"], refused(second)) == ("b", -32601)


def test_no_such_community(world: DemoWorld) -> None:
    browser: TestClient = world.anybody()
    assert browser.post("/rpc/other", json={}).status_code == 404
