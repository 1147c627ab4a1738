"""What the trades in personal parts show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .bundle_format import Personal, Public, Series, Trade
from .hashing import trade_leaf
from .statements import S
from .verdict import Checks

if TYPE_CHECKING:
    from .bundle_checks import Context

_SHOWN = 5


@dataclass
class Shown:
    """The trades that parties were shown.

    Attributes:
        trades: by position.
        parties: by position, who was shown it.
        odd: positions of which two were shown different things.
    """

    trades: dict[int, Trade] = field(default_factory=dict)
    parties: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    odd: set[int] = field(default_factory=set)


def check_trades(
    parts: Mapping[int, Personal],
    readings: Mapping[int, Series],
    public: Public,
    context: Context,
    checks: Checks,
) -> Shown:
    """Checks every trade that a party was shown.

    Args:
        parts: by slot.
        readings: of the slots whose readings are usable.
        public: with the leaves.
        context: certificates and tariff.
        checks: told every outcome.
    """
    shown = Shown()
    foreign: list[int] = []
    above: list[str] = []
    first, leaves, many = context.batch.header["firstInterval"], public.trade_leaves, 0
    for slot, part in parts.items():
        energy: dict[int, int] = defaultdict(int)
        for trade in part.trades:
            if shown.trades.setdefault(trade.position, trade) != trade:
                shown.odd.add(trade.position)
            shown.parties[trade.position].append(slot)
            if slot not in (trade.seller, trade.buyer):
                foreign.append(trade.position)
            energy[trade.interval] += trade.energy_wh if slot == trade.seller else -trade.energy_wh
        nets = readings[slot].net_wh.tolist() if slot in readings else []
        many += len(energy)
        for interval, traded in energy.items():
            index = interval - first
            net = nets[index] if 0 <= index < len(nets) else 0
            # At most its surplus is sold, at most its deficit bought.
            if not (0 <= traded <= net or net <= traded <= 0):
                above.append(f"slot {slot}, interval {index}")
    for position, trade in shown.trades.items():
        if position >= len(leaves) or leaves[position] != trade_leaf(*trade[1:]):
            foreign.append(position)
    odd = sorted({*foreign, *shown.odd})
    checks.add(S.TRADES_SHOWN, not odd, count=len(shown.trades), detail=f"positions {odd[:_SHOWN]}")
    _check_fees(shown.trades, context, checks)
    checks.add(S.TRADE_ENERGY, not above, count=many, detail="; ".join(above[:_SHOWN]))
    return shown


def _check_fees(trades: Mapping[int, Trade], context: Context, checks: Checks) -> None:
    tariff, distances = context.tariff, context.tariff.distances()
    rates: dict[tuple[int, int], int | None] = {}

    def rate(seller: int, buyer: int) -> int | None:
        ends = [context.group_of(slot) for slot in (seller, buyer)]
        if None in ends:
            return None
        one, other = (tariff.groups[group or 0] for group in ends)
        way = distances[one[3]][other[3]]
        return None if way is None else one[2] + way + other[2]

    wrong = []
    for position, trade in trades.items():
        pair = (trade.seller, trade.buyer)
        if pair not in rates:
            rates[pair] = rate(*pair)
        fee = rates[pair]
        if fee is None or trade.fee_nano != fee * trade.energy_wh:
            wrong.append(position)
    checks.add(S.TRADE_FEES, not wrong, count=len(trades), detail=f"positions {wrong[:_SHOWN]}")


def check_all_trades(shown: Shown, public: Public, context: Context, checks: Checks) -> None:
    """What only the trades of all parts together show."""
    trades = shown.trades
    once = {
        position
        for position, trade in trades.items()
        if sorted(shown.parties[position]) != sorted((trade.seller, trade.buyer))
    }
    hidden = set(range(len(public.trade_leaves))) - trades.keys()
    odd = sorted(shown.odd | once | hidden)
    checks.add(S.TRADES_AGREE, not odd, count=len(trades), detail=f"positions {odd[:_SHOWN]}")

    first, results = context.batch.header["firstInterval"], context.results
    slots = {slot for trade in trades.values() for slot in (trade.seller, trade.buyer)}
    groups = {slot: context.group_of(slot) for slot in slots}
    sold: dict[tuple[int, int | None], int] = defaultdict(int)
    bought: dict[tuple[int, int | None], int] = defaultdict(int)
    fees = 0
    for trade in trades.values():
        index = trade.interval - first
        sold[index, groups[trade.seller]] += trade.energy_wh
        bought[index, groups[trade.buyer]] += trade.energy_wh
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
