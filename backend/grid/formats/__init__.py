"""Grids from the files people have: the SimBench extract, pandapower JSON, power-grid-model JSON.

pandapower's files are read without pandapower. What a balanced power flow with one source cannot say exactly (a second
source, three windings, shunts) is refused by name, not left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from backend.domain.errors import MalformedInput
from backend.domain.values import parse_json

from ..model import GridModel
from .pandapower import pandapower_grid
from .power_grid_model import power_grid_model_grid
from .simbench import read_extract, simbench_grid

_FILE_LIMIT_BYTES: Final = 256 * 1024 * 1024


def read_grid(path: Path | None = None) -> GridModel:
    """A grid from a file or from a folder in the format of the bundled extract; the bundled one without a path.

    Raises:
        InputError: not readable, or something in it that is not supported. The grid is not checked; see `GridModel.check`.
    """
    if path is None or path.is_dir():
        return simbench_grid(read_extract(path), path.name if path else "1-LV-rural3")
    try:
        if path.stat().st_size > _FILE_LIMIT_BYTES:
            raise MalformedInput("grid", str(path), "above 256 MiB", "give a low-voltage grid")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedInput(
            "grid", str(path), str(error), "give the path of a readable file"
        ) from None
    data = json.loads(text) if '"pandapowerNet"' in text else parse_json(text, path)
    if isinstance(data, dict) and data.get("_class") == "pandapowerNet":
        return pandapower_grid(data, path.stem)
    if isinstance(data, dict) and isinstance(data.get("data"), dict) and "node" in data["data"]:
        return power_grid_model_grid(data, path.stem)
    raise MalformedInput(
        "grid",
        str(path),
        "neither pandapower's nor power-grid-model's JSON",
        "write it with pandapower.to_json or power_grid_model.utils.json_serialize_to_file",
    )
