"""Recomputes batches from chain and bundle and compares, to the nano."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from web3 import Web3

from .batch_checks import Findings, judge
from .block_checks import check_blocks
from .bundle_checks import Recomputed
from .bundle_files import BundleFiles
from .chain_reader import ChainReader
from .community_checks import COVER, VAULT, check_community, check_cover, check_vault
from .facts import SubmittedBatch
from .forward_checks import check_fee_account, check_trade_book, commitments_of, find_books
from .verdict import AuditVerdict, Checks, PeriodVerdict

_NEEDS_ALL = "needs every account's part of the bundle, and all of it right"


@dataclass(frozen=True)
class Scope:
    """What of a community is audited.

    Attributes:
        first: first period; None from the beginning.
        last: last period; None to the end.
        only: slots whose personal parts are looked at; None for all.
        workers: processes that recompute.
    """

    first: int | None = None
    last: int | None = None
    only: frozenset[int] | None = None
    workers: int = 1

    def holds(self, batch: SubmittedBatch) -> bool:
        """Whether a batch's period is among them."""
        period = batch.header["period"]
        return (self.first is None or self.first <= period) and (
            self.last is None or period <= self.last
        )

    def needed(self, batches: Sequence[SubmittedBatch]) -> list[SubmittedBatch]:
        """The batches to be recomputed: those asked for, and those that they build on."""
        wanted = set()
        for place, batch in enumerate(batches):
            if self.holds(batch):
                versions = [
                    other
                    for other, item in enumerate(batches[:place])
                    if item.header["period"] == batch.header["period"]
                ]
                wanted |= {place, max(place - 1, 0), *versions[-1:]}
        return [batches[place] for place in sorted(wanted)]


def audit(
    web3: Web3,
    clearing_house: str,
    files: BundleFiles,
    scope: Scope | None = None,
    progress: Callable[[str], None] = lambda line: None,
    reader: ChainReader | None = None,
) -> AuditVerdict:
    """Audits a community and the batches of a scope.

    Args:
        web3: connection to a node of the auditor's choice.
        clearing_house: address of the community's ClearingHouse.
        files: the bundles at hand; without any, only the chain is checked.
        scope: which periods and accounts; everything by default.
        progress: told what is being done.
        reader: the community, if it has been read before.

    Returns:
        The verdict; a batch counts as verified only if everything was there and agreed.
    """
    scope = scope or Scope()
    reader = reader or ChainReader(web3, clearing_house)
    progress("reading the chain")
    batches = reader.standing_batches()
    community = Checks()
    check_community(reader, batches, community)
    check_blocks(reader, community)
    facts = reader.facts()
    asked = scope.needed(batches)
    commitments = commitments_of(reader, asked)
    if commitments:
        progress(f"{len(commitments)} trade book(s)")
    books = find_books(reader, files, commitments, scope.only)
    check_trade_book(reader, commitments, community)
    final = [batch.number for batch in batches if batch.final][-1:]
    periods, fee_slots = [], []
    work = judge(facts, batches, asked, files, scope.only, scope.workers, books)
    for batch, found, recomputed, checks in work:
        progress(f"batch {batch.number}, period {batch.header['period']}")
        if scope.holds(batch):
            if not batch.final or batch.number in final:
                _check_money(reader, batch, recomputed, checks)
            periods.append(_period_verdict(batch, found, checks))
            fee_slots += [found.fee_slot] if found.fee_slot is not None else []
    check_fee_account(fee_slots, community)
    return AuditVerdict(
        clearing_house=reader.address("ClearingHouse"),
        chain_id=reader.chain_id,
        block=reader.block,
        block_hash="0x" + reader.block_hash(reader.block).hex(),
        frozen=facts.frozen,
        checks=tuple(community.items),
        periods=tuple(periods),
        voided=tuple(reader.voided()),
    )


def _check_money(
    reader: ChainReader, batch: SubmittedBatch, found: Recomputed | None, checks: Checks
) -> None:
    """What stands behind the balances of a batch that counts now: the newest final one, and those still open."""
    if found is None or not found.complete:
        checks.unknown((VAULT, COVER) if batch.final else (COVER,), _NEEDS_ALL)
        return
    if batch.final:
        check_vault(reader, batch, found.cumulative, checks)
    check_cover(reader, batch, found.cumulative, checks)


def _period_verdict(batch: SubmittedBatch, found: Findings, checks: Checks) -> PeriodVerdict:
    return PeriodVerdict(
        number=batch.number,
        period=batch.header["period"],
        version=batch.header["version"],
        batch_hash="0x" + batch.header_hash.hex(),
        final=batch.final,
        level=found.level,
        first_interval=batch.header["firstInterval"],
        checks=tuple(checks.items),
        outcomes=found.outcomes,
    )
