"""Grids from files and their faults, each by name; distances and zones against an independent implementation."""

from __future__ import annotations

import importlib.resources
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from typer.testing import CliRunner

from backend.bench.grid import pandapower_net, pandapower_values
from backend.cli import app
from backend.domain.errors import (
    BusOutOfReach,
    DuplicateIdentifier,
    InputError,
    MalformedInput,
    MemberWithoutBus,
    MissingImpedance,
    OutOfRange,
    UnknownReference,
)
from backend.grid.formats import read_grid
from backend.grid.model import GridModel, Line
from backend.grid.power_flow import GridPowerFlow
from oracle.sources.simbench import load_feeder
from tests.support.grid_cases import quietly, village


class TestFaults:
    def test_bundled_grid_has_none(self) -> None:
        assert village().faults() == []

    @pytest.mark.parametrize(
        ("kind", "field", "broken"),
        [
            (BusOutOfReach, "buses[", lambda g: replace(g, lines=g.lines[1:])),
            (
                MissingImpedance,
                "lines[0].resistance_ohm",
                lambda g: changed_line(g, resistance_ohm=0.0, reactance_ohm=0.0),
            ),
            (
                MissingImpedance,
                "lines[0].resistance_ohm",
                lambda g: changed_line(g, resistance_ohm=float("nan")),
            ),
            (
                MissingImpedance,
                "transformers[0].short_circuit_voltage_percent",
                lambda g: replace(
                    g,
                    transformers=(replace(g.transformers[0], short_circuit_voltage_percent=0.0),),
                ),
            ),
            (
                MemberWithoutBus,
                "connection_points[0].bus",
                lambda g: replace(g, connection_points={"new": "nowhere"}),
            ),
            (UnknownReference, "lines[0]", lambda g: changed_line(g, to_bus="nowhere")),
            (
                DuplicateIdentifier,
                "buses[1].id",
                lambda g: replace(g, buses=(g.buses[0], *g.buses)),
            ),
            (
                OutOfRange,
                "lines[0].rated_current_a",
                lambda g: changed_line(g, rated_current_a=0.0),
            ),
            (MalformedInput, "lines[0]", lambda g: changed_line(g, from_bus="bus-medium-voltage")),
            (
                OutOfRange,
                "source.voltage_per_unit",
                lambda g: replace(g, source=replace(g.source, voltage_per_unit=20.0)),
            ),
        ],
    )
    def test_is_named(
        self, kind: type[InputError], field: str, broken: Callable[[GridModel], GridModel]
    ) -> None:
        faults = broken(village()).faults()
        assert any(type(fault) is kind and fault.field.startswith(field) for fault in faults)
        assert all(fault.remedy for fault in faults)
        with pytest.raises(InputError):
            broken(village()).check()

    def test_every_bus_of_an_island_is_named(self) -> None:
        grid = village()
        cut = grid.lines[0]
        graph = nx.Graph(end for end in grid.ends() if set(end) != {cut.from_bus, cut.to_bus})
        graph.add_nodes_from(bus.id for bus in grid.buses)
        island = {bus.id for bus in grid.buses} - nx.node_connected_component(
            graph, grid.source.bus
        )
        found = replace(grid, lines=grid.lines[1:]).faults()
        assert {fault.value for fault in found} == island


def changed_line(grid: GridModel, **fields: object) -> GridModel:
    return replace(grid, lines=(replace(grid.lines[0], **fields), *grid.lines[1:]))  # type: ignore[arg-type]


class TestStructure:
    def test_zones_are_simbenchs_feeders(self) -> None:
        zones = village().zones()
        theirs = {bus.bus: bus.zone for bus in load_feeder().buses}
        # The names of equally large feeders may be exchanged.
        assert len(set(zip(zones.values(), theirs.values(), strict=True))) == len(
            set(theirs.values())
        )
        assert {bus for bus in zones if zones[bus] == "substation"} == {
            bus for bus in theirs if theirs[bus] == "substation"
        }

    def test_a_ring_is_one_zone_and_one_loop(self) -> None:
        grid = village()
        zones = grid.zones()
        one, other = (next(b for b in zones if zones[b] == f"feeder-{n}") for n in (1, 2))
        ring = replace(grid, lines=(*grid.lines, Line("tie", one, other, 0.01, 0.01, 0, 270)))
        assert ring.loops() == 1
        assert len(set(ring.zones().values())) == len(set(zones.values())) - 1

    @pytest.mark.parametrize("kind", ["thevenin-resistance", "ptdf"])
    def test_distances_are_paths_on_a_radial_grid(self, kind: str, tmp_path: Path) -> None:
        file = tmp_path / "new" / "matrix.csv"
        run = CliRunner().invoke(
            app, ["grid", "distances", "--kind", kind, "--output", str(file), "--json"]
        )
        assert run.exit_code == 0, run.output
        found = json.loads(run.stdout)
        buses, branches = village().branches()
        graph = nx.Graph()
        for branch in branches:
            weight = 1 if kind == "ptdf" else branch.resistance_ohm
            graph.add_edge(branch.from_bus, branch.to_bus, weight=weight)
        lengths = nx.single_source_dijkstra_path_length(graph, village().source.bus)
        assert [bus["bus"] for bus in found["buses"]] == buses
        for bus in found["buses"]:
            assert bus["distance_to_source"] == pytest.approx(lengths[bus["bus"]], abs=1e-9)
        rows = file.read_text().splitlines()
        assert len(rows) == len(buses) + 1
        assert rows[0].split(",")[1:] == buses


class TestPandapowerFiles:
    @pytest.mark.parametrize("name", ["create_cigre_network_mv", "create_kerber_landnetz_kabel_1"])
    def test_flow_of_the_file_is_pandapowers(self, name: str, tmp_path: Path) -> None:
        """Networks that pandapower ships, with open switches, taps, shifted vectors, and a loop once closed."""
        with quietly():
            import pandapower as pp
            from pandapower import networks

            net = getattr(networks, name)()
            if "cigre" in name:
                net.switch["closed"] = True
            pp.runpp(net, trafo_model="pi", calculate_voltage_angles=True, numba=False)
            path = tmp_path / "net.json"
            pp.to_json(net, str(path))
        grid = read_grid(path).check()
        if "cigre" in name:
            assert grid.loops() > 0
        flow = GridPowerFlow(grid)
        state = flow.run(np.zeros((1, len(grid.connection_points))))
        voltage = dict(zip([bus.id for bus in grid.buses], state.voltage_per_unit[0], strict=True))
        names = net.bus["name"].tolist()
        for index, theirs in net.res_bus["vm_pu"].items():
            name = net.bus["name"][index]
            bus = name if name and names.count(name) == 1 else f"bus {index}"
            if bus in voltage:
                assert voltage[bus] == pytest.approx(theirs, abs=1e-5)
        assert state.source_w[0] == pytest.approx(net.res_ext_grid["p_mw"].iloc[0] * 1e6, rel=1e-4)

    def test_round_trip_of_the_bundled_grid(self, tmp_path: Path) -> None:
        grid = village()
        (tmp_path / "net.json").write_text(village_json())
        again = read_grid(tmp_path / "net.json").check()
        assert again.buses == tuple(
            replace(b, longitude_degree=None, latitude_degree=None) for b in grid.buses
        )
        assert [line.id for line in again.lines] == [line.id for line in grid.lines]
        quiet = np.zeros(len(grid.connection_points))
        state = GridPowerFlow(again).run(np.zeros((1, len(again.connection_points)))).values()[0]
        np.testing.assert_allclose(
            state, pandapower_values(pandapower_net(grid), quiet, compiled=False), atol=1e-8
        )

    def test_a_tap_without_a_type_has_no_effect_as_in_pandapower(self, tmp_path: Path) -> None:
        data = json.loads(village_json())
        table = json.loads(data["_object"]["trafo"]["_object"])
        table["data"][0][table["columns"].index("tap_changer_type")] = None
        data["_object"]["trafo"]["_object"] = json.dumps(table)
        path = tmp_path / "net.json"
        path.write_text(json.dumps(data))
        grid = read_grid(path).check()
        quiet = np.zeros(len(grid.connection_points))
        with quietly():
            import pandapower as pp

            theirs = pandapower_values(pp.from_json(str(path)), np.zeros(118), compiled=False)
        np.testing.assert_allclose(GridPowerFlow(grid).run(quiet).values()[0], theirs, atol=1e-6)
        assert village().transformers[0].tap_position == -1

    @pytest.mark.parametrize("table", ["shunt", "gen", "trafo3w", "ext_grid"])
    def test_what_is_not_supported_is_refused_by_name(self, table: str, tmp_path: Path) -> None:
        data = json.loads(village_json())
        frame = json.loads(data["_object"][table]["_object"])
        frame["index"].append(1)
        frame["data"].append([name == "in_service" for name in frame["columns"]])
        data["_object"][table]["_object"] = json.dumps(frame)
        path = tmp_path / "net.json"
        path.write_text(json.dumps(data))
        with pytest.raises(MalformedInput) as caught:
            read_grid(path)
        assert caught.value.field == table


@cache
def village_json() -> str:
    """The bundled grid as pandapower writes it."""
    with quietly():
        import pandapower as pp

        return str(pp.to_json(pandapower_net(village())))


class TestPowerGridModelFiles:
    def file(self, **changes: object) -> dict[str, object]:
        data = {
            "node": [{"id": n, "u_rated": 400.0 if n else 20000.0} for n in range(4)],
            "line": [
                {"id": 10, "from_node": 1, "to_node": 2, "from_status": 1, "to_status": 1,
                 "r1": 0.05, "x1": 0.02, "c1": 1e-8, "tan1": 0.0, "i_n": 270.0}
            ],
            "link": [{"id": 11, "from_node": 2, "to_node": 3, "from_status": 1, "to_status": 1}],
            "transformer": [
                {"id": 12, "from_node": 0, "to_node": 1, "from_status": 1, "to_status": 1, "u1": 20000.0, "u2": 400.0,
                 "sn": 250e3, "uk": 0.04, "pk": 3000.0, "i0": 0.003, "p0": 600.0, "winding_from": 2, "winding_to": 1,
                 "clock": 5, "tap_side": 0, "tap_pos": 1, "tap_min": -2, "tap_max": 2, "tap_size": 500.0}
            ],
            "source": [{"id": 13, "node": 0, "status": 1, "u_ref": 1.02, "sk": 1e18}],
            "sym_load": [
                {"id": 14, "node": 3, "status": 1, "type": 0, "p_specified": 60e3, "q_specified": 10e3}
            ],
        }  # fmt: skip
        return {
            "version": "1.0",
            "type": "input",
            "is_batch": False,
            "attributes": {},
            "data": data | changes,
        }

    def test_flow_is_power_grid_models_own(self, tmp_path: Path) -> None:
        from power_grid_model import PowerGridModel
        from power_grid_model.utils import json_deserialize_from_file

        path = tmp_path / "grid.json"
        path.write_text(json.dumps(self.file()))
        theirs = PowerGridModel(json_deserialize_from_file(path)).calculate_power_flow()
        grid = read_grid(path).check()
        state = GridPowerFlow(grid).run(np.zeros((1, 1)))
        assert [bus.id for bus in grid.buses] == ["node 0", "node 1", "node 2"]
        np.testing.assert_allclose(state.voltage_per_unit[0], theirs["node"]["u_pu"][:3], atol=1e-7)
        assert state.line_loading[0, 0] == pytest.approx(theirs["line"]["loading"][0], abs=1e-7)
        assert state.transformer_loading[0, 0] == pytest.approx(
            theirs["transformer"]["loading"][0], abs=1e-7
        )

    def test_missing_plate_and_unknown_part_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "grid.json"
        path.write_text(json.dumps(self.file(shunt=[{"id": 20, "node": 1}])))
        with pytest.raises(MalformedInput, match=r"data\.shunt"):
            read_grid(path)
        (plate,) = self.file()["data"]["transformer"]  # type: ignore[index]
        del plate["uk"]
        path.write_text(json.dumps(self.file(transformer=[plate])))
        with pytest.raises(MissingImpedance, match=r"data\.transformer\[12\]\.uk"):
            read_grid(path)


def test_check_lists_faults_and_exits_with_2(tmp_path: Path) -> None:
    net_json = tmp_path / "net.json"
    data = json.loads(village_json())
    table = json.loads(data["_object"]["line"]["_object"])
    table["data"][0][table["columns"].index("in_service")] = False
    for name in ("r_ohm_per_km", "x_ohm_per_km"):
        table["data"][3][table["columns"].index(name)] = 0.0
    data["_object"]["line"]["_object"] = json.dumps(table)
    net_json.write_text(json.dumps(data))
    run = CliRunner().invoke(app, ["grid", "check", "--grid", str(net_json), "--json"])
    assert run.exit_code == 2
    found = json.loads(run.stdout)
    assert {fault["code"] for fault in found["faults"]} == {
        "grid.bus_out_of_reach",
        "grid.missing_impedance",
    }
    shown = CliRunner().invoke(app, ["grid", "check", "--grid", str(net_json)])
    assert "mend:" in shown.output
    missing = CliRunner().invoke(app, ["grid", "check", "--grid", str(tmp_path / "none.json")])
    assert missing.exit_code == 2


def member_of_pandapower(folder: Path) -> Path:
    data = json.loads(village_json())
    table = json.loads(data["_object"]["sgen"]["_object"])
    table["data"][0][table["columns"].index("bus")] = 999
    data["_object"]["sgen"]["_object"] = json.dumps(table)
    (folder / "net.json").write_text(json.dumps(data))
    return folder / "net.json"


def member_of_power_grid_model(folder: Path) -> Path:
    load = {"id": 14, "node": 9, "status": 1, "type": 0, "p_specified": 0.0, "q_specified": 0.0}
    path = folder / "grid.json"
    path.write_text(json.dumps(TestPowerGridModelFiles().file(sym_load=[load])))
    return path


def member_of_extract(folder: Path) -> Path:
    path = folder / "extract"
    shutil.copytree(str(importlib.resources.files("oracle.data.simbench")), path)
    lines = (path / "connection_points.csv").read_text().splitlines()
    point, _, rest = lines[1].split(",", 2)
    lines[1] = f"{point},nowhere,{rest}"
    (path / "connection_points.csv").write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "written", [member_of_pandapower, member_of_power_grid_model, member_of_extract]
)
@pytest.mark.parametrize("command", ["check", "distances"])
def test_a_member_without_a_bus_is_named_in_every_format(
    written: Callable[[Path], Path], command: str, tmp_path: Path
) -> None:
    run = CliRunner().invoke(app, ["grid", command, "--grid", str(written(tmp_path)), "--json"])
    assert run.exit_code == 2
    assert json.loads(run.stdout)["error"]["code"] == "grid.member_without_bus"


def test_distances_and_coordination_refuse_what_check_names(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    line = {"id": 10, "from_node": 1, "to_node": 2, "from_status": 1, "to_status": 1,
            "r1": 0.0, "x1": 0.0, "c1": 0.0, "tan1": 0.0, "i_n": 270.0}  # fmt: skip
    offers = {
        "format": "peerwatt/grid-offers/1",
        "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
        "import_price_nano_per_wh": 300_000,
        "export_price_nano_per_wh": 60_000,
        "members": [{"id": "anna", "connection_point": "node 2", "fixed_wh": 0}],
    }
    (tmp_path / "offers.json").write_text(json.dumps(offers))
    for change, code in (
        ({"line": [line]}, "grid.missing_impedance"),
        ({"line": []}, "grid.bus_out_of_reach"),
    ):
        path.write_text(json.dumps(TestPowerGridModelFiles().file(**change)))
        for arguments in (
            ["distances", "--grid", str(path)],
            ["coordinate", "--grid", str(path), "--offers", str(tmp_path / "offers.json")],
        ):
            run = CliRunner().invoke(app, ["grid", *arguments, "--json"])
            assert run.exit_code == 2
            assert json.loads(run.stdout)["error"]["code"] == code


def test_bench_refuses_what_is_no_extract(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["bench", "grid", "--extract", str(tmp_path), "--json"])
    assert run.exit_code == 2
    assert json.loads(run.stdout)["error"]["code"] == "input.malformed"
