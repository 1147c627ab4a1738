"""Trades before delivery: what both sides sign, the book they stand in, and what they do to a member's readings (docs/protocol.md).

The oracle takes the trades that stand in the committed books, once nobody can strike one out any more. It adds each sale to the seller's
import and each purchase to the buyer's export, so that the pool clears deviations, and states what a member's trades brought
behind its readings. Whatever follows - totals, certificates, amounts, challenges - is as without trades.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from eth_hash.auto import keccak

from backend.domain.errors import MalformedInput
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality

from .batch import MemberPeriod
from .bundle import trimmed
from .encoding import EMPTY, signed_word, tag, typed_data_digest, word
from .trees import TRADES_DEPTH, PositionalTree

FORWARD_TRADE_TYPE = (
    "ForwardTrade(uint64 interval,uint32 sellerSlot,uint32 buyerSlot,uint64 energyWh,"
    "int64 priceNanoPerWh,uint64 feeNanoPerWh)"
)
_FORWARD_TRADE_TYPEHASH = tag(FORWARD_TRADE_TYPE)
FORWARD_LEAF_TAG = tag("peerwatt.forward.leaf.v1")
# The chain keeps the end of the time for striking in a commitment's last bytes.
_TIME_BYTES = 5
BOOK_FORMAT, OWN_TRADES_FORMAT = "peerwatt/trade-book/1", "peerwatt/own-trades/1"


@dataclass(frozen=True, slots=True, order=True)
class ForwardTrade:
    """What both sides sign; ordered as in the trade book.

    Attributes:
        interval: index since the Unix epoch.
        seller_slot: who sells.
        buyer_slot: who buys.
        energy_wh: above 0.
        price_nano_per_wh: what the buyer pays and the seller receives, network fee apart.
        fee_nano_per_wh: the network fee; the seller bears half of it rounded down, the buyer the rest.
    """

    interval: int
    seller_slot: int
    buyer_slot: int
    energy_wh: int
    price_nano_per_wh: int
    fee_nano_per_wh: int

    @property
    def earned_nano_per_wh(self) -> int:
        """What the seller keeps of each Wh."""
        return self.price_nano_per_wh - self.fee_nano_per_wh // 2

    @property
    def paid_nano_per_wh(self) -> int:
        """What the buyer spends for each Wh."""
        return self.price_nano_per_wh + self.fee_nano_per_wh - self.fee_nano_per_wh // 2

    def struct_hash(self) -> bytes:
        """EIP-712 struct hash."""
        return keccak(
            _FORWARD_TRADE_TYPEHASH
            + word(self.interval)
            + word(self.seller_slot)
            + word(self.buyer_slot)
            + word(self.energy_wh)
            + signed_word(self.price_nano_per_wh)
            + word(self.fee_nano_per_wh)
        )


@dataclass(frozen=True, slots=True)
class SignedTrade:
    """A trade with both signatures over its EIP-712 digest, and the salt of its leaf."""

    trade: ForwardTrade
    seller_signature: bytes
    buyer_signature: bytes
    salt: bytes

    def leaf(self) -> bytes:
        """Its leaf in the trade book, which commits to both signatures: one that is none shows by itself."""
        return keccak(
            FORWARD_LEAF_TAG
            + self.trade.struct_hash()
            + keccak(self.seller_signature)
            + keccak(self.buyer_signature)
            + self.salt
        )


def trade_book(trades: Sequence[SignedTrade]) -> PositionalTree:
    """The tree whose root is committed before gate closure; the trades stand in their order.

    Raises:
        ValueError: two trades between the same two in one interval, or more than fit.
    """
    ordered = sorted(trades, key=lambda signed: signed.trade)
    keys = [(one.trade.interval, one.trade.seller_slot, one.trade.buyer_slot) for one in ordered]
    if len(set(keys)) != len(keys):
        raise ValueError("two trades between the same two in one interval; add them up first")
    return PositionalTree({place: one.leaf() for place, one in enumerate(ordered)}, TRADES_DEPTH)


@dataclass(frozen=True, slots=True)
class TradeCommitment:
    """What the chain says of a book: for which intervals, its root, and until when trades can be struck out."""

    first_interval: int
    interval_count: int
    root: bytes
    strike_until: int


@dataclass(frozen=True, slots=True)
class CommittedBook:
    """A trade book as the chain knows it and as the coordinator handed it over.

    Attributes:
        first_interval: names the commitment.
        interval_count: for which intervals it is.
        root: as committed; of its last five bytes nothing is known.
        trades: in the order of their positions.
        struck: positions struck out on chain.
    """

    first_interval: int
    interval_count: int
    root: bytes
    trades: tuple[SignedTrade, ...]
    struck: frozenset[int] = frozenset()


def is_committed(trades: Sequence[SignedTrade], root: bytes) -> bool:
    """Whether trades in the order of their positions are what a root was committed of."""
    found = PositionalTree(
        {place: one.leaf() for place, one in enumerate(trades)}, TRADES_DEPTH
    ).root
    return found[:-_TIME_BYTES] == root[:-_TIME_BYTES]


def standing_trades(
    book: CommittedBook,
    domain: bytes,
    signed: Callable[[int, bytes, bytes], bool],
    least_fee: Callable[[int, int], int | None],
) -> list[ForwardTrade]:
    """The trades of a book that count. A book that was not handed over as committed has none.

    Args:
        book: the book; everybody can strike out of it no longer.
        domain: EIP-712 domain separator of the TradeBook contract.
        signed: whether the account of a slot made a signature over a digest.
        least_fee: the tariff's network fee between seller's and buyer's slot in nano per Wh; None if one of them takes no part.

    Returns:
        In the order of the book: signed by both, for one of its intervals, with at least the tariff's fee, and the first one of those
        between the same two in an interval.
    """
    if not is_committed(book.trades, book.root):
        return []
    found: dict[tuple[int, int, int], ForwardTrade] = {}
    for place, one in enumerate(book.trades):
        trade = one.trade
        key = (trade.interval, trade.seller_slot, trade.buyer_slot)
        offset = trade.interval - book.first_interval
        fee = least_fee(trade.seller_slot, trade.buyer_slot)
        if place in book.struck or key in found or not 0 <= offset < book.interval_count:
            continue
        if fee is None or trade.fee_nano_per_wh < fee or trade.seller_slot == trade.buyer_slot:
            continue
        digest = typed_data_digest(domain, trade.struct_hash())
        if signed(trade.seller_slot, digest, one.seller_signature) and signed(
            trade.buyer_slot, digest, one.buyer_signature
        ):
            found[key] = trade
    return list(found.values())


def with_trades(
    member_periods: Sequence[MemberPeriod],
    period: Period,
    trades: Iterable[ForwardTrade],
    fee_slot: int,
) -> list[MemberPeriod]:
    """What the oracle reports where members trade before delivery: deviations from trades, and what the trades brought.

    Args:
        member_periods: as metered, in slot order.
        period: the period.
        trades: standing ones, of this period.
        fee_slot: the network operator's account for the fees of trades; one of `member_periods`.

    Returns:
        In the same order; what trades brought adds up to zero. A missing reading of a member that traded in the interval counts as
        nothing metered, marked as substituted: it owes what it sold until a correction says otherwise.
    """
    sold: dict[tuple[int, int], int] = defaultdict(int)
    bought: dict[tuple[int, int], int] = defaultdict(int)
    brought: dict[int, int] = defaultdict(int)
    for trade in trades:
        index = trade.interval - period.first_interval
        sold[trade.seller_slot, index] += trade.energy_wh
        bought[trade.buyer_slot, index] += trade.energy_wh
        brought[trade.seller_slot] += trade.energy_wh * trade.earned_nano_per_wh
        brought[trade.buyer_slot] -= trade.energy_wh * trade.paid_nano_per_wh
        brought[fee_slot] += trade.energy_wh * trade.fee_nano_per_wh
    assert sum(brought.values()) == 0
    assert brought.keys() <= {item.member.slot for item in member_periods}

    def deviation(slot: int, index: int, reading: IntervalReading) -> IntervalReading:
        sale, purchase = sold.get((slot, index), 0), bought.get((slot, index), 0)
        if not sale and not purchase:
            return reading
        if reading.quality is Quality.MISSING:
            return IntervalReading(sale, purchase, Quality.SUBSTITUTED)
        return replace(
            reading, import_wh=reading.import_wh + sale, export_wh=reading.export_wh + purchase
        )

    return [
        replace(
            item,
            readings=tuple(
                deviation(item.member.slot, index, reading)
                for index, reading in enumerate(item.readings)
            ),
            traded_nano=brought[item.member.slot],
        )
        for item in member_periods
    ]


# --- The book as a file (docs/files.md, `peerwatt/trade-book/1`) -----------------------------------------------------------


def book_data(
    trades: Sequence[SignedTrade],
    first_interval: int,
    interval_count: int,
    chain_id: int,
    trade_book_contract: str,
) -> dict[str, Any]:
    """A book as JSON data: what the coordinator hands to the oracle's signers, and of which each party gets its own trades."""
    return {
        "format": BOOK_FORMAT,
        "chain_id": chain_id,
        "trade_book": trade_book_contract,
        "first_interval": first_interval,
        "interval_count": interval_count,
        "trades": [
            {
                **asdict(one.trade),
                "seller_signature": "0x" + one.seller_signature.hex(),
                "buyer_signature": "0x" + one.buyer_signature.hex(),
                "salt": "0x" + one.salt.hex(),
            }
            for one in trades
        ],
    }


def own_trades_data(
    trades: Sequence[SignedTrade],
    first_interval: int,
    interval_count: int,
    chain_id: int,
    trade_book_contract: str,
    slot: int,
) -> dict[str, Any]:
    """A party's own trades of a book as JSON data, each with its place and its path (docs/files.md, `peerwatt/own-trades/1`).

    Args:
        trades: all of the book, in the order of their positions.
        first_interval: names the commitment.
        interval_count: for which intervals it is.
        chain_id: which chain.
        trade_book_contract: address of the TradeBook.
        slot: whose.
    """
    tree = PositionalTree({place: one.leaf() for place, one in enumerate(trades)}, TRADES_DEPTH)
    data = book_data(trades, first_interval, interval_count, chain_id, trade_book_contract)
    own = [
        item | {"position": place, "proof": trimmed(tree.proof(place), 1)}
        for place, item in enumerate(data["trades"])
        if slot in (item["seller_slot"], item["buyer_slot"])
    ]
    return data | {"format": OWN_TRADES_FORMAT, "slot": slot, "trades": own}


def parse_book(data: Any, name: str) -> tuple[SignedTrade, ...]:
    """The trades of a book's JSON data, in the order of their positions.

    Raises:
        MalformedInput: it is no book; `name` is the field that is named.
    """
    try:
        if data["format"] != BOOK_FORMAT:
            raise ValueError(f"format {data['format']!r}")
        return tuple(_parse_trade(item) for item in data["trades"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedInput(
            name, str(error), "no trade book", "ask the coordinator for the file again"
        ) from None


def _parse_trade(item: dict[str, Any]) -> SignedTrade:
    numbers = [item[field.name] for field in fields(ForwardTrade)]
    if any(type(number) is not int for number in numbers):
        raise ValueError("a number that is no integer")
    trade = ForwardTrade(*numbers)
    trade.struct_hash()  # every number fits its type
    seller, buyer, salt = (
        bytes.fromhex(item[key].removeprefix("0x"))
        for key in ("seller_signature", "buyer_signature", "salt")
    )
    if len(salt) != len(EMPTY):
        raise ValueError("a salt that is not 32 bytes")
    return SignedTrade(trade, seller, buyer, salt)
