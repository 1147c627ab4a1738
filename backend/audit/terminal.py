"""A verdict as people see it in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .verdict import AuditVerdict, Check

_MARKS = {
    True: "[green]✓[/green]",
    False: "[red]✗[/red]",
    None: "[yellow]?[/yellow]",
}


def show_verdict(verdict: AuditVerdict, console: Console) -> None:
    """Prints every check of community and batches, and the verdict."""
    _show_checks("The community", verdict.checks, console)
    console.print()
    for period in verdict.periods:
        version = f", correction {period.version}" if period.version else ""
        title = f"Period {period.period}{version}, batch {period.number}, {period.batch_hash}"
        _show_checks(title, period.checks, console)
        state = "final" if period.final else "can still be challenged"
        console.print(f"[bold]{period.verdict}[/bold], seen: {period.level}, {state}\n")
    for line in verdict.voided:
        console.print(f"voided: {line}", highlight=False, soft_wrap=True)
    if verdict.frozen:
        console.print("The community is frozen: everybody leaves on the last final batch.")
    console.print(
        f"[bold]{verdict.verdict}[/bold]: {len(verdict.periods)} batch(es) of "
        f"{verdict.clearing_house} on chain {verdict.chain_id}"
    )


def _show_checks(title: str, checks: tuple[Check, ...], console: Console) -> None:
    table = Table(title=title, title_justify="left", show_edge=False, show_header=False)
    for check in checks:
        text = check.what if check.passed else f"{check.what}\n{check.detail}"
        table.add_row(_MARKS[check.passed], str(check.count), text)
    console.print(table)
