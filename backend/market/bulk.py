"""Clearing for large communities and long studies: the same clearing as `pool`, on arrays from end to end.

Members come as two arrays and leave as one, trades as four; nothing is made for each member. Radial networks only (zones
in a star or line, feeders); the engine is the tree sweep. Money is exact: 64-bit where it fits, Python's integers beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.domain.errors import ClearingFailed, SolverUnavailable

from .arrays import MarketArrays
from .kernels import Integers
from .pricing import DEFAULT_SHARE_MILLIONTHS, savings_share_steps
from .trades import TradeArrays, derive_trades
from .tree_sweep import forest_clearing, sweep_prices

_SAFE = 1 << 62


@dataclass(frozen=True, slots=True)
class BulkClearing:
    """A cleared interval in arrays.

    Attributes:
        demand_wh: (G,).
        supply_wh: (G,).
        matched_demand_wh: (G,).
        matched_supply_wh: (G,).
        flow_wh: (E,) signed.
        price_nano_per_wh: (V,) canonical.
        buy_nano_per_wh: (G,).
        sell_nano_per_wh: (G,).
        amount_nano: (N,) in member order; 64-bit integers, or Python's where money needs more.
        trades: (T,) each.
        outside_cost_nano: everybody outside.
        cost_nano: of this clearing.
        fees_nano: the DSO's part of it.
        dust_nano: to the fund.
        duality_gap_nano: zero, checked.
    """

    demand_wh: Integers
    supply_wh: Integers
    matched_demand_wh: Integers
    matched_supply_wh: Integers
    flow_wh: Integers
    price_nano_per_wh: Integers
    buy_nano_per_wh: Integers
    sell_nano_per_wh: Integers
    amount_nano: NDArray[np.int64] | NDArray[np.object_]
    trades: TradeArrays
    outside_cost_nano: int
    cost_nano: int
    fees_nano: int
    dust_nano: int
    duality_gap_nano: int


def exact_dot(one: Integers, other: Integers) -> int:
    """Sum of products as an exact integer, whatever its size."""
    if not one.size:
        return 0
    largest = max(abs(int(one.max())), abs(int(one.min())))
    other_largest = max(abs(int(other.max())), abs(int(other.min())))
    if largest * other_largest * one.size < _SAFE:
        return int(one @ other)
    return int(one.astype(object) @ other.astype(object))


class BulkPool:
    """Clears intervals of one market on arrays.

    Args:
        market: whose graph is a forest.
        share_millionths: the buyers' share of the savings.

    Raises:
        SolverUnavailable: the network has a circle.
    """

    def __init__(
        self, market: MarketArrays, share_millionths: int = DEFAULT_SHARE_MILLIONTHS
    ) -> None:
        if not market.is_forest:
            raise SolverUnavailable(
                "the bulk path needs a network without circles", "clear it with `Pool`"
            )
        self.market = market
        self.share_millionths = share_millionths
        self._group_access = market.access[market.group_node]

    def clear(self, member_group: Integers, member_net_wh: Integers) -> BulkClearing:
        """Clears one interval with savings-share prices.

        Args:
            member_group: (N,) group of each member, in member order.
            member_net_wh: (N,) positive for a surplus.

        Raises:
            ClearingFailed: the certificate does not close (a bug).
        """
        market = self.market
        demand, supply = self._totals(member_group, member_net_wh)
        price = sweep_prices(market, demand, supply)
        matched_demand, matched_supply, flow = forest_clearing(market, demand, supply, price)
        outside = exact_dot(market.import_price, demand) - exact_dot(market.export_price, supply)
        residual = exact_dot(market.import_price, demand - matched_demand) - exact_dot(
            market.export_price, supply - matched_supply
        )
        fees = exact_dot(self._group_access, matched_demand + matched_supply) + exact_dot(
            market.edge_fee, np.abs(flow)
        )
        gap = residual + fees - self._dual(demand, supply, price)
        self._certify(matched_demand, matched_supply, demand, supply, flow, price, gap)

        savings = outside - residual - fees
        total_demand, total_supply = int(demand.sum()), int(supply.sum())
        discount, premium = savings_share_steps(
            savings, total_demand, total_supply, self.share_millionths
        )
        buy, sell = market.import_price - discount, market.export_price + premium
        return BulkClearing(
            demand_wh=demand,
            supply_wh=supply,
            matched_demand_wh=matched_demand,
            matched_supply_wh=matched_supply,
            flow_wh=flow,
            price_nano_per_wh=price,
            buy_nano_per_wh=buy,
            sell_nano_per_wh=sell,
            amount_nano=_amounts(member_group, member_net_wh, buy, sell),
            trades=derive_trades(
                market,
                matched_demand_wh=matched_demand,
                matched_supply_wh=matched_supply,
                flow_wh=flow,
                price_nano_per_wh=price,
                member_group=member_group,
                member_net_wh=member_net_wh,
            ),
            outside_cost_nano=outside,
            cost_nano=residual + fees,
            fees_nano=fees,
            dust_nano=savings - discount * total_demand - premium * total_supply,
            duality_gap_nano=gap,
        )

    def _totals(self, member_group: Integers, member_net_wh: Integers) -> tuple[Integers, Integers]:
        """Demand and supply by group; exact, unlike floating-point weights in `bincount`."""
        groups = self.market.group_count
        demand, supply = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        np.add.at(demand, member_group, np.maximum(-member_net_wh, 0))
        np.add.at(supply, member_group, np.maximum(member_net_wh, 0))
        return demand, supply

    def _dual(self, demand: Integers, supply: Integers, price: Integers) -> int:
        at_group = price[self.market.group_node]
        buying = np.minimum(self.market.import_price, at_group + self._group_access)
        selling = np.maximum(self.market.export_price, at_group - self._group_access)
        return exact_dot(buying, demand) - exact_dot(selling, supply)

    def _certify(
        self,
        matched_demand: Integers,
        matched_supply: Integers,
        demand: Integers,
        supply: Integers,
        flow: Integers,
        price: Integers,
        gap: int,
    ) -> None:
        market = self.market
        balance = np.zeros(market.node_count, np.int64)
        np.add.at(balance, market.group_node, matched_supply - matched_demand)
        np.subtract.at(balance, market.edge_from, flow)
        np.add.at(balance, market.edge_to, flow)
        reach = np.abs(price[market.edge_from] - price[market.edge_to]) <= market.edge_fee
        within = np.all(matched_demand <= demand) and np.all(matched_supply <= supply)
        if gap or np.any(balance) or not np.all(reach) or not within:
            raise ClearingFailed(
                f"the sweep's clearing has no proof (gap {gap} nano)", "report this case"
            )


def _amounts(
    member_group: Integers, member_net_wh: Integers, buy: Integers, sell: Integers
) -> NDArray[np.int64] | NDArray[np.object_]:
    if not member_net_wh.size:
        return np.zeros(0, np.int64)
    energy = max(abs(int(member_net_wh.max())), abs(int(member_net_wh.min())))
    price = max(int(np.abs(buy).max()), int(np.abs(sell).max()))
    of_member = np.where(member_net_wh < 0, buy[member_group], sell[member_group])
    if energy * price < _SAFE:
        return member_net_wh * of_member
    wide: NDArray[np.object_] = member_net_wh.astype(object) * of_member.astype(object)
    return wide
