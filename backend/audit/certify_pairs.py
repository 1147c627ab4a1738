"""The proof of a clearing under pair fees: no two groups gain more from a Wh between them than their two values add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any


def prove_pairs(
    network: dict[str, Any],
    clearing: dict[str, Any],
    outside: dict[str, tuple[int, int]],
    faults: list[str],
) -> tuple[int, Callable[[str, str], int], dict[tuple[str, str], tuple[int, int]]]:
    """Adds faults; returns all fees, a trade's fee per Wh, and what supply and demand of each group are worth beyond outside."""
    access = {n["id"]: n.get("access_fee_nano_per_wh", 0) for n in network["nodes"]}
    row = dict(zip(access, network["pair_fees_nano_per_wh"], strict=True))
    place = {node: index for index, node in enumerate(access)}

    def rate(seller: str, buyer: str) -> int:
        return int(access[seller] + row[seller][place[buyer]] + access[buyer])

    if clearing["node_prices"]:
        faults.append("prices of nodes, which are for graphs")
    worth = {}
    left: dict[tuple[str, str], int] = defaultdict(int)
    for g in clearing["groups"]:
        node = g["node"]
        left[node, "sell"] += g["matched_supply_wh"]
        left[node, "buy"] += g["matched_demand_wh"]
        values = g.get("supply_value_nano_per_wh"), g.get("demand_value_nano_per_wh")
        if None in values or min(values) < 0:
            faults.append(f"{node}, {g['tariff_class']}: a value is missing or below zero")
            values = 0, 0
        worth[node, g["tariff_class"]] = values
    selling = {(g["node"], g["tariff_class"]) for g in clearing["groups"] if g["supply_wh"]}
    buying = {(g["node"], g["tariff_class"]) for g in clearing["groups"] if g["demand_wh"]}

    def left_over(seller: tuple[str, str], buyer: tuple[str, str]) -> int:
        gain = outside[buyer[1]][0] - outside[seller[1]][1] - rate(seller[0], buyer[0])
        return gain - worth[seller][0] - worth[buyer][1]

    # Without energy of its own a side has the least value that no pair contradicts: buyers among sellers, then sellers.
    for buyer in worth.keys() - buying:
        gain = max((left_over(seller, buyer) for seller in selling), default=0)
        if max(gain, -worth[buyer][1]) != 0:
            faults.append(
                f"{buyer}: demand without energy has another value than its best pair says"
            )
    for seller in worth:
        gain = max(left_over(seller, buyer) for buyer in worth)
        if gain > 0 or (seller not in selling and max(gain, -worth[seller][0]) != 0):
            faults.append(f"{seller}: a pair gains {gain} more than both values say")
    paid = 0
    for flow in clearing["flows"]:
        one, other, energy = flow["from"], flow["to"], flow["energy_wh"]
        left[one, "sell"] -= energy
        left[other, "buy"] -= energy
        paid += rate(one, other) * energy
        if energy <= 0:
            faults.append(f"flow {one} to {other} is not positive")
    for (node, what), energy in left.items():
        if energy:
            faults.append(f"{node}: groups and flows {what} {energy} Wh more or less")
    return paid, rate, worth
