"""Grids from the files people have: the SimBench extract, pandapower JSON, power-grid-model JSON.

pandapower's files are read without pandapower. What a balanced power flow with one source cannot say exactly (a second
source, three windings, shunts) is refused by name, not left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan, nan
from pathlib import Path
from typing import Any, Final, Literal

from backend.domain.errors import (
    InputError,
    MalformedInput,
    MemberWithoutBus,
    MissingImpedance,
    UnknownReference,
)
from backend.domain.values import parse_json
from oracle.sources.simbench import Feeder, load_feeder

from .model import Bus, GridModel, Line, Source, Transformer

_FILE_LIMIT_BYTES: Final = 256 * 1024 * 1024
_REFUSED: Final = (
    "trafo3w", "gen", "xward", "ward", "impedance", "dcline", "shunt", "svc", "ssc", "tcsc", "vsc",
    "asymmetric_load", "asymmetric_sgen",
)  # fmt: skip
# power-grid-model's names of what a balanced flow with one source holds.
_KNOWN: Final = frozenset({"node", "line", "link", "transformer", "source", "sym_load", "sym_gen"})
_SENSORS: Final = ("sym_voltage_sensor", "sym_power_sensor", "sym_current_sensor", "fault")
# What stands for members, in either's tables.
_CONNECTED: Final = frozenset({"load", "sgen", "storage", "sym_load", "sym_gen"})

Row = Mapping[str, Any]


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


def read_extract(path: Path | None) -> Feeder:
    """A folder in the format of the bundled extract.

    Raises:
        MalformedInput: it is not like that.
        MemberWithoutBus: a connection point is at no bus.
    """
    try:
        return load_feeder(path)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise MalformedInput(
            "grid", str(path), str(error), "give a folder like oracle/data/simbench"
        ) from None


def simbench_grid(feeder: Feeder, name: str = "1-LV-rural3") -> GridModel:
    """The grid of the SimBench extract; every connection point of it is one here."""
    plate = feeder.transformer
    return GridModel(
        name=name,
        buses=tuple(
            Bus(bus.bus, bus.nominal_voltage_v, bus.longitude_degree, bus.latitude_degree)
            for bus in feeder.buses
        ),
        lines=tuple(
            Line(
                line.line,
                line.from_bus,
                line.to_bus,
                line.resistance_ohm,
                line.reactance_ohm,
                line.capacitance_nanofarad,
                line.rated_current_a,
            )
            for line in feeder.lines
        ),
        transformers=(
            Transformer(
                plate.transformer,
                plate.high_voltage_bus,
                plate.low_voltage_bus,
                plate.rated_power_va,
                plate.high_voltage_v,
                plate.low_voltage_v,
                plate.short_circuit_voltage_percent,
                plate.short_circuit_resistance_percent,
                plate.iron_loss_w,
                plate.no_load_current_percent,
                plate.phase_shift_degree,
                "high_voltage" if plate.tap_side == "high_voltage" else "low_voltage",
                plate.tap_position,
                plate.tap_neutral,
                plate.tap_step_percent,
            ),
        ),
        source=Source(plate.high_voltage_bus, plate.source_voltage_per_unit),
        connection_points={item.connection_point: item.bus for item in feeder.elements},
    )


# --- pandapower ------------------------------------------------------------------------------------------------------


def pandapower_grid(data: Mapping[str, Any], name: str = "grid") -> GridModel:
    """The grid of `pandapower.to_json`.

    Every bus with a load, static generator or storage is a connection point, named as the bus; their powers are the background.

    Raises:
        InputError: a table is missing or holds what is not supported.
    """
    tables = data.get("_object", {})
    for kind in _REFUSED:
        if any(_in_service(row) for row in _rows(tables, kind)):
            raise MalformedInput(kind, kind, "not supported", "replace it by lines and loads")
    buses = {row["index"]: row for row in _rows(tables, "bus") if _in_service(row)}
    ids = _names("bus", buses)
    merged, open_lines, open_transformers = _switches(tables, buses)
    sources = [row for row in _rows(tables, "ext_grid") if _in_service(row)]
    if len(sources) != 1:
        raise MalformedInput("ext_grid", len(sources), "not one source", "leave exactly one")

    def bus(table: str, row: Row, field: str) -> str:
        if row[field] not in buses:
            error = MemberWithoutBus if table in _CONNECTED else UnknownReference
            raise error(
                f"{table}[{row['index']}].{field}", row[field], "no bus in service", "correct it"
            )
        return ids[merged(row[field])]

    frequency = float(tables.get("f_hz", 50.0))
    if frequency != 50:
        raise MalformedInput("f_hz", frequency, "not 50 Hz", "convert the capacitances to 50 Hz")
    lines = {
        row["index"]: row
        for row in _rows(tables, "line")
        if _in_service(row) and row["index"] not in open_lines
    }
    line_ids = _names("line", lines)
    transformers = {
        row["index"]: row
        for row in _rows(tables, "trafo")
        if _in_service(row) and row["index"] not in open_transformers
    }
    transformer_ids = _names("trafo", transformers)
    powers = [
        (bus(table, row, "bus"), sign * row.get("scaling", 1.0), row)
        for table, sign in (("load", -1e6), ("sgen", 1e6), ("storage", -1e6))
        for row in _rows(tables, table)
        if _in_service(row)
    ]
    background_w: dict[str, float] = {}
    background_var: dict[str, float] = {}
    for at, factor, row in powers:
        background_w[at] = background_w.get(at, 0.0) + factor * _number(row, "p_mw")
        background_var[at] = background_var.get(at, 0.0) + factor * _number(row, "q_mvar", 0.0)
    return GridModel(
        name=name,
        buses=tuple(
            Bus(ids[index], 1000 * _number(row, "vn_kv"), *_position(row))
            for index, row in buses.items()
            if merged(index) == index
        ),
        lines=tuple(
            _pandapower_line(
                line_ids[index], bus("line", row, "from_bus"), bus("line", row, "to_bus"), row
            )
            for index, row in lines.items()
        ),
        transformers=tuple(
            _pandapower_transformer(
                transformer_ids[index],
                bus("trafo", row, "hv_bus"),
                bus("trafo", row, "lv_bus"),
                row,
            )
            for index, row in transformers.items()
        ),
        source=Source(bus("ext_grid", sources[0], "bus"), _number(sources[0], "vm_pu")),
        connection_points={at: at for at, _, _ in powers},
        background_w=background_w,
        background_var=background_var,
    )


def _rows(tables: Mapping[str, Any], table: str) -> Iterator[dict[str, Any]]:
    """The rows of one of pandapower's tables, each with its `index`."""
    frame = tables.get(table)
    if frame is None:
        return
    try:
        frame = frame["_object"] if isinstance(frame, dict) else frame
        frame = json.loads(frame) if isinstance(frame, str) else frame
        for index, values in zip(frame["index"], frame["data"], strict=True):
            yield {"index": index, **dict(zip(frame["columns"], values, strict=True))}
    except (KeyError, TypeError, ValueError):
        raise MalformedInput(
            table, table, "not a table of pandapower's JSON", "write it with pandapower.to_json"
        ) from None


def _in_service(row: Row) -> bool:
    return bool(row.get("in_service", True))


def _names(table: str, rows: Mapping[int, Row]) -> dict[int, str]:
    """The names of the rows, or their table and number where a name is missing or given twice."""
    given = [row.get("name") for row in rows.values()]
    return {
        index: row["name"]
        if isinstance(row.get("name"), str) and row["name"] and given.count(row["name"]) == 1
        else f"{table} {index}"
        for index, row in rows.items()
    }


def _switches(
    tables: Mapping[str, Any], buses: Mapping[int, Row]
) -> tuple[Any, set[int], set[int]]:
    """The bus that stands for each bus, and the lines and transformers behind an open switch."""
    parent = {index: index for index in buses}

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    opened: dict[str, set[int]] = {"l": set(), "t": set()}
    for row in _rows(tables, "switch"):
        if row["et"] == "b" and row["closed"]:
            one, other = sorted((root(row["bus"]), root(row["element"])))
            parent[other] = one
        elif row["et"] in opened and not row["closed"]:
            opened[row["et"]].add(row["element"])
    return root, opened["l"], opened["t"]


def _number(row: Row, field: str, otherwise: float = nan) -> float:
    value = row.get(field)
    return otherwise if value is None or isnan(value) else float(value)


def _position(row: Row) -> tuple[float | None, float | None]:
    """Longitude and latitude from GeoJSON, if there."""
    geo = row.get("geo")
    try:
        longitude, latitude = json.loads(geo)["coordinates"] if isinstance(geo, str) else (nan, nan)
    except (KeyError, TypeError, ValueError):
        return None, None
    return (None, None) if isnan(longitude) else (float(longitude), float(latitude))


def _pandapower_line(id: str, from_bus: str, to_bus: str, row: Row) -> Line:
    if _number(row, "g_us_per_km", 0.0):
        raise MalformedInput(
            f"line[{row['index']}].g_us_per_km", row["g_us_per_km"], "not supported", "set it to 0"
        )
    length, parallel = _number(row, "length_km"), _number(row, "parallel", 1.0)
    return Line(
        id,
        from_bus,
        to_bus,
        _number(row, "r_ohm_per_km") * length / parallel,
        _number(row, "x_ohm_per_km") * length / parallel,
        _number(row, "c_nf_per_km", 0.0) * length * parallel,
        1000 * _number(row, "max_i_ka") * parallel * _number(row, "df", 1.0),
    )


def _pandapower_transformer(id: str, high: str, low: str, row: Row) -> Transformer:
    if _number(row, "tap_step_degree", 0.0):
        raise MalformedInput(
            f"trafo[{row['index']}].tap_step_degree",
            row["tap_step_degree"],
            "phase-shifting taps are not supported",
            "set it to 0",
        )
    parallel = _number(row, "parallel", 1.0)
    side: Literal["high_voltage", "low_voltage"] = (
        "low_voltage" if row.get("tap_side") == "lv" else "high_voltage"
    )
    neutral = _number(row, "tap_neutral", 0.0)
    position = _number(row, "tap_pos", neutral)
    # Since version 3 pandapower leaves a tap without a type out of its power flow; older files have no types.
    changer = row.get("tap_changer_type", "Ratio")
    if changer is None:
        position = neutral
    elif changer != "Ratio" and position != neutral:
        raise MalformedInput(
            f"trafo[{row['index']}].tap_changer_type",
            changer,
            "not supported",
            "use Ratio, or set the tap to neutral",
        )
    return Transformer(
        id,
        high,
        low,
        1e6 * _number(row, "sn_mva") * parallel,
        1000 * _number(row, "vn_hv_kv"),
        1000 * _number(row, "vn_lv_kv"),
        _number(row, "vk_percent"),
        _number(row, "vkr_percent"),
        1000 * _number(row, "pfe_kw", 0.0) * parallel,
        _number(row, "i0_percent", 0.0),
        _number(row, "shift_degree", 0.0),
        side,
        int(position),
        int(neutral),
        _number(row, "tap_step_percent", 0.0),
    )


# --- power-grid-model ------------------------------------------------------------------------------------------------


def power_grid_model_grid(data: Mapping[str, Any], name: str = "grid") -> GridModel:
    """The grid of power-grid-model's JSON (version 1.0, type input).

    Every node with a load or generator is a connection point; their powers are the background. Nodes are named `node 7`,
    by id.

    Raises:
        InputError: a component that is not supported, more than one source, a line without the values it needs.
    """
    if data.get("type") != "input" or data.get("is_batch"):
        raise MalformedInput("type", data.get("type"), "not a single input", "give the input data")
    attributes = data.get("attributes", {})
    tables = {
        kind: [_named(row, attributes.get(kind, ()), kind) for row in rows]
        for kind, rows in data["data"].items()
    }
    for kind, rows in tables.items():
        if rows and kind not in _KNOWN and kind not in _SENSORS:
            raise MalformedInput(
                f"data.{kind}", kind, "not supported", "replace it by lines and loads"
            )
    nodes = {row["id"]: row for row in tables["node"]}
    joined = {id: id for id in nodes}

    def root(id: int) -> int:
        while joined[id] != id:
            id = joined[id]
        return id

    def bus(kind: str, row: Row, field: str) -> str:
        if row.get(field) not in nodes:
            error = MemberWithoutBus if kind in _CONNECTED else UnknownReference
            raise error(
                f"data.{kind}[{row.get('id')}].{field}",
                row.get(field),
                "no such node",
                "correct it",
            )
        return f"node {root(row[field])}"

    def closed(row: Row) -> bool:
        return bool(row.get("from_status", 1) and row.get("to_status", 1))

    for row in tables.get("link", ()):
        if closed(row):
            one, other = sorted((root(row["from_node"]), root(row["to_node"])))
            joined[other] = one
    sources = [row for row in tables.get("source", ()) if row.get("status", 1)]
    if len(sources) != 1:
        raise MalformedInput("data.source", len(sources), "not one source", "leave exactly one")
    background_w: dict[str, float] = {}
    background_var: dict[str, float] = {}
    for kind, sign in (("sym_load", -1), ("sym_gen", 1)):
        for row in tables.get(kind, ()):
            if row.get("status", 1):
                at = bus(kind, row, "node")
                background_w[at] = background_w.get(at, 0.0) + sign * row.get("p_specified", 0.0)
                background_var[at] = background_var.get(at, 0.0) + sign * row.get(
                    "q_specified", 0.0
                )
    return GridModel(
        name=name,
        buses=tuple(
            Bus(f"node {id}", float(row.get("u_rated", nan)))
            for id, row in nodes.items()
            if root(id) == id
        ),
        lines=tuple(
            Line(
                f"line {row['id']}",
                bus("line", row, "from_node"),
                bus("line", row, "to_node"),
                float(row.get("r1", nan)),
                float(row.get("x1", nan)),
                1e9 * float(row.get("c1", 0.0)),
                float(row.get("i_n", nan)),
            )
            for row in tables.get("line", ())
            if closed(row)
        ),
        transformers=tuple(
            _power_grid_model_transformer(
                row, bus("transformer", row, "from_node"), bus("transformer", row, "to_node")
            )
            for row in tables.get("transformer", ())
            if closed(row)
        ),
        source=Source(bus("source", sources[0], "node"), float(sources[0].get("u_ref", 1.0))),
        connection_points={at: at for at in background_w},
        background_w=background_w,
        background_var=background_var,
    )


def _named(row: Any, attributes: Sequence[str], kind: str) -> dict[str, Any]:
    """A component by attribute; the format also allows a list of values in the order of `attributes`."""
    if isinstance(row, dict):
        return row
    try:
        found = dict(zip(attributes, row, strict=True))
    except (TypeError, ValueError):
        raise MalformedInput(
            f"data.{kind}", row, "not as long as `attributes`", "write it with json_serialize"
        ) from None
    return {name: value for name, value in found.items() if value is not None}


def _power_grid_model_transformer(row: Row, start: str, end: str) -> Transformer:
    for field in ("u1", "u2", "sn", "uk", "pk", "i0", "p0"):
        if row.get(field) is None:
            raise MissingImpedance(
                f"data.transformer[{row['id']}].{field}",
                None,
                "missing",
                "read it off the name plate",
            )
    side = row.get("tap_side", 0)
    rated = row["u1"] if side == 0 else row["u2"]
    neutral = row.get("tap_nom") or 0
    plate = Transformer(
        f"transformer {row['id']}",
        start,
        end,
        row["sn"],
        row["u1"],
        row["u2"],
        100 * row["uk"],
        100 * row["pk"] / row["sn"],
        row["p0"],
        100 * row["i0"],
        30.0 * row.get("clock", 0),
        "high_voltage" if side == 0 else "low_voltage",
        row.get("tap_pos", neutral),
        neutral,
        100 * (row.get("tap_size") or 0.0) / rated,
    )
    if plate.high_voltage_v >= plate.low_voltage_v:
        return plate
    return replace(
        plate,
        high_voltage_bus=end,
        low_voltage_bus=start,
        high_voltage_v=plate.low_voltage_v,
        low_voltage_v=plate.high_voltage_v,
        phase_shift_degree=-plate.phase_shift_degree % 360,
        tap_side="low_voltage" if side == 0 else "high_voltage",
    )
