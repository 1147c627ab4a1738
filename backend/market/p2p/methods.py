"""All organisations by all methods, from case to result.

| method | what it is | organisation |
|---|---|---|
| `central` | the exact structured method that fits: two sweeps on trees, dual with column generation for arbitrary pairs | all |
| `sweep` | two sweeps; as a protocol each gateway sends one curve up and receives one price | where tariffs alone tell pairs apart |
| `sparse` | negotiation with few partners, more on demand, stopped by the certificate | full |
| `admm`, `rci` | published baselines: all pairs, fixed steps | full |

`reference:SOLVER` is cvxpy on the definition, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from backend.domain.errors import MalformedInput
from backend.domain.p2p import P2PCase, P2PResult

from .consensus_innovation import negotiate_by_innovation
from .dual import solve_pairwise
from .organisations import (
    FAIRNESS,
    ORGANISATIONS,
    pair_market,
    side_costs,
    tree_market,
    with_fairness,
)
from .problem import Floats, PairMarket
from .reference import reference_pairs
from .results import Effort, pair_result, tree_result
from .sparse import Check, Negotiated, negotiate
from .sweep import solve_tree

METHODS: Final = ("central", "sweep", "sparse", "admm", "rci")


def solve_case(
    case: P2PCase,
    *,
    organisation: str = "full",
    method: str = "central",
    tolerance: float = 1e-4,
    most_rounds: int = 5000,
    fairness: str = "cost",
    fairness_weight: float = 0.0,
    progress: Callable[[Check], None] = lambda _: None,
) -> P2PResult:
    """The market's result.

    Args:
        case: checked.
        organisation: one of `ORGANISATIONS`.
        method: one of `METHODS`, or `reference:` and a solver of `reference.SOLVERS`.
        tolerance: relative gap on which negotiations stop; central methods are exact.
        most_rounds: after which a negotiation's outcome is stated as it is.
        fairness: one of `FAIRNESS`, for organisations with a manager.
        fairness_weight: in the case's price unit.
        progress: told each price check of a negotiation.

    Raises:
        InputError: an option or field that does not fit the others; limits that cannot be kept.
        ClearingFailed: a central method or solver failed.
        SolverUnavailable: the reference solver is not installed.
    """
    kind = method.split(":", maxsplit=1)[0]
    _known("organisation", organisation, ORGANISATIONS)
    _known("method", kind, (*METHODS, "reference"))
    _known("fairness", fairness, FAIRNESS)
    if fairness != "cost" and organisation == "full":
        raise MalformedInput(
            "fairness", fairness, "without a manager", "choose the organisation community"
        )
    tree = tree_market(case, organisation)
    if organisation != "full" and kind not in ("central", "sweep"):
        raise MalformedInput(
            "method",
            method,
            f"with organisation {organisation}: never negotiate at length what is one price for each community",
            "choose central or sweep, or the organisation full",
        )
    if kind == "sweep" and tree is None:
        raise MalformedInput(
            "method", method, "pairs differ by more than tariffs", "choose central or sparse"
        )
    if tree is not None and kind in ("central", "sweep"):
        solution = solve_tree(with_fairness(tree, fairness, fairness_weight))
        # As a protocol: each line carries one curve up and one price down.
        lines = tree.order.size - 1 + tree.agents.count
        sweeps = Effort(kind, iterations=2, messages=2 * lines) if kind == "sweep" else Effort(kind)
        return tree_result(case, tree, solution, organisation, sweeps)
    market = pair_market(case)
    if kind == "central":
        found = solve_pairwise(market)
        return pair_result(
            case,
            market,
            found.trades,
            found.certificate.price,
            Effort(kind, iterations=found.rounds),
        )
    if kind == "reference":
        trades, price = reference_pairs(market, method.rsplit(":", maxsplit=1)[-1])
        return pair_result(case, market, trades, price, Effort(method))
    seller_cost, buyer_cost = link_costs(case, market)
    if kind == "rci":
        ended = negotiate_by_innovation(
            market,
            seller_cost,
            buyer_cost,
            tolerance=tolerance,
            most_rounds=most_rounds,
            progress=progress,
        )
    else:
        ended = negotiate(
            market,
            seller_cost,
            buyer_cost,
            tolerance=tolerance,
            most_rounds=most_rounds,
            textbook=kind == "admm",
            progress=progress,
        )
    return _negotiated(case, market, ended, kind)


def link_costs(case: P2PCase, market: PairMarket) -> tuple[Floats, Floats]:
    """(S, B), (S, B) what sellers and buyers pay and dislike per unit, each on its own side."""
    fees, preferences = side_costs(case)
    own = fees + preferences
    return (
        own[np.ix_(market.sellers, market.buyers)],
        own[np.ix_(market.buyers, market.sellers)].T.copy(),
    )


def _negotiated(case: P2PCase, market: PairMarket, ended: Negotiated, method: str) -> P2PResult:
    last = ended.checks[-1]
    outcome = "agreed" if ended.agreed else f"no agreement within {last.round} rounds"
    effort = Effort(
        method, outcome, last.round, last.messages, last.scalars, dual_residual=last.moved
    )
    return pair_result(case, market, ended.trades, ended.certificate.price, effort)


def _known(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise MalformedInput(field, value, "no such choice", f"choose one of: {', '.join(choices)}")
