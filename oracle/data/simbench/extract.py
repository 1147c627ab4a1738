"""Make the SimBench extract that lies next to this file.

SimBench is needed only to run this script, never to use its output:

    python3 -m venv /tmp/simbench
    /tmp/simbench/bin/pip install simbench==1.6.3
    /tmp/simbench/bin/python oracle/data/simbench/extract.py               writes next to itself
    /tmp/simbench/bin/python oracle/data/simbench/extract.py --output DIR  writes elsewhere
    /tmp/simbench/bin/python oracle/data/simbench/extract.py --survey      compares the grids
    ... --grid 1-LV-urban6--2-no_sw --output DIR                           another one, for `peerwatt bench grid --extract DIR`

The output depends on nothing but the SimBench version: a second run gives the same bytes, which
`CHECKSUMS.sha256` lets anybody check. README.md says what the columns mean and why this grid.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import importlib
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

GRID = "1-LV-rural3--2-no_sw"

# Row 0 of every profile. README.md, "Time", gives the evidence that the rows count UTC.
FIRST_ROW_UTC = datetime.datetime(2016, 1, 1, tzinfo=datetime.UTC)
INTERVAL = datetime.timedelta(minutes=15)
INTERVALS_PER_DAY = 96

# (first day, days): a week of winter and four weeks around midsummer, all beginning on a Monday.
WINDOWS = ((datetime.date(2016, 1, 25), 7), (datetime.date(2016, 6, 6), 28))

SUBSTATION = "substation"
KINDS = ("household", "commercial", "pv", "heat_pump", "ev")
SURVEYED_GRIDS = ("rural1", "rural2", "rural3", "semiurb4", "semiurb5", "urban6")


Net = Any  # a pandapower net; pandapower, pandas and SimBench ship no types


class Element(NamedTuple):
    """One load or generator of the grid."""

    bus: int
    kind: str
    profile: str
    rated_power_w: int
    name: str


def main() -> None:
    """Read the command line, then write the extract or print the survey."""
    parser = argparse.ArgumentParser(description="Extract one SimBench grid as open files.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument(
        "--grid", default=GRID, help="SimBench code; what is bundled is %(default)s"
    )
    parser.add_argument("--survey", action="store_true", help="compare the low-voltage grids")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # pandas' own, about how SimBench calls it
    if arguments.survey:
        survey()
    else:
        extract(arguments.output, arguments.grid)


def extract(output: Path, grid: str) -> None:
    """Write every file of the extract into the directory `output`."""
    net = load_net(grid)
    zones = zones_of(net)
    elements = elements_of(net)
    output.mkdir(parents=True, exist_ok=True)
    write_profiles(output, net, elements)
    write_connection_points(output, net, zones, elements)
    write_buses(output, net, zones)
    write_lines(output, net)
    write_transformer(output, net)
    write_checksums(output)


def load_net(code: str) -> Net:
    """The grid `code` as a pandapower net; imported late so that the module imports without it."""
    return importlib.import_module("simbench").get_simbench_net(code)


def kind_of(profile: str) -> str:
    """Our word for what a SimBench load profile describes."""
    if profile.startswith("H0"):
        return "household"
    if profile.startswith(("G", "L")):  # trade (Gewerbe) and agriculture (Landwirtschaft)
        return "commercial"
    if profile.startswith(("Air", "Soil")):  # heat source of the heat pump
        return "heat_pump"
    if profile.startswith(("HLS", "APLS")):  # charging at home, at work (Ladestation)
        return "ev"
    raise ValueError(f"SimBench load profile {profile!r} is of no kind known here")


def elements_of(net: Net) -> list[Element]:
    """Loads and PV of the grid. Storage is left out, as README.md explains."""
    loads = [
        Element(int(row.bus), kind_of(row.profile), row.profile, watts(row.p_mw), row.name_)
        for row in net.load.rename(columns={"name": "name_"}).itertuples()
    ]
    generators = [
        Element(int(row.bus), "pv", row.profile, watts(row.p_mw), row.name_)
        for row in net.sgen.rename(columns={"name": "name_"}).itertuples()
    ]
    if any(not element.profile.startswith("PV") for element in generators):
        raise ValueError("this grid has generators other than PV")
    return sorted(loads + generators, key=lambda element: element_order(net, element))


def element_order(net: Net, element: Element) -> tuple[int, int, int]:
    """By bus, by kind, by SimBench's own number."""
    bus_number = number_in(net.bus.name[element.bus])
    return bus_number, KINDS.index(element.kind), number_in(element.name)


def watts(power_mw: float) -> int:
    """Megawatts as whole watts; refuses a rating that would lose digits."""
    power_w = round(power_mw * 1e6)
    if abs(power_w - power_mw * 1e6) > 1e-3:
        raise ValueError(f"rating of {power_mw} MW is not a whole number of watts")
    return power_w


def zones_of(net: Net) -> dict[int, str]:
    """The zone of every bus: the branch it hangs on when the transformer's busbar is taken away.

    Branches are numbered from the one with the most households to the one with the fewest; among
    equals the one with the lowest bus number comes first.
    """
    topology = importlib.import_module("pandapower.topology")
    networkx = importlib.import_module("networkx")
    busbar = int(net.trafo.lv_bus.iloc[0])
    source = int(net.trafo.hv_bus.iloc[0])
    graph = topology.create_nxgraph(net, include_trafos=False)
    graph.remove_nodes_from([busbar, source])
    households = [int(load.bus) for load in net.load.itertuples() if load.profile.startswith("H0")]
    branches = sorted(
        networkx.connected_components(graph),
        key=lambda branch: (
            -sum(bus in branch for bus in households),
            min(number_in(net.bus.name[bus]) for bus in branch),
        ),
    )
    zones = {busbar: SUBSTATION, source: SUBSTATION}
    for number, branch in enumerate(branches, start=1):
        zones.update(dict.fromkeys((int(bus) for bus in branch), f"feeder-{number}"))
    return zones


def number_in(simbench_name: str) -> int:
    """SimBench's number of a thing: 50 for `LV3.101 Bus 50`."""
    return int(simbench_name.rsplit(" ", 1)[1])


def bus_id(net: Net, bus: int) -> str:
    """Our name of a bus, from SimBench's, so that it outlives pandapower's own numbering."""
    if bus == int(net.trafo.hv_bus.iloc[0]):
        return "bus-medium-voltage"
    return f"bus-{number_in(net.bus.name[bus]):03d}"


def write_profiles(output: Path, net: Net, elements: Iterable[Element]) -> None:
    """Active power per unit of the rated power, for the windows only."""
    columns: dict[str, Any] = {}
    for element in elements:
        if element.kind == "pv":
            columns[element.profile] = net.profiles["renewables"][element.profile].to_numpy()
        else:
            columns[element.profile] = net.profiles["load"][f"{element.profile}_pload"].to_numpy()
    names = sorted(columns)
    rows = []
    for first_day, days in WINDOWS:
        midnight = datetime.datetime.combine(first_day, datetime.time(), tzinfo=datetime.UTC)
        first_row = (midnight - FIRST_ROW_UTC) // INTERVAL
        for row in range(first_row, first_row + days * INTERVALS_PER_DAY):
            start = FIRST_ROW_UTC + row * INTERVAL
            values = [decimal(columns[name][row], 5) for name in names]
            rows.append([start.strftime("%Y-%m-%dT%H:%M:%SZ"), *values])
    write(output / "profiles.csv", ["interval_start_utc", *names], rows)


def write_connection_points(
    output: Path, net: Net, zones: dict[int, str], elements: Sequence[Element]
) -> None:
    """One row for each element; elements at the same bus are behind the same meter."""
    header = [
        "connection_point",
        "bus",
        "zone",
        "kind",
        "profile",
        "rated_power_w",
        "simbench_element",
    ]
    numbers = {bus: n for n, bus in enumerate(dict.fromkeys(e.bus for e in elements), start=1)}
    rows = []
    for element in elements:
        rows.append(
            [
                f"cp{numbers[element.bus]:03d}",
                bus_id(net, element.bus),
                zones[element.bus],
                element.kind,
                element.profile,
                str(element.rated_power_w),
                element.name,
            ]
        )
    write(output / "connection_points.csv", header, rows)


def write_buses(output: Path, net: Net, zones: dict[int, str]) -> None:
    """Buses with their place on the map, as far as SimBench gives it (four decimals)."""
    header = [
        "bus",
        "zone",
        "nominal_voltage_v",
        "longitude_degree",
        "latitude_degree",
        "simbench_element",
    ]
    rows = []
    for bus in net.bus.itertuples():
        longitude, latitude = json.loads(bus.geo)["coordinates"][:2]
        rows.append(
            [
                bus_id(net, bus.Index),
                zones[bus.Index],
                str(round(bus.vn_kv * 1e3)),
                decimal(longitude, 6),
                decimal(latitude, 6),
                bus.name,
            ]
        )
    write(output / "buses.csv", header, sorted(rows))


def write_lines(output: Path, net: Net) -> None:
    """Lines with their totals over the length; parallel systems are merged into one."""
    header = [
        "line",
        "from_bus",
        "to_bus",
        "length_m",
        "resistance_ohm",
        "reactance_ohm",
        "capacitance_nanofarad",
        "rated_current_a",
        "simbench_element",
    ]
    rows = []
    for line in net.line.itertuples():
        rows.append(
            [
                f"line-{number_in(line.name):03d}",
                bus_id(net, line.from_bus),
                bus_id(net, line.to_bus),
                decimal(line.length_km * 1e3, 5),
                decimal(line.r_ohm_per_km * line.length_km / line.parallel, 9),
                decimal(line.x_ohm_per_km * line.length_km / line.parallel, 9),
                decimal(line.c_nf_per_km * line.length_km * line.parallel, 6),
                decimal(line.max_i_ka * 1e3 * line.df * line.parallel, 3),
                line.name,
            ]
        )
    write(output / "lines.csv", header, sorted(rows))


def write_transformer(output: Path, net: Net) -> None:
    """The one transformer, and the voltage SimBench holds on its high-voltage side."""
    (transformer,) = net.trafo.itertuples()
    (source,) = net.ext_grid.itertuples()
    fields = {
        "transformer": "transformer-1",
        "high_voltage_bus": bus_id(net, transformer.hv_bus),
        "low_voltage_bus": bus_id(net, transformer.lv_bus),
        "rated_power_va": str(round(transformer.sn_mva * 1e6)),
        "high_voltage_v": str(round(transformer.vn_hv_kv * 1e3)),
        "low_voltage_v": str(round(transformer.vn_lv_kv * 1e3)),
        "short_circuit_voltage_percent": decimal(transformer.vk_percent, 6),
        "short_circuit_resistance_percent": decimal(transformer.vkr_percent, 6),
        "iron_loss_w": decimal(transformer.pfe_kw * 1e3, 3),
        "no_load_current_percent": decimal(transformer.i0_percent, 6),
        "phase_shift_degree": decimal(transformer.shift_degree, 3),
        "tap_side": {"hv": "high_voltage", "lv": "low_voltage"}[transformer.tap_side],
        "tap_position": str(int(transformer.tap_pos)),
        "tap_neutral": str(int(transformer.tap_neutral)),
        "tap_minimum": str(int(transformer.tap_min)),
        "tap_maximum": str(int(transformer.tap_max)),
        "tap_step_percent": decimal(transformer.tap_step_percent, 6),
        "source_voltage_per_unit": decimal(source.vm_pu, 6),
        "simbench_element": transformer.name,
    }
    write(output / "transformer.csv", list(fields), [list(fields.values())])


def decimal(value: float, places: int) -> str:
    """`value` with at most `places` decimals and no trailing zeros, so that files stay small."""
    text = f"{value:.{places}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A CSV file with Unix line ends on every system, or the checksums would differ."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_checksums(output: Path) -> None:
    """SHA-256 of every file here but the code and the list itself, as `sha256sum -c` reads it."""
    lines = []
    for path in sorted(output.iterdir()):
        if path.is_file() and path.suffix not in (".py", ".sha256"):
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (output / "CHECKSUMS.sha256").write_text("".join(lines), encoding="utf-8", newline="\n")


def survey() -> None:
    """Print, for every low-voltage grid and scenario, what hangs on each feeder.

    PV, heat pumps and charging points are counted where a household is behind the same bus.
    """
    print("grid            zone      households  pv  heat_pump  ev  commercial")
    for grid in SURVEYED_GRIDS:
        for scenario in (0, 1, 2):
            net = load_net(f"1-LV-{grid}--{scenario}-no_sw")
            zones = zones_of(net)
            elements = elements_of(net)
            homes = {element.bus for element in elements if element.kind == "household"}
            for zone in sorted(set(zones.values()) - {SUBSTATION}):
                here = [element for element in elements if zones[element.bus] == zone]
                at_home = [element for element in here if element.bus in homes]
                pv, heat_pumps, evs = (
                    len({element.bus for element in at_home if element.kind == kind})
                    for kind in ("pv", "heat_pump", "ev")
                )
                households = sum(element.kind == "household" for element in here)
                commercial = sum(element.kind == "commercial" for element in here)
                print(
                    f"{grid:10s}  {scenario}   {zone:10s}{households:10d}{pv:4d}{heat_pumps:11d}"
                    f"{evs:4d}{commercial:12d}"
                )


if __name__ == "__main__":
    main()
