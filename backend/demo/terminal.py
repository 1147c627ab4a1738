"""The run as people see it in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table

from backend.domain.units import format_energy_kwh, format_money

from .day import Progress

_NANO_PER_CENT = 10**7


class TerminalProgress(Progress):
    """Draws each step as a line; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._bars = RichProgress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._current: Any = None

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self._complete()
        self._bars.stop()

    def step(self, title: str, parts: int = 1) -> None:
        """A step begins; the one before is done."""
        self._complete()
        self._current = self._bars.add_task(title, total=parts)

    def part(self) -> None:
        """One part of it is done."""
        self._bars.advance(self._current)

    def _complete(self) -> None:
        if self._current is not None:
            task = self._bars.tasks[self._current]
            self._bars.update(self._current, completed=task.total)


def show_day(day: Mapping[str, Any], console: Console, files: Mapping[str, str]) -> None:
    """Prints the tables of a run.

    Args:
        day: `peerwatt/day/1`.
        console: where to.
        files: what was written, by description.
    """
    currency = day["currency"]
    for table in (
        _households(day, currency),
        _community(day, currency),
        _verified(day),
        _chain(day),
    ):
        console.print()
        console.print(table)
    console.print()
    for period in day["periods"]:
        console.print(f"{period['day']} is final as batch {period['batch_hash']}", soft_wrap=True)
    for description, path in files.items():
        console.print(f"{description}: [bold]{path}[/bold]", soft_wrap=True)


def show_collective(found: Mapping[str, Any], console: Console, files: Mapping[str, str]) -> None:
    """Prints the tables of a run with negotiation.

    Args:
        found: `peerwatt/collective/1`.
        console: where to.
        files: what was written, by description.
    """
    homes = _table(
        f"{len(found['intervals'])} intervals of {found['delivery_day']}: energy in Wh; money in cents: + received, - paid",
        ("household", "left"),
        ("metered", "right"),
        ("sold\nahead", "right"),
        ("bought\nahead", "right"),
        ("deviated", "right"),
        ("trades", "right"),
        ("pool", "right"),
        ("together", "right"),
        ("outside", "right"),
    )
    for item in found["households"]:
        homes.add_row(
            item["name"] + (" *" if item["battery"] else ""),
            *(
                f"{item[key]:,}"
                for key in ("metered_wh", "sold_ahead_wh", "bought_ahead_wh", "deviation_wh")
            ),
            *(
                f"{item[key] / _NANO_PER_CENT:.2f}"
                for key in ("traded_nano", "pool_nano", "amount_nano", "outside_nano")
            ),
        )
    console.print()
    console.print(homes)
    console.print("* with a battery")
    agreed = found["intervals"]
    console.print(
        f"\n{sum(item['trades'] for item in agreed)} trades, "
        f"{format_energy_kwh(sum(item['energy_wh'] for item in agreed))} kWh, agreed in at most "
        f"{max(item['rounds'] for item in agreed)} rounds an interval, "
        f"certified gaps at most {max(item['certified_gap'] for item in agreed):.0e}"
    )
    for lie in found["lies"]:
        console.print(f"lie: {lie['what']}: {lie['outcome']} by {lie['by']}", soft_wrap=True)
    console.print(
        "gas: " + ", ".join(f"{kind} {used:,}" for kind, used in found["gas"].items()),
        soft_wrap=True,
    )
    console.print(f"audit: {found['audit']}")
    for description, path in files.items():
        console.print(f"{description}: [bold]{path}[/bold]", soft_wrap=True)


def _table(title: str, *columns: tuple[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    return table


def _households(day: Mapping[str, Any], currency: str) -> Table:
    table = _table(
        "Households: energy in kWh; money: + received, - paid",
        ("household", "left"),
        ("zone", "left"),
        ("has", "left"),
        ("bought\ninside", "right"),
        ("bought\noutside", "right"),
        ("sold\ninside", "right"),
        ("sold\noutside", "right"),
        (f"{currency}\nhere", "right"),
        (f"{currency}\noutside", "right"),
        (f"saved\n{currency}", "right"),
    )
    for item in day["households"]:
        table.add_row(
            item["name"],
            item["zone"],
            equipment(item),
            *(
                format_energy_kwh(item[name])
                for name in (
                    "bought_inside_wh",
                    "bought_outside_wh",
                    "sold_inside_wh",
                    "sold_outside_wh",
                )
            ),
            *(
                format_money(item[name], "").strip()
                for name in ("amount_nano", "outside_amount_nano")
            ),
            f"[green]{format_money(item['saved_nano'], '').strip()}[/green]",
        )
    return table


def equipment(household: Mapping[str, Any]) -> str:
    """What a household has, in words."""
    parts = []
    if household["pv_peak_w"]:
        parts.append(f"PV {household['pv_peak_w'] / 1000:.1f} kWp")
    if household["heat_pump"]:
        parts.append("heat pump")
    if household["ev"]:
        parts.append("EV")
    return ", ".join(parts)


def _community(day: Mapping[str, Any], currency: str) -> Table:
    totals = day["totals"]
    table = _table("The community", ("", "left"), ("", "right"), ("", "left"))
    share = totals["traded_wh"] * 100 // totals["demand_wh"] if totals["demand_wh"] else 0
    for name, key, remark in (
        ("traded inside", "traded_wh", f"{share} % of what members bought"),
        ("imported", "imported_wh", "bought outside by the coordinator"),
        ("exported", "exported_wh", "sold outside by the coordinator"),
    ):
        table.add_row(name, f"{format_energy_kwh(totals[key])} kWh", remark)
    for name, key, remark in (
        ("members paid", "members_nano", "all households together (-)"),
        ("supplier", "supplier_nano", "for the energy bought minus sold outside"),
        ("network fees", "fees_nano", "to the DSO"),
        ("community fund", "fund_nano", "what integer division left over"),
        ("saved", "savings_nano", "against everybody buying and selling outside"),
    ):
        decimals = 9 if key == "fund_nano" else 2
        table.add_row(name, format_money(totals[key], currency, decimals), remark)
    return table


def _verified(day: Mapping[str, Any]) -> Table:
    table = _table(
        "Verified", ("by whom", "left"), ("what", "left"), ("how many", "right"), ("result", "left")
    )
    for item in day["verification"]:
        table.add_row(item["who"], item["what"], str(item["count"]), item["result"])
    for lie in day["lies"]:
        table.add_row(
            f"[yellow]{lie['by']}[/yellow]",
            f"[yellow]a lie: {lie['what']}[/yellow]",
            "1",
            f"[yellow]{lie['outcome']}: {lie['detail']}[/yellow]",
        )
    return table


def _chain(day: Mapping[str, Any]) -> Table:
    gas = day["gas"]
    table = _table("On chain", ("gas", "left"), ("", "right"), ("", "left"))
    for name, key, remark in (
        (
            "a day's batch, with its proof",
            "submit_batch",
            "grows with the groups (zone, tariff), hardly with members",
        ),
        ("  per member and interval", "per_member_and_interval", "peers: 105 000 to 221 000"),
        ("a challenge", "challenge", "by the member it hurts"),
        ("a deposit", "deposit", ""),
        ("a withdrawal", "withdraw", "with a Merkle proof, without anyone's permission"),
    ):
        table.add_row(name, f"{gas[key]:,}".replace(",", " "), remark)
    return table
