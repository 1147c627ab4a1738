"""Reads the submitted certificates and recomputes what follows from them: optimality, prices, totals."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from functools import lru_cache

from .verdict import Checks

_MILLION = 1_000_000


@dataclass(frozen=True)
class AuditTariff:
    """The tariff as submitted, unpacked.

    Attributes:
        share: the buyers' share in millionths.
        nodes: number of nodes.
        chords: how many of the edges, the first ones, close a circle; the others form trees.
        groups: import price, export price, access fee, node, tariff class.
        edges: from, to, fee.
    """

    share: int
    nodes: int
    chords: int
    groups: tuple[tuple[int, int, int, int, int], ...]
    edges: tuple[tuple[int, int, int], ...]

    @classmethod
    def unpack(cls, raw: dict[str, object]) -> AuditTariff:
        """From the decoded calldata."""
        groups, edges = raw["groups"], raw["edges"]
        assert isinstance(groups, list | tuple) and isinstance(edges, list | tuple)
        share, nodes, chords = raw["shareMillionths"], raw["nodeCount"], raw["chordCount"]
        assert isinstance(share, int) and isinstance(nodes, int) and isinstance(chords, int)
        return cls(
            share=share,
            nodes=nodes,
            chords=chords,
            groups=tuple(
                (
                    int.from_bytes(item[0:8], "big", signed=True),
                    int.from_bytes(item[8:16], "big", signed=True),
                    int.from_bytes(item[16:24], "big"),
                    int.from_bytes(item[24:28], "big"),
                    int.from_bytes(item[28:32], "big"),
                )
                for item in groups
            ),
            edges=tuple(
                (
                    int.from_bytes(item[0:4], "big"),
                    int.from_bytes(item[4:8], "big"),
                    int.from_bytes(item[8:16], "big"),
                )
                for item in edges
            ),
        )

    def group_of(self, node: int, tariff_class: int) -> int | None:
        """Number of a member's group; None if the tariff has none for it."""
        for number, group in enumerate(self.groups):
            if group[3:] == (node, tariff_class):
                return number
        return None

    def distances(self) -> list[list[int | None]]:
        """Cheapest fee between every two nodes, by Dijkstra from each; None where there is no way."""
        return _distances(self.nodes, self.edges)


@lru_cache(maxsize=4)
def _distances(nodes: int, edges: tuple[tuple[int, int, int], ...]) -> list[list[int | None]]:
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(nodes)]
    for start, end, fee in edges:
        neighbours[start].append((end, fee))
        neighbours[end].append((start, fee))
    table: list[list[int | None]] = []
    for source in range(nodes):
        best: list[int | None] = [None] * nodes
        queue = [(0, source)]
        while queue:
            length, node = heapq.heappop(queue)
            if best[node] is not None:
                continue
            best[node] = length
            for other, fee in neighbours[node]:
                if best[other] is None:
                    heapq.heappush(queue, (length + fee, other))
        table.append(best)
    return table


@dataclass(frozen=True)
class AuditInterval:
    """One interval's record, unpacked: per group D, S, C, A in Wh; per node its price; per chord its flow. Without a
    certificate, because there is nothing to match, no prices.
    """

    groups: list[tuple[int, int, int, int]]
    prices: list[int]
    flows: list[int]


@dataclass(frozen=True)
class IntervalOutcome:
    """What one interval came to, for pictures and accounts: Wh, nano, nano per Wh."""

    demand_wh: int
    supply_wh: int
    matched_wh: int
    supplier_nano: int
    fees_nano: int
    saved_nano: int
    fund_nano: int
    discount_nano_per_wh: int
    premium_nano_per_wh: int


@dataclass
class IntervalResults:
    """What all intervals of a period add up to."""

    supplier: int
    fees: int
    fund: int
    totals: bytes
    intervals: list[AuditInterval]
    outcomes: list[IntervalOutcome] = field(default_factory=list)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Discount and premium of every interval."""
        return [(item.discount_nano_per_wh, item.premium_nano_per_wh) for item in self.outcomes]

    @property
    def prices(self) -> bytes:
        """Discount and premium of every interval, as they are hashed."""
        return b"".join(
            discount.to_bytes(8, "big") + premium.to_bytes(8, "big")
            for discount, premium in self.steps
        )


class _Bytes:
    """Reads numbers one after the other.

    Raises:
        ValueError: they end too early.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int, *, signed: bool = False) -> int:
        part = self.data[self.at : self.at + size]
        if len(part) < size:
            raise ValueError(f"the clearing ends after {len(self.data)} bytes")
        self.at += size
        return int.from_bytes(part, "big", signed=signed)


def unpack_clearing(
    data: bytes, tariff: AuditTariff, count: int
) -> tuple[bytes, list[AuditInterval]]:
    """The part that the oracle signs, and the intervals of a period.

    Raises:
        ValueError: the length does not fit, or the width is none.
    """
    reader = _Bytes(data)
    width = reader.take(1)
    if not 2 <= width <= 8:
        raise ValueError(f"energies of {width} bytes")
    metered = [
        [(reader.take(width), reader.take(width)) for _ in tariff.groups] for _ in range(count)
    ]
    totals = data[: reader.at]
    found = []
    for sides in metered:
        if not any(demand for demand, _ in sides) or not any(supply for _, supply in sides):
            found.append(AuditInterval([(*side, 0, 0) for side in sides], [], []))
            continue
        groups = [(*side, reader.take(width), reader.take(width)) for side in sides]
        prices = [reader.take(6, signed=True) for _ in range(tariff.nodes)]
        flows = [reader.take(8, signed=True) for _ in range(tariff.chords)]
        found.append(AuditInterval(groups, prices, flows))
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes too many behind the clearing")
    return totals, found


def check_intervals(
    totals: bytes, intervals: list[AuditInterval], tariff: AuditTariff, checks: Checks
) -> IntervalResults:
    """Checks every certificate and recomputes prices and sums.

    Args:
        totals: the part that the oracle signs.
        intervals: all of them.
        tariff: the tariff in force.
        checks: told of every fault.
    """
    results = IntervalResults(0, 0, 0, totals, intervals)
    faults = []
    for number, interval in enumerate(intervals):
        fault, residual, fees, saved = _check_interval(interval, tariff)
        if fault:
            faults.append(f"interval {number}: {fault}")
        demand = sum(group[0] for group in interval.groups)
        supply = sum(group[1] for group in interval.groups)
        discount = saved * tariff.share // (_MILLION * demand) if demand else 0
        premium = saved * (_MILLION - tariff.share) // (_MILLION * supply) if supply else 0
        fund = saved - discount * demand - premium * supply
        matched = sum(group[2] for group in interval.groups)
        results.outcomes.append(
            IntervalOutcome(demand, supply, matched, residual, fees, saved, fund, discount, premium)
        )
        results.supplier += residual
        results.fees += fees
        results.fund += fund
    checks.add(
        "every interval's clearing balances at every node and is proved optimal (duality gap 0)",
        not faults,
        count=len(intervals),
        detail="; ".join(faults[:5]),
    )
    return results


def _check_interval(interval: AuditInterval, tariff: AuditTariff) -> tuple[str, int, int, int]:
    """Fault in words (or empty), outside bill, network fees, savings."""
    balance = [0] * tariff.nodes
    residual = fees = bound = outside = 0
    # Nothing to match needs no node prices: everybody is outside, which cannot be bettered.
    prices = interval.prices
    for (demand, supply, bought, sold), (r, f, access, node, _) in zip(
        interval.groups, tariff.groups, strict=True
    ):
        if bought > demand or sold > supply:
            return f"node {node}: more matched than metered", 0, 0, 0
        balance[node] += sold - bought
        outside += r * demand - f * supply
        residual += r * (demand - bought) - f * (supply - sold)
        fees += access * (bought + sold)
        if prices:
            bound += min(r, prices[node] + access) * demand
            bound -= max(f, prices[node] - access) * supply
    if not prices:
        return "", residual, fees, 0
    for number, (start, end, fee) in enumerate(tariff.edges):
        # Down a tree flows whatever its node has left.
        flow = interval.flows[number] if number < tariff.chords else balance[start]
        balance[start] -= flow
        balance[end] += flow
        fees += fee * abs(flow)
        if abs(prices[start] - prices[end]) > fee:
            return f"edge {start}-{end}: prices differ by more than the fee", 0, 0, 0
    if any(balance):
        return f"energy does not balance: {balance}", 0, 0, 0
    fault = (
        "" if residual + fees == bound else f"could be up to {residual + fees - bound} nano cheaper"
    )
    return fault, residual, fees, outside - residual - fees
