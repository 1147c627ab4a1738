"""Proof of optimality in integers (mechanism, section 3; linear-programming duality).

A clearing that balances at every node costs

    sum r (D - C) - f (S - A) + access (C + A) + sum fee |flow| ;

with any node prices pi, |pi_u - pi_v| <= fee over every edge, no clearing costs less than

    sum lambda D - mu S ,   lambda = min(r, pi + access) ,   mu = max(f, pi - access) .

`contracts/src/libraries/Certificate.sol` makes the same check.
"""

from __future__ import annotations

from backend.domain.errors import ClearingFailed

from .problem import Problem, Solution


def outside_cost_nano(problem: Problem) -> int:
    """What all members together pay with everybody buying and selling outside."""
    return sum(
        group.import_price_nano_per_wh * demand - group.export_price_nano_per_wh * supply
        for group, demand, supply in zip(
            problem.market.groups, problem.demand_wh, problem.supply_wh, strict=True
        )
    )


def network_fees_nano(problem: Problem, solution: Solution) -> int:
    """What the clearing pays for the use of the network: access at both ends and every edge crossed."""
    graph = problem.market.graph
    access = sum(
        graph.access_fee_nano_per_wh[group.node] * (matched_demand + matched_supply)
        for group, matched_demand, matched_supply in zip(
            problem.market.groups,
            solution.matched_demand_wh,
            solution.matched_supply_wh,
            strict=True,
        )
    )
    return access + sum(
        fee * abs(flow)
        for fee, flow in zip(graph.edge_fee_nano_per_wh, solution.flow_wh, strict=True)
    )


def primal_cost_nano(problem: Problem, solution: Solution) -> int:
    """What the clearing costs: residual bought and sold outside, and network fees."""
    return residual_cost_nano(problem, solution) + network_fees_nano(problem, solution)


def residual_cost_nano(problem: Problem, solution: Solution) -> int:
    """What is bought and sold outside, on any network."""
    return sum(
        group.import_price_nano_per_wh * (demand - matched_demand)
        - group.export_price_nano_per_wh * (supply - matched_supply)
        for group, demand, supply, matched_demand, matched_supply in zip(
            problem.market.groups,
            problem.demand_wh,
            problem.supply_wh,
            solution.matched_demand_wh,
            solution.matched_supply_wh,
            strict=True,
        )
    )


def dual_value_nano(problem: Problem, price_nano_per_wh: tuple[int, ...]) -> int:
    """The bound that the node prices prove: no clearing costs less."""
    value = 0
    for group, demand, supply in zip(
        problem.market.groups, problem.demand_wh, problem.supply_wh, strict=True
    ):
        price = price_nano_per_wh[group.node]
        access = problem.market.graph.access_fee_nano_per_wh[group.node]
        value += min(group.import_price_nano_per_wh, price + access) * demand
        value -= max(group.export_price_nano_per_wh, price - access) * supply
    return value


def duality_gap_nano(problem: Problem, solution: Solution) -> int:
    """How much cheaper another clearing could at most be; zero for an optimal one.

    Raises:
        ClearingFailed: the solution is not a clearing at all (limits, balance, price differences above fees).
    """
    fault = infeasibility(problem, solution)
    if fault is not None:
        raise ClearingFailed(fault, "report this: an engine returned what is not a clearing")
    return primal_cost_nano(problem, solution) - dual_value_nano(
        problem, solution.price_nano_per_wh
    )


def infeasibility(problem: Problem, solution: Solution) -> str | None:
    """The first rule that the solution breaks, in words; None if it breaks none."""
    graph = problem.market.graph
    balance = [0] * graph.node_count
    for number, group in enumerate(problem.market.groups):
        demand, supply = problem.demand_wh[number], problem.supply_wh[number]
        matched_demand = solution.matched_demand_wh[number]
        matched_supply = solution.matched_supply_wh[number]
        if not 0 <= matched_demand <= demand:
            return f"group {number}: matched demand {matched_demand} Wh outside 0..{demand}"
        if not 0 <= matched_supply <= supply:
            return f"group {number}: matched supply {matched_supply} Wh outside 0..{supply}"
        balance[group.node] += matched_supply - matched_demand
    for number, (tail, head, fee, flow) in enumerate(
        zip(
            graph.edge_from,
            graph.edge_to,
            graph.edge_fee_nano_per_wh,
            solution.flow_wh,
            strict=True,
        )
    ):
        balance[tail] -= flow
        balance[head] += flow
        gap = abs(solution.price_nano_per_wh[tail] - solution.price_nano_per_wh[head])
        if gap > fee:
            return f"edge {number}: prices differ by {gap}, more than the fee {fee} nano per Wh"
    for node, excess in enumerate(balance):
        if excess:
            return f"node {node}: {excess} Wh more supplied than used"
    return None
