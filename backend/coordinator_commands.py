"""The commands `peerwatt coordinator ...` and `peerwatt doctor`."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from backend.command_line import JsonOption, command, write_json
from backend.domain.errors import LeadershipLost
from backend.domain.intervals import EPOCH_DATE

if TYPE_CHECKING:
    from backend.operator.community import CommunityService

coordinator_app = typer.Typer(
    help="The coordinator: settles communities' periods, unattended.", no_args_is_help=True
)
ConfigArgument = Annotated[
    Path, typer.Argument(help="Configuration, format peerwatt/coordinator/1.")
]
CommunityOption = Annotated[
    str | None, typer.Option(help="Name of the community; the first one without.")
]


@coordinator_app.command("run")
@command
def coordinator_run(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Run until told to stop: collect, clear, prove, submit, watch, finalise, state."""
    from backend.operator.run import CoordinatorProcess

    CoordinatorProcess(config).run()


@coordinator_app.command("status")
@command
def coordinator_status(
    config: ConfigArgument, community: CommunityOption = None, as_json: JsonOption = False
) -> None:
    """Show how far every period is, and why one does not go on."""
    with opened_community(config, community) as service:
        items = service.store.items()
        rows = [
            {
                "period": item.period,
                "day": (EPOCH_DATE + datetime.timedelta(days=item.period)).isoformat(),
                "version": item.version,
                "state": item.state.value,
                "since": item.at,
                "attempts": item.attempts,
                "batch_hash": item.batch_hash,
                "reason": item.reason,
                "trace": service.trace(item.period),
            }
            for item in items
        ]
    if as_json:
        write_json(rows)
        return
    table = Table("day", "version", "state", "since", "batch", "reason")
    for row in rows:
        since = datetime.datetime.fromtimestamp(int(str(row["since"])), datetime.UTC)
        table.add_row(
            str(row["day"]),
            str(row["version"]),
            str(row["state"]),
            since.strftime("%Y-%m-%d %H:%M UTC"),
            str(row["batch_hash"])[:12],
            str(row["reason"]),
        )
    Console().print(table)


@coordinator_app.command("preview")
@command
def coordinator_preview(
    config: ConfigArgument,
    community: CommunityOption = None,
    day: Annotated[
        datetime.datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The period: a local day; today without."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Clear a period from the readings that are there; nothing is stored or sent."""
    from backend.operator.preview import Previewer

    with opened_community(config, community) as service:
        number = (day.date() - EPOCH_DATE).days if day else service.running_period()
        previewer = Previewer(
            service.rules,
            service.signers,
            service.store,
            service.entry.interval_minutes,
            service.now,
            keep=False,
        )
        rows = [row.model_dump() for row in previewer.refresh(number)]
    if as_json:
        write_json({"period": number, "final": False, "intervals": rows})
        return
    totals = {
        name: sum(int(row[name]) for row in rows)
        for name in ("demand_wh", "supply_wh", "traded_wh", "missing")
    }
    typer.echo(f"period {number}, not final: {len(rows)} intervals over")
    for name, value in totals.items():
        typer.echo(f"  {name:<12} {value:>12}")


@coordinator_app.command("finalise")
@command
def coordinator_finalise(
    config: ConfigArgument,
    community: CommunityOption = None,
    timeout_seconds: Annotated[int, typer.Option(help="How long to go on before giving up.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Go on with the cycle by hand until everything that is due is in a block; exits with 1 if it is not in time.

    Raises:
        LeadershipLost: a running coordinator does it already.
    """
    from backend.domain.states import CycleState

    done = (CycleState.SUBMITTED, CycleState.FINAL, CycleState.STATED)
    console = Console(stderr=True)
    with opened_community(config, community) as service:
        deadline = time.monotonic() + timeout_seconds
        while True:
            need_lead(service)
            failures = service.cycle.advance()
            items = service.store.items()
            waiting = [
                item
                for item in items
                if item.state not in done and not service.cycle.is_given_up(item)
            ]
            for failure in failures:
                console.print(f"[dim]{failure.code}: {failure.message}[/dim]")
            if not failures and not waiting:
                break
            if time.monotonic() > deadline:
                break
            time.sleep(1)
    result = {item.name: item.state.value for item in items}
    if as_json:
        write_json({"done": not waiting and not failures, "periods": result})
    else:
        for name, state in result.items():
            typer.echo(f"{name}: {state}")
    if waiting or failures:
        raise typer.Exit(1)


@coordinator_app.command("export")
@command
def coordinator_export(
    config: ConfigArgument,
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")],
    community: CommunityOption = None,
    personal: Annotated[
        bool,
        typer.Option(
            "--personal", help="Everybody's personal parts and trades too: for a mandated auditor."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the standing batches' bundles as `peerwatt audit` reads them."""
    with opened_community(config, community) as service:
        written = [str(path) for path in service.export(folder, personal=personal)]
    if as_json:
        write_json({"files": written})
    else:
        typer.echo(f"{len(written)} files written to {folder}")


@coordinator_app.command("erase")
@command
def coordinator_erase(
    config: ConfigArgument,
    slot: Annotated[int, typer.Option(help="Whose data.")],
    before: Annotated[
        datetime.datetime, typer.Option(formats=["%Y-%m-%d"], help="Of days before this one.")
    ],
    community: CommunityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a member's readings, trades and statements; its account in the ledger tree stays, and so do everybody's proofs.

    Raises:
        MalformedInput: a day among them is not final yet.
    """
    from backend.operator.erasure import erase_member

    number = (before.date() - EPOCH_DATE).days
    with opened_community(config, community) as service:
        done = erase_member(service.store, service.bundles, slot, number, service.cycle.is_given_up)
    if as_json:
        write_json({"slot": slot, "before_period": number, "batches": done})
    else:
        typer.echo(f"slot {slot}: erased from {done} batches")


@command
def doctor(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Look after everything a coordinator needs, and say what to mend; exits with 1 if something is wrong."""
    from backend.operator.doctor import examine

    findings = list(examine(config))
    if as_json:
        write_json([finding.as_dict() for finding in findings])
    else:
        table = Table("", "community", "what", "found", "mend")
        signs = {
            "ok": "[green]ok[/green]",
            "warning": "[yellow]!![/yellow]",
            "wrong": "[red]XX[/red]",
        }
        for item in findings:
            table.add_row(signs[item.level], item.community, item.what, item.found, item.mend)
        Console().print(table)
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(1)


def need_lead(service: CommunityService) -> None:
    """Sees that no other process acts for the community.

    Raises:
        LeadershipLost: one does.
    """
    if not service.lock.hold():
        raise LeadershipLost(
            f"a coordinator is running for {service.name}", "leave it to that one, or stop it first"
        )


@contextmanager
def opened_community(config: Path, name: str | None) -> Iterator[CommunityService]:
    """A community of a configuration, the first without a name; closed at the end."""
    from backend.operator.community import CommunityService
    from backend.operator.config import load_configuration
    from backend.operator.metrics import CoordinatorMetrics

    configuration = load_configuration(config)
    chosen = name or configuration.file.communities[0].name
    entry = configuration.community(chosen)
    service = CommunityService(configuration, entry, CoordinatorMetrics())
    try:
        yield service
    finally:
        service.close()
