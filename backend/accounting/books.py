"""The journal as an accountant keeps it: dated, in accounts with names, with balances per period, all exact.

The community holds its members' money, so every account but the vault is a liability: a posting with a plus is money that the
community owes more of. `vault` is the asset. Amounts have nine decimals and are never rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby

from sqlalchemy import Engine
from sqlmodel import Session, select

from backend.ledger.journal import VAULT, JournalEntry, entries
from backend.ledger.tables import MemberRow

NANO = Decimal(10) ** -9
_SYSTEM = {0: "supplier", 1: "network operator", 2: "community fund"}


@dataclass(frozen=True)
class Posting:
    """One account's part of a booking.

    Attributes:
        account: as the journal names it, such as `slot:3`.
        amount_nano: what the community owes it more.
    """

    account: str
    amount_nano: int


@dataclass(frozen=True)
class Booking:
    """A booking.

    Attributes:
        number: from 1 without gaps.
        day: in UTC, of the block, or of the moment in which a batch became final.
        kind: deposit, withdrawal, guarantee, batch or correction.
        reference: transaction or batch hash.
        postings: sum to zero.
    """

    number: int
    day: date
    kind: str
    reference: str
    postings: tuple[Posting, ...]


@dataclass(frozen=True)
class Balance:
    """An account over a month: what was owed before, came, went, and is owed after, in nano."""

    month: str
    account: str
    opening_nano: int
    credit_nano: int
    debit_nano: int

    @property
    def closing_nano(self) -> int:
        """What is owed after."""
        return self.opening_nano + self.credit_nano - self.debit_nano


@dataclass(frozen=True)
class Books:
    """Everything that is exported.

    Attributes:
        bookings: oldest first.
        names: of accounts, by what the journal calls them.
        currency: three letters.
    """

    bookings: tuple[Booking, ...]
    names: Mapping[str, str]
    currency: str

    def name(self, account: str) -> str:
        """An account's name."""
        return self.names.get(account, account)

    def balances(self) -> Iterator[Balance]:
        """Of every account, for every month from the first to the last booking."""
        running: dict[str, int] = defaultdict(int)
        for month, group in groupby(self.bookings, key=lambda item: item.day.strftime("%Y-%m")):
            credit: dict[str, int] = defaultdict(int)
            debit: dict[str, int] = defaultdict(int)
            for booking in group:
                for posting in booking.postings:
                    side = credit if posting.amount_nano > 0 else debit
                    side[posting.account] += abs(posting.amount_nano)
            for account in sorted({*running, *credit, *debit}):
                yield Balance(month, account, running[account], credit[account], debit[account])
                running[account] += credit[account] - debit[account]


def read_books(engine: Engine, currency: str) -> Books:
    """The books of a community's database.

    Args:
        engine: the database.
        currency: three letters; the journal does not know it.
    """
    with Session(engine) as session:
        bookings = tuple(_booking(row.number, entry) for row, entry in entries(session))
        names = {f"slot:{item.slot}": item.name for item in session.exec(select(MemberRow))}
    names |= {f"slot:{slot}": name for slot, name in _SYSTEM.items()} | {VAULT: "vault"}
    used = {posting.account for booking in bookings for posting in booking.postings}
    names |= {
        account: f"guarantor {account.partition(':')[2]}"
        for account in used
        if account.startswith("guarantor:")
    }
    return Books(bookings, _unique(names), currency)


def _booking(number: int, entry: JournalEntry) -> Booking:
    return Booking(
        number=number,
        day=datetime.fromtimestamp(entry.occurred_at, UTC).date(),
        kind=entry.kind,
        reference=entry.reference,
        postings=tuple(Posting(*item) for item in sorted(entry.postings.items())),
    )


def _unique(names: Mapping[str, str]) -> dict[str, str]:
    """Two members of one name are told apart by their accounts."""
    shared = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {
        account: f"{name} ({account})" if name in shared else name
        for account, name in names.items()
    }


def amount(nano: int) -> str:
    """Money with all its decimals, such as -3.000000001."""
    return f"{Decimal(nano) * NANO:.9f}"


def months(bookings: Sequence[Booking]) -> list[str]:
    """The months that have bookings."""
    return sorted({booking.day.strftime("%Y-%m") for booking in bookings})
