"""What the commands `peerwatt grid ...` do, without the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from backend.domain.errors import MalformedInput
from backend.domain.values import parse_json
from backend.durable_files import write_atomically
from backend.market.electrical_distance import ptdf_distances, thevenin_distances
from backend.market.grid_branches import DistanceKind, TheveninKind
from oracle.sources.simbench import load_feeder

from .cases import day_net_w, scenario, scenario_grid, scenario_offers
from .coordination import Coordinator
from .formats import read_grid
from .offers import GridOffers
from .operating_limits import operating_limits
from .pictures import coordination_svg
from .power_flow import Flow, GridPowerFlow, Limits
from .settlement import settlement_zones
from .statement import fee_notice, statement

_LARGEST_OFFERS_BYTES = 64 * 1024 * 1024


def grid_check(grid: Path | None, case: str | None, limits: Limits) -> dict[str, Any]:
    """A grid's faults, its structure, and the power flow of its own powers or of a case's day.

    Raises:
        InputError: not readable; the faults themselves are returned.
    """
    feeder = load_feeder() if case is not None else None
    if feeder is not None and grid is not None:
        raise MalformedInput("case", case, "is on the bundled grid", "leave out the grid's path")
    model = read_grid(grid) if feeder is None else scenario_grid(scenario(case or ""), feeder)
    faults = model.faults()
    found: dict[str, Any] = {
        "name": model.name,
        "right": not faults,
        "faults": [fault.as_dict() for fault in faults],
        "buses": len(model.buses),
        "lines": len(model.lines),
        "transformers": len(model.transformers),
        "connection_points": len(model.connection_points),
    }
    if faults:
        return found
    flow = GridPowerFlow(model, limits)
    if feeder is None:
        state = flow.run(np.zeros((1, len(model.connection_points))))
    else:
        state = flow.run(day_net_w(scenario(case or ""), feeder))
    zones = Counter(model.zones().values())
    return found | {
        "loops": model.loops(),
        "zones": dict(zones),
        "validation": validation(flow, state),
    }


def validation(flow: GridPowerFlow, state: Flow) -> list[dict[str, Any]]:
    """One entry for each interval: extremes, losses, and the limits that are broken."""
    values = state.values()
    broken = values > flow.bounds + 1e-9
    count = len(flow.model.buses)
    loading = np.concatenate((state.line_loading, state.transformer_loading), axis=1)
    names = [limit.element for limit in flow.limits[2 * count :]]
    return [
        {
            "interval": number,
            "lowest_voltage_per_unit": round(float(state.voltage_per_unit[number].min()), 6),
            "highest_voltage_per_unit": round(float(state.voltage_per_unit[number].max()), 6),
            "highest_loading_percent": round(100 * float(loading[number].max(initial=0)), 3),
            "highest_loaded": names[int(loading[number].argmax())] if names else None,
            "loss_w": round(float(state.loss_w[number])),
            "broken_limits": [
                {"kind": flow.limits[k].kind, "element": flow.limits[k].element}
                for k in np.flatnonzero(broken[number]).tolist()
            ],
        }
        for number in range(len(values))
    ]


def grid_distances(grid: Path | None, kind: str, output: Path | None) -> dict[str, Any]:
    """Electrical distance between all buses, and the zones; with `output` the matrix as CSV.

    Raises:
        InputError: not readable, wrong, or no such kind of distance.
    """
    if kind not in get_args(DistanceKind):
        raise MalformedInput(
            "kind", kind, "no such distance", f"choose one of {', '.join(get_args(DistanceKind))}"
        )
    model = read_grid(grid).check()
    buses, branches = model.branches()
    if kind == "ptdf":
        matrix = ptdf_distances(buses, branches)
    else:
        matrix = thevenin_distances(buses, branches, cast("TheveninKind", kind))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["bus", *buses])
        for bus, row in zip(buses, matrix, strict=True):
            writer.writerow([bus, *(f"{value:.9g}" for value in row)])
        write_atomically(output, text.getvalue().encode())
    zone = model.zones()
    source = model.place[model.source.bus]
    return {
        "name": model.name,
        "kind": kind,
        "unit": "branches" if kind == "ptdf" else "ohm",
        "loops": model.loops(),
        "buses": [
            {"bus": bus, "zone": zone[bus], "distance_to_source": float(matrix[source, index])}
            for index, bus in enumerate(buses)
        ],
        "distances": matrix.tolist(),
    }


def grid_coordinate(
    *,
    case: str,
    interval: int | None,
    grid: Path | None,
    offers: Path | None,
    limits: Limits,
    operating_limit_w: int | None,
    by_zone: bool,
    output: Path | None,
) -> dict[str, Any]:
    """Market and operator in turn for one interval; with `output` the result and its picture are written there.

    Raises:
        InputError: grid or offers are wrong.
        PeerwattError: a power flow or the solver failed.
    """
    if offers is None:
        if grid is not None:
            raise MalformedInput("grid", str(grid), "given without offers", "add --offers FILE")
        item, feeder = scenario(case), load_feeder()
        model = scenario_grid(item, feeder)
        chosen = item.peak_interval if interval is None else interval
        wanted, title = scenario_offers(item, feeder, chosen), item.title
    else:
        model = read_grid(grid)
        wanted = GridOffers.parse(_read_offers(offers), model.connection_points)
        model = model.with_members_at(member.connection_point for member in wanted.members)
        title = f"{model.name}, {wanted.interval.start.isoformat()}"
    flow = GridPowerFlow(model, limits)
    zone_of = None
    if by_zone:
        zone_of = settlement_zones(model, [member.connection_point for member in wanted.members])
    outcome = Coordinator(flow, zone_of=zone_of).coordinate(wanted)
    found = statement(outcome, flow)
    if operating_limit_w is not None:
        wish = np.full(len(model.connection_points), operating_limit_w)
        bounds = operating_limits(flow, wish, wish)
        found["operating_limits"] = [
            {"connection_point": point, "draw_w": int(draw), "feed_in_w": int(feed_in)}
            for point, draw, feed_in in zip(
                model.connection_points, bounds.draw_w, bounds.feed_in_w, strict=True
            )
        ]
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        picture = coordination_svg(flow, outcome.values_before, outcome.values_after, title)
        write_atomically(output / "feeder.svg", picture.encode())
        write_atomically(
            output / "coordination.json", (json.dumps(found, indent=1) + "\n").encode()
        )
        if by_zone:
            notice = fee_notice(outcome, flow)
            write_atomically(output / "fees.json", (json.dumps(notice, indent=1) + "\n").encode())
    return found


def _read_offers(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_OFFERS_BYTES:
            raise MalformedInput("offers", str(path), "above 64 MiB", "give one interval a file")
        return parse_json(path.read_bytes(), path)
    except OSError as error:
        raise MalformedInput(
            "offers", str(path), str(error.strerror), "give the path of a readable file"
        ) from None
