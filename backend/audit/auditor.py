"""Recomputes periods from chain and bundle and compares, to the nano."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from web3 import Web3

from .bundle_checks import Context, check_bundle
from .chain_checks import check_chain, check_vault
from .chain_reader import ChainReader
from .hashing import tagged
from .verdict import AuditVerdict, Checks, PeriodVerdict


def audit(
    web3: Web3,
    clearing_house: str,
    vault: str | None,
    bundles: Path | None,
    progress: Callable[[str], None] = lambda line: None,
) -> AuditVerdict:
    """Audits every batch the chain stands by.

    Args:
        web3: connection to a node of the auditor's choice.
        clearing_house: address of the community's ClearingHouse.
        vault: address of its vault; without it the cover is not checked.
        bundles: folder with one folder per period, as published; without it only the chain is checked.
        progress: told what is being done.

    Returns:
        The verdict; a period counts as verified only if everything was there and agreed.
    """
    reader = ChainReader(web3, clearing_house, vault)
    members = reader.members()
    # None: not known, because the period before could not be recomputed.
    cumulative: dict[int, int] | None = {}
    previous = _genesis(reader)
    periods = []
    for batch in reader.standing_batches():
        number = batch.header["period"]
        progress(f"period {number}")
        checks = Checks()
        results, tariff = check_chain(reader, batch, previous, checks)
        folder = bundles / str(number) if bundles else None
        if folder is None or not folder.is_dir():
            checks.add(
                "members' readings, amounts, balances and trades follow from the bundle",
                None,
                detail="no bundle given" if folder is None else f"no folder {folder}",
            )
            cumulative = None
        elif results is not None:
            context = Context(batch, results, tariff, members, cumulative)
            cumulative = check_bundle(folder, context, checks)
            if (
                vault
                and cumulative is not None
                and not any(check.passed is False for check in checks.items)
            ):
                check_vault(reader, cumulative, checks)
        periods.append(
            PeriodVerdict(
                period=number,
                batch_hash="0x" + batch.header_hash.hex(),
                final=bool(reader.clearing_house.functions.isFinal(number).call()),
                checks=tuple(checks.items),
            )
        )
        previous = batch.header_hash
    return AuditVerdict(
        clearing_house=clearing_house,
        chain_id=reader.chain_id,
        periods=tuple(periods),
        voided=tuple(reader.voided()),
    )


def _genesis(reader: ChainReader) -> bytes:
    functions = reader.clearing_house.functions
    return tagged(
        "peerwatt.genesis.v1",
        ["uint256", "address", "uint64", "uint64"],
        [
            reader.chain_id,
            reader.clearing_house.address,
            functions.firstPeriod().call(),
            functions.firstInterval().call(),
        ],
    )
