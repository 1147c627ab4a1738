"""What the trades in personal parts show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .bundle_format import Personal, Public, Series, Trade
from .hashing import trade_leaf
from .statements import S
from .verdict import Checks

if TYPE_CHECKING:
    from .bundle_checks import Context

_SHOWN = 5


def check_trades(
    parts: Mapping[int, Personal],
    readings: Mapping[int, Series],
    public: Public,
    context: Context,
    checks: Checks,
) -> None:
    """Checks every trade that a party was shown.

    Args:
        parts: by slot.
        readings: of the slots whose readings are usable.
        public: with the leaves.
        context: certificates and tariff.
        checks: told every outcome.
    """
    known: dict[int, Trade] = {}
    foreign: list[int] = []
    energy: dict[tuple[int, int], int] = defaultdict(int)
    first = context.batch.header["firstInterval"]
    for slot, part in parts.items():
        for trade in part.trades:
            same = known.setdefault(trade.position, trade)
            if same != trade or slot not in (trade.seller, trade.buyer):
                foreign.append(trade.position)
            index = trade.interval - first
            energy[slot, index] += trade.energy_wh if slot == trade.seller else -trade.energy_wh
    for position, trade in known.items():
        leaf = trade_leaf(
            trade.interval, trade.seller, trade.buyer, trade.energy_wh, trade.fee_nano, trade.salt
        )
        if position >= len(public.trade_leaves) or public.trade_leaves[position] != leaf:
            foreign.append(position)
    checks.add(
        S.TRADES_SHOWN, not foreign, count=len(known), detail=f"positions {foreign[:_SHOWN]}"
    )
    _check_fees(known, context, checks)
    above = [
        f"slot {slot}, interval {index}"
        for (slot, index), traded in energy.items()
        if slot not in readings or not _within(readings[slot], index, traded)
    ]
    checks.add(S.TRADE_ENERGY, not above, count=len(energy), detail="; ".join(above[:_SHOWN]))


def _within(series: Series, index: int, traded: int) -> bool:
    """Whether a member sold at most its surplus, or bought at most its deficit."""
    if not 0 <= index < len(series.quality):
        return False
    net = int(series.net_wh[index])
    return 0 <= traded <= net or net <= traded <= 0


def _check_fees(trades: Mapping[int, Trade], context: Context, checks: Checks) -> None:
    tariff, distances = context.tariff, context.tariff.distances()
    groups: dict[int, int | None] = {}
    wrong = []
    for position, trade in trades.items():
        ends = []
        for slot in (trade.seller, trade.buyer):
            if slot not in groups:
                groups[slot] = context.group_of(slot)
            if groups[slot] is not None:
                ends.append(tariff.groups[groups[slot] or 0])
        way = distances[ends[0][3]][ends[1][3]] if len(ends) == 2 else None
        if way is None or trade.fee_nano != (ends[0][2] + way + ends[1][2]) * trade.energy_wh:
            wrong.append(position)
    checks.add(S.TRADE_FEES, not wrong, count=len(trades), detail=f"positions {wrong[:_SHOWN]}")


def check_all_trades(
    parts: Mapping[int, Personal], public: Public, context: Context, checks: Checks
) -> None:
    """What only the trades of all parts together show."""
    shown: dict[int, list[int]] = defaultdict(list)
    trades: dict[int, Trade] = {}
    differing = set()
    for slot, part in parts.items():
        for trade in part.trades:
            shown[trade.position].append(slot)
            if trades.setdefault(trade.position, trade) != trade:
                differing.add(trade.position)
    once = {
        position
        for position, trade in trades.items()
        if sorted(shown[position]) != sorted((trade.seller, trade.buyer))
    }
    hidden = set(range(len(public.trade_leaves))) - trades.keys()
    odd = sorted(differing | once | hidden)
    checks.add(S.TRADES_AGREE, not odd, count=len(trades), detail=f"positions {odd[:_SHOWN]}")

    first, results = context.batch.header["firstInterval"], context.results
    groups = {slot: context.group_of(slot) for slot in parts}
    sold: dict[tuple[int, int | None], int] = defaultdict(int)
    bought: dict[tuple[int, int | None], int] = defaultdict(int)
    fees = 0
    for trade in trades.values():
        index = trade.interval - first
        sold[index, groups.get(trade.seller)] += trade.energy_wh
        bought[index, groups.get(trade.buyer)] += trade.energy_wh
        fees += trade.fee_nano
    wrong = [
        f"interval {index}, group {group}"
        for index, interval in enumerate(results.intervals)
        for group, (_, _, matched_demand, matched_supply) in enumerate(interval.groups)
        if sold.pop((index, group), 0) != matched_supply
        or bought.pop((index, group), 0) != matched_demand
    ]
    wrong += [f"interval {index}, group {group}" for index, group in (*sold, *bought)]
    checks.add(S.TRADES_MATCHED, not wrong, count=len(trades), detail="; ".join(wrong[:_SHOWN]))
    checks.equal(S.TRADES_FEES, fees, results.fees)
