"""The coordinator's nightly look at itself: which batches the independent auditor recomputes, and what it is shown of them.

Every bundle ever made would be gigabytes after some years, and what is final cannot be challenged any more. So it looks at all
that is open, and at the newest days that are final (docs/adr/0048).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from web3 import Web3

from backend.audit.auditor import Scope, audit
from backend.audit.bundle_files import BundleFiles
from backend.audit.verdict import AuditVerdict
from backend.ledger.cycle import CycleStore
from backend.settlement.encoding import BatchHeader

from .bundle_store import BundleStore
from .config import ConfiguredRules
from .trade_desk import TradeDesk

_NEWEST_FINAL = 7
_AUDIT_HOUR_SECONDS = 4 * 3600
_DAY_SECONDS = 86_400
BOOKS_FOLDER = "trade-books"


def due_since(now: float) -> float:
    """The last 04:00 UTC, a quiet hour; an audit from before it is to be repeated."""
    return (now - _AUDIT_HOUR_SECONDS) // _DAY_SECONDS * _DAY_SECONDS + _AUDIT_HOUR_SECONDS


def first_audited(store: CycleStore) -> int | None:
    """The first period that is audited; None if no batch stands."""
    periods, final = [], 0
    # They become final in order.
    for batch_hash, header in reversed(store.live(final_only=False).values()):
        if final == _NEWEST_FINAL:
            break
        final += store.is_booked(batch_hash)
        periods.append(header.period)
    return min(periods, default=None)


def headers_from(store: CycleStore, first: int | None) -> list[BatchHeader]:
    """The standing batches from a period on, and before each the one that it goes on from."""
    headers = [header for _, header in store.live(final_only=False).values()]
    wanted = [first is None or header.period >= first for header in headers]
    after = [*wanted[1:], False]
    return [
        header for header, own, next_ in zip(headers, wanted, after, strict=True) if own or next_
    ]


def export(
    headers: Iterable[BatchHeader],
    bundles: BundleStore,
    desk: TradeDesk | None,
    rules: ConfiguredRules,
    folder: Path,
    *,
    personal: bool,
) -> Iterator[Path]:
    """Writes batches' bundles, and the books of trades before delivery, as `peerwatt audit` reads them.

    Args:
        headers: of the batches.
        bundles: where they are.
        desk: where members trade before delivery.
        rules: of the community's periods.
        folder: where to.
        personal: everybody's parts and trades too, but for what was erased: what is left of it an auditor would take for altered.
    """
    periods = set()
    for header in headers:
        slots = bundles.whole_slots(header) if personal else frozenset()
        yield from bundles.export(header, folder, slots)
        periods.add(header.period)
    if desk is not None and personal:
        for number in sorted(periods):
            yield from desk.export(rules.period(number), folder / BOOKS_FOLDER)


def audited(web3: Web3, clearing_house: str, folder: Path, first: int | None) -> AuditVerdict:
    """Audits periods from the first one on, by what is in a folder."""
    return audit(web3, clearing_house, BundleFiles(folder), Scope(first=first))
