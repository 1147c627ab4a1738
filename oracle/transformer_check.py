"""The transformer's meter as a bound on the members' (mechanism, section 10).

What comes in over the transformer less what goes out is what members and others take, and losses:

    import - export = sum of members' (import - export) + others + losses,    0 <= losses <= stated

Members report their own meters. If their sum leaves this band somebody's readings are wrong, or a meter is missing; the check
says in which interval and by how much, not whose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from eth_utils.address import to_checksum_address

from backend.domain.community import Member
from backend.domain.errors import MalformedInput
from backend.domain.readings import IntervalReading, Quality

from .config import OtherEntry, TransformerEntry
from .node import OracleNode


@dataclass(frozen=True, slots=True)
class StatedLosses:
    """The most that lines and transformer lose in an interval.

    Attributes:
        fixed_wh: whatever flows (iron losses, meters), at least 0.
        permille_of_throughput: of all members' import and export together, at least 0.
        rounding_wh: how far registers read in whole Wh may be out, in either direction; by default 1 for each meter.
    """

    fixed_wh: int
    permille_of_throughput: int
    rounding_wh: int | None = None

    def __post_init__(self) -> None:
        numbers = (self.fixed_wh, self.permille_of_throughput, self.rounding_wh or 0)
        if min(numbers) < 0:
            raise ValueError(f"stated losses must not be negative: {numbers}")


@dataclass(frozen=True, slots=True)
class TransformerGap:
    """An interval in which the transformer's meter and the members' do not fit.

    Attributes:
        interval: its number.
        losses_wh: what is left over for losses.
        allowed_wh: the most that is stated.
        gap_wh: beyond the band; negative if members report more taken or less fed in than came through, positive if energy is missing.
    """

    interval: int
    losses_wh: int
    allowed_wh: int
    gap_wh: int


def transformer_gaps(
    transformer_import_wh: Sequence[int],
    transformer_export_wh: Sequence[int],
    members_import_wh: Sequence[Sequence[int]],
    members_export_wh: Sequence[Sequence[int]],
    stated: StatedLosses,
    others_wh: Sequence[int] | None = None,
) -> list[TransformerGap]:
    """The intervals in which members' readings and the transformer's meter differ by more than losses.

    Args:
        transformer_import_wh, transformer_export_wh: T intervals, from and to the grid above.
        members_import_wh, members_export_wh: T intervals of N members.
        others_wh: T intervals, what known others behind the transformer take, metered or estimated; nothing without.

    Raises:
        ValueError: the series are not of one length.
    """
    count = len(transformer_import_wh)
    known = [0] * count if others_wh is None else others_wh
    series = (transformer_export_wh, members_import_wh, members_export_wh, known)
    if any(len(item) != count for item in series):
        raise ValueError(f"series of {count} and {[len(item) for item in series]} intervals")
    gaps = []
    for interval, (come, gone, imports, exports, others) in enumerate(
        zip(transformer_import_wh, *series, strict=True)
    ):
        if len(imports) != len(exports):
            raise ValueError(
                f"interval {interval}: {len(imports)} imports and {len(exports)} exports"
            )
        taken, fed_in = sum(imports), sum(exports)
        slack = len(imports) + 1 if stated.rounding_wh is None else stated.rounding_wh
        losses = come - gone - (taken - fed_in) - others
        allowed = stated.fixed_wh + stated.permille_of_throughput * (taken + fed_in) // 1000
        gap = min(losses + slack, 0) or max(losses - allowed - slack, 0)
        if gap:
            gaps.append(TransformerGap(interval, losses, allowed, gap))
    return gaps


@dataclass(frozen=True, slots=True)
class TransformerPeriod:
    """A period held against the transformer's meter.

    Attributes:
        checked: how many intervals were.
        gaps: those that do not fit, by their numbers since the Unix epoch.
        unchecked: by interval, how many values are not measured, so that nothing can be said.
    """

    checked: int
    gaps: tuple[TransformerGap, ...]
    unchecked: dict[int, int]


def check_period(node: OracleNode, number: int) -> TransformerPeriod:
    """Holds a period's readings, as this signer has them, against the configured transformer's meter.

    Raises:
        MalformedInput: no transformer is configured, or no such period.
    """
    entry = node.config.file.transformer
    if entry is None:
        raise MalformedInput(
            "transformer",
            None,
            "no transformer's meter is configured",
            "add `transformer` to the configuration, see docs/oracle.md",
        )
    period = node.config.period(number)
    members = [item.readings for item in node.readings.validated(period)]
    not_members = [_as_member(entry), *(_as_member(item) for item in entry.others)]
    around = {
        item.member.meter: item.readings for item in node.readings.validated(period, not_members)
    }
    meter = around.pop(to_checksum_address(entry.meter))
    others = list(around.values())
    unchecked, whole = {}, []
    for index in range(period.interval_count):
        here = [readings[index] for readings in (meter, *members, *others)]
        doubtful = sum(reading.quality is not Quality.MEASURED for reading in here)
        if doubtful:
            unchecked[period.first_interval + index] = doubtful
        else:
            whole.append(index)
    rounding = entry.rounding_wh
    if rounding is None:
        rounding = len(members) + len(not_members)
    gaps = transformer_gaps(
        [meter[index].import_wh for index in whole],
        [meter[index].export_wh for index in whole],
        [[readings[index].import_wh for readings in members] for index in whole],
        [[readings[index].export_wh for readings in members] for index in whole],
        StatedLosses(entry.fixed_loss_wh, entry.loss_permille, rounding),
        [_taken_wh(readings[index] for readings in others) for index in whole],
    )
    return TransformerPeriod(
        len(whole),
        tuple(replace(gap, interval=period.first_interval + whole[gap.interval]) for gap in gaps),
        unchecked,
    )


def _as_member(entry: TransformerEntry | OtherEntry) -> Member:
    """Read like a member's meter; only the slot says that it is none."""
    return Member(-1, "", "", to_checksum_address(entry.meter), "", "", entry.fuse_limit_wh)


def _taken_wh(readings: Iterable[IntervalReading]) -> int:
    return sum(reading.import_wh - reading.export_wh for reading in readings)
