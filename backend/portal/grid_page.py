"""The page `peerwatt demo --grid` writes: feeders before and after, fees with reasons, and the operator's account; loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from .day_page import page_environment, static_text

GRID_DAY_FORMAT: Final = "peerwatt/grid-day/1"


def render_grid_page(day: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The page as HTML text, to be written in UTF-8.

    Args:
        day: `peerwatt/grid-day/1`.
        pictures: by case, its feeder as SVG of ours (`backend.grid.pictures`, which escapes all names).

    Raises:
        ValueError: another format.
    """
    if day.get("format") != GRID_DAY_FORMAT:
        raise ValueError(f"format {day.get('format')!r}; this page shows {GRID_DAY_FORMAT}")
    return (
        page_environment()
        .get_template("grid.html.j2")
        .render(
            day=day,
            sums={case["name"]: _sums(case) for case in day["cases"]},
            pictures={name: Markup(picture) for name, picture in pictures.items()},
            style=Markup(static_text("day.css")),
        )
    )


def _sums(case: Mapping[str, Any]) -> dict[str, int]:
    columns = (
        "demand_wh",
        "supply_wh",
        "traded_wh",
        "members_nano",
        "trade_fees_nano",
        "operator_fees_on_trades_nano",
        "operator_fees_through_supplier_nano",
    )
    return {column: sum(item[column] for item in case["quarter_hours"]) for column in columns}
