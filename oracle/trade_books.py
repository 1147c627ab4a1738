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
from backend.domain.errors import InputError, ReadingRejected, StoreUnavailable, TradeBookOpen
from backend.domain.intervals import Period
from backend.domain.values import parse_json
from backend.durable_files import make_folder, write_atomically
from backend.settlement.forward import (
    CommittedBook,
    ForwardTrade,
    SignedTrade,
    TradeCommitment,
    is_committed,
    parse_book,
    standing_trades,
)

from .config import OracleConfig
from .ethereum_node import EthereumNode
from .signing import recover
from .sources.http import secret
from .trade_book_reader import TradeBookReader


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
        TradeBookOpen: trades of the period can still be committed or struck out, as far as is known.
    """
    now = book_on_chain.now()
    ends = period.end_interval * period.interval_minutes * 60
    if now < ends:
        raise TradeBookOpen(
            f"the chain is known up to {now}, the period ends at {ends}",
            "report the period when the chain has gone on",
        )

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
        trades = _kept(folder, first)
        book = CommittedBook(first, count, commitment.root, trades, frozenset(struck[first]))
        found += standing_trades(book, book_on_chain.domain, signed, least_fee)
    inside = range(period.first_interval, period.end_interval)
    return TradedPeriod(tuple(one for one in found if one.interval in inside), fee_slot)


def _kept(folder: Path, first_interval: int) -> tuple[SignedTrade, ...]:
    path = folder / f"{first_interval}.json"
    try:
        return parse_book(parse_json(path.read_bytes(), path), str(path))
    except (OSError, InputError):
        return ()


@dataclass(frozen=True, slots=True)
class TradeBooks:
    """The trade books of a running signer: what the chain says, and the coordinator's files.

    Args:
        reader: of the contract.
        folder: where books are kept.
        fee_between: the tariff's network fee between two nodes, nano per Wh.
        fee_slot: the network operator's account for the fees.
    """

    reader: TradeBookReader
    folder: Path
    fee_between: Callable[[str, str], int]
    fee_slot: int

    def take(self, first_interval: int, data: bytes) -> None:
        """Keeps a book, if it is the one that was committed; so that nobody puts another in its place.

        Raises:
            InputError: it is no book.
            TradeBookOpen: nothing of the kind is known to be committed (yet).
            StoreUnavailable: it cannot be written.
        """
        trades = parse_book(parse_json(data, "body"), "body")
        self.reader.refresh()
        if not any(
            item.first_interval == first_interval and is_committed(trades, item.root)
            for item in self.reader.commitments()
        ):
            raise TradeBookOpen(
                f"the chain has no commitment of this book from interval {first_interval} on",
                "send it again when the commitment is confirmed",
            )
        path = self.folder / f"{first_interval}.json"
        try:
            make_folder(self.folder)
            write_atomically(path, data)
        except OSError as error:
            raise StoreUnavailable(
                f"trade book: {error.strerror}", "make room, and try again"
            ) from None

    def period(self, period: Period, members: Mapping[int, Member]) -> TradedPeriod:
        """The trades that stand.

        Raises:
            TradeBookOpen: that is not certain yet.
            NodeUnreachable: the chain cannot be asked.
        """
        self.reader.refresh()
        return traded_period(
            self.reader, self.folder, period, members, self.fee_between, self.fee_slot
        )


def open_trade_books(config: OracleConfig) -> TradeBooks | None:
    """The configured trade books, or None where members do not trade before delivery."""
    entry = config.file.trade_books
    if entry is None:
        return None
    node = EthereumNode(
        entry.rpc_url,
        secret(config.folder, entry.token_file),
        "trade book",
        "start the node, or correct trade_books.rpc_url",
    )
    reader = TradeBookReader(
        node, config.file.chain_id, entry.contract, entry.from_block, entry.confirmations
    )
    # Sparse matrices take a while to load, and most communities trade nothing.
    from backend.market.electrical_distance_fees import network_pair_fees

    fees = network_pair_fees(config.file.network).between
    return TradeBooks(reader, config.path(entry.folder), fees, entry.fee_slot)
