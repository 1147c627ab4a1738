"""The clearing as a linear program in cvxpy: the engine of record.

One variable for each group's matched demand and matched supply and for each edge's flow in each direction. Demand and
supply are parameters, so the program of a market is compiled once and every interval only changes numbers (cvxpy's
disciplined parametrised programming). Solver floats end here: rounded node prices go to `exact`, which makes the integer
optimum of them whatever the solver's accuracy was.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from backend.domain.errors import ClearingFailed, SolverUnavailable

from .problem import Market, Problem

# Name on the command line -> name in cvxpy. All open source; installed with cvxpy.
SOLVERS = {"highs": "HIGHS", "clarabel": "CLARABEL", "scs": "SCS"}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an engine found, as far as the exact step needs it: node prices rounded to integers, and the solver's own cost."""

    price_nano_per_wh: tuple[int, ...]
    solver_cost_nano: float


class EdgeFlowProgram:
    """The compiled program of one market.

    Args:
        market: graph and groups.
        solver: a key of `SOLVERS`.

    Raises:
        SolverUnavailable: the solver is unknown or not installed.
    """

    def __init__(self, market: Market, solver: str) -> None:
        import cvxpy as cp

        if solver not in SOLVERS or SOLVERS[solver] not in cp.installed_solvers():
            raise SolverUnavailable(
                f"no solver {solver!r}", f"choose one of: {', '.join(sorted(SOLVERS))}"
            )
        self.market = market
        self.solver = solver
        graph = market.graph
        group_count, edge_count = len(market.groups), len(graph.edge_from)
        group_node = np.array([group.node for group in market.groups], dtype=np.int64)
        # Prices and energies of ordinary size differ by 1e6; scaled to around one, approximate solvers converge.
        self._price_scale = float(
            max(
                (
                    max(abs(group.import_price_nano_per_wh), abs(group.export_price_nano_per_wh), 1)
                    for group in market.groups
                ),
                default=1,
            )
        )
        scaled = [
            np.array(values, dtype=float) / self._price_scale
            for values in (
                [group.import_price_nano_per_wh for group in market.groups],
                [group.export_price_nano_per_wh for group in market.groups],
                [graph.access_fee_nano_per_wh[group.node] for group in market.groups],
                graph.edge_fee_nano_per_wh,
            )
        ]
        import_price, export_price, access, edge_fee = scaled
        self._demand = cp.Parameter(group_count, nonneg=True)
        self._supply = cp.Parameter(group_count, nonneg=True)
        matched_demand = cp.Variable(group_count, nonneg=True)
        matched_supply = cp.Variable(group_count, nonneg=True)
        at_node = _incidence(graph.node_count, group_node)
        injection = at_node @ (matched_supply - matched_demand)
        cost = (
            import_price @ (self._demand - matched_demand)
            - export_price @ (self._supply - matched_supply)
            + access @ (matched_demand + matched_supply)
        )
        if edge_count:
            forward = cp.Variable(edge_count, nonneg=True)
            backward = cp.Variable(edge_count, nonneg=True)
            leaving = _incidence(graph.node_count, np.array(graph.edge_from))
            entering = _incidence(graph.node_count, np.array(graph.edge_to))
            injection = injection + (entering - leaving) @ (forward - backward)
            cost = cost + edge_fee @ (forward + backward)
        self._balance = injection == 0
        self._problem = cp.Problem(
            cp.Minimize(cost),
            [self._balance, matched_demand <= self._demand, matched_supply <= self._supply],
        )

    def propose(self, problem: Problem) -> Proposal:
        """Solves one interval.

        Raises:
            ClearingFailed: the solver gave up.
        """
        import cvxpy as cp

        energy_scale = float(max(*problem.demand_wh, *problem.supply_wh, 1))
        self._demand.value = np.array(problem.demand_wh, dtype=float) / energy_scale
        self._supply.value = np.array(problem.supply_wh, dtype=float) / energy_scale
        try:
            with warnings.catch_warnings():
                # "May be inaccurate" is no concern here: `exact` mends whatever comes.
                warnings.simplefilter("ignore", UserWarning)
                self._problem.solve(solver=SOLVERS[self.solver], **_options(self.solver))
        except cp.SolverError as error:
            raise ClearingFailed(
                f"solver {self.solver} failed: {error}", "choose another with --solver"
            ) from error
        dual = self._balance.dual_value
        if dual is None or not np.all(np.isfinite(dual)):
            raise ClearingFailed(
                f"solver {self.solver} ended with status {self._problem.status}",
                "choose another with --solver",
            )
        # cvxpy's multiplier of `injection == 0` is the negative of what a Wh at the node is worth.
        prices = np.atleast_1d(-np.asarray(dual) * self._price_scale)
        value = self._problem.value
        return Proposal(
            price_nano_per_wh=tuple(round(price) for price in prices.tolist()),
            solver_cost_nano=float(value) * self._price_scale * energy_scale,
        )


def _incidence(
    node_count: int, node_of_column: Sequence[int] | np.ndarray[Any, Any]
) -> sp.csr_array:
    columns = np.arange(len(node_of_column))
    return sp.csr_array(
        (np.ones(len(node_of_column)), (np.asarray(node_of_column), columns)),
        shape=(node_count, len(node_of_column)),
    )


def _options(solver: str) -> dict[str, Any]:
    # SCS is a first-order method: tighter than its default, or prices come out a cent wrong and `exact` has more to do.
    return {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iters": 20_000} if solver == "scs" else {}
