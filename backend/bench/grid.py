"""`peerwatt bench grid`: power flow and coordination beside pandapower and an optimal power flow that knows everything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backend.domain.errors import SolverUnavailable
from backend.grid.cases import SCENARIOS, Scenario, day_net_w, scenario_grid, scenario_offers
from backend.grid.coordination import Coordination, Coordinator
from backend.grid.formats.simbench import read_extract
from backend.grid.model import GridModel
from backend.grid.offers import GridOffers
from backend.grid.power_flow import Floats, GridPowerFlow, Limits
from oracle.sources.simbench import INTERVALS_PER_DAY, Feeder, load_feeder

from .optimal_power_flow import optimal_power_flow
from .table import best_of, row

Progress = Callable[[str], None]

_SINGLE_FLOWS = 20
# Every so many of the intervals that break a limit are compared with the optimal power flow, which takes a second or more.
_COMPARED = 5
# Voltage also binds where the operator keeps part of the band for the grid above.
_BANDS = (Limits(), Limits(voltage_low_per_unit=0.95, voltage_high_per_unit=1.08))


def pandapower_net(model: GridModel) -> Any:
    """The same grid for pandapower, with a static generator of zero at each connection point, in order.

    Raises:
        SolverUnavailable: pandapower is not installed.
    """
    try:
        import pandapower as pp
    except ImportError:
        raise SolverUnavailable(
            "pandapower is not installed", "install the extra: pip install 'peerwatt[bench]'"
        ) from None
    net = pp.create_empty_network()
    place = {
        bus.id: pp.create_bus(net, bus.nominal_voltage_v / 1000, name=bus.id) for bus in model.buses
    }
    pp.create_ext_grid(net, place[model.source.bus], vm_pu=model.source.voltage_per_unit)
    for line in model.lines:
        pp.create_line_from_parameters(
            net,
            place[line.from_bus],
            place[line.to_bus],
            length_km=1,
            r_ohm_per_km=line.resistance_ohm,
            x_ohm_per_km=line.reactance_ohm,
            c_nf_per_km=line.capacitance_nanofarad,
            max_i_ka=line.rated_current_a / 1000,
            name=line.id,
        )
    for plate in model.transformers:
        pp.create_transformer_from_parameters(
            net,
            place[plate.high_voltage_bus],
            place[plate.low_voltage_bus],
            sn_mva=plate.rated_power_va / 1e6,
            vn_hv_kv=plate.high_voltage_v / 1000,
            vn_lv_kv=plate.low_voltage_v / 1000,
            vkr_percent=plate.short_circuit_resistance_percent,
            vk_percent=plate.short_circuit_voltage_percent,
            pfe_kw=plate.iron_loss_w / 1000,
            i0_percent=plate.no_load_current_percent,
            shift_degree=plate.phase_shift_degree,
            tap_side="hv" if plate.tap_side == "high_voltage" else "lv",
            tap_neutral=plate.tap_neutral,
            tap_pos=plate.tap_position,
            tap_step_percent=plate.tap_step_percent,
            tap_changer_type="Ratio",
            name=plate.id,
        )
    for point, bus in model.connection_points.items():
        pp.create_sgen(net, place[bus], p_mw=0, q_mvar=0, name=point)
    for bus, watts in model.background_w.items():
        pp.create_sgen(net, place[bus], watts / 1e6, model.background_var.get(bus, 0.0) / 1e6)
    return net


def pandapower_values(
    net: Any, net_w: Floats, reactive_var: Floats | float = 0.0, *, compiled: bool = True
) -> Floats:
    """One interval's values in the order of `Flow.values`, from pandapower's `runpp`.

    With the transformer's shunt at both ends, as power-grid-model has it; with pandapower's default, a shunt in the middle,
    a transformer at 2.5 times its rating differs by 2e-5 of it.

    Args:
        net: as `pandapower_net` made it; changed.
        net_w: (N,) by connection point.
        compiled: with numba, which is quicker from the second time on.
    """
    import pandapower as pp

    count = len(net_w)
    net.sgen.loc[: count - 1, "p_mw"] = net_w / 1e6
    net.sgen.loc[: count - 1, "q_mvar"] = np.broadcast_to(reactive_var, count) / 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own, about how pandapower calls it
        pp.runpp(
            net,
            calculate_voltage_angles=True,
            trafo_model="pi",
            trafo_loading="power",
            numba=compiled,
        )
    voltage = net.res_bus.vm_pu.to_numpy()
    return np.concatenate(
        (
            voltage,
            -voltage,
            net.res_line.loading_percent.to_numpy() / 100,
            net.res_trafo.loading_percent.to_numpy() / 100,
        )
    )


def bench_grid(progress: Progress, extracts: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """All rows; see `table.row`.

    Args:
        progress: told what is measured.
        extracts: folders of other SimBench grids, for the loop's quality on them instead of the bundled one.

    Raises:
        MalformedInput: a folder is not like the bundled extract.
    """
    if extracts:
        return [
            found | {"what": f"{path.name}: {found['what']}"}
            for path in extracts
            for found in _quality(read_extract(path), partial(_tell, progress, path.name))
        ]
    feeder = load_feeder()
    return [*_speed(feeder, progress), *_quality(feeder, progress)]


def _tell(progress: Progress, grid: str, line: str) -> None:
    progress(f"{grid}: {line}")


def _speed(feeder: Feeder, progress: Progress) -> Iterator[dict[str, Any]]:
    item = SCENARIOS["winter-evening"]
    model = scenario_grid(item, feeder)
    flow, net = GridPowerFlow(model), pandapower_net(model)
    powers = day_net_w(item, feeder)
    progress("a day's power flows, one by one in pandapower")
    theirs = np.array([pandapower_values(net, power) for power in powers])
    # The second time, so that its compiled parts are there.
    slow = best_of(1, lambda: [pandapower_values(net, power) for power in powers])
    quick = best_of(5, lambda: flow.run(powers).values())
    apart = float(np.abs(flow.run(powers).values() - theirs).max())
    yield row(
        f"validation of {len(powers)} intervals, {len(model.buses)} buses: one batch against runpp one by one",
        quick,
        slow,
        "100x, equal to 1e-5",
        slow / quick >= 100 and apart < 1e-5,
        f"largest difference {apart:.0e} per unit",
    )
    coordinator = Coordinator(flow)
    offers = scenario_offers(item, feeder, item.peak_interval)
    progress("the whole loop for one interval")
    loop = best_of(5, lambda: coordinator.coordinate(offers))
    single = best_of(5, lambda: pandapower_values(net, powers[item.peak_interval]))
    outcome = coordinator.coordinate(offers)
    yield row(
        f"whole loop, {len(offers.members)} members, one interval: against {_SINGLE_FLOWS} single runpp",
        loop,
        _SINGLE_FLOWS * single,
        "less time",
        loop < _SINGLE_FLOWS * single,
        f"{outcome.status} in {len(outcome.rounds)} AC checks",
    )


def _quality(feeder: Feeder, progress: Progress) -> Iterator[dict[str, Any]]:
    for item in SCENARIOS.values():
        if not item.flexible:
            continue
        for limits in _BANDS:
            progress(
                f"{item.name}, {limits.voltage_low_per_unit} to {limits.voltage_high_per_unit}"
            )
            yield _against_optimum(item, feeder, limits)


def _against_optimum(item: Scenario, feeder: Feeder, limits: Limits) -> dict[str, Any]:
    """Every interval of the day that breaks a limit; each fifth of them against the optimal power flow."""
    flow = GridPowerFlow(scenario_grid(item, feeder), limits)
    coordinator = Coordinator(flow)
    broken: list[tuple[GridOffers, Coordination]] = []
    for interval in range(INTERVALS_PER_DAY):
        offers = scenario_offers(item, feeder, interval)
        outcome = coordinator.coordinate(offers)
        if outcome.status != "within-limits":
            broken.append((offers, outcome))
    title = f"{item.name}, {limits.voltage_low_per_unit} to {limits.voltage_high_per_unit}: loop against optimal power flow"
    target = "at most 1 % of welfare lost, 3 AC checks on average"
    healed = [pair for pair in broken if pair[1].status == "healed"]
    if not healed:
        note = f"{len(broken)} intervals break a limit, none healed by fees"
        return row(title, 0.0, None, target, False if broken else None, note)
    checks = [len(outcome.rounds) for _, outcome in broken]
    lost, ours, theirs = [], 0.0, 0.0
    for offers, outcome in healed[::_COMPARED]:
        best = optimal_power_flow(flow, offers)
        welfare = outcome.program.welfare_nano(outcome.after)
        lost.append((best.welfare_nano - welfare) / abs(best.welfare_nano))
        ours += best_of(1, partial(coordinator.coordinate, offers))
        theirs += best_of(1, partial(optimal_power_flow, flow, offers))
    mean = float(np.mean(checks))
    return row(
        title,
        ours,
        theirs,
        target,
        max(lost) <= 0.01 and mean <= 3 and len(healed) == len(broken),
        f"lost {100 * max(lost):.3f} % at worst of {len(lost)}; AC checks {mean:.2f} on average, {max(checks)} at most;"
        f" {len(healed)} of {len(broken)} intervals healed by fees",
    )
