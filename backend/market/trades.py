"""Who bought from whom (mechanism, section 5): derived from the clearing without choice.

1. Each group's matched energy is shared among its members pro rata with telescoping floors:
   share_i = floor((P_i + q_i) M / Q) - floor(P_i M / Q), P_i the sum before i in member order. Every share is within
   1 Wh of exact and never above q_i, and the sum is exactly M.
2. At each node supply and demand meet first; what is left travels along the flows, first in, first out.
3. Between two nodes sellers and buyers are paired in order, so that there are fewer trades than sellers, buyers and transfers.

A trade's network fee is access(i) + shortest path + access(j); on the paths that carry energy that is the difference of
the node prices, by complementary slackness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import MarketArrays
from .kernels.compiling import COMPILE_FROM, Integers, kernel
from .kernels.trading import Positions, add_up, pair_lines, share_members, transfers
from .pair_matrix import PairSolution


@dataclass(frozen=True, slots=True)
class MemberTrade:
    """A trade between members by their position in member order."""

    seller: int
    buyer: int
    energy_wh: int
    fee_nano: int


@dataclass(frozen=True, slots=True)
class TradeArrays:
    """All trades of an interval, (T,) each."""

    seller: Positions
    buyer: Positions
    energy_wh: Integers
    fee_nano_per_wh: Integers

    def __len__(self) -> int:
        return int(self.seller.size)

    def as_trades(self) -> list[MemberTrade]:
        """One by one, with the fee in money."""
        return [
            MemberTrade(seller, buyer, energy, rate * energy)
            for seller, buyer, energy, rate in zip(
                self.seller.tolist(),
                self.buyer.tolist(),
                self.energy_wh.tolist(),
                self.fee_nano_per_wh.tolist(),
                strict=True,
            )
        ]


def telescoping_shares(quantities: Sequence[int], matched: int) -> list[int]:
    """Shares `matched` among `quantities` pro rata; each within one of exact, the sum exact.

    Args:
        quantities: non-negative integers.
        matched: at most their sum.
    """
    total = sum(quantities)
    shares, before, given = [], 0, 0
    for quantity in quantities:
        before += quantity
        upto = before * matched // total if total else 0
        shares.append(upto - given)
        given = upto
    return shares


def derive_trades(
    market: MarketArrays,
    *,
    matched_demand_wh: Integers,
    matched_supply_wh: Integers,
    flow_wh: Integers,
    price_nano_per_wh: Integers,
    member_group: Integers,
    member_net_wh: Integers,
) -> TradeArrays:
    """All trades of an interval; sums equal the matched energies exactly.

    Args:
        market: the market.
        matched_demand_wh: (G,).
        matched_supply_wh: (G,).
        flow_wh: (E,) signed, without circles.
        price_nano_per_wh: (V,) optimal.
        member_group: (N,) in member order.
        member_net_wh: (N,) positive for a surplus.

    Returns:
        Local trades by node first, then transfers in the order of `kernels.transfers`.

    Raises:
        ValueError: the flow has a circle or does not balance.
    """
    compiled = market.compiled or member_group.size >= COMPILE_FROM
    lines = _lines(
        market.group_node,
        market.node_count,
        matched_supply_wh,
        matched_demand_wh,
        member_group,
        member_net_wh,
        compiled=compiled,
    )
    by_node = kernel(add_up, compiled=compiled)
    supplied = by_node(market.group_node, matched_supply_wh, market.node_count)
    used = by_node(market.group_node, matched_demand_wh, market.node_count)
    local = np.minimum(supplied, used)
    meeting = np.flatnonzero(local)
    balanced, source, sink, energy = kernel(transfers, compiled=compiled)(
        market.edge_from, market.edge_to, flow_wh, supplied - used
    )
    if not balanced:
        raise ValueError("the flow has a circle or does not balance")
    source = np.concatenate([meeting, source])
    sink = np.concatenate([meeting, sink])
    energy = np.concatenate([local[meeting], energy])
    seller, buyer, traded, number = kernel(pair_lines, compiled=compiled)(
        source, sink, energy, *lines
    )
    rate = (
        market.access[source]
        + (price_nano_per_wh[sink] - price_nano_per_wh[source])
        + market.access[sink]
    )
    return TradeArrays(seller, buyer, traded, rate[number])


def derive_pair_trades(
    pairs: PairSolution,
    fee_nano_per_wh: Integers,
    *,
    matched_demand_wh: Integers,
    matched_supply_wh: Integers,
    member_group: Integers,
    member_net_wh: Integers,
) -> TradeArrays:
    """As `derive_trades`, where groups trade in pairs: theirs are the transfers.

    Args:
        pairs: what groups trade.
        fee_nano_per_wh: of each of these pairs.
        matched_demand_wh: (G,).
        matched_supply_wh: (G,).
        member_group: (N,) in member order.
        member_net_wh: (N,) positive for a surplus.
    """
    compiled = member_group.size >= COMPILE_FROM
    groups = matched_supply_wh.size
    lines = _lines(
        np.arange(groups),
        groups,
        matched_supply_wh,
        matched_demand_wh,
        member_group,
        member_net_wh,
        compiled=compiled,
    )
    seller, buyer, traded, number = kernel(pair_lines, compiled=compiled)(
        pairs.seller, pairs.buyer, pairs.energy_wh, *lines
    )
    return TradeArrays(seller, buyer, traded, fee_nano_per_wh[number])


def _lines(
    group_place: Integers,
    places: int,
    matched_supply_wh: Integers,
    matched_demand_wh: Integers,
    member_group: Integers,
    member_net_wh: Integers,
    *,
    compiled: bool,
) -> list[Integers]:
    """Sellers, then buyers, by place: members, where each place's begin, and the share of each.

    Args:
        group_place: (G,) ascending, so that members sorted by group are sorted by place.
    """
    by_group = np.argsort(member_group, kind="stable").astype(np.int64)
    group_first = _starts(member_group, group_place.size)
    share = kernel(share_members, compiled=compiled)
    lines = []
    for sign, matched in ((1, matched_supply_wh), (-1, matched_demand_wh)):
        quantity = np.maximum(sign * member_net_wh, 0)
        shares = share(by_group, group_first, quantity, matched)
        members = by_group[shares[by_group] > 0]
        place = group_place[member_group[members]]
        lines += [members, _starts(place, places), shares[members]]
    return lines


def _starts(numbers: Integers, count: int) -> Integers:
    """(count + 1,) where each number from 0 to `count` begins once `numbers` are sorted."""
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=count), out=starts[1:])
    return starts
