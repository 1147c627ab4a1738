"""The contracts executed on a node in memory (anvil), where thousands of calls are tried and undone in a minute."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import requests
from eth_abi.abi import decode, encode
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector

from contracts.artifact import artifact

ANVIL = Path(__file__).parents[2] / "contracts" / "node_modules" / ".bin" / "anvil"
_GAS = hex(16_000_000)


@contextmanager
def running_node() -> Iterator[str]:
    """The URL of a fresh node that signs for whomever it is told to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(ANVIL), "--port", str(port), "--silent", "--auto-impersonate"]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.post(
                    url, json={"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}, timeout=5
                )
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@cache
def function_abi(contract: str, name: str) -> dict[str, Any]:
    """A function's ABI entry."""
    found: dict[str, Any] = next(
        entry
        for entry in artifact(contract)["abi"]
        if entry["type"] == "function" and entry["name"] == name
    )
    return found


@cache
def _encoder(contract: str, name: str) -> tuple[bytes, list[str], list[str]]:
    entry = function_abi(contract, name)
    inputs = [collapse_if_tuple(part) for part in entry["inputs"]]
    outputs = [collapse_if_tuple(part) for part in entry["outputs"]]
    return bytes(function_abi_to_4byte_selector(entry)), inputs, outputs


def calldata(contract: str, name: str, arguments: Sequence[Any]) -> bytes:
    """A call as bytes."""
    selector, inputs, _ = _encoder(contract, name)
    return selector + encode(inputs, list(arguments))


@dataclass(frozen=True)
class Outcome:
    """What a call came to: its return data, or the data of its revert."""

    succeeded: bool
    output: bytes

    @property
    def error(self) -> str:
        """The name of the custom error that it reverted with."""
        return _error_names().get(self.output[:4], "0x" + self.output[:4].hex())


@cache
def _error_names() -> dict[bytes, str]:
    return {
        bytes(function_abi_to_4byte_selector({**entry, "type": "function"})): entry["name"]
        for name in ("ClearingHouse", "Challenges", "ReadingOracle", "Vault", "AccessManager")
        for entry in artifact(name)["abi"]
        if entry["type"] == "error"
    }


class Court:
    """A node's newest state, on which calls are tried and undone.

    Args:
        url: of the node.
        addresses: of the contracts by name.
    """

    def __init__(self, url: str, addresses: dict[str, str]) -> None:
        self.url, self.addresses = url, addresses
        self._session = requests.Session()

    def ask(self, method: str, *params: Any) -> Any:
        """One JSON-RPC request; its error, if it has one, is raised as it came."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = self._session.post(self.url, json=body, timeout=60).json()
        if "error" in reply:
            raise RefusedByNode(reply["error"])
        return reply["result"]

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Whatever happens inside the block has not happened after it."""
        snapshot = self.ask("evm_snapshot")
        try:
            yield
        finally:
            assert self.ask("evm_revert", snapshot)

    def advance(self, seconds: int) -> None:
        """Lets time pass."""
        self.ask("evm_increaseTime", seconds)
        self.ask("evm_mine")

    def call(
        self, contract: str, name: str, arguments: Sequence[Any], sender: str, value_wei: int = 0
    ) -> Outcome:
        """Executes a call; nothing of it stays."""
        return self.attempt(contract, calldata(contract, name, arguments), sender, value_wei)

    def attempt(self, contract: str, data: bytes, sender: str, value_wei: int = 0) -> Outcome:
        """Executes a call that is bytes already; nothing of it stays."""
        try:
            output = self.ask("eth_call", self._given(contract, data, sender, value_wei), "latest")
        except RefusedByNode as refused:
            return Outcome(False, refused.data)
        return Outcome(True, bytes.fromhex(output[2:]))

    def commit(self, contract: str, data: bytes, sender: str, value_wei: int = 0) -> dict[str, Any]:
        """Executes a call that stays; returns its receipt."""
        sent = self.ask("eth_sendTransaction", self._given(contract, data, sender, value_wei))
        receipt: dict[str, Any] | None = None
        while receipt is None:
            receipt = self.ask("eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1"
        return receipt

    def read(self, contract: str, name: str, *arguments: Any) -> Any:
        """What a view returns."""
        outcome = self.call(contract, name, arguments, "0x" + "01" * 20)
        assert outcome.succeeded, outcome.error
        values = decode(_encoder(contract, name)[2], outcome.output)
        return values[0] if len(values) == 1 else values

    def _given(self, contract: str, data: bytes, sender: str, value_wei: int) -> dict[str, str]:
        return {
            "from": sender,
            "to": self.addresses[contract],
            "data": "0x" + data.hex(),
            "value": hex(value_wei),
            "gas": _GAS,
        }


class RefusedByNode(Exception):
    """A JSON-RPC error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message", ""))
        data = error.get("data")
        if not isinstance(
            data, str
        ):  # not a revert: the request itself is at fault, unless gas ran out
            if "revert" not in str(error) and "gas" not in str(error).lower():
                raise AssertionError(error)
            data = "0x"
        self.data = bytes.fromhex(data[2:])
