"""Signers exchange what they have: readings and retractions that one of them lacks are passed on from the others.

Whoever passes them on needs no trust, and trusts nobody: each signer's answers are checked name by name and signature by
signature, and nothing goes on that is not whole. What a signer shows goes to the others in messages of its own, below their
limit, so that no signer can spoil what another has to say. All take turns, so that one which names a million meters delays the
others by at most its share; who takes too long for its turns gets no more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from eth_utils.address import to_checksum_address

from backend.domain.errors import ReadingRejected

from .peers import SignerClient, SignerFailed
from .signing import SIGNATURE_BYTES, recover_address, retraction_digest
from .wire import HASH_BYTES, RECORD_BYTES, recover_signers

_ASKED_METERS = 500
# Records of one answer; two periods of a meter, its contradictions too, are a few hundred.
_METER_RECORDS = 1000
_SENT_RECORDS = 50_000
_RETRACTION_LIMIT = 10_000
_METER = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NOBODY = bytes(20)


class AskAll(Protocol):
    """Asks signers at the same time; who fails is noted and left out."""

    def __call__(
        self, ask: Callable[[SignerClient], Any], clients: Sequence[SignerClient] | None = None
    ) -> dict[SignerClient, Any]:
        """By signer, what `ask` gave; of all signers without `clients`."""


class Retraction(NamedTuple):
    """A reading taken back."""

    meter: bytes
    reading_hash: bytes
    signature: bytes

    def body(self) -> dict[str, str]:
        """As `POST /retractions` takes it."""
        return {name: "0x" + value.hex() for name, value in self._asdict().items()}


@dataclass(slots=True)
class Exchange:
    """One exchange.

    Args:
        ask_all: how signers are asked.
        domain: EIP-712 domain separator.
        failures: by URL, where it is noted what went wrong.
        patience_seconds: how long all answers of a signer may take together.
    """

    ask_all: AskAll
    domain: bytes
    failures: dict[str, str]
    patience_seconds: float
    _spent_seconds: dict[SignerClient, float] = field(default_factory=dict)

    def run(self, number: int) -> int:
        """Passes on what is lacking for a period; returns how many bytes of readings were sent."""
        digests: dict[SignerClient, dict[str, str]] = self.ask_all(
            lambda client: _digests(client.json(f"/periods/{number}/digests"))
        )
        meters = {meter for found in digests.values() for meter in found}
        differ = {
            meter for meter in meters if len({found.get(meter) for found in digests.values()}) > 1
        }
        if not differ:
            return 0
        self._exchange_retractions([*digests])
        sent = 0
        for chunk in _turns({client: sorted(differ & set(digests[client])) for client in digests}):
            # Each is asked for what it says it has; nobody for meters that somebody else invented.
            asked = {
                client: named
                for client, found in digests.items()
                if (named := [meter for meter in chunk if meter in found])
                and self._has_time(client)
            }
            sent += self._exchange_readings(number, asked, [*digests])
        return sent

    # --- Readings ------------------------------------------------------------------------------------------------------

    def _exchange_readings(
        self,
        number: int,
        asked: Mapping[SignerClient, Sequence[str]],
        receivers: Sequence[SignerClient],
    ) -> int:
        def ask(client: SignerClient) -> set[bytes]:
            body = {"meters": ["0x" + meter for meter in asked[client]]}
            data = client.post(f"/periods/{number}/readings", json=body)
            return _records(data, {bytes.fromhex(meter) for meter in asked[client]})

        held: dict[SignerClient, set[bytes]] = self._timed(ask, [*asked])
        sent = 0
        for holder, own in [*held.items()]:
            lacking = {
                client: own - held.get(client, set())
                for client in receivers
                if client is not holder and self._has_time(client)
            }
            wanted: set[bytes] = set().union(*lacking.values())
            if not self._are_signed(holder, wanted):
                continue
            messages = {client: _messages(found) for client, found in lacking.items() if found}

            def send(
                client: SignerClient, messages: Mapping[SignerClient, list[bytes]] = messages
            ) -> None:
                for message in messages[client]:
                    client.post("/readings", data=message)

            self._timed(send, [*messages])
            sent += sum(len(part) for parts in messages.values() for part in parts)
            for client, found in lacking.items():
                # What came from one signer need not come from the next.
                held.setdefault(client, set()).update(found)
        return sent

    def _are_signed(self, holder: SignerClient, data: set[bytes]) -> bool:
        found = recover_signers(self.domain, b"".join(sorted(data)))
        if all(signer != _NOBODY for _, signer in found):
            return True
        self.failures[holder.url] = "shows readings that nobody signed"
        self._spent_seconds[holder] = self.patience_seconds
        return False

    # --- Retractions ---------------------------------------------------------------------------------------------------

    def _exchange_retractions(self, clients: Sequence[SignerClient]) -> None:
        def ask(client: SignerClient) -> set[Retraction]:
            return {*_retractions(client.json("/retractions"), self.domain)}

        held: dict[SignerClient, set[Retraction]] = self.ask_all(ask, clients)
        everything: set[Retraction] = set().union(*held.values())

        def tell(client: SignerClient) -> None:
            deadline = time.monotonic() + self.patience_seconds
            refused: SignerFailed | None = None
            for item in sorted(everything - held[client]):
                if time.monotonic() > deadline:
                    raise SignerFailed("takes retractions too slowly")
                try:
                    client.post("/retractions", json=item.body())
                except SignerFailed as error:
                    refused = error
            if refused is not None:
                raise refused

        self.ask_all(tell, [*held])

    # --- Time ----------------------------------------------------------------------------------------------------------

    def _has_time(self, client: SignerClient) -> bool:
        return self._spent_seconds.get(client, 0.0) < self.patience_seconds

    def _timed(
        self, ask: Callable[[SignerClient], Any], clients: Sequence[SignerClient]
    ) -> dict[SignerClient, Any]:
        """Asks them, and books the time that each takes; who fails gets no more turns."""
        took: dict[SignerClient, float] = {}

        def timed(client: SignerClient) -> Any:
            began = time.monotonic()
            found = ask(client)
            took[client] = time.monotonic() - began
            return found

        found = self.ask_all(timed, clients)
        for client in clients:
            spent = took[client] if client in found else self.patience_seconds
            self._spent_seconds[client] = self._spent_seconds.get(client, 0.0) + spent
        return found


def _turns(named: Mapping[SignerClient, Sequence[str]]) -> list[list[str]]:
    """Meters in chunks, each with the next few of every signer; a meter once."""
    share = max(1, _ASKED_METERS // max(1, len(named)))
    longest = max((len(meters) for meters in named.values()), default=0)
    seen: set[str] = set()
    chunks = []
    for start in range(0, longest, share):
        chunk = {meter for meters in named.values() for meter in meters[start : start + share]}
        if chunk - seen:
            chunks.append(sorted(chunk - seen))
        seen |= chunk
    return chunks


def _digests(found: object) -> dict[str, str]:
    if not isinstance(found, dict):
        raise SignerFailed("answers no digests")
    for meter, digest in found.items():
        if not _METER.fullmatch(meter) or not isinstance(digest, str):
            raise SignerFailed("names meters that are none")
        if not _DIGEST.fullmatch(digest):
            raise SignerFailed("answers digests that are none")
    return found


def _records(data: bytes, meters: set[bytes]) -> set[bytes]:
    if len(data) % RECORD_BYTES or len(data) > len(meters) * _METER_RECORDS * RECORD_BYTES:
        raise SignerFailed("shows readings of another length")
    found = {data[start : start + RECORD_BYTES] for start in range(0, len(data), RECORD_BYTES)}
    # A record begins with its meter.
    if not {record[:20] for record in found} <= meters:
        raise SignerFailed("shows readings of meters that it was not asked for")
    return found


def _messages(found: set[bytes]) -> list[bytes]:
    ordered = sorted(found)
    return [
        b"".join(ordered[start : start + _SENT_RECORDS])
        for start in range(0, len(ordered), _SENT_RECORDS)
    ]


def _retractions(data: object, domain: bytes) -> list[Retraction]:
    if not isinstance(data, list) or len(data) > _RETRACTION_LIMIT:
        raise SignerFailed("answers no list of retractions")
    try:
        return [_retraction(item, domain) for item in data]
    except (KeyError, TypeError, ValueError, AttributeError, ReadingRejected):
        raise SignerFailed("shows retractions that are none") from None


def _retraction(item: Any, domain: bytes) -> Retraction:
    found = Retraction(
        *(bytes.fromhex(item[name].removeprefix("0x")) for name in Retraction._fields)
    )
    if [len(value) for value in found] != [20, HASH_BYTES, SIGNATURE_BYTES]:
        raise ValueError("length")
    digest = retraction_digest(domain, to_checksum_address(found.meter), found.reading_hash)
    recover_address(digest, found.signature)
    return found
