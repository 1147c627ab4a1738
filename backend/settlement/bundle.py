"""The data bundle of a period: what auditors and members need besides the chain (docs/files.md, `peerwatt/bundle/2`).

Two parts. The *public* part holds tariff, report, certificates, prices and the tree commitments, and a hash of each member's
personal part; its keccak256 is the `bundle_hash` on chain. A *personal* part holds one member's readings, salts, leaf, proofs
and trades; it goes to its owner (and to a mandated auditor). Deleting one leaves everybody else's proofs as they were.

Bytes are the JSON of the values with sorted keys and no spaces, so the same batch gives the same bundle everywhere.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

from backend.domain.community import CommunityTariff
from backend.domain.intervals import Period

from .batch import Batch
from .encoding import EMPTY

BUNDLE_FORMAT = "peerwatt/bundle/2"
PERSONAL_FORMAT = "peerwatt/personal/2"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Public part and personal parts by slot, as bytes to publish."""

    public: bytes
    personal: dict[int, bytes]

    @property
    def hash(self) -> bytes:
        """What the batch header names."""
        return keccak(self.public)


def canonical_json(data: Any) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def trimmed(proof: list[bytes], step: int) -> list[str]:
    """A proof without the empty siblings at its end, which whoever reads it puts back."""
    length = len(proof)
    while length and all(part == EMPTY for part in proof[length - step : length]):
        length -= step
    return [_hex(part) for part in proof[:length]]


def make_bundle(
    batch: Batch, tariff: CommunityTariff, period: Period, chain_id: int, clearing_house: str
) -> Bundle:
    """The bundle of a batch.

    Args:
        batch: the batch; its `bundle_hash` is not read.
        tariff: the tariff in words, of which the header has the hash.
        period: the period.
        chain_id: which chain.
        clearing_house: address of the community's contract.
    """
    trades = _trades_by_slot(batch)
    personal = {
        slot: canonical_json(_personal(batch, slot, trades[slot], chain_id, clearing_house))
        for slot in sorted(batch.leaves)
    }
    left, right = batch.root_children
    report = batch.report
    public = {
        "format": BUNDLE_FORMAT,
        "chain_id": chain_id,
        "clearing_house": clearing_house,
        "period": {
            "number": period.number,
            "version": report.version,
            "batch_number": batch.header.number,
            "first_interval": period.first_interval,
            "interval_count": period.interval_count,
            "interval_minutes": period.interval_minutes,
        },
        "report": {
            "readings_root": _hex(report.readings_root),
            "totals_hash": _hex(report.totals_hash),
            "config_digest": _hex(report.config_digest),
            "signatures": [_hex(signature) for signature in batch.signatures],
        },
        "tariff": tariff_data(tariff),
        "clearing": _hex(batch.clearing),
        "prices": _hex(batch.packed_prices),
        "ledger": {
            "depth": batch.ledger.depth,
            "left": _hex(left.hash),
            "left_sums": _hex(left.sums),
            "right": _hex(right.hash),
            "right_sums": _hex(right.sums),
        },
        "trade_leaves": [_hex(trade.leaf()) for trade in batch.trades],
        "personal_hashes": {str(slot): _hex(keccak(part)) for slot, part in personal.items()},
    }
    return Bundle(public=canonical_json(public), personal=personal)


def tariff_data(tariff: CommunityTariff) -> dict[str, Any]:
    """The tariff in words, as JSON data, in one order whatever order it was written in."""
    network = tariff.network.model_dump(mode="json", by_alias=True)
    network["nodes"].sort(key=lambda node: node["id"])
    for edge in network["edges"]:
        edge["from"], edge["to"] = sorted((edge["from"], edge["to"]))
    network["edges"].sort(key=lambda edge: (edge["from"], edge["to"]))
    classes = [tariff_class.model_dump(mode="json") for tariff_class in tariff.tariff_classes]
    return {
        "share_millionths": tariff.share_millionths,
        "network": network,
        "tariff_classes": sorted(classes, key=lambda item: item["id"]),
        "groups": [list(key) for key in sorted(tariff.group_keys)],
    }


def _personal(
    batch: Batch, slot: int, trades: list[dict[str, Any]], chain_id: int, clearing_house: str
) -> dict[str, Any]:
    leaf = batch.leaves[slot]
    data: dict[str, Any] = {
        "format": PERSONAL_FORMAT,
        "chain_id": chain_id,
        "clearing_house": clearing_house,
        "batch_number": batch.header.number,
        "period": batch.header.period,
        "version": batch.header.version,
        "slot": slot,
        "amount_nano": leaf.amount_nano,
        "cumulative_nano": leaf.cumulative_nano,
        "ledger_salt": _hex(leaf.salt),
        "ledger_proof": trimmed(batch.ledger.proof(slot), 2),
    }
    item = batch.member_periods.get(slot)
    if item is not None:
        data |= {
            "member": item.member.name,
            "node": item.member.node,
            "tariff_class": item.member.tariff_class,
            "readings": _hex(item.packed()),
            "readings_salt": _hex(item.salt),
            "readings_proof": trimmed(batch.readings_tree.proof(slot), 1),
            "trades": trades,
        }
    return data


def _trades_by_slot(batch: Batch) -> dict[int, list[dict[str, Any]]]:
    """Each member's own trades, as JSON data, with their positions in the trades tree."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for position, trade in enumerate(batch.trades):
        data = {
            "position": position,
            "interval": trade.interval,
            "seller_slot": trade.seller_slot,
            "buyer_slot": trade.buyer_slot,
            "energy_wh": trade.energy_wh,
            "fee_nano": trade.fee_nano,
            "salt": _hex(trade.salt),
        }
        found[trade.seller_slot].append(data)
        found[trade.buyer_slot].append(data)
    return found
