"""Electrical distance: what a radial feeder's own graph charges is the slides' pairwise definition, on real grids and random ones.

The definitions are written here a second time, densely, with the pseudo-inverse of the nodal matrix.
"""

from __future__ import annotations

import csv
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.case import ClearingCase, Network, NetworkNode
from backend.domain.errors import (
    DisconnectedNetwork,
    DuplicateIdentifier,
    InputError,
    MalformedInput,
    OutOfRange,
    UnknownReference,
)
from backend.market.electrical_distance import ptdf_distances, thevenin_distances
from backend.market.electrical_distance_fees import (
    PairFees,
    electrical_distance_fees,
    electrical_distance_network,
    electrical_distance_pair_fees,
    network_pair_fees,
)
from backend.market.grid_branches import (
    DistanceKind,
    GridBranch,
    is_radial,
    transformer_branch,
)
from backend.market.network import uniform_network, zonal_network
from backend.market.pool import clear_case

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


class TestRadialGrids:
    @pytest.fixture(params=RADIAL.values(), ids=RADIAL.keys())
    def grid(self, request: pytest.FixtureRequest) -> Grid:
        found: Grid = request.param()
        return found

    def test_is_radial(self, grid: Grid) -> None:
        assert is_radial(*grid)

    @pytest.mark.parametrize("kind", EVERY_KIND)
    def test_sparse_distance_is_the_definition(self, grid: Grid, kind: DistanceKind) -> None:
        expected = definition(grid, kind)
        np.testing.assert_allclose(distances(grid, kind), expected, rtol=1e-9, atol=1e-10)

    @pytest.mark.parametrize("kind", ADDITIVE)
    def test_network_charges_the_definition_for_every_pair(
        self, grid: Grid, kind: DistanceKind
    ) -> None:
        unit_fee = 20_000 if kind == "ptdf" else 100
        scale = unit_fee * (1 if kind == "ptdf" else 1000)
        network = electrical_distance_network(*grid, unit_fee, kind)
        charged = cheapest_paths(network)
        # Half a nano per Wh for each branch passed is all that rounding may do.
        difference = np.abs(charged - scale * definition(grid, kind))
        assert (difference <= lines_between(grid) / 2 + 1e-3).all()
        if kind == "ptdf":
            assert np.array_equal(charged, np.rint(scale * distances(grid, kind)).astype(np.int64))

    @pytest.mark.parametrize("kind", ["thevenin-reactance", "thevenin-resistance"])
    def test_network_is_exact_where_no_edge_is_rounded(
        self, grid: Grid, kind: DistanceKind
    ) -> None:
        # The lines have nine decimals of an ohm, so at a million nano per milliohm every fee is whole.
        grid = grid_of([branch for branch in grid[1] if "line" in branch.id.lower()])
        charged = cheapest_paths(electrical_distance_network(*grid, 10**6, kind))
        assert np.array_equal(charged, np.rint(1e9 * definition(grid, kind)).astype(np.int64))

    def test_modulus_of_complex_impedance_does_not_add_up(self, grid: Grid) -> None:
        summed = distances(grid, "thevenin-impedance")
        complex_distance = distances(grid, "thevenin-complex")
        assert (complex_distance <= summed * (1 + 1e-12)).all()
        # At the worst pair the sum of moduli is 14, 9 and 23 % above the modulus of the sum in the three grids.
        assert (summed > 1.09 * complex_distance).any()
        with pytest.raises(MalformedInput, match=r"kind: the modulus of a complex impedance"):
            electrical_distance_network(*grid, 100, "thevenin-complex")
        fees = electrical_distance_fees(*grid, 100, "thevenin-complex")
        assert isinstance(fees, PairFees)
        assert "complex" in fees.reason

    @pytest.mark.parametrize("kind", ADDITIVE)
    def test_pair_fees_are_what_the_network_charges(self, grid: Grid, kind: DistanceKind) -> None:
        access = {bus: 100 + index for index, bus in enumerate(grid[0])}
        network = electrical_distance_fees(*grid, 777, kind, access)
        assert isinstance(network, Network)
        assert network == electrical_distance_network(*grid, 777, kind, access)
        at_ends = np.array(list(access.values()))
        expected = cheapest_paths(network) + at_ends[:, None] + at_ends[None, :]
        fees = electrical_distance_pair_fees(*grid, 777, kind, access)
        assert np.array_equal(fees.fee_nano_per_wh, expected)
        assert fees.buses == tuple(grid[0])


class TestMeshedGrids:
    @pytest.fixture(params=MESHED.values(), ids=MESHED.keys())
    def grid(self, request: pytest.FixtureRequest) -> Grid:
        found: Grid = request.param()
        return found

    def test_has_loops(self, grid: Grid) -> None:
        assert not is_radial(*grid)

    @pytest.mark.parametrize("kind", ["ptdf", "thevenin-reactance", "thevenin-complex"])
    def test_pair_fees_are_the_definition(self, grid: Grid, kind: DistanceKind) -> None:
        expected = definition(grid, kind)
        np.testing.assert_allclose(distances(grid, kind), expected, rtol=1e-9, atol=1e-9)
        unit_fee = 20_000 if kind == "ptdf" else 3
        scale = unit_fee * (1 if kind == "ptdf" else 1000)
        fees = electrical_distance_fees(*grid, unit_fee, kind, 500)
        assert isinstance(fees, PairFees)
        assert np.abs(fees.fee_nano_per_wh - (scale * expected + 1000)).max() <= 0.5 + 1e-3

    @pytest.mark.parametrize("kind", ["ptdf", "thevenin-reactance"])
    def test_network_is_refused_with_the_reason(self, grid: Grid, kind: DistanceKind) -> None:
        with pytest.raises(MalformedInput, match=r"independent loops .* not the sum along a path"):
            electrical_distance_network(*grid, 100, kind)


# Once compared with pandapower 3.5.6, which is no dependency: sums over |PTDF_l,n - PTDF_l,m| from its makePTDF (slack at
# bus 1, 31 or 39, taps set to 1) differ from `ptdf_distances` on these 39 buses by at most 5.6e-14; with taps counted in the
# reactances (x times ratio) on both sides by at most 5.9e-14; and leaving the taps out changes no distance by more than 0.0006.
class TestIeee39:
    """Where the path metric fails: New England's transmission grid, 39 buses, 46 branches, 8 independent loops."""

    def largest_difference(self, kind: DistanceKind) -> tuple[float, set[str], float, float]:
        grid = ieee39()
        path, defined = shortest_weights(grid, kind), distances(grid, kind)
        one, other = np.unravel_index(np.abs(path - defined).argmax(), path.shape)
        found = float(path[one, other]), float(defined[one, other])
        return abs(found[0] - found[1]), {grid[0][one], grid[0][other]}, *found

    def test_ptdf_distance_is_longer_than_the_path(self) -> None:
        # From bus 29 to 39 there are five lines, but the flow spreads over so many that it counts as 8.6.
        difference, ends, path, defined = self.largest_difference("ptdf")
        assert ends == {"29", "39"}
        assert (path, defined) == (5, pytest.approx(8.59703, abs=1e-5))
        assert difference == pytest.approx(3.59703, abs=1e-5)

    def test_thevenin_distance_is_shorter_than_the_path(self) -> None:
        difference, ends, path, defined = self.largest_difference("thevenin-reactance")
        assert ends == {"9", "38"}
        assert path == pytest.approx(250.072, abs=1e-3)  # ohm at 345 kV
        assert defined == pytest.approx(124.472, abs=1e-3)
        assert difference == pytest.approx(125.600, abs=1e-3)

    def test_agents_at_the_same_bus(self) -> None:
        # Bus 31 has a consumer and a generator: the pair pays the access fees only.
        fees = electrical_distance_pair_fees(*ieee39(), 1000, "ptdf", 7, ["39", "31", "31", "1"])
        assert fees.buses == ("39", "31", "31", "1")
        assert fees.fee_nano_per_wh[1, 2] == fees.between("31", "31") == 14
        assert fees.between("39", "1") == fees.fee_nano_per_wh[0, 3] > 1000
        with pytest.raises(UnknownReference, match="other: no such bus"):
            fees.between("39", "2")
        with pytest.raises(ValueError, match="read-only"):
            fees.fee_nano_per_wh[0, 0] = 0

    def test_a_branch_without_resistance_has_no_resistance_distance(self) -> None:
        with pytest.raises(
            OutOfRange, match=r"branches\[35\].resistance_ohm: branch 2-30 has less"
        ):
            distances(ieee39(), "thevenin-resistance")


def test_trades_pay_the_electrical_distance() -> None:
    buses, branches = village_feeder()
    network = electrical_distance_network(
        buses, branches, 500, "thevenin-resistance", dict.fromkeys(buses, 1000)
    )
    members = [
        {"id": f"m{index:03d}", "node": bus, "tariff_class": "household", "net_wh": net}
        for index, (bus, net) in enumerate(
            zip(buses[::3], [900, -400, -300, 500, -600, 0] * 8, strict=False)
        )
    ]
    case = ClearingCase.parse(
        {
            "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
            "network": network.model_dump(by_alias=True),
            "tariff_classes": [
                {
                    "id": "household",
                    "import_price_nano_per_wh": 300_000,
                    "export_price_nano_per_wh": 60_000,
                }
            ],
            "members": members,
        }
    )
    clearing = clear_case(case)
    assert clearing.duality_gap_nano == 0
    assert clearing.trades
    at = {member.id: member.node for member in case.members}
    fees = electrical_distance_pair_fees(
        buses, branches, 500, "thevenin-resistance", dict.fromkeys(buses, 1000)
    )
    for trade in clearing.trades:
        per_wh = fees.between(at[trade.seller], at[trade.buyer])
        assert trade.fee_nano == trade.energy_wh * per_wh


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


@given(trees(), st.sampled_from(ADDITIVE))
def test_on_a_tree_distance_adds_up_along_the_path(grid: Grid, kind: DistanceKind) -> None:
    expected = shortest_weights(grid, kind) if grid[1] else np.zeros((1, 1))
    found = distances(grid, kind)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale_of(expected))


@given(trees(), st.sampled_from(["ptdf", "thevenin-reactance", "thevenin-resistance"]))
def test_on_a_tree_integer_fees_add_up_exactly(grid: Grid, kind: DistanceKind) -> None:
    network = electrical_distance_network(*grid, 1000, kind)
    factor = 1000 if kind == "ptdf" else 10**6
    charged = cheapest_paths(network)
    assert np.array_equal(charged, np.rint(factor * distances(grid, kind)).astype(np.int64))
    assert np.array_equal(network_pair_fees(network).fee_nano_per_wh, charged)


@given(trees(), st.sampled_from(ADDITIVE), st.decimals("0", "10", places=3))
def test_each_edge_is_rounded_once_to_the_nearest_ties_to_even(
    grid: Grid, kind: DistanceKind, unit_fee: Decimal
) -> None:
    network = electrical_distance_network(*grid, unit_fee, kind)
    for edge, branch in zip(network.edges, grid[1], strict=True):
        weight = {
            "ptdf": branch.ptdf_weight,
            "thevenin-reactance": branch.reactance_ohm * 1000,
            "thevenin-resistance": branch.resistance_ohm * 1000,
            "thevenin-impedance": abs(complex(branch.resistance_ohm, branch.reactance_ohm)) * 1000,
        }[kind]
        assert abs(edge.fee_nano_per_wh - float(unit_fee) * weight) <= 0.5 + 1e-6
        if kind == "thevenin-reactance":
            micro_ohm = round(branch.reactance_ohm * 10**6)
            assert edge.fee_nano_per_wh == round(Fraction(unit_fee) * micro_ohm / 1000)


@pytest.mark.parametrize(
    ("milliohm", "unit_fee", "fee"),
    [
        (1, Decimal("0.5"), 0),
        (3, Decimal("0.5"), 2),
        (1, Decimal("0.50000000000000000000001"), 1),
        (100, 3, 300),  # 0.1 ohm is a tenth, not the binary number next to it
        (10**9, 1, 10**9),
    ],
)
def test_rounding_by_hand(milliohm: int, unit_fee: int | Decimal, fee: int) -> None:
    branch = GridBranch("l", "a", "b", 0, milliohm / 1000)
    network = electrical_distance_network(["a", "b"], [branch], unit_fee, "thevenin-reactance")
    assert [edge.fee_nano_per_wh for edge in network.edges] == [fee]


@given(meshes(), st.sampled_from(EVERY_KIND))
def test_on_any_grid_sparse_distance_is_the_definition(grid: Grid, kind: DistanceKind) -> None:
    if kind == "ptdf":
        grid = grid[0], [replace(b, reactance_ohm=b.reactance_ohm + 0.01) for b in grid[1]]
    else:  # keeps the dense pseudo-inverse accurate
        grid = (
            grid[0],
            [
                replace(
                    b, reactance_ohm=b.reactance_ohm + 0.01, resistance_ohm=b.resistance_ohm + 0.01
                )
                for b in grid[1]
            ],
        )
    expected = definition(grid, kind)
    np.testing.assert_allclose(distances(grid, kind), expected, rtol=1e-8, atol=1e-9)


@given(meshes(), st.sampled_from(ADDITIVE))
def test_distance_is_a_metric(grid: Grid, kind: DistanceKind) -> None:
    found = distances(grid, kind)
    slack = 1e-9 * scale_of(found)
    assert np.array_equal(found, found.T)
    assert (found >= 0).all()
    assert not found.diagonal().any()
    assert (found[:, None, :] <= found[:, :, None] + found[None, :, :] + slack).all()
    if kind != "ptdf" and is_radial(*grid) is False:
        assert (found <= shortest_weights(grid, kind) + slack).all()


@given(meshes(), st.sampled_from(EVERY_KIND), st.data())
def test_neither_slack_nor_orientation_nor_order_matters(
    grid: Grid, kind: DistanceKind, data: st.DataObject
) -> None:
    buses, branches = grid
    expected = distances(grid, kind)
    # The first bus is the reference.
    shuffled = data.draw(st.permutations(buses))
    turned = [
        replace(branch, from_bus=branch.to_bus, to_bus=branch.from_bus)
        if data.draw(st.booleans())
        else branch
        for branch in data.draw(st.permutations(branches))
    ]
    found = distances((shuffled, turned), kind, between=buses)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * scale_of(expected))


@given(meshes(), st.sampled_from(EVERY_KIND), st.data())
def test_a_subset_of_buses_is_the_same_part_of_the_matrix(
    grid: Grid, kind: DistanceKind, data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.sampled_from(grid[0]), max_size=6))
    places = [grid[0].index(bus) for bus in some]
    whole = distances(grid, kind)
    found = distances(grid, kind, some)
    np.testing.assert_allclose(
        found, whole[np.ix_(places, places)], rtol=1e-9, atol=1e-9 * scale_of(whole)
    )


@given(trees(largest=6), st.sampled_from(ADDITIVE), st.data())
def test_branches_in_parallel_are_one_edge_by_the_law_of_the_distance(
    grid: Grid, kind: DistanceKind, data: st.DataObject
) -> None:
    buses, branches = grid
    twins = [
        replace(
            branch,
            id=f"{branch.id}-twin",
            from_bus=branch.to_bus,
            to_bus=branch.from_bus,
            reactance_ohm=data.draw(MICRO_OHM) / 10**6,
            ptdf_weight=3,
        )
        for branch in branches
        if data.draw(st.booleans())
    ]
    doubled = buses, [*branches, *twins]
    assert is_radial(*doubled)
    factor = 10**6 if kind == "ptdf" else 10**9
    network = electrical_distance_network(*doubled, 10**6, kind)
    assert len(network.edges) == len(branches)
    difference = np.abs(cheapest_paths(network) - factor * distances(doubled, kind))
    assert difference.max(initial=0) <= len(branches) / 2 + 1e-9 * factor * 10


def test_a_triangle_worked_by_hand() -> None:
    # Equal reactances x: two thirds of a trade between neighbours take the direct line, one third the other two.
    grid = grid_of([GridBranch(f"l{a}{b}", a, b, 0, 0.3) for a, b in pairwise("abca")])
    assert distances(grid, "ptdf")[0, 1] == pytest.approx(4 / 3)
    assert distances(grid, "thevenin-reactance")[0, 1] == pytest.approx(0.2)
    fees = electrical_distance_fees(*grid, 300, "ptdf", {"a": 10, "b": 1})
    assert isinstance(fees, PairFees)
    assert fees.fee_nano_per_wh.tolist() == [[20, 411, 410], [411, 2, 401], [410, 401, 0]]
    assert fees.reason == (
        "the grid has 1 independent loop (3 buses, 3 connections), where distance is not the sum along a path"
    )


def test_one_bus_alone() -> None:
    assert distances((["a"], []), "ptdf").tolist() == [[0]]
    assert distances((["a"], []), "thevenin-complex").tolist() == [[0]]
    network = electrical_distance_fees(["a"], [], 100, "ptdf", 5)
    assert network == Network(nodes=(NetworkNode(id="a", access_fee_nano_per_wh=5),))


def test_pair_fees_of_the_other_two_tariffs() -> None:
    uniform = network_pair_fees(uniform_network(100))
    assert uniform.fee_nano_per_wh.tolist() == [[100]]
    zonal = network_pair_fees(zonal_network("abc", [("a", "b"), ("b", "c")], 20, 3), ["c", "a"])
    assert zonal.fee_nano_per_wh.tolist() == [[6, 46], [46, 6]]
    free = network_pair_fees(zonal_network("abc", [("a", "b"), ("b", "c")], 0))
    assert not free.fee_nano_per_wh.any()
    apart = Network(nodes=(NetworkNode(id="a"), NetworkNode(id="b")), islands=True)
    with pytest.raises(DisconnectedNetwork, match="no trade is possible between a and b"):
        network_pair_fees(apart)
    with pytest.raises(UnknownReference, match=r"between\[0\]: no such node"):
        network_pair_fees(apart, ["c"])


def test_transformer_from_its_name_plate() -> None:
    plate: dict[str, Any] = {
        "rated_power_va": 400_000,
        "referred_to_voltage_v": 400,
        "short_circuit_voltage_percent": 5,
        "short_circuit_resistance_percent": 3,
    }
    branch = transformer_branch("t", "a", "b", **plate)
    assert branch.resistance_ohm == pytest.approx(0.012)
    assert branch.reactance_ohm == pytest.approx(0.016)
    for field, value, error in (
        ("rated_power_va", 0, OutOfRange),
        ("referred_to_voltage_v", None, MalformedInput),
        ("short_circuit_resistance_percent", 6, OutOfRange),
        ("short_circuit_voltage_percent", float("nan"), MalformedInput),
    ):
        with pytest.raises(error, match=field):
            transformer_branch("t", "a", "b", **(plate | {field: value}))


LINE = GridBranch("l1", "a", "b", 0.1, 0.2)


@pytest.mark.parametrize(
    ("buses", "branches", "error", "field"),
    [
        ([], [], MalformedInput, "buses"),
        (["a", ""], [], MalformedInput, "buses[1]"),
        (["a", 7], [], MalformedInput, "buses[1]"),
        (["a", "x" * 129], [], MalformedInput, "buses[1]"),
        (["a", "b", "a"], [LINE], DuplicateIdentifier, "buses[2]"),
        (["a", "b"], [LINE, LINE], DuplicateIdentifier, "branches[1].id"),
        (["a", "b"], [replace(LINE, to_bus="c")], UnknownReference, "branches[0].to_bus"),
        (["a", "b"], [replace(LINE, from_bus="c")], UnknownReference, "branches[0].from_bus"),
        (["a", "b"], [LINE, replace(LINE, id="l2", to_bus="a")], MalformedInput, "branches[1].to_bus"),
        (["a", "b", "c"], [LINE], DisconnectedNetwork, "buses[2]"),
        *(
            (["a", "b"], [replace(LINE, **{field: value})], error, f"branches[0].{field}")
            for field in ("resistance_ohm", "reactance_ohm", "ptdf_weight")
            for value, error in (
                (None, MalformedInput),
                ("0.1", MalformedInput),
                (True, MalformedInput),
                (float("nan"), MalformedInput),
                (float("inf"), MalformedInput),
                (-0.1, OutOfRange),
                *([] if field == "ptdf_weight" else [(1e7, OutOfRange)]),
            )
        ),
        (
            ["a", "b"],
            [replace(LINE, resistance_ohm=0, reactance_ohm=0)],
            OutOfRange,
            "branches[0].reactance_ohm",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_grid_is_named(
    buses: list[str], branches: list[GridBranch], error: type[InputError], field: str
) -> None:
    for use in (
        is_radial,
        ptdf_distances,
        thevenin_distances,
        lambda *grid: electrical_distance_fees(*grid, 1, "ptdf"),
        lambda *grid: electrical_distance_network(*grid, 1, "ptdf"),
        lambda *grid: electrical_distance_pair_fees(*grid, 1, "ptdf"),
    ):
        with pytest.raises(error) as caught:
            use(buses, branches)
        assert caught.value.field == field
        assert caught.value.remedy


@pytest.mark.parametrize(
    ("arguments", "error", "field"),
    [
        ((1.5, "ptdf"), MalformedInput, "unit_fee"),
        ((True, "ptdf"), MalformedInput, "unit_fee"),
        ((Decimal("NaN"), "ptdf"), MalformedInput, "unit_fee"),
        ((-1, "ptdf"), OutOfRange, "unit_fee"),
        ((2**40, "ptdf"), OutOfRange, "unit_fee"),
        ((1, "hops"), MalformedInput, "kind"),
        ((1, "ptdf", -1), OutOfRange, "access_fee_nano_per_wh"),
        ((1, "ptdf", {"a": 2**40}), OutOfRange, "access_fee_nano_per_wh['a']"),
        ((1, "ptdf", {"a": 0.5}), MalformedInput, "access_fee_nano_per_wh['a']"),
        ((1, "ptdf", {"z": 1}), UnknownReference, "access_fee_nano_per_wh['z']"),
    ],
)
def test_what_is_wrong_with_a_tariff_is_named(
    arguments: tuple[Any, ...], error: type[InputError], field: str
) -> None:
    with pytest.raises(error) as caught:
        electrical_distance_fees(["a", "b"], [LINE], *arguments)
    assert caught.value.field == field
    with pytest.raises(error):
        electrical_distance_pair_fees(["a", "b"], [LINE], *arguments)


def test_limits_of_distances_and_pairs() -> None:
    with pytest.raises(MalformedInput, match="kind: no such distance"):
        thevenin_distances(["a", "b"], [LINE], "ptdf")  # type: ignore[arg-type]
    for distance in (ptdf_distances, thevenin_distances):
        with pytest.raises(UnknownReference, match=r"between\[1\]"):
            distance(["a", "b"], [LINE], between=["a", "c"])
    short = replace(LINE, reactance_ohm=1e-7)
    for distance in (ptdf_distances, thevenin_distances):
        with pytest.raises(OutOfRange, match="less than a micro-ohm"):
            distance(["a", "b"], [short])
    with pytest.raises(OutOfRange, match="more nano per Wh than can be told exactly"):
        electrical_distance_pair_fees(["a", "b"], [LINE], 10**15, "thevenin-complex")


def test_the_example_of_the_documentation_runs() -> None:
    text = (TESTS.parent / "docs" / "tariffs.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(example, "docs/tariffs.md", "exec"), {})
