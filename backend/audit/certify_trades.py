"""The trades of a clearing: fees, sums by group, and each member's share of what its group matched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any


def check_trades(
    clearing: dict[str, Any],
    members: dict[str, Any],
    groups: dict[tuple[str, str], Any],
    rate: Callable[[str, str], int],
    expect: Callable[[str, Any, Any], None],
) -> None:
    """Expects what the members' positions and the groups' matched energy say."""
    traded: dict[Any, int] = defaultdict(int)
    for t in clearing["trades"]:
        right = t["energy_wh"] * rate(members[t["seller"]]["node"], members[t["buyer"]]["node"])
        expect(f"fee of {t['seller']} to {t['buyer']}", t["fee_nano"], right)
        expect(f"energy of {t['seller']} to {t['buyer']} is positive", t["energy_wh"] > 0, True)
        for name, side in ((t["seller"], "matched_supply_wh"), (t["buyer"], "matched_demand_wh")):
            traded[members[name]["node"], members[name]["tariff_class"], side] += t["energy_wh"]
            traded[name, side] += t["energy_wh"]
    for key, g in groups.items():
        for side in ("matched_supply_wh", "matched_demand_wh"):
            expect(f"trades of {key}, {side}", traded[*key, side], g[side])
    before: dict[Any, int] = defaultdict(int)
    for name, m in sorted(members.items()):  # pro rata, telescoping in the order of names
        key, net = (m["node"], m["tariff_class"]), m["net_wh"]
        side = f"matched_{'demand' if net < 0 else 'supply'}_wh"
        whole = groups[key][side.removeprefix("matched_")] or 1
        start, before[key, side] = before[key, side], before[key, side] + abs(net)
        upto = [energy * groups[key][side] // whole for energy in (start, start + abs(net))]
        expect(f"energy traded by {name}", traded[name, side], upto[1] - upto[0])
