"""An agent that negotiates, or many of them side by side: the same code in one process and in a process for each.

A negotiator knows its own cost and limits, what each partner's unit costs it in fees and preferences, and what passes over its own
links. A link is a possible sale in one direction, with an end on each side. In a round (consensus ADMM; Boyd et al. 2011, 7.1):

1. *Optimise*: each minimises its cost, what it pays on its links, and rho/2 (x - z)^2 for each link's offered price and energy. That
   is one equation in one unknown, its marginal cost mu: what its links take falls with mu, what it makes rises.
2. *Exchange*: it tells each partner the energy x it would trade with it; one number each way.
3. *Agree*: both ends compute the same new energy z and price from the two numbers.

Nobody sends a price: both know it. Both ends move on only when they have both numbers of a round, so late, repeated and lost messages
cannot drive the two apart, and a message changed afterwards contradicts a signed one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .problem import Agents, Floats, Indices

# Over-relaxation; 1.5 to 1.8 is usual.
RELAXATION = 1.6
_STEPS = 60


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class LinkEnds:
    """Ends of links, each at one of our agents.

    Attributes:
        owner: (L,) which of our agents.
        sign: (L,) 1 where it sells, -1 where it buys.
        cost: (L,) what it pays and dislikes per unit.
        energy: (L,) z, what both last agreed on.
        price: (L,) what the seller would receive and the buyer pay per unit.
    """

    owner: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    sign: Floats = field(default_factory=_none)
    cost: Floats = field(default_factory=_none)
    energy: Floats = field(default_factory=_none)
    price: Floats = field(default_factory=_none)

    def joined(self, other: LinkEnds) -> LinkEnds:
        """These and more."""
        return LinkEnds(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in self.__slots__
            )
        )

    def part(self, chosen: Indices | NDArray[np.bool_]) -> LinkEnds:
        """Some of them."""
        return LinkEnds(*(getattr(self, name)[chosen] for name in self.__slots__))


class Negotiators:
    """Agents with their ends of links.

    Args:
        agents: K of them.
        import_price: of a unit bought outside; infinite where there is no outside.
        export_price: of a unit sold outside; minus infinity where there is none.

    Attributes:
        ends: of their links.
        offer: (L,) x, what each end last offered, at least 0.
        marginal: (K,) mu, what one more unit is worth to each.
    """

    def __init__(
        self, agents: Agents, import_price: float = np.inf, export_price: float = -np.inf
    ) -> None:
        self.agents = agents
        self.import_price, self.export_price = import_price, export_price
        # A constant cost answers prices in jumps; bent by what no tolerance in use can see.
        reach = np.maximum(np.maximum(np.abs(agents.lower), np.abs(agents.upper)), 1e-12)
        least = 1e-7 * (1.0 + np.abs(agents.b)) / reach
        self._bent = replace(agents, a=np.maximum(agents.a, least))
        self.ends = LinkEnds()
        self.offer: Floats = np.zeros(0)
        self.marginal = self.first_price()

    def first_price(self) -> Floats:
        """(K,) what one more unit is worth to each that trades nothing, or as little as its limits allow."""
        idle = np.clip(np.zeros(self.agents.count), self.agents.lower, self.agents.upper)
        return np.clip(self.agents.b + self.agents.a * idle, *self._outside_range())

    def _outside_range(self) -> tuple[Floats, Floats]:
        """(K,), (K,) between which prices the outside leaves each agent's."""
        return (
            np.where(self.agents.upper > 0, self.export_price, -np.inf),
            np.where(self.agents.lower < 0, self.import_price, np.inf),
        )

    def connect(self, more: LinkEnds) -> None:
        """Adds ends; nothing is offered on them yet."""
        self.ends = self.ends.joined(more)
        self.offer = np.concatenate([self.offer, np.zeros(more.owner.size)])

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Drops all other ends, as when a partner has left."""
        self.ends, self.offer = self.ends.part(chosen), self.offer[chosen]

    def propose(self, step: float | Floats, waiting: NDArray[np.bool_] | None = None) -> Floats:
        """(L,) the energy offered on each link.

        Args:
            step: rho, of all links or of each (L,).
            waiting: (L,) ends whose last offer is not answered yet: it stands, and the others are chosen around it.
        """
        ends, count = self.ends, self.agents.count
        target = ends.energy + ends.sign * (ends.price - ends.sign * ends.cost) / step
        weight = ends.sign / step
        fixed = np.zeros(ends.owner.size, np.bool_) if waiting is None else waiting
        floor, ceiling = self._outside_range()
        marginal = np.clip(self.marginal, floor, ceiling)
        low, high = np.full(count, -np.inf), np.full(count, np.inf)
        jump = np.full(count, 1.0 + float(np.abs(ends.price).max(initial=0.0)))
        size = max(1e-12, float(np.abs(self.offer).max(initial=0.0)))
        bent = self._bent
        for _ in range(_STEPS):
            offer = np.maximum(target - weight * marginal[ends.owner], 0.0)
            offer[fixed] = self.offer[fixed]
            made = bent.response(marginal)
            excess = np.bincount(ends.owner, ends.sign * offer, count) - made
            # At the outside's prices it takes or gives what is missing.
            excess[(marginal >= ceiling) & (excess > 0)] = 0.0
            excess[(marginal <= floor) & (excess < 0)] = 0.0
            low = np.where(excess > 0, np.maximum(low, marginal), low)
            high = np.where(excess < 0, np.minimum(high, marginal), high)
            if np.abs(excess).max(initial=0.0) <= 1e-11 * size:
                break
            inner = (made > bent.lower) & (made < bent.upper)
            slope = np.where(inner, 1.0 / bent.a, 0.0)
            slope = slope + np.bincount(ends.owner, ((offer > 0) & ~fixed) / step, count)
            newton = marginal + excess / np.where(slope > 0, slope, 1.0)
            safe = (slope > 0) & (newton > low) & (newton < high)
            bounded = np.isfinite(low) & np.isfinite(high)
            with np.errstate(invalid="ignore"):
                middle = (low + high) / 2
            away = marginal + np.sign(excess) * jump
            moved = np.where(safe, newton, np.where(bounded, middle, away))
            jump = np.where(safe | bounded, jump, 2 * jump)
            marginal = np.clip(np.where(excess == 0, marginal, moved), floor, ceiling)
        self.marginal, self.offer = marginal, offer
        return offer

    def agree(
        self,
        answer: Floats,
        step: float | Floats,
        answered: NDArray[np.bool_] | None = None,
        relaxation: float = RELAXATION,
    ) -> tuple[float, float]:
        """Takes the partners' offers.

        Args:
            answer: (L,) what each partner offered in the same round.
            step: rho of that round, of all links or of each (L,).
            answered: (L,) whether it did; links without an answer stay as they are.
            relaxation: 1 for none.

        Returns:
            Sums of squares: of what ends disagree, and of what energies moved.
        """
        ends = self.ends
        stays = 1.0 - relaxation
        own = relaxation * self.offer + stays * ends.energy
        other = relaxation * answer + stays * ends.energy
        energy = (own + other) / 2
        price = ends.price - ends.sign * step * (own - other) / 2
        apart, moved = self.offer - answer, energy - ends.energy
        if answered is not None:
            energy, price = (
                np.where(answered, energy, ends.energy),
                np.where(answered, price, ends.price),
            )
            apart, moved = apart[answered], moved[answered]
        self.ends = LinkEnds(ends.owner, ends.sign, ends.cost, energy, price)
        return float(apart @ apart), float(moved @ moved)


def tuned_step(
    step: float, apart: float, moved: float, energy: float, price_spread: float, first_spread: float
) -> float:
    """The step rule: as much doubt about energy as about price, each measured by its own size (residual balancing).

    Prices are measured by the geometric mean of how far they lie apart now and how far apart they were at first: by the one
    alone steps become too small where agents nearly agree on one price, by the other too large where they do not.

    Args:
        step: rho so far.
        apart: root of the summed squares by which ends disagree.
        moved: root of the summed squares by which energies moved.
        energy: root of the summed squares of energies.
        price_spread: standard deviation of the links' prices that carry energy, times the root of their number.
        first_spread: the same of the agents' first prices.

    Returns:
        The step for the next rounds; changed by at most a factor of 2, and not for less than a factor of 1.3.
    """
    prices = np.sqrt(max(price_spread, 0.01 * first_spread, 1e-300) * max(first_spread, 1e-300))
    doubt = (apart / max(energy, 1e-12)) / max(step * moved / prices, 1e-12)
    factor = float(np.clip(np.sqrt(doubt), 0.5, 2.0))
    return step * factor if not 1 / 1.3 < factor < 1.3 else step
