"""What every member sees of the community: balances, states, who trades with whom between places, participants."""

from __future__ import annotations

from collections import Counter, defaultdict
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


class NetworkNode(Value):
    """A place on the network.

    Attributes:
        members: how many are there.
        hidden: too few to show what they trade.
    """

    id: str
    members: int
    hidden: bool
    demand_wh: Exact
    supply_wh: Exact


class NetworkEdge(Value):
    """A line of the network, with its fee."""

    from_node: str
    to_node: str
    fee_nano_per_wh: Exact


class NetworkTrade(Value):
    """Energy traded from one place to another (or within one) in a day or interval."""

    interval: int
    from_node: str
    to_node: str
    energy_wh: Exact


class TradeNetwork(Value):
    """Who trades with whom on the feeder, by places; a member's own trades are its own view."""

    period: int
    day: str
    standing: Standing
    nodes: tuple[NetworkNode, ...]
    edges: tuple[NetworkEdge, ...]
    trades: tuple[NetworkTrade, ...]


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
            for row in site.cycle.previews()
            if row.period == period
        ]  # fmt: skip
        standing = Standing.RUNNING
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
    """Who trades with whom by places, of a settled day; None if there is none."""
    return site.made_once(("trade network", period), lambda: _trade_network(site, period))


def _trade_network(site: Site, period: int) -> TradeNetwork | None:
    batch = site.newest_of(period)
    if batch is None:
        return None
    tariff = site.rules.preparer(period).tariff
    sizes = Counter(member.node for member in site.rules.members(period))
    shown = {node for node, size in sizes.items() if size >= SMALLEST_AGGREGATE}
    sums = _node_sums(site, batch)
    return TradeNetwork(
        period=period,
        day=site.day(period),
        standing=batch.standing,
        nodes=tuple(
            NetworkNode(
                id=node.id,
                members=sizes[node.id],
                hidden=bool(sizes[node.id]) and node.id not in shown,
                demand_wh=sums[node.id][0] if node.id in shown else 0,
                supply_wh=sums[node.id][1] if node.id in shown else 0,
            )
            for node in tariff.network.nodes
        ),
        edges=tuple(
            NetworkEdge(
                from_node=edge.from_node, to_node=edge.to_node, fee_nano_per_wh=edge.fee_nano_per_wh
            )
            for edge in tariff.network.edges or ()
        ),
        trades=tuple(
            NetworkTrade(interval=interval, from_node=seller, to_node=buyer, energy_wh=energy)
            for (interval, seller, buyer), energy in sorted(_node_trades(site, batch).items())
            if seller in shown and buyer in shown
        ),
    )


def _node_sums(site: Site, batch: StandingBatch) -> dict[str, tuple[int, int]]:
    cleared = settled_of(site).cleared(batch.header)
    names = cleared.market.node_names
    sums: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for interval in cleared.intervals:
        for group, totals in zip(cleared.market.groups, interval.groups, strict=True):
            demand, supply = sums[names[group.node]]
            sums[names[group.node]] = (demand + totals[0], supply + totals[1])
    return sums


def _node_trades(site: Site, batch: StandingBatch) -> dict[tuple[int, str, str], int]:
    """Energy by interval and places, from everybody's trades; sums only leave here."""
    nodes = {member.slot: member.node for member in site.rules.members(batch.header.period)}
    found: dict[tuple[int, str, str], int] = defaultdict(int)
    for slot, node in nodes.items():
        own = settled_of(site).own(batch.header, slot)
        for trade in own.trades if own else ():
            if trade.seller_slot == slot:
                buyer = nodes.get(trade.buyer_slot, "")
                found[trade.interval, node, buyer] += trade.energy_wh
    return found
