"""Books as files: CSV, hledger, Beancount, spreadsheet. Each is made of the same `Books`, and none rounds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from typing import Final

from backend.ledger.journal import VAULT

from .books import Books, amount

_FORBIDDEN = re.compile(r"[^A-Za-z0-9-]+")
# Cells that spreadsheets take for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _csv(rows: Iterator[tuple[object, ...]]) -> bytes:
    sheet = io.StringIO()
    csv.writer(sheet, lineterminator="\r\n").writerows(rows)
    return sheet.getvalue().encode()


def _safe(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def journal_csv(books: Books) -> bytes:
    """One posting a line: RFC 4180, UTF-8."""

    def rows() -> Iterator[tuple[object, ...]]:
        yield (
            "number",
            "date",
            "kind",
            "reference",
            "account",
            "name",
            "debit",
            "credit",
            "currency",
        )
        for booking in books.bookings:
            for posting in booking.postings:
                money = posting.amount_nano
                yield (
                    booking.number, booking.day.isoformat(), booking.kind, booking.reference,
                    posting.account, _safe(books.name(posting.account)),
                    amount(-money) if money < 0 else "", amount(money) if money > 0 else "",
                    books.currency,
                )  # fmt: skip

    return _csv(rows())


def balances_csv(books: Books) -> bytes:
    """One account and month a line."""

    def rows() -> Iterator[tuple[object, ...]]:
        yield ("month", "account", "name", "opening", "credit", "debit", "closing", "currency")
        for item in books.balances():
            yield (
                item.month, item.account, _safe(books.name(item.account)), amount(item.opening_nano),
                amount(item.credit_nano), amount(item.debit_nano), amount(item.closing_nano), books.currency,
            )  # fmt: skip

    return _csv(rows())


def journal_hledger(books: Books) -> bytes:
    """Plain-text accounting, as hledger and ledger read it: debits are positive, what the community owes is negative."""
    lines = ["decimal-mark .", f"commodity 1.000000000 {books.currency}", ""]
    for booking in books.bookings:
        lines.append(
            f"{booking.day.isoformat()} ({booking.number}) {booking.kind} | {booking.reference}"
        )
        for posting in booking.postings:
            name = re.sub(r"\s\s+|[;\n\r]", " ", books.name(posting.account)).replace(":", " ")
            top = "assets" if posting.account == VAULT else "liabilities"
            lines.append(f"    {top}:{name}  {amount(-posting.amount_nano)} {books.currency}")
        lines.append("")
    return "\n".join(lines).encode()


def journal_beancount(books: Books) -> bytes:
    """Beancount: as hledger, with accounts opened and names as it wants them."""
    used = sorted({posting.account for booking in books.bookings for posting in booking.postings})
    names = {account: _beancount_name(account, books.name(account)) for account in used}
    first = books.bookings[0].day.isoformat() if books.bookings else "1970-01-01"
    lines = ['option "title" "Peerwatt"', f'option "operating_currency" "{books.currency}"', ""]
    lines += [f"{first} open {names[account]} {books.currency}" for account in used]
    lines.append("")
    for booking in books.bookings:
        lines.append(
            f'{booking.day.isoformat()} * "{booking.kind}" "{booking.number} {booking.reference}"'
        )
        lines += [
            f"  {names[posting.account]}  {amount(-posting.amount_nano)} {books.currency}"
            for posting in booking.postings
        ]
        lines.append("")
    return "\n".join(lines).encode()


def _beancount_name(account: str, name: str) -> str:
    """A part begins with a capital letter or a digit; the journal's name keeps two of one name apart."""
    top = "Assets" if account == VAULT else "Liabilities"
    plain = _FORBIDDEN.sub("-", f"{account}-{name}").strip("-")
    return f"{top}:{plain[:1].upper()}{plain[1:]}"


def books_xlsx(books: Books) -> bytes:
    """A workbook with journal and balances; amounts are numbers with nine decimals shown.

    A spreadsheet's numbers have 15 digits: above a million units the ninth decimal is lost there, and only there.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    workbook = Workbook(write_only=True)
    for title, data in (("Journal", journal_csv(books)), ("Balances", balances_csv(books))):
        sheet = workbook.create_sheet(title)
        header, *rows = csv.reader(io.StringIO(data.decode()))
        sheet.append(header)
        money = {header.index(n) for n in ("debit", "credit", "opening", "closing") if n in header}
        for row in rows:
            cells = []
            for place, text in enumerate(row):
                cell = WriteOnlyCell(sheet, value=float(text) if place in money and text else text)
                if place in money:
                    cell.number_format = "0.000000000"
                cells.append(cell)
            sheet.append(cells)
    sheet_file = io.BytesIO()
    workbook.save(sheet_file)
    return sheet_file.getvalue()


FILES: Final[dict[str, dict[str, Callable[[Books], bytes]]]] = {
    "csv": {"journal.csv": journal_csv, "balances.csv": balances_csv},
    "hledger": {"journal.hledger": journal_hledger},
    "beancount": {"journal.beancount": journal_beancount},
    "xlsx": {"books.xlsx": books_xlsx},
}
