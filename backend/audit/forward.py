"""Trades before delivery, written from docs/protocol.md: the book, who signed, which trades stand, and what they bring.

Nothing here asks a node; whether an account that is a contract consents is asked by whoever calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from .bundle_format import Fields, Unreadable, read_json
from .hashing import TRADE_LEVELS, ZERO, dense_proof, dense_root, keccak, plain_root_above, word

BOOK_FORMAT, OWN_TRADES_FORMAT = "peerwatt/trade-book/1", "peerwatt/own-trades/1"
# The chain keeps the end of the time for striking in the root's last bytes.
ROOT_BYTES = 27
_TYPE = (
    "ForwardTrade(uint64 interval,uint32 sellerSlot,uint32 buyerSlot,uint64 energyWh,"
    "int64 priceNanoPerWh,uint64 feeNanoPerWh)"
)
_DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_LEAF = keccak(b"peerwatt.forward.leaf.v1")
_TYPE_HASH = keccak(_TYPE.encode())
_SIGNATURE_BYTES = 65
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class ForwardTrade(NamedTuple):
    """What both sides sign, in the order of EIP-712: index, slots, Wh, nano per Wh."""

    interval: int
    seller: int
    buyer: int
    energy_wh: int
    price: int
    fee: int

    def struct_hash(self) -> bytes:
        """EIP-712 struct hash."""
        mask = (1 << 256) - 1
        return keccak(_TYPE_HASH + b"".join(word(number & mask) for number in self))

    @property
    def brings(self) -> tuple[int, int, int]:
        """What seller, buyer and network operator receive, in nano; they cancel."""
        seller = self.energy_wh * (self.price - self.fee // 2)
        buyer = -self.energy_wh * (self.price + self.fee - self.fee // 2)
        return seller, buyer, self.energy_wh * self.fee


@dataclass(frozen=True)
class BookTrade:
    """A trade as it stands in a book.

    Attributes:
        trade: its terms.
        seller_signature, buyer_signature: or what was taken for them.
        salt: of its leaf.
        position: in the book.
        proof: siblings upwards; of own trades only.
    """

    trade: ForwardTrade
    seller_signature: bytes
    buyer_signature: bytes
    salt: bytes
    position: int
    proof: tuple[bytes, ...] = ()

    def leaf(self) -> bytes:
        """Commits to both signatures, so a false one shows by itself."""
        signatures = keccak(self.seller_signature) + keccak(self.buyer_signature)
        return keccak(_LEAF + self.trade.struct_hash() + signatures + self.salt)


@dataclass(frozen=True)
class Book:
    """A book as it was shown, or one party's trades of it.

    Attributes:
        place: chain and contract that the signatures are meant for.
        first_interval, interval_count: which commitment.
        slot: whose trades; None for all.
        trades: in the order of their positions.
    """

    place: tuple[int, str]
    first_interval: int
    interval_count: int
    slot: int | None
    trades: tuple[BookTrade, ...]

    def root(self) -> bytes:
        """Of all trades."""
        return dense_root([one.leaf() for one in self.trades], TRADE_LEVELS)

    def proof(self, position: int) -> tuple[bytes, ...]:
        """Siblings of a position, from the leaf's level upwards, as many as the tree is deep."""
        return dense_proof([one.leaf() for one in self.trades], position, TRADE_LEVELS)


def read_book(data: bytes) -> Book:
    """A book's file, `peerwatt/trade-book/1` or `peerwatt/own-trades/1`.

    Raises:
        Unreadable: naming the field.
    """
    top = Fields(read_json(data), "")
    own = top.text("format") == OWN_TRADES_FORMAT
    if not own and top.text("format") != BOOK_FORMAT:
        raise Unreadable(f"format is neither {BOOK_FORMAT} nor {OWN_TRADES_FORMAT}")
    trades = []
    for number, item in enumerate(top.items("trades", 1 << TRADE_LEVELS)):
        given = Fields(item, f"trades[{number}]")
        terms = ForwardTrade(
            given.number("interval", high=1 << 64),
            given.number("seller_slot", high=1 << 32),
            given.number("buyer_slot", high=1 << 32),
            given.number("energy_wh", high=1 << 64),
            given.number("price_nano_per_wh", -(1 << 63), 1 << 63),
            given.number("fee_nano_per_wh", high=1 << 64),
        )
        proof = given.words("proof", TRADE_LEVELS) if own else []
        trades.append(
            BookTrade(
                terms,
                given.binary("seller_signature"),
                given.binary("buyer_signature"),
                given.binary("salt", 32),
                given.number("position", high=1 << TRADE_LEVELS) if own else number,
                tuple(proof + [ZERO] * (TRADE_LEVELS - len(proof))) if own else (),
            )
        )
    return Book(
        (top.number("chain_id", high=1 << 256), top.text("trade_book")),
        top.number("first_interval", high=1 << 64),
        top.number("interval_count", high=1 << 32),
        top.number("slot", high=1 << 20) if own else None,
        tuple(trades),
    )


@cache
def _domain(chain_id: int, contract: str) -> bytes:
    name, version = keccak(b"Peerwatt"), keccak(b"1")
    return keccak(
        keccak(_DOMAIN.encode()) + name + version + word(chain_id) + word(int(contract, 16))
    )


def digest_of(trade: ForwardTrade, place: tuple[int, str]) -> bytes:
    """What both sides sign."""
    return keccak(b"\x19\x01" + _domain(*place) + trade.struct_hash())


def recovers_to(digest: bytes, signature: bytes, account: str) -> bool:
    """Whether a key's signature is what the protocol calls one, and the account's."""
    if len(signature) != _SIGNATURE_BYTES or signature[64] not in (27, 28):
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if s > _CURVE_ORDER // 2:
        return False
    try:
        made = Signature(vrs=(signature[64] - 27, r, s))
        found = made.recover_public_key_from_msg_hash(digest).to_address()
    except (BadSignature, ValidationError):
        return False
    return found == account.lower()


# Whether an account accepts a signature over a digest.
Signs = Callable[[str, bytes, bytes], bool]


def false_side(one: BookTrade, place: tuple[int, str], accounts: Mapping[int, str], signs: Signs) -> int | None:  # fmt: skip
    """The slot of the first side that did not sign; None if both did.

    Args:
        one: the trade.
        place: chain and trade book.
        accounts: by slot; nobody has signed for a slot that was never given out.
        signs: also for accounts that are contracts.
    """
    digest = digest_of(one.trade, place)
    for slot, signature in (
        (one.trade.seller, one.seller_signature),
        (one.trade.buyer, one.buyer_signature),
    ):
        if slot not in accounts or not signs(accounts[slot], digest, signature):
            return slot
    return None


def proved(one: BookTrade, root: bytes) -> bool:
    """Whether a party's own trade is in the book with this root."""
    found = plain_root_above(one.leaf(), one.position, one.proof)
    return found[:ROOT_BYTES] == root[:ROOT_BYTES]


def standing(
    trades: Iterable[ForwardTrade],
    intervals: range,
    least_fee: Callable[[int, int], int | None],
) -> list[ForwardTrade]:
    """The trades that count, fee account apart.

    Args:
        trades: signed by both sides, not struck out and of their book's intervals, book by book in the order of their positions.
        intervals: of the period.
        least_fee: the tariff's fee between two slots in nano per Wh; None where one takes no part or there is no way.
    """
    found: dict[tuple[int, int, int], ForwardTrade] = {}
    for trade in trades:
        if trade.interval not in intervals or trade.seller == trade.buyer:
            continue
        fee = least_fee(trade.seller, trade.buyer)
        if fee is not None and trade.fee >= fee:
            found.setdefault(trade[:3], trade)
    return list(found.values())


class Traded:
    """What standing trades come to.

    Args:
        trades: of one period.
        first_interval: the period's first.
    """

    def __init__(self, trades: Sequence[ForwardTrade], first_interval: int) -> None:
        self.trades = trades
        self.fees_nano = 0
        self.brought_nano: dict[int, int] = defaultdict(int)
        self.energy_wh: dict[int, dict[int, list[int]]] = defaultdict(dict)
        for trade in trades:
            earned, paid, fee = trade.brings
            self.fees_nano += fee
            for side, slot, nano in ((0, trade.seller, earned), (1, trade.buyer, paid)):
                self.brought_nano[slot] += nano
                at = self.energy_wh[slot].setdefault(trade.interval - first_interval, [0, 0])
                at[side] += trade.energy_wh

    def brought(self, slot: int, fee_slot: int | None) -> int:
        """What a slot receives, in nano; `fee_slot` None where no account is known to get the fees."""
        return self.fees_nano if slot == fee_slot else self.brought_nano.get(slot, 0)
