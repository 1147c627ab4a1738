"""The call that made an event, found in its transaction; where a contract passed it on, behind other data, or only in a trace.

Whoever submits may choose the bytes: a coordinator that is a contract can be given data in which the call does not stand, or in
which another one stands before it. So nothing that was not sent to the contract directly is believed before it fits, and bytes
are read as Solidity reads them, which takes offsets and padding that no encoder makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from eth_utils.abi import function_abi_to_4byte_selector
from hexbytes import HexBytes
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from backend.domain.errors import NodeError

Arguments = dict[str, Any]
TRACE_METHOD = "debug_traceTransaction"
_WANTED = ("submitBatch", "submitCorrection", "answerDemand")
# A transaction has room for thousands of them; where so many are false, the trace tells.
_MOST_CANDIDATES = 64
_WORD = 32


class CallFinder:
    """Finds calls of one community's contracts.

    Args:
        web3: connection.
    """

    def __init__(self, web3: Web3) -> None:
        self._web3 = web3
        self._traces: dict[bytes, list[tuple[str, bytes]]] = {}

    def find(
        self, contract: Contract, transaction: bytes, fits: Callable[[Arguments], bool]
    ) -> Arguments:
        """The arguments, by Solidity name, of the call of a contract that made an event.

        Args:
            contract: whose function was called.
            transaction: hash of the event's transaction.
            fits: whether arguments are the ones that made the event; not asked where the transaction is the call itself.

        Returns:
            Empty if neither the transaction nor its trace shows a call that fits.
        """
        sent = self._web3.eth.get_transaction(HexBytes(transaction))
        data = bytes(sent["input"])
        functions = _functions(contract)
        if sent.get("to") == contract.address and data[:4] in functions:
            return _decoded(functions, data) or {}
        passed_on = (
            passed for to, passed in self._traced(transaction) if to == contract.address.lower()
        )
        for candidate in chain(islice(_inside(functions, data), _MOST_CANDIDATES), passed_on):
            arguments = _decoded(functions, candidate)
            if arguments is not None and _fits(fits, arguments):
                return arguments
        return {}

    def _traced(self, transaction: bytes) -> Iterator[tuple[str, bytes]]:
        """Receiver and data of every call within a transaction; nothing where the node has no traces."""
        if transaction not in self._traces:
            name = "0x" + bytes(transaction).hex()
            try:
                found = self._web3.manager.request_blocking(
                    RPCEndpoint(TRACE_METHOD), [name, {"tracer": "callTracer"}]
                )
                self._traces[transaction] = list(_frames(found))
            except (NodeError, Web3Exception, ValueError, TypeError, RuntimeError, AttributeError):
                return  # another time it may have one
        yield from self._traces[transaction]


def _fits(fits: Callable[[Arguments], bool], arguments: Arguments) -> bool:
    try:
        return fits(arguments)
    except (
        Exception
    ):  # made up by somebody who may choose every byte: whatever it breaks, it is not the call
        return False


def _functions(contract: Contract) -> dict[bytes, Sequence[Mapping[str, Any]]]:
    """Inputs of the functions that are looked for, by selector."""
    return {
        bytes(function_abi_to_4byte_selector(entry)): entry["inputs"]
        for entry in contract.abi
        if entry["type"] == "function" and entry["name"] in _WANTED
    }


def _inside(functions: Mapping[bytes, Any], data: bytes) -> Iterator[bytes]:
    for selector in functions:
        at = data.find(selector)
        while at >= 0:
            yield data[at:]
            at = data.find(selector, at + 1)


def _frames(root: Any) -> Iterator[tuple[str, bytes]]:
    pending = [root]
    while pending:
        frame = pending.pop()
        pending += frame.get("calls") or ()
        data = str(frame.get("input") or "0x")
        yield str(frame.get("to") or "").lower(), bytes.fromhex(data.removeprefix("0x"))


def _decoded(functions: Mapping[bytes, Any], data: bytes) -> Arguments | None:
    inputs = functions.get(data[:4])
    if inputs is None:
        return None
    try:
        return dict(_Calldata(data).named(inputs, 4))
    except ValueError:
        return None  # four bytes that look like it by chance


class _Calldata:
    """Reads arguments as contracts do: what lies behind the end is zero, offsets may lead backwards, padding is not looked at.

    Args:
        data: the call, selector first.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        # Many offsets may lead to the same bytes, over and over.
        self._left = 4 * len(data)

    def named(self, parts: Sequence[Mapping[str, Any]], base: int) -> Arguments:
        """A structure, or arguments, whose heads begin at a place."""
        names = (part["name"] for part in parts)
        return dict(zip(names, self._sequence(parts, base), strict=True))

    def _sequence(self, parts: Sequence[Mapping[str, Any]], base: int) -> Iterator[Any]:
        at = base
        for part in parts:
            if _is_dynamic(part):
                yield self._value(part, base + self._number(at))
                at += _WORD
            else:
                yield self._value(part, at)
                at += _head_bytes(part)

    def _value(self, part: Mapping[str, Any], at: int) -> Any:
        kind = part["type"]
        if kind.endswith("[]"):
            inner = {**part, "type": kind.removesuffix("[]")}
            return list(self._sequence([inner] * self._length(at), at + _WORD))
        if kind == "tuple":
            return self.named(part["components"], at)
        if kind == "bytes":
            return self._bytes(at + _WORD, self._length(at))
        word = self._bytes(at, _WORD)
        if kind.startswith("bytes"):
            return word[: int(kind.removeprefix("bytes"))]
        if kind == "address":
            return Web3.to_checksum_address(word[-20:])
        if kind == "bool":
            return any(word)
        return int.from_bytes(word, "big", signed=kind.startswith("int"))

    def _number(self, at: int) -> int:
        return int.from_bytes(self._bytes(at, _WORD), "big")

    def _length(self, at: int) -> int:
        length = self._number(at)
        if length > len(self._data):
            raise ValueError("longer than the call")
        return length

    def _bytes(self, at: int, count: int) -> bytes:
        self._left -= max(count, _WORD)
        if self._left < 0:
            raise ValueError("more than there can be")
        at %= 1 << 256
        return self._data[at : at + count].ljust(count, b"\0")


def _is_dynamic(part: Mapping[str, Any]) -> bool:
    if part["type"] == "tuple":
        return any(_is_dynamic(inner) for inner in part["components"])
    return bool(part["type"] == "bytes" or part["type"].endswith("[]"))


def _head_bytes(part: Mapping[str, Any]) -> int:
    """Bytes of a value of fixed size."""
    if part["type"] == "tuple":
        return sum(_head_bytes(inner) for inner in part["components"])
    return _WORD
