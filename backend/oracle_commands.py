"""The commands `peerwatt oracle ...` and `peerwatt bench oracle`."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from backend.command_line import JsonOption, command, write_json
from backend.domain.errors import MalformedInput, UnknownReference
from backend.domain.intervals import EPOCH_DATE
from backend.oracle_views import (
    show_completeness,
    show_counts,
    show_intervals,
    show_missing_pages,
)

if TYPE_CHECKING:
    from oracle.node import OracleNode

oracle_app = typer.Typer(help="The oracle: readings in, signed reports out.", no_args_is_help=True)
ConfigArgument = Annotated[Path, typer.Argument(help="Configuration, format peerwatt/oracle/1.")]
DayOption = Annotated[
    datetime.datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="The period: a local day; yesterday without."),
]


@oracle_app.command("run")
@command
def oracle_run(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Run a signer until it is told to stop: HTTP service, sources, collector."""
    from oracle.run import SignerProcess

    SignerProcess(config).run()


@oracle_app.command("status")
@command
def oracle_status(
    config: ConfigArgument,
    day: DayOption = None,
    rejections: Annotated[
        int, typer.Option(help="Also show so many of the newest rejected readings.")
    ] = 0,
    sources: Annotated[
        bool, typer.Option("--sources", help="Try out every source instead.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="One character for each interval, and every gap with its time."
        ),
    ] = False,
    meter: Annotated[
        str | None, typer.Option(help="Only this meter, by address or slot; as with --full.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show meters against intervals: what is measured, substituted, missing, and why."""
    from oracle.view import completeness, summary

    if sources:
        _test_sources(config, as_json)
        return
    node = _node(config)
    number = _period_number(node, day)
    rows = [
        row
        for row in completeness(node, number)
        if meter is None or meter.lower() in (str(row.slot), row.meter.lower())
    ]
    if meter is not None and not rows:
        raise UnknownReference("--meter", meter, "no member has it", "give an address or a slot")
    refused = node.store.rejections(rejections) if rejections > 0 else []
    counts = node.store.rejection_counts()
    known = node.directory.freshness()
    missing_pages = node.store.missing_pages()
    node.store.close()
    if as_json:
        write_json(
            {
                "period": number,
                "values": summary(rows),
                "rejected": counts,
                "missing_pages": [item._asdict() for item in missing_pages],
                "meter_registry": known and asdict(known),
                "meters": [
                    {
                        "slot": row.slot,
                        "meter": row.meter,
                        "qualities": [int(quality) for quality in row.qualities],
                        "reasons": row.reasons,
                    }
                    for row in rows
                ],
                "rejections": [
                    {
                        "source": item.source,
                        "device": item.device,
                        "interval": item.interval,
                        "code": item.code,
                        "reason": item.reason,
                        "received_at": item.received_at,
                    }
                    for item in refused
                ],
            }
        )
        return
    if full or meter is not None:
        show_intervals(rows, node.config.period(number), node.config.file.time_zone)
        show_counts("values", summary(rows))
    else:
        show_completeness(rows, number, summary(rows))
    show_counts("rejected readings", counts)
    show_missing_pages(missing_pages)
    if known is not None:
        typer.echo(
            f"meter registry: as of block {known.block}, {known.age_seconds:.0f} s ago"
            + (f"; {known.failure}" if known.failure else "")
        )
    for item in refused:
        typer.echo(f"{item.source} {item.device} {item.code}: {item.reason}")


@oracle_app.command("verify")
@command
def oracle_verify(
    config: ConfigArgument, day: DayOption = None, as_json: JsonOption = False
) -> None:
    """Check every stored signature of a period anew, and what was reported against it; exits with 1 if something is wrong."""
    from oracle.view import find_faults

    node = _node(config)
    number = _period_number(node, day)
    checked, faults = find_faults(node, number)
    node.store.close()
    if as_json:
        write_json({"period": number, "checked": checked, "right": not faults, "faults": faults})
    else:
        for fault in faults:
            typer.echo(f"wrong: {fault}")
        typer.echo(f"{checked} readings checked; {'not right' if faults else 'right'}")
    if faults:
        raise typer.Exit(1)


@oracle_app.command("transformer")
@command
def oracle_transformer(
    config: ConfigArgument, day: DayOption = None, as_json: JsonOption = False
) -> None:
    """Hold the members' readings against the transformer's meter; exits with 1 if they differ by more than the stated losses."""
    from oracle.transformer_check import check_period

    node = _node(config)
    number = _period_number(node, day)
    found = check_period(node, number)
    minutes = node.config.file.interval_minutes
    node.store.close()
    if as_json:
        write_json(
            {
                "period": number,
                "checked": found.checked,
                "gaps": [
                    {
                        "interval": gap.interval,
                        "losses_wh": gap.losses_wh,
                        "allowed_wh": gap.allowed_wh,
                        "gap_wh": gap.gap_wh,
                    }
                    for gap in found.gaps
                ],
                "unchecked": found.unchecked,
            }
        )
    else:
        for gap in found.gaps:
            start = datetime.datetime.fromtimestamp(gap.interval * minutes * 60, datetime.UTC)
            what = (
                "more than stated is lost" if gap.gap_wh > 0 else "members took more than came in"
            )
            typer.echo(
                f"{start:%Y-%m-%d %H:%M} UTC: {what}; {gap.losses_wh} Wh left for losses,"
                f" 0 to {gap.allowed_wh} allowed, {abs(gap.gap_wh)} beyond"
            )
        typer.echo(
            f"{found.checked} intervals checked, {len(found.gaps)} outside the stated losses;"
            f" {len(found.unchecked)} not checked, as values are not measured"
        )
    if found.gaps:
        raise typer.Exit(1)


@oracle_app.command("import")
@command
def oracle_import(
    config: ConfigArgument,
    file: Annotated[Path, typer.Argument(help="File of readings: .csv, .xlsx, .ocmf or .jsonl.")],
    source: Annotated[
        str, typer.Option(help="Name of the source that the devices are configured for.")
    ] = "files",
    correct: Annotated[
        bool,
        typer.Option(
            "--correct",
            help="The registers take the place of what was there; readings made of that are taken back.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read registers in bulk; every row that cannot be used is shown with its reason. Exits with 1 if there are any."""
    from oracle.upload import import_file

    done = import_file(config, file, source, correct)
    if as_json:
        write_json(
            {
                "new": done.new,
                "known": done.known,
                "signed": done.signed,
                "taken_back": done.taken_back,
                "missing_pages": [item._asdict() for item in done.missing_pages],
                "refused": [
                    {
                        "row": item.row,
                        "device": item.device,
                        "code": item.code,
                        "reason": item.reason,
                    }
                    for item in done.refused
                ],
            }
        )
    else:
        for item in done.refused[:50]:
            typer.echo(f"{item.code}: {item.reason}")
        if len(done.refused) > 50:
            typer.echo(f"and {len(done.refused) - 50} more")
        typer.echo(
            f"{done.new} new, {done.known} known before, {len(done.refused)} refused; "
            f"{done.signed} readings signed"
            + (f", {done.taken_back} taken back" if correct else "")
        )
        show_missing_pages(done.missing_pages)
    if done.refused:
        raise typer.Exit(1)


@oracle_app.command("report")
@command
def oracle_report(
    config: ConfigArgument,
    day: DayOption = None,
    version: Annotated[int, typer.Option(help="0, or the number of a correction.")] = 0,
    receipts: Annotated[
        Path | None, typer.Option(help="Folder to write a receipt for each slot to.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask this signer and its peers for the report of a period, and say who differs where."""
    from backend.durable_files import write_atomically
    from oracle.assembly import Assembly
    from oracle.clocks import describe_clock
    from oracle.peers import SignerClient
    from oracle.receipts import make_receipts
    from oracle.sources.http import secret

    node = _node(config)
    number = _period_number(node, day)
    file = node.config.file
    token = secret(node.config.folder, file.token_file) or ""
    urls = [f"http://{file.host}:{file.port}", *(peer.url for peer in file.peers)]
    assembly = Assembly(
        [SignerClient(url, token) for url in urls],
        node.config.domain,
        node.config.committee(number),
        clock_tolerance_seconds=file.clock_tolerance_seconds,
    )
    found = assembly.report(number, version)
    written = 0
    if receipts is not None:
        traded = node.traded(node.config.period(number))
        for receipt in make_receipts(node.config, found, node.store, node.directory, traded):
            path = receipts / str(number) / f"{receipt.slot}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, (receipt.model_dump_json(indent=1) + "\n").encode())
            written += 1
    node.store.close()
    data = {
        "period": number,
        "version": version,
        "hash": "0x" + found.report.struct_hash().hex(),
        "readings_root": "0x" + found.report.readings_root.hex(),
        "signers": list(found.signers),
        "signatures": ["0x" + item.hex() for item in found.signatures],
        "disagreements": [
            {
                "signer": item.signer_url,
                "slots": {slot: list(at) for slot, at in item.slots.items()},
            }
            for item in found.disagreements
        ],
        "failures": dict(found.failures),
        "clocks": dict(found.clocks),
        "receipts": written,
    }
    if as_json:
        write_json(data)
        return
    typer.echo(f"period {number} version {version}: {data['hash']}")
    typer.echo(f"signed by {', '.join(found.signers)}")
    for item in found.disagreements:
        for slot, intervals in item.slots.items():
            typer.echo(f"{item.signer_url} differs in slot {slot}, intervals {list(intervals)}")
    for url, what in found.failures.items():
        typer.echo(f"{url} {what}")
    for url, ahead in found.clocks.items():
        typer.echo(f"{url}: {describe_clock(ahead)}")


@command
def bench_oracle_command(
    as_json: JsonOption = False,
) -> None:
    """Measure readings verified and stored against libsecp256k1 alone, and a report of 10,000 meters by three signers."""
    from backend.bench.oracle import bench_oracle
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = bench_oracle(progress=lambda line: console.print(f"[dim]{line}[/dim]"))
    if as_json:
        write_json(rows)
    else:
        show_rows(rows, Console())


# --- Helpers -----------------------------------------------------------------------------------------------------------


def _node(path: Path) -> OracleNode:
    from oracle.config import load_config
    from oracle.node import OracleNode

    return OracleNode.open(load_config(path))


def _period_number(node: OracleNode, day: datetime.datetime | None) -> int:
    if day is not None:
        return (day.date() - EPOCH_DATE).days
    from zoneinfo import ZoneInfo

    now = datetime.datetime.fromtimestamp(node.clock(), ZoneInfo(node.config.file.time_zone))
    return (now.date() - EPOCH_DATE).days - 1


def _test_sources(path: Path, as_json: bool) -> None:
    from oracle.config import load_config
    from oracle.run import open_sources

    found = [(source.name, source.test_connection()) for source in open_sources(load_config(path))]
    if not found:
        raise MalformedInput("sources", [], "none configured", "add one, see docs/sources")
    if as_json:
        write_json(
            [
                {"name": name, "works": test.works, "detail": test.detail, "devices": test.devices}
                for name, test in found
            ]
        )
    else:
        for name, test in found:
            typer.echo(f"{name}: {'works' if test.works else 'does not work'}: {test.detail}")
    if not all(test.works for _, test in found):
        raise typer.Exit(1)
