"""The two lies the demonstration tells on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backend.market.certificate import network_fees_nano, outside_cost_nano, primal_cost_nano
from backend.market.pool import ClearedInterval
from backend.settlement.batch import Batch, interval_steps, shift_money
from backend.settlement.statement import statement_amount_nano

from .community import DemoCommunity

OVERCHARGE_NANO = 5 * 10**9


def worse_clearing(
    cleared: Sequence[ClearedInterval], share_millionths: int
) -> tuple[int, tuple[ClearedInterval, ...]]:
    """The same day with one interval in which the coordinator keeps energy from being traded locally, as one would to sell it outside.

    Returns:
        Number of that interval, and the day.
    """
    index = max(
        range(len(cleared)), key=lambda number: sum(cleared[number].solution.matched_demand_wh)
    )
    honest = cleared[index]
    graph_groups = honest.problem.market.groups
    solution = honest.solution
    for buyer, group in enumerate(graph_groups):
        for seller, other in enumerate(graph_groups):
            amount = min(solution.matched_demand_wh[buyer], solution.matched_supply_wh[seller])
            if group.node == other.node and amount:
                lie = replace(
                    solution,
                    matched_demand_wh=_less(solution.matched_demand_wh, buyer, amount),
                    matched_supply_wh=_less(solution.matched_supply_wh, seller, amount),
                )
                fees = network_fees_nano(honest.problem, lie)
                cost = primal_cost_nano(honest.problem, lie)
                worse = replace(honest, solution=lie, supplier_nano=cost - fees, fees_nano=fees)
                # The liar keeps the sums straight, or the lie would fall for a lesser reason.
                discount, premium = interval_steps(worse, share_millionths)
                worse = replace(
                    worse,
                    dust_nano=outside_cost_nano(honest.problem)
                    - cost
                    - discount * sum(honest.problem.demand_wh)
                    - premium * sum(honest.problem.supply_wh),
                )
                return index, (*cleared[:index], worse, *cleared[index + 1 :])
    raise AssertionError("a day without any local trade has no such lie")


def _less(values: tuple[int, ...], index: int, amount: int) -> tuple[int, ...]:
    return (*values[:index], values[index] - amount, *values[index + 1 :])


def overcharge(batch: Batch, victim_slot: int, beneficiary_slot: int) -> Batch:
    """The same batch with one member billed too much, and the difference credited to another account."""
    return shift_money(batch, victim_slot, beneficiary_slot, OVERCHARGE_NANO)


def wronged_member(
    batch: Batch, community: DemoCommunity, steps: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    """What every member's own software does with a new batch: recompute the own bill from the own meter.

    Returns:
        Slot and amount due of the first member whose bill is wrong; None if all are right.
    """
    for slot, item in batch.member_periods.items():
        key = (item.member.node, item.member.tariff_class)
        group = community.market.groups[community.market.group_index[key]]
        due = statement_amount_nano(item.readings, steps, group)
        if due != batch.leaves[slot].amount_nano:
            return slot, due
    return None
