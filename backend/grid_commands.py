"""The commands `peerwatt grid ...` and `peerwatt bench grid`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backend.command_line import JsonOption, command, write_json

grid_app = typer.Typer(
    help="The grid: checks, electrical distances, coordination with its operator.",
    no_args_is_help=True,
)
GridOption = Annotated[
    Path | None,
    typer.Option(help="pandapower or power-grid-model JSON, or a folder like the bundled extract."),
]
VoltageLowOption = Annotated[float, typer.Option(help="Lowest voltage, per unit.")]
VoltageHighOption = Annotated[float, typer.Option(help="Highest voltage, per unit.")]
LoadingOption = Annotated[float, typer.Option(help="Highest loading, percent.")]


def demo_grid(seed: int, solver: str, output: Path, *, as_json: bool) -> None:
    """`peerwatt demo --grid`."""
    from backend.demo.grid_day import GridDemoOptions, run_grid_demo
    from backend.demo.terminal import TerminalProgress
    from backend.durable_files import write_atomically
    from backend.grid.terminal import show_grid_day
    from backend.portal.grid_page import render_grid_page

    console = Console(stderr=as_json)
    with TerminalProgress(console) as progress:
        day, pictures = run_grid_demo(GridDemoOptions(seed, solver, output), progress)
    write_atomically(output / "grid.json", (json.dumps(day, indent=1) + "\n").encode())
    write_atomically(output / "grid.html", render_grid_page(day, pictures).encode())
    if as_json:
        write_json(day)
    else:
        show_grid_day(day, output, console)


@grid_app.command("check")
@command
def grid_check_command(
    grid: GridOption = None,
    case: Annotated[
        str | None, typer.Option(help="Validate the day of a case on the bundled grid.")
    ] = None,
    voltage_low: VoltageLowOption = 0.9,
    voltage_high: VoltageHighOption = 1.1,
    loading: LoadingOption = 100.0,
    as_json: JsonOption = False,
) -> None:
    """Check a grid and run its power flow; exits with 2 if the grid is wrong, with 1 if a limit is broken."""
    from backend.grid.command import grid_check
    from backend.grid.power_flow import Limits
    from backend.grid.terminal import show_check

    found = grid_check(grid, case, Limits(voltage_low, voltage_high, loading))
    if as_json:
        write_json(found)
    else:
        show_check(found, Console())
    if not found["right"]:
        raise typer.Exit(2)
    if any(item["broken_limits"] for item in found["validation"]):
        raise typer.Exit(1)


@grid_app.command("distances")
@command
def grid_distances_command(
    grid: GridOption = None,
    kind: Annotated[
        str,
        typer.Option(
            help="ptdf, thevenin-reactance, thevenin-resistance, thevenin-impedance or thevenin-complex."
        ),
    ] = "thevenin-resistance",
    output: Annotated[Path | None, typer.Option(help="CSV file for the whole matrix.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Electrical distances between the buses, and the zones of the grid's structure."""
    from backend.grid.command import grid_distances
    from backend.grid.terminal import show_distances

    found = grid_distances(grid, kind, output)
    if as_json:
        write_json(found)
    else:
        show_distances(found, Console())


@grid_app.command("coordinate")
@command
def grid_coordinate_command(
    case: Annotated[str, typer.Option(help="A case on the bundled grid.")] = "summer-noon",
    interval: Annotated[
        int | None, typer.Option(help="Quarter-hour of the case's day, 0 to 95; its peak without.")
    ] = None,
    grid: GridOption = None,
    offers: Annotated[
        Path | None, typer.Option(help="Offers instead of a case, format peerwatt/grid-offers/1.")
    ] = None,
    voltage_low: VoltageLowOption = 0.9,
    voltage_high: VoltageHighOption = 1.1,
    loading: LoadingOption = 100.0,
    operating_limits: Annotated[
        int | None,
        typer.Option(metavar="WATT", help="Also each connection point's operating limits."),
    ] = None,
    by_zone: Annotated[
        bool,
        typer.Option("--by-zone", help="One fee for all of a zone, as it is settled on chain."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for coordination.json, feeder.svg and, by zone, fees.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Clear an interval with the system operator; exits with 1 if the members cannot mend the grid."""
    from backend.grid.command import grid_coordinate
    from backend.grid.power_flow import Limits
    from backend.grid.terminal import show_coordination

    found = grid_coordinate(
        case=case,
        interval=interval,
        grid=grid,
        offers=offers,
        limits=Limits(voltage_low, voltage_high, loading),
        operating_limit_w=operating_limits,
        by_zone=by_zone,
        output=output,
    )
    if as_json:
        write_json(found)
    else:
        show_coordination(found, Console())
    if found["status"] == "unsolved":
        raise typer.Exit(1)


@command
def bench_grid_command(
    extract: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of another SimBench grid, for the loop's quality there; repeatable."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure power flow and coordination side by side with pandapower and a conic optimal power flow."""
    from backend.bench.grid import bench_grid
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = bench_grid(lambda line: console.print(f"[dim]{line}[/dim]"), extract or ())
    if as_json:
        write_json(rows)
    else:
        show_rows(rows, Console())
