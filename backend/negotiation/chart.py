"""Line charts as SVG: self-contained, small, legible on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 652, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 28, 36, 48
# Distinguishable without colour vision too (Okabe, Ito 2008); dashes tell them apart in print.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 2")


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Attributes:
        name: for the legend; without one it is not in it.
        points: (x, y), in order; what a logarithmic axis cannot show is left out.
    """

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis.

    Attributes:
        label: with the unit.
        logarithmic: whether it is.
    """

    label: str
    logarithmic: bool = False

    def scaled(self, value: float) -> float:
        """The value, or its decimal logarithm."""
        return math.log10(value) if self.logarithmic else value

    def shows(self, value: float) -> bool:
        """Whether the value can be drawn."""
        return math.isfinite(value) and (value > 0 or not self.logarithmic)


def line_chart(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """The chart as an SVG document.

    Args:
        title: above the chart.
        x: horizontal axis.
        y: vertical axis.
        series: lines; all of them empty gives axes alone.
    """
    drawn = [
        [(x.scaled(a), y.scaled(b)) for a, b in line.points if x.shows(a) and y.shows(b)]
        for line in series
    ]
    points = [point for line in drawn for point in line] or [(0.0, 0.0), (1.0, 1.0)]
    x_ticks = _ticks(min(a for a, _ in points), max(a for a, _ in points), x.logarithmic)
    y_ticks = _ticks(min(b for _, b in points), max(b for _, b in points), y.logarithmic)

    def across(value: float) -> float:
        low, high = x_ticks[0], x_ticks[-1]
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        low, high = y_ticks[0], y_ticks[-1]
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for tick in x_ticks:
        at = f"{across(tick):.1f}"
        parts.append(
            f'<path d="M{at} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#dddddd"/>'
            f'<text x="{at}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_label(tick, x)}</text>'
        )
    for tick in y_ticks:
        at = f"{down(tick):.1f}"
        parts.append(
            f'<path d="M{_LEFT} {at}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 6}" y="{at}" dy="4" text-anchor="end">{_label(tick, y)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x.label)}</text>'
        f'<text transform="translate(14 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)"'
        f' text-anchor="middle">{escape(y.label)}</text>'
    )
    for index, (line, shown) in enumerate(zip(series, drawn, strict=True)):
        colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
        path = " ".join(f"{across(a):.1f},{down(b):.1f}" for a, b in shown)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{path}" {style}/>')
        if len(shown) <= 12:
            parts += [
                f'<circle cx="{across(a):.1f}" cy="{down(b):.1f}" r="3" fill="{colour}"/>'
                for a, b in shown
            ]
        if not line.name:
            continue
        high = _TOP + 14 + 16 * index
        parts.append(
            f'<path d="M{_WIDTH - _RIGHT - 174} {high - 4}h24" {style}/>'
            f'<text x="{_WIDTH - _RIGHT - 144}" y="{high}">{escape(line.name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """At least two values around the range; whole powers of ten on a logarithmic axis."""
    if high <= low:
        high = low + 1
    if logarithmic:
        first, last = math.floor(low), math.ceil(high)
        step = max(1, math.ceil((last - first) / 8))
        return [float(tick) for tick in range(first, last + step, step)]
    raw = (high - low) / 6
    power = 10 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw)
    count = math.ceil(high / step - 1e-9) - math.floor(low / step + 1e-9)
    first_tick = math.floor(low / step + 1e-9)
    return [(first_tick + number) * step for number in range(count + 1)]


def _label(value: float, axis: Axis) -> str:
    if not axis.logarithmic:
        return f"{value:g}"
    power = round(value)
    return f"{10**power:,}" if 0 <= power <= 4 else f"1e{power}"
