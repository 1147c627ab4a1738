"""Checks a clearing against its case and trusts neither: `peerwatt certify CASE.json CLEARING.json`.

Reads the two files as they are; shares no code with what made them. A clearing is right if it respects the meters, balances,
is proved optimal by its own prices (`certify_graph`, `certify_pairs`), its money adds up and its trades do (`certify_trades`).
Who made it (`solver`, `solver_gap_nano`) the case cannot tell, nor with which share or weight.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from .certify_graph import prove_graph
from .certify_pairs import prove_pairs
from .certify_trades import check_trades


def certify(case: dict[str, Any], clearing: dict[str, Any]) -> list[str]:
    """Every fault found, in words; empty if the clearing is right."""
    faults: list[str] = []

    def expect(what: str, found: Any, right: Any) -> None:
        if found != right:
            faults.append(f"{what}: {found}, should be {right}")

    outside = {
        c["id"]: (c["import_price_nano_per_wh"], c["export_price_nano_per_wh"])
        for c in case["tariff_classes"]
    }
    members = {m["id"]: m for m in case["members"]}
    metered: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for m in members.values():
        metered[m["node"], m["tariff_class"]][m["net_wh"] > 0] += abs(m["net_wh"])
    keys = [(g["node"], g["tariff_class"]) for g in clearing["groups"]]
    expect("groups", sorted(keys), sorted(metered))
    if faults:
        return faults
    groups = dict(zip(keys, clearing["groups"], strict=True))
    prove = prove_graph if case["network"].get("pair_fees_nano_per_wh") is None else prove_pairs
    fees, rate, worth = prove(case["network"], clearing, outside, faults)

    cost, alone, bound, imported, exported = fees, 0, 0, 0, 0
    steps: set[tuple[int, int]] = set()
    for key, g in groups.items():
        (r, f), (demand, supply), (u, v) = outside[key[1]], metered[key], worth[key]
        bought, sold = g["matched_demand_wh"], g["matched_supply_wh"]
        expect(f"demand and supply of {key}", [g["demand_wh"], g["supply_wh"]], [demand, supply])
        if not (0 <= bought <= demand and 0 <= sold <= supply):
            faults.append(f"{key}: matched more than metered")
        discount, premium = r - g["buy_price_nano_per_wh"], g["sell_price_nano_per_wh"] - f
        if discount < 0 or premium < 0:
            faults.append(f"{key}: worse than outside")
        if clearing["price_rule"] == "competitive":
            expect(f"saved and earned beyond outside by {key}", (premium, discount), (u, v))
        elif clearing["price_rule"] != "blend":
            steps.add((discount, premium))
        imported, exported = imported + demand - bought, exported + supply - sold
        cost += r * (demand - bought) - f * (supply - sold)
        alone, bound = alone + r * demand - f * supply, bound + v * demand + u * supply
    if len(steps) > 1:
        faults.append("groups have not all the same discount and premium")
    expect("fees_nano", clearing["fees_nano"], fees)
    expect("cost_nano", clearing["cost_nano"], cost)
    expect("outside_cost_nano", clearing["outside_cost_nano"], alone)
    expect("savings_nano", clearing["savings_nano"], alone - cost)
    expect("savings that its own prices allow at most", bound, alone - cost)
    expect("duality_gap_nano", clearing["duality_gap_nano"], 0)
    expect("imported_wh", clearing["imported_wh"], imported)
    expect("exported_wh", clearing["exported_wh"], exported)
    expect("state", clearing["state"], _state(exported - imported))

    billed = {b["id"]: (b["amount_nano"], b["state"]) for b in clearing["members"]}
    expect("members billed", [b["id"] for b in clearing["members"]], sorted(members))
    for name, m in members.items():
        g, net = groups[m["node"], m["tariff_class"]], m["net_wh"]
        price = g["buy_price_nano_per_wh" if net < 0 else "sell_price_nano_per_wh"]
        expect(f"amount and state of {name}", billed.get(name), (price * net, _state(net)))
    paid = -sum(b["amount_nano"] for b in clearing["members"])
    expect("paid by members, for cost and dust", paid, cost + clearing["dust_nano"])
    if clearing["dust_nano"] < 0:
        faults.append("dust below zero")
    check_trades(clearing, members, groups, rate, expect)
    expect("fees of all trades", sum(t["fee_nano"] for t in clearing["trades"]), fees)
    return faults


def _state(net_wh: int) -> str:
    return "surplus" if net_wh > 0 else "shortage" if net_wh < 0 else "balanced"
