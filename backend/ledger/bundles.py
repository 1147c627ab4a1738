"""Reading published bundles back, believing nothing but what the chain names."""

from __future__ import annotations

import json
from pathlib import Path

from eth_hash.auto import keccak

from backend.domain.errors import BundleUnavailable
from backend.settlement.encoding import EMPTY, BatchHeader, LedgerLeaf, readings_leaf
from backend.settlement.trees import SumTree


def read_leaves(folder: Path, header: BatchHeader) -> dict[int, LedgerLeaf]:
    """The accounts of a batch by slot, from its bundle.

    Args:
        folder: where `public.json` and `personal/SLOT.json` of this batch are.
        header: of the batch, as the chain has it.

    Raises:
        BundleUnavailable: a part is missing, or is not what the chain commits to.
    """
    public_path = folder / "public.json"
    public = _read(public_path)
    if keccak(public) != header.bundle_hash:
        raise _unavailable(public_path, "is not the one the chain names")
    leaves = {}
    for text, expected in json.loads(public)["personal_hashes"].items():
        path = folder / "personal" / f"{int(text)}.json"
        part = _read(path)
        if "0x" + keccak(part).hex() != expected:
            raise _unavailable(path, "is not the one that public.json names")
        leaves[int(text)] = _leaf(json.loads(part))
    if SumTree(leaves, header.ledger_depth).root.hash != header.ledger_root:
        raise _unavailable(public_path, "has accounts that are not those of the ledger root")
    return leaves


def _leaf(part: dict[str, object]) -> LedgerLeaf:
    slot = int(str(part["slot"]))
    commitment = EMPTY
    if "readings" in part:
        commitment = readings_leaf(slot, _bytes(part["readings"]), _bytes(part["readings_salt"]))
    return LedgerLeaf(
        slot=slot,
        amount_nano=int(str(part["amount_nano"])),
        cumulative_nano=int(str(part["cumulative_nano"])),
        readings_commitment=commitment,
        salt=_bytes(part["ledger_salt"]),
    )


def _bytes(text: object) -> bytes:
    return bytes.fromhex(str(text).removeprefix("0x"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unavailable(path, f"cannot be read: {error.strerror}") from None


def _unavailable(path: Path, problem: str) -> BundleUnavailable:
    return BundleUnavailable(
        f"{path} {problem}", "put the bundle back as it was published; booking goes on from there"
    )
