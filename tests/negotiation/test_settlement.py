"""From agreement to money: rounding, limits, signatures, the trade book, two-step settlement."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.case import ClearingCase
from backend.domain.errors import UnknownReference
from backend.domain.p2p import P2PTrade
from backend.market.pool import PoolBook
from backend.negotiation.agreement import TradeLimits, broken_limits, whole_trades
from backend.negotiation.settlement import settle_interval
from backend.settlement.encoding import domain_separator, typed_data_digest
from backend.settlement.forward import ForwardTrade, SignedTrade, trade_book
from backend.settlement.trees import hash_node
from oracle.signing import address_of, private_key, recover, sign_digest

NAMES = ["a", "b", "c", "d"]
TRADE_BOOK = "0x" + "7b" * 20
PRICES = st.integers(50_000, 320_000)


def limits_of(number: int, draw: Any) -> TradeLimits:
    return TradeLimits(
        7,
        number + 3,
        draw(st.integers(0, 900)),
        draw(st.integers(0, 900)),
        draw(PRICES),
        draw(PRICES),
    )


@st.composite
def agreements(draw: st.DrawFn) -> tuple[list[P2PTrade], dict[str, TradeLimits], dict[Any, int]]:
    limits = {name: limits_of(number, draw) for number, name in enumerate(NAMES)}
    pairs = draw(st.sets(st.sampled_from([(s, b) for s in NAMES for b in NAMES if s != b])))
    trades = [
        P2PTrade(
            seller=seller,
            buyer=buyer,
            energy=draw(st.floats(0, 1.2)),
            price=draw(st.floats(0.02, 0.4)),
        )
        for seller, buyer in sorted(pairs)
    ]
    fees = {pair: draw(st.integers(0, 60_001)) for pair in pairs}
    return trades, limits, fees


def whole(agreement: Any) -> list[ForwardTrade]:
    trades, limits, fees = agreement
    return whole_trades(trades, limits, fees, wh_per_unit=1000, nano_per_wh_per_unit=1_000_000)


@given(agreements())
def test_rounding_keeps_every_limit(agreement: Any) -> None:
    trades, limits, _ = agreement
    by_slot = {one.slot: one for one in limits.values()}
    exact = {(limits[t.seller].slot, limits[t.buyer].slot): t for t in trades}
    found = whole(agreement)
    for trade in found:
        assert broken_limits(trade, by_slot[trade.seller_slot], by_slot[trade.buyer_slot]) is None
        assert trade.energy_wh <= exact[trade.seller_slot, trade.buyer_slot].energy * 1000
    for slot, one in by_slot.items():
        assert sum(t.energy_wh for t in found if t.seller_slot == slot) <= one.most_sold_wh
        assert sum(t.energy_wh for t in found if t.buyer_slot == slot) <= one.most_bought_wh


@st.composite
def meterings(draw: st.DrawFn) -> ClearingCase:
    net = st.one_of(st.just(0), st.integers(-2000, 2000))
    return ClearingCase.parse(
        {
            "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
            "network": {
                "nodes": [{"id": "x", "access_fee_nano_per_wh": 5000}, {"id": "y"}],
                "edges": [{"from": "x", "to": "y", "fee_nano_per_wh": 20000}],
            },
            "tariff_classes": [
                {
                    "id": "home",
                    "import_price_nano_per_wh": 300_000,
                    "export_price_nano_per_wh": 60_000,
                }
            ],
            "members": [
                {"id": name, "node": "xy"[i % 2], "tariff_class": "home", "net_wh": draw(net)}
                for i, name in enumerate(NAMES)
            ],
        }
    )


BOOK = PoolBook(solver="sweep")


@settings(max_examples=100)
@given(agreements(), meterings())
def test_money_sums_to_zero_and_nobody_is_worse_off_than_its_limits(
    agreement: Any, metered: ClearingCase
) -> None:
    """Whatever is metered: trades within signed limits, and the deviation no worse than outside."""
    trades, limits = whole(agreement), agreement[1]
    settled = settle_interval(
        metered, trades, {one.slot: name for name, one in limits.items()}, BOOK
    )
    accounts = sum(settled.members.values()) + settled.supplier_nano
    assert accounts + settled.network_fees_nano + settled.fund_nano == 0
    assert sum(settled.traded_wh.values()) == 0
    for member in metered.members:
        one = limits[member.id]
        sold = sum(t.energy_wh for t in trades if t.seller_slot == one.slot)
        bought = sum(t.energy_wh for t in trades if t.buyer_slot == one.slot)
        deviation = member.net_wh - (sold - bought)
        outside = deviation * (60_000 if deviation > 0 else 300_000)
        least = sold * one.least_earned_nano_per_wh - bought * one.most_paid_nano_per_wh + outside
        assert settled.members[member.id] >= least


@given(meterings())
def test_who_trades_nothing_is_settled_by_the_pool(metered: ClearingCase) -> None:
    settled = settle_interval(metered, [], {}, BOOK)
    alone = BOOK.clear(metered)
    assert settled.members == {one.id: one.amount_nano for one in alone.members}
    assert settled.network_fees_nano == alone.fees_nano


def test_an_interval_by_hand() -> None:
    """a sold b 500 Wh at 0.20, fee 0.03 shared; a delivers 400, b takes 500: a buys 100 from outside."""
    metered = ClearingCase.parse(
        {
            "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
            "network": {"nodes": [{"id": "x"}]},
            "tariff_classes": [
                {
                    "id": "home",
                    "import_price_nano_per_wh": 300_000,
                    "export_price_nano_per_wh": 60_000,
                }
            ],
            "members": [
                {"id": "a", "node": "x", "tariff_class": "home", "net_wh": 400},
                {"id": "b", "node": "x", "tariff_class": "home", "net_wh": -500},
            ],
        }
    )
    trade = ForwardTrade(7, 3, 4, 500, 200_000, 30_001)
    settled = settle_interval(metered, [trade], {3: "a", 4: "b"}, BOOK)
    assert settled.members == {
        "a": 500 * (200_000 - 15_000) - 100 * 300_000,
        "b": -500 * (200_000 + 15_001),
    }
    assert settled.network_fees_nano == 500 * 30_001
    assert settled.supplier_nano == 100 * 300_000


def test_a_trade_of_somebody_unknown_is_refused() -> None:
    metered = ClearingCase.parse(
        {
            "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
            "network": {"nodes": [{"id": "x"}]},
            "tariff_classes": [],
            "members": [],
        }
    )
    with pytest.raises(UnknownReference, match="slot"):
        settle_interval(metered, [ForwardTrade(7, 3, 4, 1, 1, 0)], {3: "a"}, BOOK)


TRADE = ForwardTrade(1_920_000, 3, 4, 250, -12_345, 30_001)


def test_both_sides_sign_what_wallets_sign() -> None:
    """The digest is what any EIP-712 wallet makes of the typed data."""
    key = private_key(bytes([9]) * 32)
    digest = typed_data_digest(domain_separator(1337, TRADE_BOOK), TRADE.struct_hash())
    typed = encode_typed_data(
        {"name": "Peerwatt", "version": "1", "chainId": 1337, "verifyingContract": TRADE_BOOK},
        {
            "ForwardTrade": [
                {"name": "interval", "type": "uint64"},
                {"name": "sellerSlot", "type": "uint32"},
                {"name": "buyerSlot", "type": "uint32"},
                {"name": "energyWh", "type": "uint64"},
                {"name": "priceNanoPerWh", "type": "int64"},
                {"name": "feeNanoPerWh", "type": "uint64"},
            ]
        },
        {
            "interval": 1_920_000,
            "sellerSlot": 3,
            "buyerSlot": 4,
            "energyWh": 250,
            "priceNanoPerWh": -12_345,
            "feeNanoPerWh": 30_001,
        },
    )
    signature = sign_digest(key, digest)
    assert Account.recover_message(typed, signature=signature) == address_of(key)
    assert recover(digest, signature) == address_of(key)


def test_the_trade_book_shows_a_signature_that_is_none() -> None:
    """Whoever has the leaf's content and its path can show that a party never signed."""
    seller, buyer = private_key(bytes([9]) * 32), private_key(bytes([8]) * 32)
    digest = typed_data_digest(domain_separator(1337, TRADE_BOOK), TRADE.struct_hash())
    other = ForwardTrade(1_920_000, 5, 4, 1, 5, 0)
    forged = SignedTrade(TRADE, sign_digest(seller, digest), sign_digest(seller, digest), bytes(32))
    honest = SignedTrade(other, sign_digest(seller, digest), sign_digest(buyer, digest), bytes(32))
    book = trade_book([honest, forged])
    node = forged.leaf()
    for sibling in book.proof(0):
        node = hash_node(node, sibling)
    assert node == book.root
    assert recover(digest, forged.buyer_signature) != address_of(buyer)
    assert trade_book([forged, honest]).root == book.root
    with pytest.raises(ValueError, match="two trades"):
        trade_book([forged, forged])
