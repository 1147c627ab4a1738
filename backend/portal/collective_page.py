"""The page `peerwatt demo --market collective` writes: how prices converge, who trades with whom, planned against metered; loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from backend.negotiation.chart import Axis, Series, line_chart

from .day_page import page_environment, static_text

COLLECTIVE_FORMAT: Final = "peerwatt/collective/1"
_NANO_PER_WH_PER_CENT = 10_000
_SECONDS_PER_HOUR = 3600


def render_collective_page(found: Mapping[str, Any]) -> str:
    """The page as HTML text, to be written in UTF-8.

    Args:
        found: the data.

    Raises:
        ValueError: another format.
    """
    if found.get("format") != COLLECTIVE_FORMAT:
        raise ValueError(f"format {found.get('format')!r}; this page shows {COLLECTIVE_FORMAT}")
    pictures = {
        "prices": _prices(found["convergence"]),
        "gap": _gap(found["convergence"]),
        "energy": _energy(found),
        "trade_prices": _trade_prices(found),
    }
    return (
        page_environment()
        .get_template("collective.html.j2")
        .render(
            found=found,
            pictures={name: Markup(picture) for name, picture in pictures.items()},
            matrix=_matrix(found["trades"]),
            largest_deviation_wh=max(
                (item["deviation_wh"] for item in found["households"]), default=0
            ),
            style=Markup(static_text("day.css")),
        )
    )


def _prices(convergence: Mapping[str, Any]) -> str:
    """Each household's price by round; no legend, which would be longer than the picture."""
    series = [
        Series(
            "", [(at, nano / _NANO_PER_WH_PER_CENT) for at, nano in _points(convergence, prices)]
        )
        for prices in convergence["prices"].values()
    ]
    return line_chart("Each household's posted price", Axis("round"), Axis("cents per kWh"), series)


def _points(convergence: Mapping[str, Any], values: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(convergence["rounds"], values, strict=True))


def _gap(convergence: Mapping[str, Any]) -> str:
    gaps = Series("certified gap", _points(convergence, convergence["gaps"]))
    return line_chart(
        "How far from the best trades",
        Axis("round"),
        Axis("relative gap", logarithmic=True),
        [gaps],
    )


def _by_hour(found: Mapping[str, Any], name: str, divisor: float = 1) -> list[tuple[float, float]]:
    seconds = found["interval_minutes"] * 60
    return [
        (item["interval"] * seconds % 86_400 / _SECONDS_PER_HOUR, item[name] / divisor)
        for item in found["intervals"]
        if item[name] is not None
    ]


def _energy(found: Mapping[str, Any]) -> str:
    lines = (
        ("agreed ahead", "energy_wh"),
        ("metered surplus", "surplus_wh"),
        ("metered shortage", "shortage_wh"),
        ("deviations", "deviation_wh"),
    )
    series = [Series(words, _by_hour(found, name)) for words, name in lines]
    return line_chart("Planned against metered", Axis("hour, UTC"), Axis("Wh an interval"), series)


def _trade_prices(found: Mapping[str, Any]) -> str:
    series = [
        Series(f"{word} price", _by_hour(found, f"{word}_price_nano_per_wh", _NANO_PER_WH_PER_CENT))
        for word in ("least", "highest")
    ]
    return line_chart("Prices of signed trades", Axis("hour, UTC"), Axis("cents per kWh"), series)


def _matrix(trades: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sellers by buyers: energy, and the share of the largest in percent for the shade."""
    energy = {(item["seller"], item["buyer"]): item["energy_wh"] for item in trades}
    largest = max(energy.values(), default=1)
    sellers, buyers = (
        [*dict.fromkeys(item[side] for item in trades)] for side in ("seller", "buyer")
    )
    rows = [
        (
            seller,
            [
                (energy.get((seller, buyer), 0), 100 * energy.get((seller, buyer), 0) // largest)
                for buyer in buyers
            ],
        )
        for seller in sellers
    ]
    return {"buyers": buyers, "rows": rows}
