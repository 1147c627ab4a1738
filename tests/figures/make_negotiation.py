"""Draws docs/figures of the forward market: `python -m tests.figures.make_negotiation`.

The tariff literature's pictures on IEEE-39 (Baroche et al., Exogenous cost allocation in peer-to-peer electricity markets, IEEE Trans. Power
Systems 34(4), 2019): energy traded, fees collected and welfare against the unit fee; and how negotiation grows with the number of agents.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from backend.bench.negotiation import random_pairs
from backend.domain.p2p import P2PCase, P2PResult
from backend.market.electrical_distance import ptdf_distances
from backend.market.p2p.consensus_innovation import negotiate_by_innovation
from backend.market.p2p.methods import solve_case
from backend.market.p2p.sparse import Negotiated, negotiate
from backend.negotiation.chart import Axis, Series, line_chart
from tests.market.p2p.cases import BUSES39, IEEE39
from tests.support.grids import ieee39

FOLDER = Path(__file__).parents[2] / "docs" / "figures"
UNIT_FEES = [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0]
SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
MOST_ROUNDS = 3000


def tariff_sweep(distance: np.ndarray) -> list[tuple[float, P2PResult]]:
    """Results by unit fee; each side pays half of unit fee times distance."""
    found = []
    for unit_fee in UNIT_FEES:
        fees = (unit_fee / 2 * distance).tolist()
        found.append((unit_fee, solve_case(P2PCase.parse(IEEE39 | {"fees": fees}))))
    return found


def tariff_figures() -> dict[str, str]:
    """Energy, fees and welfare against the unit fee, for both tariffs, mean distances made alike."""
    buses, branches = ieee39()
    away = ~np.eye(len(BUSES39), dtype=bool)
    electrical = np.where(away, ptdf_distances(buses, branches, [str(bus) for bus in BUSES39]), 0)
    tariffs = {
        "uniform": away.astype(float),
        "electrical distance": electrical / electrical[away].mean(),
    }
    swept = {name: tariff_sweep(distance) for name, distance in tariffs.items()}
    pictures: dict[str, tuple[str, Callable[[P2PResult], float]]] = {
        "energy": ("energy traded, MW", lambda one: sum(trade.energy for trade in one.trades)),
        "fees": ("network fees collected, $/h", lambda one: one.fees),
        "welfare": ("welfare, fees not counted as lost, $/h", lambda one: one.fees - one.objective),
    }
    return {
        f"ieee39-{name}.svg": line_chart(
            f"IEEE 39 buses, 31 agents: {label.split(',')[0]}",
            Axis("unit fee u, $/MWh at mean distance"),
            Axis(label),
            [
                Series(tariff, [(fee, value(result)) for fee, result in results])
                for tariff, results in swept.items()
            ],
        )
        for name, (label, value) in pictures.items()
    }


def growth_figures() -> dict[str, str]:
    """Rounds, messages, bytes and time to a certified gap of 1e-4, by the number of agents."""
    runs: dict[str, Callable[..., Negotiated]] = {
        "few partners (ours)": negotiate,
        "ADMM": lambda *given, **more: negotiate(*given, textbook=True, **more),
        "RCI": negotiate_by_innovation,
    }
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, run in runs.items():
        for count in SIZES:
            if count > 100 and run is not negotiate:
                continue
            market = random_pairs(count)
            half = market.weight / 2
            started = time.perf_counter()
            ended = run(market, half, half, most_rounds=MOST_ROUNDS)
            seconds = time.perf_counter() - started
            last = ended.checks[-1]
            print(
                f"{name}, {count}: {ended.agreed}, {last.round} rounds, gap {last.gap:.1e}",
                file=sys.stderr,
            )
            if not ended.agreed:
                break
            for what, value in (
                ("rounds", float(last.round)),
                ("messages for each agent", last.messages / count),
                ("bytes for each agent, 8 a number", 8 * last.scalars / count),
                ("seconds", seconds),
            ):
                points.setdefault(what, {}).setdefault(name, []).append((count, value))
    files = ("rounds", "messages", "bytes", "seconds")
    return {
        f"negotiation-{file}.svg": line_chart(
            f"To a certified gap of 1e-4: {what}",
            Axis("agents", logarithmic=True),
            Axis(what, logarithmic=True),
            [Series(name, values) for name, values in by_name.items()],
        )
        for file, (what, by_name) in zip(files, points.items(), strict=True)
    }


def main() -> None:
    """Writes all figures; the tariff ones are the same on every machine."""
    FOLDER.mkdir(exist_ok=True)
    for name, picture in (tariff_figures() | growth_figures()).items():
        (FOLDER / name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
