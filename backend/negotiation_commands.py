"""The commands of the forward market: negotiate, and its benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backend.command_line import JsonOption, command, read_file, write_json
from backend.domain.errors import MalformedInput


@command
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
    from backend.durable_files import write_atomically
    from backend.negotiation.command import (
        NegotiateOptions,
        compared,
        convergence_chart,
        run_case,
        write_trace,
    )
    from backend.negotiation.terminal import LiveChecks, show_result

    if not 0 < tolerance < 1:
        raise MalformedInput("tolerance", tolerance, "not between 0 and 1", "give 1e-4, say")
    if rounds < 1:
        raise MalformedInput("rounds", rounds, "no round", "give 1 or more")
    if weight < 0:
        raise MalformedInput("weight", weight, "negative", "give 0 or more")
    parsed = P2PCase.parse(parse_json(read_file(case), case))
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
        write_json(run.result.model_dump(mode="json") | extra)
    else:
        show_result(run.result, difference, Console())
    if run.result.outcome != "agreed":
        raise typer.Exit(1)


@command
def bench_negotiation(
    full: Annotated[bool, typer.Option("--full", help="Also the runs that take minutes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the forward market's methods side by side."""
    from backend.bench import negotiation
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = negotiation.bench_negotiation(
        full=full, progress=lambda line: console.print(f"[dim]{line}[/dim]")
    )
    if as_json:
        write_json(rows)
    else:
        show_rows(rows, Console())
