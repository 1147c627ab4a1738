"""The grid of `pandapower.to_json`, read without pandapower."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isnan, nan
from typing import Any, Final, Literal

from backend.domain.errors import MalformedInput, MemberWithoutBus, UnknownReference

from ..model import Bus, GridModel, Line, Source, Transformer

_REFUSED: Final = (
    "trafo3w", "gen", "xward", "ward", "impedance", "dcline", "shunt", "svc", "ssc", "tcsc", "vsc",
    "asymmetric_load", "asymmetric_sgen",
)  # fmt: skip
# What stands for members.
_CONNECTED: Final = frozenset({"load", "sgen", "storage"})

Row = Mapping[str, Any]


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
