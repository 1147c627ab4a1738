"""A household as an agent: forecast from its own past, cost from the forecast or from its assets' plan, wishes as limits and preferences.

What a household does not know is worth something: who sells ahead and falls short buys at its import price, who buys ahead and
needs less sells at its export price. With F the distribution of what it will have to sell, the P-th unit sold ahead costs

    export price + (import price - export price) F(P)

(the newsvendor's condition). A line through this curve's quantiles is the marginal cost it negotiates with; a household with a
battery or another asset that can wait takes its plan's instead. Money here is in currency per kWh and energy in kWh, as in the case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.domain.errors import MalformedInput, OutOfRange
from backend.domain.p2p import P2PAgent, P2PCase

from .agreement import TradeLimits
from .assets import Asset, FixedLoad, HomePlan, QuadraticCost, Solar

WH_PER_KWH = 1000
NANO_PER_WH_PER_UNIT = 1_000_000
# How much of today's difference from an earlier day is still there one interval later.
_PERSISTENCE = 0.85
_QUANTILES = (0.1, 0.5, 0.9)
# A line needs some width: below, a household would trade all or nothing at one price. kWh.
_NARROWEST = 0.01


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a household wants, in words it can be asked for. Prices in nano per Wh, its own share of network fees included.

    Attributes:
        buy_limit: most it pays.
        sell_limit: least it takes.
        preferred: partner's name -> what a Wh with it is worth beyond its price.
        refused: names it never trades with.
        green_premium: what a Wh from a generator is worth beyond its price.
        local_premium: what a Wh from or to its own node is worth beyond its price.
    """

    buy_limit: int
    sell_limit: int
    preferred: Mapping[str, int] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    green_premium: int = 0
    local_premium: int = 0


class MeterHistory:
    """What a household has sold net (bought, if negative) in each interval so far, in Wh.

    Args:
        net_wh: oldest first.
        per_day: intervals of a day.
    """

    def __init__(self, net_wh: Sequence[int], per_day: int) -> None:
        if len(net_wh) <= per_day:
            raise OutOfRange(
                "net_wh", len(net_wh), "less than a day and an interval", "meter for longer first"
            )
        self._net_wh = list(net_wh)
        self.per_day = per_day

    def __len__(self) -> int:
        return len(self._net_wh)

    def add(self, net_wh: int) -> None:
        """One more interval was metered."""
        self._net_wh.append(net_wh)

    def samples(self, ahead: int) -> list[float]:
        """What may be sold net in the interval `ahead` after the last one metered (1 is the next), in Wh: one for each earlier day.

        An earlier day's value at that time, shifted by what today differed from that day in the last metered interval; of
        that difference less is left the further ahead.
        """
        known = len(self._net_wh)
        target, last = known - 1 + ahead, known - 1
        left = _PERSISTENCE**ahead
        found = []
        for back in range(self.per_day, known, self.per_day):
            if target - back < known and last - back >= 0:
                shift = self._net_wh[last] - self._net_wh[last - back]
                found.append(self._net_wh[target - back] + left * shift)
        return found

    def quantiles(self, ahead: int) -> tuple[float, float, float]:
        """10, 50 and 90 % of the samples, in kWh."""
        low, middle, high = np.quantile(self.samples(ahead), _QUANTILES) / WH_PER_KWH
        return float(low), float(middle), float(high)


@dataclass(slots=True)
class Household:
    """A household that negotiates.

    Attributes:
        name: unique.
        slot: its account.
        node: in the network.
        import_price: what a Wh costs outside, nano.
        export_price: what it earns outside, nano.
        wishes: its own.
        history: of what is not in `assets`.
        generates: whether it has a generator.
        assets: those that can wait, such as batteries; empty for none.
        horizon: how many intervals the assets are planned for.
    """

    name: str
    slot: int
    node: str
    import_price: int
    export_price: int
    wishes: Wishes
    history: MeterHistory
    generates: bool = False
    assets: tuple[Asset, ...] = ()
    horizon: int = 24
    _plan: HomePlan | None = None

    def plan(self, ahead: int) -> HomePlan:
        """Its assets' plan from the interval `ahead` on, around what else it is likely to sell or use."""
        middles = [self.history.quantiles(ahead + step)[1] for step in range(self.horizon)]
        rest = (
            FixedLoad(tuple(max(0.0, -middle) for middle in middles)),
            Solar(tuple(max(0.0, middle) for middle in middles)),
        )
        if self._plan is None:
            self._plan = HomePlan(
                (*rest, *self.assets),
                [self.import_price / NANO_PER_WH_PER_UNIT] * self.horizon,
                [self.export_price / NANO_PER_WH_PER_UNIT] * self.horizon,
            )
        else:
            self._plan.update((*rest, *self.assets))
        return self._plan

    def cost(self, ahead: int) -> QuadraticCost:
        """What it negotiates with for the interval `ahead`: one side of the market, within its wishes."""
        if self.assets:
            found = self.plan(ahead).quadratic()
        else:
            found = newsvendor_cost(
                self.history.quantiles(ahead),
                self.import_price / NANO_PER_WH_PER_UNIT,
                self.export_price / NANO_PER_WH_PER_UNIT,
            )
        b = found.b
        if found.upper > -found.lower:
            b = max(b, self.wishes.sell_limit / NANO_PER_WH_PER_UNIT)
            return QuadraticCost(found.a, b, 0.0, max(0.0, found.upper))
        b = min(b, self.wishes.buy_limit / NANO_PER_WH_PER_UNIT)
        return QuadraticCost(found.a, b, min(0.0, found.lower), 0.0)

    def limits(self, interval: int, cost: QuadraticCost) -> TradeLimits:
        """What it signs before it negotiates: nothing beyond this, whatever comes out."""
        return TradeLimits(
            interval=interval,
            slot=self.slot,
            most_sold_wh=int(cost.upper * WH_PER_KWH),
            most_bought_wh=int(-cost.lower * WH_PER_KWH),
            least_earned_nano_per_wh=self.wishes.sell_limit,
            most_paid_nano_per_wh=self.wishes.buy_limit,
        )

    def dislike(self, other: Household) -> float:
        """What a unit traded with `other` costs it beyond money (negative: a liking), currency per kWh."""
        wishes = self.wishes
        liking = wishes.preferred.get(other.name, 0)
        liking += wishes.green_premium if other.generates else 0
        liking += wishes.local_premium if other.node == self.node else 0
        return -liking / NANO_PER_WH_PER_UNIT


def newsvendor_cost(
    quantiles: tuple[float, float, float], import_price: float, export_price: float
) -> QuadraticCost:
    """The line through the marginal cost at the 10 and 90 % quantiles, and limits at those where they are on the median's side.

    Args:
        quantiles: 10, 50, 90 % of what can be sold, kWh.
        import_price: what a unit costs that is missing.
        export_price: what a unit earns that is left over.
    """
    low, middle, high = quantiles
    width = max(high - low, _NARROWEST)
    a = (import_price - export_price) * (_QUANTILES[2] - _QUANTILES[0]) / width
    b = (import_price + export_price) / 2 - a * middle
    if middle > 0:
        return QuadraticCost(a, b, 0.0, max(high, 0.0))
    return QuadraticCost(a, b, min(low, 0.0), 0.0)


def household_case(
    households: Sequence[Household],
    costs: Sequence[QuadraticCost],
    fee_nano_per_wh: Mapping[tuple[str, str], int],
) -> P2PCase:
    """The forward market of these households in one interval; what they do not trade the pool settles afterwards.

    Args:
        households: at least one, with different names.
        costs: theirs.
        fee_nano_per_wh: network fee of a trade between two nodes; each side bears half.

    Raises:
        InputError: as `P2PCase`; or lengths that differ.
    """
    if len(households) != len(costs):
        raise MalformedInput("costs", len(costs), "not one for each household", "give all of them")
    agents = tuple(
        P2PAgent(id=one.name, a=cost.a, b=cost.b, lower=cost.lower, upper=cost.upper)
        for one, cost in zip(households, costs, strict=True)
    )
    fees = tuple(
        tuple(
            0.0
            if one is other
            else fee_nano_per_wh[one.node, other.node] / 2 / NANO_PER_WH_PER_UNIT
            for other in households
        )
        for one in households
    )
    preferences = tuple(
        tuple(0.0 if one is other else one.dislike(other) for other in households)
        for one in households
    )
    pairs = tuple(
        (one.name, other.name)
        for number, one in enumerate(households)
        for other in households[number + 1 :]
        if other.name not in one.wishes.refused and one.name not in other.wishes.refused
    )
    case = P2PCase(agents=agents, fees=fees, preferences=preferences, pairs=pairs)
    case.check()
    return case
