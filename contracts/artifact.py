"""The committed ABI and bytecode, as data."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def artifact(name: str) -> dict[str, Any]:
    """A committed artifact: `abi`, `bytecode`, `deployedBytecode`, `metadata`.

    Raises:
        FileNotFoundError: there is no contract of that name.
    """
    text = files("contracts").joinpath("artifacts", f"{name}.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded
