"""Checks a clearing against its case and trusts neither: `peerwatt certify CASE.json CLEARING.json`.

Reads the two files as they are; shares no code with what made them. A clearing is right if it balances, respects the meters,
is proved optimal by its own node prices, and its money adds up.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def certify(case: dict[str, Any], clearing: dict[str, Any]) -> list[str]:
    """Every fault found, in words; empty if the clearing is right."""
    faults: list[str] = []

    def expect(what: str, found: Any, right: Any) -> None:
        if found != right:
            faults.append(f"{what}: {found}, should be {right}")

    access = {n["id"]: n.get("access_fee_nano_per_wh", 0) for n in case["network"]["nodes"]}
    fees = {}
    for e in case["network"].get("edges", []):
        fees[e["from"], e["to"]] = fees[e["to"], e["from"]] = e["fee_nano_per_wh"]
    outside = {
        c["id"]: (c["import_price_nano_per_wh"], c["export_price_nano_per_wh"])
        for c in case["tariff_classes"]
    }
    members = {m["id"]: m for m in case["members"]}
    metered: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for m in members.values():
        metered[m["node"], m["tariff_class"]][m["net_wh"] > 0] += abs(m["net_wh"])

    price = {p["node"]: p["price_nano_per_wh"] for p in clearing["node_prices"]}
    expect("nodes with a price", sorted(price), sorted(access))
    groups = {(g["node"], g["tariff_class"]): g for g in clearing["groups"]}
    expect("groups", sorted(groups), sorted(metered))
    if faults:
        return faults

    balance = dict.fromkeys(access, 0)
    cost = fee_sum = bound = alone = 0
    for key, g in groups.items():
        (r, f), (demand, supply) = outside[key[1]], metered[key]
        bought, sold, a = g["matched_demand_wh"], g["matched_supply_wh"], access[key[0]]
        expect(f"demand of {key}", g["demand_wh"], demand)
        expect(f"supply of {key}", g["supply_wh"], supply)
        if not (0 <= bought <= demand and 0 <= sold <= supply):
            faults.append(f"{key}: matched more than metered")
        if g["buy_price_nano_per_wh"] > r or g["sell_price_nano_per_wh"] < f:
            faults.append(f"{key}: worse than outside")
        balance[key[0]] += sold - bought
        cost += r * (demand - bought) - f * (supply - sold)
        fee_sum += a * (bought + sold)
        alone += r * demand - f * supply
        bound += min(r, price[key[0]] + a) * demand - max(f, price[key[0]] - a) * supply
    for (one, other), fee in fees.items():
        if price[other] - price[one] > fee:
            faults.append(f"prices of {one} and {other} differ by more than the fee {fee}")
    for flow in clearing["flows"]:
        balance[flow["from"]] -= flow["energy_wh"]
        balance[flow["to"]] += flow["energy_wh"]
        fee_sum += fees[flow["from"], flow["to"]] * flow["energy_wh"]
        if flow["energy_wh"] <= 0:
            faults.append(f"flow {flow['from']} to {flow['to']} is not positive")
    for node, excess in balance.items():
        expect(f"energy left over at {node}", excess, 0)
    cost += fee_sum
    expect("fees_nano", clearing["fees_nano"], fee_sum)
    expect("cost_nano", clearing["cost_nano"], cost)
    expect("cost proved by the node prices (the duality gap is the difference)", bound, cost)
    expect("outside_cost_nano", clearing["outside_cost_nano"], alone)
    expect("savings_nano", clearing["savings_nano"], alone - cost)

    amounts = {m["id"]: m["amount_nano"] for m in clearing["members"]}
    expect("members billed", sorted(amounts), sorted(members))
    for name, m in members.items():
        g = groups[m["node"], m["tariff_class"]]
        rate = g["buy_price_nano_per_wh" if m["net_wh"] < 0 else "sell_price_nano_per_wh"]
        expect(f"amount of {name}", amounts.get(name), rate * m["net_wh"])
    expect("sum of amounts, cost and dust", sum(amounts.values()) + cost + clearing["dust_nano"], 0)
    if clearing["dust_nano"] < 0:
        faults.append("dust below zero")

    traded: dict[tuple[str, str, str], int] = defaultdict(int)
    for t in clearing["trades"]:
        seller, buyer = members[t["seller"]], members[t["buyer"]]
        way = price[buyer["node"]] - price[seller["node"]]  # tight along every path in use
        rate = access[seller["node"]] + way + access[buyer["node"]]
        expect(f"fee of {t['seller']} to {t['buyer']}", t["fee_nano"], rate * t["energy_wh"])
        traded[seller["node"], seller["tariff_class"], "matched_supply_wh"] += t["energy_wh"]
        traded[buyer["node"], buyer["tariff_class"], "matched_demand_wh"] += t["energy_wh"]
    for key, g in groups.items():
        for side in ("matched_supply_wh", "matched_demand_wh"):
            expect(f"trades of {key}, {side}", traded[*key, side], g[side])
    expect("fees of all trades", sum(t["fee_nano"] for t in clearing["trades"]), fee_sum)
    return faults
