"""The kinds of sources: each module of this folder with a class `Settings`, which says what can be configured and opens the source.

The kind is the module's name, with hyphens; so a new source is one new file.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backend.domain.errors import MalformedInput

from .base import Source

# `simbench.py` reads the data, which others use too.
_MODULES = {"simbench": "replay"}
_KIND = re.compile(r"[a-z][a-z0-9-]*")


def kinds() -> dict[str, Any]:
    """Every kind there is, with its `Settings`."""
    names = {module: kind for kind, module in _MODULES.items()}
    found = {}
    for module in pkgutil.iter_modules(sys.modules[__package__ or ""].__path__):
        kind = names.get(module.name, module.name.replace("_", "-"))
        settings = _settings(kind)
        if settings is not None:
            found[kind] = settings
    return found


def _settings(kind: str) -> Any:
    """A kind's `Settings`, or None. A module is loaded when it is used: not everybody has a broker."""
    module = "." + _MODULES.get(kind, kind.replace("-", "_"))
    if not _KIND.fullmatch(kind) or find_spec(module, __package__) is None:
        return None
    return getattr(import_module(module, __package__), "Settings", None)


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
    settings = _settings(kind) if isinstance(kind, str) else None
    if settings is None:
        raise MalformedInput(
            f"{where}.kind", kind, "unknown", f"choose one of {', '.join(sorted(kinds()))}"
        )
    if not isinstance(name, str | None):
        raise MalformedInput(f"{where}.name", name, "no text", "give a name")
    source: Source = settings.from_data(rest, where).open(name or kind, folder)
    return source
