"""The proof of a clearing on a graph: energy balances at every node, and node prices differ over no edge by more than its fee."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def prove_graph(
    network: dict[str, Any],
    clearing: dict[str, Any],
    outside: dict[str, tuple[int, int]],
    faults: list[str],
) -> tuple[int, Callable[[str, str], int], dict[tuple[str, str], tuple[int, int]]]:
    """Adds faults; returns all fees, a trade's fee per Wh, and what supply and demand of each group are worth beyond outside."""
    access = {n["id"]: n.get("access_fee_nano_per_wh", 0) for n in network["nodes"]}
    fees = {}
    for e in network.get("edges", []):
        fees[e["from"], e["to"]] = fees[e["to"], e["from"]] = e["fee_nano_per_wh"]
    price = dict.fromkeys(access, 0)
    price |= {p["node"]: p["price_nano_per_wh"] for p in clearing["node_prices"]}
    if sorted(p["node"] for p in clearing["node_prices"]) != sorted(access):
        faults.append("not one price for each node")

    balance, paid, worth = dict.fromkeys(access, 0), 0, {}
    for g in clearing["groups"]:
        node, (r, f) = g["node"], outside[g["tariff_class"]]
        balance[node] += g["matched_supply_wh"] - g["matched_demand_wh"]
        paid += access[node] * (g["matched_supply_wh"] + g["matched_demand_wh"])
        worth[node, g["tariff_class"]] = (
            max(0, price[node] - access[node] - f),
            max(0, r - access[node] - price[node]),
        )
        if "supply_value_nano_per_wh" in g or "demand_value_nano_per_wh" in g:
            faults.append(f"{node}: values of a group, which are for pair fees")
    for flow in clearing["flows"]:
        one, other, energy = flow["from"], flow["to"], flow["energy_wh"]
        balance[one] -= energy
        balance[other] += energy
        paid += fees[one, other] * energy
        if energy <= 0:
            faults.append(f"flow {one} to {other} is not positive")
    for (one, other), fee in fees.items():
        if price[other] - price[one] > fee:
            faults.append(f"prices of {one} and {other} differ by more than the fee {fee}")
    for node, excess in balance.items():
        if excess:
            faults.append(f"energy left over at {node}: {excess}, should be 0")

    def rate(seller: str, buyer: str) -> int:
        # Prices are tight along every path in use.
        return int(access[seller] + price[buyer] - price[seller] + access[buyer])

    return paid, rate, worth
