"""Clearing for large communities and long studies: the same clearing as `pool`, on arrays from end to end.

Members come as two arrays and leave as one, trades as four; nothing is made for each member. Radial networks only (zones
in a star or line, feeders); the engine is the tree sweep. Money is exact: 64-bit where it fits, Python's integers beyond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.domain.errors import ClearingFailed, OutOfRange, SolverUnavailable
from backend.domain.units import MILLION

from .arrays import MarketArrays
from .kernels import series
from .kernels.clearing import forest_flow
from .kernels.compiling import Integers, kernel
from .kernels.forest import meld, sweep_down, sweep_up
from .kernels.trading import add_up, pair_lines, share_members, transfers
from .pricing import DEFAULT_SHARE_MILLIONTHS, savings_share_steps
from .trades import TradeArrays, derive_trades
from .tree_sweep import forest_clearing, sweep_prices

_SAFE = 1 << 62
_SERIES_CHUNK = 960


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


@dataclass(frozen=True, slots=True)
class SeriesChunk:
    """Some intervals of a series.

    Attributes:
        first_interval: position of the first of them in the series.
        results: (t, 8) by the columns of `kernels.series`: outside cost, cost, fees, dust, gap, discount, premium, trades.
        amount_nano: (t, N).
        trades: of all these intervals, one after the other; the last column of `results` says how many each has.
    """

    first_interval: int
    results: Integers
    amount_nano: Integers
    trades: TradeArrays


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

    def clear_series(self, member_group: Integers, nets_wh: Integers) -> Iterator[SeriesChunk]:
        """Clears many intervals of the same members, in one compiled loop, chunk by chunk.

        Args:
            member_group: (N,) group of each member, in member order.
            nets_wh: (T, N) net positions, positive for a surplus.

        Yields:
            Results of up to 960 intervals at a time, so that memory does not grow with T.

        Raises:
            ClearingFailed: an interval's certificate does not close (a bug).
            OutOfRange: energies or prices are so large that money needs more than 62 bits; `clear` takes those.
        """
        self._check_series(nets_wh)
        market = self.market
        members = member_group.size
        by_group = np.argsort(member_group, kind="stable").astype(np.int64)
        first = np.searchsorted(member_group[by_group], np.arange(market.group_count + 1))
        loops = [
            kernel(loop, compiled=market.compiled)
            for loop in (
                meld,
                sweep_up,
                sweep_down,
                forest_flow,
                transfers,
                share_members,
                pair_lines,
                series.members_in_line,
            )
        ]
        run = kernel(series.clear_series, compiled=market.compiled)
        room = _SERIES_CHUNK * (members + market.node_count)
        capacity = 8 * (market.group_count + 8)
        begin = 0
        while begin < len(nets_wh):
            nets = np.ascontiguousarray(nets_wh[begin : begin + _SERIES_CHUNK])
            amounts = np.empty((len(nets), members), np.int64)
            seller, buyer = np.empty(room, np.int32), np.empty(room, np.int32)
            traded, rate = np.empty(room, np.int64), np.empty(room, np.int64)
            done, results = run(
                nets,
                member_group,
                by_group,
                first.astype(np.int64),
                market.order,
                market.parent,
                market.parent_edge,
                market.edge_from,
                market.edge_to,
                market.edge_fee,
                market.access,
                market.group_node,
                market.group_start,
                market.import_price,
                market.export_price,
                *market.price_bounds(),
                self.share_millionths,
                capacity,
                amounts,
                seller,
                buyer,
                traded,
                rate,
                *loops,
            )
            if done == 0:
                if capacity > (1 << 40):
                    raise ClearingFailed(
                        f"interval {begin}: the sweep's clearing has no proof", "report this case"
                    )
                capacity *= 8  # the sweep ran out of room for its steps
                continue
            results = results[:done]
            if np.any(results[:, series.GAP]):
                raise ClearingFailed("the sweep's clearing has no proof", "report this case")
            count = int(results[:, series.TRADES].sum())
            yield SeriesChunk(
                first_interval=begin,
                results=results,
                amount_nano=amounts[:done],
                trades=TradeArrays(seller[:count], buyer[:count], traded[:count], rate[:count]),
            )
            begin += done

    def _check_series(self, nets_wh: Integers) -> None:
        market = self.market
        if not nets_wh.size:
            return
        energy = max(abs(int(nets_wh.max())), abs(int(nets_wh.min()))) * nets_wh.shape[1]
        price = max(
            int(np.abs(market.import_price).max(initial=1)),
            int(np.abs(market.export_price).max(initial=1)),
        )
        fees = int(market.access.max(initial=0)) + int(market.edge_fee.sum())
        if energy * (price + fees) * MILLION >= _SAFE:
            raise OutOfRange(
                "nets_wh",
                energy,
                "so much energy at such prices that money needs more than 62 bits",
                "clear the intervals one by one with `clear`",
            )

    def _totals(self, member_group: Integers, member_net_wh: Integers) -> tuple[Integers, Integers]:
        """Demand and supply by group."""
        groups = self.market.group_count
        sums = kernel(add_up, compiled=self.market.compiled)
        return (
            sums(member_group, np.maximum(-member_net_wh, 0), groups),
            sums(member_group, np.maximum(member_net_wh, 0), groups),
        )

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
        sums = kernel(add_up, compiled=market.compiled)
        balance = (
            sums(market.group_node, matched_supply - matched_demand, market.node_count)
            - sums(market.edge_from, flow, market.node_count)
            + sums(market.edge_to, flow, market.node_count)
        )
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
