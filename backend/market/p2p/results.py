"""From a method's answer to the file format `peerwatt/p2p/1`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.domain.p2p import (
    COMMUNITY,
    OUTSIDE,
    P2PAgentResult,
    P2PCase,
    P2PResult,
    P2PTrade,
)

from .certificate import certify
from .organisations import side_costs
from .problem import Floats, PairMarket, Trades
from .sweep import TreeMarket, TreeSolution


@dataclass(frozen=True, slots=True)
class Effort:
    """What a method took.

    Attributes:
        method: its name.
        outcome: `agreed`, or what else in words.
        iterations: rounds of messages, or of computation.
        messages: sent between agents.
        scalars: numbers in them.
        dual_residual: the method's own measure of how far prices still move.
    """

    method: str
    outcome: str = "agreed"
    iterations: int = 0
    messages: int = 0
    scalars: int = 0
    dual_residual: float = 0.0


def pair_result(
    case: P2PCase, market: PairMarket, trades: Trades, price: Floats, effort: Effort
) -> P2PResult:
    """The result of full peer-to-peer, certified here once more over all pairs."""
    proof = certify(market, trades, price)
    fees, preferences = side_costs(case)
    names = [agent.id for agent in case.agents]
    listed = []
    collected = 0.0
    for row, column, energy in zip(
        trades.row.tolist(), trades.column.tolist(), trades.energy.tolist(), strict=True
    ):
        if energy <= 0:
            continue
        seller, buyer = int(market.sellers[row]), int(market.buyers[column])
        asked = proof.price[seller] + fees[seller, buyer] + preferences[seller, buyer]
        offered = proof.price[buyer] - fees[buyer, seller] - preferences[buyer, seller]
        collected += energy * (fees[seller, buyer] + fees[buyer, seller])
        listed.append(
            P2PTrade(
                seller=names[seller],
                buyer=names[buyer],
                energy=energy,
                price=float(asked + offered) / 2,
            )
        )
    listed += _outside_trades(
        names, trades.imported, trades.exported, market.import_price, market.export_price
    )
    return _result(
        "full",
        effort,
        names,
        trades.power(market),
        proof.price,
        listed,
        proof.cost,
        proof.gap,
        proof.primal_residual,
        float(trades.imported.sum()),
        float(trades.exported.sum()),
        collected,
    )


def tree_result(
    case: P2PCase,
    market: TreeMarket,
    solution: TreeSolution,
    organisation: str,
    effort: Effort,
) -> P2PResult:
    """The result on a tree: in full peer-to-peer with the trades between agents, else with the community.

    Args:
        market: with the outside prices that are paid, whatever the manager counted with.
        solution: its answer.
    """
    names = [agent.id for agent in case.agents]
    access = market.access[market.node]
    collected = float((access * np.abs(solution.traded)).sum())
    collected += float((market.fee * np.abs(solution.flow)).sum())
    imported, exported = float(solution.imported.sum()), float(solution.exported.sum())
    cost = float(market.agents.cost(solution.power).sum()) + collected
    if np.isfinite(market.import_price):
        cost += market.import_price * imported - market.export_price * exported
    if organisation == "full":
        listed = _tree_trades(names, market, solution)
    else:
        listed = _community_trades(names, market, solution)
    listed += _outside_trades(
        names, solution.imported, solution.exported, market.import_price, market.export_price
    )
    return _result(
        organisation,
        effort,
        names,
        solution.power,
        solution.price,
        listed,
        cost,
        solution.gap,
        solution.residual,
        imported,
        exported,
        collected,
    )


def _result(
    organisation: str,
    effort: Effort,
    names: list[str],
    power: Floats,
    price: Floats,
    trades: list[P2PTrade],
    cost: float,
    gap: float,
    residual: float,
    imported: float,
    exported: float,
    fees: float,
) -> P2PResult:
    return P2PResult(
        organisation=organisation,
        method=effort.method,
        outcome=effort.outcome,
        objective=cost,
        certified_gap=max(0.0, gap),
        primal_residual=residual,
        dual_residual=effort.dual_residual,
        iterations=effort.iterations,
        messages=effort.messages,
        scalars=effort.scalars,
        agents=tuple(
            P2PAgentResult(id=name, power=one, price=worth)
            for name, one, worth in zip(names, power.tolist(), price.tolist(), strict=True)
        ),
        trades=tuple(trades),
        imported=imported,
        exported=exported,
        fees=fees,
    )


def _outside_trades(
    names: list[str], imported: Floats, exported: Floats, import_price: float, export_price: float
) -> list[P2PTrade]:
    bought = [
        P2PTrade(
            seller=OUTSIDE, buyer=names[agent], energy=float(imported[agent]), price=import_price
        )
        for agent in np.flatnonzero(imported > 0).tolist()
    ]
    sold = [
        P2PTrade(
            seller=names[agent], buyer=OUTSIDE, energy=float(exported[agent]), price=export_price
        )
        for agent in np.flatnonzero(exported > 0).tolist()
    ]
    return bought + sold


def _community_trades(
    names: list[str], market: TreeMarket, solution: TreeSolution
) -> list[P2PTrade]:
    listed = []
    for agent in np.flatnonzero(solution.traded != 0).tolist():
        energy = float(solution.traded[agent])
        seller, buyer = (names[agent], COMMUNITY) if energy > 0 else (COMMUNITY, names[agent])
        price = float(solution.node_price[market.node[agent]])
        listed.append(P2PTrade(seller=seller, buyer=buyer, energy=abs(energy), price=price))
    return listed


def _tree_trades(names: list[str], market: TreeMarket, solution: TreeSolution) -> list[P2PTrade]:
    """Surplus and deficit meet as far from the root as they can, in the order of the agents; each line is used one way only."""
    waiting: list[list[list[float]]] = [[] for _ in range(market.order.size)]
    for agent in np.flatnonzero(solution.traded != 0).tolist():
        waiting[market.node[agent]].append([agent, float(solution.traded[agent])])
    listed = []
    dust = 1e-12 * max(1.0, float(np.abs(solution.traded).max(initial=0.0)))
    for node in reversed(market.order.tolist()):
        sellers = [item for item in waiting[node] if item[1] > 0]
        buyers = [item for item in waiting[node] if item[1] < 0]
        one = other = 0
        while one < len(sellers) and other < len(buyers):
            energy = min(sellers[one][1], -buyers[other][1])
            seller, buyer = int(sellers[one][0]), int(buyers[other][0])
            price = (
                solution.node_price[market.node[seller]] + solution.node_price[market.node[buyer]]
            )
            if energy > dust:
                listed.append(
                    P2PTrade(
                        seller=names[seller],
                        buyer=names[buyer],
                        energy=energy,
                        price=float(price) / 2,
                    )
                )
            sellers[one][1] -= energy
            buyers[other][1] += energy
            one += sellers[one][1] <= 0
            other += buyers[other][1] >= 0
        above = int(market.parent[node])
        if above >= 0:
            waiting[above] += sellers[one:] + buyers[other:]
    return listed
