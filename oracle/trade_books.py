"""What an oracle signer makes of the trade books: it trusts the chain for roots and strikes, and the coordinator for nothing.

The coordinator hands the books over as files named after their first interval. One that is missing, or is not what was committed,
has no trades; then the pool settles all of what was metered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backend.domain.community import Member
from backend.domain.errors import MalformedInput, ReadingRejected, TradeBookOpen
from backend.domain.intervals import Period
from backend.domain.values import parse_json
from backend.settlement.forward import (
    CommittedBook,
    ForwardTrade,
    TradeCommitment,
    parse_book,
    standing_trades,
)

from .signing import recover


class TradeBookOnChain(Protocol):
    """What the chain says of the trade book (`contracts.trade_book.TradeBookContract`)."""

    @property
    def domain(self) -> bytes:
        """EIP-712 domain separator of what members sign."""

    def commitments(self) -> Sequence[TradeCommitment]:
        """All of them, oldest first."""

    def struck(self) -> frozenset[tuple[int, int]]:
        """First interval of the commitment and position of every trade struck out."""

    def now(self) -> int:
        """Time of the newest block."""

    def consents(self, account: str, digest: bytes, signature: bytes) -> bool:
        """Whether an account that is a contract accepts a signature (ERC-1271)."""


@dataclass(frozen=True, slots=True)
class TradedPeriod:
    """The trades of a period that stand.

    Attributes:
        trades: of all its intervals.
        fee_slot: the network operator's account for their fees.
    """

    trades: tuple[ForwardTrade, ...]
    fee_slot: int


def traded_period(
    book_on_chain: TradeBookOnChain,
    folder: Path,
    period: Period,
    members: Mapping[int, Member],
    fee_between: Callable[[str, str], int],
    fee_slot: int,
) -> TradedPeriod:
    """Reads and checks the books of a period.

    Args:
        book_on_chain: the trade book.
        folder: where the coordinator's files are, each `FIRST_INTERVAL.json`.
        period: the period.
        members: the active ones, by slot.
        fee_between: the tariff's network fee between two nodes, nano per Wh.
        fee_slot: the network operator's account for the fees.

    Raises:
        TradeBookOpen: trades of the period can still be struck out.
    """
    now = book_on_chain.now()

    def signed(slot: int, digest: bytes, signature: bytes) -> bool:
        account = members[slot].account
        try:
            if recover(digest, signature) == account:
                return True
        except ReadingRejected:
            pass
        return book_on_chain.consents(account, digest, signature)

    def least_fee(seller: int, buyer: int) -> int | None:
        if seller not in members or buyer not in members or fee_slot in (seller, buyer):
            return None
        return fee_between(members[seller].node, members[buyer].node)

    struck: dict[int, set[int]] = defaultdict(set)
    for first, position in book_on_chain.struck():
        struck[first].add(position)
    found: list[ForwardTrade] = []
    for commitment in book_on_chain.commitments():
        first, count = commitment.first_interval, commitment.interval_count
        if first >= period.end_interval or first + count <= period.first_interval:
            continue
        if now <= commitment.strike_until:
            raise TradeBookOpen(
                f"trades from interval {first} on can be struck out until {commitment.strike_until}",
                "report the period afterwards",
            )
        path = folder / f"{first}.json"
        try:
            trades = parse_book(parse_json(path.read_bytes(), path), str(path))
        except (OSError, MalformedInput):
            continue
        book = CommittedBook(first, count, commitment.root, trades, frozenset(struck[first]))
        found += standing_trades(book, book_on_chain.domain, signed, least_fee)
    inside = range(period.first_interval, period.end_interval)
    return TradedPeriod(tuple(one for one in found if one.interval in inside), fee_slot)
