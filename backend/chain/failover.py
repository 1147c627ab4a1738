"""Several JSON-RPC endpoints of one chain behind one provider: when one fails, the next is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from requests.exceptions import RequestException
from web3.providers.base import JSONBaseProvider
from web3.providers.rpc import HTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from backend.domain.errors import MalformedInput, NodeUnreachable

# "Limit exceeded": the node works, but not for us any more today.
_LIMIT_EXCEEDED = -32005
# The node signs and chooses the nonce: asking a second one could send twice.
_NOT_REPEATABLE = {"eth_sendTransaction", "personal_sendTransaction"}


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
        self._resting_until: dict[str, float] = dict.fromkeys(urls, 0.0)
        self._rest_seconds = rest_seconds
        self._clock = clock

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Asks one endpoint after the other.

        Raises:
            NodeUnreachable: none answers, or the one that was asked to sign did not.
            MalformedInput: an endpoint belongs to another chain.
        """
        failures = []
        now = self._clock()
        # Those that rest come last, the one that has rested longest first.
        order = sorted(self._endpoints, key=lambda url: max(self._resting_until[url] - now, 0))
        for url in order:
            try:
                self._verify(url)
                response = self._endpoints[url].make_request(method, params)
                error = response.get("error")
                if isinstance(error, dict) and error.get("code") == _LIMIT_EXCEEDED:
                    raise RequestException("its limit is exceeded")
            except (RequestException, ValueError) as failed:
                # A ValueError here is an answer that is not JSON: a proxy's page, say.
                if isinstance(failed, MalformedInput):
                    raise
                failures.append(f"{shown(url)}: {type(failed).__name__}")
                self._resting_until[url] = self._clock() + self._rest_seconds
                if method in _NOT_REPEATABLE:
                    break
                continue
            self._resting_until[url] = 0.0
            return response
        raise NodeUnreachable(
            f"no Ethereum node answers: {'; '.join(failures)}",
            "start the node, correct the URLs, or add one of another provider",
        )

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Whether any endpoint answers."""
        try:
            self.make_request(RPCEndpoint("eth_chainId"), [])
        except NodeUnreachable:
            return False
        return True

    def _verify(self, url: str) -> None:
        if url in self._verified:
            return
        answer = self._endpoints[url].make_request(RPCEndpoint("eth_chainId"), [])
        found = int(str(answer["result"]), 16) if "result" in answer else None
        if found != self._chain_id:
            raise MalformedInput(
                "rpc", shown(url), f"is of chain {found}, not {self._chain_id}", "correct the URL"
            )
        self._verified.add(url)


def shown(url: str) -> str:
    """An endpoint without what may be a key in its path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
