"""The same markets in cvxpy, by any of its solvers: the reference that the other methods are tested against.

One variable for each pair (or line), as the definition in `problem` reads; no structure is used, so nothing is shared with the methods
that it checks. Dense forms above some hundred agents are all solver time.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from backend.domain.errors import ClearingFailed, SolverUnavailable

from .problem import Floats, PairMarket, Trades, check_feasible
from .sweep import TreeMarket

SOLVERS = {"clarabel": "CLARABEL", "scs": "SCS", "osqp": "OSQP", "highs": "HIGHS", "piqp": "PIQP"}


def reference_pairs(
    market: PairMarket, solver: str = "clarabel", tolerance: float = 1e-9
) -> tuple[Trades, Floats]:
    """Trades, and prices from the balances' multipliers (N,).

    Args:
        market: S sellers, B buyers.
        solver: one of `SOLVERS`.
        tolerance: of the first-order ones, scs and osqp; others have their own.

    Raises:
        MalformedInput: no trades keep all limits.
        ClearingFailed: the solver gave no answer.
        SolverUnavailable: it is not installed.
    """
    import cvxpy

    cp: Any = cvxpy
    from scipy.sparse import coo_array

    check_feasible(market)
    agents = market.agents
    row, column = np.nonzero(np.isfinite(market.weight))
    energy: Any
    energy, pairs, count = cp.Variable(row.size, nonneg=True), np.arange(row.size), agents.count
    incidence = coo_array(
        (
            np.repeat([1.0, -1.0], row.size),
            (np.concatenate([market.sellers[row], market.buyers[column]]), np.tile(pairs, 2)),
        ),
        shape=(count, row.size),
    ).tocsr()
    power = cp.Variable(count)
    net = incidence @ energy if row.size else np.zeros(count)
    cost = 0.5 * cp.sum(cp.multiply(agents.a, cp.square(power))) + agents.b @ power
    limits = [power >= agents.lower, power <= agents.upper]
    if row.size:
        cost += market.weight[row, column] @ energy
    imported: Any = None
    exported: Any = None
    if market.has_outside:
        imported, exported = cp.Variable(count, nonneg=True), cp.Variable(count, nonneg=True)
        net = net - imported + exported
        cost += market.import_price * cp.sum(imported) - market.export_price * cp.sum(exported)
        limits += [imported[agents.lower >= 0] == 0, exported[agents.upper <= 0] == 0]
    balance = power == net
    _solve(cp.Problem(cp.Minimize(cost), [balance, *limits]), solver, tolerance)
    nothing = np.zeros(count)
    return Trades(
        row,
        column,
        np.maximum(np.atleast_1d(energy.value), 0) if row.size else np.zeros(0),
        nothing if imported is None else np.maximum(imported.value, 0),
        nothing if exported is None else np.maximum(exported.value, 0),
    ), -np.asarray(balance.dual_value)


def reference_tree(market: TreeMarket, solver: str = "clarabel") -> float:
    """The least cost.

    Raises:
        ClearingFailed: the solver gave no answer, or there is none.
        SolverUnavailable: it is not installed.
    """
    import cvxpy

    cp: Any = cvxpy

    agents, count, nodes = market.agents, market.agents.count, market.order.size
    sold, bought = cp.Variable(count, nonneg=True), cp.Variable(count, nonneg=True)
    power, up, down = (
        cp.Variable(count),
        cp.Variable(nodes, nonneg=True),
        cp.Variable(nodes, nonneg=True),
    )
    access = market.access[market.node]
    cost = 0.5 * cp.sum(cp.multiply(agents.a, cp.square(power))) + agents.b @ power
    cost += access @ (sold + bought) + market.fee @ (up + down)
    rules = [
        power >= agents.lower,
        power <= agents.upper,
        sold[agents.upper <= 0] == 0,
        bought[agents.lower >= 0] == 0,
    ]
    net = sold - bought
    if np.isfinite(market.import_price):
        imported, exported = cp.Variable(count, nonneg=True), cp.Variable(count, nonneg=True)
        rules += [imported[agents.lower >= 0] == 0, exported[agents.upper <= 0] == 0]
        cost += market.import_price * cp.sum(imported) - market.export_price * cp.sum(exported)
        rules.append(power == net - imported + exported)
    else:
        rules.append(power == net)
    limited = np.flatnonzero(np.isfinite(market.capacity))
    rules += [up[limited] <= market.capacity[limited], down[limited] <= market.capacity[limited]]
    at = np.zeros((nodes, count))
    at[market.node, np.arange(count)] = 1
    lines = np.zeros((nodes, nodes))
    for node in range(nodes):
        if market.parent[node] >= 0:
            lines[node, node] -= 1
            lines[market.parent[node], node] += 1
    rules.append(at @ net + lines @ (up - down) == 0)
    problem = cp.Problem(cp.Minimize(cost), rules)
    _solve(problem, solver)
    return float(problem.value)


def _solve(problem: Any, solver: str, tolerance: float = 1e-9) -> None:
    import cvxpy

    cp: Any = cvxpy

    name = SOLVERS.get(solver)
    if name is None or name not in cp.installed_solvers():
        raise SolverUnavailable(
            f"no solver {solver}", f"choose one of: {', '.join(SOLVERS)}, and install it"
        )
    options = {"eps_abs": tolerance, "eps_rel": tolerance} if solver in ("scs", "osqp") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            problem.solve(solver=name, **options)
        except cp.SolverError as error:
            raise ClearingFailed(f"{solver}: {error}", "try another solver") from None
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise ClearingFailed(
            f"{solver} says {problem.status}",
            "look whether the limits can be kept, or try another solver",
        )
