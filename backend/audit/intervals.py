"""Reads the submitted certificates and recomputes what follows from them: optimality, prices, totals."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from .verdict import Checks

_MILLION = 1_000_000


@dataclass(frozen=True)
class AuditTariff:
    """The tariff as submitted, unpacked.

    Attributes:
        share: the buyers' share in millionths.
        nodes: number of nodes.
        groups: import price, export price, access fee, node, tariff class.
        edges: from, to, fee.
    """

    share: int
    nodes: int
    groups: list[tuple[int, int, int, int, int]]
    edges: list[tuple[int, int, int]]

    @classmethod
    def unpack(cls, raw: dict[str, object]) -> AuditTariff:
        """From the decoded calldata."""
        groups, edges = raw["groups"], raw["edges"]
        assert isinstance(groups, list | tuple) and isinstance(edges, list | tuple)
        share, nodes = raw["shareMillionths"], raw["nodeCount"]
        assert isinstance(share, int) and isinstance(nodes, int)
        return cls(
            share=share,
            nodes=nodes,
            groups=[
                (
                    int.from_bytes(item[0:8], "big", signed=True),
                    int.from_bytes(item[8:16], "big", signed=True),
                    int.from_bytes(item[16:24], "big"),
                    int.from_bytes(item[24:28], "big"),
                    int.from_bytes(item[28:32], "big"),
                )
                for item in groups
            ],
            edges=[
                (
                    int.from_bytes(item[0:4], "big"),
                    int.from_bytes(item[4:8], "big"),
                    int.from_bytes(item[8:16], "big"),
                )
                for item in edges
            ],
        )

    def distances(self) -> list[list[int | None]]:
        """Cheapest fee between every two nodes, by Dijkstra from each."""
        neighbours: list[list[tuple[int, int]]] = [[] for _ in range(self.nodes)]
        for start, end, fee in self.edges:
            neighbours[start].append((end, fee))
            neighbours[end].append((start, fee))
        table: list[list[int | None]] = []
        for source in range(self.nodes):
            best: list[int | None] = [None] * self.nodes
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
    """One interval's record, unpacked: per group D, S, C, A in Wh; per node its price; per edge its flow."""

    groups: list[tuple[int, int, int, int]]
    prices: list[int]
    flows: list[int]


@dataclass
class IntervalResults:
    """What all intervals of a period add up to."""

    supplier: int
    fees: int
    fund: int
    totals: bytes
    steps: list[tuple[int, int]]
    intervals: list[AuditInterval]


def unpack_intervals(data: bytes, tariff: AuditTariff, count: int) -> list[AuditInterval]:
    """The records of a period.

    Raises:
        ValueError: the length does not fit.
    """
    groups, nodes, edges = len(tariff.groups), tariff.nodes, len(tariff.edges)
    size = 32 * groups + 8 * nodes + 8 * edges
    if len(data) != size * count:
        raise ValueError(f"{len(data)} bytes of interval records instead of {size * count}")
    found = []
    for start in range(0, len(data), size):
        record = data[start : start + size]
        fields = [int.from_bytes(record[at : at + 8], "big") for at in range(0, 32 * groups, 8)]
        signed = [
            int.from_bytes(record[at : at + 8], "big", signed=True)
            for at in range(32 * groups, size, 8)
        ]
        found.append(
            AuditInterval(
                groups=[
                    (fields[at], fields[at + 1], fields[at + 2], fields[at + 3])
                    for at in range(0, 4 * groups, 4)
                ],
                prices=signed[:nodes],
                flows=signed[nodes:],
            )
        )
    return found


def check_intervals(
    intervals: list[AuditInterval], tariff: AuditTariff, checks: Checks
) -> IntervalResults:
    """Checks every certificate and recomputes prices and sums.

    Args:
        intervals: the records.
        tariff: the tariff in force.
        checks: told of every fault.
    """
    results = IntervalResults(0, 0, 0, b"", [], intervals)
    totals = bytearray()
    faults = []
    for number, interval in enumerate(intervals):
        fault, residual, fees, saved = _check_interval(interval, tariff)
        if fault:
            faults.append(f"interval {number}: {fault}")
        demand = sum(group[0] for group in interval.groups)
        supply = sum(group[1] for group in interval.groups)
        discount = saved * tariff.share // (_MILLION * demand) if demand else 0
        premium = saved * (_MILLION - tariff.share) // (_MILLION * supply) if supply else 0
        results.steps.append((discount, premium))
        results.supplier += residual
        results.fees += fees
        results.fund += saved - discount * demand - premium * supply
        for group in interval.groups:
            totals += group[0].to_bytes(8, "big") + group[1].to_bytes(8, "big")
    results.totals = bytes(totals)
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
    for (demand, supply, bought, sold), (r, f, access, node, _) in zip(
        interval.groups, tariff.groups, strict=True
    ):
        if bought > demand or sold > supply:
            return f"node {node}: more matched than metered", 0, 0, 0
        price = interval.prices[node]
        balance[node] += sold - bought
        outside += r * demand - f * supply
        residual += r * (demand - bought) - f * (supply - sold)
        fees += access * (bought + sold)
        bound += min(r, price + access) * demand - max(f, price - access) * supply
    for flow, (start, end, fee) in zip(interval.flows, tariff.edges, strict=True):
        balance[start] -= flow
        balance[end] += flow
        fees += fee * abs(flow)
        if abs(interval.prices[start] - interval.prices[end]) > fee:
            return f"edge {start}-{end}: prices differ by more than the fee", 0, 0, 0
    if any(balance):
        return f"energy does not balance: {balance}", 0, 0, 0
    fault = (
        "" if residual + fees == bound else f"could be up to {residual + fees - bound} nano cheaper"
    )
    return fault, residual, fees, outside - residual - fees
