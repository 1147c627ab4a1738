"""Registers made of tables that have each interval's energy instead.

Everything after the source knows registers only. A row of energy continues the register known at the border where its interval begins; or it
leads up to the one known where it ends; where neither is known, a register begins at a height that follows from the time alone. That
height rises from one interval to the next by more than any fuse carries. So tables can come in any order and with holes, and across a hole
nothing is ever taken for energy: the step is refused as too large.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .sources.base import Unusable
from .store import Observation

# By interval since 1970: more than flows through any connection, and far enough below 2^63 in the year 2100.
RISE_WH = 10**11

Registers = tuple[int, int]


@dataclass(slots=True)
class MadeRegisters:
    """The registers of one meter whose energy comes by interval.

    Args:
        interval_ms: length of an interval.
        stored: what the store has of the meter around the intervals in question.
    """

    interval_ms: int
    stored: Iterable[Observation]
    _known: dict[int, Registers] = field(init=False)

    def __post_init__(self) -> None:
        self._known = {item.time_ms: (item[2], item[3]) for item in self.stored}

    def add(
        self, start_ms: int, end_ms: int, taken_wh: int, given_wh: int
    ) -> list[tuple[int, Registers]]:
        """What an interval's energy says of the registers at its two borders, as far as it was not known.

        Args:
            start_ms, end_ms: where it begins and ends, Unix milliseconds.
            taken_wh, given_wh: its import and export.

        Returns:
            Border and registers, of none, one or both.

        Raises:
            Unusable: not one interval, more energy than can be, or both registers stand already and say another.
        """
        if start_ms % self.interval_ms or end_ms - start_ms != self.interval_ms:
            minutes = self.interval_ms // 60_000
            raise Unusable("clock", f"start, end: not one interval of {minutes} minutes")
        if max(taken_wh, given_wh) >= RISE_WH:
            raise Unusable("range", f"{max(taken_wh, given_wh)} Wh in an interval cannot be")
        before, after = self._known.get(start_ms), self._known.get(end_ms)
        if before is None:
            height = start_ms // self.interval_ms * RISE_WH
            before = (after[0] - taken_wh, after[1] - given_wh) if after else (height, height)
        end = (before[0] + taken_wh, before[1] + given_wh)
        if min(before) < 0 or after not in (None, end):
            raise Unusable(
                "contradiction", "the registers at its beginning and end say another energy already"
            )
        new = {start_ms: before, end_ms: end}.items() - self._known.items()
        self._known |= new
        return sorted(new)
