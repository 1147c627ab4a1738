"""Nodes that an audit asks: bounded, impatient, written down; several can be asked the same and held against each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import requests
from web3 import Web3
from web3.middleware import Web3Middleware
from web3.providers import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from backend.domain.errors import (
    MalformedInput,
    NodeAnswerUnusable,
    NodesDisagree,
    NodeSilent,
    NodeUnreachable,
)

from .bundle_format import parse
from .calls import TRACE_METHOD

# Largest answer taken from a node: a year's logs of a large community have some ten MB.
ANSWER_LIMIT_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 1 << 20
# A node that is merely busy answers the second time.
_TRIES = 3
# Asked of the node one happens to talk to; another may rightly say something else.
_OF_ONE_NODE = {"eth_blockNumber", "web3_clientVersion", "eth_sendRawTransaction"}

Question = tuple[str, str]


def question_key(method: str, params: Any) -> Question:
    """A question as text, the same however its parameters are held."""
    return method, json.dumps(
        json.loads(Web3.to_json({"params": list(params)}))["params"], sort_keys=True
    )


class NodeProvider(BaseProvider):
    """JSON-RPC over HTTP with limits to time and size.

    Args:
        url: of the node.
        timeout_seconds: longest silence.
    """

    def __init__(self, url: str, timeout_seconds: float = 30) -> None:
        super().__init__()
        if not url.startswith(("http://", "https://")):
            raise MalformedInput(
                "rpc", url, "not an HTTP URL", "give a URL such as http://127.0.0.1:8545"
            )
        self.url, self.timeout_seconds = url, timeout_seconds
        self._session = requests.Session()
        self._number = 0

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Asks, up to three times.

        Raises:
            NodeUnreachable: nothing answers there.
            NodeSilent: no answer in time.
            NodeAnswerUnusable: an answer that is none.
        """
        self._number += 1
        body = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": list(params)}
        for _ in range(_TRIES - 1):
            try:
                return self._ask(body)
            except (NodeSilent, NodeUnreachable):
                continue
        return self._ask(body)

    def _ask(self, body: dict[str, Any]) -> RPCResponse:
        method = body["method"]
        try:
            with self._session.post(
                self.url, data=Web3.to_json(body), headers={"Content-Type": "application/json"},
                timeout=self.timeout_seconds, stream=True,
            ) as answer:  # fmt: skip
                data = bytearray()
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    data += chunk
                    if len(data) > ANSWER_LIMIT_BYTES:
                        raise NodeAnswerUnusable(
                            f"{self.url} answers {method} with more than {ANSWER_LIMIT_BYTES} bytes",
                            "ask another node",
                        )
        except requests.Timeout:
            raise NodeSilent(
                f"{self.url} gave no answer to {method} within {self.timeout_seconds} s",
                "ask another node, or give --timeout-seconds more",
            ) from None
        except requests.RequestException as error:
            raise NodeUnreachable(
                f"no Ethereum node answers at {self.url}: {type(error).__name__}",
                "start the node or correct the URL",
            ) from None
        try:
            reply = parse(bytes(data))
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or reply.get("id") != body["id"] or not (
            {"result", "error"} & reply.keys()
        ):  # fmt: skip
            raise NodeAnswerUnusable(
                f"{self.url} answers {method} with something that is no JSON-RPC answer to it",
                "check that the URL is a node's; ask another node",
            )
        return cast("RPCResponse", reply)


class ComparingProvider(BaseProvider):
    """Asks several nodes the same and takes an answer only if all give it.

    Args:
        nodes: the nodes; what only one of them can know is asked of the first.
    """

    def __init__(self, nodes: Sequence[NodeProvider]) -> None:
        super().__init__()
        self.nodes = nodes

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Asks all.

        Raises:
            NodesDisagree: two answers differ.
        """
        first, *others = self.nodes
        if method == TRACE_METHOD:
            return self._any_trace(params)
        answer = first.make_request(method, params)
        for other in () if method in _OF_ONE_NODE else others:
            if "error" in answer:
                break  # a node that refuses is no contradiction, and no answer either
            theirs = other.make_request(method, params)
            if "error" in theirs:
                return theirs
            if not same_answer(theirs, answer):
                raise NodesDisagree(
                    f"{first.url} and {other.url} answer {method} {_short(params)} differently",
                    "one of the two is wrong or behind: ask a third, or run your own",
                )
        return answer

    def _any_trace(self, params: Any) -> RPCResponse:
        """Of the first node that has one: nodes write them differently, and what is taken from it is held against the chain."""
        for node in self.nodes:
            answer = node.make_request(RPCEndpoint(TRACE_METHOD), params)
            if "error" not in answer:
                break
        return answer


def same_answer(one: Any, other: Any) -> bool:
    """Whether two nodes say the same."""
    return bool(_content(one) == _content(other))


def _content(answer: Any) -> Any:
    """What two nodes must agree about: the result, or that there is an error."""
    if "error" in answer:
        return "error"
    return _plain(answer.get("result"))


def _plain(value: Any) -> Any:
    """Without what nodes add of their own, and numbers however they are spelled."""
    if isinstance(value, dict):
        # Only these are signed for by the chain in every client alike.
        return {key: _plain(value[key]) for key in sorted(value) if key not in _DECORATION}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.lower() if isinstance(value, str) else value


_DECORATION = {"totalDifficulty", "size", "blockTimestamp", "removed", "yParity", "chainId", "v"}


def _short(params: Any) -> str:
    text = json.dumps(params, default=str)
    return text if len(text) <= 160 else text[:160] + "..."


class Recorder:
    """Writes down every question that was put to a chain, with its answer."""

    def __init__(self) -> None:
        self.answers: dict[Question, Any] = {}

    def attach(self, web3: Web3) -> None:
        """Listens from now on, next to the node."""
        recorder = self

        class Listening(Web3Middleware):
            def wrap_make_request(
                self, make_request: Callable[[RPCEndpoint, Any], Any]
            ) -> Callable[[RPCEndpoint, Any], Any]:
                def ask(method: RPCEndpoint, params: Any) -> Any:
                    response = make_request(method, params)
                    plain = json.loads(Web3.to_json(response))
                    kept = {name: plain[name] for name in ("result", "error") if name in plain}
                    recorder.answers[question_key(method, params)] = kept
                    return response

                return ask

        web3.middleware_onion.inject(Listening, "audit recorder", layer=0)


def open_nodes(urls: Sequence[str], timeout_seconds: float = 30) -> Web3:
    """A chain by the URLs of one or several nodes.

    Raises:
        MalformedInput: not an HTTP URL.
        NodeUnreachable: one does not answer.
        NodesDisagree: they are of different chains.
    """
    nodes = [NodeProvider(url, timeout_seconds) for url in urls]
    web3 = Web3(nodes[0] if len(nodes) == 1 else ComparingProvider(nodes))
    # It asks for the chain's number before every call; here the answers are checked against each other.
    web3.middleware_onion.remove("validation")
    _ = web3.eth.chain_id
    return web3
