"""Recomputes batches from chain and bundle and compares, to the nano."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from web3 import Web3

from .bundle_checks import FROM_BUNDLE, Context, Recomputed, check_bundle
from .chain_checks import check_chain
from .chain_reader import ChainReader, SubmittedBatch
from .community_checks import check_community, check_cover, check_vault
from .verdict import AuditVerdict, Checks, PeriodVerdict


def audit(
    web3: Web3,
    clearing_house: str,
    bundles: Path | None,
    progress: Callable[[str], None] = lambda line: None,
) -> AuditVerdict:
    """Audits a community and every batch the chain stands by.

    Args:
        web3: connection to a node of the auditor's choice.
        clearing_house: address of the community's ClearingHouse.
        bundles: folder with one folder per batch, named by its number, as published; without it only the chain is checked.
        progress: told what is being done.

    Returns:
        The verdict; a batch counts as verified only if everything was there and agreed.
    """
    reader = ChainReader(web3, clearing_house)
    batches = reader.standing_batches()
    community = Checks()
    check_community(reader, batches, community)
    # None: not known, because a batch before could not be recomputed.
    recomputed: dict[bytes, Recomputed | None] = {}
    periods = []
    for place, batch in enumerate(batches):
        progress(f"batch {batch.number}, period {batch.header['period']}")
        final = bool(reader.functions("ClearingHouse").isFinal(batch.number).call())
        checks = Checks()
        found = _check_batch(reader, batches[: place + 1], recomputed, bundles, checks)
        recomputed[batch.header_hash] = found
        follows = batches[place + 1].number if place + 1 < len(batches) else None
        newest_final = final and (
            follows is None or not reader.functions("ClearingHouse").isFinal(follows).call()
        )
        if found is not None and not any(check.passed is False for check in checks.items):
            if newest_final:
                check_vault(reader, batch, found.cumulative, checks)
            if newest_final or not final:
                check_cover(reader, found.cumulative, checks)
        periods.append(
            PeriodVerdict(
                number=batch.number,
                period=batch.header["period"],
                version=batch.header["version"],
                batch_hash="0x" + batch.header_hash.hex(),
                final=final,
                checks=tuple(checks.items),
            )
        )
    return AuditVerdict(
        clearing_house=clearing_house,
        chain_id=reader.chain_id,
        frozen=bool(reader.functions("ClearingHouse").frozen().call()),
        checks=tuple(community.items),
        periods=tuple(periods),
        voided=tuple(reader.voided()),
    )


def _check_batch(
    reader: ChainReader,
    batches: list[SubmittedBatch],
    recomputed: dict[bytes, Recomputed | None],
    bundles: Path | None,
    checks: Checks,
) -> Recomputed | None:
    """Checks the last of `batches`; the others stand before it."""
    *before, batch = batches
    results, tariff = check_chain(reader, batch, before, checks)
    folder = bundles / str(batch.number) if bundles else None
    if folder is None or not folder.is_dir():
        checks.add(
            FROM_BUNDLE,
            None,
            detail="no bundle given" if folder is None else f"no folder {folder}",
        )
        return None
    if results is None:
        return None
    nothing = Recomputed({}, {})
    previous = recomputed[before[-1].header_hash] if before else nothing
    settled_by = bytes(batch.header["correctedBatch"])
    corrected = nothing if batch.corrected is None else recomputed.get(settled_by)
    context = Context(
        reader,
        batch,
        results,
        tariff,
        previous.cumulative if previous else None,
        corrected.due if corrected else None,
    )
    return check_bundle(folder, context, checks)
