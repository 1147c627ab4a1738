"""The bulk path gives the pool's clearing, interpreted and compiled, also where money does not fit 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.case import ClearingCase
from backend.domain.errors import OutOfRange, SolverUnavailable
from backend.market.arrays import MarketArrays
from backend.market.bulk import BulkPool
from backend.market.pool import Pool
from backend.market.problem import market_of
from tests.market.strategies import cases


def forest(data: dict[str, Any]) -> ClearingCase:
    network = data["network"]
    network["edges"] = network["edges"][: len(network["nodes"]) - 1]
    network["islands"] = True
    return ClearingCase.parse(data)


@given(cases())
def test_bulk_and_pool_agree(data: dict[str, Any]) -> None:
    case = forest(data)
    market = market_of(case)
    if not MarketArrays.of(market).is_forest:
        return
    members = sorted(case.members, key=lambda member: member.id)
    groups = [market.group_index[member.node, member.tariff_class] for member in members]
    nets = [member.net_wh for member in members]
    pool = Pool(market, "highs").clear(tuple(groups), tuple(nets))
    bulk = BulkPool(MarketArrays.of(market)).clear(
        np.array(groups, dtype=np.int64), np.array(nets, dtype=np.int64)
    )
    assert tuple(bulk.amount_nano.tolist()) == pool.amount_nano
    assert tuple(bulk.trades.as_trades()) == pool.trades
    assert tuple(bulk.price_nano_per_wh.tolist()) == pool.solution.price_nano_per_wh
    assert tuple(bulk.matched_demand_wh.tolist()) == pool.solution.matched_demand_wh
    assert tuple(bulk.matched_supply_wh.tolist()) == pool.solution.matched_supply_wh
    assert tuple(bulk.flow_wh.tolist()) == pool.solution.flow_wh
    assert (bulk.fees_nano, bulk.dust_nano) == (pool.fees_nano, pool.dust_nano)
    assert bulk.duality_gap_nano == 0


def feeder(buses: int, seed: int, *, compiled: bool) -> tuple[MarketArrays, Any, Any]:
    random = np.random.default_rng(seed)
    numbers = np.arange(1, buses)
    market = MarketArrays.build(
        access=np.full(buses, 5000, np.int64),
        edge_from=(numbers - 1 - random.integers(0, np.minimum(8, numbers))).astype(np.int64),
        edge_to=numbers.astype(np.int64),
        edge_fee=random.integers(0, 3000, buses - 1),
        group_node=np.arange(buses, dtype=np.int64),
        import_price=300_000 - random.integers(0, 3, buses) * 10_000,
        export_price=60_000 + random.integers(0, 3, buses) * 10_000,
        compiled=compiled,
    )
    return market, np.arange(buses, dtype=np.int64), random.integers(-3000, 3000, buses)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_compiled_and_interpreted_loops_agree(seed: int) -> None:
    pytest.importorskip("numba", reason="numba is not installed: loops run interpreted only")
    results = []
    for compiled in (False, True):
        market, groups, nets = feeder(60, seed, compiled=compiled)
        results.append(BulkPool(market).clear(groups, nets))
    one, other = results
    assert one.cost_nano == other.cost_nano
    assert one.trades.as_trades() == other.trades.as_trades()
    assert np.array_equal(one.amount_nano, other.amount_nano)


def test_a_long_feeder_is_cleared_exactly() -> None:
    market, groups, nets = feeder(20_000, 3, compiled=True)
    clearing = BulkPool(market).clear(groups, nets)
    assert clearing.duality_gap_nano == 0
    assert int(clearing.trades.energy_wh.sum()) == int(clearing.matched_demand_wh.sum())
    assert len(clearing.trades) <= 2 * nets.size
    assert -sum(clearing.amount_nano.tolist()) == clearing.cost_nano + clearing.dust_nano


def test_a_circle_is_refused() -> None:
    ring = np.array([0, 1, 2], dtype=np.int64)
    market = MarketArrays.build(
        access=np.zeros(3, np.int64),
        edge_from=ring,
        edge_to=np.roll(ring, -1),
        edge_fee=np.ones(3, np.int64),
        group_node=ring,
        import_price=np.full(3, 9, np.int64),
        export_price=np.zeros(3, np.int64),
    )
    with pytest.raises(SolverUnavailable):
        BulkPool(market)


def test_a_series_is_its_intervals_one_by_one() -> None:
    market, groups, _ = feeder(40, 5, compiled=False)
    nets = np.random.default_rng(6).integers(-3000, 3000, (7, 40))
    nets[3] = 0
    nets[4] = np.abs(nets[4])
    pool = BulkPool(market)
    chunks = list(pool.clear_series(groups, nets))
    assert sum(len(chunk.results) for chunk in chunks) == 7
    position = 0
    for number, row in enumerate(nets):
        one = pool.clear(groups, row)
        results, trades = chunks[0].results[number], chunks[0].trades
        outside, cost, fees, dust, gap, *_, count = results.tolist()
        assert (outside, cost, fees, dust, gap) == (
            one.outside_cost_nano,
            one.cost_nano,
            one.fees_nano,
            one.dust_nano,
            0,
        )
        assert np.array_equal(chunks[0].amount_nano[number], one.amount_nano)
        assert trades.as_trades()[position : position + count] == one.trades.as_trades()
        position += count


def test_a_series_whose_money_does_not_fit_is_refused() -> None:
    market, groups, _ = feeder(4, 5, compiled=False)
    with pytest.raises(OutOfRange):
        list(BulkPool(market).clear_series(groups, np.full((1, 4), 2**40, np.int64)))
