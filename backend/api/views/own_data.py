"""A member's data as files: statements on paper and as tables, its part of a bundle, and everything there is."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from datetime import date
from decimal import Decimal

from backend.accounting.invoice import Parties, Party, statement_pdf
from backend.accounting.statement import Ahead, MemberStatement, StatementLine
from backend.domain.errors import NotThere
from backend.domain.values import Value

from ..site import Site, Standing
from ..wishes import all_wishes
from . import member, member_statements
from .settled import settled_of
from .values import Exact, HexText, Quality

EXPORT_FORMAT = "peerwatt/own-data/1"
_FILE_TIME = (1980, 1, 1, 0, 0, 0)
_NANO = Decimal(10**9)
_STATES = {
    Standing.RUNNING: "preview: the day is not over, nothing is on the chain",
    Standing.WAITING: "preview: the day is over, its batch comes next",
    Standing.PROVISIONAL: "provisional: on the chain, can still be challenged",
    Standing.SETTLED: "final on the chain",
    Standing.DISPUTED: "disputed: somebody has called it into question",
}


class Reading(Value):
    """A member's reading of an interval, as it was settled, or is so far."""

    interval: int
    import_wh: Exact
    export_wh: Exact
    quality: Quality


class Proof(Value):
    """What proves a member's account: its part of the bundle, the public part's hash, and the batch on chain.

    Attributes:
        personal, public: documents byte for byte as they were hashed; the public part may be large, so only its hash is here.
        personal_hash: keccak256 of `personal`, which the public part names.
    """

    slot: int
    period: int
    version: int
    batch_number: int
    batch_hash: HexText
    bundle_hash: HexText
    personal_hash: HexText
    personal: str


class Erased(Value):
    """From how many batches data were erased."""

    slot: int
    before_period: int
    batches: int


def readings(day: member.MemberDay) -> tuple[Reading, ...]:
    """A day's readings."""
    return tuple(
        Reading(
            interval=item.interval,
            import_wh=item.import_wh,
            export_wh=item.export_wh,
            quality=item.quality,
        )
        for item in day.intervals
    )


def proof(site: Site, slot: int, number: int) -> Proof:
    """What proves a member's account in a batch.

    Raises:
        UnknownReference: no such batch.
        NotThere: the member has no part of it (any more).
    """
    batch = site.batch(number)
    data = site.bundles.store.personal(batch.header.bundle_hash, slot)
    hashes = site.bundles.public(batch.header)["personal_hashes"]
    if data is None or str(slot) not in hashes:
        raise NotThere(f"batch {number} has nothing of slot {slot}", "see the list of statements")
    return Proof(
        slot=slot,
        period=batch.header.period,
        version=batch.header.version,
        batch_number=number,
        batch_hash=batch.batch_hash,
        bundle_hash="0x" + batch.header.bundle_hash.hex(),
        personal_hash=hashes[str(slot)],
        personal=data.decode(),
    )


def statement_csv(statement: member_statements.Statement) -> bytes:
    """A statement as a table, one interval a line; money with nine decimals, so that nothing is rounded."""
    columns = (
        "start", "end", "quality", "import_wh", "export_wh", "bought_inside_wh", "sold_inside_wh",
        "bought_outside_wh", "sold_outside_wh", "bought_ahead_wh", "sold_ahead_wh", "buy_price_nano_per_wh", "sell_price_nano_per_wh",
        "ahead_amount", "amount", "outside_amount", "currency",
    )  # fmt: skip
    return table(
        columns,
        (
            (
                item.start.isoformat(),
                item.end.isoformat(),
                item.quality.value,
                item.import_wh,
                item.export_wh,
                item.bought_inside_wh,
                item.sold_inside_wh,
                item.bought_outside_wh,
                item.sold_outside_wh,
                item.bought_ahead_wh,
                item.sold_ahead_wh,
                item.prices.buy_nano_per_wh,
                item.prices.sell_nano_per_wh,
                money(item.ahead_amount_nano),
                money(item.amount_nano),
                money(item.outside_amount_nano),
                statement.currency,
            )
            for item in statement.day.intervals
        ),
    )


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """A table as CSV (RFC 4180). A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def _cell(value: object) -> object:
    formula = isinstance(value, str) and value[:1] in "=+-@\t\r" and not _is_number(value)
    return f"'{value}" if formula else value


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def money(nano: int) -> str:
    """Currency units with nine decimals."""
    return f"{Decimal(nano) / _NANO:.9f}"


def statement_on_paper(site: Site, statement: member_statements.Statement) -> bytes:
    """A statement as PDF; a correction with the versions before it, whose difference it books."""
    summary = statement.summary
    facts = site.participant(summary.slot)
    earlier = [
        member_statements.statement(site, summary.slot, summary.period, batch.header.version)
        for batch in site.versions_of(summary.period)
        if batch.header.version < summary.version
    ]
    whole = MemberStatement(
        slot=summary.slot,
        name=statement.name,
        node=facts.node,
        tariff_class=facts.tariff_class,
        clearing_house=site.contracts.addresses["ClearingHouse"],
        chain_id=site.chain_id,
        lines=tuple(_line(item) for item in (*earlier, statement)),
    )
    parties = Parties(seller=Party(name=site.title, country="ZZ"), currency=site.currency)
    day = date.fromisoformat(summary.day)
    return statement_pdf(whole, parties, day, _STATES[summary.standing])


def _line(statement: member_statements.Statement) -> StatementLine:
    summary, totals, ahead = statement.summary, statement.day.totals, statement.day.ahead
    pool = [item.amount_nano - item.ahead_amount_nano for item in statement.day.intervals]
    traded = Ahead()
    if ahead:
        traded = Ahead(
            ahead.sold_wh, ahead.bought_wh, ahead.sold_nano, ahead.bought_nano, ahead.other_nano
        )
    return StatementLine(
        batch=summary.batch_number or 0,
        day=date.fromisoformat(summary.day),
        version=summary.version,
        bought_wh=totals.bought_inside_wh + totals.bought_outside_wh,
        sold_wh=totals.sold_inside_wh + totals.sold_outside_wh,
        bought_nano=-sum(amount for amount in pool if amount < 0),
        sold_nano=sum(amount for amount in pool if amount >= 0),
        ahead=traded,
        amount_nano=summary.amount_nano,
        balance_nano=summary.cumulative_nano,
    )


def export(site: Site, slot: int) -> bytes:
    """Everything that is kept of a member, as one ZIP file (docs/files.md, `peerwatt/own-data/1`)."""
    facts = site.participant(slot)
    files: dict[str, bytes] = {}
    days = []
    for summary in member_statements.statement_summaries(site, slot):
        found = member_statements.statement(site, slot, summary.period, summary.version)
        name = f"{summary.day}-v{summary.version}"
        files[f"statements/{name}.json"] = found.model_dump_json(indent=1).encode()
        files[f"statements/{name}.csv"] = statement_csv(found)
        days.append({"period": summary.period, "version": summary.version, "kind": summary.kind})
        if summary.batch_number is not None:
            part = proof(site, slot, summary.batch_number)
            files[f"bundles/{summary.batch_number}/personal/{slot}.json"] = part.personal.encode()
    files["own-data.json"] = json.dumps(
        {
            "format": EXPORT_FORMAT,
            "community": site.title,
            "chain_id": site.chain_id,
            "clearing_house": site.contracts.addresses["ClearingHouse"],
            "slot": slot,
            "name": facts.name,
            "account": facts.account,
            "meter": facts.meter,
            "node": facts.node,
            "tariff_class": facts.tariff_class,
            "generation_peak_w": facts.generation_peak_w,
            "heat_pump": facts.heat_pump,
            "ev": facts.ev,
            "from_period": facts.from_period,
            "until_period": facts.until_period,
            "days": days,
            "wishes": all_wishes(site, slot),
        },
        indent=1,
    ).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _FILE_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name])
    return buffer.getvalue()


def erase(site: Site, slot: int, before_period: int) -> Erased:
    """Erases a member's readings, trades, statements and wishes of periods before one.

    Raises:
        MalformedInput: a period among them is not final, or nothing lies before it.
    """
    from backend.operator.erasure import erase_member, erase_wishes

    done = erase_member(site.cycle, site.bundles.store, slot, before_period)
    erase_wishes(site.cycle, slot)
    site.bundles.forget()
    settled_of(site).forget()
    site.changed()
    site.forget()
    return Erased(slot=slot, before_period=before_period, batches=done)
