"""Each transaction once: the token's supply counts how often a mint was executed, whatever happened on the way."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.types import RPCEndpoint

from backend.chain.client import ChainClient, account_from_secret
from backend.chain.failover import FailoverProvider, shown
from backend.chain.networks import Network, block_at
from backend.chain.node_errors import node_error
from backend.chain.sender import Sender, SendState
from backend.domain.errors import (
    AlreadyKnown,
    ContractRefused,
    FeeTooLow,
    InsufficientFunds,
    MalformedInput,
    NodeError,
    NodeUnreachable,
    NonceTooLow,
    NotMined,
)
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from backend.structured_log import JsonLines
from contracts.artifact import artifact
from contracts.bindings import constructor
from tests.support.anvil import ask, free_port, mine, running_anvil
from tests.support.postgres import Cluster

ETHER = 10**18
_NUMBERS = count()


class Killed(BaseException):
    """What kill -9 looks like from inside."""


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Desk:
    """One key with gas, a token, and a database."""

    client: ChainClient
    network: Network
    key: LocalAccount
    token: Contract
    store: LedgerStore
    clock: Clock

    def sender(self, web3: Web3 | None = None, network: Network | None = None) -> Sender:
        """A process's worth of sender: it knows nothing but chain and database."""
        return Sender(
            web3 or self.client.web3,
            network or self.network,
            self.key,
            Outbox(self.store.engine),
            now=self.clock,
            sleep=self.clock.sleep,
        )

    def mint(self, tokens: int = 1) -> ContractFunction:
        return self.token.functions.mint(self.key.address, tokens)

    def minted(self) -> int:
        return int(self.token.functions.balanceOf(self.key.address).call())


def open_desk(
    client: ChainClient, network: Network, folder: Path, database: str | None = None
) -> Desk:
    number = next(_NUMBERS)
    key = account_from_secret(keccak(f"sender {number}".encode()))
    deployer = account_from_secret(keccak(f"deployer {number}".encode()))
    client.fund([key.address, deployer.address], ETHER)
    sent = client.send(constructor(client.web3, "TestToken", 6), deployer)
    token: Contract = client.web3.eth.contract(
        address=sent.contract_address, abi=artifact("TestToken")["abi"]
    )
    store = LedgerStore(database or f"sqlite:///{folder}/outbox.sqlite")
    return Desk(client, network, key, token, store, Clock())


@pytest.fixture(scope="module")
def anvil() -> Iterator[str]:
    with running_anvil() as url:
        yield url


@pytest.fixture(params=["eth-tester", "anvil"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """On both chains: the embedded one with SQLite, the node with PostgreSQL."""
    url = database = None
    if request.param == "anvil":
        url = request.getfixturevalue("anvil")
        cluster: Cluster = request.getfixturevalue("cluster")
        database = cluster.create(f"outbox{next(_NUMBERS)}")
    client = ChainClient.open(url)
    desk = open_desk(client, Network(request.param, client.chain_id, 0), tmp_path, database)
    yield desk
    desk.store.close()


@pytest.fixture
def slow(anvil: str, tmp_path: Path, database: str) -> Iterator[Desk]:
    """On anvil with blocks only when a test asks for one, final one block later; on both databases."""
    client = ChainClient.open(anvil)
    network = Network("anvil", client.chain_id, finality_depth=1, replace_after_seconds=60)
    desk = open_desk(client, network, tmp_path, database)
    ask(client.web3, "evm_setAutomine", False)
    yield desk
    ask(client.web3, "anvil_dropAllTransactions")
    ask(client.web3, "evm_setAutomine", True)
    desk.store.close()


def test_one_key_is_one_transaction(desk: Desk) -> None:
    for _ in range(3):
        sender = desk.sender()
        sender.submit("july", desk.mint())
        done = sender.wait("july", SendState.FINAL)
        assert done.succeeded
        assert done.gas_used > 21_000
    desk.sender().submit("august", desk.mint())
    assert desk.sender().push_all() == 0
    assert desk.minted() == 2


def test_a_call_that_would_revert_is_never_decided_on(desk: Desk) -> None:
    sender = desk.sender()
    call = desk.token.functions.transfer(desk.client.web3.eth.accounts[0], 5)
    with pytest.raises(ContractRefused, match="ERC20InsufficientBalance"):
        sender.submit("transfer", call)
    assert Outbox(desk.store.engine).intent("transfer") is None
    sender.submit("mint", desk.mint())
    assert sender.wait("mint").succeeded


class Watched:
    """Dies before or after the n-th thing that leaves a trace: a row in the outbox, a transaction at the node."""

    def __init__(self, fatal: int, after: bool) -> None:
        self.fatal, self.after, self.effects = fatal, after, 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            self.effects += 1
            if self.effects == self.fatal and not self.after:
                raise Killed
            answer = function(*arguments, **options)
            if self.effects == self.fatal:
                raise Killed
            return answer

        return run


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_point_neither_loses_nor_doubles(
    desk: Desk, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    eth = type(desk.client.web3.eth)
    for fatal in range(1, 30):
        watched = Watched(fatal, after)
        with monkeypatch.context() as patch:
            for owner, name in (
                (Outbox, "add_intent"),
                (Outbox, "add_attempt"),
                (Outbox, "add_outcome"),
                (eth, "send_raw_transaction"),
            ):
                patch.setattr(owner, name, watched.around(getattr(owner, name)))
            try:
                sender = desk.sender()
                sender.submit(f"mint {fatal}", desk.mint())
                sender.wait(f"mint {fatal}", SendState.FINAL)
                survived = True
            except Killed:
                survived = False
        # A new process: first what is open, then what is to be done, as the coordinator does.
        sender = desk.sender()
        sender.push_all()
        sender.submit(f"mint {fatal}", desk.mint())
        assert sender.wait(f"mint {fatal}", SendState.FINAL).succeeded
        assert desk.minted() == fatal
        if survived:
            assert watched.effects == 4
            return
    raise AssertionError("never ran through")


def test_a_process_killed_at_random_sends_each_transaction_once(anvil: str, tmp_path: Path) -> None:
    """kill -9 on a real process at random moments; the next one goes on from the database."""
    client = ChainClient.open(anvil)
    desk = open_desk(client, Network("anvil", client.chain_id, 1), tmp_path)
    dice = random.Random(7)
    program = [sys.executable, "-m", "tests.chain.sending", anvil]
    program += [
        f"sqlite:///{tmp_path}/outbox.sqlite",
        desk.token.address,
        bytes(desk.key.key).hex(),
    ]
    wanted, done = 18, 0
    # How many transactions each process lives to see mined, and how long it goes on after that; the last one may finish.
    lives = [(dice.randint(0, 5), dice.uniform(0, 0.06)) for _ in range(2)] + [(wanted, 0.0)]
    for mined, seconds in lives:
        process = subprocess.Popen(
            [*program, str(done), str(wanted - done)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(min(mined, wanted - done))]
        time.sleep(seconds)
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        # A line cut short by the kill counts as not written: the next process is told to do it again.
        whole = [int(line) for line in lines if line.endswith("\n")]
        done = whole[-1] + 1 if whole else done
    assert done == wanted
    assert desk.minted() == wanted
    desk.store.close()


def test_a_transaction_that_waits_is_replaced_by_a_dearer_one(slow: Desk) -> None:
    sender = slow.sender()
    sender.submit("mint", slow.mint())
    outbox = Outbox(slow.store.engine)
    for seconds in (30, 31, 61):
        slow.clock.sleep(seconds)
        assert sender.push("mint").state is SendState.PENDING
    attempts = outbox.attempts("mint")
    fees = [(int(a.max_fee_wei), int(a.priority_fee_wei)) for a in attempts]
    assert len(fees) == 3
    for (fee, tip), (dearer, higher) in pairwise(fees):
        assert dearer * 100 > fee * 115
        assert higher * 100 > tip * 115
    mine(slow.client.web3)
    done = sender.push("mint")
    assert done.state is SendState.MINED
    assert "0x" + done.transaction_hash.hex() == attempts[-1].transaction_hash
    mine(slow.client.web3)
    assert sender.push("mint").state is SendState.FINAL
    assert slow.minted() == 1


def test_the_fee_stops_at_the_limit(slow: Desk) -> None:
    limit = 5 * 10**9
    sender = slow.sender(network=replace(slow.network, fee_limit_wei=limit))
    sender.submit("mint", slow.mint())
    for _ in range(20):
        slow.clock.sleep(61)
        sender.push("mint")
    fees = [int(a.max_fee_wei) for a in Outbox(slow.store.engine).attempts("mint")]
    assert max(fees) <= limit
    with pytest.raises(NotMined):
        sender.wait("mint", timeout_seconds=30)
    mine(slow.client.web3)
    assert sender.push("mint").succeeded


def test_a_transaction_that_the_node_forgot_is_sent_again(slow: Desk) -> None:
    sender = slow.sender()
    sender.submit("mint", slow.mint())
    ask(slow.client.web3, "anvil_dropAllTransactions")
    mine(slow.client.web3)
    assert slow.minted() == 0
    sender.push("mint")
    mine(slow.client.web3)
    assert sender.push("mint").succeeded
    assert len(Outbox(slow.store.engine).attempts("mint")) == 1
    assert slow.minted() == 1


def test_a_transaction_that_the_chain_took_back_is_offered_again(slow: Desk) -> None:
    web3, sender = slow.client.web3, slow.sender()
    sender.submit("one", slow.mint())
    sender.submit("two", slow.mint(10))
    mine(web3)
    assert [sender.push(key).state for key in ("one", "two")] == [SendState.MINED] * 2
    ask(web3, "anvil_reorg", 1, [])
    ask(web3, "anvil_dropAllTransactions")
    assert slow.minted() == 0
    assert sender.push_all() == 2
    mine(web3, 2)
    assert sender.push_all() == 0
    assert slow.minted() == 11


def test_a_nonce_that_somebody_else_used_is_noticed(slow: Desk) -> None:
    web3, sender = slow.client.web3, slow.sender()
    nonce = web3.eth.get_transaction_count(slow.key.address)
    sender.submit("mint", slow.mint())
    ask(web3, "anvil_dropAllTransactions")
    foreign = slow.key.sign_transaction(
        {
            "to": slow.key.address,
            "value": 0,
            "gas": 21_000,
            "nonce": nonce,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**10,
            "chainId": slow.client.chain_id,
        }
    )
    web3.eth.send_raw_transaction(foreign.raw_transaction)
    mine(web3)
    assert sender.push("mint").state is SendState.PENDING, "it may still be taken back"
    mine(web3)
    with pytest.raises(NonceTooLow, match="somebody else"):
        sender.push("mint")
    assert slow.minted() == 0
    # Told once; it counts as failed, so that whoever decided on it can decide again.
    done = sender.push("mint")
    assert (done.state, done.succeeded) == (SendState.FINAL, False)
    assert "another transaction used its nonce" in sender.why_failed("mint", done.block_number)
    assert sender.push_all() == 0
    sender.submit("mint again", slow.mint())
    mine(web3, 2)
    assert sender.push("mint again").succeeded
    assert slow.minted() == 1


def test_a_transaction_that_reverts_in_its_block_says_why(slow: Desk) -> None:
    """Both transfers are possible when they are decided on, and one of them when they are mined."""
    web3, sender = slow.client.web3, slow.sender()
    sender.submit("mint", slow.mint(5))
    mine(web3, 2)
    transfer = slow.token.functions.transfer(web3.eth.accounts[0], 5)
    for key in ("first", "second"):
        sender.submit(key, transfer)
    mine(web3, 2)
    assert sender.push("first").succeeded
    done = sender.push("second")
    assert (done.state, done.succeeded) == (SendState.FINAL, False)
    refused = slow.sender().refusal("second", done.block_number)
    assert refused is not None and refused.error_name == "ERC20InsufficientBalance"
    told = slow.sender().why_failed("second", done.block_number)
    assert told == f"reverted in block {done.block_number}: {refused.message}"
    # Tokens again: the reason is still found, with what the block left behind; not once that is changed.
    sender.submit("more", slow.mint(5))
    mine(web3, 2)
    assert sender.refusal("second", done.block_number) is not None
    now = web3.eth.block_number
    assert sender.why_failed("second", now) == f"reverted in block {now}"


def test_logs_lead_from_the_intent_to_its_transaction(
    slow: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "peerwatt")
    sender = Sender(
        slow.client.web3,
        slow.network,
        slow.key,
        Outbox(slow.store.engine),
        now=slow.clock,
        about=lambda key: {"trace": f"trace of {key}"},
    )
    sender.submit("mint", slow.mint())
    mine(slow.client.web3)
    for _ in range(2):
        sender.push("mint")
    mine(slow.client.web3)
    done = sender.push("mint")
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    assert [line["event"] for line in lines] == [
        "transaction signed",
        "transaction mined",
        "transaction final",
    ]
    for line, record in zip(lines, caplog.records, strict=True):
        # What `start_logging` of the services takes.
        assert record.name.startswith("peerwatt.")
        assert line["transaction"] == "0x" + done.transaction_hash.hex()
        assert line["trace"] == "trace of mint"


def test_a_new_key_decides_anew_what_the_old_one_did_not_get_into_a_block(slow: Desk) -> None:
    web3, old = slow.client.web3, slow.sender()
    old.submit("mined", slow.mint())
    mine(web3)
    old.submit("lost", slow.mint())
    ask(web3, "anvil_dropAllTransactions")
    fresh = replace(slow, key=account_from_secret(keccak(b"fresh" + str(next(_NUMBERS)).encode())))
    ask(web3, "anvil_setBalance", fresh.key.address, hex(ETHER))
    new = fresh.sender()
    assert new.is_decided("mined")
    assert not new.is_decided("lost")
    assert new.push("mined").state is SendState.MINED
    new.submit("lost", fresh.mint())
    new.submit("lost", fresh.mint())
    assert new.push("lost").state is SendState.PENDING
    mine(web3, 2)
    assert new.push("lost").succeeded
    outcome = new.outcome("mined")
    assert new.push("mined").state is SendState.FINAL
    assert outcome is None and new.outcome("mined") is not None
    assert (slow.minted(), fresh.minted()) == (1, 1)
    assert new.push_all() == 0


def test_without_money_the_intent_stays_and_goes_on_when_there_is_some(desk: Desk) -> None:
    poor = replace(desk, key=account_from_secret(keccak(b"poor" + str(next(_NUMBERS)).encode())))
    call = desk.token.functions.mint(poor.key.address, 1)
    sender = poor.sender()
    # The one node says so when it estimates, the other when it is sent.
    with pytest.raises(InsufficientFunds):
        sender.submit("mint", call)
    desk.client.fund([poor.key.address], ETHER)
    sender.submit("mint", call)
    assert sender.wait("mint").succeeded
    assert poor.minted() == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("nonce too low: next nonce 5, tx nonce 4", NonceTooLow),  # Geth, Reth, anvil
        ("OldNonce", NonceTooLow),  # Nethermind
        ("Nonce too low", NonceTooLow),  # Besu
        ("already known", AlreadyKnown),  # Geth
        ("AlreadyKnown", AlreadyKnown),  # Nethermind
        ("Known transaction", AlreadyKnown),  # Besu
        ("transaction already imported", AlreadyKnown),  # anvil
        ("replacement transaction underpriced", FeeTooLow),  # Geth
        ("transaction underpriced: tip needed 1000000, tip permitted 1", FeeTooLow),
        ("max fee per gas less than block base fee", FeeTooLow),
        ("Gas price below configured minimum gas price", FeeTooLow),  # Besu
        ("insufficient funds for gas * price + value: balance 0", InsufficientFunds),
        ("Upfront cost exceeds account balance", InsufficientFunds),  # Besu
        ("the method is not available", NodeError),
    ],
)
def test_what_clients_say(text: str, kind: type[NodeError]) -> None:
    assert type(node_error(ValueError({"code": -32000, "message": text}))) is kind


# --- Several endpoints -------------------------------------------------------------------------------------------------


@contextmanager
def answering(answer: Callable[[dict[str, Any]], tuple[int, Any]]) -> Iterator[str]:
    """The URL of a server that answers requests with a status and a body, made from the request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, found = answer(asked)
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/secret-key"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def broken() -> Iterator[tuple[str, list[int]]]:
    """A server that answers every request with the status it is told (200: a page that is no JSON)."""
    statuses = [500]
    with answering(lambda asked: (statuses[-1], b"<html>sorry</html>")) as url:
        yield url, statuses


@dataclass
class Grudging:
    """An endpoint that says which chain it is of, and refuses everything in JSON-RPC.

    Attributes:
        error: what it says.
        chain_id: its chain; None where it refuses even that.
        asked: the methods it was asked for.
    """

    error: Any
    chain_id: int | None = 31337
    asked: list[str] = field(default_factory=list)

    def __call__(self, asked: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append(asked["method"])
        about = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] == "eth_chainId" and self.chain_id is not None:
            return 200, about | {"result": hex(self.chain_id)}
        return 200, about | {"error": self.error}


@pytest.mark.parametrize("status", [500, 429, 401, 200])
def test_another_endpoint_takes_over(
    anvil: str, tmp_path: Path, broken: tuple[str, list[int]], status: int
) -> None:
    url, statuses = broken
    statuses.append(status)
    desk = open_desk(ChainClient.open(anvil), Network("anvil", 31337, 0), tmp_path)
    dead = f"http://127.0.0.1:{free_port()}"
    sender = desk.sender(Web3(FailoverProvider([dead, url, anvil], 31337, timeout_seconds=5)))
    sender.submit("mint", desk.mint())
    assert sender.wait("mint", SendState.FINAL).succeeded
    assert desk.minted() == 1
    desk.store.close()


REFUSALS: list[Any] = [
    {"code": -32005, "message": "limit exceeded"},
    {"code": 429, "message": "not enough compute units"},
    {"code": -32603, "message": "internal error"},
    {"code": -32000, "message": "header not found"},
    {"code": -32000, "message": "missing trie node 0x12 (path )"},
    {"code": -32000, "message": "transaction indexing is in progress"},
    {"code": -32601, "message": "the method is not available"},
    "busy",
]


@pytest.mark.parametrize("says_its_chain", [True, False])
def test_another_endpoint_takes_over_from_one_that_refuses(
    anvil: str, tmp_path: Path, says_its_chain: bool
) -> None:
    """Whatever the coordinator asks: calls of contracts, blocks, counts, receipts, estimates, sending."""
    desk = open_desk(ChainClient.open(anvil), Network("anvil", 31337, 0), tmp_path)
    wanted = {"eth_call", "eth_estimateGas", "eth_getBlockByNumber", "eth_getTransactionCount"}
    wanted |= {"eth_getTransactionReceipt", "eth_sendRawTransaction"}
    for number, error in enumerate(REFUSALS, start=1):
        grudging = Grudging(error, 31337 if says_its_chain else None)
        with answering(grudging) as url:
            # Refused anew at each question: it never rests.
            web3 = Web3(FailoverProvider([url, anvil], 31337, rest_seconds=0))
            token = web3.eth.contract(address=desk.token.address, abi=desk.token.abi)
            sender = desk.sender(web3)
            sender.submit(f"mint {number}", token.functions.mint(desk.key.address, 1))
            assert sender.wait(f"mint {number}", SendState.FINAL).succeeded
            assert token.functions.balanceOf(desk.key.address).call() == number
        assert set(grudging.asked) >= (wanted if says_its_chain else {"eth_chainId"}), error
    desk.store.close()


@pytest.mark.parametrize("says_its_chain", [True, False])
def test_what_the_only_endpoint_refuses_is_an_error_of_the_node(says_its_chain: bool) -> None:
    """Not of the configuration, and not of web3."""
    grudging = Grudging(
        {"code": -32603, "message": "internal error"}, 5 if says_its_chain else None
    )
    with answering(grudging) as url:
        web3 = Web3(FailoverProvider([url], 5))
        for ask_for in (
            lambda: web3.eth.get_block("latest"),
            lambda: web3.eth.get_transaction_count(web3.to_checksum_address("0x" + "11" * 20)),
            lambda: web3.eth.get_transaction_receipt(HexBytes(bytes(32))),
            lambda: web3.eth.send_raw_transaction(HexBytes(b"1")),
        ):
            with pytest.raises(NodeError, match="internal error") as caught:
                ask_for()
            assert type(caught.value) is NodeError
            assert "secret" not in caught.value.message


def test_what_nobody_would_do_is_asked_of_one_endpoint_only(anvil: str, tmp_path: Path) -> None:
    """A revert, a refused transaction, a range of blocks that is too long."""
    desk = open_desk(ChainClient.open(anvil), Network("anvil", 31337, 0), tmp_path)
    grudging = Grudging({"code": -32602, "message": "range too long"})
    with answering(grudging) as url:
        first = Web3(FailoverProvider([anvil, url], 31337))
        sender = desk.sender(first)
        call = desk.token.functions.transfer(desk.client.web3.eth.accounts[0], 5)
        with pytest.raises(ContractRefused, match="ERC20InsufficientBalance"):
            sender.submit("transfer", call)
        sender.submit("mint", desk.mint())
        (attempt,) = Outbox(desk.store.engine).attempts("mint")
        with pytest.raises(NonceTooLow):
            first.eth.send_raw_transaction(HexBytes(attempt.raw))
        assert grudging.asked == []
        last = Web3(FailoverProvider([url, anvil], 31337))
        for said in ("range too long", "query returned more than 10000 results", "query timeout"):
            grudging.error = {"code": -32005, "message": said}
            with pytest.raises(NodeError, match=said):
                last.eth.get_logs({"fromBlock": 0, "toBlock": 1})
        # Somebody else may have them, where it is not the range that is refused; or is one block.
        assert last.eth.get_logs({"fromBlock": 1, "toBlock": 1}) == []
        grudging.error = {"code": -32005, "message": "limit exceeded"}
        assert last.eth.get_logs({"fromBlock": 0, "toBlock": 1}) == []
    desk.store.close()


def test_an_endpoint_rests_for_its_own_faults_only(anvil: str) -> None:
    for code, asked_again in ((-32603, False), (-32000, False), (-32601, True), (-32602, True)):
        grudging = Grudging({"code": code, "message": "no"})
        with answering(grudging) as url:
            web3 = Web3(FailoverProvider([url, anvil], 31337, clock=Clock()))
            for _ in range(2):
                assert web3.eth.get_block(0)["number"] == 0
            assert grudging.asked.count("eth_getBlockByNumber") == 1 + asked_again, code


def test_a_transaction_that_is_known_is_no_failure(slow: Desk, anvil: str) -> None:
    sender = slow.sender(Web3(FailoverProvider([anvil], 31337)))
    sender.submit("mint", slow.mint())
    for _ in range(2):
        assert sender.push("mint").state is SendState.PENDING
    mine(slow.client.web3, 2)
    assert sender.push("mint").succeeded


def test_a_node_without_a_block_is_behind(anvil: str) -> None:
    web3 = Web3(FailoverProvider([anvil], 31337))
    with pytest.raises(NodeError, match="no block 999999: it is behind"):
        block_at(web3, 999_999)


def test_an_endpoint_that_recovers_is_used_again(anvil: str) -> None:
    clock, port = Clock(), free_port()
    rich = account_from_secret(keccak(b"rich")).address
    provider = FailoverProvider([f"http://127.0.0.1:{port}", anvil], 31337, clock=clock)
    web3 = Web3(provider)
    assert web3.eth.chain_id == 31337
    with running_anvil(port=port) as first:
        # Only the first one knows of this money.
        ask(Web3(HTTPProvider(first)), "anvil_setBalance", rich, hex(12345))
        assert web3.eth.get_balance(rich) == 0
        clock.sleep(31)
        assert web3.eth.get_balance(rich) == 12345
    assert web3.eth.get_balance(rich) == 0


def test_all_endpoints_down_is_one_error_without_their_keys() -> None:
    urls = [f"http://127.0.0.1:{free_port()}/v2/secret", f"http://127.0.0.1:{free_port()}/key"]
    with pytest.raises(NodeUnreachable) as caught:
        Web3(FailoverProvider(urls, 1)).eth.get_block("latest")
    assert "secret" not in caught.value.message
    assert all(shown(url) in caught.value.message for url in urls)


def test_an_endpoint_of_another_chain_is_never_used(anvil: str) -> None:
    with pytest.raises(MalformedInput, match="chain 31337, not 1"):
        Web3(FailoverProvider([anvil], 1)).eth.get_block("latest")


def test_an_endpoint_of_another_chain_is_left_out(
    anvil: str, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = Grudging("nothing", 5)
    with answering(foreign) as url:
        web3 = Web3(FailoverProvider([url, anvil], 31337, rest_seconds=0))
        for _ in range(3):
            assert web3.eth.get_block(0)["number"] == 0
        assert set(foreign.asked) == {"eth_chainId"}
        assert [record.message for record in caplog.records] == [
            "endpoint of another chain left out"
        ]
        dead = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(NodeUnreachable, match="of another chain"):
            Web3(FailoverProvider([url, dead], 31337)).eth.get_block(0)
        with pytest.raises(MalformedInput, match="is of chain"):
            Web3(FailoverProvider([url, anvil], 6)).eth.get_block(0)


def test_what_a_node_signs_is_asked_of_one_node_only(
    anvil: str, broken: tuple[str, list[int]]
) -> None:
    url, _ = broken
    provider = FailoverProvider([url, anvil], 31337)
    provider._verified.add(url)
    with pytest.raises(NodeUnreachable):
        provider.make_request(RPCEndpoint("eth_sendTransaction"), [{}])
