"""What every member sees of the community: balances, states, who trades with whom between places, participants."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backend.domain.values import Value

from ..site import Site, Standing, StandingBatch
from .settled import settled_of
from .values import SMALLEST_AGGREGATE, EnergyState, Exact, Prices, energy_state, millionths


class CommunityInterval(Value):
    """The community in one interval. Imported and exported are what the coordinator buys and sells outside.

    Attributes:
        prices: of the tariff class most members have.
        missing: members whose reading is not there.
    """

    interval: int
    start: datetime
    end: datetime
    state: EnergyState
    demand_wh: Exact
    supply_wh: Exact
    traded_wh: Exact
    imported_wh: Exact
    exported_wh: Exact
    prices: Prices
    missing: int


class CommunityTotals(Value):
    """Sums over a day.

    Attributes:
        self_sufficiency_millionths: traded inside, of what members needed.
        self_consumption_millionths: traded inside, of what members offered.
    """

    demand_wh: Exact
    supply_wh: Exact
    traded_wh: Exact
    imported_wh: Exact
    exported_wh: Exact
    self_sufficiency_millionths: Exact
    self_consumption_millionths: Exact


class CommunityDay(Value):
    """The community's day.

    Attributes:
        hidden: the community is so small that its sums are not shown; then there are no intervals.
    """

    period: int
    day: str
    time_zone: str
    interval_minutes: int
    standing: Standing
    hidden: bool
    totals: CommunityTotals
    intervals: tuple[CommunityInterval, ...]


class Place(Value):
    """Nodes of the network that are shown together, so that no sum is of fewer than five members."""

    id: str
    nodes: tuple[str, ...]
    members: int
    demand_wh: Exact
    supply_wh: Exact


class NetworkNode(Value):
    """A node of the network; `place` is null where nobody is."""

    id: str
    place: str | None
    members: int
    access_fee_nano_per_wh: Exact


class NetworkEdge(Value):
    """A line of the network, with its fee."""

    from_node: str
    to_node: str
    fee_nano_per_wh: Exact


class NetworkTrade(Value):
    """Energy traded from one place to another, or within one, in an interval."""

    interval: int
    start: datetime
    from_place: str
    to_place: str
    energy_wh: Exact


class TradeNetwork(Value):
    """Who trades with whom on the feeder, by places; a member's own trades are its own view.

    Attributes:
        hidden: the whole community is too small to show anything.
    """

    period: int
    day: str
    standing: Standing
    hidden: bool
    places: tuple[Place, ...]
    nodes: tuple[NetworkNode, ...]
    edges: tuple[NetworkEdge, ...]
    trades: tuple[NetworkTrade, ...]


class PairTrade(Value):
    """What one member sold another in a day."""

    seller_slot: int
    seller_name: str
    buyer_slot: int
    buyer_name: str
    energy_wh: Exact
    fee_nano: Exact


class Pairs(Value):
    """Trades between members in a day: a member's own ones, or for the coordinator everybody's."""

    period: int
    day: str
    standing: Standing
    items: tuple[PairTrade, ...]


class Participant(Value):
    """What members know of each other."""

    slot: int
    name: str
    node: str
    tariff_class: str
    generation_peak_w: Exact | None
    heat_pump: bool
    ev: bool


class Participants(Value):
    """The members, with what they can generate together.

    Attributes:
        generation_peak_w: of all plants together; by node where enough members are.
    """

    count: int
    generation_peak_w: Exact
    items: tuple[Participant, ...]


def _prices(site: Site, period: int, discount: int, premium: int) -> Prices:
    counts = Counter(item.tariff_class for item in site.participants())
    tariff = site.rules.preparer(period).tariff
    most = counts.most_common(1)[0][0] if counts else tariff.tariff_classes[0].id
    given = next(item for item in tariff.tariff_classes if item.id == most)
    return Prices(
        buy_nano_per_wh=given.import_price_nano_per_wh - discount,
        sell_nano_per_wh=given.export_price_nano_per_wh + premium,
        outside_import_nano_per_wh=given.import_price_nano_per_wh,
        outside_export_nano_per_wh=given.export_price_nano_per_wh,
    )


def community_day(site: Site, period: int) -> CommunityDay | None:
    """The community's day, settled or running; None if there is nothing of it."""
    return site.made_once(("community day", period), lambda: _community_day(site, period))


def _community_day(site: Site, period: int) -> CommunityDay | None:
    found = settled_of(site).newest(period)
    if found is not None:
        batch, cleared = found
        first = batch.header.first_interval
        rows = [
            (first + index, item.demand_wh, item.supply_wh, item.matched_wh,
             item.discount_nano_per_wh, item.premium_nano_per_wh, 0)
            for index, item in enumerate(cleared.outcomes)
        ]  # fmt: skip
        standing = batch.standing
    else:
        rows = [
            (row.interval, row.demand_wh, row.supply_wh, row.traded_wh,
             row.discount_nano_per_wh, row.premium_nano_per_wh, row.missing)
            for row in site.previews()
            if row.period == period
        ]  # fmt: skip
        standing = site.standing_without_batch(period)
    if not rows:
        return None
    hidden = len(site.rules.members(period)) < SMALLEST_AGGREGATE
    intervals = tuple(
        CommunityInterval(
            interval=interval,
            start=site.interval_start(interval),
            end=site.interval_start(interval + 1),
            state=energy_state(demand, supply),
            demand_wh=demand,
            supply_wh=supply,
            traded_wh=traded,
            imported_wh=demand - traded,
            exported_wh=supply - traded,
            prices=_prices(site, period, discount, premium),
            missing=missing,
        )
        for interval, demand, supply, traded, discount, premium, missing in rows
        if not hidden
    )
    return CommunityDay(
        period=period,
        day=site.day(period),
        time_zone=site.time_zone,
        interval_minutes=site.interval_minutes,
        standing=standing,
        hidden=hidden,
        totals=_totals(intervals),
        intervals=intervals,
    )


def _totals(intervals: tuple[CommunityInterval, ...]) -> CommunityTotals:
    demand = sum(item.demand_wh for item in intervals)
    supply = sum(item.supply_wh for item in intervals)
    traded = sum(item.traded_wh for item in intervals)
    return CommunityTotals(
        demand_wh=demand,
        supply_wh=supply,
        traded_wh=traded,
        imported_wh=demand - traded,
        exported_wh=supply - traded,
        self_sufficiency_millionths=millionths(traded, demand),
        self_consumption_millionths=millionths(traded, supply),
    )


def participants(site: Site) -> Participants:
    """The members."""
    items = site.participants()
    return Participants(
        count=len(items),
        generation_peak_w=sum(item.generation_peak_w or 0 for item in items),
        items=tuple(
            Participant(
                slot=item.slot,
                name=item.name,
                node=item.node,
                tariff_class=item.tariff_class,
                generation_peak_w=item.generation_peak_w,
                heat_pump=item.heat_pump,
                ev=item.ev,
            )
            for item in items
        ),
    )


def trade_network(site: Site, period: int) -> TradeNetwork | None:
    """Who trades with whom by places, settled or running; None if there is nothing of the day."""
    return site.made_once(("trade network", period), lambda: _trade_network(site, period))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A trade, whatever it was read from."""

    interval: int
    seller: int
    buyer: int
    energy_wh: int
    fee_nano: int


def _trade_network(site: Site, period: int) -> TradeNetwork | None:
    found = _everybody(site, period)
    if found is None:
        return None
    standing, trades, sums = found
    tariff = site.rules.preparer(period).tariff
    node_of = {member.slot: member.node for member in site.rules.members(period)}
    sizes = Counter(node_of.values())
    grouped = places_of(sizes)
    place_of = {node: " + ".join(nodes) for nodes in grouped for node in nodes}
    energy: dict[tuple[int, str, str], int] = defaultdict(int)
    for trade in trades:
        seller, buyer = (
            place_of.get(node_of.get(slot, "")) for slot in (trade.seller, trade.buyer)
        )
        if seller is not None and buyer is not None:
            energy[trade.interval, seller, buyer] += trade.energy_wh
    return TradeNetwork(
        period=period,
        day=site.day(period),
        standing=standing,
        hidden=not grouped,
        places=tuple(
            Place(
                id=" + ".join(nodes),
                nodes=nodes,
                members=sum(sizes[node] for node in nodes),
                demand_wh=sum(sums[node][0] for node in nodes),
                supply_wh=sum(sums[node][1] for node in nodes),
            )
            for nodes in grouped
        ),
        nodes=tuple(
            NetworkNode(
                id=node.id,
                place=place_of.get(node.id),
                members=sizes[node.id],
                access_fee_nano_per_wh=node.access_fee_nano_per_wh,
            )
            for node in tariff.network.nodes
        ),
        edges=tuple(
            NetworkEdge(
                from_node=edge.from_node, to_node=edge.to_node, fee_nano_per_wh=edge.fee_nano_per_wh
            )
            for edge in tariff.network.edges
        ),
        trades=tuple(
            NetworkTrade(
                interval=interval,
                start=site.interval_start(interval),
                from_place=seller,
                to_place=buyer,
                energy_wh=amount,
            )
            for (interval, seller, buyer), amount in sorted(energy.items())
        ),
    )


def places_of(sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Nodes put together until every place has enough members to show sums of; none if all together have not.

    Args:
        sizes: members by node; nodes without any are left out.
    """
    ordered = sorted((node for node in sizes if sizes[node]), key=lambda node: (sizes[node], node))
    found: list[list[str]] = []
    waiting: list[str] = []
    for node in ordered:
        waiting.append(node)
        if sum(sizes[item] for item in waiting) >= SMALLEST_AGGREGATE:
            found.append(waiting)
            waiting = []
    if waiting and not found:
        return []
    if waiting:
        found[0] += waiting
    return sorted(tuple(sorted(nodes)) for nodes in found)


Sums = dict[str, tuple[int, int]]


def _everybody(site: Site, period: int) -> tuple[Standing, list[_Pair], Sums] | None:
    """Everybody's trades, and demand and supply by node; sums only leave this module."""
    batch = site.newest_of(period)
    if batch is not None:
        return batch.standing, _settled_trades(site, batch), _node_sums(site, batch)
    members = site.rules.members(period)
    if not any(row.period == period for row in site.previews()):
        return None
    sums: Sums = defaultdict(lambda: (0, 0))
    for member in members:
        for row in site.previewed(member.slot, period).readings:
            net = row.export_wh - row.import_wh
            demand, supply = sums[member.node]
            sums[member.node] = (demand + max(0, -net), supply + max(0, net))
    trades = [
        _Pair(row.interval, row.seller_slot, row.buyer_slot, row.energy_wh, row.fee_nano)
        for row in site.previewed_trades(period)
    ]
    return site.standing_without_batch(period), trades, sums


def _node_sums(site: Site, batch: StandingBatch) -> Sums:
    cleared = settled_of(site).cleared(batch.header)
    names = cleared.market.node_names
    sums: Sums = defaultdict(lambda: (0, 0))
    for interval in cleared.intervals:
        for group, totals in zip(cleared.market.groups, interval.groups, strict=True):
            demand, supply = sums[names[group.node]]
            sums[names[group.node]] = (demand + totals[0], supply + totals[1])
    return sums


def _settled_trades(site: Site, batch: StandingBatch) -> list[_Pair]:
    """From both sides' parts, so that a trade is known as long as one of them has not erased its data."""
    found = {}
    for member in site.rules.members(batch.header.period):
        own = settled_of(site).own(batch.header, member.slot)
        for trade in own.trades if own else ():
            pair = (trade.seller_slot, trade.buyer_slot, trade.energy_wh, trade.fee_nano)
            found[trade.position or 0] = _Pair(trade.interval, *pair)
    return [found[position] for position in sorted(found)]


def pairs(site: Site, period: int, slot: int | None) -> Pairs | None:
    """Trades between members in a day.

    Args:
        site: the community.
        period: which day.
        slot: only this member's; None for everybody's, which is not for everybody.
    """
    found = site.made_once(("everybody", period), lambda: _everybody(site, period))
    if found is None:
        return None
    names = {item.slot: item.name for item in site.participants()}
    sums: dict[tuple[int, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for trade in found[1]:
        if slot is None or slot in (trade.seller, trade.buyer):
            energy, fee = sums[trade.seller, trade.buyer]
            sums[trade.seller, trade.buyer] = (energy + trade.energy_wh, fee + trade.fee_nano)
    return Pairs(
        period=period,
        day=site.day(period),
        standing=found[0],
        items=tuple(
            PairTrade(
                seller_slot=seller,
                seller_name=names.get(seller, ""),
                buyer_slot=buyer,
                buyer_name=names.get(buyer, ""),
                energy_wh=energy,
                fee_nano=fee,
            )
            for (seller, buyer), (energy, fee) in sorted(sums.items())
        ),
    )
