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
    """What an engine found, as far as the exact step needs it: node prices, rounded to integers."""

    price_nano_per_wh: tuple[int, ...]


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
        self._scaled = scaled
        self._solver_seconds = 0.0
        self._demand = cp.Parameter((len(market.groups), 1), nonneg=True)
        self._supply = cp.Parameter((len(market.groups), 1), nonneg=True)
        self._problem, self._balance = self._build(self._demand, self._supply, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Solves one interval; the program was compiled when the market was given.

        Raises:
            ClearingFailed: the solver gave up.
        """
        energy_scale = float(max(*problem.demand_wh, *problem.supply_wh, 1))
        self._demand.value = np.array([problem.demand_wh], dtype=float).T / energy_scale
        self._supply.value = np.array([problem.supply_wh], dtype=float).T / energy_scale
        self._solve(self._problem)
        return self._proposals(self._balance)[0]

    def propose_many(self, problems: Sequence[Problem]) -> list[Proposal]:
        """Solves many intervals of the market as one program, each its own column.

        A day compiled and solved at once takes little more than the solver's own time; one by one, cvxpy's own work on each
        would be most of it. SCS gets them one by one: its effort grows faster than the program.

        Raises:
            ClearingFailed: the solver gave up.
        """
        import cvxpy as cp

        if self.solver == "scs" or not problems:
            return [self.propose(problem) for problem in problems]
        demand = np.array([problem.demand_wh for problem in problems], dtype=float).T
        supply = np.array([problem.supply_wh for problem in problems], dtype=float).T
        scale = np.maximum(np.maximum(demand.max(axis=0), supply.max(axis=0)), 1.0)
        program, balance = self._build(
            cp.Constant(demand / scale), cp.Constant(supply / scale), len(problems)
        )
        self._solve(program)
        return self._proposals(balance)

    @property
    def solver_seconds(self) -> float:
        """The solver's own time since the start, as cvxpy reports it."""
        return self._solver_seconds

    def _build(self, demand: Any, supply: Any, intervals: int) -> tuple[Any, Any]:
        """The program for `intervals` columns, and its balance constraint, whose multipliers are the prices."""
        import cvxpy as cp

        graph = self.market.graph
        groups, edges = len(self.market.groups), len(graph.edge_from)
        group_node = np.array([group.node for group in self.market.groups], dtype=np.int64)
        import_price, export_price, access, edge_fee = self._scaled
        matched_demand = cp.Variable((groups, intervals), nonneg=True)
        matched_supply = cp.Variable((groups, intervals), nonneg=True)
        injection = _incidence(graph.node_count, group_node) @ (matched_supply - matched_demand)
        cost = (access - import_price) @ matched_demand + (access + export_price) @ matched_supply
        if edges:
            forward = cp.Variable((edges, intervals), nonneg=True)
            backward = cp.Variable((edges, intervals), nonneg=True)
            leaving = _incidence(graph.node_count, np.array(graph.edge_from))
            entering = _incidence(graph.node_count, np.array(graph.edge_to))
            injection = injection + (entering - leaving) @ (forward - backward)
            cost = cost + edge_fee @ (forward + backward)
        balance = injection == 0
        program = cp.Problem(
            cp.Minimize(cp.sum(cost)),  # type: ignore[attr-defined]
            [balance, matched_demand <= demand, matched_supply <= supply],
        )
        return program, balance

    def _solve(self, program: Any) -> None:
        import cvxpy as cp

        try:
            with warnings.catch_warnings():
                # "May be inaccurate" is no concern here: `exact` mends whatever comes.
                warnings.simplefilter("ignore", UserWarning)
                program.solve(solver=SOLVERS[self.solver], **_options(self.solver))
        except cp.SolverError as error:
            raise ClearingFailed(
                f"solver {self.solver} failed: {error}", "choose another with --solver"
            ) from error
        self._solver_seconds += program.solver_stats.solve_time or 0.0
        if program.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE, cp.USER_LIMIT):
            raise ClearingFailed(
                f"solver {self.solver} ended with status {program.status}",
                "choose another with --solver",
            )

    def _proposals(self, balance: Any) -> list[Proposal]:
        dual = balance.dual_value
        if dual is None or not np.all(np.isfinite(dual)):
            raise ClearingFailed(
                f"solver {self.solver} gave no prices", "choose another with --solver"
            )
        # cvxpy's multiplier of `injection == 0` is the negative of what a Wh at the node is worth.
        prices = np.rint(-np.asarray(dual) * self._price_scale).reshape(
            self.market.graph.node_count, -1
        )
        return [Proposal(tuple(column)) for column in prices.astype(np.int64).T.tolist()]


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
