"""The bundled grid for tests, read once, and small feeders drawn at random."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

from hypothesis import strategies as st

from backend.domain.case import CaseInterval
from backend.grid.formats.simbench import simbench_grid
from backend.grid.model import Bus, GridModel, Line, Source, Transformer
from backend.grid.offers import GridMember, GridOffers, Offer
from oracle.sources.simbench import Feeder, load_feeder


@contextmanager
def quietly() -> Iterator[None]:
    """pandapower and pandas warn about each other; that is no fault of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def feeder() -> Feeder:
    return load_feeder()


@cache
def village() -> GridModel:
    return simbench_grid(feeder())


@st.composite
def small_grids(draw: st.DrawFn, loops: bool = False) -> GridModel:
    """A transformer of 100 kVA and up to eight buses behind it."""
    count = draw(st.integers(2, 8))
    metres = st.integers(20, 400)
    ends = [(draw(st.integers(0, child - 1)), child) for child in range(1, count)]
    if loops and count > 2:
        ends.append((0, count - 1))
    lines = tuple(
        Line(f"l{k}", f"b{one}", f"b{other}", 0.0004 * m, 0.00008 * m, 0.2 * m, 150.0)
        for k, (one, other) in enumerate(ends)
        for m in (draw(metres),)
    )
    return GridModel(
        name="small",
        buses=(Bus("mv", 20_000.0), *(Bus(f"b{n}", 400.0) for n in range(count))),
        lines=lines,
        transformers=(
            Transformer("t", "mv", "b0", 100_000.0, 20_000.0, 400.0, 4.0, 1.5, 300.0, 0.4, 150.0),
        ),
        source=Source("mv", draw(st.sampled_from([0.97, 1.0, 1.04]))),
        connection_points={f"c{n}": f"b{n}" for n in range(count)},
    )


@st.composite
def offers_for(draw: st.DrawFn, grid: GridModel, largest_fixed_wh: int = 1000) -> GridOffers:
    """A member at every connection point, offers that together break limits more often than not."""
    # Hypothesis likes small numbers; limits break only if most want the same, and much of it.
    direction = draw(st.sampled_from([1, -1]))
    kind_of_most = "sell" if direction == 1 else "buy"
    price = st.integers(0, 300_000) if direction == 1 else st.integers(200_000, 600_000)
    members = []
    for point in grid.connection_points:
        kinds = [kind_of_most, *draw(st.lists(st.sampled_from(["sell", "buy"]), max_size=1))]
        members.append(
            GridMember(
                id=f"at {point}",
                connection_point=point,
                fixed_wh=direction
                * (largest_fixed_wh - draw(st.integers(0, 2 * largest_fixed_wh))),
                offers=tuple(
                    Offer(
                        kind="sell" if kind == "sell" else "buy",
                        limit_wh=15_000 - draw(st.integers(0, 15_000)),
                        price_nano_per_wh=draw(price),
                    )
                    for kind in kinds
                ),
            )
        )
    return GridOffers(
        interval=CaseInterval(start=datetime(2026, 6, 21, 12, tzinfo=UTC), minutes=15),
        import_price_nano_per_wh=300_000,
        export_price_nano_per_wh=60_000,
        trade_fee_nano_per_wh=draw(st.sampled_from([0, 20_000])),
        members=tuple(members),
    )
