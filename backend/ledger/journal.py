"""The journal: double entry, append-only.

A booking moves money between accounts and its postings sum to zero. An account's balance is the sum of its postings: what the
community owes it. The vault's is negative, so `-balance` is what the contract holds, and the members' balances are what they
could withdraw if everybody left. Nothing is ever changed: a correction is a booking of the difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from backend.domain.errors import BookingRefused

from .tables import JournalRow, PostingRow

VAULT = "vault"
_SQL_INTEGER_LIMIT = 2**63
_FIRST_DIGEST = "0" * 64
_ROWS_AT_ONCE = 1000


def slot_account(slot: int) -> str:
    """The account of a slot: members, and supplier, DSO and fund (0, 1, 2)."""
    return f"slot:{slot}"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What happened.

    Attributes:
        kind: deposit, withdrawal, guarantee, batch or correction.
        reference: what is booked; unique.
        occurred_at: chain time, seconds since the Unix epoch.
        postings: amount in nano by account; they sum to zero, and none is zero.
    """

    kind: str
    reference: str
    occurred_at: int
    postings: Mapping[str, int]

    def canonical(self) -> bytes:
        """The entry as JSON with sorted keys and no spaces."""
        data = {
            "kind": self.kind,
            "reference": self.reference,
            "occurred_at": self.occurred_at,
            "postings": dict(self.postings),
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def transfer(
    kind: str, reference: str, occurred_at: int, account: str, amount_nano: int
) -> JournalEntry:
    """Money that came into the vault for an account (negative: left it)."""
    return JournalEntry(kind, reference, occurred_at, {account: amount_nano, VAULT: -amount_nano})


def settlement(
    kind: str, batch_hash: bytes, occurred_at: int, amounts_nano: Mapping[int, int]
) -> JournalEntry:
    """What a batch settles between accounts, by slot."""
    postings = {slot_account(slot): amount for slot, amount in amounts_nano.items() if amount}
    return JournalEntry(kind, "0x" + batch_hash.hex(), occurred_at, postings)


def post(session: Session, entry: JournalEntry) -> bool:
    """Books an entry in the session's transaction.

    Returns:
        Whether it was new; the same entry again changes nothing.

    Raises:
        BookingRefused: it does not balance, an amount does not fit, or something else has this reference.
    """
    total = sum(entry.postings.values())
    if total != 0 or any(
        not abs(amount) < _SQL_INTEGER_LIMIT for amount in entry.postings.values()
    ):
        raise BookingRefused(
            f"{entry.kind} {entry.reference} sums to {total} nano, or has an amount beyond 64 bits",
            "report this; nothing was booked",
        )
    known = session.exec(
        select(JournalRow).where(JournalRow.reference == entry.reference)
    ).one_or_none()
    if known is not None:
        if _read(session, [known]) != [entry]:
            raise BookingRefused(
                f"{entry.reference} is booked already, with other content",
                "run `peerwatt db check`; if the ledger is sound, report this",
            )
        return False
    last = session.exec(
        select(JournalRow).order_by(col(JournalRow.number).desc()).limit(1)
    ).one_or_none()
    row = JournalRow(
        number=last.number + 1 if last else 1,
        kind=entry.kind,
        reference=entry.reference,
        occurred_at=entry.occurred_at,
        digest=next_digest(last.digest if last else _FIRST_DIGEST, entry),
    )
    session.add(row)
    session.flush()
    session.add_all(
        PostingRow(journal_number=row.number, account=account, amount_nano=amount)
        for account, amount in sorted(entry.postings.items())
    )
    session.flush()
    return True


def next_digest(before: str, entry: JournalEntry) -> str:
    """The digest of an entry that follows one with the digest `before`."""
    return hashlib.sha256(bytes.fromhex(before) + entry.canonical()).hexdigest()


def entries(session: Session) -> Iterator[tuple[JournalRow, JournalEntry]]:
    """All bookings, oldest first, as stored and as values."""
    last = 0
    while True:
        rows = session.exec(
            select(JournalRow)
            .where(JournalRow.number > last)
            .order_by(col(JournalRow.number))
            .limit(_ROWS_AT_ONCE)
        ).all()
        if not rows:
            return
        yield from zip(rows, _read(session, rows), strict=True)
        last = rows[-1].number


def balances_nano(session: Session) -> dict[str, int]:
    """By account what the community owes it."""
    totals = session.exec(
        select(PostingRow.account, func.sum(PostingRow.amount_nano))
        .group_by(PostingRow.account)
        .order_by(PostingRow.account)
    )
    return {account: int(total) for account, total in totals}


def export(session: Session) -> bytes:
    """The whole journal, a line each: the same chain and bundles give the same bytes (docs/files.md, `peerwatt/journal/1`)."""
    lines = [b'{"format":"peerwatt/journal/1"}']
    lines += [entry.canonical() for _, entry in entries(session)]
    return b"\n".join(lines) + b"\n"


def faults(session: Session) -> Iterator[str]:
    """What is wrong with the journal, in words; nothing if it is sound."""
    digest = _FIRST_DIGEST
    for number, (row, entry) in enumerate(entries(session), start=1):
        if row.number != number:
            yield f"booking {number} is missing"
            return
        if sum(entry.postings.values()) != 0:
            yield f"booking {number} sums to {sum(entry.postings.values())} nano"
        digest = next_digest(digest, entry)
        if row.digest != digest:
            yield f"booking {number} or one before it was changed"
            return


def _read(session: Session, rows: Sequence[JournalRow]) -> list[JournalEntry]:
    """Bookings with consecutive numbers, with their postings."""
    postings: dict[int, dict[str, int]] = {row.number: {} for row in rows}
    for posting in session.exec(
        select(PostingRow).where(
            col(PostingRow.journal_number).between(rows[0].number, rows[-1].number)
        )
    ):
        postings.setdefault(posting.journal_number, {})[posting.account] = posting.amount_nano
    return [
        JournalEntry(row.kind, row.reference, row.occurred_at, postings[row.number]) for row in rows
    ]
