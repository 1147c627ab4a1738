"""The tariff in a bundle's words, turned into the words that are hashed (docs/protocol.md, "Tariff" and "Edge order")."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from .bundle_format import Fields, Unreadable

_PRICE = 1 << 40
_MANY = 8192


@dataclass(frozen=True)
class TariffWords:
    """What a tariff in words comes to.

    Attributes:
        nodes: names by number.
        classes: names by number.
        submitted: as the contracts take it, by Solidity name.
    """

    nodes: list[str]
    classes: list[str]
    submitted: dict[str, Any]


def tariff_words(value: Any) -> TariffWords:
    """Numbers and packs a tariff.

    Raises:
        Unreadable: naming the field.
    """
    top = Fields(value, "tariff")
    network = Fields(top.of("network"), "tariff.network")
    fees, prices = {}, {}
    for number, item in enumerate(network.items("nodes", _MANY)):
        node = Fields(item, f"tariff.network.nodes[{number}]")
        fees[node.text("id")] = node.number("access_fee_nano_per_wh", 0, _PRICE)
    for number, item in enumerate(top.items("tariff_classes", _MANY)):
        entry = Fields(item, f"tariff.tariff_classes[{number}]")
        names = ("import_price_nano_per_wh", "export_price_nano_per_wh")
        prices[entry.text("id")] = tuple(entry.number(name, -_PRICE, _PRICE) for name in names)
    nodes, classes = sorted(fees), sorted(prices)
    groups = []
    for number, item in enumerate(top.items("groups", _MANY)):
        if (
            not isinstance(item, list)
            or len(item) != 2
            or item[0] not in fees
            or item[1] not in prices
        ):
            raise Unreadable(f"tariff.groups[{number}] is no pair of a node and a tariff class")
        groups.append((nodes.index(item[0]), classes.index(item[1])))
    group_words = [
        b"".join(price.to_bytes(8, "big", signed=True) for price in prices[classes[kind]])
        + fees[nodes[node]].to_bytes(8, "big")
        + node.to_bytes(4, "big")
        + kind.to_bytes(4, "big")
        for node, kind in sorted(groups)
    ]
    edges = []
    for number, item in enumerate(network.items("edges", _MANY)):
        edge = Fields(item, f"tariff.network.edges[{number}]")
        ends = (edge.text("from"), edge.text("to"))
        if not set(ends) <= set(fees):
            raise Unreadable(f"tariff.network.edges[{number}] joins nodes that are not there")
        start, end = sorted(nodes.index(name) for name in ends)
        edges.append((start, end, edge.number("fee_nano_per_wh", 0, _PRICE)))
    chords, ordered = _in_order(len(nodes), sorted(edges))
    return TariffWords(
        nodes,
        classes,
        {
            "shareMillionths": top.number("share_millionths", 0, 1_000_001),
            "nodeCount": len(nodes),
            "chordCount": chords,
            "groups": group_words,
            "edges": [
                start.to_bytes(4, "big")
                + end.to_bytes(4, "big")
                + fee.to_bytes(8, "big")
                + bytes(16)
                for start, end, fee in ordered
            ],
        },
    )


def _in_order(
    count: int, edges: list[tuple[int, int, int]]
) -> tuple[int, list[tuple[int, int, int]]]:
    """How many chords there are; then chords, then tree edges from the leaves inwards."""
    tree: list[tuple[int, int, int]] = []
    used: set[int] = set()
    reached: set[int] = set()
    for root in range(count):
        if root in reached:
            continue
        reached.add(root)
        waiting = deque([root])
        while waiting:
            node = waiting.popleft()
            touching = sorted(
                (start + end - node, number)
                for number, (start, end, _) in enumerate(edges)
                if node in (start, end)
            )
            for other, number in touching:
                if other not in reached:
                    reached.add(other)
                    waiting.append(other)
                    used.add(number)
                    tree.append((other, node, edges[number][2]))
    chords = [edge for number, edge in enumerate(edges) if number not in used]
    return len(chords), chords + tree[::-1]
