"""Cases where clearing engines go wrong, by name, through every engine that takes them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from backend.audit.certify import certify
from backend.domain.case import ClearingCase
from backend.domain.intervals import local_day
from backend.market.pool import clear_case

BIG = 2**40


def case(
    nets: dict[str, int] | None = None,
    *,
    nodes: dict[str, int] | None = None,
    edges: tuple[tuple[str, str, int], ...] = (),
    prices: tuple[int, int] = (300_000, 60_000),
    **network: Any,
) -> dict[str, Any]:
    """A case; members are named `node.number`."""
    return {
        "format": "peerwatt/clearing-case/1",
        "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
        "network": {
            "nodes": [
                {"id": name, "access_fee_nano_per_wh": fee}
                for name, fee in (nodes or {"a": 0}).items()
            ],
            "edges": [{"from": a, "to": b, "fee_nano_per_wh": fee} for a, b, fee in edges],
            **network,
        },
        "tariff_classes": [
            {
                "id": "c",
                "import_price_nano_per_wh": prices[0],
                "export_price_nano_per_wh": prices[1],
            }
        ],
        "members": [
            {"id": name, "node": name.split(".")[0], "tariff_class": "c", "net_wh": net}
            for name, net in (nets or {}).items()
        ],
    }


LINE = {"nodes": {"a": 0, "b": 0, "c": 0}, "edges": (("a", "b", 10), ("b", "c", 10))}
RING = {"nodes": {"a": 0, "b": 0, "c": 0}, "edges": (("a", "b", 0), ("b", "c", 0), ("c", "a", 0))}

CASES: dict[str, tuple[dict[str, Any], int, str]] = {
    # name: case, Wh traded, state of the cluster
    "nobody": (case(), 0, "balanced"),
    "one member": (case({"a.1": 500}), 0, "surplus"),
    "all sellers": (case({"a.1": 5, "a.2": 7}), 0, "surplus"),
    "all buyers": (case({"a.1": -5, "a.2": -7}), 0, "shortage"),
    "exact balance": (case({"a.1": 12, "a.2": -5, "a.3": -7}), 12, "balanced"),
    "everybody at zero": (case({"a.1": 0, "a.2": 0}), 0, "balanced"),
    "all prices equal": (case({"a.1": 9, "a.2": -9}, prices=(100, 100)), 0, "balanced"),
    "fee above the spread": (
        case({"a.1": 9, "b.1": -9}, nodes={"a": 0, "b": 0}, edges=(("a", "b", 240_001),)),
        0,
        "balanced",
    ),
    "fee equal to the spread": (
        case({"a.1": 9, "b.1": -9}, nodes={"a": 0, "b": 0}, edges=(("a", "b", 240_000),)),
        0,
        "balanced",
    ),
    "zero fees": (
        case({"a.1": 9, "b.1": -5}, nodes={"a": 0, "b": 0}, edges=(("a", "b", 0),)),
        5,
        "surplus",
    ),
    "ring of free edges": (case({"a.1": 9, "b.1": -5, "c.1": -9}, **RING), 9, "shortage"),
    "disconnected zones that are meant": (
        case({"a.1": 9, "a.2": -4, "b.1": -5}, nodes={"a": 0, "b": 0}, islands=True),
        4,
        "balanced",
    ),
    "energies of 2^40 Wh": (case({"a.1": BIG, "c.1": -BIG}, **LINE), BIG, "balanced"),
    "prices below zero": (case({"a.1": 9, "a.2": -9}, prices=(5, -100_000)), 9, "balanced"),
    "ties everywhere": (
        case({f"{n}.{k}": (-1) ** k * 10 for n in "abc" for k in range(6)}, **LINE),
        90,
        "balanced",
    ),
    "an empty node between": (case({"a.1": 9, "c.1": -9}, **LINE), 9, "balanced"),
}


@pytest.mark.parametrize("solver", ["auto", "flow", "highs", "clarabel", "scs"])
@pytest.mark.parametrize("name", CASES)
def test_hard_case(name: str, solver: str) -> None:
    data, traded, state = CASES[name]
    clearing = clear_case(ClearingCase.parse(data), solver=solver)
    assert sum(trade.energy_wh for trade in clearing.trades) == traded
    assert clearing.state == state
    assert clearing.duality_gap_nano == 0
    assert certify(data, clearing.model_dump(mode="json", by_alias=True)) == []


@pytest.mark.parametrize(
    ("day", "count"),
    [(date(2026, 3, 29), 92), (date(2026, 6, 21), 96), (date(2026, 10, 25), 100)],
)
def test_days_on_which_clocks_change_have_92_or_100_quarter_hours(day: date, count: int) -> None:
    period = local_day(day, "Europe/Copenhagen")
    assert period.interval_count == count
    assert period.day == day
    tomorrow = local_day(date.fromordinal(day.toordinal() + 1), "Europe/Copenhagen")
    assert period.first_interval + count == tomorrow.first_interval
    assert tomorrow.number == period.number + 1
    assert local_day(day, "Europe/Copenhagen", 5).interval_count == 3 * count


def test_members_are_told_their_own_state() -> None:
    clearing = clear_case(ClearingCase.parse(case({"a.1": 5, "a.2": -7, "a.3": 0})))
    assert [member.state for member in clearing.members] == ["surplus", "shortage", "balanced"]
    assert (clearing.imported_wh, clearing.exported_wh) == (2, 0)
