"""The command `peerwatt serve`."""

from __future__ import annotations

import importlib.util
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from backend.command_line import JsonOption, command, write_json

if TYPE_CHECKING:
    from fastapi import FastAPI

    from backend.api.site import Site

_DEMO_MEMBERS = 20


@command
def serve(
    demo: Annotated[
        Path, typer.Option(help="Folder of the demonstration; it is run first if it is not there.")
    ] = Path("peerwatt-demo"),
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8080,
    pace: Annotated[
        float,
        typer.Option(min=1, max=3600, help="Seconds of the demonstration's day that pass in one."),
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Serve API and portal; without options on the demonstration's data, with wallets to try it out."""
    import uvicorn

    from backend.api.settings import WebSettings

    console = Console(stderr=True)
    site = _demo_site(demo, pace, console)
    origin = f"http://{host}:{port}"
    app = application({site.name: site}, WebSettings(origin=origin))
    if as_json:
        write_json({"url": origin, "communities": [site.name]})
    console.print(f"{origin}  [dim](Ctrl-C ends it)[/dim]")
    try:
        uvicorn.run(app, host=host, port=port, log_config=None, access_log=False)
    finally:
        site.close()


def application(sites: dict[str, Site], settings: Any) -> FastAPI:
    """API and portal together."""
    from backend.api.app import web_app

    if importlib.util.find_spec("backend.portal.pages") is None:
        return web_app(sites, settings)
    pages = importlib.import_module("backend.portal.pages")
    return web_app(sites, settings, [pages.portal_router()], getattr(pages, "error_page", None))


def _demo_site(folder: Path, pace: float, console: Console) -> Site:
    from backend.api.demo import open_demo_site
    from backend.demo.community import DEFAULT_DAY

    if not (folder / "demo.json").exists():
        _run_demo(folder, DEFAULT_DAY, console)
    console.print("[dim]executing the demonstration's chain again[/dim]")
    return open_demo_site(folder, pace=pace)


def _run_demo(folder: Path, first_day: date, console: Console) -> None:
    from backend.demo.day import DemoOptions, run_demo
    from backend.demo.terminal import TerminalProgress

    options = DemoOptions(_DEMO_MEMBERS, 1, first_day, 0, None, "highs", folder)
    with TerminalProgress(console) as progress:
        run_demo(options, progress)
