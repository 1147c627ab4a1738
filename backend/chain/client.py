"""A chain to work on: the embedded eth-tester one or any JSON-RPC node, behind one small class.

The embedded chain lives in this process. What happened on it is written down as the transactions that made it
(`ChainClient.journal`), so that another process can execute them again from the same genesis and audit a chain nobody
had to keep running.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.exceptions import ContractLogicError, Web3Exception
from web3.types import Nonce, TxParams, TxReceipt, Wei

from backend.domain.errors import ContractRefused, MalformedInput, NodeUnreachable
from contracts.bindings import decode_revert

# eth-tester's block gas limit is 30 million; estimating there executes a transaction twenty times over.
_EMBEDDED_GAS_LIMIT = 16_777_216
_EMBEDDED_FEE_WEI = Wei(2 * 10**9)
_RECEIPT_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Sent:
    """A mined transaction."""

    transaction_hash: bytes
    gas_used: int
    block_number: int
    contract_address: str | None


def open_node(url: str) -> Web3:
    """A node by URL.

    Raises:
        MalformedInput: not an http(s) URL.
        NodeUnreachable: no answer.
    """
    if not url.startswith(("http://", "https://")):
        raise MalformedInput(
            "chain", url, "not an HTTP URL", "give a URL such as http://127.0.0.1:8545"
        )
    web3 = Web3(Web3.HTTPProvider(url, request_kwargs={"timeout": 30}))
    try:
        _ = web3.eth.chain_id
    except (RequestException, Web3Exception, ValueError) as error:
        raise NodeUnreachable(
            f"no Ethereum node answers at {url}: {type(error).__name__}",
            "start the node or correct the URL",
        ) from error
    return web3


class ChainClient:
    """Sends transactions, waits for them, and turns reverts into errors of ours.

    Args:
        web3: connection.
        embedded: whether it is the in-process chain.
    """

    def __init__(self, web3: Web3, *, embedded: bool) -> None:
        self.web3 = web3
        self.embedded = embedded
        self.chain_id = web3.eth.chain_id
        self.journal: list[dict[str, Any]] = []
        # Whether the embedded chain's journal has the times of its blocks: only where contracts look at the clock between two steps,
        # because with times no two runs write the same bytes.
        self.journal_has_times = False
        # Everything mined through this client, reverted transactions included.
        self.gas_used = 0
        self.transactions = 0
        self._nonces: dict[str, int] = {}

    @classmethod
    def open(cls, url: str | None) -> ChainClient:
        """The node at `url`, or a fresh embedded chain for None."""
        if url:
            return cls(open_node(url), embedded=False)
        # Here, because whoever has a node need not wait until an EVM is loaded.
        from .embedded import open_embedded

        return cls(open_embedded(), embedded=True)

    def unlocked_account(self) -> ChecksumAddress:
        """An account the node itself signs for, to fund others from.

        Raises:
            MalformedInput: the node has none.
        """
        accounts = self.web3.eth.accounts
        if not accounts:
            raise MalformedInput(
                "chain",
                str(self.web3.provider),
                "the node has no unlocked account to fund the demonstration's keys",
                "use a development node such as anvil",
            )
        return accounts[0]

    def fund(self, addresses: Iterable[str], amount_wei: int) -> None:
        """Gives each address gas money from the node's unlocked account."""
        source = self.unlocked_account()
        hashes = []
        for address in addresses:
            hashes.append(
                self.web3.eth.send_transaction(
                    {
                        "from": source,
                        "to": Web3.to_checksum_address(address),
                        "value": Wei(amount_wei),
                    }
                )
            )
            self._note({"kind": "fund", "to": address, "value_wei": amount_wei})
        for transaction_hash in hashes:
            self._receipt(transaction_hash)

    def send(
        self, call: ContractFunction | ContractConstructor, key: LocalAccount, value_wei: int = 0
    ) -> Sent:
        """Signs, sends and waits.

        Args:
            call: a contract function with its arguments, or a deployment.
            key: who signs and pays.
            value_wei: what goes along.

        Raises:
            ContractRefused: the call reverts; nothing was changed on chain.
        """
        transaction: TxParams = {
            "from": key.address,
            "nonce": Nonce(self._next_nonce(key.address)),
            "value": Wei(value_wei),
            "chainId": self.chain_id,
        }
        if self.embedded:
            transaction["gas"] = _EMBEDDED_GAS_LIMIT
            transaction["maxFeePerGas"] = _EMBEDDED_FEE_WEI
            transaction["maxPriorityFeePerGas"] = Wei(10**9)
        try:
            built = call.build_transaction(transaction)
        except ContractLogicError as error:  # the node's gas estimate runs into the revert
            raise decode_revert(revert_data(error)) from None
        return self._send_built(built, key)

    def refusal(
        self, call: ContractFunction, key: LocalAccount, value_wei: int = 0
    ) -> ContractRefused | None:
        """Sends a call that ought to be refused; returns the contract's reason, or None if it was accepted."""
        try:
            self.send(call, key, value_wei)
        except ContractRefused as refused:
            return refused
        return None

    def advance(self, seconds: int) -> None:
        """Lets chain time pass: at once on development chains, by waiting elsewhere."""
        if self.embedded:
            target = self.web3.eth.get_block("latest")["timestamp"] + seconds
            from .embedded import embedded_tester

            embedded_tester(self.web3).time_travel(target)
            self._note({"kind": "advance", "seconds": seconds})
            return
        response = self.web3.provider.make_request("evm_increaseTime", [seconds])  # type: ignore[arg-type]
        if "error" in response:
            time.sleep(seconds)
        else:
            self.web3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]

    @property
    def can_travel(self) -> bool:
        """Whether `advance` takes no time (a development chain)."""
        if self.embedded:
            return True
        return "error" not in self.web3.provider.make_request("evm_increaseTime", [0])  # type: ignore[arg-type]

    def balance_wei(self, address: str) -> int:
        """Native coins of an address."""
        return self.web3.eth.get_balance(Web3.to_checksum_address(address))

    def _send_built(self, built: TxParams, key: LocalAccount) -> Sent:
        raw = key.sign_transaction(built).raw_transaction  # type: ignore[arg-type]  # eth-account has a type of its own for these fields
        receipt = self._receipt(self.web3.eth.send_raw_transaction(raw))
        self._note({"kind": "raw", "transaction": "0x" + bytes(raw).hex()})
        self._nonces[key.address] += 1
        self.gas_used += receipt["gasUsed"]
        self.transactions += 1
        if receipt["status"] != 1:
            raise self._reason(built, receipt)
        return Sent(
            transaction_hash=bytes(receipt["transactionHash"]),
            gas_used=receipt["gasUsed"],
            block_number=receipt["blockNumber"],
            contract_address=receipt["contractAddress"],
        )

    def _note(self, entry: dict[str, Any]) -> None:
        """Writes down what was done, and when if contracts look at that."""
        if self.embedded and self.journal_has_times:
            entry["timestamp"] = self.web3.eth.get_block("latest")["timestamp"]
        self.journal.append(entry)

    def _next_nonce(self, address: ChecksumAddress) -> int:
        if address not in self._nonces:
            self._nonces[address] = self.web3.eth.get_transaction_count(address)
        return self._nonces[address]

    def _receipt(self, transaction_hash: HexBytes) -> TxReceipt:
        return self.web3.eth.wait_for_transaction_receipt(
            transaction_hash, timeout=_RECEIPT_TIMEOUT_SECONDS, poll_latency=0.02
        )

    def _reason(self, built: TxParams, receipt: TxReceipt) -> ContractRefused:
        """Why a mined transaction reverted: the same call once more, without sending it."""
        repeat: TxParams = {
            "from": built["from"],
            "to": built["to"],
            "data": built["data"],
            "value": built["value"],
            "gas": built["gas"],
        }
        from eth_tester.exceptions import TransactionFailed

        try:
            self.web3.eth.call(repeat, receipt["blockNumber"])
        except (ContractLogicError, TransactionFailed) as error:
            return decode_revert(revert_data(error))
        return decode_revert(b"")


def revert_data(error: BaseException) -> bytes:
    """The data of a revert, wherever the provider put it; empty if it gave none."""
    text = str(error).removeprefix("execution reverted: ")
    if text.startswith(("b'", 'b"')):  # eth-tester prints the bytes into its message
        found = ast.literal_eval(text)
        return found if isinstance(found, bytes) else b""
    data: Any = getattr(error, "data", None)
    if isinstance(data, dict):
        data = data.get("data", "0x")
    if isinstance(data, str):
        data = data.removeprefix("Reverted ")  # so Nethermind
        if data.startswith("0x"):
            return bytes.fromhex(data[2:])
    return b""


def replay(journal: Iterable[dict[str, Any]]) -> Web3:
    """Executes a journal on a fresh embedded chain: every transaction again, by the EVM's own rules, at its time.

    Raises:
        MalformedInput: an entry of unknown kind, or not later than the one before.
    """
    from .embedded import embedded_tester

    client = ChainClient.open(None)
    tester = embedded_tester(client.web3)
    for number, entry in enumerate(journal):
        time_of_block = entry.get("timestamp") if isinstance(entry, dict) else None
        if time_of_block is not None:
            before = client.web3.eth.get_block("latest")["timestamp"]
            if type(time_of_block) is not int or not before < time_of_block < 1 << 64:
                raise MalformedInput(
                    f"journal[{number}].timestamp",
                    time_of_block,
                    f"not later than {before}, the entry before",
                    "use the file the demonstration wrote",
                )
            tester.backend.chain.set_header_timestamp(time_of_block)
        match entry:
            case {"kind": "fund", "to": str(address), "value_wei": int(value)}:
                client.fund([address], value)
            case {"kind": "raw", "transaction": str(raw)}:
                client.web3.eth.send_raw_transaction(HexBytes(raw))
            case {"kind": "advance"} if time_of_block is not None:
                tester.mine_block()
            case {"kind": "advance", "seconds": int(seconds)}:
                client.advance(seconds)
            case _:
                raise MalformedInput(
                    f"journal[{number}]",
                    entry,
                    "unknown entry",
                    "use the file the demonstration wrote",
                )
    return client.web3


def account_from_secret(secret: bytes) -> LocalAccount:
    """A key that signs transactions."""
    account: LocalAccount = Account.from_key(secret)
    return account
