"""What `peerwatt oracle status` shows to people."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from backend.domain.intervals import EPOCH_DATE

if TYPE_CHECKING:
    from backend.domain.intervals import Period
    from oracle.store import MissingPages
    from oracle.view import MeterRow


def show_completeness(rows: list[MeterRow], number: int, values: dict[str, int]) -> None:
    """A picture of each meter's period, and the commonest reasons why values are not measured."""
    from oracle.view import kind_of, picture

    console = Console()
    day = EPOCH_DATE + datetime.timedelta(days=number)
    table = Table(title=f"{day}: full measured, shaded substituted, dot missing", show_edge=False)
    for name in ("slot", "meter", "intervals", "not measured because"):
        table.add_column(name, no_wrap=name != "not measured because")
    for row in rows:
        reasons = Counter(kind_of(reason) for reason in row.reasons.values())
        table.add_row(
            str(row.slot),
            row.meter[:10] + "...",
            picture(row.qualities),
            "; ".join(f"{count}x {reason}" for reason, count in reasons.most_common(3)),
        )
    console.print(table)
    show_counts("values", values)


def show_intervals(rows: list[MeterRow], period: Period, zone: str) -> None:
    """A character for each interval of each meter, and every gap with its time."""
    from oracle.view import gaps, picture

    typer.echo(f"{period.day}: full measured, shaded substituted, dot missing")
    for row in rows:
        typer.echo(f"slot {row.slot} {row.meter}\n{picture(row.qualities, 1)}")
        for line in gaps(row, period, zone):
            typer.echo(f"  {line}")


def show_counts(title: str, counts: dict[str, int]) -> None:
    """Counts by name, in one line."""
    shown = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)
    typer.echo(f"{title}: {shown or 'none'}")


def show_missing_pages(missing: Sequence[MissingPages]) -> None:
    """Numbered records that never came."""
    for item in missing:
        typer.echo(
            f"{item.source} {item.device}: pages {item.kind}{item.first} to {item.kind}{item.last} never came"
        )
