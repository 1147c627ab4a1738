"""The commands `peerwatt serve` and `peerwatt bench api`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from backend.command_line import JsonOption, command, write_json
from backend.domain.errors import MalformedInput

if TYPE_CHECKING:
    from fastapi import FastAPI

    from backend.api.site import Site

_DEMO_MEMBERS = 20


@command
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help="A coordinator's configuration, format peerwatt/coordinator/1, instead of the demonstration."
        ),
    ] = None,
    demo: Annotated[
        Path, typer.Option(help="Folder of the demonstration; it is run first if it is not there.")
    ] = Path("peerwatt-demo"),
    pace: Annotated[
        float,
        typer.Option(min=1, max=3600, help="Seconds of the demonstration's day that pass in one."),
    ] = 60.0,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8080,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="As browsers see the site, such as https://community.example."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve API and portal; without options on the demonstration's data, with wallets to try it out."""
    from backend.api.serving import serve_app
    from backend.api.settings import WebSettings
    from backend.structured_log import start_logging

    console = Console(stderr=True)
    where = (origin or f"http://{host}:{port}").rstrip("/")
    if not where.startswith(("http://", "https://")) or "/" in where.partition("://")[2]:
        raise MalformedInput(
            "origin", where, "not an origin", "give such as https://community.example"
        )
    sites = _configured(config) if config else _demonstrated(demo, pace, console)
    try:
        app = application(sites, WebSettings(origin=where))
        if as_json:
            write_json({"url": where, "communities": sorted(sites)})
        if config is not None:
            start_logging("peerwatt")
        console.print(f"{where}  [dim](Ctrl-C ends it)[/dim]")
        serve_app(app, host, port)
    finally:
        for site in sites.values():
            site.close()


def application(sites: dict[str, Site], settings: Any) -> FastAPI:
    """API and portal together."""
    from backend.api.app import web_app
    from backend.portal.pages import error_page, portal_router

    return web_app(sites, settings, [portal_router()], error_page)


def _configured(path: Path) -> dict[str, Site]:
    from backend.api.configured import open_configured_site
    from backend.operator.config import load_configuration

    configuration = load_configuration(path)
    return {
        entry.name: open_configured_site(configuration, entry)
        for entry in configuration.file.communities
    }


def _demonstrated(folder: Path, pace: float, console: Console) -> dict[str, Site]:
    from backend.api.demo import open_demo_site
    from backend.demo.community import DEFAULT_DAY

    if not (folder / "demo.json").exists():
        run_demo_first(folder, _DEMO_MEMBERS, DEFAULT_DAY, console)
    with console.status("executing the demonstration's chain again"):
        site = open_demo_site(folder, pace=pace)
    return {site.name: site}


def run_demo_first(folder: Path, members: int, day: datetime.date, console: Console) -> None:
    """Runs the demonstration, as `peerwatt demo` does, without its pictures."""
    from backend.demo.day import DemoOptions, run_demo
    from backend.demo.terminal import TerminalProgress

    with TerminalProgress(console) as progress:
        run_demo(DemoOptions(members, 1, day, 0, None, "highs", folder), progress)


@command
def bench_api_command(
    members: Annotated[int, typer.Option(min=1, help="How many dashboards are open.")] = 1000,
    seconds: Annotated[int, typer.Option(min=1, help="How long.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Measure dashboards polled from one process, beside a route that does nothing."""
    from backend.bench.api import bench_api
    from backend.bench.table import show_rows

    console = Console(stderr=True)
    rows = bench_api(members, seconds, lambda line: console.print(f"[dim]{line}[/dim]"))
    if as_json:
        write_json(rows)
    else:
        show_rows(rows, Console())
