"""A member's statement of a settled period: its personal part in words and sums (docs/files.md, `peerwatt/statement/1`)."""

from __future__ import annotations

import json
from typing import Any

from backend.domain.readings import IntervalReading, Quality
from backend.domain.tracing import trace_id
from backend.settlement.bundle import canonical_json
from oracle.wire import unpack_vector

STATEMENT_FORMAT = "peerwatt/statement/1"
_PRICE_BYTES = 16


def make_statement(public: bytes, personal: bytes) -> bytes:
    """The statement that follows from a bundle's two parts.

    Args:
        public: the public part, with the prices.
        personal: one member's part.
    """
    shared, own = json.loads(public), json.loads(personal)
    readings, traded_nano = _readings(shared, own)
    outside = _outside_nano(shared, own, readings)
    due = _due_nano(shared, own, readings)
    trades = own.get("trades", [])
    data: dict[str, Any] = {
        "format": STATEMENT_FORMAT,
        "chain_id": own["chain_id"],
        "clearing_house": own["clearing_house"],
        "batch_number": own["batch_number"],
        "period": own["period"],
        "version": own["version"],
        "slot": own["slot"],
        "trace": trace_id(own["chain_id"], own["clearing_house"], own["period"]),
        "amount_nano": own["amount_nano"],
        "cumulative_nano": own["cumulative_nano"],
    }
    if "readings" in own:
        data |= {
            "member": own["member"],
            "import_wh": sum(item.import_wh for item in readings),
            "export_wh": sum(item.export_wh for item in readings),
            "bought_wh": sum(t["energy_wh"] for t in trades if t["buyer_slot"] == own["slot"]),
            "sold_wh": sum(t["energy_wh"] for t in trades if t["seller_slot"] == own["slot"]),
            "missing_intervals": sum(item.quality is Quality.MISSING for item in readings),
            "substituted_intervals": sum(item.quality is Quality.SUBSTITUTED for item in readings),
            "due_nano": due + (traded_nano or 0),
            "outside_nano": outside,
            "saved_nano": due - outside,
        }
        if traded_nano is not None:
            data |= {"forward_nano": traded_nano}
    return canonical_json(data)


def _readings(
    shared: dict[str, Any], own: dict[str, Any]
) -> tuple[tuple[IntervalReading, ...], int | None]:
    """Energy by interval; where members trade before delivery, deviations from what was traded, and what that brought."""
    packed = bytes.fromhex(own.get("readings", "0x")[2:])
    intervals = len(bytes.fromhex(shared["prices"][2:])) // _PRICE_BYTES
    return unpack_vector(packed, intervals)


def _prices(shared: dict[str, Any], own: dict[str, Any]) -> tuple[int, int]:
    found = next(
        item for item in shared["tariff"]["tariff_classes"] if item["id"] == own["tariff_class"]
    )
    return found["import_price_nano_per_wh"], found["export_price_nano_per_wh"]


def _outside_nano(
    shared: dict[str, Any], own: dict[str, Any], readings: tuple[IntervalReading, ...]
) -> int:
    """What the same energy would have come to outside the community."""
    if not readings:
        return 0
    buying, selling = _prices(shared, own)
    return sum(item.net_wh * (buying if item.net_wh < 0 else selling) for item in readings)


def _due_nano(
    shared: dict[str, Any], own: dict[str, Any], readings: tuple[IntervalReading, ...]
) -> int:
    """What the period comes to, all versions together; for a correction the batch books the difference only."""
    if not readings:
        return 0
    buying, selling = _prices(shared, own)
    packed = bytes.fromhex(shared["prices"][2:])
    total = 0
    for index, item in enumerate(readings):
        start = index * _PRICE_BYTES
        discount = int.from_bytes(packed[start : start + 8], "big")
        premium = int.from_bytes(packed[start + 8 : start + 16], "big")
        price = buying - discount if item.net_wh < 0 else selling + premium
        total += item.net_wh * price
    return total
