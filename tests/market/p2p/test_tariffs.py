"""The IEEE-39 case with uniform and electrical-distance tariffs swept: what the tariff literature shows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from backend.domain.p2p import P2PCase
from backend.market.electrical_distance import ptdf_distances
from backend.market.p2p.methods import solve_case
from tests.support.grids import ieee39

from .cases import BUSES39, IEEE39

UNIT_FEES = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)


def distance(tariff: str) -> np.ndarray:
    away = ~np.eye(len(BUSES39), dtype=bool)
    if tariff == "uniform":
        return away.astype(float)
    buses, branches = ieee39()
    electrical = ptdf_distances(buses, branches, [str(bus) for bus in BUSES39])
    return np.where(away, electrical / electrical[away].mean(), 0)


@pytest.mark.parametrize("tariff", ["uniform", "electrical distance"])
def test_dearer_network_means_less_trade(tariff: str) -> None:
    results = [
        solve_case(P2PCase.parse(IEEE39 | {"fees": (fee / 2 * distance(tariff)).tolist()}))
        for fee in UNIT_FEES
    ]
    energy = [sum(trade.energy for trade in one.trades) for one in results]
    welfare = [one.fees - one.objective for one in results]
    assert energy[0] == pytest.approx(3893.349, abs=1e-2)
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(energy))
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(welfare))
    # Fees collected rise at first and vanish with the last trade.
    fees = [one.fees for one in results]
    assert fees[0] == 0 < fees[1] < fees[2]
    assert max(fees) > fees[-1]
    assert all(one.certified_gap <= 1e-9 for one in results)


def test_at_one_fee_cvxpy_agrees() -> None:
    case = P2PCase.parse(IEEE39 | {"fees": (5.0 * distance("electrical distance")).tolist()})
    exact = solve_case(case)
    for solver in ("clarabel", "scs"):
        found = solve_case(case, method=f"reference:{solver}")
        assert found.objective == pytest.approx(exact.objective, rel=1e-6)
    negotiated = solve_case(case, method="sparse", tolerance=1e-6)
    assert negotiated.objective == pytest.approx(exact.objective, rel=2e-6)
