"""Agents as processes over a real broker; and, message by message, agents that are late, leave, join, repeat and contradict themselves."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backend.bench.negotiation import random_pairs
from backend.domain.errors import BrokerUnreachable, InputError
from backend.domain.p2p import P2PCase
from backend.market.p2p.dual import solve_pairwise
from backend.market.p2p.methods import solve_case
from backend.negotiation.agent import NegotiatingAgent
from backend.negotiation.board import Board
from backend.negotiation.messages import contradicts, signed
from backend.negotiation.process import agent_from
from backend.negotiation.processes import (
    agent_configurations,
    board_result,
    negotiate_over_broker,
)
from oracle.signing import address_of, private_key
from tests.market.p2p.cases import FOUR_AGENTS

BOARD_KEY = private_key(bytes([1]) * 32)


def random_case(count: int) -> P2PCase:
    market = random_pairs(count)
    agents = market.agents
    preferences = np.zeros((count, count))
    preferences[np.ix_(market.sellers, market.buyers)] = market.weight
    return P2PCase.parse(
        {
            "agents": [
                {"id": f"n{i}", "a": float(agents.a[i]), "b": float(agents.b[i])}
                | {"lower": float(agents.lower[i]), "upper": float(agents.upper[i])}
                for i in range(count)
            ],
            "preferences": preferences.tolist(),
        }
    )


class Room:
    """Agents and board with messages carried by hand, in an order drawn at random."""

    def __init__(self, case: P2PCase, seed: int = 0, tolerance: float = 1e-3) -> None:
        self.case, self.random = case, np.random.default_rng(seed)
        configurations = agent_configurations(case, "s", address_of(BOARD_KEY), ("", 0))
        self.agents = {one["name"]: agent_from(one) for one in configurations}
        self.keys = {
            one["name"]: private_key(bytes.fromhex(one["secret"])) for one in configurations
        }
        self.board = Board(BOARD_KEY, "s", len(self.agents), tolerance)
        self.queue: list[tuple[str, bytes]] = []
        self.silent: set[str] = set()

    def gather(self) -> None:
        for name, agent in self.agents.items():
            sent = [(to, message.payload()) for to, message in agent.outbox]
            agent.outbox.clear()
            if name not in self.silent:
                self.queue += sent
        for message in self.board.outbox:
            self.queue += [(name, message.payload()) for name in self.agents]
        self.board.outbox.clear()

    def run(self, *, repeat: bool = False, until: Any = lambda: False) -> None:
        while not self.board.outcome and not until():
            self.gather()
            if not self.queue:
                # Nothing moves: everybody has waited long enough.
                for name, agent in self.agents.items():
                    if name not in self.silent:
                        agent.lose_patience()
                self.gather()
                if not self.queue:
                    self.board.lose_patience()
                continue
            place = int(self.random.integers(len(self.queue)))
            to, payload = self.queue[place]
            if not repeat or self.random.random() < 0.7:
                self.queue.pop(place)
            if to == "board":
                self.board.handle(payload)
            elif to not in self.silent:
                self.agents[to].handle(payload)


def begun(case: P2PCase, **options: Any) -> Room:
    room = Room(case, **options)
    for agent in room.agents.values():
        agent.hello()
    return room


def optimum(case: P2PCase) -> float:
    return solve_case(case, method="central").objective


@pytest.mark.parametrize("repeat", [False, True], ids=["once", "repeated"])
def test_in_whatever_order_messages_come(repeat: bool) -> None:
    case = random_case(8)
    room = begun(case)
    room.run(repeat=repeat)
    assert room.board.outcome == "agreed"
    assert not room.board.excluded
    result = board_result(case, room.board)
    assert result.certified_gap <= 1e-3
    assert result.objective == pytest.approx(optimum(case), rel=2e-3)


def test_who_stops_answering_is_left_out_and_the_rest_agree() -> None:
    room = begun(random_case(8))
    room.run(until=lambda: len(room.board.checks) == 2)
    room.silent.add("n1")
    room.run()
    assert room.board.outcome == "agreed"
    assert set(room.board.left) == {"n1"}
    assert "n1" not in room.board.powers
    rest = random_case(8)
    agents = tuple(
        agent.model_copy(update={"lower": 0.0, "upper": 0.0}) if agent.id == "n1" else agent
        for agent in rest.agents
    )
    best = optimum(rest.model_copy(update={"agents": agents}))
    assert room.board.checks[-1].cost == pytest.approx(best, rel=2e-3)


def test_who_comes_late_is_taken_in() -> None:
    case = random_case(8)
    room = Room(case)
    room.board.expected = 7
    for name, agent in room.agents.items():
        if name != "n2":
            agent.hello()
    room.run(until=lambda: len(room.board.checks) == 2)
    room.agents["n2"].hello()
    room.run()
    assert room.board.outcome == "agreed"
    assert "n2" in room.board.powers
    assert board_result(case, room.board).objective == pytest.approx(optimum(case), rel=2e-3)


def test_who_contradicts_what_it_signed_is_shown_and_left_out() -> None:
    room = begun(random_case(8))
    room.run(until=lambda: len(room.board.checks) == 1)
    room.gather()
    # The last offer that n0 signed, signed once more with another energy.
    offer = next(
        message
        for agent in room.agents.values()
        for place, message in agent._heard.items()
        if place[0][0] == "n0" and message.sender == room.agents["n0"]._address
    )
    changed = signed(
        room.keys["n0"], offer.sender, offer.body | {"energy": offer.body["energy"] + 1}
    )
    room.agents[offer.body["buyer"]].handle(changed.payload())
    room.run()
    assert room.board.outcome == "agreed"
    assert set(room.board.excluded) == {"n0"}
    assert contradicts(*room.board.excluded["n0"])
    assert "n0" not in room.board.powers


def test_nobody_can_speak_for_another() -> None:
    room = begun(random_case(4))
    room.gather()
    agent, stranger = room.agents["n0"], private_key(bytes([77]) * 32)
    room.board.handle(
        signed(
            stranger,
            address_of(stranger),
            {"session": "s", "kind": "contradiction", "name": "n0", "first": "{}", "second": "{}"},
        ).payload()
    )
    forged = {"session": "s", "kind": "done", "outcome": "agreed"}
    agent.handle(signed(stranger, address_of(stranger), forged).payload())
    agent.handle(b"not a message")
    assert agent.done is None
    room.run()
    assert room.board.outcome == "agreed"
    assert not room.board.excluded


def test_an_agent_that_buys_and_sells_is_refused() -> None:
    with pytest.raises(InputError, match="both buys and sells"):
        agent_configurations(P2PCase.parse(FOUR_AGENTS), "s", "0x", ("", 0))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    program = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if program is None:
        pytest.skip("no mosquitto: apt-get install mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path_factory.mktemp("broker") / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    running = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield "127.0.0.1", port
    running.terminate()
    running.wait()


def test_twenty_processes_agree_over_mosquitto(broker: tuple[str, int]) -> None:
    case = random_case(20)
    result, board = negotiate_over_broker(case, broker, tolerance=1e-3, seconds=300)
    assert result.outcome == "agreed"
    assert len(board.powers) == 20
    assert not board.left
    assert result.certified_gap <= 1e-3
    assert result.objective == pytest.approx(optimum(case), rel=2e-3)
    assert solve_pairwise(random_pairs(20)).certificate.cost == pytest.approx(optimum(case))


def test_without_a_broker_it_says_so() -> None:
    with pytest.raises(BrokerUnreachable):
        negotiate_over_broker(random_case(2), ("127.0.0.1", 1), seconds=5)


def test_agents_know_only_themselves() -> None:
    agent: NegotiatingAgent = Room(random_case(4)).agents["n0"]
    assert agent._self.agents.count == 1
