"""The pool: clears an interval after the fact, without action by members, at least total cost.

The objective is the energy cluster's (Mrowiec, section 4): minimum total operating cost of the cluster, local generation
and demand matched, the rest imported and exported by the coordinator, the DSO paid for every Wh that moves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

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

from .certificate import outside_cost_nano, residual_cost_nano
from .engine import DEFAULT_SOLVER, Engine, Proof
from .graph_engine import GraphEngine
from .pair_engine import PairEngine
from .pricing import DEFAULT_SHARE_MILLIONTHS, PriceRuleName, group_prices
from .problem import GroupPrices, Market, PairMarket, Problem, Solution, market_of, problem_of
from .trades import MemberTrade


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
        market: network and groups.
        solver: a cvxpy solver (key of `program.SOLVERS`), `auto`, or for graphs `sweep` and `flow`, for pair fees `pairs`.
        rule: price rule.
        share_millionths: the buyers' share of the savings, for `savings-share`.
        compiled: whether to compile a graph's loops, which pays in a process that clears thousands of days; by default only
            where the network is large.

    Raises:
        SolverUnavailable: the solver is unknown or not installed.
    """

    def __init__(
        self,
        market: Market,
        solver: str = DEFAULT_SOLVER,
        rule: PriceRuleName = "savings-share",
        share_millionths: int = DEFAULT_SHARE_MILLIONTHS,
        compiled: bool | None = None,
    ) -> None:
        self.market = market
        self.rule: PriceRuleName = rule
        self.share_millionths = share_millionths
        self.engine = engine_of(market, solver, compiled)

    @property
    def solver(self) -> str:
        """Which engine it is, never `auto`."""
        return self.engine.solver

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
        return self.engine.solve_many(problems)

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
        engine = self.engine
        fees = engine.fees_nano(problem, solution)
        cost = residual_cost_nano(problem, solution) + fees
        prices = group_prices(
            problem,
            cost,
            lambda: engine.competitive(problem, solution),
            self.rule,
            self.share_millionths,
        )
        amounts = tuple(
            net * (prices.buy_nano_per_wh[group] if net < 0 else prices.sell_nano_per_wh[group])
            for group, net in zip(member_group, member_net_wh, strict=True)
        )
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
            trades=tuple(
                engine.trades(
                    solution,
                    np.array(member_group, dtype=np.int64),
                    np.array(member_net_wh, dtype=np.int64),
                ).as_trades()
            ),
            supplier_nano=cost - fees,
            fees_nano=fees,
            dust_nano=dust,
            solver_gap_nano=solver_gap_nano,
        )


def engine_of(market: Market, solver: str, compiled: bool | None = None) -> Engine[Any]:
    """The engine for the market's kind of network.

    Raises:
        SolverUnavailable: the solver is unknown, not installed, or not made for such a network.
    """
    if isinstance(market, PairMarket):
        return PairEngine(market, solver)
    return GraphEngine(market, solver, compiled)


class PoolBook:
    """Clears cases of the file format, one after the other; cases of one market share what is compiled for it.

    Args:
        rule: price rule.
        share_millionths: beta of savings-share, or a of blend.
        solver: a cvxpy solver (key of `program.SOLVERS`), `auto`, or for graphs `sweep` and `flow`, for pair fees `pairs`.
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
        return as_clearing(cleared, tuple(member.id for member in members), self._rule, pool.engine)

    def _pool(self, case: ClearingCase) -> Pool:
        market = market_of(case)
        key = market.identity
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
    cleared: ClearedInterval, member_names: tuple[str, ...], rule: str, engine: Engine[Any]
) -> Clearing:
    """A cleared interval by name, in the file format `peerwatt/clearing/1`."""
    problem, solution = cleared.problem, cleared.solution
    proof = engine.proof(problem, solution)
    names = problem.market.node_names
    outside = outside_cost_nano(problem)
    cost = cleared.supplier_nano + cleared.fees_nano
    return Clearing(
        cost_nano=cost,
        outside_cost_nano=outside,
        savings_nano=outside - cost,
        state=state_of(sum(problem.supply_wh) - sum(problem.demand_wh)),
        imported_wh=sum(problem.demand_wh) - sum(solution.matched_demand_wh),
        exported_wh=sum(problem.supply_wh) - sum(solution.matched_supply_wh),
        groups=_group_results(cleared, proof),
        flows=tuple(
            EdgeFlow(from_node=names[tail], to_node=names[head], energy_wh=energy)
            for tail, head, energy in proof.flows
        ),
        node_prices=tuple(
            NodePrice(node=names[node], price_nano_per_wh=price)
            for node, price in enumerate(proof.node_prices)
        ),
        duality_gap_nano=proof.duality_gap_nano,
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
        solver=engine.solver,
    )


def _group_results(cleared: ClearedInterval, proof: Proof) -> tuple[GroupResult, ...]:
    problem, solution, prices = cleared.problem, cleared.solution, cleared.prices
    market = problem.market
    values = proof.group_values or ((None, None),) * len(market.groups)
    return tuple(
        GroupResult(
            node=market.node_names[group.node],
            tariff_class=market.class_names[group.tariff_class],
            demand_wh=problem.demand_wh[number],
            supply_wh=problem.supply_wh[number],
            matched_demand_wh=solution.matched_demand_wh[number],
            matched_supply_wh=solution.matched_supply_wh[number],
            buy_price_nano_per_wh=prices.buy_nano_per_wh[number],
            sell_price_nano_per_wh=prices.sell_nano_per_wh[number],
            supply_value_nano_per_wh=values[number][0],
            demand_value_nano_per_wh=values[number][1],
        )
        for number, group in enumerate(market.groups)
    )


__all__ = ["ClearedInterval", "Pool", "as_clearing", "clear_case", "problem_of"]
