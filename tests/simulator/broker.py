"""What Mosquitto is between meters and signers: QoS 1, and for each signer a session that is kept while it is away.

A message comes at least once, those of a meter in their order, those of several meters in any. When a signer comes back, the
broker sends again what was not acknowledged, and the last message of each meter that publishes with the retain flag. When the broker is
down, meters keep what they have to say.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from oracle.signing import ADDRESS_BYTES
from tests.simulator.faults import Faults

Message = tuple[bytes, bytes]


@dataclass
class Session:
    """What the broker has for one signer.

    Attributes:
        connected: whether the signer is there.
        waiting: by meter its messages that are not acknowledged, oldest first.
        retained: by meter its last message.
    """

    connected: bool = True
    waiting: dict[bytes, deque[bytes]] = field(default_factory=dict)
    retained: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class Broker:
    """The broker of a run.

    Attributes:
        is_down: nobody reaches it.
    """

    seed: int
    faults: Callable[[], Faults]
    signers: int = 3
    is_down: bool = False

    def __post_init__(self) -> None:
        # Of its own, so that what the rest of a run draws does not change with the number of messages.
        self._random = random.Random(f"broker {self.seed}")
        self._retains = self._random.random() < 0.5
        self._sessions = [Session() for _ in range(self.signers)]
        self._kept_by_meters: deque[tuple[int, bytes]] = deque()

    def is_empty(self) -> bool:
        """Whether every message was acknowledged."""
        return not self._kept_by_meters and not any(
            any(session.waiting.values()) for session in self._sessions
        )

    def weather(self) -> None:
        """Whether it is there from now on."""
        self.is_down = self._strikes("broker_down")

    def publish(self, signer: int, data: bytes) -> None:
        """A meter has something to say to those whom `signer` stands for."""
        self._kept_by_meters.append((signer, data))

    def deliver(self, signer: int, take: Callable[[bytes], object]) -> None:
        """A signer that is up takes what there is for it; it acknowledges when that is stored."""
        self._hear_meters()
        session = self._sessions[signer]
        if self.is_down or self._strikes("connection_lost"):
            session.connected = False
            return
        again = [] if session.connected else list(session.retained.items())
        session.connected = True
        batch = self._any_order(session)
        if again or batch:
            take(b"".join(data for _, data in [*again, *batch]))
        if batch and self._strikes("acknowledgement_lost"):
            batch = batch[: self._random.randrange(len(batch))]
            session.connected = False
        for meter, _ in batch:
            session.waiting[meter].popleft()

    def leave(self, signer: int) -> None:
        """A signer goes down."""
        self._sessions[signer].connected = False

    def _hear_meters(self) -> None:
        while self._kept_by_meters and not self.is_down:
            signer, data = self._kept_by_meters.popleft()
            session, meter = self._sessions[signer], data[:ADDRESS_BYTES]
            # A meter that hears of no acknowledgement sends it again.
            times = 2 if self._strikes("acknowledgement_lost") else 1
            session.waiting.setdefault(meter, deque()).extend([data] * times)
            if self._retains:
                session.retained[meter] = data

    def _any_order(self, session: Session) -> list[Message]:
        """All that waits; each meter's in order."""
        order = [meter for meter, queue in sorted(session.waiting.items()) for _ in queue]
        self._random.shuffle(order)
        turns = {meter: iter(queue) for meter, queue in session.waiting.items()}
        return [(meter, next(turns[meter])) for meter in order]

    def _strikes(self, name: str) -> bool:
        return self.faults().strikes(name, self._random)
