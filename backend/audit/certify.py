"""Checks a clearing against its case and trusts neither: `peerwatt certify CASE.json CLEARING.json`.

Reads the two files as they are; shares no code with what made them. This page alone shows that a clearing respects the meters,
balances, is optimal by its own prices, and that its money and trades add up; `certify_form` looks at how it is written down.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from .certify_form import check_form


def certify(case: dict[str, Any], clearing: dict[str, Any]) -> list[str]:
    """Every fault found, in words; empty if the clearing is right."""
    faults: list[str] = []

    def expect(what: str, found: Any, right: Any) -> None:
        if found != right:
            faults.append(f"{what}: {found}, should be {right}")

    access = {n["id"]: n.get("access_fee_nano_per_wh", 0) for n in case["network"]["nodes"]}
    matrix, fee = case["network"].get("pair_fees_nano_per_wh"), {}
    for e in case["network"].get("edges", []):  # a graph: what a Wh pays over an edge
        fee[e["from"], e["to"]] = fee[e["to"], e["from"]] = e["fee_nano_per_wh"]
    rows = zip(access, matrix, strict=True) if matrix else ()  # a matrix: what it pays in all
    for one, row in rows:
        for other, x in zip(access, row, strict=True):
            fee[one, other] = access[one] + x + access[other]
    rates = ("import_price_nano_per_wh", "export_price_nano_per_wh")
    outside = {c["id"]: [c[rate] for rate in rates] for c in case["tariff_classes"]}
    members = {m["id"]: m for m in case["members"]}
    metered: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for m in members.values():
        metered[m["node"], m["tariff_class"]][m["net_wh"] > 0] += abs(m["net_wh"])
    keys = [(g["node"], g["tariff_class"]) for g in clearing["groups"]]
    priced = [p["node"] for p in clearing["node_prices"]]
    expect("groups", sorted(keys), sorted(metered))
    expect("nodes with a price", sorted(priced), [] if matrix else sorted(access))
    if faults:
        return faults
    price = {p["node"]: p["price_nano_per_wh"] for p in clearing["node_prices"]}
    groups, worth = dict(zip(keys, clearing["groups"], strict=True)), {}
    unsold, unbought = dict.fromkeys(access, 0), dict.fromkeys(access, 0)
    cost = alone = bound = fees = 0
    for key, g in groups.items():
        (node, name), (demand, supply) = key, metered[key]
        (r, f), a = outside[name], access[node]
        bought, sold = g["matched_demand_wh"], g["matched_supply_wh"]
        u, v = g.get("supply_value_nano_per_wh"), g.get("demand_value_nano_per_wh")
        if matrix is None:
            expect(f"values of {key}, which are for pair fees", (u, v), (None, None))
            u, v = max(0, price[node] - a - f), max(0, r - a - price[node])
            fees += a * (bought + sold)
        elif u is None or v is None or min(u, v) < 0:
            return [*faults, f"{key}: a value is missing or below zero"]
        worth[key] = u, v  # what one more Wh of supply, and of demand, would save
        expect(f"demand and supply of {key}", [g["demand_wh"], g["supply_wh"]], [demand, supply])
        if not (0 <= bought <= demand and 0 <= sold <= supply):
            faults.append(f"{key}: matched more than metered")
        if g["buy_price_nano_per_wh"] > r or g["sell_price_nano_per_wh"] < f:
            faults.append(f"{key}: worse than outside")
        unsold[node], unbought[node] = unsold[node] + sold, unbought[node] + bought
        cost += r * (demand - bought) - f * (supply - sold)
        alone, bound = alone + r * demand - f * supply, bound + v * demand + u * supply
    for flow in clearing["flows"]:
        one, other, energy = flow["from"], flow["to"], flow["energy_wh"]
        unsold[one], unbought[other] = unsold[one] - energy, unbought[other] - energy
        fees += fee[one, other] * energy
        expect(f"flow {one} to {other} is positive", energy > 0, True)
    for node in access:
        if unsold[node] != unbought[node] or (matrix and unsold[node]):
            faults.append(f"energy left over at {node}")
    for (one, other), most in fee.items() if matrix is None else ():
        if price[other] - price[one] > most:
            faults.append(f"prices of {one} and {other} differ by more than the fee {most}")
    for s, b in [(s, b) for s in groups for b in groups] if matrix else ():
        gain = outside[b[1]][0] - outside[s[1]][1] - fee[s[0], b[0]] - worth[s][0] - worth[b][1]
        if gain > 0:
            faults.append(f"{s} and {b}: a pair gains {gain} more than both values say")
    cost += fees
    totals = {"fees": fees, "cost": cost, "outside_cost": alone, "savings": alone - cost}
    for what, total in totals.items():
        expect(f"{what}_nano", clearing[f"{what}_nano"], total)
    expect("savings that its own prices allow at most", bound, alone - cost)
    billed = {b["id"]: b["amount_nano"] for b in clearing["members"]}
    received = sum(billed.values())
    expect("received by members, cost and dust", received + cost + clearing["dust_nano"], 0)
    for name, m in members.items():
        g, which = groups[m["node"], m["tariff_class"]], "buy" if m["net_wh"] < 0 else "sell"
        expect(f"amount of {name}", billed.get(name), g[f"{which}_price_nano_per_wh"] * m["net_wh"])
    for t in clearing["trades"]:
        one, other = members[t["seller"]]["node"], members[t["buyer"]]["node"]
        way = fee[one, other] if matrix else access[one] + price[other] - price[one] + access[other]
        expect(f"fee of {t['seller']} to {t['buyer']}", t["fee_nano"], way * t["energy_wh"])
    expect("fees of all trades", sum(t["fee_nano"] for t in clearing["trades"]), fees)
    check_form(clearing, members, groups, (outside, worth, fee if matrix else {}), expect)
    return faults
