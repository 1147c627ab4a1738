"""Price rules of the literature, for comparison in studies; never used on chain.

They are defined for communities with one outside tariff and no network fees, and are offered for such cases only. With S the
surplus, D the deficit, r and f the outside prices:

- *mid-market rate* (Long et al. 2017): locally traded energy at (r + f) / 2; the rest at outside prices, shared on its side.
  Equal to savings-share(1/2).
- *supply-demand ratio* (Liu et al. 2017): for S <= D the sell price is f r / ((r - f) S / D + f) and the buy price its average
  with r; for S >= D both are f, so sellers gain nothing.
- *bill sharing* (Long et al. 2017): the community's outside bill is shared by energy; local energy has no price, so in shortage
  sellers are *worse* off than outside. Shown because it is in use, not because it is fair.

Buy prices are rounded up and sell prices down; what that leaves is the dust.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from backend.domain.errors import MalformedInput

from .problem import GroupPrices, Problem


def study_prices(problem: Problem, rule: str) -> GroupPrices:
    """Prices by a rule of the literature.

    Args:
        problem: one outside tariff, no network fees.
        rule: `mid-market-rate`, `supply-demand-ratio` or `bill-sharing`.

    Raises:
        MalformedInput: the case has several outside prices, network fees, or prices the rule is not defined for.
    """
    outside = {
        (group.import_price_nano_per_wh, group.export_price_nano_per_wh)
        for group in problem.market.groups
    }
    if len(outside) > 1 or not problem.market.is_free:
        raise MalformedInput(
            "rule",
            rule,
            "is defined for one outside tariff and no network fees only",
            "use savings-share, competitive or blend for this case",
        )
    if not outside:
        return GroupPrices((), ())
    import_price, export_price = outside.pop()
    if rule == "supply-demand-ratio" and export_price <= 0:
        raise MalformedInput(
            "rule", rule, "needs an export price above zero", "use another rule for this case"
        )
    buy, sell = _prices(
        rule,
        sum(problem.demand_wh),
        sum(problem.supply_wh),
        Fraction(import_price),
        Fraction(export_price),
    )
    count = len(problem.market.groups)
    return GroupPrices((ceil(buy),) * count, (floor(sell),) * count)


def _prices(
    rule: str, demand: int, supply: int, r: Fraction, f: Fraction
) -> tuple[Fraction, Fraction]:
    """Exact buy and sell price."""
    if not demand or not supply:
        return r, f
    traded = min(demand, supply)
    if rule == "mid-market-rate":
        middle = (r + f) / 2
        return (
            (traded * middle + (demand - traded) * r) / demand,
            (traded * middle + (supply - traded) * f) / supply,
        )
    if rule == "supply-demand-ratio":
        if supply >= demand:
            return f, f
        ratio = Fraction(supply, demand)
        sell = f * r / ((r - f) * ratio + f)
        return sell * ratio + r * (1 - ratio), sell
    return (demand - traded) * r / demand, (supply - traded) * f / supply
