"""Markets to measure with: random feeders, zones in a star, and a year on the bundled SimBench feeder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.market.arrays import MarketArrays
from backend.market.kernels.compiling import Integers
from backend.market.problem import Graph, Group, Market
from oracle.sources.simbench import (
    INTERVALS_PER_DAY,
    available_days,
    interval_energy_wh,
    load_feeder,
    select_households,
)

_IMPORT_PRICE = 300_000
_EXPORT_PRICE = 60_000
_ACCESS_FEE = 5_000
_NANO_PER_WH_AND_METRE = 30


@dataclass(frozen=True, slots=True)
class Feeder:
    """A radial network with members on it.

    Attributes:
        market: the network; one group a bus.
        group: (N,) by member.
        net_wh: (N,) by member.
    """

    market: MarketArrays
    group: Integers
    net_wh: Integers

    def named(self) -> Market:
        """The same market for the cvxpy engine."""
        market = self.market
        nodes = market.group_node.tolist()
        return Market(
            graph=Graph(
                tuple(market.access.tolist()),
                tuple(market.edge_from.tolist()),
                tuple(market.edge_to.tolist()),
                tuple(market.edge_fee.tolist()),
            ),
            groups=tuple(Group(node, 0, _IMPORT_PRICE, _EXPORT_PRICE) for node in nodes),
            node_names=tuple(map(str, range(market.node_count))),
            class_names=("household",),
            group_index={},
        )

    def pair_fees(self) -> Integers:
        """(N, N) what a trade between two members pays."""
        node = self.market.group_node[self.group]
        return self._distances()[np.ix_(node, node)] + 2 * _ACCESS_FEE

    def pair_gains(self) -> tuple[Integers, Integers, Integers]:
        """Gain per Wh of each seller-buyer pair (S, B), and the members that sell and buy."""
        sellers, buyers = np.flatnonzero(self.net_wh > 0), np.flatnonzero(self.net_wh < 0)
        fees = self.pair_fees()[np.ix_(sellers, buyers)]
        return _IMPORT_PRICE - _EXPORT_PRICE - fees, sellers, buyers

    def _distances(self) -> Integers:
        """(V, V) sum of the fees on the path between every two nodes."""
        market = self.market
        distance = np.zeros((market.node_count, market.node_count), np.int64)
        walked: list[int] = []
        for node in market.order.tolist():
            parent = int(market.parent[node])
            if parent >= 0:
                fee = int(market.edge_fee[market.parent_edge[node]])
                distance[node, walked] = distance[parent, walked] + fee
                distance[walked, node] = distance[node, walked]
            walked.append(node)
        return distance


def random_feeder(buses: int, seed: int = 0) -> Feeder:
    """A random radial feeder with a member at each bus; half the members have a surplus."""
    random = np.random.default_rng(seed)
    numbers = np.arange(1, buses)
    market = MarketArrays.build(
        access=np.full(buses, _ACCESS_FEE, np.int64),
        edge_from=(numbers - 1 - random.integers(0, np.minimum(8, numbers))).astype(np.int64),
        edge_to=numbers.astype(np.int64),
        edge_fee=random.integers(100, 3000, buses - 1),
        group_node=np.arange(buses, dtype=np.int64),
        import_price=np.full(buses, _IMPORT_PRICE, np.int64),
        export_price=np.full(buses, _EXPORT_PRICE, np.int64),
        compiled=True,
    )
    return Feeder(market, np.arange(buses, dtype=np.int64), random.integers(-3000, 3000, buses))


def zones_in_a_star(zones: int, members: int, seed: int = 1) -> Feeder:
    """Zones around a substation, members spread over them."""
    random = np.random.default_rng(seed)
    market = MarketArrays.build(
        access=np.full(zones + 1, _ACCESS_FEE, np.int64),
        edge_from=np.zeros(zones, np.int64),
        edge_to=np.arange(1, zones + 1, dtype=np.int64),
        edge_fee=np.full(zones, 10_000, np.int64),
        group_node=np.arange(1, zones + 1, dtype=np.int64),
        import_price=np.full(zones, _IMPORT_PRICE, np.int64),
        export_price=np.full(zones, _EXPORT_PRICE, np.int64),
        compiled=True,
    )
    return Feeder(market, random.integers(0, zones, members), random.integers(-3000, 3000, members))


def simbench_year(
    members: int, intervals: int, seed: int = 0
) -> tuple[MarketArrays, Integers, Integers]:
    """A year on the bundled SimBench feeder, made from the bundled weeks.

    The extract holds five weeks, not a year: its days are repeated in a seeded order, each household's energy scaled by a
    seeded factor, so that no two intervals are alike. The feeder's buses and lines are the real ones.

    Args:
        members: connection points.
        intervals: how many quarter-hours.
        seed: for order and scale.

    Returns:
        Market; group by member (members,); net positions (intervals, members) in Wh.
    """
    feeder = load_feeder()
    households = select_households(feeder, members, seed)
    ends = [(line.from_bus, line.to_bus) for line in feeder.lines]
    buses = sorted({bus for pair in ends for bus in pair})
    number = {bus: index for index, bus in enumerate(buses)}
    used = sorted({number[household.bus] for household in households})
    market = MarketArrays.build(
        access=np.full(len(buses), _ACCESS_FEE, np.int64),
        edge_from=np.array([number[one] for one, _ in ends], dtype=np.int64),
        edge_to=np.array([number[other] for _, other in ends], dtype=np.int64),
        edge_fee=np.array(
            [round(line.length_m * _NANO_PER_WH_AND_METRE) for line in feeder.lines],
            dtype=np.int64,
        ),
        group_node=np.array(used, dtype=np.int64),
        import_price=np.full(len(used), _IMPORT_PRICE, np.int64),
        export_price=np.full(len(used), _EXPORT_PRICE, np.int64),
        compiled=True,
    )
    group_of_bus = {bus: index for index, bus in enumerate(used)}
    groups = np.array([group_of_bus[number[item.bus]] for item in households], dtype=np.int64)
    days = available_days(feeder)
    daily = np.empty((len(days), INTERVALS_PER_DAY, members), np.int64)
    for position, day in enumerate(days):
        for member, household in enumerate(households):
            imported, exported = interval_energy_wh(household, day, feeder)
            daily[position, :, member] = exported - imported
    random = np.random.default_rng(seed)
    count = -(-intervals // INTERVALS_PER_DAY)
    order = random.integers(0, len(days), count)
    scale = random.integers(700, 1300, (count, 1, members))
    nets = (daily[order] * scale // 1000).reshape(-1, members)[:intervals]
    return market, groups, nets
