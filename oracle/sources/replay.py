"""Replays bundled SimBench days as if their households' meters were read now: a source to try everything out with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from backend.domain.errors import OutOfRange
from backend.domain.values import Value

from .base import ConnectionTest, Delivery, Sighting
from .simbench import (
    INTERVALS_PER_DAY,
    available_days,
    interval_energy_wh,
    load_feeder,
    select_households,
)

_INTERVAL_MS = 900_000


class Settings(Value):
    """Fields of a source of kind `simbench`."""

    households: Annotated[int, Field(gt=0, le=2000)] = 20
    seed: int = 0
    first_day: date = date(2016, 6, 29)
    start: date
    speed: Annotated[float, Field(gt=0)] | None = None

    def open(self, name: str, folder: Path) -> SimbenchReplay:
        """The source."""
        return SimbenchReplay(
            self.households, self.seed, self.first_day, self.start, self.speed, name
        )


class SimbenchReplay:
    """Registers of SimBench households at every quarter-hour's end, in UTC days.

    Args:
        households: how many.
        seed: chooses them.
        first_day: first bundled day; when the days run out they begin again.
        start: the day it is replayed as.
        speed: how many times faster than the clock; None for as fast as possible, one day and no more.
        name: of the source.

    Raises:
        OutOfRange: there are no data for the day.
    """

    def __init__(
        self,
        households: int,
        seed: int,
        first_day: date,
        start: date,
        speed: float | None = None,
        name: str = "simbench",
    ) -> None:
        self.name = name
        self._feeder = load_feeder()
        self._days = [day for day in available_days(self._feeder) if day >= first_day]
        if first_day not in self._days:
            raise OutOfRange(
                "first_day",
                str(first_day),
                "no data for the day",
                "see oracle/data/simbench/README.md",
            )
        self._households = select_households(self._feeder, households, seed)
        self._start = start
        self._speed = speed

    def test_connection(self) -> ConnectionTest:
        """Always works; the data are bundled."""
        names = tuple(item.household_id for item in self._households)
        return ConnectionTest(True, f"{len(names)} households, {len(self._days)} days", names)

    def deliveries(self, stop: Event) -> Iterator[Delivery]:
        """A delivery for each border of intervals, the first for the start of the day."""
        midnight = datetime.combine(self._start, datetime.min.time(), UTC)
        border_ms = int(midnight.timestamp() * 1000)
        registers = np.zeros((len(self._households), 2), dtype=np.int64)
        yield self._border(border_ms, registers)
        for number in range(1 if self._speed is None else 10**6):
            energy = self._energy(self._days[number % len(self._days)])
            for index in range(INTERVALS_PER_DAY):
                if self._speed is not None and stop.wait(_INTERVAL_MS / 1000 / self._speed):
                    return
                if stop.is_set():
                    return
                registers += energy[:, :, index]
                border_ms += _INTERVAL_MS
                yield self._border(border_ms, registers)

    def _energy(self, day: date) -> npt.NDArray[np.int64]:
        """Household, direction, interval."""
        return np.array([interval_energy_wh(item, day, self._feeder) for item in self._households])

    def _border(self, time_ms: int, registers: npt.NDArray[np.int64]) -> Delivery:
        return Delivery(
            tuple(
                Sighting(item.household_id, time_ms, int(taken), int(given))
                for item, (taken, given) in zip(self._households, registers, strict=True)
            )
        )
