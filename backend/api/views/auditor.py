"""What an auditor sees: periods, commitments, totals, the certificate, the recomputed verdict."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from backend.domain.values import Value

from ..site import Standing
from .values import Exact, HexText


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
        level: how much there was to look at: chain, public, member or full.
    """

    number: int
    verdict: Literal["verified", "failed", "incomplete"]
    level: str
    block: int
    checked_at: datetime
    community: tuple[AuditCheck, ...]
    checks: tuple[AuditCheck, ...]
    voided: tuple[str, ...]
