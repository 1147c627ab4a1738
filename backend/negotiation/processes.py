"""A case negotiated by one process for each agent over a broker."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from backend.domain.errors import MalformedInput
from backend.domain.p2p import P2PCase, P2PResult
from backend.market.p2p.organisations import pair_market, side_costs
from backend.market.p2p.problem import (
    Trades,
    agents_of,
    allowed_pairs,
    check_feasible,
    outside_prices,
)
from backend.market.p2p.results import Effort, pair_result
from oracle.signing import address_of, private_key

from .agent import ROUNDS
from .board import Board, EpochCheck
from .broker import Wire, run_board


def negotiate_over_broker(
    case: P2PCase,
    broker: tuple[str, int],
    *,
    tolerance: float = 1e-4,
    patience: float = 20.0,
    seconds: float = 600.0,
    progress: Callable[[EpochCheck], None] = lambda _: None,
) -> tuple[P2PResult, Board]:
    """Starts a process for each agent, with a key of its own, and the board here; certifies the result once more over all pairs.

    Args:
        case: of agents that only sell or only buy.
        broker: host and port.
        tolerance: relative gap on which it ends.
        patience: seconds that the board waits for a step.
        seconds: at most in all.
        progress: told each epoch's certificate.

    Raises:
        MalformedInput: an agent that both buys and sells; limits that cannot be kept.
        BrokerUnreachable: no broker answers.
    """
    market = pair_market(case)
    check_feasible(market)
    session, board_key = secrets.token_hex(8), private_key(secrets.token_bytes(32))
    configurations = agent_configurations(case, session, address_of(board_key), broker)
    wire = Wire(broker, session, "board")
    board = Board(board_key, session, len(configurations), tolerance)
    children = [start_agent(one | {"seconds": seconds}) for one in configurations]
    try:
        run_board(board, wire, patience=patience, seconds=seconds, progress=progress)
    finally:
        wire.close()
        for child in children:
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return board_result(case, board), board


def agent_configurations(
    case: P2PCase, session: str, board: str, broker: tuple[str, int]
) -> list[dict[str, Any]]:
    """What each agent's process is told: its own cost and limits, what trading with each other costs it, where the broker is.

    Raises:
        MalformedInput: an agent that both buys and sells: certifying among those takes more than one look at posted prices.
    """
    agents, outside = agents_of(case), outside_prices(case)
    fees, preferences = side_costs(case)
    allowed, own = allowed_pairs(case), fees + preferences
    names = [agent.id for agent in case.agents]
    found = []
    for index, agent in enumerate(case.agents):
        if agent.lower < 0 < agent.upper:
            raise MalformedInput(
                f"agents[{index}]",
                agent.id,
                "both buys and sells, which agents in processes of their own do not",
                "leave out --broker, or make two agents of it",
            )
        others = np.flatnonzero(allowed[index]).tolist()
        found.append(
            {
                "name": agent.id,
                "agent": [
                    float(column[index])
                    for column in (agents.a, agents.b, agents.lower, agents.upper)
                ],
                "costs": {names[other]: float(own[index, other]) for other in others},
                "outside": list(outside) if case.outside is not None else None,
                "secret": secrets.token_hex(32),
                "session": session,
                "board": board,
                "broker": list(broker),
                "patience": 3.0,
            }
        )
    return found


def start_agent(configuration: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A process for an agent; its secret goes through a pipe, not through arguments."""
    child = subprocess.Popen(
        [sys.executable, "-m", "backend.negotiation.process"], stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(configuration).encode())
    child.stdin.close()
    return child


def board_result(case: P2PCase, board: Board) -> P2PResult:
    """What the board's last certified epoch says, certified here over all pairs of the case."""
    market = pair_market(case)
    number = {agent.id: index for index, agent in enumerate(case.agents)}
    pairs = [(number[seller], number[buyer]) for seller, buyer in board.trades]
    seller, buyer = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    still = np.zeros(market.agents.count)
    trades = Trades(
        np.searchsorted(market.sellers, seller),
        np.searchsorted(market.buyers, buyer),
        np.array(list(board.trades.values()), dtype=np.float64),
        still,
        still,
    )
    imported, exported = market.agents.outside(
        trades.power(market), market.import_price, market.export_price
    )
    trades = Trades(trades.row, trades.column, trades.energy, imported, exported)
    price = np.clip(market.agents.b, market.export_price, market.import_price)
    for name, one in board.prices.items():
        price[number[name]] = one
    effort = Effort(
        "sparse", board.outcome, iterations=len(board.checks) * ROUNDS, messages=board.messages
    )
    return pair_result(case, market, trades, price, effort)
