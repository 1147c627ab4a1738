"""The running day as the previewer has cleared it so far, and days that wait for their batch; read from the database interval by interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.ledger.cycle import CycleStore, PreviewedReading, PreviewedTrade
from backend.ledger.tables import PreviewRow


@dataclass(frozen=True, slots=True)
class Previewed:
    """A member's part of a day without a batch, oldest first."""

    readings: list[PreviewedReading] = field(default_factory=list)
    trades: list[PreviewedTrade] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PreviewedInterval:
    """One interval of everybody.

    Plain tuples in the order of `PreviewedReading` and `PreviewedTrade`: thousands are kept, and the garbage collector, which
    stops everything while it looks at objects, leaves tuples of numbers alone.

    Attributes:
        readings: by slot.
        trades: everybody's.
        own_trades: by slot the positions of its trades.
    """

    readings: Mapping[int, tuple[int, ...]]
    trades: tuple[tuple[int, ...], ...]
    own_trades: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class RunningDay:
    """What was cleared so far.

    Attributes:
        rows: the intervals, oldest first.
        stamps: by interval everything its row says; another row means that it was cleared again.
        parts: by interval.
    """

    rows: tuple[PreviewRow, ...] = ()
    stamps: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)
    parts: Mapping[int, PreviewedInterval] = field(default_factory=dict)

    def own(self, slot: int, within: range) -> Previewed:
        """A member's part.

        Args:
            slot: whose.
            within: of which intervals.
        """
        found = Previewed()
        for part in self._parts(within):
            if slot in part.readings:
                found.readings.append(PreviewedReading(*part.readings[slot]))
            for index in part.own_trades.get(slot, ()):
                found.trades.append(PreviewedTrade(*part.trades[index]))
        return found

    def trades(self, within: range) -> list[PreviewedTrade]:
        """Everybody's trades of some intervals, oldest first."""
        return [PreviewedTrade(*trade) for part in self._parts(within) for trade in part.trades]

    def _parts(self, within: range) -> Iterator[PreviewedInterval]:
        return (part for interval, part in self.parts.items() if interval in within)


def read_running_day(store: CycleStore, before: RunningDay) -> RunningDay:
    """The running day as it is now; only what has changed is read.

    Args:
        store: the cycle.
        before: as it was read last.
    """
    rows = tuple(store.previews())
    stamps = {row.interval: tuple(row.model_dump().values()) for row in rows}
    changed = [interval for interval in stamps if stamps[interval] != before.stamps.get(interval)]
    readings, trades = store.preview_parts(changed)
    by_interval: dict[int, tuple[list[Any], list[Any]]] = {item: ([], []) for item in changed}
    for reading in readings:
        by_interval[reading.interval][0].append(tuple(reading))
    for trade in trades:
        by_interval[trade.interval][1].append(tuple(trade))
    fresh = {interval: _interval(*found) for interval, found in by_interval.items()}
    parts = {item: fresh[item] if item in fresh else before.parts[item] for item in stamps}
    return RunningDay(rows, stamps, parts)


def _interval(readings: list[tuple[int, ...]], trades: list[tuple[int, ...]]) -> PreviewedInterval:
    own: dict[int, list[int]] = defaultdict(list)
    for index, (_, seller, buyer, *_) in enumerate(trades):
        own[seller].append(index)
        own[buyer].append(index)
    return PreviewedInterval(
        {slot: (interval, slot, *rest) for interval, slot, *rest in readings},
        tuple(trades),
        {slot: tuple(found) for slot, found in own.items()},
    )
