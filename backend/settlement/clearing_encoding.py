"""Tariff, group totals and certificates as bytes (docs/protocol.md, "Tariff" to "Prices vector").

Energies are written as narrow as the period allows, flows only where the balances do not say them, and intervals in which
nobody offers or nobody wants energy have no certificate, because there is nothing to prove.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from backend.market.problem import Graph, Market, Problem, Solution

from .encoding import tag, word

TARIFF_TAG = tag("peerwatt.tariff.v2")
# Node prices in the certificate; canonical ones stay below 2^42.
_PRICE_BYTES = 6
_FLOW_BYTES = 8


@dataclass(frozen=True, slots=True)
class EdgeOrder:
    """The edges as the contract reads them.

    Attributes:
        chords: numbers of the edges that close a circle; their flows are stated.
        tree: (edge, node, next node) for the others, in an order in which each takes its node off the graph: what the node has
            left flows to the next one.
    """

    chords: tuple[int, ...]
    tree: tuple[tuple[int, int, int], ...]


def edge_order(graph: Graph) -> EdgeOrder:
    """The canonical order: breadth-first trees from the lowest-numbered nodes, neighbours by number, taken off in reverse."""
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(graph.node_count)]
    for edge, (tail, head) in enumerate(zip(graph.edge_from, graph.edge_to, strict=True)):
        neighbours[tail].append((head, edge))
        neighbours[head].append((tail, edge))
    seen = [False] * graph.node_count
    found: list[tuple[int, int, int]] = []
    for root in range(graph.node_count):
        if seen[root]:
            continue
        seen[root] = True
        queue = [root]
        for node in queue:
            for other, edge in sorted(neighbours[node]):
                if not seen[other]:
                    seen[other] = True
                    queue.append(other)
                    found.append((edge, other, node))
    in_tree = {edge for edge, _, _ in found}
    chords = tuple(edge for edge in range(len(graph.edge_from)) if edge not in in_tree)
    return EdgeOrder(chords, tuple(reversed(found)))


def group_words(market: Market) -> list[bytes]:
    """Per group one word: import price int64, export price int64, access fee uint64, node uint32, tariff class uint32."""
    return [
        group.import_price_nano_per_wh.to_bytes(8, "big", signed=True)
        + group.export_price_nano_per_wh.to_bytes(8, "big", signed=True)
        + market.graph.access_fee_nano_per_wh[group.node].to_bytes(8, "big")
        + group.node.to_bytes(4, "big")
        + group.tariff_class.to_bytes(4, "big")
        for group in market.groups
    ]


def edge_words(graph: Graph) -> list[bytes]:
    """Per edge, in `edge_order`, one word: from uint32, to uint32, fee uint64, zero uint128."""
    order = edge_order(graph)
    ends = [(edge, graph.edge_from[edge], graph.edge_to[edge]) for edge in order.chords]
    return [
        tail.to_bytes(4, "big")
        + head.to_bytes(4, "big")
        + graph.edge_fee_nano_per_wh[edge].to_bytes(8, "big")
        + bytes(16)
        for edge, tail, head in (*ends, *order.tree)
    ]


def tariff_hash(market: Market, share_millionths: int) -> bytes:
    """Hash of the tariff, as `TariffBook` computes it."""
    return keccak(
        TARIFF_TAG
        + word(share_millionths)
        + word(market.graph.node_count)
        + word(len(edge_order(market.graph).chords))
        + keccak(b"".join(group_words(market)))
        + keccak(b"".join(edge_words(market.graph)))
    )


def pack_totals(totals: Sequence[tuple[Sequence[int], Sequence[int]]]) -> bytes:
    """One byte w, then per interval and group demand and supply in w bytes each: the fewest that hold them all, at
    least two.

    Args:
        totals: per interval the groups' demands and supplies in Wh.

    Raises:
        OverflowError: an energy needs more than 8 bytes.
    """
    largest = max((energy for sides in totals for side in sides for energy in side), default=0)
    width = max(2, (largest.bit_length() + 7) // 8)
    if width > 8:
        raise OverflowError(f"{largest} Wh need more than 8 bytes")
    return bytes([width]) + b"".join(
        demand.to_bytes(width, "big") + supply.to_bytes(width, "big")
        for demands, supplies in totals
        for demand, supply in zip(demands, supplies, strict=True)
    )


def pack_clearing(intervals: Sequence[tuple[Problem, Solution]]) -> bytes:
    """Group totals and certificates of a period, as `Certificate.sol` reads them.

    After the totals, for each interval with both demand and supply: for each group matched demand and matched supply (w bytes
    each, Wh); for each node its price (int48, nano per Wh); for each chord its flow (int64, Wh).
    """
    totals = pack_totals([(problem.demand_wh, problem.supply_wh) for problem, _ in intervals])
    width = totals[0]
    parts = [totals]
    for problem, solution in intervals:
        if not problem.is_two_sided:
            continue
        matched = zip(solution.matched_demand_wh, solution.matched_supply_wh, strict=True)
        parts += [energy.to_bytes(width, "big") for group in matched for energy in group]
        parts += [
            price.to_bytes(_PRICE_BYTES, "big", signed=True) for price in solution.price_nano_per_wh
        ]
        parts += [
            solution.flow_wh[chord].to_bytes(_FLOW_BYTES, "big", signed=True)
            for chord in edge_order(problem.market.graph).chords
        ]
    return b"".join(parts)


def pack_prices(steps: Iterable[tuple[int, int]]) -> bytes:
    """Per interval 16 bytes: discount uint64, premium uint64, in nano per Wh."""
    return b"".join(
        discount.to_bytes(8, "big") + premium.to_bytes(8, "big") for discount, premium in steps
    )
