"""Carries messages between agents, board and an MQTT broker; keeps the clock that agents and board do not have.

Topics: `peerwatt/SESSION/to/NAME` for one, `peerwatt/SESSION/all` for everybody. Quality of service 1: the broker delivers at least once, and
what comes twice is recognised by what it says.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from backend.domain.errors import BrokerUnreachable

from .agent import NegotiatingAgent
from .board import Board, EpochCheck

_CONNECT_SECONDS = 20.0
# Processes take longer to start than to answer: so many times the patience until the first epoch begins without who is missing.
_GATHERING = 10


class Wire:
    """A connection to the broker.

    Args:
        broker: host and port.
        session: which negotiation.
        name: `board`, or the agent's.

    Raises:
        BrokerUnreachable: nothing answers there.
    """

    def __init__(self, broker: tuple[str, int], session: str, name: str) -> None:
        # Not at the top: only who negotiates over a broker waits for it to load.
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._prefix = f"peerwatt/{session}"
        self.inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._client = Client(CallbackAPIVersion.VERSION2)

        def on_connect(client: Any, *_: Any) -> None:
            # Again after every reconnection.
            client.subscribe([(f"{self._prefix}/to/{name}", 1), (f"{self._prefix}/all", 1)])

        def on_message(_client: Any, _data: Any, message: Any) -> None:
            self.inbox.put(message.payload)

        self._client.on_connect = on_connect
        self._client.on_message = on_message
        self._client.on_subscribe = lambda *_: ready.put(True)
        try:
            self._client.connect(*broker)
            self._client.loop_start()
            ready.get(timeout=_CONNECT_SECONDS)
        except (OSError, queue.Empty):
            self._client.loop_stop()
            raise BrokerUnreachable(
                f"no MQTT broker answers at {broker[0]}:{broker[1]}",
                "start one (mosquitto -p PORT), or correct the address",
            ) from None

    def send(self, to: str | None, payload: bytes) -> None:
        """Publishes to one, or to everybody."""
        self._client.publish(f"{self._prefix}/{'all' if to is None else f'to/{to}'}", payload, 1)

    def next(self, seconds: float) -> bytes | None:
        """The next message, if one comes in time."""
        try:
            return self.inbox.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def close(self) -> None:
        """Ends the connection when everything is sent."""
        self._client.disconnect()
        self._client.loop_stop()


def run_agent(agent: NegotiatingAgent, wire: Wire, *, patience: float, seconds: float) -> None:
    """Runs an agent until the board says that it is over, or for so many seconds.

    Args:
        agent: says hello first, and again while nothing happens.
        wire: to the broker.
        patience: seconds that it waits for anything before it goes on without.
        seconds: at most.
    """
    end = time.monotonic() + seconds
    agent.hello()
    while agent.done is None and time.monotonic() < end:
        for to, message in agent.outbox:
            wire.send(to, message.payload())
        agent.outbox.clear()
        payload = wire.next(patience)
        if payload is not None:
            agent.handle(payload)
        elif agent.present:
            agent.lose_patience()
        else:
            agent.hello()


def run_board(
    board: Board,
    wire: Wire,
    *,
    patience: float,
    seconds: float,
    progress: Callable[[EpochCheck], None] = lambda _: None,
) -> None:
    """Runs the board until it has an outcome.

    Args:
        board: to run.
        wire: to the broker.
        patience: seconds that it waits for a step before it goes on without who is missing.
        seconds: after which the outcome is stated as it is.
        progress: told each epoch's certificate.
    """
    end = time.monotonic() + seconds
    stage, since, told = board.stage, time.monotonic(), 0
    while True:
        for message in board.outbox:
            wire.send(None, message.payload())
        board.outbox.clear()
        for check in board.checks[told:]:
            progress(check)
        told = len(board.checks)
        if board.outcome:
            return
        if time.monotonic() > end:
            board.give_up(f"no agreement within {seconds:g} seconds")
            continue
        payload = wire.next(min(0.2, patience))
        if payload is not None:
            board.handle(payload)
        if board.stage != stage:
            stage, since = board.stage, time.monotonic()
        elif time.monotonic() - since > patience * (_GATHERING if stage[0] < 0 else 1):
            board.lose_patience()
            since = time.monotonic()
