"""Engines where each pair of nodes has a fee of its own: the network simplex over all pairs, and cvxpy before it.

Canonical prices and trades are always those of `pair_matrix`. A cvxpy solver's prices do not make them easier to find, so
they are compared with them only: the gap that they leave says how good the solver was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .certificate import outside_cost_nano, residual_cost_nano
from .engine import AUTO, Engine, Proof, chosen_solver
from .kernels.compiling import Integers
from .pair_matrix import PairSolution, product_nano, solve_pairs
from .problem import GroupPrices, PairMarket, Problem, Solution
from .program import SOLVERS, PairProgram
from .trades import TradeArrays, derive_pair_trades

PAIRS = "pairs"
_FOREIGN = {
    "sweep": "the tree sweep needs a network of edges; this one is a matrix of pair fees",
    "flow": "minimum-cost flow needs a network of edges; this one is a matrix of pair fees",
}


@dataclass(frozen=True, slots=True)
class PairClearing(Solution):
    """What groups trade with each other. No edge has a flow, and no node one price: `flow_wh` and `price_nano_per_wh` are empty.

    Attributes:
        pairs: trades between groups, and what their energy is worth beyond outside prices.
    """

    pairs: PairSolution


class PairEngine(Engine[PairClearing]):
    """Clears over a matrix of pair fees.

    Args:
        market: pair fees and groups.
        solver: a key of `SOLVERS`, `pairs` or `auto`.

    Raises:
        SolverUnavailable: the solver is unknown, not installed, or made for graphs.
    """

    def __init__(self, market: PairMarket, solver: str) -> None:
        self.solver = chosen_solver(PAIRS if solver == AUTO else solver, (PAIRS,), _FOREIGN)
        groups = market.groups
        node = np.array([group.node for group in groups], dtype=np.int64)
        access = np.array(market.graph.access_fee_nano_per_wh, dtype=np.int64)[node]
        self._node = node
        self._import_price, self._export_price = (
            np.array(prices, dtype=np.int64)
            for prices in (
                [group.import_price_nano_per_wh for group in groups],
                [group.export_price_nano_per_wh for group in groups],
            )
        )
        # (G, G): what a Wh from one group to another saves against both trading outside.
        self._gain = self._import_price - access - (self._export_price + access)[:, None]
        self._gain -= market.pair_fee_nano_per_wh[node].take(node, axis=1)
        self.program = (
            PairProgram(market, self.solver, self._gain) if self.solver in SOLVERS else None
        )

    def solve_many(self, problems: Sequence[Problem]) -> list[tuple[PairClearing, int]]:
        """As the base."""
        if self.program is None:
            return [(self._solved(problem), 0) for problem in problems]
        solved = []
        for problem, proposal in zip(
            problems, self.program.propose_where_needed(problems), strict=True
        ):
            solution = self._solved(problem)
            gap = 0
            if proposal is not None:
                bound = self._bound_nano(problem, proposal.price_nano_per_wh)
                gap = bound - solution.pairs.savings_nano
            solved.append((solution, gap))
        return solved

    def _solved(self, problem: Problem) -> PairClearing:
        supply, demand = (
            np.array(energies, dtype=np.int64)
            for energies in (problem.supply_wh, problem.demand_wh)
        )
        pairs = solve_pairs(self._gain, supply, demand)
        matched_supply, matched_demand = np.zeros_like(supply), np.zeros_like(demand)
        np.add.at(matched_supply, pairs.seller, pairs.energy_wh)
        np.add.at(matched_demand, pairs.buyer, pairs.energy_wh)
        return PairClearing(
            matched_demand_wh=tuple(matched_demand.tolist()),
            matched_supply_wh=tuple(matched_supply.tolist()),
            flow_wh=(),
            price_nano_per_wh=(),
            pairs=pairs,
        )

    def _bound_nano(self, problem: Problem, proposed: tuple[int, ...]) -> int:
        """What proposed values, u and then v, prove that no clearing can save more than, once raised where a pair gains more."""
        supply, demand = np.array(problem.supply_wh), np.array(problem.demand_wh)
        u, v = np.maximum(np.array(proposed, dtype=np.int64), 0).reshape(2, -1)
        selling = supply > 0
        v = np.maximum(v, (self._gain[selling] - u[selling, None]).max(axis=0))
        return product_nano(u, supply) + product_nano(v, demand)

    def fees_nano(self, problem: Problem, solution: PairClearing) -> int:
        """As the base."""
        return product_nano(self._fees(solution.pairs), solution.pairs.energy_wh)

    def _fees(self, pairs: PairSolution) -> Integers:
        """What each of these trades pays per Wh, both access fees included."""
        spread = self._import_price[pairs.buyer] - self._export_price[pairs.seller]
        return spread - self._gain[pairs.seller, pairs.buyer]

    def competitive(self, problem: Problem, solution: PairClearing) -> GroupPrices:
        """A deficit costs r - v, a surplus earns f + u."""
        pairs = solution.pairs
        return GroupPrices(
            buy_nano_per_wh=tuple((self._import_price - pairs.buyer_price_nano_per_wh).tolist()),
            sell_nano_per_wh=tuple((self._export_price + pairs.seller_price_nano_per_wh).tolist()),
        )

    def trades(
        self, solution: PairClearing, member_group: Integers, member_net_wh: Integers
    ) -> TradeArrays:
        """As the base."""
        return derive_pair_trades(
            solution.pairs,
            self._fees(solution.pairs),
            matched_demand_wh=np.array(solution.matched_demand_wh, dtype=np.int64),
            matched_supply_wh=np.array(solution.matched_supply_wh, dtype=np.int64),
            member_group=member_group,
            member_net_wh=member_net_wh,
        )

    def proof(self, problem: Problem, solution: PairClearing) -> Proof:
        """Flows between pairs of nodes, a node with itself included.

        `solve_pairs` has compared the values with all pairs; the gap is computed again from the money.
        """
        pairs = solution.pairs
        flows: dict[tuple[int, int], int] = {}
        for seller, buyer, energy in zip(
            self._node[pairs.seller].tolist(),
            self._node[pairs.buyer].tolist(),
            pairs.energy_wh.tolist(),
            strict=True,
        ):
            flows[seller, buyer] = flows.get((seller, buyer), 0) + energy
        u, v = pairs.seller_price_nano_per_wh, pairs.buyer_price_nano_per_wh
        bound = product_nano(u, np.array(problem.supply_wh)) + product_nano(
            v, np.array(problem.demand_wh)
        )
        cost = residual_cost_nano(problem, solution) + self.fees_nano(problem, solution)
        return Proof(
            flows=tuple((one, other, energy) for (one, other), energy in sorted(flows.items())),
            node_prices=(),
            group_values=tuple(zip(u.tolist(), v.tolist(), strict=True)),
            duality_gap_nano=bound - (outside_cost_nano(problem) - cost),
        )
