"""What a grid and an electrical-distance tariff may be: every fault is an error of ours that names field, value and remedy."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

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
    electrical_distance_fees,
    electrical_distance_network,
    electrical_distance_pair_fees,
)
from backend.market.grid_branches import GridBranch, is_radial, transformer_branch

LINE = GridBranch("l1", "a", "b", 0.1, 0.2)


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
