"""A statement as a structured e-invoice (EN 16931, profile EN 16931 of Factur-X / ZUGFeRD), and as a PDF that carries it.

The library writes the XML and validates it against the schema it ships. Lines are what the member bought, and with a negative
quantity what it sold, each also before delivery where members trade ahead; all of it is settled in the community's vault already, so
nothing is left to pay.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO
from typing import Annotated, Any, Literal

from pydantic import Field

from backend.domain.values import Identifier, Value

from .statement import Ahead, MemberStatement, cents

_KWH, _NANO = Decimal(1000), Decimal(10**9)
_PRICE_DIGITS = Decimal("0.00000001")
_CENT = Decimal("0.01")
# UNTDID 1001 commercial invoice; UNTDID 4461 mutually defined; UN/ECE rec. 20 kilowatt hour, one.
_INVOICE, _MUTUALLY_DEFINED, _UNIT, _ONE = "380", "ZZZ", "KWH", "C62"
_GUIDELINE = "urn:cen.eu:en16931:2017"
_SCHEMA = "FACTUR-X_EN16931"


class Party(Value):
    """Who sells or buys.

    Attributes:
        name: as registered.
        street, postcode, city: address.
        country: ISO 3166-1, two letters.
        vat_id: VAT number with its country's letters; needed of the seller unless nothing is taxed.
        registration_id: legal registration, where there is no VAT number.
    """

    name: Identifier
    street: str = ""
    postcode: str = ""
    city: str = ""
    country: Identifier
    vat_id: str = ""
    registration_id: str = ""


class Vat(Value):
    """How the invoices are taxed.

    Attributes:
        category: UNTDID 5305: S standard rate, E exempt, O outside the scope of VAT, ...
        rate_percent: whole and hundredths, as text such as `25.00`; `0` where nothing is taxed.
        reason: why nothing is taxed; needed for E and O.
    """

    category: Identifier
    rate_percent: Annotated[str, Field(pattern=r"^\d{1,2}(\.\d{1,2})?$")] = "0"
    reason: str = ""

    @property
    def is_rated(self) -> bool:
        """Whether a rate is stated, which EN 16931 forbids outside the scope of VAT."""
        return self.category != "O"


class Parties(Value):
    """Names and addresses that no ledger has: `peerwatt/parties/1`.

    Attributes:
        format: of the file.
        seller: who invoices, such as the community's association.
        members: by slot.
        vat: how they are taxed.
        currency: ISO 4217.
    """

    format: Literal["peerwatt/parties/1"] = "peerwatt/parties/1"
    seller: Party
    members: dict[str, Party] = Field(default_factory=dict)
    vat: Vat = Vat(category="O", reason="Settled inside the community")
    currency: Identifier = "EUR"


@dataclass(frozen=True)
class _Line:
    """One line: kWh with their sign, price of a kWh, money; or once an amount."""

    name: str
    quantity: Decimal
    price: Decimal
    unit: str = _UNIT

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.quantity} kWh at {self.price}" if self.unit == _UNIT else "in all"

    @property
    def total(self) -> Decimal:
        """As EN 16931 wants it: quantity times price, rounded to cents."""
        return (self.quantity * self.price).quantize(_CENT, ROUND_HALF_UP)


def invoice_number(statement: MemberStatement) -> str:
    """The same for the same statement: slot, first and last batch."""
    first, last = statement.lines[0].batch, statement.lines[-1].batch
    return f"PW-{statement.slot}-{first}-{last}"


def _lines(statement: MemberStatement) -> list[_Line]:
    found, ahead = [], statement.ahead
    days = f"{statement.lines[0].day} to {statement.lines[-1].day}"
    for name, energy_wh, nano, sign in (
        ("Electricity bought", statement.bought_wh, statement.bought_nano, 1),
        ("Electricity sold", statement.sold_wh, statement.sold_nano, -1),
        ("Electricity bought before delivery", ahead.bought_wh, ahead.bought_nano, 1),
        ("Electricity sold before delivery", ahead.sold_wh, ahead.sold_nano, -1),
    ):
        if not energy_wh:
            continue
        # EN 16931 has no negative prices: such energy is a positive price the other way round.
        quantity = (sign if nano >= 0 else -sign) * Decimal(energy_wh) / _KWH
        price = (Decimal(abs(nano)) / energy_wh / 10**6).quantize(_PRICE_DIGITS)
        found.append(_Line(f"{name}, {days}", quantity, price))
    if ahead.other_nano:
        # Others' network fees; or the energy is not known.
        quantity = Decimal(-1 if ahead.other_nano > 0 else 1)
        price = (Decimal(abs(ahead.other_nano)) / _NANO).quantize(_PRICE_DIGITS)
        found.append(_Line(f"Trades before delivery, {days}", quantity, price, _ONE))
    return found


def invoice_xml(statement: MemberStatement, parties: Parties, issued: date) -> bytes:
    """The invoice as XML, valid against the schema.

    Args:
        statement: what is invoiced.
        parties: names, addresses and tax.
        issued: date of the invoice.
    """
    from drafthorse.models.document import Document
    from drafthorse.models.note import IncludedNote

    document = Document()
    document.context.guideline_parameter.id = _GUIDELINE
    document.header.id = invoice_number(statement)
    document.header.type_code = _INVOICE
    document.header.issue_date_time = issued
    note = IncludedNote()
    note.content = (
        f"Settled in the vault of {statement.clearing_house} on chain {statement.chain_id}; exact amount "
        f"{statement.amount_nano} nano {parties.currency}"
    )
    document.header.notes.add(note)
    _fill(document.trade.agreement.seller, parties.seller)
    buyer = parties.members.get(str(statement.slot))
    _fill(
        document.trade.agreement.buyer,
        buyer or Party(name=statement.name, country=parties.seller.country),
    )
    document.trade.delivery.event.occurrence = statement.lines[-1].day
    lines = _lines(statement)
    for number, line in enumerate(lines, start=1):
        document.trade.items.add(_item(number, line, parties.vat))
    _settle(document.trade.settlement, statement, lines, parties)
    made: bytes = document.serialize(schema=_SCHEMA)
    return made


def _item(number: int, line: _Line, vat: Vat) -> Any:
    from drafthorse.models.tradelines import LineItem

    item = LineItem()
    item.document.line_id = str(number)
    item.product.name = line.name
    item.agreement.net.amount = line.price
    item.agreement.net.basis_quantity = (Decimal(1), line.unit)
    item.delivery.billed_quantity = (line.quantity, line.unit)
    item.settlement.trade_tax.type_code = "VAT"
    item.settlement.trade_tax.category_code = vat.category
    if vat.is_rated:
        item.settlement.trade_tax.rate_applicable_percent = Decimal(vat.rate_percent)
    item.settlement.monetary_summation.total_amount = line.total
    return item


def _settle(place: Any, statement: MemberStatement, lines: list[_Line], parties: Parties) -> None:
    """Tax, totals, and that nothing but tax is left to pay."""
    from drafthorse.models.accounting import ApplicableTradeTax
    from drafthorse.models.payment import PaymentMeans, PaymentTerms

    vat = parties.vat
    basis = sum((line.total for line in lines), Decimal("0.00"))
    # Nothing of what is negative would be written as -0.00, which the standard's rules do not take for zero.
    tax = (basis * Decimal(vat.rate_percent) / 100).quantize(_CENT, ROUND_HALF_UP) or Decimal(
        "0.00"
    )
    place.currency_code = parties.currency
    means = PaymentMeans()
    means.type_code = _MUTUALLY_DEFINED
    place.payment_means.add(means)
    place.period.start = statement.lines[0].day
    place.period.end = statement.lines[-1].day
    total = ApplicableTradeTax()
    total.calculated_amount = tax
    total.basis_amount = basis
    total.type_code = "VAT"
    total.category_code = vat.category
    if vat.reason:
        total.exemption_reason = vat.reason
    if vat.is_rated:
        total.rate_applicable_percent = Decimal(vat.rate_percent)
    place.trade_tax.add(total)
    terms = PaymentTerms()
    terms.description = "Settled in the community's vault"
    place.terms.add(terms)
    summation = place.monetary_summation
    summation.line_total = basis
    summation.tax_basis_total = basis
    summation.tax_total = (tax, parties.currency)
    summation.grand_total = basis + tax
    summation.prepaid_total = basis
    summation.due_amount = tax


def _fill(place: Any, party: Party) -> None:
    place.name = party.name
    for name, text in (
        ("line_one", party.street),
        ("postcode", party.postcode),
        ("city_name", party.city),
        ("country_id", party.country),
    ):
        if text:
            setattr(place.address, name, text)
    if party.vat_id:
        from drafthorse.models.party import TaxRegistration

        registration = TaxRegistration()
        registration.id = ("VA", party.vat_id)
        place.tax_registrations.add(registration)
    if party.registration_id:
        place.legal_organization.id = party.registration_id


def statement_pdf(
    statement: MemberStatement, parties: Parties, issued: date, state: str = ""
) -> bytes:
    """The statement on paper, the same bytes for the same statement.

    Args:
        statement: what is told.
        parties: who settles for whom.
        issued: date of the paper.
        state: how far it holds, in words, where that is not final.
    """
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

    from backend.printing import STYLES, table

    sheet = BytesIO()
    document = SimpleDocTemplate(
        sheet, pagesize=A4, leftMargin=40, rightMargin=40, topMargin=40, bottomMargin=40, invariant=1,
        title=f"Statement {invoice_number(statement)}", author=parties.seller.name,
    )  # fmt: skip
    unit = parties.currency
    buyer = parties.members.get(str(statement.slot))
    # Nothing of a preview is in a batch.
    preview = not statement.lines[-1].batch
    title = "Preview of a statement" if preview else f"Statement {invoice_number(statement)}"
    booked = (
        "Nothing of this is booked yet."
        if preview
        else (
            f"Booked in all: {statement.amount_nano} nano {unit} (positive: received), settled in the vault."
        )
    )
    # A column that not every community needs.
    ahead = [f"before delivery {unit}"] if statement.ahead != Ahead() else []
    rows: list[tuple[object, ...]] = [
        (
            "day",
            "bought kWh",
            "sold kWh",
            f"bought {unit}",
            f"sold {unit}",
            *ahead,
            f"booked {unit}",
            f"balance {unit}",
        )
    ]
    for line in statement.lines:
        rows.append(
            (
                f"{line.day}" + (f", correction {line.version}" if line.version else ""),
                f"{line.bought_wh / 1000:.3f}", f"{line.sold_wh / 1000:.3f}",
                cents(line.bought_nano), cents(line.sold_nano), *(cents(line.ahead.nano) for _ in ahead),
                cents(line.amount_nano), cents(line.balance_nano),
            )
        )  # fmt: skip
    lines = [
        (f"{item.name}: {item.text}" + (f" {unit}/kWh" if item.unit == _UNIT else ""), item.total)
        for item in _lines(statement)
    ]
    document.build(
        [
            Paragraph(title, STYLES["Title"]),
            table(
                [
                    ("from", parties.seller.name),
                    ("for", (buyer.name if buyer else statement.name)),
                    ("account", f"slot {statement.slot}, node {statement.node}, {statement.tariff_class}"),
                    ("days", f"{statement.lines[0].day} to {statement.lines[-1].day}"),
                    ("issued", issued.isoformat()),
                    *([("state", state)] if state else ()),
                    ("settled by", f"{statement.clearing_house}, chain {statement.chain_id}"),
                ],
                (90, 425),
            ),
            Spacer(1, 12),
            table(lines, (400, 115)),
            Spacer(1, 12),
            table(rows, (115, 50, 50, 60, 60, 60, 60, 60) if ahead else (125, 60, 60, 68, 68, 67, 67)),
            Spacer(1, 12),
            Paragraph(
                f"{booked} A price is what a kWh cost or earned on average; how one interval's follows is in the handbook, "
                "“Check a bill by hand”.",
                STYLES["BodyText"],
            ),
        ]
    )  # fmt: skip
    return sheet.getvalue()


def invoice_pdf(statement: MemberStatement, parties: Parties, issued: date) -> bytes:
    """The statement as Factur-X: the PDF with the XML inside."""
    from drafthorse.pdf import attach_xml

    with warnings.catch_warnings():
        # pypdf's own, about how drafthorse calls it.
        warnings.simplefilter("ignore", DeprecationWarning)
        made: bytes = attach_xml(
            statement_pdf(statement, parties, issued),
            invoice_xml(statement, parties, issued),
            "EN 16931",
        )
    return made
