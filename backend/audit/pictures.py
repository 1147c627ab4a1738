"""An audit's pictures as plain shapes, which page and print draw alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from .intervals import IntervalOutcome
from .verdict import AuditVerdict, PeriodVerdict

# Colours that people with any kind of colour vision can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, GREY, INK, RED = (
    "#0072b2", "#e69f00", "#009e73", "#b5b5b5", "#222222", "#d55e00",
)  # fmt: skip
_WIDTH, _HEIGHT = 900.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 40.0, 34.0
# More bars than this are too thin to see: periods are drawn whole then.
_MOST_BARS = 800
_MOST_COLUMNS = 120
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANO = 10**9


@dataclass(frozen=True)
class Rect:
    """A filled rectangle, y downwards."""

    x: float
    y: float
    width: float
    height: float
    color: str
    tip: str = ""


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x: float
    y: float
    to_x: float
    to_y: float
    color: str


@dataclass(frozen=True)
class Text:
    """Words at a place; `anchor` is start, middle or end."""

    x: float
    y: float
    words: str
    size: float = 11
    anchor: str = "start"


@dataclass
class Picture:
    """Shapes on a sheet."""

    title: str
    width: float = _WIDTH
    height: float = _HEIGHT
    shapes: list[Rect | Line | Text] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """One part of each bar: its name, colour and values; below zero goes downwards."""

    name: str
    color: str
    values: Sequence[float]


def pictures(verdict: AuditVerdict, interval_seconds: int = 900) -> list[Picture]:
    """Energy and money per interval, checks per period.

    Args:
        verdict: the audit's.
        interval_seconds: length of an interval.
    """
    each, labels, outcomes = _series(verdict.periods, interval_seconds)
    drawn = []
    if outcomes:
        drawn = [
            bars(
                f"Energy per {each}, kWh",
                labels,
                [
                    Part("traded inside", BLUE, [o.matched_wh / 1e3 for o in outcomes]),
                    Part("bought outside", ORANGE, [(o.demand_wh - o.matched_wh) / 1e3 for o in outcomes]),
                    Part("sold outside", GREEN, [(o.matched_wh - o.supply_wh) / 1e3 for o in outcomes]),
                ],
            ),
            bars(
                f"Money per {each}, currency units: what the community pays (below zero: receives)",
                labels,
                [
                    Part("to the outside supplier", ORANGE, [o.supplier_nano / NANO for o in outcomes]),
                    Part("network fees", BLUE, [o.fees_nano / NANO for o in outcomes]),
                ],
            ),
            bars(
                f"Saved by trading inside per {each}, currency units",
                labels,
                [Part("saved against everybody outside", GREEN, [o.saved_nano / NANO for o in outcomes])],
            ),
        ]  # fmt: skip
    return [*drawn, checks_picture(verdict)]


def _series(
    periods: Sequence[PeriodVerdict], interval_seconds: int
) -> tuple[str, list[str], list[IntervalOutcome]]:
    """What a bar stands for, labels and outcomes: of intervals, or of whole periods where there are too many."""
    newest = {item.period: item for item in periods if item.outcomes}
    count = sum(len(item.outcomes) for item in newest.values())
    labels, found = [], []
    for item in newest.values():
        if count > _MOST_BARS:
            labels.append(day(item.period))
            found.append(_sum(item.outcomes))
            continue
        for index, outcome in enumerate(item.outcomes):
            seconds = (item.first_interval + index) * interval_seconds
            labels.append(datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M"))
            found.append(outcome)
    return ("day" if count > _MOST_BARS else "interval"), labels, found


def day(period: int) -> str:
    """A period's local date."""
    return (_EPOCH + timedelta(days=period)).strftime("%Y-%m-%d")


def _sum(outcomes: Sequence[IntervalOutcome]) -> IntervalOutcome:
    names = (
        "demand_wh",
        "supply_wh",
        "matched_wh",
        "supplier_nano",
        "fees_nano",
        "saved_nano",
        "fund_nano",
    )
    totals = [sum(getattr(item, name) for item in outcomes) for name in names]
    return IntervalOutcome(*(*totals, 0, 0))


def bars(title: str, labels: Sequence[str], parts: Sequence[Part]) -> Picture:
    """Stacked bars over time."""
    picture = Picture(title)
    high = max(
        (sum(max(v, 0) for v in bar) for bar in zip(*(p.values for p in parts), strict=True)),
        default=0,
    )
    low = min(
        (sum(min(v, 0) for v in bar) for bar in zip(*(p.values for p in parts), strict=True)),
        default=0,
    )
    span = (high - low) or 1.0
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    scale = (_HEIGHT - _TOP - _BOTTOM) / span

    def y_of(value: float) -> float:
        return _TOP + (high - value) * scale

    for tick in _ticks(low, high):
        picture.shapes.append(Line(_LEFT, y_of(tick), _WIDTH - _RIGHT, y_of(tick), "#dddddd"))
        picture.shapes.append(Text(_LEFT - 6, y_of(tick) + 4, f"{tick:,.4g}", 10, "end"))
    for index, label in enumerate(labels):
        up = down = 0.0
        for part in parts:
            value = part.values[index]
            start = up if value > 0 else down
            if value > 0:
                up += value
            else:
                down += value
            if value:
                top = max(start, start + value)
                tip = f"{label}: {part.name} {value:,.4g}"
                picture.shapes.append(
                    Rect(
                        _LEFT + index * width,
                        y_of(top),
                        max(width * 0.9, 0.4),
                        abs(value) * scale,
                        part.color,
                        tip,
                    )
                )
    picture.shapes.append(Line(_LEFT, y_of(0), _WIDTH - _RIGHT, y_of(0), INK))
    _legend(picture, [(part.name, part.color) for part in parts])
    for place, label in ((0, "start"), (len(labels) - 1, "end")):
        if labels:
            x = _LEFT if label == "start" else _WIDTH - _RIGHT
            picture.shapes.append(Text(x, _HEIGHT - 12, labels[place], 10, label))
    return picture


def _ticks(low: float, high: float) -> list[float]:
    span = (high - low) or 1.0
    power = 10.0 ** (len(str(int(span))) - 1 if span >= 1 else -4)
    steps = [power * factor for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10, 100, 1000)]
    step = next((item for item in steps if span / item <= 6), steps[-1])
    first = int(low / step) - 1
    return [n * step for n in range(first, first + 12) if low <= n * step <= high]


def _legend(picture: Picture, entries: Sequence[tuple[str, str]]) -> None:
    starts = accumulate((len(name) * 6.5 + 34 for name, _ in entries), initial=_LEFT)
    for (name, color), x in zip(entries, starts, strict=False):
        picture.shapes += [Rect(x, 14, 12, 12, color), Text(x + 17, 24, name)]


def checks_picture(verdict: AuditVerdict) -> Picture:
    """Every statement against every period: passed, failed, or not checked; many periods share a column, the worst one shows."""
    statements = list(dict.fromkeys(c.what for p in verdict.periods for c in p.checks))
    columns = _columns(verdict.periods)
    row, left = 13.0, 420.0
    picture = Picture("Checks per period", _WIDTH, _TOP + row * len(statements) + _BOTTOM)
    width = min((_WIDTH - left - _RIGHT) / max(len(columns), 1), 40.0)
    colors = {True: BLUE, None: GREY, False: RED}
    for place, what in enumerate(statements):
        y = _TOP + place * row
        words = what if len(what) <= 74 else what[:72] + "…"
        picture.shapes.append(Text(left - 8, y + 9, words, 9, "end"))
        for column, periods in enumerate(columns):
            found = [c.passed for p in periods for c in p.checks if c.what == what]
            if found:
                worst = False if False in found else None if None in found else True
                tip = f"{day(periods[0].period)}: {what}"
                picture.shapes.append(
                    Rect(
                        left + column * width, y, max(width * 0.9, 0.4), row - 2, colors[worst], tip
                    )
                )
    _legend(picture, [("right", BLUE), ("not checked", GREY), ("wrong", RED)])
    if columns:
        bottom = picture.height - 16
        last = left + width * len(columns)
        picture.shapes.append(Text(left, bottom, day(columns[0][0].period), 10))
        if len(columns) > 3:
            picture.shapes.append(Text(last, bottom, day(columns[-1][-1].period), 10, "end"))
    return picture


def _columns(periods: Sequence[PeriodVerdict]) -> list[Sequence[PeriodVerdict]]:
    size = -(-len(periods) // _MOST_COLUMNS) or 1
    return [periods[start : start + size] for start in range(0, len(periods), size)]
