"""A grid as electrical distances need it: buses and the branches in service between them, in ohms.

What is given is the grid in one state: open branches are left out, buses joined by a closed switch are one bus, and all
ohms are referred to one voltage (`transformer_branch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import isfinite, sqrt
from numbers import Real
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from backend.domain.errors import (
    DisconnectedNetwork,
    DuplicateIdentifier,
    MalformedInput,
    OutOfRange,
    UnknownReference,
)

TheveninKind: TypeAlias = Literal[
    "thevenin-reactance", "thevenin-resistance", "thevenin-impedance", "thevenin-complex"
]
DistanceKind: TypeAlias = Literal[
    "ptdf", "thevenin-reactance", "thevenin-resistance", "thevenin-impedance", "thevenin-complex"
]

# Below a micro-ohm (5 mm of cable) a branch is a closed switch; above a mega-ohm an open one.
SMALLEST_IMPEDANCE_OHM: Final = Fraction(1, 10**6)
LARGEST_IMPEDANCE_OHM: Final = Fraction(10**6)
_NAME_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class GridBranch:
    """A line or transformer between two buses, in service.

    Attributes:
        resistance_ohm: of its whole length, at least 0.
        reactance_ohm: of its whole length, at least 0, at the same voltage as every other branch's.
        ptdf_weight: what it counts in the PTDF distance, say 1, its length or its cost; at least 0.
    """

    id: str
    from_bus: str
    to_bus: str
    resistance_ohm: float
    reactance_ohm: float
    ptdf_weight: float = 1.0


def transformer_branch(
    id: str,
    from_bus: str,
    to_bus: str,
    *,
    rated_power_va: float,
    referred_to_voltage_v: float,
    short_circuit_voltage_percent: float,
    short_circuit_resistance_percent: float,
) -> GridBranch:
    """A transformer from its name plate: |z| = u_k U^2 / S, r = u_kr U^2 / S, x from both (taps and losses left out).

    Args:
        referred_to_voltage_v: the voltage U that all branches' ohms are referred to, usually the low-voltage side's.
        short_circuit_voltage_percent: u_k.
        short_circuit_resistance_percent: u_kr, its real part, at most u_k.

    Raises:
        InputError: a number is missing, not finite or out of order.
    """
    power = _number("rated_power_va", rated_power_va)
    voltage = _number("referred_to_voltage_v", referred_to_voltage_v)
    for field, value in (("rated_power_va", power), ("referred_to_voltage_v", voltage)):
        if value == 0:
            raise OutOfRange(field, 0, "zero", "read it off the name plate")
    short_circuit = _number("short_circuit_voltage_percent", short_circuit_voltage_percent)
    real_part = _number("short_circuit_resistance_percent", short_circuit_resistance_percent)
    if real_part > short_circuit:
        raise OutOfRange(
            "short_circuit_resistance_percent",
            short_circuit_resistance_percent,
            f"above the short-circuit voltage {short_circuit_voltage_percent} %, of which it is the real part",
            "correct one of them",
        )
    ohm_per_percent = float(voltage**2 / power / 100)
    return GridBranch(
        id,
        from_bus,
        to_bus,
        float(real_part) * ohm_per_percent,
        sqrt(float(short_circuit**2 - real_part**2)) * ohm_per_percent,
    )


def check_grid(buses: Sequence[str], branches: Sequence[GridBranch]) -> None:
    """Checks names, ends, impedances, and that every bus reaches every other.

    Raises:
        InputError: naming the field, the value and the remedy; of several faults the first.
    """
    if not buses:
        raise MalformedInput("buses", [], "no bus", "name at least one bus")
    _check_names("buses", "", buses)
    _check_names("branches", ".id", [branch.id for branch in branches])
    known = set(buses)
    for index, branch in enumerate(branches):
        where = f"branches[{index}]"
        for end, bus in (("from_bus", branch.from_bus), ("to_bus", branch.to_bus)):
            if bus not in known:
                raise UnknownReference(
                    f"{where}.{end}", bus, "no such bus", "add the bus or correct the name"
                )
        if branch.from_bus == branch.to_bus:
            raise MalformedInput(
                f"{where}.to_bus",
                branch.to_bus,
                f"branch {branch.id} goes from a bus to itself",
                "remove it or correct one end",
            )
        _number(f"{where}.ptdf_weight", branch.ptdf_weight)
        impedance = {
            name: _number(f"{where}.{name}", getattr(branch, name))
            for name in ("resistance_ohm", "reactance_ohm")
        }
        for name, value in impedance.items():
            if value > LARGEST_IMPEDANCE_OHM:
                raise OutOfRange(
                    f"{where}.{name}",
                    float(value),
                    f"branch {branch.id} has more than {int(LARGEST_IMPEDANCE_OHM)} ohm",
                    "check the unit, or leave an open branch out",
                )
        if not any(impedance.values()):
            raise OutOfRange(
                f"{where}.reactance_ohm",
                0,
                f"branch {branch.id} has no impedance",
                "give its resistance and reactance in ohm; a closed switch makes its two buses one",
            )
    _check_connected(buses, branches)


def is_radial(buses: Sequence[str], branches: Sequence[GridBranch]) -> bool:
    """Whether one path only joins any two buses, so that distances add up along it.

    Branches in parallel between the same two buses count as one: together they are one resistance, and the PTDFs of a
    trade that passes them add up to what one branch would carry.

    Raises:
        InputError: as `check_grid`.
    """
    check_grid(buses, branches)
    return independent_loops(buses, branches) == 0


def independent_loops(buses: Sequence[str], branches: Sequence[GridBranch]) -> int:
    """How many connections a connected grid has more than a tree has; branches in parallel are one connection."""
    return len({frozenset((branch.from_bus, branch.to_bus)) for branch in branches}) - (
        len(buses) - 1
    )


def branch_weights(branches: Sequence[GridBranch], kind: DistanceKind) -> list[Fraction]:
    """What each branch counts in a distance, exactly: the decimal numbers as written, |z| to 50 digits.

    Args:
        branches: of a grid that `check_grid` has passed.

    Returns:
        For each branch its ohms, or for `ptdf` its `ptdf_weight`.

    Raises:
        OutOfRange: a branch has none of what `kind` is about, say no reactance.
    """
    match kind:
        case "ptdf":
            return [exact(branch.ptdf_weight) for branch in branches]
        case "thevenin-reactance":
            name, weights = "reactance_ohm", [exact(branch.reactance_ohm) for branch in branches]
        case "thevenin-resistance":
            name, weights = "resistance_ohm", [exact(branch.resistance_ohm) for branch in branches]
        case "thevenin-impedance" | "thevenin-complex":
            name, weights = "reactance_ohm", [_modulus(branch) for branch in branches]
        case _:
            raise unknown_kind(kind, get_args(DistanceKind))
    for index, (branch, weight) in enumerate(zip(branches, weights, strict=True)):
        if weight < SMALLEST_IMPEDANCE_OHM:
            raise OutOfRange(
                f"branches[{index}].{name}",
                float(weight),
                f"branch {branch.id} has less than a micro-ohm of what this distance is measured in",
                "make its two buses one, correct the value, or choose another kind of distance",
            )
    return weights


def exact(number: float) -> Fraction:
    """The number as it is written in decimal: 0.1 is 1/10, on every machine."""
    return Fraction(repr(float(number)))


def _modulus(branch: GridBranch) -> Fraction:
    resistance, reactance = (
        Decimal(repr(float(value))) for value in (branch.resistance_ohm, branch.reactance_ohm)
    )
    with localcontext(Context(prec=50)):
        return Fraction((resistance * resistance + reactance * reactance).sqrt())


def _check_names(where: str, field: str, names: Sequence[object]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARACTERS:
            raise MalformedInput(
                f"{where}[{index}]{field}",
                name,
                "not a name",
                f"give a text of 1 to {_NAME_CHARACTERS} characters",
            )
        if name in seen:
            raise DuplicateIdentifier(
                f"{where}[{index}]{field}", name, "named twice", "give each its own name"
            )
        seen.add(name)


def _check_connected(buses: Sequence[str], branches: Sequence[GridBranch]) -> None:
    place = {bus: index for index, bus in enumerate(buses)}
    start = [place[branch.from_bus] for branch in branches]
    end = [place[branch.to_bus] for branch in branches]
    joined = coo_array((np.ones(len(branches)), (start, end)), shape=(len(buses), len(buses)))
    _, part = connected_components(joined.tocsr(), directed=False)
    for index, bus in enumerate(buses):
        if part[index] != part[0]:
            raise DisconnectedNetwork(
                f"buses[{index}]",
                bus,
                f"no path of branches to {buses[0]}",
                "add the branch that is missing, or treat the islands as separate grids",
            )


def _number(field: str, value: object) -> Fraction:
    if value is None:
        raise MalformedInput(field, value, "missing", "give a number of at least 0")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise MalformedInput(field, value, "not a number", "give a number of at least 0")
    if not isfinite(value):
        raise MalformedInput(field, float(value), "not finite", "give a number of at least 0")
    if value < 0:
        raise OutOfRange(
            field,
            float(value),
            "negative",
            "give a number of at least 0; join a series capacitor with its line into one branch",
        )
    return exact(float(value))


def unknown_kind(kind: object, kinds: Sequence[str]) -> MalformedInput:
    """The error for a kind of distance that there is not."""
    return MalformedInput("kind", kind, "no such distance", f"choose one of {', '.join(kinds)}")
