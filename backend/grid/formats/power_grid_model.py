"""The grid of power-grid-model's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import Any, Final

from backend.domain.errors import (
    MalformedInput,
    MemberWithoutBus,
    MissingImpedance,
    UnknownReference,
)

from ..model import Bus, GridModel, Line, Source, Transformer

# What a balanced flow with one source holds.
_KNOWN: Final = frozenset({"node", "line", "link", "transformer", "source", "sym_load", "sym_gen"})
_SENSORS: Final = ("sym_voltage_sensor", "sym_power_sensor", "sym_current_sensor", "fault")
# What stands for members.
_CONNECTED: Final = frozenset({"sym_load", "sym_gen"})

Row = Mapping[str, Any]


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
