"""The clearing again, independently: one variable for each pair of seller and buyer, as the Energy Collective writes it.

Shares nothing with `backend.market`: fees by networkx's shortest paths or from the matrix, the optimum by scipy's linear programming and by
networkx's network simplex, costs in Python integers.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from backend.domain.case import CaseMember, ClearingCase, Network


def between_nodes(network: Network) -> dict[str, dict[str, int]]:
    """What a trade pays besides access: a shortest path, or what the matrix says."""
    names = [node.id for node in network.nodes]
    if network.pair_fees_nano_per_wh is not None:
        rows = (dict(zip(names, row, strict=True)) for row in network.pair_fees_nano_per_wh)
        return dict(zip(names, rows, strict=True))
    graph = nx.Graph()
    graph.add_nodes_from(names)
    for edge in network.edges:
        graph.add_edge(edge.from_node, edge.to_node, weight=edge.fee_nano_per_wh)
    return dict(nx.all_pairs_dijkstra_path_length(graph))


class PairwiseMarket:
    """All sellers and buyers of a case with the gain of each pair's trade per Wh."""

    def __init__(self, case: ClearingCase) -> None:
        self.access = {node.id: node.access_fee_nano_per_wh for node in case.network.nodes}
        self.distance = between_nodes(case.network)
        self.tariffs = {tariff.id: tariff for tariff in case.tariff_classes}
        self.sellers = [member for member in case.members if member.net_wh > 0]
        self.buyers = [member for member in case.members if member.net_wh < 0]

    def fee(self, seller: CaseMember, buyer: CaseMember) -> int:
        """gamma_ij: access at both ends and what lies between."""
        way: int = self.distance[seller.node][buyer.node]
        return self.access[seller.node] + way + self.access[buyer.node]

    def gain(self, seller: CaseMember, buyer: CaseMember) -> int:
        """What a Wh traded saves against both trading outside."""
        buys = self.tariffs[buyer.tariff_class].import_price_nano_per_wh
        sells = self.tariffs[seller.tariff_class].export_price_nano_per_wh
        return buys - sells - self.fee(seller, buyer)

    def outside_cost(self) -> int:
        """What everybody pays with nobody trading."""
        return sum(
            -member.net_wh * self.tariffs[member.tariff_class].import_price_nano_per_wh
            for member in self.buyers
        ) - sum(
            member.net_wh * self.tariffs[member.tariff_class].export_price_nano_per_wh
            for member in self.sellers
        )

    def cost_by_linear_program(self) -> int:
        """Least cost by HiGHS's dual simplex over all pairs; its vertex is integer, its cost summed in integers."""
        if not self.sellers or not self.buyers:
            return self.outside_cost()
        gains = [self.gain(seller, buyer) for seller in self.sellers for buyer in self.buyers]
        pairs = len(gains)
        row_of_seller = np.repeat(np.arange(len(self.sellers)), len(self.buyers))
        row_of_buyer = np.tile(np.arange(len(self.buyers)), len(self.sellers)) + len(self.sellers)
        limits = [member.net_wh for member in self.sellers]
        limits += [-member.net_wh for member in self.buyers]
        matrix = sp.csr_array(
            (
                np.ones(2 * pairs),
                (np.concatenate([row_of_seller, row_of_buyer]), np.tile(np.arange(pairs), 2)),
            ),
            shape=(len(limits), pairs),
        )
        found = linprog(-np.array(gains), A_ub=matrix, b_ub=limits, method="highs-ds")
        energies = [round(value) for value in found.x]
        return self.outside_cost() - sum(
            gain * energy for gain, energy in zip(gains, energies, strict=True)
        )

    def cost_by_network_simplex(self) -> int:
        """Least cost by networkx's network simplex over all pairs, in exact integers."""
        graph = nx.DiGraph()
        for number, seller in enumerate(self.sellers):
            graph.add_edge("source", ("s", number), capacity=seller.net_wh, weight=0)
            graph.add_edge(("s", number), "sink", weight=0)
            for other, buyer in enumerate(self.buyers):
                graph.add_edge(("s", number), ("b", other), weight=-self.gain(seller, buyer))
        for other, buyer in enumerate(self.buyers):
            graph.add_edge(("b", other), "sink", capacity=-buyer.net_wh, weight=0)
        total = sum(seller.net_wh for seller in self.sellers)
        if not total or not self.buyers:
            return self.outside_cost()
        graph.nodes["source"]["demand"] = -total
        graph.nodes["sink"]["demand"] = total
        cost, _ = nx.network_simplex(graph)
        return self.outside_cost() + int(cost)
