"""A grid as its operator knows it: buses, lines, transformers, one source, and where members are connected.

One balanced three-phase state: open lines are left out, buses that a closed switch joins are one bus. `faults` names all
that is wrong with it; `check` raises the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Final, Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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
from backend.market.grid_branches import (
    GridBranch,
    independent_loops,
    transformer_branch,
)

SUBSTATION: Final = "substation"


@dataclass(frozen=True, slots=True)
class Bus:
    """A node; positions are for pictures only."""

    id: str
    nominal_voltage_v: float
    longitude_degree: float | None = None
    latitude_degree: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A cable or overhead line in service, with its positive-sequence totals over its whole length."""

    id: str
    from_bus: str
    to_bus: str
    resistance_ohm: float
    reactance_ohm: float
    capacitance_nanofarad: float
    rated_current_a: float


@dataclass(frozen=True, slots=True)
class Transformer:
    """Two windings, from its name plate; `phase_shift_degree` is a multiple of 30 (the clock)."""

    id: str
    high_voltage_bus: str
    low_voltage_bus: str
    rated_power_va: float
    high_voltage_v: float
    low_voltage_v: float
    short_circuit_voltage_percent: float
    short_circuit_resistance_percent: float
    iron_loss_w: float
    no_load_current_percent: float
    phase_shift_degree: float = 0.0
    tap_side: Literal["high_voltage", "low_voltage"] = "high_voltage"
    tap_position: int = 0
    tap_neutral: int = 0
    tap_step_percent: float = 0.0

    def rated_voltages_v(self) -> tuple[float, float]:
        """High and low voltage at the present tap."""
        factor = 1 + (self.tap_position - self.tap_neutral) * self.tap_step_percent / 100
        if self.tap_side == "high_voltage":
            return self.high_voltage_v * factor, self.low_voltage_v
        return self.high_voltage_v, self.low_voltage_v * factor


@dataclass(frozen=True, slots=True)
class Source:
    """Where the grid above holds the voltage, a stiff one."""

    bus: str
    voltage_per_unit: float = 1.0


@dataclass(frozen=True)
class GridModel:
    """The whole grid.

    Attributes:
        connection_points: bus by connection point; energies and powers come in this order, (N,).
        background_w: power of those who take no part, by bus, positive where fed in.
        background_var: the same for reactive power.
    """

    name: str
    buses: tuple[Bus, ...]
    lines: tuple[Line, ...]
    transformers: tuple[Transformer, ...]
    source: Source
    connection_points: Mapping[str, str]
    background_w: Mapping[str, float] = field(default_factory=dict)
    background_var: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def place(self) -> dict[str, int]:
        """Position of each bus in `buses`."""
        return {bus.id: index for index, bus in enumerate(self.buses)}

    def ends(self) -> list[tuple[str, str]]:
        """The two buses of every line, then of every transformer."""
        return [(line.from_bus, line.to_bus) for line in self.lines] + [
            (item.high_voltage_bus, item.low_voltage_bus) for item in self.transformers
        ]

    def branches(self) -> tuple[list[str], list[GridBranch]]:
        """Buses and branches for electrical distances, all ohms at the voltage most buses have."""
        voltages = [bus.nominal_voltage_v for bus in self.buses]
        base = max(sorted(set(voltages)), key=voltages.count)
        found = []
        for line in self.lines:
            ratio = (base / voltages[self.place[line.from_bus]]) ** 2
            found.append(
                GridBranch(
                    line.id,
                    line.from_bus,
                    line.to_bus,
                    line.resistance_ohm * ratio,
                    line.reactance_ohm * ratio,
                )
            )
        for item in self.transformers:
            found.append(
                transformer_branch(
                    item.id,
                    item.high_voltage_bus,
                    item.low_voltage_bus,
                    rated_power_va=item.rated_power_va,
                    # The low voltage side's ohms, seen from the common voltage.
                    referred_to_voltage_v=base
                    * item.low_voltage_v
                    / voltages[self.place[item.low_voltage_bus]],
                    short_circuit_voltage_percent=item.short_circuit_voltage_percent,
                    short_circuit_resistance_percent=item.short_circuit_resistance_percent,
                )
            )
        return [bus.id for bus in self.buses], found

    def with_members_at(self, points: Iterable[str]) -> GridModel:
        """The grid without the background at the buses of these connection points: what is there, members now say."""
        taken = {self.connection_points[point] for point in points}
        return replace(
            self,
            background_w={bus: w for bus, w in self.background_w.items() if bus not in taken},
            background_var={bus: v for bus, v in self.background_var.items() if bus not in taken},
        )

    def loops(self) -> int:
        """Independent loops; 0 on a radial grid."""
        return independent_loops(*self.branches())

    def zones(self) -> dict[str, str]:
        """The zone of each bus, from the grid's structure: `substation`, and what hangs together without it.

        The substation is the source and both sides of every transformer. Feeders are numbered from the largest; of equal
        ones that with the first bus comes first.
        """
        station = {self.source.bus} | {
            bus
            for item in self.transformers
            for bus in (item.high_voltage_bus, item.low_voltage_bus)
        }
        part = self._parts(without=station)
        members: dict[int, list[str]] = {}
        for bus in self.buses:
            if bus.id not in station:
                members.setdefault(part[self.place[bus.id]], []).append(bus.id)
        by_size = sorted(members.values(), key=lambda ids: (-len(ids), self.place[ids[0]]))
        zone = dict.fromkeys(station, SUBSTATION)
        for number, ids in enumerate(by_size, start=1):
            zone |= dict.fromkeys(ids, f"feeder-{number}")
        return {bus.id: zone[bus.id] for bus in self.buses}

    def faults(self) -> list[InputError]:
        """Everything that is wrong with the grid, in the order of its parts."""
        found = [*self._name_faults()]
        if found:
            return found
        found += self._number_faults()
        for number, (point, at) in enumerate(self.connection_points.items()):
            if at not in self.place:
                found.append(
                    MemberWithoutBus(
                        f"connection_points[{number}].bus",
                        at,
                        f"connection point {point} is at no bus of the grid",
                        "add the bus, or move the connection point to the bus it is wired to",
                    )
                )
        part = self._parts()
        for index, bus in enumerate(self.buses):
            if part[index] != part[self.place[self.source.bus]]:
                found.append(
                    BusOutOfReach(
                        f"buses[{index}]",
                        bus.id,
                        f"no way to the source at {self.source.bus}: an island",
                        "close the switch or add the branch that is missing, or leave the island out",
                    )
                )
        return found

    def check(self) -> GridModel:
        """The grid itself, if nothing is wrong with it.

        Raises:
            InputError: the first of `faults`.
        """
        for fault in self.faults():
            raise fault
        return self

    def _parts(self, without: set[str] | frozenset[str] = frozenset()) -> list[int]:
        ends = [
            (self.place[one], self.place[other])
            for one, other in self.ends()
            if one not in without and other not in without
        ]
        start, end = zip(*ends, strict=True) if ends else ((), ())
        count = len(self.buses)
        joined = coo_array((np.ones(len(ends)), (list(start), list(end))), shape=(count, count))
        labels: list[int] = connected_components(joined.tocsr(), directed=False)[1].tolist()
        return labels

    def _name_faults(self) -> Iterator[InputError]:
        if not self.buses:
            yield MalformedInput("buses", [], "no bus", "name at least one bus")
        for where, ids in (
            ("buses", [bus.id for bus in self.buses]),
            ("lines", [line.id for line in self.lines]),
            ("transformers", [item.id for item in self.transformers]),
        ):
            yield from _repeated(where, ids)
        if self.source.bus not in self.place:
            yield UnknownReference(
                "source.bus", self.source.bus, "no such bus", "name the bus that feeds the grid"
            )
        counts = (("lines", len(self.lines)), ("transformers", len(self.transformers)))
        places = [f"{name}[{index}]" for name, count in counts for index in range(count)]
        for name, ends in zip(places, self.ends(), strict=True):
            for bus in ends:
                if bus not in self.place:
                    yield UnknownReference(
                        name, bus, "no such bus", "add the bus or correct the name"
                    )
            if ends[0] == ends[1]:
                yield MalformedInput(
                    name, ends[0], "goes from a bus to itself", "remove it or correct one end"
                )

    def _number_faults(self) -> Iterator[InputError]:
        for index, bus in enumerate(self.buses):
            yield from _positive(f"buses[{index}].nominal_voltage_v", bus.nominal_voltage_v)
        for index, line in enumerate(self.lines):
            where = f"lines[{index}]"
            ohms = (line.resistance_ohm, line.reactance_ohm)
            if not all(isfinite(ohm) and ohm >= 0 for ohm in ohms) or not any(ohms):
                yield MissingImpedance(
                    f"{where}.resistance_ohm",
                    ohms,
                    f"line {line.id} has no usable impedance",
                    "give resistance and reactance in ohm; a closed switch makes its two buses one",
                )
            yield from _positive(f"{where}.rated_current_a", line.rated_current_a)
            yield from _not_negative(f"{where}.capacitance_nanofarad", line.capacitance_nanofarad)
            voltages = [
                self.buses[self.place[bus]].nominal_voltage_v
                for bus in (line.from_bus, line.to_bus)
            ]
            if voltages[0] != voltages[1]:
                yield MalformedInput(
                    where, voltages, "joins two voltages", "put a transformer there, or correct one"
                )
        for index, item in enumerate(self.transformers):
            yield from _transformer_faults(f"transformers[{index}]", item)
        if not 0.5 < self.source.voltage_per_unit < 1.5:
            yield OutOfRange(
                "source.voltage_per_unit",
                self.source.voltage_per_unit,
                "no voltage of a grid",
                "give it as a part of the nominal voltage, such as 1.02",
            )


def _transformer_faults(where: str, item: Transformer) -> Iterator[InputError]:
    whole, real = item.short_circuit_voltage_percent, item.short_circuit_resistance_percent
    if not (isfinite(whole) and isfinite(real) and 0 <= real <= whole) or whole == 0:
        yield MissingImpedance(
            f"{where}.short_circuit_voltage_percent",
            (whole, real),
            f"transformer {item.id} has no usable impedance",
            "read u_k and its real part, which is at most u_k, off the name plate",
        )
    for name in ("rated_power_va", "high_voltage_v", "low_voltage_v"):
        yield from _positive(f"{where}.{name}", getattr(item, name))
    for name in ("iron_loss_w", "no_load_current_percent"):
        yield from _not_negative(f"{where}.{name}", getattr(item, name))
    if item.phase_shift_degree % 30:
        yield OutOfRange(
            f"{where}.phase_shift_degree",
            item.phase_shift_degree,
            "not a multiple of 30",
            "give the vector group's clock times 30",
        )


def _positive(where: str, value: float) -> Iterator[InputError]:
    if not (isfinite(value) and value > 0):
        yield OutOfRange(where, value, "not above zero", "give the rated value")


def _not_negative(where: str, value: float) -> Iterator[InputError]:
    if not (isfinite(value) and value >= 0):
        yield OutOfRange(where, value, "negative or not finite", "give a number of at least 0")


def _repeated(where: str, names: Sequence[str]) -> Iterator[InputError]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield DuplicateIdentifier(
                f"{where}[{index}].id", name, "named twice", "give each its own name"
            )
        seen.add(name)
