"""What the operator of the network sees: fees, flows by edge, limits."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime

from backend.audit.intervals import AuditInterval, AuditTariff
from backend.domain.community import DSO_SLOT
from backend.domain.values import Value

from ..site import Site, Standing
from .membership import nano_per_token
from .settled import settled_of
from .values import Exact, HexText


class FeePeriod(Value):
    """Fees of a batch; of a correction what it changes."""

    period: int
    day: str
    version: int
    batch_number: int
    standing: Standing
    fees_nano: Exact
    cumulative_nano: Exact
    transaction_hash: HexText


class Fees(Value):
    """Fees received, newest first."""

    currency: str
    settled_nano: Exact
    provisional_nano: Exact
    withdrawn_nano: Exact
    periods: tuple[FeePeriod, ...]


class EdgeFlow(Value):
    """Traded energy over a border in an interval; positive goes from `from_node` to `to_node`."""

    interval: int
    start: datetime
    flow_wh: Exact


class EdgeDay(Value):
    """A border's day: sums by direction, the largest interval, and the fees it earned."""

    from_node: str
    to_node: str
    fee_nano_per_wh: Exact
    forward_wh: Exact
    backward_wh: Exact
    largest_wh: Exact
    fees_nano: Exact
    intervals: tuple[EdgeFlow, ...]


class Flows(Value):
    """Flows of a day by border. Only what was traded: the rest goes through the supplier."""

    period: int
    day: str
    standing: Standing
    access_fees_nano: Exact
    edges: tuple[EdgeDay, ...]


class NodeLimit(Value):
    """What the connections at a node may carry in an interval, and what they did carry at most on a day.

    Attributes:
        connection_limit_wh: sum of the members' fuses, in either direction.
        largest_import_wh, largest_export_wh: of all members at the node together, net of each.
        access_fee_nano_per_wh: what each side of a trade pays there; extra fees of the operator are part of it.
    """

    node: str
    members: int
    connection_limit_wh: Exact
    largest_import_wh: Exact
    largest_export_wh: Exact
    access_fee_nano_per_wh: Exact


class Limits(Value):
    """The operator's limits on a day, and the fees that stand for them."""

    period: int
    day: str
    standing: Standing
    nodes: tuple[NodeLimit, ...]


def fees(site: Site) -> Fees:
    """Fees received, newest first."""
    return site.made_once("dso fees", lambda: _fees(site))


def _fees(site: Site) -> Fees:
    found = []
    for batch in reversed(site.batches()):
        part = site.bundles.personal(batch.header, DSO_SLOT)
        if part is None:
            continue
        found.append(
            FeePeriod(
                period=batch.header.period,
                day=site.day(batch.header.period),
                version=batch.header.version,
                batch_number=batch.number,
                standing=batch.standing,
                fees_nano=part["amount_nano"],
                cumulative_nano=part["cumulative_nano"],
                transaction_hash=batch.transaction_hash,
            )
        )
    taken = sum(event["tokens"] for event in site.events("Withdrawn") if event["slot"] == DSO_SLOT)
    settled = sum(item.fees_nano for item in found if item.standing is Standing.SETTLED)
    return Fees(
        currency=site.currency,
        settled_nano=settled,
        provisional_nano=sum(item.fees_nano for item in found) - settled,
        withdrawn_nano=taken * nano_per_token(site),
        periods=tuple(found),
    )


def flows(site: Site, period: int) -> Flows | None:
    """Traded energy over every border; None if the day is not settled."""
    return site.made_once(("flows", period), lambda: _flows(site, period))


def _flows(site: Site, period: int) -> Flows | None:
    found = settled_of(site).newest(period)
    if found is None:
        return None
    batch, cleared = found
    names = cleared.market.node_names
    edges = cleared.tariff.edges
    first = batch.header.first_interval
    by_edge: list[list[EdgeFlow]] = [[] for _ in edges]
    access = 0
    for index, interval in enumerate(cleared.intervals):
        for number, flow in enumerate(edge_flows(interval, cleared.tariff)):
            by_edge[number].append(
                EdgeFlow(
                    interval=first + index,
                    start=site.interval_start(first + index),
                    flow_wh=flow,
                )
            )
        for group, (_, _, bought, sold) in zip(cleared.tariff.groups, interval.groups, strict=True):
            access += group[2] * (bought + sold)
    return Flows(
        period=period,
        day=site.day(period),
        standing=batch.standing,
        access_fees_nano=access,
        edges=tuple(
            _edge_day(names[start], names[end], fee, items)
            for (start, end, fee), items in zip(edges, by_edge, strict=True)
        ),
    )


def edge_flows(interval: AuditInterval, tariff: AuditTariff) -> list[int]:
    """Flow over each edge of the tariff, from its first node to its second, in Wh.

    The certificate has the flows of edges that close circles; down the trees flows whatever a node has left.
    """
    balance = [0] * tariff.nodes
    for (_, _, bought, sold), group in zip(interval.groups, tariff.groups, strict=True):
        balance[group[3]] += sold - bought
    found = []
    for number, (start, end, _) in enumerate(tariff.edges):
        closes = number < tariff.chords and interval.flows
        flow = interval.flows[number] if closes else 0 if number < tariff.chords else balance[start]
        balance[start] -= flow
        balance[end] += flow
        found.append(flow)
    return found


def _edge_day(start: str, end: str, fee: int, items: list[EdgeFlow]) -> EdgeDay:
    forward = sum(max(0, item.flow_wh) for item in items)
    backward = sum(max(0, -item.flow_wh) for item in items)
    return EdgeDay(
        from_node=start,
        to_node=end,
        fee_nano_per_wh=fee,
        forward_wh=forward,
        backward_wh=backward,
        largest_wh=max((abs(item.flow_wh) for item in items), default=0),
        fees_nano=fee * (forward + backward),
        intervals=tuple(items),
    )


def limits(site: Site, period: int) -> Limits | None:
    """The operator's limits on a day; None if it is not settled."""
    return site.made_once(("limits", period), lambda: _limits(site, period))


def _limits(site: Site, period: int) -> Limits | None:
    found = settled_of(site).newest(period)
    if found is None:
        return None
    batch, cleared = found
    members = site.rules.members(period)
    fuses: Counter[str] = Counter()
    for member in members:
        fuses[member.node] += member.fuse_limit_wh
    sizes = Counter(member.node for member in members)
    drawn: dict[str, int] = defaultdict(int)
    given: dict[str, int] = defaultdict(int)
    names = cleared.market.node_names
    for interval in cleared.intervals:
        demand: Counter[str] = Counter()
        supply: Counter[str] = Counter()
        for group, totals in zip(cleared.market.groups, interval.groups, strict=True):
            demand[names[group.node]] += totals[0]
            supply[names[group.node]] += totals[1]
        for node in names:
            drawn[node] = max(drawn[node], demand[node])
            given[node] = max(given[node], supply[node])
    return Limits(
        period=period,
        day=site.day(period),
        standing=batch.standing,
        nodes=tuple(
            NodeLimit(
                node=node.id,
                members=sizes[node.id],
                connection_limit_wh=fuses[node.id],
                largest_import_wh=drawn[node.id],
                largest_export_wh=given[node.id],
                access_fee_nano_per_wh=node.access_fee_nano_per_wh,
            )
            for node in site.rules.preparer(period).tariff.network.nodes
        ),
    )
