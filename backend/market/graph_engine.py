"""Engines for networks that are a sparse graph: tree sweep, integer minimum-cost flow, and cvxpy with the exact step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from backend.domain.errors import ClearingFailed

from .arrays import MarketArrays
from .certificate import dual_value_nano, duality_gap_nano, network_fees_nano, primal_cost_nano
from .engine import AUTO, DEFAULT_SOLVER, Engine, Proof, chosen_solver
from .exact import canonical_clearing, feasible_prices, solve_from
from .kernels.compiling import COMPILE_FROM, Integers
from .problem import GroupPrices, Market, Problem, Solution
from .program import SOLVERS, EdgeFlowProgram
from .trades import TradeArrays, derive_trades
from .tree_sweep import sweep_prices

SWEEP = "sweep"
# The exact step alone, from prices of zero: integer minimum-cost flow on any network.
FLOW = "flow"
# Above this many nodes a meshed network is faster with the linear program's prices to start from.
_FLOW_NODES = 100


class GraphEngine(Engine[Solution]):
    """Clears on a graph.

    Args:
        market: graph and groups.
        solver: a key of `SOLVERS`, `sweep`, `flow` or `auto`.
        compiled: whether to compile loops; by default only where the network is large.

    Raises:
        SolverUnavailable: the solver is unknown, not installed, or not made for such a network.
    """

    def __init__(self, market: Market, solver: str, compiled: bool | None = None) -> None:
        self.market = market
        self.arrays = MarketArrays.of(market, compiled)
        if solver == AUTO:
            small = self.arrays.node_count <= _FLOW_NODES
            solver = SWEEP if self.arrays.is_forest else FLOW if small else DEFAULT_SOLVER
        foreign = {"pairs": "pairs needs a network with a matrix of pair fees"}
        if not self.arrays.is_forest:
            foreign[SWEEP] = "the tree sweep needs a network without circles"
        self.solver = chosen_solver(solver, (SWEEP, FLOW), foreign)
        self.program = EdgeFlowProgram(market, self.solver) if self.solver in SOLVERS else None

    def solve_many(self, problems: Sequence[Problem]) -> list[tuple[Solution, int]]:
        """As the base."""
        if self.program is None:
            exact = self._swept if self.solver == SWEEP else self._flowed
            return [(self._certified(problem, exact(problem)), 0) for problem in problems]
        proposals = self.program.propose_where_needed(problems)
        arrays = self.arrays
        if arrays.node_count * len(problems) >= COMPILE_FROM:
            arrays = replace(arrays, compiled=True)
        solved = []
        for problem, proposal in zip(problems, proposals, strict=True):
            if proposal is None:
                solved.append((self._certified(problem, self._flowed(problem)), 0))
                continue
            prices = proposal.price_nano_per_wh
            solution = self._certified(problem, solve_from(problem, prices, arrays))
            reachable = tuple(feasible_prices(problem.market.graph, prices))
            gap = primal_cost_nano(problem, solution) - dual_value_nano(problem, reachable)
            solved.append((solution, gap))
        return solved

    def _swept(self, problem: Problem) -> Solution:
        prices = sweep_prices(
            self.arrays,
            np.array(problem.demand_wh, dtype=np.int64),
            np.array(problem.supply_wh, dtype=np.int64),
        )
        return canonical_clearing(problem, prices.tolist(), self.arrays)

    def _flowed(self, problem: Problem) -> Solution:
        return solve_from(problem, (0,) * problem.market.graph.node_count, self.arrays)

    def _certified(self, problem: Problem, solution: Solution) -> Solution:
        gap = duality_gap_nano(problem, solution)
        if gap:
            raise ClearingFailed(
                f"duality gap {gap} nano", "report this case: the exact step must close the gap"
            )
        return solution

    def fees_nano(self, problem: Problem, solution: Solution) -> int:
        """As the base."""
        return network_fees_nano(problem, solution)

    def competitive(self, problem: Problem, solution: Solution) -> GroupPrices:
        """Node price plus or minus access fee, within the outside prices."""
        access = problem.market.graph.access_fee_nano_per_wh
        price = solution.price_nano_per_wh
        groups = problem.market.groups
        return GroupPrices(
            buy_nano_per_wh=tuple(
                min(group.import_price_nano_per_wh, price[group.node] + access[group.node])
                for group in groups
            ),
            sell_nano_per_wh=tuple(
                max(group.export_price_nano_per_wh, price[group.node] - access[group.node])
                for group in groups
            ),
        )

    def trades(
        self, solution: Solution, member_group: Integers, member_net_wh: Integers
    ) -> TradeArrays:
        """As the base."""
        return derive_trades(
            self.arrays,
            matched_demand_wh=np.array(solution.matched_demand_wh, dtype=np.int64),
            matched_supply_wh=np.array(solution.matched_supply_wh, dtype=np.int64),
            flow_wh=np.array(solution.flow_wh, dtype=np.int64),
            price_nano_per_wh=np.array(solution.price_nano_per_wh, dtype=np.int64),
            member_group=member_group,
            member_net_wh=member_net_wh,
        )

    def proof(self, problem: Problem, solution: Solution) -> Proof:
        """As the base."""
        graph = problem.market.graph
        return Proof(
            flows=tuple(
                (tail, head, flow) if flow > 0 else (head, tail, -flow)
                for tail, head, flow in zip(
                    graph.edge_from, graph.edge_to, solution.flow_wh, strict=True
                )
                if flow
            ),
            node_prices=solution.price_nano_per_wh,
            group_values=(),
            duality_gap_nano=duality_gap_nano(problem, solution),
        )
