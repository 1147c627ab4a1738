"""What a schedule does to the grid: AC power flow of many intervals at once, and how each limit feels each connection point.

power-grid-model solves the flow (Newton-Raphson, in C++, all intervals in one call). Voltages are held against EN 50160:2010,
which asks for 0.90 to 1.10 of the nominal voltage in 95 % of ten-minute means of a week; here every interval has to keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from backend.domain.errors import OutOfRange, PowerFlowFailed, SolverUnavailable

from .model import GridModel

if TYPE_CHECKING:
    from power_grid_model import PowerGridModel

Floats = npt.NDArray[np.float64]

# A source this stiff holds its voltage to 1e-9 whatever flows.
_SHORT_CIRCUIT_POWER_VA: Final = 1e18
_TOLERANCE: Final = 1e-10
_PROBE_W: Final = 100.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the grid must keep to.

    Attributes:
        voltage_low_per_unit, voltage_high_per_unit: EN 50160's band.
        loading_percent: of a line's rated current and a transformer's rated power.
    """

    voltage_low_per_unit: float = 0.90
    voltage_high_per_unit: float = 1.10
    loading_percent: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.voltage_low_per_unit < 1 < self.voltage_high_per_unit < 2:
            raise OutOfRange(
                "limits.voltage_per_unit",
                f"{self.voltage_low_per_unit} to {self.voltage_high_per_unit}",
                "not a band around 1",
                "give for example 0.9 and 1.1",
            )
        if not self.loading_percent > 0:
            raise OutOfRange(
                "limits.loading_percent",
                self.loading_percent,
                "not above zero",
                "give for example 100",
            )


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of the grid: `kind` is voltage-high, voltage-low, line or transformer; `element` the bus or branch."""

    kind: str
    element: str


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """The state of the grid in T intervals.

    Attributes:
        voltage_per_unit: (T, buses).
        line_loading: (T, lines), the larger current of both ends over the rated one.
        transformer_loading: (T, transformers), the larger apparent power of both sides over the rated one.
        loss_w: (T,), lines and transformers, no-load losses included.
        source_w: (T,), what comes from the grid above; negative where fed back.
    """

    voltage_per_unit: Floats
    line_loading: Floats
    transformer_loading: Floats
    loss_w: Floats
    source_w: Floats

    def values(self) -> Floats:
        """What each limit is about, (T, limits): voltages, negative voltages, loadings of lines and transformers."""
        return np.concatenate(
            (
                self.voltage_per_unit,
                -self.voltage_per_unit,
                self.line_loading,
                self.transformer_loading,
            ),
            axis=1,
        )


class GridPowerFlow:
    """A checked grid, ready for power flows.

    Attributes:
        limits: every limit, in the order of `Flow.values`.
        bounds: (limits,), what the values must not exceed.

    Raises:
        InputError: as `GridModel.check`.
        SolverUnavailable: power-grid-model is not installed.
    """

    def __init__(self, model: GridModel, limits: Limits | None = None) -> None:
        self.model = model.check()
        kept = limits or Limits()
        buses = [bus.id for bus in model.buses]
        lines = [line.id for line in model.lines]
        transformers = [item.id for item in model.transformers]
        self.limits = (
            *(Limit("voltage-high", bus) for bus in buses),
            *(Limit("voltage-low", bus) for bus in buses),
            *(Limit("line", line) for line in lines),
            *(Limit("transformer", item) for item in transformers),
        )
        self.bounds: Floats = np.repeat(
            [kept.voltage_high_per_unit, -kept.voltage_low_per_unit, kept.loading_percent / 100],
            [len(buses), len(buses), len(lines) + len(transformers)],
        )
        used = {*model.connection_points.values(), *model.background_w, *model.background_var}
        self._loaded = [model.place[bus] for bus in buses if bus in used] or [0]
        column = {place: index for index, place in enumerate(self._loaded)}
        self.column_of_point: npt.NDArray[np.int64] = np.array(
            [column[model.place[bus]] for bus in model.connection_points.values()], dtype=np.int64
        )
        self._background_w = self._by_column(model.background_w, column)
        self._background_var = self._by_column(model.background_var, column)
        self._network, self._load_ids = _network(model, self._loaded)

    def run(self, net_w: npt.ArrayLike, reactive_var: npt.ArrayLike = 0.0) -> Flow:
        """The power flow of T intervals.

        Args:
            net_w: (T, N) by connection point, positive where fed in.
            reactive_var: the same for reactive power, (T, N) or anything that broadcasts to it.

        Raises:
            PowerFlowFailed: an interval has no solution; the voltage collapses.
        """
        net = np.atleast_2d(np.asarray(net_w, dtype=np.float64))
        if net.shape[1] != len(self.column_of_point):
            raise OutOfRange(
                "net_w",
                net.shape[1],
                f"not one power for each of {len(self.column_of_point)} connection points",
                "give them in the order of `connection_points`",
            )
        reactive = np.broadcast_to(np.asarray(reactive_var, dtype=np.float64), net.shape)
        fed_in = self._background_w + self._add_up(net)
        fed_in_var = self._background_var + self._add_up(reactive)
        return self._solve(fed_in, fed_in_var)

    def sensitivities(self, net_w: Floats, reactive_var: npt.ArrayLike = 0.0) -> Floats:
        """How each limit's value changes with each connection point's power, per W, around one interval's state.

        A probe of 100 W at every bus with a connection point, all in one batch; forward differences.

        Returns:
            (limits, N). A trade of 1 W from n to m moves limit k by the difference of its columns n and m.

        Raises:
            PowerFlowFailed: as `run`.
        """
        net = np.asarray(net_w, dtype=np.float64)
        reactive = np.broadcast_to(np.asarray(reactive_var, dtype=np.float64), net.shape)
        columns = len(self._loaded)
        fed_in = np.repeat(self._background_w + self._add_up(net[None, :]), columns + 1, axis=0)
        fed_in_var = np.repeat(
            self._background_var + self._add_up(reactive[None, :]), columns + 1, axis=0
        )
        fed_in[np.arange(1, columns + 1), np.arange(columns)] += _PROBE_W
        values = self._solve(fed_in, fed_in_var).values()
        per_column: Floats = ((values[1:] - values[0]) / _PROBE_W).T
        return per_column[:, self.column_of_point]

    def _by_column(self, by_bus: Mapping[str, float], column: Mapping[int, int]) -> Floats:
        found = np.zeros(len(self._loaded))
        for bus, value in by_bus.items():
            found[column[self.model.place[bus]]] += value
        return found

    def _add_up(self, by_point: Floats) -> Floats:
        """(T, N) by connection point to (T, columns) by bus."""
        found = np.zeros((len(by_point), len(self._loaded)))
        np.add.at(found.T, self.column_of_point, by_point.T)
        return found

    def _solve(self, fed_in_w: Floats, fed_in_var: Floats) -> Flow:
        # In power-grid-model a load counts positive where it consumes.
        ids = np.broadcast_to(self._load_ids, fed_in_w.shape)
        update: Any = {
            "sym_load": {
                "id": np.ascontiguousarray(ids),
                "p_specified": np.ascontiguousarray(-fed_in_w),
                "q_specified": np.ascontiguousarray(-fed_in_var),
            }
        }
        wanted: Any = {
            "node": ["u_pu"],
            "line": ["loading"],
            "transformer": ["loading"],
            "source": ["p"],
        }
        from power_grid_model.errors import PowerGridError  # type: ignore[attr-defined]  # not declared as exported

        try:
            answer: Any = self._network.calculate_power_flow(
                update_data=update, output_component_types=wanted, error_tolerance=_TOLERANCE
            )
        except PowerGridError as error:
            failed = getattr(error, "failed_scenarios", None)
            which = f" in interval {int(failed[0])}" if failed is not None else ""
            raise PowerFlowFailed(
                f"the power flow has no solution{which}: more power than the grid can carry at any voltage",
                "look for a wrong unit or sign in the schedule, or schedule less",
            ) from None
        source_w = answer["source"]["p"][:, 0]
        return Flow(
            voltage_per_unit=answer["node"]["u_pu"],
            line_loading=_optional(answer, "line", len(fed_in_w)),
            transformer_loading=_optional(answer, "transformer", len(fed_in_w)),
            loss_w=source_w + fed_in_w.sum(axis=1),
            source_w=source_w,
        )


def _optional(answer: Any, component: str, intervals: int) -> Floats:
    return answer[component]["loading"] if component in answer else np.zeros((intervals, 0))


def _network(model: GridModel, loaded: list[int]) -> tuple[PowerGridModel, npt.NDArray[np.int32]]:
    """The grid in power-grid-model's terms, with a load of zero at each bus of `loaded`, and the loads' ids."""
    try:
        from power_grid_model import PowerGridModel, initialize_array
    except ImportError:
        raise SolverUnavailable(
            "power-grid-model is not installed", "install the extra: pip install 'peerwatt[grid]'"
        ) from None
    count = len(model.buses)
    first_line, first_transformer = count, count + len(model.lines)
    first_load = first_transformer + len(model.transformers)
    node = initialize_array("input", "node", count)
    node["id"] = np.arange(count)
    node["u_rated"] = [bus.nominal_voltage_v for bus in model.buses]
    line = initialize_array("input", "line", len(model.lines))
    for index, item in enumerate(model.lines):
        line[index]["id"] = first_line + index
        line[index]["from_node"] = model.place[item.from_bus]
        line[index]["to_node"] = model.place[item.to_bus]
        line[index]["r1"] = item.resistance_ohm
        line[index]["x1"] = item.reactance_ohm
        line[index]["c1"] = item.capacitance_nanofarad * 1e-9
        line[index]["i_n"] = item.rated_current_a
    line["from_status"] = line["to_status"] = 1
    line["tan1"] = 0
    transformer = initialize_array("input", "transformer", len(model.transformers))
    for index, plate in enumerate(model.transformers):
        row = transformer[index]
        row["id"] = first_transformer + index
        row["from_node"] = model.place[plate.high_voltage_bus]
        row["to_node"] = model.place[plate.low_voltage_bus]
        # The tap is in the rated voltages already.
        row["u1"], row["u2"] = plate.rated_voltages_v()
        row["sn"] = plate.rated_power_va
        row["uk"] = plate.short_circuit_voltage_percent / 100
        row["pk"] = plate.short_circuit_resistance_percent / 100 * plate.rated_power_va
        row["i0"] = plate.no_load_current_percent / 100
        row["p0"] = plate.iron_loss_w
        row["clock"] = round(plate.phase_shift_degree / 30) % 12
        # Windings that go with the clock; a balanced flow does not depend on them.
        row["winding_from"], row["winding_to"] = (1, 1) if row["clock"] % 2 == 0 else (2, 1)
    for name in ("from_status", "to_status"):
        transformer[name] = 1
    for name in ("tap_side", "tap_pos", "tap_min", "tap_max", "tap_nom", "tap_size"):
        transformer[name] = 0
    source = initialize_array("input", "source", 1)
    source["id"] = first_load + len(loaded)
    source["node"] = model.place[model.source.bus]
    source["status"] = 1
    source["u_ref"] = model.source.voltage_per_unit
    source["sk"] = _SHORT_CIRCUIT_POWER_VA
    load = initialize_array("input", "sym_load", len(loaded))
    load["id"] = first_load + np.arange(len(loaded))
    load["node"] = loaded
    load["status"] = 1
    load["type"] = 0  # constant power
    load["p_specified"] = load["q_specified"] = 0.0
    network = PowerGridModel(
        {
            "node": node,
            "line": line,
            "transformer": transformer,
            "source": source,
            "sym_load": load,
        }
    )
    return network, load["id"].copy()
