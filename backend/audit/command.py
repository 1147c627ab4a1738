"""An audit from what the demonstration left, or from any node and bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    bundles: Path | None,
    progress: Callable[[str], None],
) -> AuditVerdict:
    """Audits a community.

    Args:
        folder: with `address-book.json`, `bundles`, and `chain.json` where the chain was the embedded one, which is then
            executed again from its genesis.
        rpc: node to ask instead.
        clearing_house: address to audit instead.
        bundles: folder of bundles instead.
        progress: told what is being done.

    Raises:
        MalformedInput: something needed is neither given nor in the folder.
        NodeUnreachable: the node does not answer.
    """
    book = _address_book(folder)
    if clearing_house is None and not book:
        raise MalformedInput(
            "folder",
            str(folder),
            "has no address-book.json",
            "run `peerwatt demo` first, or give --rpc, --community and --bundle",
        )
    recorded = book.get("contracts", {})
    clearing_house = clearing_house or recorded["ClearingHouse"]
    if clearing_house == recorded.get("ClearingHouse"):
        # What the folder says holds for its own community only.
        rpc = rpc or book.get("rpc")
        bundles = bundles or folder / "bundles"
    if not Web3.is_address(clearing_house):
        raise MalformedInput(
            "community", clearing_house, "not an address", "give 0x and 40 hexadecimal digits"
        )
    web3 = _chain(folder, rpc, progress)
    return audit(web3, clearing_house, bundles, progress)


def _address_book(folder: Path) -> dict[str, Any]:
    path = folder / "address-book.json"
    if not path.is_file():
        return {}
    book = parse_json(path.read_bytes(), path)
    if not isinstance(book, dict) or not isinstance(
        book.get("contracts", {}).get("ClearingHouse"), str
    ):
        raise MalformedInput(
            str(path), "contracts", "names no ClearingHouse", "use the file as it was written"
        )
    return book


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
