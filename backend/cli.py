"""The command `peerwatt`.

Every command takes `--json`. Exit codes: 0 done, 1 failed, 2 the input is wrong.
"""

from __future__ import annotations

import datetime
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from backend.audit_commands import audit_app, bench_audit_command
from backend.command_line import FILE_LIMIT_BYTES, JsonOption
from backend.command_line import command as _command
from backend.command_line import read_file as _read_file
from backend.command_line import write_json as _write_json
from backend.coordinator_commands import coordinator_app, doctor
from backend.deploy_commands import deploy_command
from backend.domain.errors import MalformedInput, PeerwattError
from backend.export_commands import export_app
from backend.grid_commands import bench_grid_command, demo_grid, grid_app
from backend.ledger_commands import db_app
from backend.money_commands import money_app
from backend.negotiation_commands import bench_negotiation, negotiate
from backend.oracle_commands import bench_oracle_command, oracle_app
from backend.receipt_commands import verify_reading
from backend.trade_commands import trade_app
from backend.web_commands import bench_api_command, serve

if TYPE_CHECKING:
    from backend.demo.day import DemoOptions
    from backend.market.pool import PoolBook

app = typer.Typer(
    name="peerwatt",
    help="An energy community that trades its own electricity and settles it on a ledger nobody has to trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
contracts_app = typer.Typer(help="The Solidity contracts.", no_args_is_help=True)
app.add_typer(contracts_app, name="contracts")
bench_app = typer.Typer(help="Speed, as ratios measured in one run.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")
app.add_typer(audit_app, name="audit")
app.add_typer(db_app, name="db")
app.add_typer(export_app, name="export")
app.add_typer(oracle_app, name="oracle")
app.add_typer(trade_app, name="trade")
coordinator_app.add_typer(money_app)
app.add_typer(coordinator_app, name="coordinator")
app.command("doctor")(doctor)
app.command("serve")(serve)
app.command("deploy")(deploy_command)
app.command("verify-reading")(verify_reading)
bench_app.command("api")(bench_api_command)
bench_app.command("audit")(bench_audit_command)
bench_app.command("oracle")(bench_oracle_command)
app.add_typer(grid_app, name="grid")
bench_app.command("grid")(bench_grid_command)
app.command("negotiate")(negotiate)
bench_app.command("negotiation")(bench_negotiation)


def _own_name() -> str:
    """How to call this command again from where the user stands."""
    return "peerwatt" if shutil.which("peerwatt") else sys.argv[0]


@app.command()
@_command
def demo(
    members: Annotated[int, typer.Option(help="Number of households.")] = 20,
    days: Annotated[int, typer.Option(help="Number of days.")] = 1,
    seed: Annotated[int, typer.Option(help="Chooses households and keys.")] = 0,
    first_day: Annotated[
        datetime.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day.")
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(metavar="URL", help="JSON-RPC URL of a development node; embedded without."),
    ] = None,
    solver: Annotated[
        str, typer.Option(help="auto, sweep, flow, highs, clarabel or scs.")
    ] = "highs",
    grid: Annotated[
        bool,
        typer.Option(
            "--grid", help="Instead two days that break the grid's limits, healed and settled."
        ),
    ] = False,
    market: Annotated[
        str,
        typer.Option(
            help="pool; or collective: households negotiate before each 5-minute interval."
        ),
    ] = "pool",
    intervals: Annotated[
        int,
        typer.Option(help="collective: number of intervals, around noon; 288 are the whole day."),
    ] = 24,
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("peerwatt-demo"),
    as_json: JsonOption = False,
) -> None:
    """Run a real community's day, from meter to settled balance."""
    if grid:
        given = {
            "members": members != 20,
            "days": days != 1,
            "chain": chain,
            "first-day": first_day,
            "market": market != "pool",
        }
        for option in (name for name, value in given.items() if value):
            raise MalformedInput(option, "given", "has no effect with --grid", "leave it out")
        demo_grid(seed, solver, output, as_json=as_json)
        return
    from backend.demo.community import DEFAULT_DAY
    from backend.demo.day import DemoOptions, run_demo
    from backend.demo.summary import day_summary
    from backend.demo.terminal import TerminalProgress, show_day
    from backend.durable_files import write_atomically
    from backend.portal.day_page import render_day_page

    if days < 1:
        raise MalformedInput("days", days, "no day to run", "give 1 or more")
    options = DemoOptions(
        members=members,
        days=days,
        first_day=first_day.date() if first_day else DEFAULT_DAY,
        seed=seed,
        chain_url=chain,
        solver=solver,
        output=output,
    )
    if market == "collective":
        _demo_collective(options, intervals, as_json=as_json)
        return
    if market != "pool":
        raise MalformedInput("market", market, "no such market", "choose pool or collective")
    console = Console(stderr=as_json)
    with TerminalProgress(console) as progress:
        run = run_demo(options, progress)
        progress.step("draw the day's pictures")
        summary = day_summary(run)
        page = render_day_page(summary)
    write_atomically(output / "day.json", (json.dumps(summary, indent=1) + "\n").encode())
    write_atomically(output / "day.html", page.encode())
    files = {
        "The day in pictures": str((output / "day.html").resolve()),
        "The ledger": str((output / "ledger.sqlite").resolve()),
        "Check it yourself": f"{_own_name()} audit {output}",
    }
    if as_json:
        _write_json(summary)
    else:
        show_day(summary, console, files)


def _demo_collective(options: DemoOptions, intervals: int, *, as_json: bool) -> None:
    from backend.demo.collective import run_collective
    from backend.demo.terminal import TerminalProgress, show_collective
    from backend.durable_files import write_atomically
    from backend.portal.collective_page import render_collective_page

    if options.days != 1:
        raise MalformedInput("days", options.days, "not with negotiation", "give 1")
    console = Console(stderr=as_json)
    with TerminalProgress(console) as progress:
        found = run_collective(options, intervals, progress).summary()
        progress.step("draw the pictures")
        page = render_collective_page(found)
    path, pictures = options.output / "collective.json", options.output / "collective.html"
    write_atomically(pictures, page.encode())
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    if as_json:
        _write_json(found)
        return
    files = {
        "In pictures": str(pictures.resolve()),
        "The result": str(path.resolve()),
        "Check it yourself": f"{_own_name()} audit {options.output}",
    }
    show_collective(found, console, files)


@app.command()
@_command
def clear(
    case: Annotated[
        str,
        typer.Argument(
            help="Case file, format peerwatt/clearing-case/1; - for JSON Lines of cases from standard input."
        ),
    ],
    rule: Annotated[
        str,
        typer.Option(
            help="savings-share, competitive, blend; for studies mid-market-rate, supply-demand-ratio, bill-sharing."
        ),
    ] = "savings-share",
    share: Annotated[
        str,
        typer.Option(help="savings-share: the buyers' share; blend: the weight of savings-share."),
    ] = "0.5",
    solver: Annotated[
        str, typer.Option(help="auto, sweep, flow, pairs, highs, clarabel or scs.")
    ] = "highs",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON to standard output (it always does).")
    ] = False,
) -> None:
    """Clear an interval at least cost and write the certified result as JSON."""
    from backend.domain.case import ClearingCase
    from backend.domain.values import parse_json
    from backend.market.pool import PoolBook
    from backend.market.pricing import PRICE_RULES, parse_share

    if rule not in PRICE_RULES:
        raise MalformedInput(
            "rule", rule, "no such price rule", f"choose one of: {', '.join(PRICE_RULES)}"
        )
    book = PoolBook(rule, parse_share(share), solver)
    if case == "-":
        _clear_lines(book)
        return
    parsed = ClearingCase.parse(parse_json(_read_file(Path(case)), case))
    _write_json(book.clear(parsed).model_dump(mode="json", by_alias=True))


def _clear_lines(book: PoolBook) -> None:
    """One result a line; a bad case gives an error in its line, and exit code 2 at the end."""
    from backend.domain.case import ClearingCase
    from backend.domain.values import parse_json

    failed = 0
    lines = iter(lambda: sys.stdin.readline(FILE_LIMIT_BYTES + 1), "")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            if len(line) > FILE_LIMIT_BYTES:
                raise MalformedInput(
                    f"line {number}",
                    len(line),
                    "larger than 512 MiB",
                    "split it; nothing after it is read",
                )
            parsed = ClearingCase.parse(parse_json(line, f"line {number}"))
            sys.stdout.write(book.clear(parsed).model_dump_json(by_alias=True) + "\n")
        except PeerwattError as error:
            failed += 1
            sys.stdout.write(json.dumps({"line": number, "error": error.as_dict()}) + "\n")
            if len(line) > FILE_LIMIT_BYTES:
                break
        sys.stdout.flush()
    if failed:
        sys.stderr.write(f"{failed} case(s) refused; see the lines with an error\n")
        raise typer.Exit(2)


@app.command()
@_command
def certify(
    case: Annotated[Path, typer.Argument(help="Case file, format peerwatt/clearing-case/1.")],
    clearing: Annotated[Path, typer.Argument(help="Clearing file, format peerwatt/clearing/1.")],
    as_json: JsonOption = False,
) -> None:
    """Check a clearing against its case, trusting neither; says what is wrong and exits with 1."""
    from backend.audit.certify import certify as find_faults
    from backend.domain.case import ClearingCase
    from backend.domain.clearing import Clearing
    from backend.domain.values import parse_json

    case_data = parse_json(_read_file(case), case)
    clearing_data = parse_json(_read_file(clearing), clearing)
    ClearingCase.parse(case_data)
    Clearing.from_data(clearing_data)
    try:
        faults = find_faults(case_data, clearing_data)
    except KeyError as error:
        faults = [f"names {error}, which the case does not have"]
    if as_json:
        _write_json({"right": not faults, "faults": faults})
    else:
        for fault in faults:
            typer.echo(f"wrong: {fault}")
        typer.echo("right: optimal, balanced, and the money adds up" if not faults else "not right")
    if faults:
        raise typer.Exit(1)


@bench_app.command("clearing")
@_command
def bench_clearing_command(
    full: Annotated[
        bool, typer.Option("--full", help="Also the peers' runs that take minutes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the clearing engines side by side."""
    from backend.bench.clearing import bench_clearing
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = bench_clearing(full=full, progress=lambda line: console.print(f"[dim]{line}[/dim]"))
    if as_json:
        _write_json(rows)
    else:
        show_rows(rows, Console())


@bench_app.command("gas")
@_command
def bench_gas_command(
    full: Annotated[
        bool, typer.Option("--full", help="Also 10,000 members, which takes minutes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what a day costs on chain."""
    from backend.bench.gas import FULL_SIZES, SIZES, bench_gas, cost_rows, show_costs

    console = Console(stderr=True)
    costs = bench_gas(
        FULL_SIZES if full else SIZES, lambda line: console.print(f"[dim]{line}[/dim]")
    )
    if as_json:
        _write_json(list(cost_rows(costs)))
    else:
        show_costs(costs, Console(width=200))


@bench_app.command("scale")
@_command
def bench_scale_command(
    full: Annotated[
        bool, typer.Option("--full", help="10,000 communities on the workers, which takes long.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a hundred communities in one process, and many on several workers."""
    from backend.bench.scale import bench_scale
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = bench_scale(full=full, progress=lambda line: console.print(f"[dim]{line}[/dim]"))
    if as_json:
        _write_json(rows)
    else:
        show_rows(rows, Console())


@contracts_app.command("compile")
@_command
def contracts_compile(
    check: Annotated[
        bool, typer.Option("--check", help="Only compare with the committed artifacts.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compile the Solidity sources through py-solc-x into contracts/artifacts."""
    import tempfile

    from contracts.artifact import artifact
    from contracts.compiler import compile_contracts, write_artifacts

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        compiled = compile_contracts(Path(scratch), console.print)
    stale = [name for name, made in compiled.items() if _stale(name, made, artifact)]
    if not check:
        write_artifacts(compiled)
    if as_json:
        _write_json({"contracts": sorted(compiled), "stale": stale})
    else:
        console.print(f"{len(compiled)} contracts; changed: {', '.join(stale) or 'none'}")
    if check and stale:
        raise typer.Exit(1)


def _stale(name: str, made: Any, load: Callable[[str], Any]) -> bool:
    try:
        return bool(load(name) != made)
    except FileNotFoundError:
        return True


def main() -> None:
    """Entry point."""
    app()
