"""Benchmark rows, and how people see them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table


def row(
    what: str,
    ours: float,
    theirs: float | None,
    target: str,
    met: bool | None,
    note: str = "",
) -> dict[str, Any]:
    """One comparison.

    Args:
        what: in words.
        ours: seconds.
        theirs: seconds, or None where nothing is compared.
        target: in words.
        met: whether it was reached, or None where there is none.
        note: what else was seen.
    """
    return {
        "what": what,
        "ours": ours,
        "theirs": theirs,
        "ratio": theirs / ours if theirs is not None else None,
        "target": target,
        "met": met,
        "note": note,
    }


def best_of(runs: int, function: Callable[[], Any]) -> float:
    """Seconds of the quickest run."""
    best = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


def show_rows(rows: list[dict[str, Any]], console: Console) -> None:
    """Prints rows as `row` makes them."""
    table = Table(show_edge=False)
    for name in ("what", "ours", "theirs", "ratio", "target", "met", "note"):
        table.add_column(name, justify="left" if name in ("what", "target", "note") else "right")
    for item in rows:
        met = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[item["met"]]
        ratio = f"{item['ratio']:,.1f}" if item["ratio"] is not None else ""
        table.add_row(
            item["what"],
            _seconds(item["ours"]),
            _seconds(item["theirs"]),
            ratio,
            item["target"],
            met,
            item["note"],
        )
    console.print(table)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1e3:,.3g} ms" if value < 1 else f"{value:,.1f} s"
