"""What an auditor sees: periods, commitments, totals, the certificate, the recomputed verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hexbytes import HexBytes

from backend.audit.auditor import Scope, audit
from backend.audit.bundle_files import BundleFiles
from backend.audit.evidence import write_evidence
from backend.audit.node import Recorder
from backend.audit.verdict import AuditVerdict, Check
from backend.domain.values import Value

from ..site import Site, Standing, StandingBatch
from .settled import settled_of
from .values import Exact, HexText

_AUDITS_KEPT = 8


class AuditPeriod(Value):
    """A batch in the list."""

    number: int
    period: int
    day: str
    version: int
    standing: Standing
    batch_hash: HexText
    transaction_hash: HexText
    block_number: int
    submitted_at: datetime
    final_at: datetime


class Commitments(Value):
    """What the chain holds of a batch."""

    batch_hash: HexText
    previous_batch: HexText
    corrected_batch: HexText
    readings_root: HexText
    report_hash: HexText
    tariff_hash: HexText
    prices_hash: HexText
    ledger_root: HexText
    ledger_depth: int
    trades_root: HexText
    bundle_hash: HexText


class CertificateInterval(Value):
    """An interval's certificate: its cost is proved least where `gap_nano` is zero."""

    interval: int
    start: datetime
    demand_wh: Exact
    supply_wh: Exact
    matched_wh: Exact
    supplier_nano: Exact
    fees_nano: Exact
    saved_nano: Exact
    fund_nano: Exact
    discount_nano_per_wh: Exact
    premium_nano_per_wh: Exact


class AuditTotals(Value):
    """What a batch books to the accounts that are not members, and to all members together."""

    supplier_nano: Exact
    network_fees_nano: Exact
    fund_nano: Exact
    members_nano: Exact
    demand_wh: Exact
    supply_wh: Exact
    matched_wh: Exact


class AuditBatch(Value):
    """A batch in full."""

    batch: AuditPeriod
    commitments: Commitments
    totals: AuditTotals
    clearing: tuple[CertificateInterval, ...]
    calldata_bytes: int
    gas_used: int | None


class AuditCheck(Value):
    """One thing that was checked; `passed` is null where it could not be."""

    what: str
    passed: bool | None
    count: int
    detail: str


class Verdict(Value):
    """The auditor's recomputed verdict.

    Attributes:
        verdict: verified, failed or incomplete.
        level: how much there was to look at: chain, public, member or full.
    """

    number: int
    verdict: str
    level: str
    block: int
    checked_at: datetime
    community: tuple[AuditCheck, ...]
    checks: tuple[AuditCheck, ...]
    voided: tuple[str, ...]


def audit_periods(site: Site) -> tuple[AuditPeriod, ...]:
    """The batches that stand, newest first."""
    return tuple(_listed(site, batch) for batch in reversed(site.batches()))


def _listed(site: Site, batch: StandingBatch) -> AuditPeriod:
    return AuditPeriod(
        number=batch.number,
        period=batch.header.period,
        day=site.day(batch.header.period),
        version=batch.header.version,
        standing=batch.standing,
        batch_hash=batch.batch_hash,
        transaction_hash=batch.transaction_hash,
        block_number=batch.block_number,
        submitted_at=site.moment(batch.submitted_at),
        final_at=site.moment(batch.final_at),
    )


def audit_batch(site: Site, number: int) -> AuditBatch:
    """A batch in full.

    Raises:
        UnknownReference: none stands under the number.
    """
    batch = site.batch(number)
    return site.made_once(("audit batch", batch.batch_hash), lambda: _audit_batch(site, batch))


def _audit_batch(site: Site, batch: StandingBatch) -> AuditBatch:
    header = batch.header
    cleared = settled_of(site).cleared(header)
    sent: Any = site.web3.eth.get_transaction(HexBytes(batch.transaction_hash))
    receipt = site.web3.eth.get_transaction_receipt(HexBytes(batch.transaction_hash))
    others = header.supplier_nano + header.network_fees_nano + header.fund_nano
    return AuditBatch(
        batch=_listed(site, batch),
        commitments=Commitments(
            batch_hash=batch.batch_hash,
            previous_batch="0x" + header.previous_batch.hex(),
            corrected_batch="0x" + header.corrected_batch.hex(),
            readings_root="0x" + header.readings_root.hex(),
            report_hash="0x" + header.report_hash.hex(),
            tariff_hash="0x" + header.tariff_hash.hex(),
            prices_hash="0x" + header.prices_hash.hex(),
            ledger_root="0x" + header.ledger_root.hex(),
            ledger_depth=header.ledger_depth,
            trades_root="0x" + header.trades_root.hex(),
            bundle_hash="0x" + header.bundle_hash.hex(),
        ),
        totals=AuditTotals(
            supplier_nano=header.supplier_nano,
            network_fees_nano=header.network_fees_nano,
            fund_nano=header.fund_nano,
            members_nano=-others,
            demand_wh=sum(item.demand_wh for item in cleared.outcomes),
            supply_wh=sum(item.supply_wh for item in cleared.outcomes),
            matched_wh=sum(item.matched_wh for item in cleared.outcomes),
        ),
        clearing=tuple(
            CertificateInterval(
                interval=header.first_interval + index,
                start=site.interval_start(header.first_interval + index),
                demand_wh=item.demand_wh,
                supply_wh=item.supply_wh,
                matched_wh=item.matched_wh,
                supplier_nano=item.supplier_nano,
                fees_nano=item.fees_nano,
                saved_nano=item.saved_nano,
                fund_nano=item.fund_nano,
                discount_nano_per_wh=item.discount_nano_per_wh,
                premium_nano_per_wh=item.premium_nano_per_wh,
            )
            for index, item in enumerate(cleared.outcomes)
        ),
        calldata_bytes=len(HexBytes(sent["input"])),
        gas_used=receipt["gasUsed"],
    )


def _scope(batch: StandingBatch, *, personal: bool) -> Scope:
    period = batch.header.period
    return Scope(period, period, None if personal else frozenset())


@contextmanager
def _exported(site: Site, *, personal: bool) -> Iterator[BundleFiles]:
    """The standing bundles as the auditor reads them. A part that was erased is missing there, not altered."""
    with tempfile.TemporaryDirectory() as scratch:
        for batch in site.batches():
            store = site.bundles.store
            there = store.whole_slots(batch.header) if personal else frozenset()
            for _ in store.export(batch.header, Path(scratch), there):
                pass
        yield BundleFiles(Path(scratch))


@dataclass(frozen=True)
class _Audit:
    verdict: Verdict
    evidence: bytes


def recomputed(site: Site, number: int, *, personal: bool) -> Verdict:
    """The independent auditor's verdict on a batch, recomputed from chain and bundles.

    Args:
        site: the community.
        number: of the batch.
        personal: whether members' parts are looked at too.

    Raises:
        UnknownReference: none stands under the number.
    """
    return _audited(site, number, personal=personal).verdict


def evidence(site: Site, number: int, *, personal: bool) -> bytes:
    """The evidence of a batch's audit (`peerwatt/evidence/1`), with which anybody can repeat it without asking anybody.

    Args:
        site: the community.
        number: of the batch.
        personal: whether members' parts are in it.

    Raises:
        UnknownReference: none stands under the number.
    """
    return _audited(site, number, personal=personal).evidence


def _audited(site: Site, number: int, *, personal: bool) -> _Audit:
    """One audit at a time is enough for a server, and the newest few are kept: of a batch that stands as it stood nothing changes."""
    batch = site.batch(number)
    key = (batch.batch_hash, batch.standing, personal)
    with site.auditing:
        known: dict[Any, _Audit] = site.kept("audits", dict)
        if key not in known:
            known[key] = _audit(site, batch, personal=personal)
            for old in list(known)[:-_AUDITS_KEPT]:
                del known[old]
        return known[key]


def _audit(site: Site, batch: StandingBatch, *, personal: bool) -> _Audit:
    scope = _scope(batch, personal=personal)
    house = site.contracts.addresses["ClearingHouse"]
    recorder = Recorder()
    web3 = site.web3
    if site.connect is not None:
        web3 = site.connect()
        recorder.attach(web3)
    with _exported(site, personal=personal) as files, tempfile.TemporaryDirectory() as scratch:
        found = audit(web3, house, files, scope)
        # An embedded chain's evidence is the transactions that made it.
        chain = recorder.answers if site.connect is not None else list(site.demo.journal)
        path = Path(scratch) / "evidence.zip"
        write_evidence(path, found, scope, files, chain)
        return _Audit(_verdict(site, found, batch.number), path.read_bytes())


def _verdict(site: Site, found: AuditVerdict, number: int) -> Verdict:
    period = next(item for item in found.periods if item.number == number)
    return Verdict(
        number=number,
        verdict=found.verdict,
        level=period.level,
        block=found.block,
        checked_at=site.moment(site.now()),
        community=tuple(map(_check, found.checks)),
        checks=tuple(map(_check, period.checks)),
        voided=found.voided,
    )


def _check(check: Check) -> AuditCheck:
    return AuditCheck(what=check.what, passed=check.passed, count=check.count, detail=check.detail)
