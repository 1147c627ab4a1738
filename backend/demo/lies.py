"""The two lies the demonstration tells on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backend.market.certificate import outside_cost_nano
from backend.market.pool import ClearedInterval
from backend.settlement.batch import Batch, interval_steps, shift_money
from backend.settlement.statement import statement_amount_nano

from .community import DemoCommunity

OVERCHARGE_NANO = 5 * 10**9


def worse_clearing(
    cleared: Sequence[ClearedInterval], share_millionths: int
) -> tuple[int, tuple[ClearedInterval, ...]] | None:
    """The same day with one interval in which the coordinator lets nobody trade, as one would who sells to them himself.

    Returns:
        Number of that interval, the one with the most trade, and the day; None if trading never saved anything.
    """
    index = max(
        range(len(cleared)), key=lambda number: sum(cleared[number].solution.matched_demand_wh)
    )
    honest = cleared[index]
    problem, solution = honest.problem, honest.solution
    outside = outside_cost_nano(problem)
    if outside == honest.supplier_nano + honest.fees_nano:
        return None
    lie = replace(
        solution,
        matched_demand_wh=(0,) * len(solution.matched_demand_wh),
        matched_supply_wh=(0,) * len(solution.matched_supply_wh),
        flow_wh=(0,) * len(solution.flow_wh),
    )
    worse = replace(
        honest, solution=lie, trades=(), supplier_nano=outside, fees_nano=0, dust_nano=0
    )
    # The liar keeps the sums straight, or the lie would fall for a lesser reason.
    assert interval_steps(worse, share_millionths) == (0, 0)
    return index, (*cleared[:index], worse, *cleared[index + 1 :])


def overcharge(batch: Batch, victim_slot: int, beneficiary_slot: int) -> Batch:
    """The same batch with one member billed too much, and the difference credited to another account."""
    return shift_money(batch, victim_slot, beneficiary_slot, OVERCHARGE_NANO)


def wrong_bills(
    batch: Batch, community: DemoCommunity, steps: Sequence[tuple[int, int]]
) -> list[int]:
    """What every member's own software does with a new batch: recompute the own bill from the own meter.

    Returns:
        Slots of the members whose bill is wrong.
    """
    wrong = []
    for slot, item in batch.member_periods.items():
        key = (item.member.node, item.member.tariff_class)
        group = community.market.groups[community.market.group_index[key]]
        due = statement_amount_nano(item.readings, steps, group, item.traded_nano)
        if due != batch.leaves[slot].amount_nano:
            wrong.append(slot)
    return wrong
