"""The clearing as docs/protocol.md describes it, read and checked with nothing but the tariff's words: shares no code with the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx


class Refused(Exception):
    """The check that failed, by the name the contract gives it."""


@dataclass
class ReadInterval:
    """One interval as read; without a certificate where one side is missing."""

    demand: list[int]
    supply: list[int]
    bought: list[int]
    sold: list[int]
    price: list[int]
    chord_flow: list[int]
    certified: bool


@dataclass
class Verified:
    """What follows from a clearing."""

    totals: bytes
    prices: bytes
    supplier: int
    fees: int
    fund: int
    flows: list[list[int]]
    savings: list[int]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, width: int, signed: bool = False) -> int:
        part = self.data[self.at : self.at + width]
        if len(part) != width:
            raise Refused("WrongClearingLength")
        self.at += width
        return int.from_bytes(part, "big", signed=signed)

    def pairs(self, count: int, width: int) -> tuple[list[int], list[int]]:
        both = [self.number(width) for _ in range(2 * count)]
        return both[0::2], both[1::2]


def expected_edge_order(
    nodes: int, edges: Sequence[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Chords, then (edge, from, to) of the tree edges; by networkx's breadth-first search."""
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(nodes))
    for number, (one, other) in enumerate(edges):
        graph.add_edge(one, other, key=number)
    found: list[tuple[int, int, int]] = []
    reached: set[int] = set()
    for root in range(nodes):
        if root in reached:
            continue
        reached.add(root)
        for parent, child in nx.bfs_edges(graph, root, sort_neighbors=sorted):
            found.append((min(graph[parent][child]), child, parent))
            reached.add(child)
    in_tree = {edge for edge, _, _ in found}
    return [edge for edge in range(len(edges)) if edge not in in_tree], found[::-1]


def read_clearing(
    data: bytes, groups: int, nodes: int, chords: int, count: int
) -> tuple[int, list[ReadInterval]]:
    """Width and intervals; every byte must be used."""
    reader = _Reader(data)
    width = reader.number(1)
    if not 2 <= width <= 8:
        raise Refused("WrongEnergyWidth")
    intervals = []
    for _ in range(count):
        demand, supply = reader.pairs(groups, width)
        intervals.append(ReadInterval(demand, supply, [0] * groups, [0] * groups, [], [], False))
    for interval in intervals:
        if sum(interval.demand) and sum(interval.supply):
            interval.certified = True
            interval.bought, interval.sold = reader.pairs(groups, width)
            interval.price = [reader.number(6, signed=True) for _ in range(nodes)]
            interval.chord_flow = [reader.number(8, signed=True) for _ in range(chords)]
    if reader.at != len(data):
        raise Refused("WrongClearingLength")
    return width, intervals


def _field(word: bytes, start: int, size: int, signed: bool = False) -> int:
    return int.from_bytes(word[start : start + size], "big", signed=signed)


def verify_clearing(
    group_words: Sequence[bytes],
    edge_words: Sequence[bytes],
    nodes: int,
    chords: int,
    share: int,
    data: bytes,
    count: int,
) -> Verified:
    """The clearing check, savings-share prices and the period's sums.

    Raises:
        Refused: the clearing is not accepted.
    """
    r = [_field(word, 0, 8, True) for word in group_words]
    f = [_field(word, 8, 8, True) for word in group_words]
    access = [_field(word, 16, 8) for word in group_words]
    place = [_field(word, 24, 4) for word in group_words]
    edges = [(_field(word, 0, 4), _field(word, 4, 4), _field(word, 8, 8)) for word in edge_words]
    numbers = range(len(group_words))
    width, intervals = read_clearing(data, len(group_words), nodes, chords, count)
    found = Verified(data[: 1 + 2 * width * len(group_words) * count], b"", 0, 0, 0, [], [])
    for interval in intervals:
        demand, supply = interval.demand, interval.supply
        bought, sold, price = interval.bought, interval.sold, interval.price
        outside = sum(r[g] * demand[g] - f[g] * supply[g] for g in numbers)
        supplier = sum(
            r[g] * (demand[g] - bought[g]) - f[g] * (supply[g] - sold[g]) for g in numbers
        )
        fees = sum(access[g] * (bought[g] + sold[g]) for g in numbers)
        flows: list[int] = []
        if interval.certified:
            if any(bought[g] > demand[g] or sold[g] > supply[g] for g in numbers):
                raise Refused("MatchedAboveMetered")
            left = [0] * nodes
            for g in numbers:
                left[place[g]] += sold[g] - bought[g]
            for number, (tail, head, fee) in enumerate(edges):
                flow = interval.chord_flow[number] if number < chords else left[tail]
                left[tail] -= flow
                left[head] += flow
                fees += fee * abs(flow)
                flows.append(flow)
                if abs(price[tail] - price[head]) > fee:
                    raise Refused("PriceGapAboveFee")
            if any(left):
                raise Refused("NodeOutOfBalance")
            dual = sum(
                min(r[g], price[place[g]] + access[g]) * demand[g]
                - max(f[g], price[place[g]] - access[g]) * supply[g]
                for g in numbers
            )
            if supplier + fees != dual:
                raise Refused("NotOptimal")
        savings = outside - supplier - fees
        wanted, offered = sum(demand), sum(supply)
        discount = savings * share // (10**6 * wanted) if wanted else 0
        premium = savings * (10**6 - share) // (10**6 * offered) if offered else 0
        found.prices += discount.to_bytes(8, "big") + premium.to_bytes(8, "big")
        found.supplier += supplier
        found.fees += fees
        found.fund += savings - discount * wanted - premium * offered
        found.flows.append(flows)
        found.savings.append(savings)
    return found


def amount_of(readings: bytes, prices: bytes, group_word: bytes) -> int:
    """A member's amount."""
    imports, exports = _field(group_word, 0, 8, True), _field(group_word, 8, 8, True)
    assert len(readings) == len(prices)
    amount = 0
    for at in range(0, len(readings), 16):
        row, step = readings[at : at + 16], prices[at : at + 16]
        net = _field(row, 7, 7) - _field(row, 0, 7)
        if _field(row, 14, 2) != 2:
            amount += net * (
                imports - _field(step, 0, 8) if net < 0 else exports + _field(step, 8, 8)
            )
    return amount
