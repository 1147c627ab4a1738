"""The operator's fees on the ledger, with the contracts as they are (decision 0032).

A community that coordinates settles each interval as a period of its own, under a tariff announced before it. With x(z) the
fee of zone z for a Wh fed in, that tariff has

- outside prices less x(z) in each zone: who feeds in there gets x(z) less, who draws pays x(z) less;
- the zones in a row in the order of their fees, and between neighbours the difference: a trade from n to m pays |x(n) - x(m)|
  more than the ordinary fee.

A member's amount then changes by - x(z) x net energy, whoever it trades with. What trades pay is booked to the DSO by the
contract; what exchange with the supplier pays is in the supplier's price, as network charges are in every all-in price, and the
supplier deposits it at the DSO's slot: `supplier_owes_nano`, from nothing but the tariff and the totals on chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from backend.domain.case import Network, NetworkEdge, NetworkNode, TariffClass
from backend.domain.community import SMALLEST_GROUP, CommunityTariff
from backend.domain.errors import OutOfRange
from backend.domain.intervals import Period
from backend.market.pool import ClearedInterval

from .coordination import Coordination
from .model import GridModel
from .offers import GridOffers


def settlement_zones(
    model: GridModel, points: Sequence[str], smallest: int = SMALLEST_GROUP
) -> dict[str, str]:
    """The zone of each connection point: feeders, those side by side as one where a zone would have too few members.

    Args:
        model: the grid.
        points: of the members, once for each.
        smallest: members in a zone, at least: the chain shows a zone's energy in each interval.

    Raises:
        OutOfRange: there are fewer members than that in all.
    """
    if len(points) < smallest:
        raise OutOfRange(
            "members", len(points), f"fewer than {smallest}", "let more members take part"
        )
    feeder_of = model.zones()
    counts = Counter(feeder_of[model.connection_points[point]] for point in points)
    zones: list[list[str]] = [[]]
    for feeder in sorted(counts):
        if sum(counts[name] for name in zones[-1]) >= smallest:
            zones.append([])
        zones[-1].append(feeder)
    if sum(counts[name] for name in zones[-1]) < smallest:
        last = zones.pop()
        zones[-1] += last
    name_of = {feeder: "+".join(zone) for zone in zones for feeder in zone}
    return {point: name_of[feeder_of[model.connection_points[point]]] for point in points}


def interval_period(interval: int, minutes: int) -> Period:
    """One interval as a period; periods have the intervals' numbers then."""
    return Period(
        number=interval, first_interval=interval, interval_count=1, interval_minutes=minutes
    )


def zone_fees(outcome: Coordination) -> dict[str, int]:
    """What a Wh fed in pays in each zone, nano; drawing pays it with the opposite sign.

    Raises:
        ValueError: the coordination was not by zone.
    """
    if outcome.zones is None:
        raise ValueError("fees differ within zones; coordinate with `zone_of`")
    by_member = outcome.after.fee_parts_nano_per_wh.sum(axis=0).tolist()
    if not outcome.after.fee_parts_nano_per_wh.size:
        by_member = [0] * len(outcome.zones)
    return dict(zip(outcome.zones, by_member, strict=True))


def interval_tariff(
    offers: GridOffers, fees_nano_per_wh: Mapping[str, int], share_millionths: int
) -> CommunityTariff:
    """The tariff of an interval; with fees of zero the ordinary one.

    Args:
        offers: the supplier's prices and the ordinary fee of a trade.
        fees_nano_per_wh: by zone, for a Wh fed in.
        share_millionths: the buyers' share of what trading saves.
    """
    row = sorted(fees_nano_per_wh, key=lambda zone: (fees_nano_per_wh[zone], zone))
    return CommunityTariff(
        network=Network(
            nodes=tuple(
                NetworkNode(id=zone, access_fee_nano_per_wh=offers.trade_fee_nano_per_wh // 2)
                for zone in row
            ),
            edges=tuple(
                NetworkEdge(
                    from_node=lower,
                    to_node=upper,
                    fee_nano_per_wh=fees_nano_per_wh[upper] - fees_nano_per_wh[lower],
                )
                for lower, upper in pairwise(row)
            ),
        ),
        # Outside prices belong to classes, so each zone has one of its own.
        tariff_classes=tuple(
            TariffClass(
                id=zone,
                import_price_nano_per_wh=offers.import_price_nano_per_wh - fees_nano_per_wh[zone],
                export_price_nano_per_wh=offers.export_price_nano_per_wh - fees_nano_per_wh[zone],
            )
            for zone in row
        ),
        group_keys=tuple((zone, zone) for zone in sorted(row)),
        share_millionths=share_millionths,
    )


def supplier_owes_nano(cleared: ClearedInterval, fees_nano_per_wh: Mapping[str, int]) -> int:
    """What the supplier has taken for the operator in an interval: the fee of all energy that was not traded inside."""
    problem, solution = cleared.problem, cleared.solution
    owed = 0
    for group, supply, sold, demand, bought in zip(
        problem.market.groups,
        problem.supply_wh,
        solution.matched_supply_wh,
        problem.demand_wh,
        solution.matched_demand_wh,
        strict=True,
    ):
        fee = fees_nano_per_wh[problem.market.node_names[group.node]]
        owed += fee * ((supply - sold) - (demand - bought))
    return owed


def trades_paid_nano(cleared: ClearedInterval, trade_fee_nano_per_wh: int) -> tuple[int, int]:
    """What trades have paid in an interval: the ordinary fee, and the operator's on top of it."""
    ordinary = trade_fee_nano_per_wh * sum(cleared.solution.matched_demand_wh)
    return ordinary, cleared.fees_nano - ordinary
