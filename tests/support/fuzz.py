"""Broken messages, and what must hold of whatever a decoder makes of them.

`PEERWATT_FUZZ_MESSAGES=10000` sends as many to each source; without it a tenth of that.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from backend.domain.readings import Quality
from oracle.sources.base import IntervalEnergy, Item, Page, Refusal, Sighting

MESSAGES = int(os.environ.get("PEERWATT_FUZZ_MESSAGES", "1000"))
INTERESTING = [
    b"", b"\0", b"\xff", b"-", b"1e999", b"-1", b"NaN", b"Infinity", b"null", b"true", b"[]", b"{}",
    b'"', b"\\ud800", b"9" * 30, b"0" * 400, b"[" * 50, b"2026-06-21T12:00:00Z", b"kW", b"MWh", b"|", b"!",
]  # fmt: skip


def mutations(seeds: list[bytes], count: int = MESSAGES) -> Iterator[bytes]:
    """Messages changed in one to four places: bits, bytes, pieces cut, doubled, swapped with another message's, or set in."""
    chance = random.Random(20)
    for _ in range(count):
        message = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(message) + 1)
            end = min(len(message), at + chance.randrange(1, 24))
            match chance.randrange(7):
                case 0 if message:
                    message[at % len(message)] ^= 1 << chance.randrange(8)
                case 1:
                    message[at:end] = chance.randbytes(end - at)
                case 2:
                    del message[at:end]
                case 3:
                    message[at:at] = message[at:end]
                case 4:
                    message[at:end] = chance.choice(INTERESTING)
                case 5:
                    other = chance.choice(seeds)
                    start = chance.randrange(len(other) + 1)
                    message[at:end] = other[start : start + chance.randrange(40)]
                case 6 if chance.random() < 0.1:
                    message[:] = chance.randbytes(chance.randrange(200))
        yield bytes(message)


def check_items(items: Iterable[Item]) -> Counter[str]:
    """What must hold of anything that comes out; how often what came out."""
    seen: Counter[str] = Counter()
    for item in items:
        if isinstance(item, Refusal):
            assert item.code
            assert item.reason
            seen[item.code] += 1
            continue
        if isinstance(item, Page):
            assert item.device
            assert 0 <= item.number < 10**18
            continue
        assert isinstance(item, Sighting | IntervalEnergy)
        if isinstance(item, IntervalEnergy):
            times_ms = [item.start_ms, item.end_ms]
            assert item.quality is not Quality.MISSING
        else:
            times_ms = [item.time_ms]
        assert all(946_684_800_000 <= time_ms < 4_102_444_800_000 for time_ms in times_ms)
        for register in (item.import_wh, item.export_wh):
            assert register is None or 0 <= register < 2**63
        seen["taken"] += 1
    return seen


def run(
    seeds: list[bytes], decode: Callable[[bytes], Iterable[Item]], kinds: int = 3
) -> tuple[Counter[str], list[tuple[bytes, list[Item]]]]:
    """Every mutation through the decoder; what came out by kind, and the messages that something was taken of."""
    total: Counter[str] = Counter()
    taken = []
    for message in mutations(seeds):
        items = list(decode(message))
        found = check_items(items)
        total += found
        if found["taken"]:
            taken.append((message, items))
    assert total["taken"] < total.total(), "most of them are broken"
    assert len(total) >= kinds, "refused for more than one reason"
    return total, taken


def all_stand_in(items: Iterable[Item], possible: set[int | None]) -> bool:
    return all(
        {item.import_wh, item.export_wh} <= possible
        for item in items
        if isinstance(item, Sighting | IntervalEnergy)
    )


def written_wh(message: bytes) -> set[int | None]:
    """Every energy that stands in a table, in any of the units, however it is rounded."""
    text = message.decode("utf-8", "replace")
    found: set[int | None] = {None}
    for point in (r"\.", "[.,]"):
        for token in re.findall(rf"[0-9]+(?:{point}[0-9]*)?(?:[eE][+-]?[0-9]{{1,3}})?", text):
            number = Decimal(token.replace(",", "."))
            if number.adjusted() > 20 or number.adjusted() < -20:
                found.add(0)
                continue
            # A number in JSON or XML is read as a float first.
            for exact in (number, Decimal(repr(float(number)))):
                for unit in (1, 1000, 10**6):
                    found |= {int(exact * unit), round(exact * unit)}
    return found
