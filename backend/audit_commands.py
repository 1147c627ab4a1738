"""The commands `peerwatt audit ...`."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from backend.command_line import JsonOption, command, write_json
from backend.domain.errors import MalformedInput
from backend.domain.intervals import EPOCH_DATE

if TYPE_CHECKING:
    from backend.audit.command import Outcome
    from backend.audit.watch import WatchEvent

# Besides 0 (verified) and 1 (something is wrong): nothing wrong was found, but not everything was there.
_EXIT_INCOMPLETE = 3


class DefaultGroup(TyperGroup):
    """Commands of which one is meant where none is named."""

    default_command = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the default command in front where the first word is no command."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


audit_app = typer.Typer(
    cls=DefaultGroup,
    help="Recompute everything from chain and published bundle alone; `audit watch` follows the chain.",
)


@audit_app.command("run")
@command
def audit(
    folder: Annotated[Path, typer.Argument(help="Folder that `peerwatt demo` wrote.")] = Path(
        "peerwatt-demo"
    ),
    rpc: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Your own node; several must agree. Else as the folder says."
        ),
    ] = None,
    community: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="ClearingHouse; else as the folder says.")
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URL", help="Folder or server of bundles; else as the folder says."
        ),
    ] = None,
    member: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY-FILE",
            help="Your part of a bundle, a folder of them, or your wallet's keystore.",
        ),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="P", help="First period: its number or date.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="P", help="Last period: its number or date.")
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Repeat another audit from its evidence.")
    ] = None,
    save_evidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what the audit was made from.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as one HTML page.")
    ] = None,
    pdf: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report as PDF.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that recompute.")] = 1,
    timeout_seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest silence of a node or server.")
    ] = 30,
    as_json: JsonOption = False,
) -> None:
    """Recompute everything from chain and published bundle alone."""
    from backend.audit.auditor import Scope
    from backend.audit.command import AuditOptions, repeat_audit, run_audit
    from backend.audit.terminal import show_verdict

    console = Console(stderr=as_json)

    def progress(line: str) -> None:
        console.print(f"[dim]{line}[/dim]")

    if evidence is not None:
        outcome = repeat_audit(evidence, tuple(rpc or ()), workers, progress)
    else:
        scope = Scope(period_number("from", first), period_number("to", last), workers=workers)
        options = AuditOptions(
            folder,
            tuple(rpc or ()),
            community,
            bundle,
            member,
            scope,
            save_evidence,
            timeout_seconds,
        )
        outcome = run_audit(options, progress)
    _write_reports(outcome, html, pdf)
    if as_json:
        write_json(outcome.verdict.as_dict())
    else:
        show_verdict(outcome.verdict, console)
        for name, path in (("HTML report", html), ("PDF report", pdf), ("evidence", save_evidence)):
            if path is not None:
                console.print(f"{name}: {path}", highlight=False, soft_wrap=True)
        if outcome.evidence_hash:
            console.print(
                f"its keccak256: {outcome.evidence_hash}", highlight=False, soft_wrap=True
            )
    if outcome.verdict.verdict != "verified":
        raise typer.Exit(1 if outcome.verdict.verdict == "failed" else _EXIT_INCOMPLETE)


def period_number(option: str, text: str | None) -> int | None:
    """A period by its number or its local date."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    try:
        return (datetime.date.fromisoformat(text) - EPOCH_DATE).days
    except ValueError:
        raise MalformedInput(
            option, text, "neither a period's number nor a date", "give 16981 or 2016-06-29"
        ) from None


def _write_reports(outcome: Outcome, html: Path | None, pdf: Path | None) -> None:
    from backend.durable_files import write_atomically

    given = (outcome.verdict, outcome.interval_seconds, outcome.evidence_hash)
    if html is not None:
        from backend.audit.report import report_page

        write_atomically(html, report_page(*given).encode())
    if pdf is not None:
        from backend.audit.report import report_pdf

        write_atomically(pdf, report_pdf(*given))


@command
def bench_audit_command(
    days: Annotated[int, typer.Option(min=1, help="Days of the year for 100 members.")] = 365,
    full: Annotated[bool, typer.Option("--full", help="Also 300 and 1,000 members.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that recompute.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Measure how long a year takes to be recomputed."""
    from backend.bench.audit import bench_audit
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = bench_audit(
        days=days,
        sizes=(100, 300, 1000) if full else (100,),
        workers=workers,
        progress=lambda line: console.print(f"[dim]{line}[/dim]"),
    )
    if as_json:
        write_json(rows)
    else:
        show_rows(rows, Console())


@audit_app.command("watch")
@command
def audit_watch(
    rpc: Annotated[
        list[str], typer.Option(metavar="URL", help="Your own node; several must agree.")
    ],
    community: Annotated[str, typer.Option(metavar="ADDRESS", help="ClearingHouse.")],
    bundle: Annotated[
        str | None, typer.Option(metavar="PATH|URL", help="Folder or server of bundles.")
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(help="Folder of members' reading receipts, where they gave you some."),
    ] = None,
    keystore: Annotated[
        Path | None, typer.Option(help="Key that sends challenges; without it you are only told.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="File with its password.")] = None,
    state: Annotated[Path, typer.Option(help="Folder for what it remembers.")] = Path(
        "peerwatt-watch"
    ),
    grace_seconds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How long data may be missing before it is demanded; else a twelfth of the time for challenges.",
        ),
    ] = None,
    slot: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Slot whose data is demanded where nobody shows it, which makes it public; several.",
        ),
    ] = None,
    demand_all: Annotated[
        bool, typer.Option("--demand-all", help="Demand everybody's data where nobody shows it.")
    ] = False,
    finality_depth: Annotated[
        int | None, typer.Option(min=0, help="Blocks that make one final; else as the chain says.")
    ] = None,
    poll_seconds: Annotated[float, typer.Option(min=0.05, help="How often to look.")] = 12,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    timeout_seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest silence of a node or server.")
    ] = 30,
    fetch_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="How long a look may wait for bundles; else a 48th of the time for challenges, at most 600.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write each event as a line of JSON to standard output.")
    ] = False,
) -> None:
    """Follow the chain, recompute each batch as it appears, and challenge what is false."""
    from backend.audit.watching import WatchOptions, run_watch

    options = WatchOptions(
        tuple(rpc), community, bundle, receipts, keystore, password_file, state, grace_seconds,
        finality_depth, poll_seconds, once, timeout_seconds, fetch_seconds, tuple(slot or ()), demand_all,
    )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)

    def tell(event: WatchEvent) -> None:
        if as_json:
            typer.echo(json.dumps(event.as_dict()))
            return
        where = f"batch {event.number}, period {event.period}: " if event.number else ""
        console.print(f"[bold]{event.kind}[/bold] {where}", end="")
        console.print(f"{event.text} {event.function}", markup=False)

    worst = run_watch(options, tell)
    if once and worst != "verified":
        raise typer.Exit(1 if worst == "failed" else _EXIT_INCOMPLETE)
