"""The outcome that somebody who knows everything would choose: a conic optimal power flow on the radial feeder.

The branch-flow model with its quadratic equation relaxed to a second-order cone (Farivar and Low, "Branch flow model:
relaxations and convexification", IEEE Trans. Power Systems 28(3), 2013), in cvxpy with Clarabel. Where much is fed in the
relaxation is not exact: it burns the surplus as losses that no cable has. So these are made dear first, and then the
quadratic equation is brought back by convex-concave steps (Lipp and Boyd, "Variations and extension of the convex-concave
procedure", Optimization and Engineering 17, 2016): currents may exceed its tangent at the last solution only at a penalty
that grows until they do not. What comes out is a schedule that the grid bears, locally the best. Of the shunts the
transformer's are in the model; the cables' move voltages here by less than 1e-5.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np
import numpy.typing as npt

from backend.domain.errors import ClearingFailed, MalformedInput
from backend.grid.market_program import Floats
from backend.grid.model import GridModel
from backend.grid.offers import GridOffers
from backend.grid.power_flow import GridPowerFlow

# Most of its names are made when it is imported, where mypy does not see them.
cp: Any = cvxpy

_BASE_VA = 100_000.0
_MOST_STEPS = 20
_EXACT = 1e-5
_FIRST_PENALTY = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class RadialGrid:
    """Every branch from its end nearer the source, per unit of 100 kVA and of the bus voltages.

    Attributes:
        parent, child: (branches,) positions of buses.
        ratio: (branches,) child voltage over parent voltage without load.
        resistance, reactance: (branches,) seen from the child.
        limit: (branches,) highest current (lines) or apparent power (transformers).
        is_line: (branches,).
        shunt: (branches,) half of the no-load power at rated voltage, complex, at either end.
    """

    parent: list[int]
    child: list[int]
    ratio: Floats
    resistance: Floats
    reactance: Floats
    limit: Floats
    is_line: npt.NDArray[np.bool_]
    shunt: npt.NDArray[np.complex128]


def radial_grid(model: GridModel, loading: float = 1.0) -> RadialGrid:
    """The tree below the source.

    Raises:
        MalformedInput: the grid has loops.
    """
    if model.loops():
        raise MalformedInput("grid", model.loops(), "has loops", "give a radial grid")
    neighbours: dict[int, list[tuple[int, int]]] = {}
    for branch, (one, other) in enumerate(model.ends()):
        start, end = model.place[one], model.place[other]
        neighbours.setdefault(start, []).append((branch, end))
        neighbours.setdefault(end, []).append((branch, start))
    rows: list[tuple[int, int, float, float, float, float, bool, complex]] = []
    seen, waiting = {model.place[model.source.bus]}, [model.place[model.source.bus]]
    while waiting:
        bus = waiting.pop()
        for branch, child_bus in neighbours.get(bus, ()):
            if child_bus not in seen:
                seen.add(child_bus)
                waiting.append(child_bus)
                rows.append((bus, child_bus, *_branch(model, branch, bus, child_bus, loading)))
    parent, child, ratio, resistance, reactance, limit, is_line, shunt = zip(*rows, strict=True)
    return RadialGrid(
        list(parent),
        list(child),
        np.array(ratio),
        np.array(resistance),
        np.array(reactance),
        np.array(limit),
        np.array(is_line),
        np.array(shunt),
    )


def _branch(
    model: GridModel, branch: int, parent: int, child: int, loading: float
) -> tuple[float, float, float, float, bool, complex]:
    voltage = model.buses[child].nominal_voltage_v
    base_ohm = voltage**2 / _BASE_VA
    if branch < len(model.lines):
        line = model.lines[branch]
        base_a = _BASE_VA / (np.sqrt(3) * voltage)
        return (
            1.0,
            line.resistance_ohm / base_ohm,
            line.reactance_ohm / base_ohm,
            loading * line.rated_current_a / base_a,
            True,
            0j,
        )
    plate = model.transformers[branch - len(model.lines)]
    high, low = plate.rated_voltages_v()
    upper, lower = (model.buses[bus].nominal_voltage_v for bus in (parent, child))
    base = low**2 / plate.rated_power_va / 100 / base_ohm
    resistance = plate.short_circuit_resistance_percent
    reactance = np.sqrt(plate.short_circuit_voltage_percent**2 - resistance**2)
    no_load_va = max(plate.no_load_current_percent / 100 * plate.rated_power_va, plate.iron_loss_w)
    return (
        low / high * upper / lower,
        resistance * base,
        reactance * base,
        loading * plate.rated_power_va / _BASE_VA,
        False,
        complex(plate.iron_loss_w, np.sqrt(no_load_va**2 - plate.iron_loss_w**2)) / 2 / _BASE_VA,
    )


@dataclass(frozen=True, slots=True, eq=False)
class OptimalFlow:
    """What the optimal power flow found.

    Attributes:
        welfare_nano: of its schedule.
        net_wh: (members,).
        inexactness: the largest squared current above what power and voltage say, per unit of 100 kVA.
        steps: convex programs solved.
    """

    welfare_nano: float
    net_wh: Floats
    inexactness: float
    steps: int


def optimal_power_flow(flow: GridPowerFlow, offers: GridOffers) -> OptimalFlow:
    """The highest welfare within the limits.

    Raises:
        MalformedInput: the grid has loops.
        ClearingFailed: no schedule keeps the limits, or the solver failed.
    """
    model = flow.model
    count = len(model.buses)
    grid = radial_grid(model, float(flow.bounds[-1]))
    branches = range(len(grid.child))
    # Energy in kWh, power per unit.
    per_kwh = 1000 * 60 / offers.interval.minutes / _BASE_VA
    net, value, members = _market(offers)
    at_bus, background, reactive = _at_buses(model, offers, per_kwh)
    supply = cp.Variable(len(offers.members), nonneg=True)
    imported, exported, traded = (cp.Variable(nonneg=True) for _ in range(3))
    # Power that enters each branch at its child's end, upwards positive; squared current and voltages.
    p, q, current = (cp.Variable(len(grid.child)) for _ in range(3))
    square = cp.Variable(count)
    out = np.zeros((count, len(grid.child)))
    into = np.zeros((count, len(grid.child)))
    for b in branches:
        out[grid.child[b], b] = 1
        into[grid.parent[b], b] = 1
    source = model.place[model.source.bus]
    others = [bus for bus in range(count) if bus != source]
    low, high = square[grid.child], cp.multiply(grid.ratio**2, square[grid.parent])
    # Power at the branches' ends, upwards; p and q are inside of the shunts.
    lower_p, lower_q = (
        own + cp.multiply(part, low) for own, part in ((p, grid.shunt.real), (q, grid.shunt.imag))
    )
    upper_p = p - cp.multiply(grid.resistance, current) - cp.multiply(grid.shunt.real, high)
    upper_q = q - cp.multiply(grid.reactance, current) - cp.multiply(grid.shunt.imag, high)
    drop = 2 * (cp.multiply(grid.resistance, p) + cp.multiply(grid.reactance, q))
    impedance = grid.resistance**2 + grid.reactance**2
    voltage_high, voltage_low = float(flow.bounds[0]), -float(flow.bounds[count])
    limits = [
        high == low - drop + cp.multiply(impedance, current),
        cp.SOC(low + current, cp.vstack([2 * p, 2 * q, low - current])),
        current[grid.is_line] <= grid.limit[grid.is_line] ** 2,
    ]
    for b in np.flatnonzero(~grid.is_line).tolist():
        limits += [
            cp.norm(cp.hstack([lower_p[b], lower_q[b]])) <= grid.limit[b],
            cp.norm(cp.hstack([upper_p[b], upper_q[b]])) <= grid.limit[b],
        ]
    welfare = (
        value
        - offers.import_price_nano_per_wh / 1e6 * imported
        + offers.export_price_nano_per_wh / 1e6 * exported
        - offers.trade_fee_nano_per_wh / 1e6 * traded
    )
    constraints = [
        *members,
        supply >= net,
        cp.sum(supply) == traded + exported,
        cp.sum(supply) - cp.sum(net) == traded + imported,
        (out @ lower_p)[others] == (at_bus @ net + background + into @ upper_p)[others],
        (out @ lower_q)[others] == (reactive + into @ upper_q)[others],
        square[source] == model.source.voltage_per_unit**2,
        square[others] <= voltage_high**2,
        square[others] >= voltage_low**2,
        *limits,
    ]
    losses_kwh = cp.sum(cp.multiply(grid.resistance, current)) / per_kwh
    dear = 2 * offers.import_price_nano_per_wh / 1e6
    _solve(cp.Problem(cp.Maximize(welfare - dear * losses_kwh), constraints))
    beyond = cp.Variable(len(grid.child), nonneg=True)
    penalty, steps, inexact = _FIRST_PENALTY, 1, np.inf
    best = -np.inf
    while steps < _MOST_STEPS:
        p0, q0, v0 = (np.asarray(x.value) for x in (p, q, low))
        tangent = (
            cp.multiply(2 * p0 / v0, p)
            + cp.multiply(2 * q0 / v0, q)
            - cp.multiply((p0**2 + q0**2) / v0**2, low)
        )
        charged = welfare - penalty * cp.sum(beyond)
        _solve(cp.Problem(cp.Maximize(charged), [*constraints, current <= tangent + beyond]))
        steps += 1
        p1, q1, v1, i1 = (np.asarray(x.value) for x in (p, q, low, current))
        inexact = float((i1 - (p1**2 + q1**2) / v1).max())
        found = float(np.asarray(charged.value))
        if inexact < _EXACT and abs(found - best) <= 1e-6 * abs(found):
            break
        best = found
        if inexact > _EXACT:
            penalty *= 2
    return OptimalFlow(
        1e9 * float(np.asarray(welfare.value)), 1000 * np.asarray(net.value), inexact, steps
    )


def _market(offers: GridOffers) -> tuple[Any, Any, list[Any]]:
    """Net energies in kWh, what the offers are worth, and their limits."""
    flat = [(n, offer) for n, member in enumerate(offers.members) for offer in member.offers]
    accepted = cp.Variable(max(len(flat), 1), nonneg=True)
    adds = np.zeros((len(offers.members), accepted.size))
    worth, most = np.zeros(accepted.size), np.zeros(accepted.size)
    for j, (n, offer) in enumerate(flat):
        adds[n, j] = 1 if offer.kind == "sell" else -1
        worth[j] = -adds[n, j] * offer.price_nano_per_wh / 1e6
        most[j] = offer.limit_wh / 1000
    net = np.array([member.fixed_wh for member in offers.members]) / 1000 + adds @ accepted
    return net, worth @ accepted, [accepted <= most]


def _at_buses(
    model: GridModel, offers: GridOffers, per_kwh: float
) -> tuple[Floats, Floats, Floats]:
    """Power of each bus for a kWh of each member, the background's, and all reactive power, per unit."""
    count = len(model.buses)
    at_bus = np.zeros((count, len(offers.members)))
    background, reactive = np.zeros(count), np.zeros(count)
    for n, member in enumerate(offers.members):
        bus = model.place[model.connection_points[member.connection_point]]
        at_bus[bus, n] = per_kwh
        reactive[bus] += per_kwh * member.reactive_varh / 1000
    for name, watts in model.background_w.items():
        background[model.place[name]] += watts / _BASE_VA
    for name, var in model.background_var.items():
        reactive[model.place[name]] += var / _BASE_VA
    return at_bus, background, reactive


def _solve(problem: Any) -> None:
    with warnings.catch_warnings():
        # Its status says so too, and the schedule is checked by an AC power flow.
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        problem.solve(solver=cp.CLARABEL)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise ClearingFailed(
            f"Clarabel ended with {problem.status} on the optimal power flow", "look at the offers"
        )
