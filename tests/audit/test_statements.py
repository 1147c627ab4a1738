"""Members' statements and e-invoices, made from what the auditor recomputed: to the nano, and valid against the schema."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import pytest
from lxml import etree
from pypdf import PdfReader
from typer.testing import CliRunner

from backend.accounting.invoice import Parties, invoice_pdf, invoice_xml, statement_pdf
from backend.accounting.statement import MemberStatement, cents, member_statements
from backend.audit.bundle_files import BundleFiles
from backend.audit.chain_reader import ChainReader
from backend.audit.node import open_nodes
from backend.cli import app

from .settled import Settled

RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"
ISSUED = date(2013, 11, 1)
PARTIES = Parties.from_data(
    {
        "seller": {"name": "Energy community", "city": "Kassel", "country": "DE", "vat_id": "DE123456789"},
        "members": {"3": {"name": "Anna <Example> & Co", "country": "DE"}},
        "vat": {"category": "S", "rate_percent": "19.00"},
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def statements(settled: Settled) -> list[MemberStatement]:
    reader = ChainReader(open_nodes((settled.url,)), settled.community)
    files = BundleFiles(settled.folder)
    return member_statements(reader.standing_batches(), files, settled.community, 31337)


def test_a_statement_books_what_the_ledger_booked(
    settled: Settled, statements: list[MemberStatement]
) -> None:
    booked: dict[int, int] = defaultdict(int)
    for batch in settled.town.batches:
        for slot, leaf in batch.leaves.items():
            booked[slot] += leaf.amount_nano
    assert {item.slot for item in statements} == {3, 4, 5, 6, 7}
    last = settled.town.batches[-1]
    for item in statements:
        assert item.amount_nano == booked[item.slot] == item.lines[-1].balance_nano
        assert item.amount_nano == item.sold_nano - item.bought_nano
        if item.slot in last.leaves:
            assert item.lines[-1].balance_nano == last.leaves[item.slot].cumulative_nano


def amounts(root: etree._Element, name: str) -> list[Decimal]:
    return [Decimal(found.text or "") for found in root.iter(f"{RAM}{name}")]


def test_invoices_are_valid_and_add_up(statements: list[MemberStatement]) -> None:
    for item in statements:
        # The library validates against EN 16931's schema.
        root = etree.fromstring(invoice_xml(item, PARTIES, ISSUED))
        lines = amounts(root, "LineTotalAmount")
        *each, total = lines
        assert sum(each) == total
        (basis,), (tax,) = amounts(root, "TaxBasisTotalAmount"), amounts(root, "TaxTotalAmount")
        (grand,), (due,) = amounts(root, "GrandTotalAmount"), amounts(root, "DuePayableAmount")
        (paid,) = amounts(root, "TotalPrepaidAmount")
        assert basis == total and grand == basis + tax and due == grand - paid
        assert tax == (basis * 19 / 100).quantize(Decimal("0.01"), "ROUND_HALF_UP")
        assert abs(total + cents(item.amount_nano)) <= Decimal("0.01")
        for line in root.iter(f"{RAM}IncludedSupplyChainTradeLineItem"):
            (price,), (quantity,) = amounts(line, "ChargeAmount"), amounts(line, "BilledQuantity")
            (net,) = amounts(line, "LineTotalAmount")
            assert price >= 0
            assert (price * quantity).quantize(Decimal("0.01"), "ROUND_HALF_UP") == net


def test_the_pdf_carries_the_invoice(statements: list[MemberStatement]) -> None:
    first = statements[0]
    reader = PdfReader(BytesIO(invoice_pdf(first, PARTIES, ISSUED)))
    assert reader.attachments["factur-x.xml"] == [invoice_xml(first, PARTIES, ISSUED)]
    text = " ".join(page.extract_text() for page in reader.pages)
    assert "Anna <Example> & Co" in text and str(first.amount_nano) in text
    plain = statement_pdf(first, PARTIES, ISSUED)
    assert plain == statement_pdf(first, PARTIES, ISSUED)


def test_outside_the_scope_of_vat_no_rate_is_stated(statements: list[MemberStatement]) -> None:
    seller = {"name": "Community", "country": "AT", "registration_id": "ZVR 1"}
    root = etree.fromstring(
        invoice_xml(statements[0], Parties.from_data({"seller": seller}), ISSUED)
    )
    assert not list(root.iter(f"{RAM}RateApplicablePercent"))
    assert amounts(root, "TaxTotalAmount") == [Decimal("0.00")]


def test_the_command_audits_first(settled: Settled, bundles: Path, tmp_path: Path) -> None:
    parties = tmp_path / "parties.json"
    parties.write_text(json.dumps(PARTIES.model_dump(mode="json")))
    output = tmp_path / "out"
    given = [
        "export", "statements", "--rpc", settled.url, "--community", settled.community, "--bundle", str(bundles),
        "--output", str(output), "--parties", str(parties),
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*given, "--member", str(bundles / "1" / "personal" / "3.json")])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in output.iterdir()) == [
        "3-invoice.pdf",
        "3-invoice.xml",
        "3-statement.pdf",
    ]
    part = bundles / "1" / "personal" / "4.json"
    part.write_bytes(part.read_bytes() + b" ")
    refused = CliRunner().invoke(app, [*given, "--output", str(tmp_path / "none")])
    assert refused.exit_code == 1
    assert not (tmp_path / "none").exists()
    parties.write_text('{"seller": {"name": "x"}}')
    assert CliRunner().invoke(app, given).exit_code == 2


def test_tables_hold_what_was_recomputed(settled: Settled, tmp_path: Path) -> None:
    import csv

    from pyarrow import parquet

    given = [
        "export", "tables", "--rpc", settled.url, "--community", settled.community, "--bundle", str(settled.folder),
        "--output", str(tmp_path), "--format", "csv", "--format", "parquet",
    ]  # fmt: skip
    assert CliRunner().invoke(app, given).exit_code == 0
    verdict = settled.run().verdict
    fees = sum(outcome.fees_nano for period in verdict.periods for outcome in period.outcomes)
    with (tmp_path / "intervals.csv").open(newline="") as file:
        assert sum(int(row["fees_nano"]) for row in csv.DictReader(file)) == fees
    assert sum(parquet.read_table(tmp_path / "intervals.parquet")["fees_nano"].to_pylist()) == fees
    assert parquet.read_table(tmp_path / "batches.parquet").num_rows == len(verdict.periods)
