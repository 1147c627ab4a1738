"""The clearing as a linear program in cvxpy: the engine of record.

On a graph, one variable for each group's matched demand and matched supply and for each edge's flow in each direction; under
pair fees, one for each pair of groups that gains. Demand and supply are parameters, so the program of a market is compiled
once and every interval only changes numbers (cvxpy's disciplined parametrised programming). Solver floats end here: rounded
dual prices go to the exact step, which finds the integer optimum whatever the solver's accuracy was.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.domain.errors import ClearingFailed, SolverUnavailable

from .kernels.compiling import Integers
from .problem import Group, Market, Problem

if TYPE_CHECKING:
    import scipy.sparse as sp

# Name on the command line -> name in cvxpy. All open source; installed with cvxpy.
SOLVERS = {"highs": "HIGHS", "clarabel": "CLARABEL", "scs": "SCS"}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an engine found, as far as the exact step needs it: dual prices, rounded to integers.

    By node on a graph; under pair fees by group, supply's u and then demand's v.
    """

    price_nano_per_wh: tuple[int, ...]


class Program(ABC):
    """The compiled program of one market.

    Args:
        market: network and groups.
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
        # Prices and energies of ordinary size differ by 1e6; scaled to around one, approximate solvers converge.
        self._price_scale = float(max(map(_largest_price, market.groups), default=1))
        self._solver_seconds = 0.0
        self._demand = cp.Parameter((len(market.groups), 1), nonneg=True)
        self._supply = cp.Parameter((len(market.groups), 1), nonneg=True)
        self._problem, self._duals = self._build(self._demand, self._supply, 1)

    def propose_where_needed(self, problems: Sequence[Problem]) -> list[Proposal | None]:
        """Solves intervals together; None for those where one side is missing, so that there is nothing to solve.

        Raises:
            ClearingFailed: the solver gave up.
        """
        needed = [problem for problem in problems if problem.is_two_sided]
        if len(needed) > 1:
            found = iter(self.propose_many(needed))
        else:
            found = iter([self.propose(problem) for problem in needed])
        return [next(found) if problem.is_two_sided else None for problem in problems]

    def propose(self, problem: Problem) -> Proposal:
        """Solves one interval; the program was compiled when the market was given.

        Raises:
            ClearingFailed: the solver gave up.
        """
        energy_scale = float(max(*problem.demand_wh, *problem.supply_wh, 1))
        self._demand.value = np.array([problem.demand_wh], dtype=float).T / energy_scale
        self._supply.value = np.array([problem.supply_wh], dtype=float).T / energy_scale
        self._solve(self._problem)
        return self._proposals(self._duals)[0]

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
        program, duals = self._build(
            cp.Constant(demand / scale), cp.Constant(supply / scale), len(problems)
        )
        self._solve(program)
        return self._proposals(duals)

    @property
    def solver_seconds(self) -> float:
        """The solver's own time since the start, as cvxpy reports it."""
        return self._solver_seconds

    @abstractmethod
    def _build(self, demand: Any, supply: Any, intervals: int) -> tuple[Any, list[tuple[Any, int]]]:
        """The program for `intervals` columns; the constraints whose multipliers are the prices, in order, and their sign."""

    def _solve(self, program: Any) -> None:
        import cvxpy as cp

        try:
            with warnings.catch_warnings():
                # "May be inaccurate" is no concern here: the exact step mends whatever comes.
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

    def _proposals(self, duals: list[tuple[Any, int]]) -> list[Proposal]:
        found = [(constraint.dual_value, sign) for constraint, sign in duals]
        if any(dual is None or not np.all(np.isfinite(dual)) for dual, _ in found):
            raise ClearingFailed(
                f"solver {self.solver} gave no prices", "choose another with --solver"
            )
        prices = np.vstack([sign * np.asarray(dual) for dual, sign in found]) * self._price_scale
        columns = np.rint(prices).astype(np.int64).T.tolist()
        return [Proposal(tuple(column)) for column in columns]


class EdgeFlowProgram(Program):
    """On a graph."""

    def _build(self, demand: Any, supply: Any, intervals: int) -> tuple[Any, list[tuple[Any, int]]]:
        import cvxpy as cp

        graph, groups = self.market.graph, self.market.groups
        edges = len(graph.edge_from)
        group_node = np.array([group.node for group in groups], dtype=np.int64)
        import_price, export_price, access, edge_fee = (
            np.array(values, dtype=float) / self._price_scale
            for values in (
                [group.import_price_nano_per_wh for group in groups],
                [group.export_price_nano_per_wh for group in groups],
                [graph.access_fee_nano_per_wh[group.node] for group in groups],
                graph.edge_fee_nano_per_wh,
            )
        )
        matched_demand = cp.Variable((len(groups), intervals), nonneg=True)
        matched_supply = cp.Variable((len(groups), intervals), nonneg=True)
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
        # cvxpy's multiplier of `injection == 0` is the negative of what a Wh at the node is worth.
        return program, [(balance, -1)]


class PairProgram(Program):
    """Under pair fees.

    Args:
        market: whose groups trade.
        solver: a key of `SOLVERS`.
        gain_nano_per_wh: (G, G) from selling to buying group.

    Raises:
        SolverUnavailable: the solver is unknown or not installed.
    """

    def __init__(self, market: Market, solver: str, gain_nano_per_wh: Integers) -> None:
        self._gain = gain_nano_per_wh
        super().__init__(market, solver)

    def _build(self, demand: Any, supply: Any, intervals: int) -> tuple[Any, list[tuple[Any, int]]]:
        import cvxpy as cp
        import scipy.sparse as sp

        groups = len(self.market.groups)
        # A pair that gains nothing need not trade. cvxpy takes no empty variable, so a spare one without gain is there always.
        seller, buyer = np.nonzero(self._gain > 0)
        gain = np.append(self._gain[seller, buyer] / self._price_scale, 0.0)
        nobody = sp.csr_array((groups, 1))
        traded = cp.Variable((gain.size, intervals), nonneg=True)
        selling = sp.hstack([_incidence(groups, seller), nobody], format="csr") @ traded <= supply
        buying = sp.hstack([_incidence(groups, buyer), nobody], format="csr") @ traded <= demand
        program = cp.Problem(
            cp.Minimize(cp.sum(-gain @ traded)),  # type: ignore[attr-defined]
            [selling, buying],
        )
        return program, [(selling, 1), (buying, 1)]


def _largest_price(group: Group) -> int:
    return max(abs(group.import_price_nano_per_wh), abs(group.export_price_nano_per_wh), 1)


def _incidence(
    node_count: int, node_of_column: Sequence[int] | np.ndarray[Any, Any]
) -> sp.csr_array:
    import scipy.sparse as sp

    columns = np.arange(len(node_of_column))
    return sp.csr_array(
        (np.ones(len(node_of_column)), (np.asarray(node_of_column), columns)),
        shape=(node_count, len(node_of_column)),
    )


def _options(solver: str) -> dict[str, Any]:
    # SCS is a first-order method: tighter than its default, or prices come out a cent wrong and `exact` has more to do.
    return {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iters": 20_000} if solver == "scs" else {}
