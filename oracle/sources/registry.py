"""The kinds of sources by name: each a module with `Settings`, which says what can be configured and opens the source."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from backend.domain.errors import MalformedInput

from .base import Source

KINDS = {"smart-me": "smart_me", "mqtt": "mqtt", "files": "files", "simbench": "replay"}


def open_source(data: dict[str, Any], folder: Path, where: str = "source") -> Source:
    """A source from its part of the configuration.

    Args:
        data: `kind`, `name`, and the fields of its kind.
        folder: what paths are relative to.
        where: for errors.

    Raises:
        InputError: naming the field.
    """
    rest = dict(data)
    kind, name = rest.pop("kind", None), rest.pop("name", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise MalformedInput(f"{where}.kind", kind, "unknown", f"choose one of {', '.join(KINDS)}")
    if not isinstance(name, str | None):
        raise MalformedInput(f"{where}.name", name, "no text", "give a name")
    # A module is loaded when it is used: not everybody has a broker.
    settings = import_module(f".{KINDS[kind]}", __package__).Settings.from_data(rest, where)
    source: Source = settings.open(name or kind, folder)
    return source
