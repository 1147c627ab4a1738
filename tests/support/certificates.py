"""What `Certificate.sol` must make of any bytes, worked out again from docs/protocol.md with plain integers, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

from backend.market.pricing import savings_share_steps
from backend.market.problem import Market
from backend.settlement.clearing_encoding import edge_words, group_words

MIN_WIDTH, MAX_WIDTH = 2, 8

# (supplier, fees, fund, totals hash, prices hash), or the custom error's name and arguments.
Verdict = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """Numbers from bytes; behind the end there are zeros, as in calldata."""

    data: bytes

    def unsigned(self, position: int, size: int) -> int:
        """A big-endian number."""
        return int.from_bytes(self.data[position : position + size].ljust(size, b"\0"), "big")

    def signed(self, position: int, size: int) -> int:
        """A big-endian number in two's complement."""
        found = self.data[position : position + size].ljust(size, b"\0")
        return int.from_bytes(found, "big", signed=True)


def verdict(
    market: Market, chord_count: int, share_millionths: int, clearing: bytes, count: int
) -> Verdict:
    """Totals of a clearing of `count` intervals, or the first fault."""
    width = clearing[0] if clearing else 0
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        return ("WrongEnergyWidth", width)
    groups = [Reader(word) for word in group_words(market)]
    edges = [Reader(word) for word in edge_words(market.graph)]
    nodes = market.graph.node_count
    reader = Reader(clearing)
    row = 2 * width * len(groups)
    record_bytes = row + 6 * nodes + 8 * chord_count
    metered_end = 1 + row * count
    if len(clearing) < metered_end:
        return ("WrongClearingLength", len(clearing), metered_end)
    record = metered_end
    supplier = fees_total = fund = 0
    prices = b""
    for interval in range(count):

        def pairs(start: int) -> list[tuple[int, int]]:
            places = range(start, start + row, 2 * width)
            return [
                (reader.unsigned(at, width), reader.unsigned(at + width, width)) for at in places
            ]

        metered = pairs(1 + row * interval)
        demand, supply = (sum(side) for side in zip(*metered, strict=True)) if metered else (0, 0)
        matched = [(0, 0)] * len(groups)
        flows, node_prices = [0] * len(edges), [0] * nodes
        one_sided = not demand or not supply
        if not one_sided:
            matched = pairs(record)
            node_prices = [reader.signed(record + row + 6 * node, 6) for node in range(nodes)]
            chords = record + row + 6 * nodes
            for chord in range(chord_count):
                flows[chord] = reader.signed(chords + 8 * chord, 8)
            record += record_bytes
        if any(c > d or a > s for (d, s), (c, a) in zip(metered, matched, strict=True)):
            return ("MatchedAboveMetered", interval)
        balance = [0] * nodes
        for group, (bought, sold) in zip(groups, matched, strict=True):
            balance[group.unsigned(24, 4)] += sold - bought
        steep = False
        for number, edge in enumerate(edges):
            tail, head = edge.unsigned(0, 4), edge.unsigned(4, 4)
            if number >= chord_count:
                flows[number] = balance[tail]
            balance[tail] -= flows[number]
            balance[head] += flows[number]
            steep |= abs(node_prices[tail] - node_prices[head]) > edge.unsigned(8, 8)
        if steep:
            return ("PriceGapAboveFee", interval)
        if any(balance):
            return ("NodeOutOfBalance", interval)
        outside = cost = bound = access_fees = 0
        for group, (d, s), (c, a) in zip(groups, metered, matched, strict=True):
            buy, sell, access = group.signed(0, 8), group.signed(8, 8), group.unsigned(16, 8)
            price = node_prices[group.unsigned(24, 4)]
            outside += buy * d - sell * s
            cost += buy * (d - c) - sell * (s - a) + access * (c + a)
            access_fees += access * (c + a)
            bound += max(0, buy - access - price) * d + max(0, price - sell - access) * s
        edge_fees = sum(
            edge.unsigned(8, 8) * abs(flow) for edge, flow in zip(edges, flows, strict=True)
        )
        cost += edge_fees
        saved = outside - cost
        if not one_sided and saved != bound:
            return ("NotOptimal", interval, bound - saved)
        discount, premium = savings_share_steps(saved, demand, supply, share_millionths)
        prices += discount.to_bytes(8, "big") + premium.to_bytes(8, "big")
        fees = access_fees + edge_fees
        supplier += cost - fees
        fees_total += fees
        fund += saved - discount * demand - premium * supply
    if len(clearing) != record:
        return ("WrongClearingLength", len(clearing), record)
    return supplier, fees_total, fund, keccak(clearing[:metered_end]), keccak(prices)
