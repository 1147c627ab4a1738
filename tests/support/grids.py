"""Grids for tests of electrical distances: real ones, random ones, and the definitions a second time.

The definitions are written densely, with the pseudo-inverse of the nodal matrix; they share nothing with the code under test.
"""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from backend.domain.case import Network
from backend.market.electrical_distance import ptdf_distances, thevenin_distances
from backend.market.grid_branches import DistanceKind, GridBranch, transformer_branch

TESTS = Path(__file__).parent.parent
ADDITIVE: tuple[DistanceKind, ...] = (
    "ptdf",
    "thevenin-reactance",
    "thevenin-resistance",
    "thevenin-impedance",
)
EVERY_KIND: tuple[DistanceKind, ...] = (*ADDITIVE, "thevenin-complex")

Grid = tuple[list[str], list[GridBranch]]
Matrix = npt.NDArray[np.float64]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def grid_of(branches: list[GridBranch]) -> Grid:
    ends = (bus for branch in branches for bus in (branch.from_bus, branch.to_bus))
    return list(dict.fromkeys(ends)), branches


def village_feeder() -> Grid:
    """The grid that Peerwatt's demonstration runs on: low voltage, 129 buses, the transformer included."""
    data = Path(str(importlib.resources.files("oracle.data.simbench")))
    (plate,) = rows_of(data / "transformer.csv")
    transformer = transformer_branch(
        plate["transformer"],
        plate["high_voltage_bus"],
        plate["low_voltage_bus"],
        rated_power_va=float(plate["rated_power_va"]),
        referred_to_voltage_v=float(plate["low_voltage_v"]),
        short_circuit_voltage_percent=float(plate["short_circuit_voltage_percent"]),
        short_circuit_resistance_percent=float(plate["short_circuit_resistance_percent"]),
    )
    lines = [
        GridBranch(
            row["line"],
            row["from_bus"],
            row["to_bus"],
            float(row["resistance_ohm"]),
            float(row["reactance_ohm"]),
        )
        for row in rows_of(data / "lines.csv")
    ]
    return [row["bus"] for row in rows_of(data / "buses.csv")], [*lines, transformer]


def simbench_grid(name: str, rings_closed: bool = False) -> Grid:
    return grid_of(
        [
            GridBranch(
                row["branch"],
                row["from_bus"],
                row["to_bus"],
                float(row["resistance_ohm"]),
                float(row["reactance_ohm"]),
            )
            for row in rows_of(TESTS / "data" / "simbench_grids" / f"{name}.branches.csv")
            if rings_closed or row["switch"] == "closed"
        ]
    )


def ieee39() -> Grid:
    """New England, 345 kV; its transformers as plain reactances."""
    ohm_per_unit = 345**2 / 100
    branches = [
        GridBranch(
            row["branch"],
            row["from_bus"],
            row["to_bus"],
            float(row["resistance_per_unit"]) * ohm_per_unit,
            float(row["reactance_per_unit"]) * ohm_per_unit,
        )
        for row in rows_of(TESTS / "data" / "ieee39" / "branches.csv")
    ]
    return [str(number) for number in range(1, 40)], branches


RADIAL = {
    "village, low voltage": village_feeder,
    "city, low voltage": lambda: simbench_grid("lv-urban6"),
    "country, medium voltage": lambda: simbench_grid("mv-rural"),
}
MESHED = {
    "country, medium voltage, rings closed": lambda: simbench_grid("mv-rural", rings_closed=True),
    "IEEE 39": ieee39,
}


def distances(grid: Grid, kind: DistanceKind, between: Sequence[str] | None = None) -> Matrix:
    if kind == "ptdf":
        return ptdf_distances(*grid, between)
    return thevenin_distances(*grid, kind, between)


def definition(grid: Grid, kind: DistanceKind) -> Matrix:
    """The slides' distances by dense algebra, sharing nothing with the code under test."""
    buses, branches = grid
    starts = np.zeros((len(branches), len(buses)))
    for row, branch in enumerate(branches):
        starts[row, buses.index(branch.from_bus)] += 1
        starts[row, buses.index(branch.to_bus)] -= 1
    impedance = np.array([complex(b.resistance_ohm, b.reactance_ohm) for b in branches])
    weight = {
        "ptdf": impedance.imag,
        "thevenin-reactance": impedance.imag,
        "thevenin-resistance": impedance.real,
        "thevenin-impedance": abs(impedance),
        "thevenin-complex": impedance,
    }[kind]
    inverse = np.linalg.pinv(starts.T @ np.diag(1 / weight) @ starts, rcond=1e-13)
    if kind == "ptdf":
        ptdf = np.diag(1 / weight) @ starts @ inverse
        counts = np.array([branch.ptdf_weight for branch in branches])
        differences = np.abs(ptdf[:, :, None] - ptdf[:, None, :])
        return np.tensordot(counts, differences, axes=1)
    own = np.diag(inverse)
    return np.abs(own[:, None] + own[None, :] - inverse - inverse.T)


def cheapest_paths(network: Network) -> npt.NDArray[np.int64]:
    """Shortest paths by networkx over the integer fees, access left out."""
    graph = nx.Graph()
    graph.add_nodes_from(node.id for node in network.nodes)
    for edge in network.edges:
        graph.add_edge(edge.from_node, edge.to_node, weight=edge.fee_nano_per_wh)
    found = dict(nx.all_pairs_dijkstra_path_length(graph))
    names = [node.id for node in network.nodes]
    return np.array([[found[one][other] for other in names] for one in names], dtype=np.int64)


def shortest_weights(grid: Grid, kind: DistanceKind) -> Matrix:
    """Shortest paths by networkx over the branches' own weights (none in parallel)."""
    graph = nx.Graph()
    for branch in grid[1]:
        weight = {
            "ptdf": branch.ptdf_weight,
            "thevenin-reactance": branch.reactance_ohm,
            "thevenin-resistance": branch.resistance_ohm,
            "thevenin-impedance": abs(complex(branch.resistance_ohm, branch.reactance_ohm)),
        }[kind]
        if not graph.has_edge(branch.from_bus, branch.to_bus):
            graph.add_edge(branch.from_bus, branch.to_bus, weight=weight)
    found = dict(nx.all_pairs_dijkstra_path_length(graph))
    return np.array([[found[one][other] for other in grid[0]] for one in grid[0]])


def lines_between(grid: Grid) -> Matrix:
    return shortest_weights(
        (grid[0], [replace(branch, ptdf_weight=1) for branch in grid[1]]), "ptdf"
    )


# Random grids: impedances are whole micro-ohms, so that at 1000 nano per milliohm every fee is whole.
MICRO_OHM = st.one_of(st.sampled_from([1, 10, 100_000]), st.integers(1, 1_000_000))


@st.composite
def trees(draw: st.DrawFn, largest: int = 12) -> Grid:
    count = draw(st.integers(1, largest))
    branches = [
        GridBranch(
            f"l{child}",
            f"b{draw(st.integers(0, child - 1))}",
            f"b{child}",
            draw(MICRO_OHM) / 10**6,
            draw(MICRO_OHM) / 10**6,
            draw(st.sampled_from([0, 1, 1.0, 2.5])),
        )
        for child in range(1, count)
    ]
    return [f"b{index}" for index in range(count)], branches


@st.composite
def meshes(draw: st.DrawFn) -> Grid:
    buses, branches = draw(trees())
    if len(buses) > 1:
        ends = st.lists(st.sampled_from(buses), min_size=2, max_size=2, unique=True)
        for index, (one, other) in enumerate(draw(st.lists(ends, max_size=6))):
            ohms = draw(MICRO_OHM) / 10**6, draw(MICRO_OHM) / 10**6
            branches = [*branches, GridBranch(f"x{index}", one, other, *ohms)]
    return buses, branches


def scale_of(matrix: Matrix) -> float:
    return float(matrix.max(initial=0)) or 1.0
