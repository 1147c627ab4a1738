"""An Ethereum node by plain JSON-RPC: all that a signer needs of it is its URL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backend.domain.errors import InputError, NodeUnreachable
from backend.domain.values import parse_json

from .bounded_http import ExchangeFailed, fetch

BLOCKS_AT_ONCE = 10_000
_TIMEOUT_SECONDS = 20
_RESPONSE_LIMIT_BYTES = 256 * 1024 * 1024


class CallRefused(NodeUnreachable):
    """The node answers with an error; a smaller question may do."""


@dataclass(frozen=True, slots=True)
class EthereumNode:
    """A node.

    Args:
        url: where.
        token: for it, if it needs one.
        purpose: what it is asked for, as in "meter registry".
        remedy: what to do when it does not answer.
    """

    url: str
    token: str | None
    purpose: str
    remedy: str

    def call(self, method: str, *params: object) -> Any:
        """The result of a call.

        Raises:
            CallRefused: an error instead.
            NodeUnreachable: no answer, or none that makes sense.
        """
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            # The URL may hold a provider's key, so it is in no message.
            answer = fetch(
                "POST",
                self.url,
                headers,
                json.dumps(body).encode(),
                timeout_seconds=_TIMEOUT_SECONDS,
                limit_bytes=_RESPONSE_LIMIT_BYTES,
            )
            data = parse_json(answer.body, "answer")
        except (ExchangeFailed, InputError) as error:
            said = str(error) if isinstance(error, ExchangeFailed) else "answers no JSON"
            raise self.nonsense(said) from None
        if not isinstance(data, dict) or "result" not in data:
            fault = data.get("error") if isinstance(data, dict) else None
            code = fault.get("code") if isinstance(fault, dict) else None
            raise CallRefused(
                f"the node with the {self.purpose} refuses {method} (code {code})", self.remedy
            )
        return data["result"]

    def number(self, value: object) -> int:
        """A quantity in hexadecimal.

        Raises:
            NodeUnreachable: it is none.
        """
        try:
            return int(str(value), 16)
        except ValueError:
            raise self.nonsense("answers no number") from None

    def logs(self, contract: str, topics: Sequence[str], first: int, last: int) -> Iterator[Any]:
        """A contract's events of some kinds, from block to block, as the node gives them.

        Raises:
            NodeUnreachable: no list of events.
        """
        step = BLOCKS_AT_ONCE
        while first <= last:
            until = min(last, first + step - 1)
            query = {
                "address": contract,
                "fromBlock": hex(first),
                "toBlock": hex(until),
                "topics": [list(topics)],
            }
            try:
                entries = self.call("eth_getLogs", query)
            except CallRefused:
                # Providers limit how many blocks, or events, may be asked for at once.
                if step == 1:
                    raise
                step = max(1, step // 4)
                continue
            if not isinstance(entries, list):
                raise self.nonsense("answers no list of events")
            yield from entries
            first = until + 1

    def nonsense(self, said: str) -> NodeUnreachable:
        """The error that says what the node did."""
        return NodeUnreachable(f"the node with the {self.purpose} {said}", self.remedy)
