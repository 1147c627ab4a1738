"""What a member traded before delivery: beside the pool, which settles only what deviates from it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from backend.domain.errors import TradeBookOpen
from backend.domain.values import Value
from backend.settlement.forward import ForwardTrade

from ..site import Site
from .values import Exact


class AheadTrade(Value):
    """A trade before delivery.

    Attributes:
        side: what the member did.
        price_nano_per_wh: what the member gets or pays, its share of the network fee included.
        amount_nano: received; negative is paid.
    """

    interval: int
    start: datetime
    end: datetime
    side: Literal["bought", "sold"]
    partner_slot: int
    partner_name: str
    energy_wh: Exact
    price_nano_per_wh: Exact
    amount_nano: Exact


class Ahead(Value):
    """A member's trades before delivery on a day, that stand.

    Attributes:
        amount_nano: what the oracle reported that they brought in all.
        other_nano: received besides: other members' network fees, or all of it where this site has no trade books.
    """

    sold_wh: Exact
    bought_wh: Exact
    sold_nano: Exact
    bought_nano: Exact
    other_nano: Exact
    amount_nano: Exact
    trades: tuple[AheadTrade, ...]


def ahead_of(site: Site, slot: int, period: int, forward_nano: int) -> Ahead:
    """A member's trades before delivery.

    Args:
        site: the community.
        slot: whose.
        period: which day.
        forward_nano: what the oracle reported of them.
    """
    trades = tuple(
        _shown(site, slot, trade)
        for trade in _standing(site, period)
        if slot in (trade.seller_slot, trade.buyer_slot)
    )
    sold = [trade for trade in trades if trade.side == "sold"]
    bought = [trade for trade in trades if trade.side == "bought"]
    return Ahead(
        sold_wh=_energy(sold),
        bought_wh=_energy(bought),
        sold_nano=_money(sold),
        bought_nano=-_money(bought),
        other_nano=forward_nano - _money(trades),
        amount_nano=forward_nano,
        trades=trades,
    )


def _standing(site: Site, period: int) -> tuple[ForwardTrade, ...]:
    """Everybody's, by the trade books; none where they are not here, or can still be struck out."""
    ask = site.forward_trades
    if ask is None:
        return ()

    def made() -> tuple[ForwardTrade, ...]:
        try:
            return tuple(ask(period))
        except TradeBookOpen:
            return ()

    return site.made_once(("forward trades", period), made)


def _shown(site: Site, slot: int, trade: ForwardTrade) -> AheadTrade:
    sold = trade.seller_slot == slot
    partner = site.known(trade.buyer_slot if sold else trade.seller_slot)
    price = trade.earned_nano_per_wh if sold else trade.paid_nano_per_wh
    return AheadTrade(
        interval=trade.interval,
        start=site.interval_start(trade.interval),
        end=site.interval_start(trade.interval + 1),
        side="sold" if sold else "bought",
        partner_slot=trade.buyer_slot if sold else trade.seller_slot,
        partner_name=partner.name if partner else "",
        energy_wh=trade.energy_wh,
        price_nano_per_wh=price,
        amount_nano=trade.energy_wh * (price if sold else -price),
    )


def _energy(trades: Iterable[AheadTrade]) -> int:
    return sum(trade.energy_wh for trade in trades)


def _money(trades: Iterable[AheadTrade]) -> int:
    return sum(trade.amount_nano for trade in trades)
