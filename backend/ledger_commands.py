"""The commands `peerwatt db ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backend.command_line import JsonOption, command, write_json

db_app = typer.Typer(help="The ledger's database.", no_args_is_help=True)
DatabaseOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="PEERWATT_DATABASE",
        help="sqlite:///FILE or postgresql://USER@HOST/NAME.",
    ),
]
_DEMO_DATABASE = "sqlite:///peerwatt-demo/ledger.sqlite"


@db_app.command("backup")
@command
def db_backup(
    file: Annotated[Path, typer.Argument(help="File to write; must not be there yet.")],
    database: DatabaseOption = _DEMO_DATABASE,
    as_json: JsonOption = False,
) -> None:
    """Write the whole database, as it is at one moment, to one file."""
    from backend.ledger.backup import backup
    from backend.ledger.database import opened

    with opened(database) as engine:
        summary = backup(engine, file)
    _show_backup("written to", file, summary.revision, summary.rows, as_json=as_json)


@db_app.command("restore")
@command
def db_restore(
    file: Annotated[Path, typer.Argument(help="File that `peerwatt db backup` wrote.")],
    database: DatabaseOption,
    as_json: JsonOption = False,
) -> None:
    """Fill an empty database from a backup, completely or not at all."""
    from backend.ledger.backup import restore
    from backend.ledger.database import opened

    with opened(database) as engine:
        summary = restore(engine, file)
    _show_backup("restored from", file, summary.revision, summary.rows, as_json=as_json)


def _show_backup(
    done: str, file: Path, revision: str, rows: dict[str, int], *, as_json: bool
) -> None:
    if as_json:
        write_json({"file": str(file), "revision": revision, "rows": rows})
    else:
        typer.echo(f"{sum(rows.values())} rows of {len(rows)} tables {done} {file}")


@db_app.command("check")
@command
def db_check(database: DatabaseOption = _DEMO_DATABASE, as_json: JsonOption = False) -> None:
    """Check that the ledger is sound: storage, append-only triggers, journal digests, sums; exits with 1 if not."""
    from backend.ledger.check import check
    from backend.ledger.database import opened

    with opened(database) as engine:
        faults = check(engine)
    if as_json:
        write_json({"sound": not faults, "faults": faults})
    else:
        for fault in faults:
            typer.echo(f"wrong: {fault}")
        typer.echo("not sound" if faults else "sound")
    if faults:
        raise typer.Exit(1)
