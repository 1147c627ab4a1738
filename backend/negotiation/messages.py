"""Signed messages between agents: canonical JSON, one signature each, so that what was said cannot be unsaid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from backend.domain.errors import MalformedInput
from oracle.signing import recover, sign_digest

_TAG = b"peerwatt.negotiation.v1"
# Largest payload read: a roster of some hundred agents.
_LARGEST = 1e15
_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said.

    Attributes:
        sender: checksummed address that signed.
        body: JSON object; has `session` and `kind`.
        signature: 65 bytes over the body.
    """

    sender: str
    body: dict[str, Any]
    signature: bytes

    def payload(self) -> bytes:
        """The bytes that are sent."""
        return json.dumps({"body": self.body, "signature": self.signature.hex()}).encode()


def _digest(body: dict[str, Any]) -> bytes:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return keccak(keccak(_TAG) + text.encode())


def signed(key: PrivateKey, sender: str, body: dict[str, Any]) -> Message:
    """A message of the key's owner."""
    return Message(sender, body, sign_digest(key, _digest(body)))


def read_message(payload: bytes) -> Message:
    """A message, with who signed it.

    Raises:
        MalformedInput: not a message.
        ReadingRejected: the signature is none.
    """
    if len(payload) > _LIMIT_BYTES:
        raise MalformedInput("message", len(payload), "too large", "send less at once")
    try:
        data = json.loads(payload)
        body, signature = data["body"], bytes.fromhex(data["signature"])
        if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
            raise TypeError("no kind")
        digest = _digest(body)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MalformedInput(
            "message", str(error), "not a message", "see docs/negotiation.md"
        ) from None
    return Message(recover(digest, signature), body, signature)


def contradicts(one: Message, other: Message) -> bool:
    """Whether the same sender offered two energies on one link in one round: proof for everybody who sees both."""
    place = ("session", "seller", "buyer", "since", "version")
    return (
        one.sender == other.sender
        and one.body["kind"] == other.body["kind"] == "offer"
        and all(one.body.get(name) == other.body.get(name) for name in place)
        and one.body.get("energy") != other.body.get("energy")
    )


def body_of(payload_body: dict[str, Any], **types: type) -> dict[str, Any]:
    """The body, if its fields have the types.

    Raises:
        MalformedInput: naming the field.
    """
    for name, kind in types.items():
        value = payload_body.get(name)
        good = isinstance(value, (int, float) if kind is float else kind)
        if not good or isinstance(value, bool):
            raise MalformedInput(
                f"message.{name}", value, f"not {kind.__name__}", "mend the sender"
            )
        if isinstance(value, int | float) and not abs(value) < _LARGEST:
            raise MalformedInput(f"message.{name}", value, "too large", "mend the sender")
    return payload_body
