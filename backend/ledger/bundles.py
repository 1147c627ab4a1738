"""Reading published bundles back, believing nothing but what the chain names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from eth_hash.auto import keccak

from backend.domain.errors import BundleUnavailable
from backend.settlement.bundle import canonical_json
from backend.settlement.encoding import (
    EMPTY,
    BatchHeader,
    LedgerLeaf,
    OracleReport,
    readings_leaf,
)
from backend.settlement.trees import SumTree

from .cycle import StoredReport

# Reads a part of a bundle by its hash; None if it is not there.
ReadPart = Callable[[bytes], bytes | None]
ERASED_FORMAT = "peerwatt/erased/1"


def read_leaves(folder: Path, header: BatchHeader) -> dict[int, LedgerLeaf]:
    """The accounts of a batch by slot, from its bundle.

    Args:
        folder: where `public.json` and `personal/SLOT.json` of this batch are.
        header: of the batch, as the chain has it.

    Raises:
        BundleUnavailable: a part is missing, or is not what the chain commits to.
    """
    path = folder / "public.json"
    public = _read(path)
    if keccak(public) != header.bundle_hash:
        raise _unavailable(path, "is not the one the chain names")

    def part_of(slot: int, expected: bytes) -> bytes:
        part_path = folder / "personal" / f"{slot}.json"
        part = _read(part_path)
        if keccak(part) != expected and not _is_erased(part):
            raise _unavailable(part_path, "is not the one that public.json names")
        return part

    return _leaves(header, public, part_of, path)


def stored_leaves(
    read: ReadPart, read_erased: ReadPart, header: BatchHeader
) -> dict[int, LedgerLeaf]:
    """The same from a store that is addressed by content.

    Args:
        read: public and personal parts.
        read_erased: what is left of personal parts that were erased, by the hash that these had.
        header: of the batch, as the chain has it.

    Raises:
        BundleUnavailable: a part is missing, or is not what the chain commits to.
    """
    public = read(header.bundle_hash)
    if public is None or keccak(public) != header.bundle_hash:
        raise _unavailable("0x" + header.bundle_hash.hex(), "is missing or damaged")

    def part_of(slot: int, expected: bytes) -> bytes:
        part = read(expected)
        if part is not None and keccak(part) == expected:
            return part
        erased = read_erased(expected)
        if erased is None or not _is_erased(erased):
            raise _unavailable(f"the personal part of slot {slot}", "is missing or damaged")
        return erased

    return _leaves(header, public, part_of, "0x" + header.bundle_hash.hex())


def stored_report(read: ReadPart, header: BatchHeader) -> StoredReport | None:
    """The report that a batch rests on, with what was reported of every slot whose part is there; None if it is not the chain's.

    Args:
        read: public and personal parts.
        header: of the batch, as the chain has it.
    """
    public = read(header.bundle_hash)
    if public is None or keccak(public) != header.bundle_hash:
        return None
    data = json.loads(public)
    named = data["report"]
    report = OracleReport(
        period=header.period,
        version=header.version,
        first_interval=header.first_interval,
        interval_count=header.interval_count,
        readings_root=_bytes(named["readings_root"]),
        totals_hash=_bytes(named["totals_hash"]),
        config_digest=_bytes(named["config_digest"]),
    )
    if report.struct_hash() != header.report_hash:
        return None
    slots = {}
    for text, expected in data["personal_hashes"].items():
        part = read(_bytes(expected))
        if part is None or keccak(part) != _bytes(expected):
            continue
        own = json.loads(part)
        if "readings" in own:
            slots[int(text)] = (_bytes(own["readings_salt"]), _bytes(own["readings"]))
    return StoredReport(report, tuple(_bytes(item) for item in named["signatures"]), slots, "")


def _leaves(
    header: BatchHeader, public: bytes, part_of: Callable[[int, bytes], bytes], where: object
) -> dict[int, LedgerLeaf]:
    leaves = {}
    for text, expected in json.loads(public)["personal_hashes"].items():
        leaves[int(text)] = leaf_of(json.loads(part_of(int(text), _bytes(expected))))
    # Whatever the parts said, erased ones included: the root decides.
    if SumTree(leaves, header.ledger_depth).root.hash != header.ledger_root:
        raise _unavailable(where, "has accounts that are not those of the ledger root")
    return leaves


def erased_part(part: bytes) -> bytes:
    """What is left of a personal part when its member's data are erased: the account, without readings, name or trades."""
    data = json.loads(part)
    leaf = leaf_of(data)
    return canonical_json(
        {
            "format": ERASED_FORMAT,
            "batch_number": data["batch_number"],
            "slot": leaf.slot,
            "amount_nano": leaf.amount_nano,
            "cumulative_nano": leaf.cumulative_nano,
            "readings_commitment": "0x" + leaf.readings_commitment.hex(),
            "ledger_salt": "0x" + leaf.salt.hex(),
        }
    )


def _is_erased(part: bytes) -> bool:
    try:
        return bool(json.loads(part)["format"] == ERASED_FORMAT)
    except (ValueError, KeyError, TypeError):
        return False


def leaf_of(part: dict[str, object]) -> LedgerLeaf:
    """The account in a personal part, or in what is left of an erased one."""
    slot = int(str(part["slot"]))
    commitment = _bytes(part.get("readings_commitment", "0x" + EMPTY.hex()))
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


def _unavailable(path: object, problem: str) -> BundleUnavailable:
    return BundleUnavailable(
        f"{path} {problem}", "put the bundle back as it was published; booking goes on from there"
    )
