"""Relaxed consensus + innovation, as published: a baseline.

Sorin, Bobo and Pinson, Consensus-based approach to peer-to-peer electricity markets with product differentiation, IEEE Trans.
Power Systems 34(2), 2019. Each side of a pair keeps a price and an energy of its own; prices of both sides are drawn together
(consensus) and against their imbalance (innovation), energies follow prices. It needs tuning for each market and promises no
convergence where limits bind or steps are too large; the outcome says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from backend.domain.errors import OutOfRange

from .certificate import Certificate, certify
from .problem import Floats, PairMarket, Trades, check_feasible, sums
from .sparse import Check, Negotiated

_ROUNDS_PER_CHECK = 50


def negotiate_by_innovation(
    market: PairMarket,
    seller_cost: Floats,
    buyer_cost: Floats,
    *,
    tolerance: float = 1e-4,
    most_rounds: int = 5000,
    consensus: float = 0.1,
    innovation: float = 0.01,
    limit_step: float = 0.005,
    least_share: float = 1.0,
    progress: Callable[[Check], None] = lambda _: None,
) -> Negotiated:
    """Rounds until the certificate holds or `most_rounds` are over.

    Args:
        market: S sellers, B buyers; without outside.
        seller_cost: (S, B) the sellers' part of the pairs' costs.
        buyer_cost: (S, B) the buyers' part.
        tolerance: largest relative gap over all pairs.
        most_rounds: after which it ends.
        consensus: beta, divided by k^0.1 in round k.
        innovation: alpha, divided by k^0.01.
        limit_step: eta, of the limits' multipliers.
        least_share: delta, which keeps pairs without energy alive.
        progress: told each check.

    Raises:
        OutOfRange: an agent's marginal cost does not rise, which the method needs; or there is an outside.
        MalformedInput: no trades keep all limits.
    """
    check_feasible(market)
    agents = market.agents
    if (agents.a <= 0).any():
        agent = int(np.argmax(agents.a <= 0))
        raise OutOfRange(f"agents[{agent}].a", 0.0, "not above 0, which rci needs", "choose sparse")
    if market.has_outside:
        raise OutOfRange(
            "outside", market.import_price, "not known to rci as published", "choose sparse"
        )
    allowed = np.isfinite(market.weight)
    sellers, buyers, count = market.sellers, market.buyers, agents.count
    ask, bid = (np.where(allowed, part, 0.0) for part in (seller_cost, buyer_cost))
    sold, bought = np.zeros(market.weight.shape), np.zeros(market.weight.shape)
    asked = np.broadcast_to(agents.b[sellers][:, None], sold.shape) + ask
    offered = agents.b[buyers] - bid
    over, under = np.zeros(count), np.zeros(count)
    best: tuple[float, Trades, Certificate] | None = None
    checks: list[Check] = []
    links = int(allowed.sum())
    agreed = False
    for number in range(1, most_rounds + 1):
        beta, alpha = consensus / number**0.1, innovation / number**0.01
        apart, surplus = asked - offered, sold - bought
        asked, offered = (
            asked - beta * apart - alpha * surplus,
            offered + beta * apart - alpha * surplus,
        )
        power = sums(sellers, sold.sum(axis=1), count)
        power -= sums(buyers, bought.sum(axis=0), count)
        over = np.maximum(0.0, over + limit_step * (power - agents.upper))
        under = np.maximum(0.0, under + limit_step * (agents.lower - power))
        base = agents.b + agents.a * power + over - under
        shares = sums(sellers, (sold + least_share * allowed).sum(axis=1), count)
        shares += sums(buyers, (bought + least_share * allowed).sum(axis=0), count)
        shares = np.maximum(shares * agents.a, 1e-300)
        before = sold
        part = (sold + least_share) / shares[sellers][:, None]
        sold = np.where(
            allowed, np.maximum(0.0, sold + part * (asked - ask - base[sellers][:, None])), 0.0
        )
        part = (bought + least_share) / shares[buyers]
        bought = np.where(
            allowed, np.maximum(0.0, bought + part * (base[buyers] - offered - bid)), 0.0
        )
        if number % _ROUNDS_PER_CHECK and number != most_rounds:
            continue
        trades, proof = _proof(market, np.minimum(sold, bought), base)
        worth = max(proof.gap, proof.primal_residual)
        if best is None or not worth >= best[0]:
            best = worth, trades, proof
        messages = 2 * links * number
        size = max(1, links)
        check = Check(
            number,
            proof.gap,
            proof.primal_residual,
            float(np.linalg.norm(sold - bought) / np.sqrt(size)),
            float(np.linalg.norm(sold - before) / np.sqrt(size)),
            proof.cost,
            links,
            alpha,
            messages,
            2 * messages,
        )
        checks.append(check)
        progress(check)
        agreed = worth <= tolerance
        if agreed or not np.isfinite(worth):
            break
    assert best is not None
    return Negotiated(agreed, best[1], best[2], checks)


def _proof(market: PairMarket, energy: Floats, base: Floats) -> tuple[Trades, Certificate]:
    row, column = np.nonzero(energy > 0)
    still = np.zeros(market.agents.count)
    trades = Trades(row, column, energy[row, column], still, still)
    agents = market.agents
    # Beyond limits only multipliers hold it: what is too much is cut off alike from all of its trades.
    power = trades.power(market)
    keep = np.clip(
        np.where(power > 0, agents.upper, agents.lower) / np.where(power == 0, 1.0, power), 0, 1
    )
    keep = np.where(power == 0, 1.0, keep)
    scaled = trades.energy * np.minimum(keep[market.sellers[row]], keep[market.buyers[column]])
    trades = replace(trades, energy=scaled)
    return trades, certify(market, trades, base, tighten=True)
