"""Price rules (mechanism, section 4): one price for all deficits and one for all surpluses of a group.

Every rule keeps buy price <= outside import price and sell price >= outside export price (nobody worse off), and what
members pay equals outside bill + network fees + dust with dust >= 0.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Literal, get_args

from backend.domain.errors import OutOfRange
from backend.domain.units import MILLION

from .certificate import outside_cost_nano
from .problem import GroupPrices, Problem
from .study_rules import study_prices

PriceRuleName = Literal[
    "savings-share",
    "competitive",
    "blend",
    "mid-market-rate",
    "supply-demand-ratio",
    "bill-sharing",
]
PRICE_RULES: tuple[PriceRuleName, ...] = get_args(PriceRuleName)
DEFAULT_SHARE_MILLIONTHS = 500_000


def parse_share(text: str) -> int:
    """The buyers' share of the savings from text such as `0.5`, in millionths.

    Raises:
        OutOfRange: not a number from 0 to 1 with at most six decimals.
    """
    try:
        millionths = Fraction(text) * MILLION
    except (ValueError, ZeroDivisionError):
        millionths = Fraction(-1)
    if not 0 <= millionths <= MILLION or millionths.denominator != 1:
        raise OutOfRange(
            "share", text, "not a share", "give a number from 0 to 1 with at most six decimals"
        )
    return int(millionths)


def savings_share_steps(
    savings_nano: int, demand_wh: int, supply_wh: int, share_millionths: int
) -> tuple[int, int]:
    """What a Wh bought costs less and a Wh sold earns more than outside, in nano per Wh.

    `contracts/src/libraries/PriceRule.sol` computes the same.

    Args:
        savings_nano: what the clearing saved against everybody outside.
        demand_wh: total deficit of all groups.
        supply_wh: total surplus of all groups.
        share_millionths: the buyers' share of the savings.

    Returns:
        discount, premium.
    """
    discount = savings_nano * share_millionths // (MILLION * demand_wh) if demand_wh else 0
    premium = (
        savings_nano * (MILLION - share_millionths) // (MILLION * supply_wh) if supply_wh else 0
    )
    return discount, premium


def savings_share(
    problem: Problem, cost_nano: int, share_millionths: int = DEFAULT_SHARE_MILLIONTHS
) -> GroupPrices:
    """The default: what trading saved goes to buyers and sellers in fixed shares, the same step for everybody."""
    savings = outside_cost_nano(problem) - cost_nano
    discount, premium = savings_share_steps(
        savings, sum(problem.demand_wh), sum(problem.supply_wh), share_millionths
    )
    groups = problem.market.groups
    return GroupPrices(
        buy_nano_per_wh=tuple(group.import_price_nano_per_wh - discount for group in groups),
        sell_nano_per_wh=tuple(group.export_price_nano_per_wh + premium for group in groups),
    )


def blend(fair: GroupPrices, core: GroupPrices, weight_millionths: int) -> GroupPrices:
    """(1 - a) x competitive + a x savings-share(1/2), buy prices rounded up and sell prices down.

    Both parts keep everybody no worse off than outside, so their mixture does; every coalition that left together would gain
    at most a times what trading saved.

    Args:
        fair: savings-share(1/2).
        core: competitive.
        weight_millionths: a.
    """

    def mixed(one: int, other: int) -> int:
        return weight_millionths * one + (MILLION - weight_millionths) * other

    return GroupPrices(
        buy_nano_per_wh=tuple(
            -(-mixed(one, other) // MILLION)
            for one, other in zip(fair.buy_nano_per_wh, core.buy_nano_per_wh, strict=True)
        ),
        sell_nano_per_wh=tuple(
            mixed(one, other) // MILLION
            for one, other in zip(fair.sell_nano_per_wh, core.sell_nano_per_wh, strict=True)
        ),
    )


def group_prices(
    problem: Problem,
    cost_nano: int,
    competitive: Callable[[], GroupPrices],
    rule: PriceRuleName,
    share_millionths: int,
) -> GroupPrices:
    """Prices by the named rule.

    Args:
        cost_nano: of the clearing.
        competitive: gives the engine's competitive prices, at which no pair could do better by leaving.
        share_millionths: beta of savings-share, or a of blend.

    Raises:
        MalformedInput: the rule is for studies and the case is not of their kind.
    """
    match rule:
        case "savings-share":
            return savings_share(problem, cost_nano, share_millionths)
        case "competitive":
            return competitive()
        case "blend":
            return blend(savings_share(problem, cost_nano), competitive(), share_millionths)
        case _:
            return study_prices(problem, rule)
