"""A member's trades with the reason of their price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from backend.domain.values import Value

from ..site import Site, Standing, StandingBatch
from .member import outside_prices
from .settled import OwnTrade, settled_of
from .values import EnergyState, Exact, Prices, Quality, energy_state

_QUALITIES = tuple(Quality)


class PriceReason(Value):
    """Why an interval has its price: what trading saved the community, and how it was shared.

    discount = saved x buyers' share / demand, premium = saved x sellers' share / supply, rounded down; everybody's price is the
    outside one less the discount, or plus the premium. While the day runs what was saved is not known yet: null.
    """

    state: EnergyState
    demand_wh: Exact
    supply_wh: Exact
    matched_wh: Exact
    saved_nano: Exact | None
    network_fees_nano: Exact | None
    buyers_share_millionths: Exact
    discount_nano_per_wh: Exact
    premium_nano_per_wh: Exact
    prices: Prices


class MemberTrade(Value):
    """A trade of the member's with another one.

    Attributes:
        side: what the member did.
        partner_slot, partner_name, partner_node: who with, and where.
        amount_nano: at the member's own price; received, negative is paid.
        fee_nano: network fee of the trade, which both sides' prices contain.
        why: of the interval's price.
    """

    batch_number: int | None
    position: int | None
    interval: int
    start: datetime
    end: datetime
    side: Literal["bought", "sold"]
    partner_slot: int
    partner_name: str
    partner_node: str
    energy_wh: Exact
    price_nano_per_wh: Exact
    amount_nano: Exact
    fee_nano: Exact
    standing: Standing
    why: PriceReason


def price_reason(
    site: Site, period: int, outcome: Outcome, outside: tuple[int, int]
) -> PriceReason:
    """Why an interval has its price.

    Args:
        site: the community.
        period: which day.
        outcome: what the interval came to.
        outside: the member's outside import and export price.
    """
    return PriceReason(
        state=energy_state(outcome.demand_wh, outcome.supply_wh),
        demand_wh=outcome.demand_wh,
        supply_wh=outcome.supply_wh,
        matched_wh=outcome.matched_wh,
        saved_nano=outcome.saved_nano,
        network_fees_nano=outcome.fees_nano,
        buyers_share_millionths=site.rules.preparer(period).tariff.share_millionths,
        discount_nano_per_wh=outcome.discount_nano_per_wh,
        premium_nano_per_wh=outcome.premium_nano_per_wh,
        prices=Prices(
            buy_nano_per_wh=outside[0] - outcome.discount_nano_per_wh,
            sell_nano_per_wh=outside[1] + outcome.premium_nano_per_wh,
            outside_import_nano_per_wh=outside[0],
            outside_export_nano_per_wh=outside[1],
        ),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an interval came to, whatever it was read from; `saved_nano` and `fees_nano` are null while the day runs."""

    demand_wh: int
    supply_wh: int
    matched_wh: int
    saved_nano: int | None
    fees_nano: int | None
    discount_nano_per_wh: int
    premium_nano_per_wh: int


def _settled_outcomes(site: Site, batch: StandingBatch) -> dict[int, Outcome]:
    first = batch.header.first_interval
    return {
        first + index: Outcome(
            item.demand_wh,
            item.supply_wh,
            item.matched_wh,
            item.saved_nano,
            item.fees_nano,
            item.discount_nano_per_wh,
            item.premium_nano_per_wh,
        )
        for index, item in enumerate(settled_of(site).cleared(batch.header).outcomes)
    }


def _running_outcomes(site: Site) -> dict[int, Outcome]:
    return {
        row.interval: Outcome(
            row.demand_wh,
            row.supply_wh,
            row.traded_wh,
            None,
            None,
            row.discount_nano_per_wh,
            row.premium_nano_per_wh,
        )
        for row in site.previews()
    }


def member_trades(site: Site, slot: int, period: int) -> tuple[MemberTrade, ...]:
    """A member's trades of a day, in the order of their intervals."""
    return site.made_once(
        ("member trades", slot, period), lambda: _trades_of_day(site, slot, period)
    )


def _trades_of_day(site: Site, slot: int, period: int) -> tuple[MemberTrade, ...]:
    batch = site.newest_of(period)
    if batch is not None:
        return settled_trades(site, slot, batch)
    outcomes = _running_outcomes(site)
    standing = site.standing_without_batch(period)
    outside = outside_prices(site, slot, period)
    trades = [
        OwnTrade(None, row.interval, row.seller_slot, row.buyer_slot, row.energy_wh, row.fee_nano)
        for row in site.previewed(slot, period).trades
        if row.interval in outcomes
    ]
    reasons = {
        interval: price_reason(site, period, outcomes[interval], outside)
        for interval in {trade.interval for trade in trades}
    }
    return tuple(
        _trade(site, slot, trade, reasons[trade.interval], None, standing) for trade in trades
    )


def settled_trades(site: Site, slot: int, batch: StandingBatch) -> tuple[MemberTrade, ...]:
    """A member's trades in a batch; none without the member's part."""
    own = settled_of(site).own(batch.header, slot)
    if own is None:
        return ()
    outcomes = _settled_outcomes(site, batch)
    reasons = {
        interval: price_reason(site, batch.header.period, outcomes[interval], own.prices)
        for interval in {trade.interval for trade in own.trades}
    }
    return tuple(
        _trade(site, slot, trade, reasons[trade.interval], batch.number, batch.standing)
        for trade in sorted(own.trades, key=lambda item: (item.interval, item.position or 0))
    )


def _trade(
    site: Site, slot: int, trade: OwnTrade, why: PriceReason, batch: int | None, standing: Standing
) -> MemberTrade:
    sold = trade.seller_slot == slot
    partner = site.known(trade.buyer_slot if sold else trade.seller_slot)
    price = why.prices.sell_nano_per_wh if sold else why.prices.buy_nano_per_wh
    return MemberTrade(
        batch_number=batch,
        position=trade.position,
        interval=trade.interval,
        start=site.interval_start(trade.interval),
        end=site.interval_start(trade.interval + 1),
        side="sold" if sold else "bought",
        partner_slot=trade.buyer_slot if sold else trade.seller_slot,
        partner_name=partner.name if partner else "",
        partner_node=partner.node if partner else "",
        energy_wh=trade.energy_wh,
        price_nano_per_wh=price,
        amount_nano=trade.energy_wh * (price if sold else -price),
        fee_nano=trade.fee_nano,
        standing=standing,
        why=why,
    )
