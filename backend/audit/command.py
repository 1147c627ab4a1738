"""An audit from what the demonstration left, or from any node and bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from web3 import Web3

from backend.chain.client import open_node, replay
from backend.domain.errors import MalformedInput
from backend.domain.values import parse_json

from .auditor import audit
from .verdict import AuditVerdict


def audit_folder(
    folder: Path,
    *,
    rpc: str | None,
    clearing_house: str | None,
    vault: str | None,
    bundles: Path | None,
    progress: Callable[[str], None],
) -> AuditVerdict:
    """Audits a community.

    Args:
        folder: with `address-book.json`, `bundles`, and `chain.json` where the chain was the embedded one, which is then
            executed again from its genesis.
        rpc: node to ask instead.
        clearing_house: address to audit instead.
        vault: its vault.
        bundles: folder of bundles instead.
        progress: told what is being done.

    Raises:
        MalformedInput: something needed is neither given nor in the folder.
        NodeUnreachable: the node does not answer.
    """
    book_path = folder / "address-book.json"
    if clearing_house is None:
        if not book_path.is_file():
            raise MalformedInput(
                "folder",
                str(folder),
                "has no address-book.json",
                "run `peerwatt demo` first, or give --rpc, --community and --bundle",
            )
        book = parse_json(book_path.read_bytes(), book_path)
        clearing_house = book["contracts"]["ClearingHouse"]
        vault = vault or book["contracts"].get("Vault")
        rpc = rpc or book["rpc"]
        bundles = bundles or folder / "bundles"
    if not Web3.is_address(clearing_house):
        raise MalformedInput(
            "community", clearing_house, "not an address", "give 0x and 40 hexadecimal digits"
        )
    web3 = _chain(folder, rpc, progress)
    return audit(web3, clearing_house, vault, bundles, progress)


def _chain(folder: Path, rpc: str | None, progress: Callable[[str], None]) -> Web3:
    if rpc:
        return open_node(rpc)
    path = folder / "chain.json"
    try:
        journal = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise MalformedInput(
            str(path), str(error), "no chain to audit", "give --rpc with the URL of a node"
        ) from None
    progress(f"executing the chain's {len(journal)} transactions again")
    return replay(journal)
