"""What batches hold, unpacked: prices and totals of intervals, a member's readings and trades. Made once for each batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from backend.audit.intervals import (
    AuditInterval,
    AuditTariff,
    IntervalOutcome,
    check_intervals,
    unpack_clearing,
)
from backend.audit.verdict import Checks
from backend.domain.readings import IntervalReading
from backend.market.problem import Market
from backend.settlement.encoding import BatchHeader
from contracts.bindings import tariff_tuple
from oracle.wire import unpack_vector

from ..site import Site, StandingBatch

_KEPT = 64
# A member's day is hundreds of objects; see `backend/api/bundles.py`.
_OWN_KEPT = 128


@dataclass(frozen=True, slots=True)
class OwnTrade:
    """A trade of a member's; the position in the trades tree is None while the day runs."""

    position: int | None
    interval: int
    seller_slot: int
    buyer_slot: int
    energy_wh: int
    fee_nano: int


@dataclass(frozen=True, slots=True)
class OwnPart:
    """A member's part of a batch, unpacked.

    Attributes:
        readings: by interval; where members trade before delivery, what deviates from their trades.
        forward_nano: what trades before delivery brought; None in a community without.
        trades: its own, in the order of the trades tree.
        prices: outside import and export price.
        data: as it is.
    """

    slot: int
    node: str
    tariff_class: str
    readings: tuple[IntervalReading, ...]
    forward_nano: int | None
    trades: tuple[OwnTrade, ...]
    prices: tuple[int, int]
    amount_nano: int
    cumulative_nano: int
    data: dict[str, Any]


@dataclass(frozen=True)
class ClearedBatch:
    """A batch's public part, unpacked.

    Attributes:
        market: the tariff by index.
        tariff: the same as the certificate has it, edges in its order.
        outcomes: what each interval came to.
        intervals: group totals and certificates.
    """

    market: Market
    tariff: AuditTariff
    outcomes: tuple[IntervalOutcome, ...]
    intervals: tuple[AuditInterval, ...]

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Discount and premium of every interval."""
        return [(item.discount_nano_per_wh, item.premium_nano_per_wh) for item in self.outcomes]


class Settled:
    """Batches of a site, unpacked.

    Args:
        site: the community.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.cleared = lru_cache(_KEPT)(self._cleared)
        self.own = lru_cache(_OWN_KEPT)(self._own)

    def forget(self) -> None:
        """After an erasure."""
        self.own.cache_clear()

    def _cleared(self, header: BatchHeader) -> ClearedBatch:
        public = self._site.bundles.public(header)
        preparer = self._site.rules.preparer(header.period)
        market = preparer.market
        names = ("shareMillionths", "nodeCount", "chordCount", "groups", "edges")
        raw = dict(zip(names, tariff_tuple(market, preparer.tariff.share_millionths), strict=True))
        tariff = AuditTariff.unpack(raw)
        clearing = bytes.fromhex(public["clearing"][2:])
        totals, intervals = unpack_clearing(clearing, tariff, header.interval_count)
        results = check_intervals(totals, intervals, tariff, Checks())
        return ClearedBatch(market, tariff, tuple(results.outcomes), tuple(results.intervals))

    def _own(self, header: BatchHeader, slot: int) -> OwnPart | None:
        data = self._site.bundles.personal(header, slot)
        if data is None or "readings" not in data:
            return None
        public = self._site.bundles.public(header)
        entry = next(
            item
            for item in public["tariff"]["tariff_classes"]
            if item["id"] == data["tariff_class"]
        )
        vector = bytes.fromhex(data["readings"][2:])
        readings, forward_nano = unpack_vector(vector, header.interval_count)
        return OwnPart(
            slot=slot,
            node=data["node"],
            tariff_class=data["tariff_class"],
            readings=readings,
            forward_nano=forward_nano,
            trades=tuple(_trades(data["trades"])),
            prices=(entry["import_price_nano_per_wh"], entry["export_price_nano_per_wh"]),
            amount_nano=data["amount_nano"],
            cumulative_nano=data["cumulative_nano"],
            data=data,
        )

    def newest(self, period: int) -> tuple[StandingBatch, ClearedBatch] | None:
        """The newest version of a period that stands, unpacked."""
        batch = self._site.newest_of(period)
        return (batch, self.cleared(batch.header)) if batch else None


def _trades(items: Iterable[dict[str, Any]]) -> Iterable[OwnTrade]:
    for item in items:
        yield OwnTrade(
            item["position"],
            item["interval"],
            item["seller_slot"],
            item["buyer_slot"],
            item["energy_wh"],
            item["fee_nano"],
        )


def settled_of(site: Site) -> Settled:
    """The site's unpacked batches."""
    found: Settled | None = site.extras.get("settled")
    if found is None:
        found = site.extras["settled"] = Settled(site)
    return found
