"""The SimBench extract in `oracle/data`: a low-voltage grid, what hangs on it, and its profiles, read and checked."""

from __future__ import annotations

import csv
import datetime
import importlib.resources
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources.abc import Traversable
from math import isfinite
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from backend.domain.errors import MemberWithoutBus

IntegerArray = npt.NDArray[np.int64]

INTERVALS_PER_DAY = 96
INTERVALS_PER_HOUR = 4
PROFILE_STEPS_PER_UNIT = 100_000
PROFILE_DECIMALS = 5
_INTERVAL = datetime.timedelta(minutes=15)

# Limits on what a file may claim, far above any low-voltage grid: a slip in a unit is refused, and
# no register can overflow.
_LARGEST_RATING_W = 10_000_000
_LARGEST_PROFILE_STEP = 2 * PROFILE_STEPS_PER_UNIT

PROFILES = "profiles.csv"
CONNECTION_POINTS = "connection_points.csv"
_BUSES = "buses.csv"
_LINES = "lines.csv"
_TRANSFORMER = "transformer.csv"
_INTERVAL_START = "interval_start_utc"


class ElementKind(StrEnum):
    """What a load or generator is. `COMMERCIAL` is no household; the rest can be behind one."""

    HOUSEHOLD = "household"
    COMMERCIAL = "commercial"
    PV = "pv"
    HEAT_PUMP = "heat_pump"
    EV = "ev"


@dataclass(frozen=True, slots=True)
class Element:
    """One load or generator: its power is `rated_power_w` times its profile, never negative."""

    connection_point: str
    bus: str
    zone: str
    kind: ElementKind
    profile: str
    rated_power_w: int
    simbench_element: str


@dataclass(frozen=True, slots=True)
class Bus:
    """A node of the grid. `zone` is the feeder it is on, or `substation`."""

    bus: str
    zone: str
    nominal_voltage_v: int
    longitude_degree: float
    latitude_degree: float


@dataclass(frozen=True, slots=True)
class Line:
    """A cable, with its positive-sequence totals over its whole length."""

    line: str
    from_bus: str
    to_bus: str
    length_m: float
    resistance_ohm: float
    reactance_ohm: float
    capacitance_nanofarad: float
    rated_current_a: float


@dataclass(frozen=True, slots=True)
class Transformer:
    """The transformer feeding the grid, and the voltage held on its high-voltage side."""

    transformer: str
    high_voltage_bus: str
    low_voltage_bus: str
    rated_power_va: int
    high_voltage_v: int
    low_voltage_v: int
    short_circuit_voltage_percent: float
    short_circuit_resistance_percent: float
    iron_loss_w: float
    no_load_current_percent: float
    phase_shift_degree: float
    tap_side: str
    tap_position: int
    tap_neutral: int
    tap_minimum: int
    tap_maximum: int
    tap_step_percent: float
    source_voltage_per_unit: float


@dataclass(frozen=True, eq=False)
class ProfileWindow:
    """Whole UTC days without a gap, and every profile on them.

    `profiles` maps a profile's name to a read-only int64 array of shape `(96 * days,)`: average
    power in each quarter-hour, in hundred-thousandths of the rated power.
    """

    first_day: datetime.date
    days: int
    profiles: Mapping[str, IntegerArray]

    @property
    def last_day(self) -> datetime.date:
        """The last day with data, itself included."""
        return self.first_day + datetime.timedelta(days=self.days - 1)


@dataclass(frozen=True, eq=False)
class Feeder:
    """The whole extract: the low-voltage grid behind one transformer and what hangs on it.

    `elements` are ordered by connection point. `windows` are in time order and do not touch.
    """

    elements: tuple[Element, ...]
    buses: tuple[Bus, ...]
    lines: tuple[Line, ...]
    transformer: Transformer
    windows: tuple[ProfileWindow, ...]


def load_feeder(directory: Traversable | None = None) -> Feeder:
    """Read and check the packaged extract, or files of the same format in `directory`.

    Raises ValueError naming file, line, field and value where a file breaks its format or refers
    to something that is not there; FileNotFoundError if a file is missing.
    """
    if directory is None:
        directory = importlib.resources.files("oracle.data.simbench")
    buses = _read_buses(directory)
    zones = {bus.bus: bus.zone for bus in buses}
    windows = _read_windows(directory)
    profiles = frozenset(windows[0].profiles)
    return Feeder(
        elements=_read_elements(directory, zones, profiles),
        buses=buses,
        lines=_read_lines(directory, zones),
        transformer=_read_transformer(directory, zones),
        windows=windows,
    )


def available_days(feeder: Feeder) -> tuple[datetime.date, ...]:
    """Every UTC day for which there are data, in order."""
    return tuple(
        window.first_day + datetime.timedelta(days=number)
        for window in feeder.windows
        for number in range(window.days)
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a CSV file, which can say where it stands when a value is wrong."""

    file: str
    line: int
    values: Mapping[str, str]

    def error(self, field: str, expected: str) -> ValueError:
        value = self.values[field]
        return ValueError(
            f"{self.file}, line {self.line}, field {field}: {value!r} is not {expected}"
        )

    def text(self, field: str) -> str:
        if not self.values[field]:
            raise self.error(field, "a name")
        return self.values[field]

    def whole(self, field: str, smallest: int, largest: int) -> int:
        try:
            value = int(self.values[field])
        except ValueError:
            value = smallest - 1
        if not smallest <= value <= largest:
            raise self.error(field, f"a whole number from {smallest} to {largest}")
        return value

    def number(self, field: str, smallest: float = 0.0) -> float:
        try:
            value = float(self.values[field])
        except ValueError:
            value = float("nan")
        if not (isfinite(value) and value >= smallest):
            raise self.error(field, f"a number of at least {smallest:g}")
        return value

    def among(self, field: str, known: Mapping[str, object] | frozenset[str], what: str) -> str:
        if self.values[field] not in known:
            raise self.error(field, what)
        return self.values[field]


def _rows(directory: Traversable, file: str, fields: tuple[str, ...]) -> Iterator[_Row]:
    """The lines below the header, which must have `fields` and may have more."""
    reader = csv.reader(io.StringIO(directory.joinpath(file).read_text("utf-8")))
    header = next(reader, [])
    if len(set(header)) != len(header):
        raise ValueError(f"{file}, line 1: a field is named twice in {','.join(header)!r}")
    for field in fields:
        if field not in header:
            raise ValueError(f"{file}, line 1, field {field}: not in {','.join(header)!r}")
    for values in reader:
        if len(values) != len(header):
            raise ValueError(
                f"{file}, line {reader.line_num}: {len(values)} fields, not {len(header)}, "
                f"in {','.join(values)!r}"
            )
        yield _Row(file, reader.line_num, dict(zip(header, values, strict=True)))


def _read_buses(directory: Traversable) -> tuple[Bus, ...]:
    buses: dict[str, Bus] = {}
    fields = ("bus", "zone", "nominal_voltage_v", "longitude_degree", "latitude_degree")
    for row in _rows(directory, _BUSES, fields):
        bus = row.text("bus")
        if bus in buses:
            raise row.error("bus", "a new name")
        buses[bus] = Bus(
            bus=bus,
            zone=row.text("zone"),
            nominal_voltage_v=row.whole("nominal_voltage_v", 1, 1_000_000),
            longitude_degree=row.number("longitude_degree", smallest=-180.0),
            latitude_degree=row.number("latitude_degree", smallest=-90.0),
        )
    return tuple(buses.values())


def _read_elements(
    directory: Traversable, zones: Mapping[str, str], profiles: frozenset[str]
) -> tuple[Element, ...]:
    elements: list[Element] = []
    bus_of: dict[str, str] = {}
    fields = (
        "connection_point",
        "bus",
        "zone",
        "kind",
        "profile",
        "rated_power_w",
        "simbench_element",
    )
    kinds = {kind.value: kind for kind in ElementKind}
    for row in _rows(directory, CONNECTION_POINTS, fields):
        connection_point = row.text("connection_point")
        bus = row.values["bus"]
        if bus not in zones:
            raise MemberWithoutBus(
                f"{CONNECTION_POINTS}, line {row.line}, field bus",
                bus,
                f"no bus of {_BUSES}",
                "add the bus, or correct the name",
            )
        if bus_of.setdefault(connection_point, bus) != bus:
            raise row.error("bus", f"the bus {bus_of[connection_point]} of {connection_point}")
        if row.text("zone") != zones[bus]:
            raise row.error("zone", f"the zone {zones[bus]} of {bus}")
        elements.append(
            Element(
                connection_point=connection_point,
                bus=bus,
                zone=zones[bus],
                kind=kinds[row.among("kind", kinds, f"one of {', '.join(kinds)}")],
                profile=row.among("profile", profiles, f"a column of {PROFILES}"),
                rated_power_w=row.whole("rated_power_w", 1, _LARGEST_RATING_W),
                simbench_element=row.text("simbench_element"),
            )
        )
    # Sorted, so that what is chosen does not hang on the order of lines in a file.
    return tuple(sorted(elements, key=lambda e: (e.connection_point, e.simbench_element)))


def _read_lines(directory: Traversable, zones: Mapping[str, str]) -> tuple[Line, ...]:
    lines: dict[str, Line] = {}
    fields = (
        "line",
        "from_bus",
        "to_bus",
        "length_m",
        "resistance_ohm",
        "reactance_ohm",
        "capacitance_nanofarad",
        "rated_current_a",
    )
    for row in _rows(directory, _LINES, fields):
        line = row.text("line")
        if line in lines:
            raise row.error("line", "a new name")
        lines[line] = Line(
            line=line,
            from_bus=row.among("from_bus", zones, f"a bus of {_BUSES}"),
            to_bus=row.among("to_bus", zones, f"a bus of {_BUSES}"),
            length_m=row.number("length_m"),
            resistance_ohm=row.number("resistance_ohm"),
            reactance_ohm=row.number("reactance_ohm"),
            capacitance_nanofarad=row.number("capacitance_nanofarad"),
            rated_current_a=row.number("rated_current_a"),
        )
    return tuple(lines.values())


def _read_transformer(directory: Traversable, zones: Mapping[str, str]) -> Transformer:
    fields = tuple(Transformer.__dataclass_fields__)
    rows = list(_rows(directory, _TRANSFORMER, fields))
    if len(rows) != 1:
        raise ValueError(f"{_TRANSFORMER}: {len(rows)} transformers, not 1")
    row = rows[0]
    sides = frozenset({"high_voltage", "low_voltage"})
    return Transformer(
        transformer=row.text("transformer"),
        high_voltage_bus=row.among("high_voltage_bus", zones, f"a bus of {_BUSES}"),
        low_voltage_bus=row.among("low_voltage_bus", zones, f"a bus of {_BUSES}"),
        rated_power_va=row.whole("rated_power_va", 1, 1_000_000_000),
        high_voltage_v=row.whole("high_voltage_v", 1, 1_000_000),
        low_voltage_v=row.whole("low_voltage_v", 1, 1_000_000),
        short_circuit_voltage_percent=row.number("short_circuit_voltage_percent"),
        short_circuit_resistance_percent=row.number("short_circuit_resistance_percent"),
        iron_loss_w=row.number("iron_loss_w"),
        no_load_current_percent=row.number("no_load_current_percent"),
        phase_shift_degree=row.number("phase_shift_degree", smallest=-360.0),
        tap_side=row.among("tap_side", sides, "high_voltage or low_voltage"),
        tap_position=row.whole("tap_position", -100, 100),
        tap_neutral=row.whole("tap_neutral", -100, 100),
        tap_minimum=row.whole("tap_minimum", -100, 100),
        tap_maximum=row.whole("tap_maximum", -100, 100),
        tap_step_percent=row.number("tap_step_percent"),
        source_voltage_per_unit=row.number("source_voltage_per_unit"),
    )


def _read_windows(directory: Traversable) -> tuple[ProfileWindow, ...]:
    """The profiles, cut into windows wherever time jumps; it may jump forward, from day to day."""
    runs: list[list[_Row]] = []
    expected: datetime.datetime | None = None
    for row in _rows(directory, PROFILES, (_INTERVAL_START,)):
        start = _interval_start(row)
        if start != expected:
            if expected is not None and start < expected:
                raise row.error(_INTERVAL_START, "later than the line above")
            if start.time() != datetime.time():
                raise row.error(_INTERVAL_START, "a quarter-hour after the line above or midnight")
            runs.append([])
        runs[-1].append(row)
        expected = start + _INTERVAL
    if not runs:
        raise ValueError(f"{PROFILES}: no quarter-hours")
    return tuple(_window(run) for run in runs)


def _window(rows: list[_Row]) -> ProfileWindow:
    if len(rows) % INTERVALS_PER_DAY:
        raise rows[-1].error(_INTERVAL_START, "the last quarter-hour of a UTC day")
    profiles: dict[str, IntegerArray] = {}
    for name in rows[0].values:
        if name != _INTERVAL_START:
            steps = np.array([_profile_steps(row, name) for row in rows], dtype=np.int64)
            steps.flags.writeable = False
            profiles[name] = steps
    return ProfileWindow(
        first_day=_interval_start(rows[0]).date(),
        days=len(rows) // INTERVALS_PER_DAY,
        profiles=MappingProxyType(profiles),
    )


def _interval_start(row: _Row) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(row.values[_INTERVAL_START], "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise row.error(_INTERVAL_START, "a time such as 2016-06-06T00:15:00Z") from None


def _profile_steps(row: _Row, profile: str) -> int:
    """The decimal fraction in the file as a whole number of steps, with nothing rounded."""
    whole, _, decimals = row.values[profile].partition(".")
    digits = whole + decimals.ljust(PROFILE_DECIMALS, "0")
    if len(decimals) <= PROFILE_DECIMALS and whole and digits.isascii() and digits.isdigit():
        steps = int(digits)
        if steps <= _LARGEST_PROFILE_STEP:
            return steps
    raise row.error(
        profile,
        f"a number from 0 to {_LARGEST_PROFILE_STEP // PROFILE_STEPS_PER_UNIT} "
        f"with at most {PROFILE_DECIMALS} decimals",
    )
