"""What `peerwatt grid ...` shows people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from backend.domain.units import format_energy_kwh, format_money

_ROWS = 12


def show_check(found: Mapping[str, Any], console: Console) -> None:
    """Structure, faults, and the intervals that break limits."""
    console.print(
        f"{found['name']}: {found['buses']} buses, {found['lines']} lines, {found['transformers']} transformers,"
        f" {found['connection_points']} connection points"
    )
    for fault in found["faults"]:
        console.print(f"[red]{fault['code']}[/red] {fault['message']}", soft_wrap=True)
        console.print(f"mend: {fault['remedy']}", markup=False, soft_wrap=True)
    if not found["right"]:
        return
    zones = ", ".join(f"{zone} ({count})" for zone, count in found["zones"].items())
    shape = "radial" if not found["loops"] else f"{found['loops']} loops"
    console.print(f"{shape}; zones: {zones}", highlight=False)
    intervals = found["validation"]
    broken = [item for item in intervals if item["broken_limits"]]
    console.print(f"{len(intervals)} interval(s) checked, {len(broken)} break a limit")
    shown = broken or intervals[:1]
    table = Table(show_edge=False)
    for name in ("interval", "voltage", "highest loading", "at", "losses", "limits broken"):
        table.add_column(name, justify="left" if name in ("at", "limits broken") else "right")
    for item in shown[:_ROWS]:
        kinds = Counter(limit["kind"] for limit in item["broken_limits"])
        table.add_row(
            str(item["interval"]),
            f"{item['lowest_voltage_per_unit']:.3f} - {item['highest_voltage_per_unit']:.3f}",
            f"{item['highest_loading_percent']:.1f} %",
            str(item["highest_loaded"]),
            f"{item['loss_w'] / 1000:.1f} kW",
            ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none",
        )
    console.print(table)
    if len(shown) > _ROWS:
        console.print(f"and {len(shown) - _ROWS} more; --json has all")


def show_grid_day(day: Mapping[str, Any], folder: Path, console: Console) -> None:
    """What became of each case of `peerwatt demo --grid`, and where it lies."""
    for case in day["cases"]:
        table = Table(title=case["title"], show_edge=False, padding=(0, 1, 0, 0))
        for name in (
            "start",
            "outcome",
            "checks",
            "broken",
            "voltage",
            "loading, %",
            "cent a kWh in",
        ):
            table.add_column(
                name, justify="left" if name in ("start", "outcome") else "right", no_wrap=True
            )
        for item in case["quarter_hours"]:
            before, after = item["before"], item["after"]
            fees = [zone["fee_nano_per_wh"] / 1e4 for zone in item["zones"]]
            table.add_row(
                item["start"][11:16],
                item["status"],
                str(item["ac_checks"]),
                f"{before['broken_limits'] if before else '-'} > {after['broken_limits']}",
                _voltages(before, after),
                f"{before['highest_loading_percent'] if before else '-'} > {after['highest_loading_percent']}",
                f"{min(fees):.2f} to {max(fees):.2f}",
            )
        console.print()
        console.print(table)
        account = case["operator_account"]
        console.print(
            f"operator: {format_money(account['booked_nano'], decimals=4)} booked by the batches,"
            f" {format_money(1000 * account['deposited_tokens'], decimals=4)} deposited by the supplier,"
            f" {format_money(1000 * account['withdrawn_tokens'], decimals=4)} withdrawn; audit {case['audit']['verdict']}",
            soft_wrap=True,
        )
    console.print()
    files = {
        "Pictures": (folder / "grid.html").resolve(),
        "Fees with reasons, for everybody": f"{folder}/*/fees/*.json",
        "Check it yourself": f"peerwatt audit {folder / day['cases'][0]['folder']}",
    }
    for what, where in files.items():
        console.print(f"{what}: {where}", markup=False, highlight=False, soft_wrap=True)


def _voltages(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> str:
    """The end of the voltages that was further from nominal, before and after."""
    low, high = "lowest_voltage_per_unit", "highest_voltage_per_unit"
    state = before or after
    end = high if state[high] - 1 > 1 - state[low] else low
    return f"{format(before[end], '.3f') if before else '-'} > {after[end]:.3f}"


def show_distances(found: Mapping[str, Any], console: Console) -> None:
    """Distance to the source by zone; the matrix goes to a file."""
    table = Table(show_edge=False)
    for name in ("zone", "buses", "nearest", "farthest", "farthest bus"):
        table.add_column(name, justify="left" if name in ("zone", "farthest bus") else "right")
    zones: dict[str, list[Mapping[str, Any]]] = {}
    for bus in found["buses"]:
        zones.setdefault(bus["zone"], []).append(bus)
    for zone, buses in zones.items():
        ordered = sorted(buses, key=lambda bus: float(bus["distance_to_source"]))
        table.add_row(
            zone,
            str(len(buses)),
            f"{ordered[0]['distance_to_source']:.4g}",
            f"{ordered[-1]['distance_to_source']:.4g}",
            ordered[-1]["bus"],
        )
    console.print(f"{found['name']}: {found['kind']} distance to the source, in {found['unit']}")
    console.print(table)


def show_coordination(found: Mapping[str, Any], console: Console) -> None:
    """Rounds, limits, and the members with the highest fees."""
    console.print(f"[bold]{found['status']}[/bold] after {found['ac_checks']} AC check(s)")
    for number, item in enumerate(found["rounds"], start=1):
        kinds = Counter(limit["kind"] for limit in item["broken_limits"])
        broken = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "no limit"
        console.print(
            f"  check {number}: {broken} broken; welfare {format_money(item['welfare_nano'])}"
        )
    if found["curtailment"]:
        hit = [m for m in found["members"] if m["curtailed_wh"]]
        console.print(
            f"curtailed: {found['curtailment']['permille'] / 10:.1f} % of the fixed energy of {len(hit)} members,"
            f" {format_energy_kwh(sum(m['curtailed_wh'] for m in hit))} kWh: {found['curtailment']['rule']}",
            soft_wrap=True,
        )
    if found["scaled_back_permille"] < 1000:
        console.print(f"all offers scaled back to {found['scaled_back_permille'] / 10:.1f} %")
    _show_limits(found, console)
    charged = sorted(found["members"], key=lambda m: -abs(m["extra_fee_nano"]))
    if any(m["extra_fee_nano"] for m in charged):
        _show_members(charged, console)
    console.print(f"to the DSO's account: {format_money(found['dso_account_nano'])}")
    if "operating_limits" in found:
        _show_operating_limits(found["operating_limits"], console)


def _show_operating_limits(limits: list[Mapping[str, Any]], console: Console) -> None:
    """The tightest first."""
    table = Table(
        title="operating limits: the grid holds whatever everybody does within its own",
        show_edge=False,
    )
    table.add_column("connection point")
    for name in ("may draw, kW", "may feed in, kW"):
        table.add_column(name, justify="right")
    for item in sorted(limits, key=lambda x: min(x["draw_w"], x["feed_in_w"]))[:_ROWS]:
        table.add_row(
            item["connection_point"],
            f"{item['draw_w'] / 1000:.2f}",
            f"{item['feed_in_w'] / 1000:.2f}",
        )
    for name, field in (("together", sum), ("median", median)):
        table.add_row(
            name,
            *(f"{field([x[key] for x in limits]) / 1000:.2f}" for key in ("draw_w", "feed_in_w")),
        )
    console.print(table)
    if len(limits) > _ROWS:
        console.print(f"and {len(limits) - _ROWS} more; --json has all")


def _show_limits(found: Mapping[str, Any], console: Console) -> None:
    if not found["limits"]:
        return
    table = Table(show_edge=False)
    for name in ("limit", "element", "before", "after", "bound", "charges"):
        table.add_column(name, justify="left" if name in ("limit", "element") else "right")
    ordered = sorted(found["limits"], key=lambda item: not item["charges"])
    for item in ordered[:_ROWS]:
        before, after = item["before_per_unit"], item["value_per_unit"]
        table.add_row(
            item["kind"],
            item["element"],
            "no flow" if before is None else f"{before:.4f}",
            "no flow" if after is None else f"{after:.4f}",
            f"{item['bound_per_unit']:.2f}",
            "yes" if item["charges"] else "",
        )
    console.print(table)
    if len(ordered) > _ROWS:
        console.print(f"and {len(ordered) - _ROWS} more; --json has all")


def _show_members(charged: list[Mapping[str, Any]], console: Console) -> None:
    table = Table(show_edge=False)
    for name in ("member", "kWh before", "after", "EUR/kWh fed in", "EUR", "reason"):
        table.add_column(name, justify="left" if name in ("member", "reason") else "right")
    for member in charged[:_ROWS]:
        table.add_row(
            member["id"],
            f"{member['before_wh'] / 1000:.2f}",
            f"{member['net_wh'] / 1000:.2f}",
            f"{member['extra_fee_nano_per_wh'] / 1e6:.4f}",
            format_money(member["extra_fee_nano"]),
            "; ".join(reason["text"] for reason in member["reasons"]),
        )
    console.print(table)
    if len(charged) > _ROWS:
        console.print(f"and {len(charged) - _ROWS} more; --json has all")
