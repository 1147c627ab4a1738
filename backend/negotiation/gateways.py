"""The two-sweep protocol with a process for each gateway over an MQTT broker: `python -m backend.negotiation.gateways`.

Every message is signed, and counts only from a neighbour on the feeder. Who waits says again what it said last, so nothing is lost
that was sent before somebody listened; answers to repetitions change nothing.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from eth_keys.datatypes import PrivateKey

from backend.domain.errors import InputError, MalformedInput, NoAgreement, ReadingRejected
from backend.domain.p2p import P2PCase, P2PResult
from backend.market.p2p.organisations import tree_market
from backend.market.p2p.results import Effort, tree_result
from oracle.signing import address_of, private_key

from .broker import Wire
from .gateway import Curve, Gateway, gateways_of, solution_of
from .messages import read_message, signed

_STARTER = "starter"


def sweep_over_broker(
    case: P2PCase,
    broker: tuple[str, int],
    *,
    patience: float = 3.0,
    seconds: float = 600.0,
) -> P2PResult:
    """Starts a process for each gateway, collects what each found, and certifies it.

    Args:
        case: on a network, or with one fee for all.
        broker: host and port.
        patience: seconds after which a gateway says again what it said last.
        seconds: at most.

    Raises:
        MalformedInput: pairs that differ by more than tariffs.
        NoAgreement: not all have answered in time, or no clearing keeps all limits.
        BrokerUnreachable: no broker answers.
    """
    market = tree_market(case, "full")
    if market is None:
        raise MalformedInput(
            "method", "sweep", "pairs differ by more than tariffs", "choose sparse"
        )
    gateways = {one.name: one for one in gateways_of(market)}
    session = secrets.token_hex(8)
    keys = {name: secrets.token_bytes(32) for name in (*gateways, _STARTER)}
    addresses = {name: address_of(private_key(key)) for name, key in keys.items()}
    wire = Wire(broker, session, _STARTER)
    children = [
        _start(one, keys[one.name], addresses, session, broker, patience, seconds)
        for one in gateways.values()
    ]
    try:
        _collect(gateways, addresses, wire, time.monotonic() + seconds)
        over = signed(
            private_key(keys[_STARTER]),
            addresses[_STARTER],
            {"session": session, "kind": "over", "from": _STARTER},
        )
        wire.send(None, over.payload())
    finally:
        wire.close()
        for child in children:
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    effort = Effort("sweep", iterations=2, messages=2 * (len(gateways) - 1))
    return tree_result(case, market, solution_of(market, gateways), "full", effort)


def _start(
    gateway: Gateway,
    key: bytes,
    addresses: Mapping[str, str],
    session: str,
    broker: tuple[str, int],
    patience: float,
    seconds: float,
) -> subprocess.Popen[bytes]:
    """A gateway's process; it is told its own part of the feeder and its neighbours' addresses."""
    near = [*gateway.children, *([gateway.parent] if gateway.parent else []), _STARTER]
    told = {
        "name": gateway.name,
        "parent": gateway.parent,
        "children": list(gateway.children),
        "agents": {name: asdict(curve) for name, curve in gateway.agents.items()},
        "fee": gateway.fee,
        "capacity": None if gateway.capacity == float("inf") else gateway.capacity,
        "secret": key.hex(),
        "neighbours": {name: addresses[name] for name in near},
        "session": session,
        "broker": list(broker),
        "patience": patience,
        "seconds": seconds,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "backend.negotiation.gateways"], stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    # The secret goes through a pipe, not through arguments.
    child.stdin.write(json.dumps(told).encode())
    child.stdin.close()
    return child


def _collect(
    gateways: Mapping[str, Gateway], addresses: Mapping[str, str], wire: Wire, end: float
) -> None:
    waiting = set(gateways)
    while waiting:
        payload = wire.next(end - time.monotonic())
        if payload is None:
            raise NoAgreement(
                f"{len(waiting)} of {len(gateways)} gateways have not answered in time",
                "look after their processes and the broker, or give more time",
            )
        body = _from_neighbour(payload, addresses)
        if body is None or body["kind"] not in ("settled", "failed"):
            continue
        if body["kind"] == "failed":
            raise NoAgreement(str(body["why"]), "widen a limit or a line")
        one = gateways[body["from"]]
        one.price, one.flow, one.energy = body["price"], body["flow"], dict(body["energy"])
        waiting.discard(one.name)


def _from_neighbour(payload: bytes, addresses: Mapping[str, str]) -> dict[str, Any] | None:
    try:
        message = read_message(payload)
    except (InputError, ReadingRejected):
        return None
    known = addresses.get(str(message.body.get("from")))
    return message.body if known == message.sender else None


def run_gateway(
    gateway: Gateway,
    key: PrivateKey,
    addresses: Mapping[str, str],
    session: str,
    wire: Wire,
    *,
    patience: float,
    seconds: float,
) -> None:
    """Runs a gateway until it is told that all is over, or for so many seconds."""
    end = time.monotonic() + seconds

    def say(to: str, body: Mapping[str, Any]) -> None:
        given = {**body, "session": session, "from": gateway.name}
        wire.send(to, signed(key, address_of(key), given).payload())

    def speak() -> None:
        for to, body in gateway.begin():
            say(to, body)
        if gateway.price is not None:
            found = {"price": gateway.price, "flow": gateway.flow, "energy": gateway.energy}
            say(_STARTER, {"kind": "settled", **found})

    try:
        speak()
        while time.monotonic() < end:
            payload = wire.next(patience)
            body = None if payload is None else _from_neighbour(payload, addresses)
            if payload is None:
                speak()
            elif body is not None and body["session"] == session:
                if body["kind"] == "over":
                    return
                settled = gateway.price is not None
                for to, answer in gateway.hear(body["from"], body):
                    say(to, answer)
                if gateway.price is not None and not settled:
                    speak()
    except InputError as error:
        say(_STARTER, {"kind": "failed", "why": str(error)})


def main() -> None:
    """A gateway's process: reads its configuration from standard input."""
    told = json.load(sys.stdin)
    host, port = told["broker"]
    gateway = Gateway(
        told["name"],
        told["parent"],
        tuple(told["children"]),
        {
            name: Curve(tuple(curve["price"]), tuple(curve["energy"]))
            for name, curve in told["agents"].items()
        },
        told["fee"],
        float("inf") if told["capacity"] is None else told["capacity"],
    )
    wire = Wire((host, port), told["session"], told["name"])
    run_gateway(
        gateway,
        private_key(bytes.fromhex(told["secret"])),
        told["neighbours"],
        told["session"],
        wire,
        patience=told["patience"],
        seconds=told["seconds"],
    )
    wire.close()


if __name__ == "__main__":
    main()
