"""What is kept of the running day, read bit by bit, is what one look at the whole gives; and what is kept does not grow for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from backend.api.running_day import RunningDay, read_running_day
from backend.api.shelf import Shelf
from backend.ledger.cycle import CycleStore
from backend.ledger.store import LedgerStore
from backend.ledger.tables import PreviewReadingRow, PreviewRow, PreviewTradeRow

SLOTS = range(3, 7)
INTERVALS = 4
ALL = range(2 * INTERVALS)
LEDGER = LedgerStore("sqlite://")
ENERGY = st.lists(st.integers(0, 9), min_size=len(SLOTS), max_size=len(SLOTS))


def cleared(
    period: int, index: int, energy: Sequence[int], at: int
) -> tuple[PreviewRow, list[PreviewReadingRow], list[PreviewTradeRow]]:
    """The first two sell to the other two."""
    interval = period * INTERVALS + index
    readings = [
        PreviewReadingRow(interval=interval, slot=slot, import_wh=wh, export_wh=0, quality=0)
        for slot, wh in zip(SLOTS, energy, strict=True)
    ]
    trades = [
        PreviewTradeRow(
            interval=interval, seller_slot=3, buyer_slot=buyer, energy_wh=wh, fee_nano=wh
        )
        for buyer, wh in zip((5, 6), energy, strict=False)
        if wh
    ]
    row = PreviewRow(
        interval=interval, period=period, cleared_at=at, missing=0, demand_wh=sum(energy), supply_wh=0,
        traded_wh=0, discount_nano_per_wh=0, premium_nano_per_wh=0,
    )  # fmt: skip
    return row, readings, trades


def shown(day: RunningDay) -> object:
    return (
        [row.model_dump() for row in day.rows],
        {slot: day.own(slot, ALL) for slot in SLOTS},
        day.trades(ALL),
    )


@given(st.lists(st.tuples(st.integers(0, 1), st.lists(st.integers(0, 3), max_size=3, unique=True), ENERGY), max_size=6))  # fmt: skip
def test_it_is_read_bit_by_bit(steps: list[tuple[int, list[int], list[int]]]) -> None:
    """Intervals come, are cleared again, and stay while their day waits."""
    store, day = CycleStore(LEDGER.engine), RunningDay()
    # Longer ago than previews are kept.
    store.replace_previews(1000, [])
    for at, (period, indices, energy) in enumerate(steps):
        parts = [cleared(period, index, energy, at) for index in indices]
        store.replace_previews(
            period,
            [row for row, _, _ in parts],
            [item for _, readings, _ in parts for item in readings],
            [item for _, _, trades in parts for item in trades],
        )
        before, day = day, read_running_day(store, day)
        assert shown(day) == shown(read_running_day(store, RunningDay()))
        again = set(day.parts) & set(before.parts) - {row.interval for row, _, _ in parts}
        assert all(day.parts[item] is before.parts[item] for item in again)
        assert sum(item.import_wh for slot in SLOTS for item in day.own(slot, ALL).readings) == sum(
            row.demand_wh for row in day.rows
        )


@given(st.lists(st.integers(0, 9)))
def test_a_shelf_keeps_what_was_asked_for_last(keys: list[int]) -> None:
    shelf: Shelf[str] = Shelf(3)
    for key in keys:
        shelf.get_or_put(key, partial(str, key))
    newest = list(dict.fromkeys(reversed(keys)))
    assert [shelf.get(key) for key in newest[:3]] == [str(key) for key in newest[:3]]
    assert all(shelf.get(key) is None for key in newest[3:])


def test_of_one_key_nothing_is_made_twice() -> None:
    shelf: Shelf[object] = Shelf(2)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(shelf.get_or_put("key", object)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(item) for item in found}) == 1
