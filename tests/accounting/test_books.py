"""The books as an accountant's software reads them: every booking balances, to the ninth decimal, in every format."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
from openpyxl import load_workbook
from sqlmodel import Session
from typer.testing import CliRunner

from backend.accounting.books import Books, read_books
from backend.accounting.journal_files import FILES, balances_csv, journal_csv
from backend.cli import app
from backend.domain.community import Member
from backend.ledger.journal import post, settlement, slot_account, transfer
from backend.ledger.store import LedgerStore

DAY = 86_400
# More nano than 64-bit floats hold exactly.
LARGE = 9_007_199_254_740_993


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Two months of three members, two of whom have one name."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    store = LedgerStore(url)
    names = ["anna", "=SUM(A1)", "anna"]
    store.add_members(
        [
            Member(
                slot=3 + number,
                name=name,
                account="0x" + f"{number + 1:040x}",
                meter="0x" + f"{number + 1:040x}",
                node="n",
                tariff_class="c",
                fuse_limit_wh=1,
            )
            for number, name in enumerate(names)
        ],
        0,
    )
    with Session(store.engine) as session:
        for slot in (3, 4, 5):
            post(session, transfer("deposit", f"0x{slot}", DAY, slot_account(slot), LARGE))
        post(session, transfer("guarantee", "0xa", 2 * DAY, "guarantor:0xAb", 7))
        post(session, settlement("batch", b"\1" * 32, 3 * DAY, {0: 5, 1: 1, 3: -10, 4: 4}))
        post(session, settlement("correction", b"\2" * 32, 40 * DAY, {3: 2, 4: -2}))
        post(session, transfer("withdrawal", "0xb", 41 * DAY, slot_account(3), -1_000_000_001))
        session.commit()
    store.close()
    return url


@pytest.fixture
def books(database: str) -> Books:
    store = LedgerStore(database)
    try:
        return read_books(store.engine, "EUR")
    finally:
        store.close()


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_debits_are_credits_in_every_booking(books: Books) -> None:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows(journal_csv(books)):
        sums[row["number"]] += Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0)
    assert len(sums) == 7
    assert set(sums.values()) == {Decimal(0)}


def test_balances_carry_over_and_cancel(books: Books) -> None:
    closing: dict[str, Decimal] = {}
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows(balances_csv(books)):
        assert Decimal(row["opening"]) == closing.get(row["account"], 0)
        expected = Decimal(row["opening"]) + Decimal(row["credit"]) - Decimal(row["debit"])
        closing[row["account"]] = Decimal(row["closing"])
        assert closing[row["account"]] == expected
        totals[row["month"]] += closing[row["account"]]
    assert list(totals) == ["1970-01", "1970-02"]
    assert set(totals.values()) == {Decimal(0)}
    assert closing["slot:3"] == Decimal(LARGE - 10 + 2 - 1_000_000_001) / 10**9


def test_names_are_told_apart_and_no_cell_is_a_formula(books: Books) -> None:
    names = {row["account"]: row["name"] for row in rows(journal_csv(books))}
    assert names["slot:3"] == "anna (slot:3)" and names["slot:5"] == "anna (slot:5)"
    assert names["slot:4"].startswith("'=")
    assert names["slot:0"] == "supplier"


def plain_text(data: bytes) -> list[list[Decimal]]:
    """The amounts of each transaction in plain-text accounting."""
    found: list[list[Decimal]] = []
    for line in data.decode().splitlines():
        if re.match(r"\d{4}-\d\d-\d\d (\(|\*)", line):
            found.append([])
        elif line.startswith(" "):
            found[-1].append(Decimal(line.split()[-2]))
    return found


@pytest.mark.parametrize("kind", ["hledger", "beancount"])
def test_plain_text_balances(books: Books, kind: str) -> None:
    ((_, make),) = FILES[kind].items()
    found = plain_text(make(books))
    assert len(found) == 7
    assert all(sum(amounts) == 0 for amounts in found)


@pytest.mark.skipif(shutil.which("hledger") is None, reason="no hledger (apt-get install hledger)")
def test_hledger_reads_it_and_finds_it_balanced(books: Books, tmp_path: Path) -> None:
    path = tmp_path / "journal.hledger"
    path.write_bytes(FILES["hledger"]["journal.hledger"](books))
    for what in (["check"], ["balance", "--no-elide", "-N"]):
        done = subprocess.run(
            ["hledger", "-f", str(path), *what], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "assets:vault" in done.stdout


def test_the_workbook_has_both_sheets(books: Books) -> None:
    workbook = load_workbook(io.BytesIO(FILES["xlsx"]["books.xlsx"](books)))
    assert workbook.sheetnames == ["Journal", "Balances"]
    assert workbook["Journal"].max_row == 1 + sum(len(b.postings) for b in books.bookings)
    assert isinstance(workbook["Journal"]["H2"].value, float)


def test_the_command_writes_what_was_asked_for(database: str, tmp_path: Path) -> None:
    given = ["export", "journal", "--database", database, "--output", str(tmp_path / "books")]
    assert CliRunner().invoke(app, given).exit_code == 0
    everything = {name for files in FILES.values() for name in files}
    assert {path.name for path in (tmp_path / "books").iterdir()} == everything
    assert CliRunner().invoke(app, [*given, "--format", "pdf"]).exit_code == 2
    assert CliRunner().invoke(app, [*given, "--currency", "euro"]).exit_code == 2
