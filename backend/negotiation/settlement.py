"""Settlement in two steps, as in every power market: trades at their price, deviations through the pool.

A member that traded sold - bought and metered net_wh deviates by net_wh - (sold - bought). Deviations are cleared like any interval
of the pool, network fees included; a member that traded nothing is settled by the pool alone. Every amount is exact:

    member = sum over its sales of energy (price - fee share) - sum over its purchases of energy (price + fee share) + pool(deviation)
    sum of members + DSO + supplier + fund = 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backend.domain.case import CaseMember, ClearingCase
from backend.domain.clearing import Clearing
from backend.domain.errors import UnknownReference
from backend.market.pool import PoolBook
from backend.settlement.forward import ForwardTrade


@dataclass(frozen=True, slots=True)
class TwoStepSettlement:
    """Who receives what (negative: pays), in nano.

    Attributes:
        members: by name.
        supplier_nano: what the outside supplier receives for deviations.
        network_fees_nano: what the DSO receives, for trades and deviations.
        fund_nano: integer dust of the pool.
        traded_wh: net energy sold (bought, if negative) by trades, by member.
        pool: the deviations' clearing.
    """

    members: dict[str, int]
    supplier_nano: int
    network_fees_nano: int
    fund_nano: int
    traded_wh: dict[str, int]
    pool: Clearing


def settle_interval(
    metered: ClearingCase,
    trades: Sequence[ForwardTrade],
    member_of_slot: Mapping[int, str],
    book: PoolBook,
) -> TwoStepSettlement:
    """Settles one interval.

    Args:
        metered: the interval's case with the metered net positions.
        trades: final ones of this interval.
        member_of_slot: the members' names by slot.
        book: clears the deviations.

    Raises:
        UnknownReference: a trade of somebody who is not in the case: leave it out, or exclude both sides' trades before.
        ClearingFailed: as the pool.
    """
    net = {member.id: 0 for member in metered.members}
    money = dict.fromkeys(net, 0)
    fees = 0
    for trade in trades:
        for slot in (trade.seller_slot, trade.buyer_slot):
            if member_of_slot.get(slot) not in net:
                raise UnknownReference(
                    "trades",
                    slot,
                    "a trade of a slot without a metered member",
                    "strike the trade out, or add the member's reading",
                )
        seller, buyer = member_of_slot[trade.seller_slot], member_of_slot[trade.buyer_slot]
        net[seller] += trade.energy_wh
        net[buyer] -= trade.energy_wh
        money[seller] += trade.energy_wh * trade.earned_nano_per_wh
        money[buyer] -= trade.energy_wh * trade.paid_nano_per_wh
        fees += trade.energy_wh * trade.fee_nano_per_wh
    deviations = tuple(
        CaseMember(
            id=member.id,
            node=member.node,
            tariff_class=member.tariff_class,
            net_wh=member.net_wh - net[member.id],
        )
        for member in metered.members
    )
    pool = book.clear(metered.model_copy(update={"members": deviations}))
    for member in pool.members:
        money[member.id] += member.amount_nano
    settled = TwoStepSettlement(
        members=money,
        supplier_nano=pool.cost_nano - pool.fees_nano,
        network_fees_nano=fees + pool.fees_nano,
        fund_nano=pool.dust_nano,
        traded_wh=net,
        pool=pool,
    )
    total = sum(money.values()) + settled.supplier_nano
    assert total + settled.network_fees_nano + settled.fund_nano == 0
    return settled
