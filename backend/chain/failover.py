"""Several JSON-RPC endpoints of one chain behind one provider: when one fails, the next is asked."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from requests.exceptions import RequestException
from web3.providers.base import JSONBaseProvider
from web3.providers.rpc import HTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from backend.domain.errors import MalformedInput, NodeError, NodeUnreachable, PeerwattError

from .node_errors import is_revert, node_error

_LOG = logging.getLogger("peerwatt.chain.failover")
# The node works, but not for us any more now; whatever words it finds for that.
_LIMIT_CODES = {-32005, 429}
# What was asked is at fault, or unknown to this endpoint; it works otherwise.
_QUESTION_CODES = {-32600, -32601, -32602}
# Only what is said of a transaction can mean that it has the wrong nonce, fee or funds.
_ABOUT_TRANSACTIONS = {"eth_sendRawTransaction", "eth_estimateGas", "eth_call"}
# What is said of a range of blocks that has too many of them, or of events in them.
_TOO_LONG = re.compile(
    r"range|results|blocks|logs|too (large|long|wide)|response size|time(d)?.?out", re.I
)
# The node signs and chooses the nonce: asking a second one could send twice.
_NOT_REPEATABLE = {"eth_sendTransaction", "personal_sendTransaction"}


class _EndpointRefused(Exception):
    """An endpoint answered that it does not do what it is asked; another one may.

    Args:
        message: its words.
        rests: whether it is left alone for a while.
    """

    def __init__(self, message: str, *, rests: bool) -> None:
        super().__init__(message)
        self.rests = rests


class FailoverProvider(JSONBaseProvider):
    """Asks the first endpoint that works; one that failed is left alone for a while.

    Args:
        urls: in order of preference.
        chain_id: an endpoint of another chain is never used.
        timeout_seconds: for one answer.
        rest_seconds: how long an endpoint that failed is not asked, unless all have failed.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        urls: Sequence[str],
        chain_id: int,
        *,
        timeout_seconds: float = 20,
        rest_seconds: float = 30,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if not urls:
            raise MalformedInput("rpc", urls, "no endpoint", "give at least one URL")
        self._endpoints = {
            # web3 would repeat by itself; the next endpoint is a better bet.
            url: HTTPProvider(
                url,
                request_kwargs={"timeout": timeout_seconds},
                exception_retry_configuration=None,
            )
            for url in urls
        }
        self._chain_id = chain_id
        self._verified: set[str] = set()
        self._foreign: set[str] = set()
        self._resting_until: dict[str, float] = dict.fromkeys(urls, 0.0)
        self._rest_seconds = rest_seconds
        self._clock = clock

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Asks one endpoint after the other, until one does what it is asked or says why nobody would: a revert.

        Raises:
            AlreadyKnown, FeeTooLow, InsufficientFunds, NonceTooLow: a transaction is refused.
            NodeUnreachable: none answers, or the one that was asked to sign did not.
            NodeError: none does what it is asked; or one finds a range of blocks too long.
            MalformedInput: all endpoints belong to another chain.
        """
        failures: dict[str, Exception] = {}
        now = self._clock()
        # Those that rest come last, the one that has rested longest first.
        order = sorted(self._endpoints, key=lambda url: max(self._resting_until[url] - now, 0))
        for url in order:
            asked = False
            try:
                self._verify(url)
                asked = True
                response = self._ask(url, method, params)
            except (RequestException, ValueError, _EndpointRefused) as failed:
                # A ValueError is an answer that is not JSON, a proxy's page, say; or an endpoint of another chain.
                failures[url] = failed
                if not isinstance(failed, _EndpointRefused) or failed.rests:
                    self._resting_until[url] = self._clock() + self._rest_seconds
                if asked and method in _NOT_REPEATABLE:
                    break
                continue
            self._resting_until[url] = 0.0
            return response
        raise _none_left(method, failures)

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Whether any endpoint answers."""
        try:
            self.make_request(RPCEndpoint("eth_chainId"), [])
        except NodeError:
            return False
        return True

    def _ask(self, url: str, method: RPCEndpoint, params: Any) -> RPCResponse:
        """What an endpoint answers.

        Raises:
            NodeError: a transaction is refused, or a range of blocks too long.
            RequestException, ValueError: it does not answer, or not in JSON-RPC.
            _EndpointRefused: it does not do what it is asked.
        """
        response: Any = self._endpoints[url].make_request(method, params)
        if not isinstance(response, dict):
            raise ValueError("no JSON-RPC answer")
        error = response.get("error")
        if error is not None:
            told = error if isinstance(error, dict) else {"message": error}
            if not is_revert(told):
                raise _refusal(method, params, told)
        return cast(RPCResponse, response)

    def _verify(self, url: str) -> None:
        """Raises MalformedInput if an endpoint belongs to another chain."""
        if url in self._verified:
            return
        answer = self._ask(url, RPCEndpoint("eth_chainId"), [])
        found = int(str(answer.get("result")), 16)
        if found != self._chain_id:
            if url not in self._foreign:
                self._foreign.add(url)
                extra = {"endpoint": shown(url), "chain": found, "wanted": self._chain_id}
                _LOG.warning("endpoint of another chain left out", extra=extra)
            raise MalformedInput(
                "rpc", shown(url), f"is of chain {found}, not {self._chain_id}", "correct the URL"
            )
        self._foreign.discard(url)
        self._verified.add(url)


def _refusal(method: RPCEndpoint, params: Any, error: dict[str, Any]) -> Exception:
    """What to raise for the `error` of an answer."""
    message = str(error.get("message"))
    if method == "eth_getLogs" and _is_range(params) and _TOO_LONG.search(message):
        # To be asked for in parts, and of this one: the next may be behind and not say so.
        return node_error(message)
    if method in _ABOUT_TRANSACTIONS and error.get("code") not in _LIMIT_CODES:
        meant = node_error(message)
        if type(meant) is not NodeError:
            return meant
    rests = error.get("code") not in _QUESTION_CODES
    return _EndpointRefused(" ".join(message.split())[:200], rests=rests)


def _is_range(params: Any) -> bool:
    asked = params[0]
    return "blockHash" not in asked and asked.get("fromBlock") != asked.get("toBlock")


def _none_left(method: RPCEndpoint, failures: dict[str, Exception]) -> PeerwattError:
    """What to raise when no endpoint did what it was asked."""
    foreign = [failed for failed in failures.values() if isinstance(failed, MalformedInput)]
    if len(foreign) == len(failures):
        return foreign[0]
    told = "; ".join(f"{shown(url)}: {_said(failed)}" for url, failed in failures.items())
    if any(isinstance(failed, _EndpointRefused) for failed in failures.values()):
        return NodeError(
            f"no Ethereum node does what it is asked ({method}): {told}",
            "wait until it has caught up, read its own log, or add one of another provider",
        )
    return NodeUnreachable(
        f"no Ethereum node answers: {told}",
        "start the node, correct the URLs, or add one of another provider",
    )


def _said(failed: Exception) -> str:
    if isinstance(failed, MalformedInput):
        return "of another chain"
    # The message of any other may show the URL with its key.
    return str(failed) if isinstance(failed, _EndpointRefused) else type(failed).__name__


def shown(url: str) -> str:
    """An endpoint without what may be a key in its path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
