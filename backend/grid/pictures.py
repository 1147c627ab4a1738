"""The feeder before and after, as one SVG file that loads nothing: map, voltage by electrical distance, highest loadings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Final

import numpy as np

from backend.market.electrical_distance import thevenin_distances

from .model import GridModel
from .power_flow import Floats, GridPowerFlow

_WIDTH: Final = 1040
_MAP_HEIGHT: Final = 430
_CHART_HEIGHT: Final = 260
_MARGIN: Final = 40
_BARS: Final = 8
# Part of the room to the limit that is used up, its colour and a line's width: told apart by width too, not by colour alone.
_CLASSES: Final = (
    (0.5, "#8fb3c9", 1.5, "up to half of the limit"),
    (0.8, "#4f7f9f", 2.2, "up to 80 %"),
    (1.0, "#d99a2b", 3.2, "up to the limit"),
    (np.inf, "#b3121d", 5.0, "over the limit"),
)
_INK: Final = "#222"


def coordination_svg(
    flow: GridPowerFlow, before: Floats | None, after: Floats | None, title: str
) -> str:
    """Both states side by side.

    Args:
        before, after: (limits,) values of the power flow; None where there is no solution.
        title: a line of text above.
    """
    model = flow.model
    located = all(bus.longitude_degree is not None for bus in model.buses)
    top = 64 if not located else 64 + _MAP_HEIGHT
    height = top + _CHART_HEIGHT + 70
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
        f' font-size="12" fill="{_INK}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(_MARGIN, 24, title, size=16, weight="bold"),
    ]
    half = _WIDTH / 2
    for left, values, label in ((0.0, before, "before"), (half, after, "after")):
        body.append(_text(left + _MARGIN, 50, _headline(flow, values, label), weight="bold"))
        if located and values is not None:
            body += _map(flow, values, left, 60)
    body += _voltages(flow, before, after, 0.0, top)
    body += _loadings(flow, before, after, half, top)
    body += _legend(height - 18)
    return "\n".join([*body, "</svg>", ""])


def _headline(flow: GridPowerFlow, values: Floats | None, label: str) -> str:
    if values is None:
        return f"{label}: no power flow"
    voltage, loading = _parts(flow, values)
    broken = int((values > flow.bounds + 1e-9).sum())
    return (
        f"{label}: voltage {voltage.min():.3f} to {voltage.max():.3f}, highest loading {loading.max():.0%},"
        f" {broken or 'no'} limit{'' if broken == 1 else 's'} broken"
    )


def _parts(flow: GridPowerFlow, values: Floats) -> tuple[Floats, Floats]:
    count = len(flow.model.buses)
    return values[:count], values[2 * count :]


def _used(flow: GridPowerFlow, values: Floats) -> tuple[Floats, Floats]:
    """The part of the limit that each bus and each branch uses up."""
    count = len(flow.model.buses)
    voltage, loading = _parts(flow, values)
    high, low = flow.bounds[0], -flow.bounds[count]
    at_bus = np.maximum((voltage - 1) / (high - 1), (1 - voltage) / (1 - low))
    return at_bus, loading / flow.bounds[2 * count :]


def _style(used: float) -> tuple[str, float]:
    return next((colour, width) for upto, colour, width, _ in _CLASSES if used <= upto + 1e-9)


def _map(flow: GridPowerFlow, values: Floats, left: float, top: float) -> Iterator[str]:
    model = flow.model
    across, down = _projection(model)
    at_bus, on_branch = _used(flow, values)
    at = {
        bus.id: (left + _MARGIN + x, top + y)
        for bus, x, y in zip(model.buses, across, down, strict=True)
    }
    # Transformers are boxes: their two buses are in one place, whatever the file says.
    drawn = list(zip(model.ends(), on_branch.tolist(), strict=True))[: len(model.lines)]
    for (one, other), used in sorted(drawn, key=lambda item: item[1]):
        colour, width = _style(used)
        (x1, y1), (x2, y2) = at[one], at[other]
        yield (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
            f' stroke-width="{width}" stroke-linecap="round"/>'
        )
    upper = {item.high_voltage_bus for item in model.transformers}
    for bus, used in zip(model.buses, at_bus.tolist(), strict=True):
        if bus.id in upper:
            continue
        colour, width = _style(used)
        x, y = at[bus.id]
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{1.6 + width / 2:.1f}" fill="{colour}"/>'
    for number, item in enumerate(model.transformers, start=len(model.lines)):
        x, y = at[item.low_voltage_bus]
        colour, _ = _style(float(on_branch[number]))
        yield (
            f'<rect x="{x - 7:.1f}" y="{y - 7:.1f}" width="14" height="14" fill="#fff" stroke="{colour}" stroke-width="4"/>'
        )


def _projection(model: GridModel) -> tuple[Floats, Floats]:
    """Positions of the buses in pixels, the longer side filling the panel."""
    longitude = np.array([bus.longitude_degree for bus in model.buses], dtype=np.float64)
    latitude = np.array([bus.latitude_degree for bus in model.buses], dtype=np.float64)
    x = (longitude - longitude.min()) * np.cos(np.radians(latitude.mean()))
    y = latitude.max() - latitude
    room_x, room_y = _WIDTH / 2 - 2 * _MARGIN, _MAP_HEIGHT - 2 * 20
    scale = min(room_x / (np.ptp(x) or 1), room_y / (np.ptp(y) or 1))
    return x * scale, y * scale + 16


def _voltages(
    flow: GridPowerFlow, before: Floats | None, after: Floats | None, left: float, top: float
) -> Iterator[str]:
    """Voltage over the resistance between bus and source."""
    model = flow.model
    buses, branches = model.branches()
    distance = thevenin_distances(buses, branches, "thevenin-impedance")
    ohms = 1000 * distance[model.place[model.source.bus]]
    count = len(buses)
    high, low = float(flow.bounds[0]), -float(flow.bounds[count])
    seen = [values[:count] for values in (before, after) if values is not None]
    top_of = max([high, *(float(v.max()) for v in seen)]) + 0.005
    bottom_of = min([low, *(float(v.min()) for v in seen)]) - 0.005
    x, y = _axes(left, top, float(ohms.max()) or 1.0, bottom_of, top_of)
    yield _text(
        left + _MARGIN, top + 4, "Voltage by impedance to the source (milliohm)", weight="bold"
    )
    for bound in (high, 1.0, low):
        dash = "" if bound == 1.0 else ' stroke-dasharray="5 4"'
        colour = "#bbb" if bound == 1.0 else "#b3121d"
        yield (
            f'<line x1="{x(0):.1f}" y1="{y(bound):.1f}" x2="{x(ohms.max()):.1f}" y2="{y(bound):.1f}" stroke="{colour}"{dash}/>'
        )
        yield _text(x(0) - 34, y(bound) + 4, f"{bound:.2f}")
    for mark in np.linspace(0, ohms.max(), 5):
        yield _text(x(mark), top + _CHART_HEIGHT - 2, f"{mark:.0f}", anchor="middle")
    for values, filled in ((before, False), (after, True)):
        if values is None:
            continue
        for ohm, voltage in zip(ohms, values[:count], strict=True):
            paint = 'fill="#1f5f8b"' if filled else 'fill="none" stroke="#b3121d"'
            yield f'<circle cx="{x(ohm):.1f}" cy="{y(voltage):.1f}" r="3" {paint}/>'


def _axes(
    left: float, top: float, widest: float, bottom_of: float, top_of: float
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    start, end = left + _MARGIN + 36, left + _WIDTH / 2 - _MARGIN
    upper, lower = top + 18, top + _CHART_HEIGHT - 20

    def x(value: float) -> float:
        return start + value / widest * (end - start)

    def y(value: float) -> float:
        return lower - (value - bottom_of) / (top_of - bottom_of) * (lower - upper)

    return x, y


def _loadings(
    flow: GridPowerFlow, before: Floats | None, after: Floats | None, left: float, top: float
) -> Iterator[str]:
    """The branches with the highest loading in either state."""
    names = [limit.element for limit in flow.limits[2 * len(flow.model.buses) :]]
    nothing = np.zeros(len(names))
    states = [nothing if v is None else _parts(flow, v)[1] for v in (before, after)]
    order = np.argsort(-np.maximum(*states))[:_BARS]
    widest = max(1.05, float(np.maximum(*states).max(initial=0)))
    start, end = left + _MARGIN + 90, _WIDTH - _MARGIN - 90
    yield _text(
        left + _MARGIN, top + 4, "Highest loadings, before (outline) and after", weight="bold"
    )
    step = (_CHART_HEIGHT - 40) / _BARS
    for row, branch in enumerate(order.tolist()):
        y = top + 20 + row * step
        yield _text(start - 8, y + step / 2, names[branch], anchor="end")
        for value, offset, filled in (
            (states[0][branch], 0.0, False),
            (states[1][branch], 0.42, True),
        ):
            paint = 'fill="#1f5f8b"' if filled else 'fill="none" stroke="#b3121d"'
            width = value / widest * (end - start)
            yield (
                f'<rect x="{start}" y="{y + offset * step:.1f}" width="{width:.1f}" height="{step * 0.36:.1f}" {paint}/>'
            )
        yield _text(
            end + 90,
            y + step / 2,
            f"{states[0][branch]:.0%} / {states[1][branch]:.0%}",
            anchor="end",
        )
    limit = start + float(flow.bounds[-1]) / widest * (end - start)
    yield (
        f'<line x1="{limit:.1f}" y1="{top + 14}" x2="{limit:.1f}" y2="{top + _CHART_HEIGHT - 20}" stroke="#b3121d" stroke-dasharray="5 4"/>'
    )


def _legend(y: float) -> Iterator[str]:
    x = float(_MARGIN)
    for _, colour, width, label in _CLASSES:
        yield f'<line x1="{x}" y1="{y}" x2="{x + 28}" y2="{y}" stroke="{colour}" stroke-width="{width}"/>'
        yield _text(x + 36, y + 4, label)
        x += 190
    yield _text(x, y + 4, "line: loading; dot: voltage")


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: str = "normal", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
