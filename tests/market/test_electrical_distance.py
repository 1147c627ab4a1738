"""Electrical distance: what a radial feeder's own graph charges is the slides' pairwise definition, on real grids and random ones."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.audit.certify import certify
from backend.domain.case import ClearingCase, Network, NetworkNode
from backend.domain.errors import (
    DisconnectedNetwork,
    MalformedInput,
    OutOfRange,
    UnknownReference,
)
from backend.market.electrical_distance_fees import (
    PairFees,
    electrical_distance_fees,
    electrical_distance_network,
    electrical_distance_pair_fees,
    network_pair_fees,
)
from backend.market.grid_branches import DistanceKind, GridBranch, is_radial
from backend.market.network import uniform_network, zonal_network
from backend.market.pool import clear_case
from tests.support.grids import (
    ADDITIVE,
    EVERY_KIND,
    MESHED,
    MICRO_OHM,
    RADIAL,
    Grid,
    cheapest_paths,
    definition,
    distances,
    grid_of,
    ieee39,
    lines_between,
    meshes,
    scale_of,
    shortest_weights,
    trees,
    village_feeder,
)

MESHED_EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "ieee39.case.json"


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


def test_the_example_of_the_documentation_runs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tariffs.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == 2
    exec(compile("\n".join(examples), "docs/tariffs.md", "exec"), {})


def test_the_meshed_example_is_what_the_documentation_says() -> None:
    data = json.loads(MESHED_EXAMPLE.read_text(encoding="utf-8"))
    fees = electrical_distance_fees(*ieee39(), 2000, "ptdf", 2500)
    assert isinstance(fees, PairFees)
    written = np.array(data["network"]["pair_fees_nano_per_wh"])
    # The last digits of a distance depend on the machine.
    assert np.abs(written - fees.fee_nano_per_wh).max() <= 1
    assert [node["id"] for node in data["network"]["nodes"]] == list(fees.buses)
    clearing = clear_case(ClearingCase.parse(data), solver="auto")
    assert (clearing.savings_nano, clearing.outside_cost_nano) == (12_798_837_910, 13_345_000_000)
    assert (clearing.fees_nano, len(clearing.trades)) == (618_962_090, 27)
    assert certify(data, clearing.model_dump(mode="json", by_alias=True)) == []
