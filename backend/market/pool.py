"""The pool: clears an interval after the fact, without action by members, at least total cost.

The objective is the energy cluster's (Mrowiec, section 4): minimum total operating cost of the cluster, local generation
and demand matched, the rest imported and exported by the coordinator, the DSO paid for every Wh that moves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from backend.domain.case import ClearingCase
from backend.domain.clearing import (
    Clearing,
    EdgeFlow,
    GroupResult,
    MemberAmount,
    NodePrice,
    Trade,
    state_of,
)
from backend.domain.errors import ClearingFailed, SolverUnavailable

from .arrays import MarketArrays
from .certificate import (
    dual_value_nano,
    duality_gap_nano,
    network_fees_nano,
    outside_cost_nano,
    primal_cost_nano,
)
from .exact import canonical_clearing, feasible_prices, solve_from
from .kernels.compiling import COMPILE_FROM
from .pricing import DEFAULT_SHARE_MILLIONTHS, PriceRuleName, group_prices
from .problem import GroupPrices, Market, Problem, Solution, market_of, problem_of
from .program import SOLVERS, EdgeFlowProgram
from .trades import MemberTrade, derive_trades
from .tree_sweep import sweep_prices

# The engine of record; any other engine gives the same clearing.
DEFAULT_SOLVER = "highs"
SWEEP = "sweep"
# The exact step alone, from prices of zero: integer minimum-cost flow on any network.
FLOW = "flow"
AUTO = "auto"
# Above this many nodes a meshed network is faster with the linear program's prices to start from.
_FLOW_NODES = 100


@dataclass(frozen=True, slots=True)
class ClearedInterval:
    """A cleared interval by index; `as_clearing` gives it by name.

    Attributes:
        amount_nano: by member in member order, what the member receives (negative: pays).
        supplier_nano: what the outside supplier receives for the residual.
        fees_nano: what the DSO receives.
        dust_nano: what integer division leaves for the fund.
        solver_gap_nano: how far the engine's own prices were from proving this clearing optimal.
    """

    problem: Problem
    solution: Solution
    prices: GroupPrices
    member_net_wh: tuple[int, ...]
    member_group: tuple[int, ...]
    amount_nano: tuple[int, ...]
    trades: tuple[MemberTrade, ...]
    supplier_nano: int
    fees_nano: int
    dust_nano: int
    solver_gap_nano: int = 0


class Pool:
    """Clears intervals of one market; compiled once, used for as many intervals as there are.

    Args:
        market: graph and groups.
        solver: a cvxpy solver (key of `program.SOLVERS`), `sweep`, `flow`, or `auto`.
        rule: price rule.
        share_millionths: the buyers' share of the savings, for `savings-share`.

    Raises:
        SolverUnavailable: the solver is unknown or not installed.
    """

    def __init__(
        self,
        market: Market,
        solver: str = DEFAULT_SOLVER,
        rule: PriceRuleName = "savings-share",
        share_millionths: int = DEFAULT_SHARE_MILLIONTHS,
    ) -> None:
        self.market = market
        self.arrays = MarketArrays.of(market)
        self.rule: PriceRuleName = rule
        self.share_millionths = share_millionths
        self.solver = self._chosen(solver)
        self.program = EdgeFlowProgram(market, self.solver) if self.solver in SOLVERS else None

    def _chosen(self, solver: str) -> str:
        if solver == AUTO:
            if self.arrays.is_forest:
                return SWEEP
            return FLOW if self.arrays.node_count <= _FLOW_NODES else DEFAULT_SOLVER
        if solver == SWEEP and not self.arrays.is_forest:
            raise SolverUnavailable(
                "the tree sweep needs a network without circles", f"choose {AUTO} or a cvxpy solver"
            )
        if solver not in (SWEEP, FLOW, *SOLVERS):
            raise SolverUnavailable(
                f"no solver {solver!r}",
                f"choose one of: {', '.join((AUTO, SWEEP, FLOW, *sorted(SOLVERS)))}",
            )
        return solver

    def solve(self, problem: Problem) -> tuple[Solution, int]:
        """The canonical optimal clearing of the interval, with a duality gap of exactly zero.

        Returns:
            The clearing, and what the engine's own rounded prices left unproved, in nano.

        Raises:
            ClearingFailed: the solver gave up, or its answer could not be certified.
        """
        return self.solve_many([problem])[0]

    def solve_many(self, problems: Sequence[Problem]) -> list[tuple[Solution, int]]:
        """As `solve`, for many intervals at once."""
        two_sided = [
            problem for problem in problems if any(problem.demand_wh) and any(problem.supply_wh)
        ]
        if self.program is None:
            exact = self._swept if self.solver == SWEEP else self._flowed
            return [(self._certified(problem, exact(problem)), 0) for problem in problems]
        if len(two_sided) > 1:
            proposals = iter(self.program.propose_many(two_sided))
        else:
            proposals = iter([self.program.propose(problem) for problem in two_sided])
        arrays = self.arrays
        if arrays.node_count * len(problems) >= COMPILE_FROM:
            arrays = replace(arrays, compiled=True)
        solved = []
        for problem in problems:
            if any(problem.demand_wh) and any(problem.supply_wh):
                proposed = next(proposals).price_nano_per_wh
            else:  # one side is missing, nothing to solve
                proposed = (0,) * problem.market.graph.node_count
                solution = self._certified(problem, solve_from(problem, proposed, arrays))
                solved.append((solution, 0))
                continue
            solution = self._certified(problem, solve_from(problem, proposed, arrays))
            reachable = tuple(feasible_prices(problem.market.graph, proposed))
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

    def clear(
        self, member_group: tuple[int, ...], member_net_wh: tuple[int, ...]
    ) -> ClearedInterval:
        """Clears one interval for members given by index in member order.

        Args:
            member_group: by member, its group in the market.
            member_net_wh: by member, positive for a surplus.

        Raises:
            ClearingFailed: as `solve`.
        """
        return next(self.clear_many(member_group, [member_net_wh]))

    def clear_many(
        self, member_group: tuple[int, ...], intervals: Sequence[tuple[int, ...]]
    ) -> Iterator[ClearedInterval]:
        """Clears intervals of the same members, solved together, given back one by one.

        Args:
            member_group: by member, its group in the market.
            intervals: per interval the members' net positions.

        Raises:
            ClearingFailed: as `solve`.
        """
        problems = self.problems(member_group, intervals)
        for problem, nets, (solution, gap) in zip(
            problems, intervals, self.solve_many(problems), strict=True
        ):
            yield self._settled(problem, solution, gap, member_group, nets)

    def problems(
        self, member_group: tuple[int, ...], intervals: Sequence[tuple[int, ...]]
    ) -> list[Problem]:
        """Each interval's totals by group.

        Args:
            member_group: by member, its group in the market.
            intervals: per interval the members' net positions.
        """
        return [self._problem(member_group, nets) for nets in intervals]

    def _problem(self, member_group: tuple[int, ...], member_net_wh: tuple[int, ...]) -> Problem:
        demand, supply = [0] * len(self.market.groups), [0] * len(self.market.groups)
        for group, net in zip(member_group, member_net_wh, strict=True):
            if net < 0:
                demand[group] -= net
            else:
                supply[group] += net
        return Problem(self.market, tuple(demand), tuple(supply))

    def _settled(
        self,
        problem: Problem,
        solution: Solution,
        solver_gap_nano: int,
        member_group: tuple[int, ...],
        member_net_wh: tuple[int, ...],
    ) -> ClearedInterval:
        prices = group_prices(problem, solution, self.rule, self.share_millionths)
        amounts = tuple(
            net * (prices.buy_nano_per_wh[group] if net < 0 else prices.sell_nano_per_wh[group])
            for group, net in zip(member_group, member_net_wh, strict=True)
        )
        cost = primal_cost_nano(problem, solution)
        fees = network_fees_nano(problem, solution)
        dust = -sum(amounts) - cost
        # INVARIANT: members pay the outside bill, the fees and the dust.
        assert dust >= 0
        return ClearedInterval(
            problem=problem,
            solution=solution,
            prices=prices,
            member_net_wh=member_net_wh,
            member_group=member_group,
            amount_nano=amounts,
            trades=tuple(self._trades(solution, member_group, member_net_wh)),
            supplier_nano=cost - fees,
            fees_nano=fees,
            dust_nano=dust,
            solver_gap_nano=solver_gap_nano,
        )

    def _trades(
        self, solution: Solution, member_group: tuple[int, ...], member_net_wh: tuple[int, ...]
    ) -> list[MemberTrade]:
        return derive_trades(
            self.arrays,
            matched_demand_wh=np.array(solution.matched_demand_wh, dtype=np.int64),
            matched_supply_wh=np.array(solution.matched_supply_wh, dtype=np.int64),
            flow_wh=np.array(solution.flow_wh, dtype=np.int64),
            price_nano_per_wh=np.array(solution.price_nano_per_wh, dtype=np.int64),
            member_group=np.array(member_group, dtype=np.int64),
            member_net_wh=np.array(member_net_wh, dtype=np.int64),
        ).as_trades()


class PoolBook:
    """Clears cases of the file format, one after the other; cases of one market share what is compiled for it.

    Args:
        rule: price rule.
        share_millionths: beta of savings-share, or a of blend.
        solver: a cvxpy solver (key of `program.SOLVERS`), `sweep`, `flow`, or `auto`.
    """

    _LIMIT = 32

    def __init__(
        self,
        rule: str = "savings-share",
        share_millionths: int = DEFAULT_SHARE_MILLIONTHS,
        solver: str = DEFAULT_SOLVER,
    ) -> None:
        self._rule = cast(PriceRuleName, rule)
        self._share_millionths = share_millionths
        self._solver = solver
        self._pools: OrderedDict[str, Pool] = OrderedDict()

    def clear(self, case: ClearingCase) -> Clearing:
        """Clears a checked case.

        Raises:
            SolverUnavailable: the solver is unknown, not installed, or not made for such a network.
            ClearingFailed: the solver gave up.
        """
        pool = self._pool(case)
        members = sorted(case.members, key=lambda member: member.id)
        cleared = pool.clear(
            tuple(pool.market.group_index[member.node, member.tariff_class] for member in members),
            tuple(member.net_wh for member in members),
        )
        return as_clearing(cleared, tuple(member.id for member in members), self._rule, pool.solver)

    def _pool(self, case: ClearingCase) -> Pool:
        market = market_of(case)
        key = repr((market.graph, market.groups, market.node_names, market.class_names))
        if key in self._pools:
            self._pools.move_to_end(key)
        else:
            self._pools[key] = Pool(market, self._solver, self._rule, self._share_millionths)
            if len(self._pools) > self._LIMIT:
                self._pools.popitem(last=False)
        return self._pools[key]


def clear_case(
    case: ClearingCase,
    rule: str = "savings-share",
    share_millionths: int = DEFAULT_SHARE_MILLIONTHS,
    solver: str = DEFAULT_SOLVER,
) -> Clearing:
    """Clears one checked case; see `PoolBook`."""
    return PoolBook(rule, share_millionths, solver).clear(case)


def as_clearing(
    cleared: ClearedInterval, member_names: tuple[str, ...], rule: str, solver: str
) -> Clearing:
    """A cleared interval by name, in the file format `peerwatt/clearing/1`."""
    problem, solution, prices = cleared.problem, cleared.solution, cleared.prices
    market = problem.market
    graph = market.graph
    outside = outside_cost_nano(problem)
    cost = cleared.supplier_nano + cleared.fees_nano
    return Clearing(
        cost_nano=cost,
        outside_cost_nano=outside,
        savings_nano=outside - cost,
        state=state_of(sum(problem.supply_wh) - sum(problem.demand_wh)),
        imported_wh=sum(problem.demand_wh) - sum(solution.matched_demand_wh),
        exported_wh=sum(problem.supply_wh) - sum(solution.matched_supply_wh),
        groups=tuple(
            GroupResult(
                node=market.node_names[group.node],
                tariff_class=market.class_names[group.tariff_class],
                demand_wh=problem.demand_wh[number],
                supply_wh=problem.supply_wh[number],
                matched_demand_wh=solution.matched_demand_wh[number],
                matched_supply_wh=solution.matched_supply_wh[number],
                buy_price_nano_per_wh=prices.buy_nano_per_wh[number],
                sell_price_nano_per_wh=prices.sell_nano_per_wh[number],
            )
            for number, group in enumerate(market.groups)
        ),
        flows=tuple(
            EdgeFlow(
                from_node=market.node_names[tail if flow > 0 else head],
                to_node=market.node_names[head if flow > 0 else tail],
                energy_wh=abs(flow),
            )
            for tail, head, flow in zip(
                graph.edge_from, graph.edge_to, solution.flow_wh, strict=True
            )
            if flow
        ),
        node_prices=tuple(
            NodePrice(node=name, price_nano_per_wh=price)
            for name, price in zip(market.node_names, solution.price_nano_per_wh, strict=True)
        ),
        duality_gap_nano=duality_gap_nano(problem, solution),
        solver_gap_nano=cleared.solver_gap_nano,
        price_rule=rule,
        fees_nano=cleared.fees_nano,
        dust_nano=cleared.dust_nano,
        members=tuple(
            MemberAmount(id=name, state=state_of(net), amount_nano=amount)
            for name, net, amount in zip(
                member_names, cleared.member_net_wh, cleared.amount_nano, strict=True
            )
        ),
        trades=tuple(
            Trade(
                seller=member_names[trade.seller],
                buyer=member_names[trade.buyer],
                energy_wh=trade.energy_wh,
                fee_nano=trade.fee_nano,
            )
            for trade in cleared.trades
        ),
        solver=solver,
    )


__all__ = ["ClearedInterval", "Pool", "as_clearing", "clear_case", "problem_of"]
