"""From what was negotiated to trades that both sides sign: whole watt-hours, whole nano, EIP-712, one tree (docs/protocol.md).

A trade is one record for both sides, so P_ij = -P_ji holds exactly whatever is rounded. Energy is rounded down: whole limits that
fractions kept are kept by their floors. The price is rounded to the nearest whole nano per Wh and then moved, if need be, between what
both sides signed as their limits; a trade for which there is no such price does not come about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from eth_hash.auto import keccak

from backend.domain.errors import OutOfRange, UnknownReference
from backend.domain.p2p import P2PTrade
from backend.domain.units import ENERGY_LIMIT_WH, PRICE_LIMIT_NANO_PER_WH
from backend.settlement.encoding import signed_word, tag, word
from backend.settlement.forward import ForwardTrade

TRADE_LIMITS_TYPE = (
    "TradeLimits(uint64 interval,uint32 slot,uint64 mostSoldWh,uint64 mostBoughtWh,"
    "int64 leastEarnedNanoPerWh,int64 mostPaidNanoPerWh)"
)
_TRADE_LIMITS_TYPEHASH = tag(TRADE_LIMITS_TYPE)


@dataclass(frozen=True, slots=True)
class TradeLimits:
    """What a member signs before the negotiation: no trade of its is worse, its own share of fees included.

    Attributes:
        interval: index since the Unix epoch.
        slot: the member's.
        most_sold_wh: at least 0.
        most_bought_wh: at least 0.
        least_earned_nano_per_wh: what it keeps at least of each Wh sold.
        most_paid_nano_per_wh: what it spends at most for each Wh bought.
    """

    interval: int
    slot: int
    most_sold_wh: int
    most_bought_wh: int
    least_earned_nano_per_wh: int
    most_paid_nano_per_wh: int

    def struct_hash(self) -> bytes:
        """EIP-712 struct hash."""
        return keccak(
            _TRADE_LIMITS_TYPEHASH
            + word(self.interval)
            + word(self.slot)
            + word(self.most_sold_wh)
            + word(self.most_bought_wh)
            + signed_word(self.least_earned_nano_per_wh)
            + signed_word(self.most_paid_nano_per_wh)
        )


def whole_trades(
    trades: Iterable[P2PTrade],
    limits: Mapping[str, TradeLimits],
    fees: Mapping[tuple[str, str], int],
    *,
    wh_per_unit: int | Decimal,
    nano_per_wh_per_unit: int | Decimal,
) -> list[ForwardTrade]:
    """Trades between agents in whole units, in the order of the trade book.

    Args:
        trades: as negotiated; those with `outside` or `community` are none that two sign, and are left out.
        limits: by agent; all of one interval.
        fees: network fee of a pair (seller, buyer) in nano per Wh; 0 where none is given.
        wh_per_unit: the case's unit of energy.
        nano_per_wh_per_unit: the case's unit of price.

    Returns:
        Trades with at least 1 Wh whose price is within both sides' limits. No member's add up to more than its limits.

    Raises:
        UnknownReference: an agent without limits.
        OutOfRange: energy or price beyond what the types hold.
    """
    left = {name: [one.most_sold_wh, one.most_bought_wh] for name, one in limits.items()}
    found = []
    for trade in trades:
        if trade.seller in ("outside", "community") or trade.buyer in ("outside", "community"):
            continue
        for name in (trade.seller, trade.buyer):
            if name not in limits:
                raise UnknownReference(
                    "limits", name, "no limits of this agent", "have every agent sign its limits"
                )
        seller, buyer = limits[trade.seller], limits[trade.buyer]
        fee = fees.get((trade.seller, trade.buyer), 0)
        energy = int(Fraction(trade.energy) * Fraction(wh_per_unit))
        price = round(Fraction(trade.price) * Fraction(nano_per_wh_per_unit))
        if energy > ENERGY_LIMIT_WH or abs(price) >= PRICE_LIMIT_NANO_PER_WH:
            raise OutOfRange(
                f"trades[{trade.seller}, {trade.buyer}]",
                f"{energy} Wh at {price} nano per Wh",
                "more than the types hold",
                "check the units",
            )
        low = seller.least_earned_nano_per_wh + fee // 2
        high = buyer.most_paid_nano_per_wh - (fee - fee // 2)
        energy = min(energy, left[trade.seller][0], left[trade.buyer][1])
        if low > high or energy < 1:
            continue
        left[trade.seller][0] -= energy
        left[trade.buyer][1] -= energy
        found.append(
            ForwardTrade(
                seller.interval,
                seller.slot,
                buyer.slot,
                energy,
                min(max(price, low), high),
                fee,
            )
        )
    return sorted(found)


def broken_limits(trade: ForwardTrade, seller: TradeLimits, buyer: TradeLimits) -> str | None:
    """Why one side should not sign, or None. Sums over a side's trades are its own to watch."""
    if {trade.interval} != {seller.interval, buyer.interval}:
        return "another interval than the limits are for"
    if (trade.seller_slot, trade.buyer_slot) != (seller.slot, buyer.slot):
        return "other parties than the limits are of"
    if not 0 < trade.energy_wh <= min(seller.most_sold_wh, buyer.most_bought_wh):
        return "more energy than a side's limit, or none"
    if trade.earned_nano_per_wh < seller.least_earned_nano_per_wh:
        return "the seller would earn less than its limit"
    if trade.paid_nano_per_wh > buyer.most_paid_nano_per_wh:
        return "the buyer would pay more than its limit"
    return None
