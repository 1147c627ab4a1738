"""Looking at an oracle's store: completeness of a period, and whether everything in it still holds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from backend.domain.errors import ReportRefused
from backend.domain.intervals import Period
from backend.domain.readings import Quality

from .node import OracleNode, differing
from .wire import recover_signers

_BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class MeterRow:
    """One meter's period.

    Attributes:
        slot: whose.
        meter: its address.
        qualities: by interval.
        reasons: by interval, why a value is not measured.
    """

    slot: int
    meter: str
    qualities: tuple[Quality, ...]
    reasons: dict[int, str]


def completeness(node: OracleNode, number: int) -> list[MeterRow]:
    """Meters against intervals: what is measured, substituted and missing, and why; in slot order.

    Raises:
        MalformedInput: no such period.
    """
    rows = [
        MeterRow(
            item.member.slot,
            item.member.meter,
            tuple(reading.quality for reading in item.readings),
            dict(item.reasons),
        )
        for item in node.readings.validated(node.config.period(number))
    ]
    return sorted(rows, key=lambda row: row.slot)


def picture(qualities: tuple[Quality, ...], per_character: int = 4) -> str:
    """A row as characters: full measured, shaded substituted, dot missing; the worst of each few intervals."""
    signs = {Quality.MEASURED: "█", Quality.SUBSTITUTED: "▒", Quality.MISSING: "·"}
    parts = [
        qualities[start : start + per_character]
        for start in range(0, len(qualities), per_character)
    ]
    return "".join(signs[max(part)] for part in parts)


def gaps(row: MeterRow, period: Period, zone: str) -> list[str]:
    """Intervals of a row that are not measured, as ranges of local time with their reason."""
    found: list[tuple[int, int, str]] = []
    for interval in sorted(row.reasons):
        reason = kind_of(row.reasons[interval])
        if found and found[-1][1] == interval and found[-1][2] == reason:
            found[-1] = (found[-1][0], interval + 1, reason)
        else:
            found.append((interval, interval + 1, reason))

    def local(interval: int) -> str:
        moment = datetime.fromtimestamp(interval * period.interval_minutes * 60, ZoneInfo(zone))
        return moment.strftime("%H:%M%z")[:-2]

    return [f"{local(first)} to {local(end)}: {reason}" for first, end, reason in found]


def kind_of(reason: str) -> str:
    """A reason without its numbers, so that equal ones can be counted."""
    words = [word for word in reason.split() if not word.strip("();:,.").isdigit()]
    return " ".join(words)


def summary(rows: list[MeterRow]) -> dict[str, int]:
    """How many values are measured, substituted and missing."""
    counts = Counter(quality for row in rows for quality in row.qualities)
    return {quality.name.lower(): counts[quality] for quality in Quality}


def find_faults(node: OracleNode, number: int) -> tuple[int, list[str]]:
    """Checks every stored reading of a period anew, and the reports this signer signed against its readings of today.

    Returns:
        How many readings were checked, and what is wrong.
    """
    period = node.config.period(number)
    intervals = range(period.first_interval - 1, period.first_interval + period.interval_count)
    faults: list[str] = []
    checked = 0
    for interval in intervals:
        rows = list(node.store.readings([interval]))
        for start in range(0, len(rows), _BATCH_ROWS):
            batch = rows[start : start + _BATCH_ROWS]
            found = recover_signers(node.config.domain, b"".join(row.packed() for row in batch))
            checked += len(batch)
            faults += [
                f"reading of meter 0x{row.meter.hex()} in interval {interval}: signature or hash does not fit"
                for row, (digest, signer) in zip(batch, found, strict=True)
                if (row.hash, row.signer) != (digest, signer)
            ]
    version = 0
    while (kept := node.store.report(number, version)) is not None:
        faults += _report_faults(node, number, version, json.loads(kept))
        version += 1
    return checked, faults


def _report_faults(node: OracleNode, number: int, version: int, kept: dict[str, Any]) -> list[str]:
    if node.store.report(number, version + 1) is not None:
        return []  # superseded; the newer one is compared
    try:
        draft = node.draft(number, version)
    except ReportRefused as error:
        return [] if version else [f"version {version}: {error.message}"]
    vectors = {int(slot): bytes.fromhex(text) for slot, text in kept["vectors"].items()}
    now = draft.vectors()
    return [
        f"version {version}, slot {slot}: {len(differing(vectors.get(slot, b''), now.get(slot, b'')))} "
        "intervals differ from today's readings; ask for the next version"
        for slot in sorted(set(vectors) | set(now))
        if vectors.get(slot) != now.get(slot)
    ]
