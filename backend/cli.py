"""The command `peerwatt`.

Every command takes `--json`. Exit codes: 0 done, 1 failed, 2 the input is wrong.
"""

from __future__ import annotations

import datetime
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec

import typer
from requests.exceptions import RequestException
from rich.console import Console

from backend.domain.errors import MalformedInput, NodeUnreachable, PeerwattError

if TYPE_CHECKING:
    from backend.market.pool import PoolBook

# Largest file read whole; a case of a million members has about 100 MB.
_FILE_LIMIT_BYTES = 512 * 1024 * 1024

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

Parameters = ParamSpec("Parameters")
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


def _command(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turns errors of ours into a message with its remedy and the right exit code."""

    @wraps(function)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            function(*arguments, **options)
        except PeerwattError as error:
            _show_error(error, as_json=bool(options.get("as_json")))
        except RequestException as error:
            lost = NodeUnreachable(
                f"the Ethereum node stopped answering: {type(error).__name__}",
                "look after the node and run the command again",
            )
            _show_error(lost, as_json=bool(options.get("as_json")))

    return run


def _show_error(error: PeerwattError, *, as_json: bool) -> NoReturn:
    if as_json:
        _write_json({"error": error.as_dict()})
    console = Console(stderr=True)
    console.print(f"[red]error[/red] {error.code}", highlight=False)
    for line in (error.message, f"mend: {error.remedy}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(error.exit_code) from None


def _write_json(data: Any) -> None:
    json.dump(data, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def _own_name() -> str:
    """How to call this command again from where the user stands."""
    return "peerwatt" if shutil.which("peerwatt") else sys.argv[0]


def _read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _FILE_LIMIT_BYTES:
            raise MalformedInput(
                str(path), size, "larger than 512 MiB", "split it into several files"
            )
        return path.read_bytes()
    except OSError as error:
        raise MalformedInput(
            str(path), error.strerror, "cannot be read", "give the path of a readable file"
        ) from None


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
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("peerwatt-demo"),
    as_json: JsonOption = False,
) -> None:
    """Run a real community's day, from meter to settled balance."""
    from backend.demo.community import DEFAULT_DAY
    from backend.demo.day import DemoOptions, run_demo
    from backend.demo.summary import day_summary
    from backend.demo.terminal import TerminalProgress, show_day
    from backend.operator.publication import write_atomically
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
        str, typer.Option(help="auto, sweep, flow, highs, clarabel or scs.")
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
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        try:
            parsed = ClearingCase.parse(parse_json(line, f"line {number}"))
            sys.stdout.write(book.clear(parsed).model_dump_json(by_alias=True) + "\n")
        except PeerwattError as error:
            failed += 1
            sys.stdout.write(json.dumps({"line": number, "error": error.as_dict()}) + "\n")
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


@app.command()
@_command
def audit(
    folder: Annotated[Path, typer.Argument(help="Folder that `peerwatt demo` wrote.")] = Path(
        "peerwatt-demo"
    ),
    rpc: Annotated[
        str | None, typer.Option(metavar="URL", help="Your own node; else as the folder says.")
    ] = None,
    community: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="ClearingHouse; else as the folder says.")
    ] = None,
    vault: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Vault; else as the folder says.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of bundles; else as the folder says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute everything from chain and published bundle alone."""
    from backend.audit.command import audit_folder
    from backend.audit.terminal import show_verdict

    console = Console(stderr=as_json)
    verdict = audit_folder(
        folder,
        rpc=rpc,
        clearing_house=community,
        vault=vault,
        bundles=bundle,
        progress=lambda line: console.print(f"[dim]{line}[/dim]"),
    )
    if as_json:
        _write_json(verdict.as_dict())
    else:
        show_verdict(verdict, console)
    if verdict.verdict != "verified":
        raise typer.Exit(1)


@app.command()
@_command
def negotiate(
    case: Annotated[Path, typer.Argument(help="Case file, format peerwatt/p2p-case/1.")],
    organisation: Annotated[str, typer.Option(help="full, community or microgrids.")] = "full",
    method: Annotated[str, typer.Option(help="central, sweep, sparse, admm or rci.")] = "central",
    tolerance: Annotated[
        float, typer.Option(help="Certified relative gap on which a negotiation ends.")
    ] = 1e-4,
    rounds: Annotated[int, typer.Option(help="Most rounds of a negotiation.")] = 5000,
    fairness: Annotated[
        str, typer.Option(help="What the community manager counts: cost, import, peak or autarky.")
    ] = "cost",
    weight: Annotated[
        float, typer.Option(help="How much it counts a unit of import or peak beyond its price.")
    ] = 0.0,
    compare: Annotated[
        str | None,
        typer.Option(help="Another method to compare with; also reference:SOLVER for cvxpy."),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Negotiate in a process for each agent over MQTT."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="File to write every check to, as JSON Lines.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG file to draw the convergence to.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Agree on trades before delivery, peer to peer or through a community manager."""
    from backend.domain.p2p import P2PCase
    from backend.domain.values import parse_json
    from backend.negotiation.command import (
        NegotiateOptions,
        compared,
        convergence_chart,
        run_case,
        write_trace,
    )
    from backend.negotiation.terminal import LiveChecks, show_result
    from backend.operator.publication import write_atomically

    if not 0 < tolerance < 1:
        raise MalformedInput("tolerance", tolerance, "not between 0 and 1", "give 1e-4, say")
    if rounds < 1:
        raise MalformedInput("rounds", rounds, "no round", "give 1 or more")
    if weight < 0:
        raise MalformedInput("weight", weight, "negative", "give 0 or more")
    parsed = P2PCase.parse(parse_json(_read_file(case), case))
    options = NegotiateOptions(organisation, method, tolerance, rounds, fairness, weight)
    console = Console(stderr=True)
    with LiveChecks(console) as live:
        run = run_case(parsed, options, live, broker)
    other = None
    if compare is not None:
        other = run_case(parsed, replace(options, method=compare)).result
    if trace is not None:
        write_trace(trace, run)
    if plot is not None:
        write_atomically(plot, convergence_chart(run).encode())
    difference = None if other is None else compared(run.result, other)
    if as_json:
        extra = {} if difference is None else {"compared": difference}
        _write_json(run.result.model_dump(mode="json") | extra)
    else:
        show_result(run.result, difference, Console())
    if run.result.outcome != "agreed":
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


@bench_app.command("negotiation")
@_command
def bench_negotiation_command(
    full: Annotated[bool, typer.Option("--full", help="Also the runs that take minutes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the forward market's methods side by side."""
    from backend.bench.negotiation import bench_negotiation
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = bench_negotiation(full=full, progress=lambda line: console.print(f"[dim]{line}[/dim]"))
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
