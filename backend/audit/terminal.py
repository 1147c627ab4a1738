"""A verdict as people see it in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .verdict import AuditVerdict

_MARKS = {
    True: "[green]✓[/green]",
    False: "[red]✗[/red]",
    None: "[yellow]?[/yellow]",
}


def show_verdict(verdict: AuditVerdict, console: Console) -> None:
    """Prints every check of every period, and the verdict."""
    for period in verdict.periods:
        table = Table(
            title=f"Period {period.period}, batch {period.batch_hash}",
            title_justify="left",
            show_edge=False,
            show_header=False,
        )
        for check in period.checks:
            text = check.what if check.passed else f"{check.what}\n{check.detail}"
            table.add_row(_MARKS[check.passed], str(check.count), text)
        console.print(table)
        state = "final" if period.final else "can still be challenged"
        console.print(f"[bold]{period.verdict}[/bold], {state}\n")
    for line in verdict.voided:
        console.print(f"voided: {line}", highlight=False, soft_wrap=True)
    console.print(
        f"[bold]{verdict.verdict}[/bold]: {len(verdict.periods)} period(s) of "
        f"{verdict.clearing_house} on chain {verdict.chain_id}"
    )
