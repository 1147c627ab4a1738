"""One interval as integers by index: what every engine, the certificate and the trades work on.

Members at one node in one tariff class form a *group*; whatever the number of members, the clearing has one variable
for each group's matched demand, one for its matched supply and one for each edge's flow. Nodes are numbered in the order
of their names and groups in the order of (node, tariff class), so that nothing depends on how a case was written down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from backend.domain.case import ClearingCase, Network, TariffClass

from .kernels.compiling import Integers


@dataclass(frozen=True, slots=True)
class Graph:
    """The network by index. Edges are undirected; a positive flow goes from `edge_from` to `edge_to`."""

    access_fee_nano_per_wh: tuple[int, ...]
    edge_from: tuple[int, ...]
    edge_to: tuple[int, ...]
    edge_fee_nano_per_wh: tuple[int, ...]

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.access_fee_nano_per_wh)


@dataclass(frozen=True, slots=True)
class Group:
    """Who meets the market at one node under one outside tariff."""

    node: int
    tariff_class: int
    import_price_nano_per_wh: int
    export_price_nano_per_wh: int


@dataclass(frozen=True, slots=True)
class Market:
    """What stays the same from interval to interval: graph, groups, and the names behind the numbers."""

    graph: Graph
    groups: tuple[Group, ...]
    node_names: tuple[str, ...]
    class_names: tuple[str, ...]
    group_index: dict[tuple[str, str], int]

    @property
    def is_free(self) -> bool:
        """Whether nobody pays for the network."""
        return not any(self.graph.access_fee_nano_per_wh) and not any(
            self.graph.edge_fee_nano_per_wh
        )

    @property
    def identity(self) -> str:
        """The same for equal markets only."""
        return repr((self.graph, self.groups, self.node_names, self.class_names))


@dataclass(frozen=True, slots=True, eq=False)
class PairMarket(Market):
    """A market in which each pair of nodes has a fee of its own; its graph has nodes and access fees, and no edges.

    What works on graphs alone would take its nodes for islands; `pool.engine_of` chooses what does not.

    Attributes:
        pair_fee_nano_per_wh: (V, V) symmetric, what a trade pays on top of both access fees.
    """

    pair_fee_nano_per_wh: Integers

    @property
    def is_free(self) -> bool:
        """Whether nobody pays for the network."""
        return super(PairMarket, self).is_free and not self.pair_fee_nano_per_wh.any()

    @property
    def identity(self) -> str:
        """The same for equal markets only."""
        fees = sha256(self.pair_fee_nano_per_wh.tobytes()).hexdigest()
        return super(PairMarket, self).identity + fees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairMarket) and self.identity == other.identity

    __hash__ = None  # type: ignore[assignment]  # as every market, for its index


@dataclass(frozen=True, slots=True)
class Problem:
    """One interval: the market and each group's deficit and surplus, in Wh."""

    market: Market
    demand_wh: tuple[int, ...]
    supply_wh: tuple[int, ...]

    @property
    def is_two_sided(self) -> bool:
        """Whether somebody sells and somebody buys."""
        return any(self.demand_wh) and any(self.supply_wh)


@dataclass(frozen=True, slots=True)
class Solution:
    """A clearing with its proof; the canonical one of all optimal ones.

    Attributes:
        matched_demand_wh: C, by group.
        matched_supply_wh: A, by group.
        flow_wh: by edge, signed.
        price_nano_per_wh: pi, by node; |difference| over an edge <= its fee.
    """

    matched_demand_wh: tuple[int, ...]
    matched_supply_wh: tuple[int, ...]
    flow_wh: tuple[int, ...]
    price_nano_per_wh: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupPrices:
    """Prices in nano per Wh, by group."""

    buy_nano_per_wh: tuple[int, ...]
    sell_nano_per_wh: tuple[int, ...]


def graph_of(network: Network) -> tuple[Graph, tuple[str, ...]]:
    """The network by index, and the node names in index order."""
    names = tuple(sorted(node.id for node in network.nodes))
    index = {name: number for number, name in enumerate(names)}
    access = {node.id: node.access_fee_nano_per_wh for node in network.nodes}
    edges = sorted(
        (*sorted((index[edge.from_node], index[edge.to_node])), edge.fee_nano_per_wh)
        for edge in network.edges
    )
    graph = Graph(
        access_fee_nano_per_wh=tuple(access[name] for name in names),
        edge_from=tuple(edge[0] for edge in edges),
        edge_to=tuple(edge[1] for edge in edges),
        edge_fee_nano_per_wh=tuple(edge[2] for edge in edges),
    )
    return graph, names


def build_market(
    network: Network,
    tariff_classes: Iterable[TariffClass],
    group_keys: Iterable[tuple[str, str]],
) -> Market:
    """The market of a network, its outside tariffs and the (node, tariff class) pairs that have members.

    Args:
        network: a checked network.
        tariff_classes: outside prices.
        group_keys: pairs of node and tariff class name, in any order.
    """
    graph, node_names = graph_of(network)
    node_index = {name: number for number, name in enumerate(node_names)}
    tariffs = {tariff.id: tariff for tariff in tariff_classes}
    class_names = tuple(sorted(tariffs))
    class_index = {name: number for number, name in enumerate(class_names)}
    keys = sorted({(node_index[node], class_index[tariff]) for node, tariff in group_keys})
    groups = tuple(
        Group(
            node=node,
            tariff_class=number,
            import_price_nano_per_wh=tariffs[class_names[number]].import_price_nano_per_wh,
            export_price_nano_per_wh=tariffs[class_names[number]].export_price_nano_per_wh,
        )
        for node, number in keys
    )
    group_index = {
        (node_names[node], class_names[number]): position
        for position, (node, number) in enumerate(keys)
    }
    if network.pair_fees_nano_per_wh is None:
        return Market(graph, groups, node_names, class_names, group_index)
    by_name = np.argsort([node_index[node.id] for node in network.nodes])
    fees = np.array(network.pair_fees_nano_per_wh, dtype=np.int64)[np.ix_(by_name, by_name)]
    return PairMarket(graph, groups, node_names, class_names, group_index, fees)


def market_of(case: ClearingCase) -> Market:
    """The market of a checked case: its graph and the groups that have a member."""
    return build_market(
        case.network,
        case.tariff_classes,
        ((member.node, member.tariff_class) for member in case.members),
    )


def problem_of(case: ClearingCase, market: Market) -> Problem:
    """The case's totals by group."""
    demand: dict[int, int] = defaultdict(int)
    supply: dict[int, int] = defaultdict(int)
    for member in case.members:
        group = market.group_index[member.node, member.tariff_class]
        if member.net_wh < 0:
            demand[group] -= member.net_wh
        else:
            supply[group] += member.net_wh
    count = len(market.groups)
    return Problem(
        market=market,
        demand_wh=tuple(demand[group] for group in range(count)),
        supply_wh=tuple(supply[group] for group in range(count)),
    )
