"""What all commands share: errors as messages with a remedy, JSON, files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console

from backend.domain.errors import MalformedInput, NodeUnreachable, PeerwattError

# Largest file read whole; a case of a million members has about 100 MB.
FILE_LIMIT_BYTES = 512 * 1024 * 1024

Parameters = ParamSpec("Parameters")
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


def command(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turns errors of ours into a message with its remedy and the right exit code."""

    @wraps(function)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            function(*arguments, **options)
        except PeerwattError as error:
            _show_error(error, as_json=bool(options.get("as_json")))
        except OSError as error:
            # Half of what `peerwatt --help` would load otherwise.
            from requests.exceptions import RequestException

            if not isinstance(error, RequestException):
                raise
            lost = NodeUnreachable(
                f"the Ethereum node stopped answering: {type(error).__name__}",
                "look after the node and run the command again",
            )
            _show_error(lost, as_json=bool(options.get("as_json")))

    return run


def _show_error(error: PeerwattError, *, as_json: bool) -> NoReturn:
    if as_json:
        write_json({"error": error.as_dict()})
    console = Console(stderr=True)
    console.print(f"[red]error[/red] {error.code}", highlight=False)
    for line in (error.message, f"mend: {error.remedy}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(error.exit_code) from None


def write_json(data: Any) -> None:
    """Writes JSON to standard output."""
    json.dump(data, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def read_file(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        MalformedInput: it cannot be read, or is larger than 512 MiB.
    """
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT_BYTES:
            raise MalformedInput(
                str(path), size, "larger than 512 MiB", "split it into several files"
            )
        return path.read_bytes()
    except OSError as error:
        raise MalformedInput(
            str(path), error.strerror, "cannot be read", "give the path of a readable file"
        ) from None
