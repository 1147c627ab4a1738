"""Which trades stand, what they do to readings, and the book as a file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.errors import MalformedInput
from backend.domain.readings import IntervalReading, Quality
from backend.settlement.batch import MemberPeriod
from backend.settlement.forward import (
    CommittedBook,
    ForwardTrade,
    SignedTrade,
    book_data,
    parse_book,
    standing_trades,
    with_trades,
)
from backend.settlement.trees import TRADES_DEPTH, PositionalTree
from tests.support.community import member_at, period_number

PERIOD = period_number(0)
FEE_SLOT = 7
SLOTS = (3, 4, 5, 6, FEE_SLOT)
TRADES = st.lists(
    st.builds(
        ForwardTrade,
        interval=st.integers(PERIOD.first_interval, PERIOD.end_interval - 1),
        seller_slot=st.sampled_from(SLOTS[:2]),
        buyer_slot=st.sampled_from(SLOTS[2:4]),
        energy_wh=st.integers(1, 10**6),
        price_nano_per_wh=st.integers(-(10**6), 10**6),
        fee_nano_per_wh=st.integers(0, 10**5),
    ),
    max_size=12,
)


def signed(trade: ForwardTrade) -> SignedTrade:
    return SignedTrade(trade, b"seller", b"buyer", bytes(32))


def book(trades: list[SignedTrade], **changes: Any) -> CommittedBook:
    tree = PositionalTree({place: one.leaf() for place, one in enumerate(trades)}, TRADES_DEPTH)
    made = CommittedBook(PERIOD.first_interval, PERIOD.interval_count, tree.root, tuple(trades))
    return replace(made, **changes)


def standing(given: CommittedBook) -> list[ForwardTrade]:
    def has_signed(slot: int, _digest: bytes, signature: bytes) -> bool:
        return signature == (b"seller" if slot < 5 else b"buyer")

    return standing_trades(given, bytes(32), has_signed, lambda seller, buyer: 100)


TRADE = ForwardTrade(PERIOD.first_interval, 3, 5, 10, 200_000, 100)


def test_of_the_same_trade_twice_one_stands() -> None:
    """A signature cannot be used again at another position, nor for another amount."""
    dearer = replace(TRADE, energy_wh=20)
    assert standing(book([signed(TRADE), signed(TRADE), signed(dearer)])) == [TRADE]
    assert standing(book([signed(TRADE), signed(dearer)], struck=frozenset({0}))) == [dearer]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fee_nano_per_wh": 99},
        {"interval": PERIOD.end_interval},
        {"interval": PERIOD.first_interval - 1},
        {"buyer_slot": 3},
        {"seller_slot": 5},
    ],
)
def test_what_does_not_stand(wrong: dict[str, int]) -> None:
    assert standing(book([signed(replace(TRADE, **wrong))])) == []  # type: ignore[arg-type]


def test_another_root_has_no_trades() -> None:
    right = book([signed(TRADE)])
    assert standing(replace(right, root=right.root[:-5] + b"time!")) == [TRADE]
    assert standing(replace(right, root=bytes(32))) == []
    assert standing(book([])) == []


@given(TRADES, st.lists(st.integers(0, 2), min_size=20, max_size=20))
def test_what_trades_brought_sums_to_zero_and_energy_is_only_moved(
    trades: list[ForwardTrade], qualities: list[int]
) -> None:
    metered = [
        MemberPeriod(
            member_at(slot, "west", "household"),
            tuple(
                IntervalReading(*((0, 0) if quality == Quality.MISSING else (50, 20)), quality)
                for quality in map(Quality, qualities[number * 4 : number * 4 + 4])
            ),
            bytes(32),
        )
        for number, slot in enumerate(SLOTS)
    ]
    found = with_trades(metered, PERIOD, trades, FEE_SLOT)
    assert sum(item.traded_nano or 0 for item in found) == 0
    assert found[-1].traded_nano == sum(one.energy_wh * one.fee_nano_per_wh for one in trades)
    for before, after in zip(metered, found, strict=True):
        slot = after.member.slot
        for index, (was, now) in enumerate(zip(before.readings, after.readings, strict=True)):
            own = [one for one in trades if one.interval == PERIOD.first_interval + index]
            sold = sum(one.energy_wh for one in own if one.seller_slot == slot)
            bought = sum(one.energy_wh for one in own if one.buyer_slot == slot)
            assert now.net_wh == was.net_wh - sold + bought
            if not sold and not bought:
                assert now == was
            else:
                assert now.quality is not Quality.MISSING


@given(TRADES)
def test_a_book_comes_back_from_its_file(trades: list[ForwardTrade]) -> None:
    made = tuple(signed(one) for one in trades)
    data = json.loads(json.dumps(book_data(made, 1, 2, 3, "0x" + "7b" * 20)))
    assert parse_book(data, "book") == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"energy_wh": -1},
        {"energy_wh": 1.5},
        {"energy_wh": True},
        {"salt": "0x00"},
        {"seller_signature": "0xzz"},
        {"buyer_signature": None},
    ],
)
def test_a_broken_book_is_named(wrong: dict[str, Any]) -> None:
    data = book_data([signed(TRADE)], 1, 2, 3, "0x" + "7b" * 20)
    data["trades"][0] |= wrong
    with pytest.raises(MalformedInput, match="book"):
        parse_book(data, "book")
    with pytest.raises(MalformedInput):
        parse_book({"format": "peerwatt/trade-book/2", "trades": []}, "book")
