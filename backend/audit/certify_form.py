"""What a clearing says besides: every member's state and share, the price rule, imports and exports, prices of idle sides.

Who made it (`solver`, `solver_gap_nano`) the case cannot tell, nor with which share or weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

Expect = Callable[[str, Any, Any], None]
SIDES = ("matched_supply_wh", "matched_demand_wh")


def check_form(
    clearing: dict[str, Any],
    members: dict[str, Any],
    groups: dict[tuple[str, str], Any],
    prices: tuple[dict[str, Any], dict[Any, Any], dict[Any, int]],
    expect: Expect,
) -> None:
    """Expects what members' positions and groups' matched energy say.

    Args:
        prices: outside by class, worth by group, and fees by pair of nodes where they are a matrix, all in nano per Wh.
    """
    outside, worth, fee = prices
    imported, exported, steps = 0, 0, set()
    for key, g in groups.items():
        (r, f), (u, v) = outside[key[1]], worth[key]
        discount, premium = r - g["buy_price_nano_per_wh"], g["sell_price_nano_per_wh"] - f
        if clearing["price_rule"] == "competitive":
            expect(f"saved and earned beyond outside by {key}", (premium, discount), (u, v))
        elif clearing["price_rule"] != "blend":
            steps.add((discount, premium))
        imported += g["demand_wh"] - g["matched_demand_wh"]
        exported += g["supply_wh"] - g["matched_supply_wh"]
    expect("groups have all the same discount and premium", len(steps) <= 1, True)
    expect("duality_gap_nano", clearing["duality_gap_nano"], 0)
    expect("dust is at least zero", clearing["dust_nano"] >= 0, True)
    expect("imported_wh", clearing["imported_wh"], imported)
    expect("exported_wh", clearing["exported_wh"], exported)
    expect("state", clearing["state"], _state(exported - imported))

    states = [(name, _state(m["net_wh"])) for name, m in sorted(members.items())]
    expect("members and their states", [(b["id"], b["state"]) for b in clearing["members"]], states)
    _shares(clearing, members, groups, expect)
    if fee:
        _idle_sides(groups, outside, worth, fee, expect)


def _shares(clearing: Any, members: Any, groups: Any, expect: Expect) -> None:
    traded: dict[Any, int] = defaultdict(int)
    for t in clearing["trades"]:
        expect(f"energy of {t['seller']} to {t['buyer']} is positive", t["energy_wh"] > 0, True)
        for name, side in zip((t["seller"], t["buyer"]), SIDES, strict=True):
            traded[members[name]["node"], members[name]["tariff_class"], side] += t["energy_wh"]
            traded[name, side] += t["energy_wh"]
    for key, g in groups.items():
        for side in SIDES:
            expect(f"trades of {key}, {side}", traded[*key, side], g[side])
    before: dict[Any, int] = defaultdict(int)
    for name, m in sorted(members.items()):  # pro rata, telescoping in the order of names
        key, net = (m["node"], m["tariff_class"]), m["net_wh"]
        side = SIDES[net < 0]
        whole = groups[key][side.removeprefix("matched_")] or 1
        start, before[key, side] = before[key, side], before[key, side] + abs(net)
        upto = [energy * groups[key][side] // whole for energy in (start, start + abs(net))]
        expect(f"energy traded by {name}", traded[name, side], upto[1] - upto[0])


def _idle_sides(groups: Any, outside: Any, worth: Any, fee: Any, expect: Expect) -> None:
    """Without energy of its own a side has the least value that no pair contradicts: buyers among sellers, then sellers."""

    def gain(seller: tuple[str, str], buyer: tuple[str, str]) -> int:
        return int(outside[buyer[1]][0] - outside[seller[1]][1] - fee[seller[0], buyer[0]])

    for key, g in groups.items():
        if not g["demand_wh"]:
            selling = [other for other in groups if groups[other]["supply_wh"]]
            least = max((gain(other, key) - worth[other][0] for other in selling), default=0)
            expect(f"value of demand of {key}, without energy", worth[key][1], max(0, least))
        if not g["supply_wh"]:
            least = max(gain(key, other) - worth[other][1] for other in groups)
            expect(f"value of supply of {key}, without energy", worth[key][0], max(0, least))


def _state(net_wh: int) -> str:
    return "surplus" if net_wh > 0 else "shortage" if net_wh < 0 else "balanced"
