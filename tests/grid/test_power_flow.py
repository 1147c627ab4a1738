"""The power flow is pandapower's, on random grids with and without loops; sensitivities are what the flow does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.bench.grid import pandapower_net, pandapower_values
from backend.domain.errors import OutOfRange, PowerFlowFailed
from backend.grid.cases import SCENARIOS, day_net_w
from backend.grid.model import GridModel
from backend.grid.power_flow import GridPowerFlow, Limits
from tests.support.grid_cases import feeder, quietly, small_grids, village


def test_a_winter_day_is_pandapowers() -> None:
    flow = GridPowerFlow(village())
    powers = day_net_w(SCENARIOS["winter-evening"], feeder())[::16]
    reactive = -0.2 * np.abs(powers)
    ours = flow.run(powers, reactive).values()
    with quietly():
        net = pandapower_net(village())
        theirs = [
            pandapower_values(net, *pair, compiled=False)
            for pair in zip(powers, reactive, strict=True)
        ]
    assert (ours > flow.bounds).any()
    # pandapower stops at 0.01 VA; with a tighter tolerance both agree to 1e-12.
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@settings(max_examples=8)
@given(st.data())
def test_random_grids_are_pandapowers(data: st.DataObject) -> None:
    grid = data.draw(small_grids(loops=data.draw(st.booleans())))
    count = len(grid.connection_points)
    watts = st.lists(st.integers(-9000, 9000), min_size=count, max_size=count)
    power, reactive = (np.array(data.draw(watts), dtype=np.float64) for _ in range(2))
    flow = GridPowerFlow(grid)
    with quietly():
        theirs = pandapower_values(pandapower_net(grid), power, reactive / 4, compiled=False)
    np.testing.assert_allclose(flow.run(power, reactive / 4).values()[0], theirs, atol=1e-6)


@settings(max_examples=20)
@given(st.data())
def test_sensitivities_are_the_flows_own_derivative(data: st.DataObject) -> None:
    grid = data.draw(small_grids(loops=data.draw(st.booleans())))
    count = len(grid.connection_points)
    # Well away from zero, where a current's size has a kink.
    power = np.array(data.draw(st.lists(st.integers(2000, 8000), min_size=count, max_size=count)))
    flow = GridPowerFlow(grid)
    effects = flow.sensitivities(power.astype(np.float64))
    seller, buyer = 0, count - 1
    step = 50.0
    moved = power.astype(np.float64)
    moved[seller] += step
    moved[buyer] -= step
    low, high = flow.run(np.array([power, moved])).values()
    traded = step * (effects[:, seller] - effects[:, buyer])
    lines = flow.run(power).line_loading[0]
    sure = np.concatenate((np.ones(2 * len(grid.buses), bool), lines > 0.05, [True]))
    np.testing.assert_allclose((high - low)[sure], traded[sure], atol=2e-6)


def test_two_connection_points_at_one_bus_add_up() -> None:
    grid = village()
    (point, bus), *_ = grid.connection_points.items()
    both = GridModel(
        grid.name,
        grid.buses,
        grid.lines,
        grid.transformers,
        grid.source,
        {point: bus, "next door": bus},
    )
    one = GridModel(
        grid.name, grid.buses, grid.lines, grid.transformers, grid.source, {point: bus},
        background_w={bus: 3000.0},
    )  # fmt: skip
    np.testing.assert_allclose(
        GridPowerFlow(both).run([[4000.0, 3000.0]]).values(),
        GridPowerFlow(one).run([[4000.0]]).values(),
        atol=1e-12,
    )
    flow = GridPowerFlow(both)
    effects = flow.sensitivities(np.zeros(2))
    np.testing.assert_array_equal(effects[:, 0], effects[:, 1])


def test_losses_are_what_comes_in_and_does_not_arrive() -> None:
    flow = GridPowerFlow(village())
    powers = day_net_w(SCENARIOS["winter-evening"], feeder())[76:80]
    state = flow.run(powers)
    np.testing.assert_allclose(state.loss_w, state.source_w + powers.sum(axis=1), atol=1e-6)
    assert (state.loss_w > 1200).all()  # the transformer's iron alone


def test_collapse_and_wrong_shapes_have_names() -> None:
    flow = GridPowerFlow(village())
    with pytest.raises(PowerFlowFailed, match="interval 1"):
        flow.run(np.array([np.zeros(118), np.full(118, -1e6)]))
    with pytest.raises(OutOfRange, match="118 connection points"):
        flow.run(np.zeros((1, 3)))
    with pytest.raises(OutOfRange):
        Limits(voltage_low_per_unit=1.05)
    with pytest.raises(OutOfRange):
        Limits(loading_percent=0)
