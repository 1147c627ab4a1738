"""What goes wrong, and when: everything follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests
from web3 import HTTPProvider
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from backend.domain.errors import NodeUnreachable


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing after it runs."""


@dataclass
class Faults:
    """Chances of each fault at each of its occasions, drawn once for a run, so that some runs are calm and some are wild.

    Attributes:
        active: nothing goes wrong while it is False.
        pause: called where another process may run in between.
    """

    seed: int
    active: bool = True
    pause: Callable[[], None] = lambda: None
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        wildness = self.random.choice((0.2, 1.0, 1.0, 3.0))

        def chance(most: float) -> float:
            return self.random.choice((0.0, 0.5, 1.0)) * most * wildness

        self.kill = chance(0.006)
        self.timeout = chance(0.02)
        self.answer_lost = chance(0.02)
        self.transaction_lost = chance(0.15)
        self.transaction_twice = chance(0.2)
        self.reorg = chance(0.08)
        self.signer_fails = chance(0.05)
        self.signer_down = chance(0.05)
        self.late_reading = chance(0.03)
        self.disk_full = chance(0.02)
        self.pauses = chance(0.01)
        self.outage = chance(0.02)
        self.demand = chance(0.05)
        self.commit_answer_lost = chance(0.04)
        self.clock_step = chance(0.1)
        self.broker_down = chance(0.05)
        self.connection_lost = chance(0.1)
        self.acknowledgement_lost = chance(0.05)

    def strikes(self, name: str, stream: random.Random | None = None) -> bool:
        """Whether a fault happens now."""
        struck = self.active and (stream or self.random).random() < getattr(self, name)
        if struck:
            self.told.append(name)
        return struck

    def point(self, where: str) -> None:
        """An occasion to be killed, or to be overtaken by the other process.

        Raises:
            Killed: it happened.
        """
        if self.strikes("kill"):
            self.told[-1] += f" {where}"
            raise Killed(where)
        if self.strikes("pauses"):
            self.pause()


class FaultyProvider(JSONBaseProvider):
    """A node that is reached over a bad line."""

    def __init__(self, url: str, faults: Callable[[], Faults]) -> None:
        super().__init__()
        session = requests.Session()
        session.trust_env = False  # no proxy for a node on this machine
        self._inner = HTTPProvider(url, session=session, exception_retry_configuration=None)
        self._faults = faults

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        faults = self._faults()
        faults.point(f"before {method}")
        if faults.strikes("timeout"):
            raise NodeUnreachable("simulated: not sent", "")
        if method == "eth_sendRawTransaction" and faults.strikes("transaction_lost"):
            # Accepted, and never seen again.
            response = self._inner.make_request(RPCEndpoint("eth_chainId"), [])
        else:
            response = self._inner.make_request(method, params)
            if method == "eth_sendRawTransaction" and faults.strikes("transaction_twice"):
                self._inner.make_request(method, params)
        faults.point(f"after {method}")
        if faults.strikes("answer_lost"):
            raise NodeUnreachable("simulated: answer lost", "")
        return response
