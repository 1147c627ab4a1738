"""The two-sweep protocol on a feeder: each gateway sends its parent one curve and receives one price. Finite and exact.

A curve says how much a part of the feeder would sell net to the rest at each price. A gateway adds up its agents' curves and its
children's, each moved by the line's fee and cut at the line's capacity, and sends the sum up. The root finds the price at which
nothing is left; prices go down, and with them what flows there, for where a price leaves that open. Nobody learns another's cost, only
sums; a gateway with one agent below it learns that agent's curve.

The same clearing with arrays is `backend.market.p2p.sweep`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf, isfinite
from typing import Any

import numpy as np

from backend.domain.errors import MalformedInput
from backend.market.p2p.sweep import TreeMarket, TreeSolution, with_outside

# Sums of limits are right to the last digits only.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Curve:
    """A rising line of straight pieces, upright ones included: energy sold net by price.

    Attributes:
        price: of each corner, ascending.
        energy: there, ascending; before the first corner and after the last one it stays.
    """

    price: tuple[float, ...]
    energy: tuple[float, ...]

    @property
    def rounding(self) -> float:
        """Differences of energy below this are none."""
        return _ROUNDING * max(1.0, abs(self.energy[0]), abs(self.energy[-1]))

    def between(self, price: float) -> tuple[float, float]:
        """The least and the most sold at a price."""
        first, end = bisect_left(self.price, price), bisect_right(self.price, price)
        if first < end:
            return self.energy[first], self.energy[end - 1]
        if first == 0 or first == len(self.price):
            amount = self.energy[0 if first == 0 else -1]
            return amount, amount
        left, right = self.price[first - 1], self.price[first]
        share = (price - left) / (right - left)
        amount = self.energy[first - 1] * (1 - share) + self.energy[first] * share
        return amount, amount

    def prices_at(self, energy: float) -> tuple[float, float]:
        """The lowest and the highest price at which so much is sold; infinite where there is none."""
        # Sums differ in their last digits: where the curve is flat but for those, all of it counts.
        near = [one for one in self.energy if abs(one - energy) <= self.rounding] or [energy]
        low = self._first_reaching(min(near))
        return low, max(low, -self._mirrored()._first_reaching(-max(near)))

    def _first_reaching(self, energy: float) -> float:
        if self.energy[0] >= energy:
            return -inf
        place = bisect_left(self.energy, energy)
        if place == len(self.energy):
            return inf
        low, high = self.energy[place - 1], self.energy[place]
        left, right = self.price[place - 1], self.price[place]
        return right if energy == high else left + (right - left) * (energy - low) / (high - low)

    def _mirrored(self) -> Curve:
        return Curve(
            tuple(-price for price in reversed(self.price)),
            tuple(-energy for energy in reversed(self.energy)),
        )

    def over(self, fee: float, capacity: float) -> Curve:
        """What the other end of a line sees of it.

        Raises:
            MalformedInput: more has to cross than can.
        """
        if max(self.energy[0], -self.energy[-1]) > capacity + self.rounding:
            raise MalformedInput(
                "capacity", capacity, "more has to cross a line than can", "widen line or limits"
            )
        if capacity == 0:
            return Curve((0.0,), (0.0,))
        low, high = self.prices_at(0.0)
        moved: list[tuple[float, float]] = []
        for sign, own, zero in ((-1.0, self._mirrored(), -low), (1.0, self, high)):
            side = [(zero + fee, 0.0)] if own.energy[-1] > 0 and isfinite(zero) else []
            side += [
                (price + fee, energy)
                for price, energy in zip(own.price, own.energy, strict=True)
                if 0 < energy < capacity
            ]
            if own.energy[-1] >= capacity:
                side.append((own.prices_at(capacity)[0] + fee, capacity))
            moved += [(sign * price, sign * energy) for price, energy in side]
        return _rising(sorted(moved, key=lambda corner: (corner[1], corner[0])))


def total(curves: Iterable[Curve]) -> Curve:
    """What several sell together."""
    parts = list(curves)
    corners: list[tuple[float, float]] = []
    for price in sorted({price for part in parts for price in part.price}):
        ends = [part.between(price) for part in parts]
        low, high = sum(end[0] for end in ends), sum(end[1] for end in ends)
        corners.append((price, low))
        if high > low:
            corners.append((price, high))
    return _rising(corners)


def _rising(corners: Sequence[tuple[float, float]]) -> Curve:
    """The curve through these corners, of which rounding may have put some out of order."""
    if not corners:
        return Curve((0.0,), (0.0,))
    prices, energies = zip(*corners, strict=True)
    return Curve(tuple(accumulate(prices, max)), tuple(accumulate(energies, max)))


def agent_curve(
    a: float,
    b: float,
    lower: float,
    upper: float,
    access: float,
    import_price: float = inf,
    export_price: float = -inf,
) -> Curve:
    """What an agent with cost a/2 P^2 + b P sells within the market at each price of its node.

    Args:
        access: what each end of a trade pays at the node per unit.
        import_price: what a unit costs outside; what it buys above, it buys there.
        export_price: what a unit earns outside; what it would sell below, it sells there.
    """
    corners: list[tuple[float, float]] = []
    plenty = 1.0 + 2.0 * (abs(lower) + abs(upper))
    both = lower < 0 < upper
    if lower < 0:
        corners = [
            (-price, -energy)
            for price, energy in _selling(a, -b, max(0.0, -upper), -lower, access, -import_price)
        ]
        corners.reverse()
    if upper > 0:
        corners += _selling(a, b, max(0.0, lower), upper, access, export_price)
    found = _rising(corners)
    if not (both and isfinite(import_price)):
        return found
    # Whoever can buy too resells without limit what outside sells, and buys without limit what outside takes.
    low, high = export_price - access, import_price + access
    bought, sold = found.between(low)[0], found.between(high)[1]
    return _rising(
        [(price, energy - plenty) for price, energy in corners if price < low]
        + [(low, bought - plenty), (low, found.between(low)[1])]
        + [(price, energy) for price, energy in corners if low < price < high]
        + [(high, found.between(high)[0]), (high, sold + plenty)]
        + [(price, energy + plenty) for price, energy in corners if price > high]
    )


def _selling(
    a: float, b: float, least: float, most: float, access: float, floor: float
) -> list[tuple[float, float]]:
    """Corners of the selling side, from nothing (or the least, where outside takes nothing) upwards."""

    def wanted(price: float) -> float:
        if a == 0:
            return most if price >= b else least
        return min(max((price - b) / a, least), most)

    start, end = b + a * least, b + a * most
    if not isfinite(floor):
        return [(start + access, least), (end + access, most)]
    if start >= floor:
        outside = [(floor + access, 0.0), (floor + access, least)] if least > 0 else []
        return [*outside, (start + access, least), (end + access, most)]
    there = wanted(floor)
    return [(floor + access, 0.0), (floor + access, there), (max(end, floor) + access, most)]


@dataclass(slots=True)
class Gateway:
    """A gateway's part of the protocol; what it knows is its own agents, its line, and what its children sent.

    Attributes:
        name: of its node.
        parent: the node above; None for the root.
        children: nodes below.
        agents: curves of the agents at its node, by name.
        fee: of the line to the parent, per unit.
        capacity: of that line.
        curve: of itself and everything below, once all of it is known.
        price: at its node, once it is told.
        energy: what each agent sells, once the price is known.
        flow: what goes up its line.
    """

    name: str
    parent: str | None
    children: tuple[str, ...]
    agents: Mapping[str, Curve]
    fee: float = 0.0
    capacity: float = inf
    curve: Curve | None = None
    price: float | None = None
    energy: dict[str, float] = field(default_factory=dict)
    flow: float = 0.0
    _below: dict[str, Curve] = field(default_factory=dict)

    def begin(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What it sends without having been told anything, if it has nothing to wait for; receiver and content."""
        if self.curve is None and self._below.keys() == set(self.children):
            self.curve = total([*self.agents.values(), *self._below.values()])
            if self.parent is None:
                self._settle(0.0, None)
        if self.parent is not None and self.curve is not None and self.price is None:
            seen = self.curve.over(self.fee, self.capacity)
            yield self.parent, {"kind": "curve", "price": seen.price, "energy": seen.energy}
        if self.price is not None:
            for child in self.children:
                yield child, self._told(child)

    def hear(self, sender: str, body: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Takes a message; of repeated ones the first counts, and its answer is given again.

        Raises:
            MalformedInput: a curve that is none.
        """
        if body["kind"] == "curve" and sender in self.children:
            self._below.setdefault(sender, _curve(body))
            if self.price is not None:
                yield sender, self._told(sender)
            elif self.curve is None:
                yield from self.begin()
        elif body["kind"] == "price" and sender == self.parent and self._waits():
            self._settle(float(body["energy"]), float(body["price"]))
            yield from self.begin()

    def _waits(self) -> bool:
        return self.curve is not None and self.price is None

    def _settle(self, flow: float, above: float | None) -> None:
        assert self.curve is not None
        low, high = self.curve.prices_at(flow)
        if low == inf or high == -inf:
            raise MalformedInput(
                "agents", flow, "no price at which nothing is left over", "widen a limit or a line"
            )
        if above is None:
            ends = [end for end in (low, high) if isfinite(end)]
            wanted = sum(ends) / len(ends) if ends else 0.0
        else:
            wanted = above - self.fee if flow > 0 else above + self.fee if flow < 0 else above
        self.price, self.flow = min(max(wanted, low), high), flow
        parts = {**self.agents, **self._below}
        ends_of = {name: part.between(self.price) for name, part in parts.items()}
        left = flow - sum(least for least, _ in ends_of.values())
        for name, (least, most) in ends_of.items():
            more = min(max(left, 0.0), most - least)
            self.energy[name] = least + more
            left -= more

    def _told(self, child: str) -> dict[str, Any]:
        return {"kind": "price", "price": self.price, "energy": self.energy[child]}


def _curve(body: Mapping[str, Any]) -> Curve:
    price, energy = body.get("price"), body.get("energy")
    good = (
        isinstance(price, list | tuple)
        and isinstance(energy, list | tuple)
        and len(price) == len(energy) > 0
        and all(type(value) in (int, float) and isfinite(value) for value in (*price, *energy))
        and all(one <= other for row in (price, energy) for one, other in pairwise(row))
    )
    if not good:
        raise MalformedInput(
            "message.curve", str(body)[:80], "not a rising line", "mend the sender"
        )
    return Curve(tuple(map(float, price or ())), tuple(map(float, energy or ())))


def gateways_of(market: TreeMarket) -> list[Gateway]:
    """A gateway for each node of a market, named by its number."""
    agents: list[dict[str, Curve]] = [{} for _ in market.order]
    rows = zip(
        market.agents.a, market.agents.b, market.agents.lower, market.agents.upper, strict=True
    )
    for number, (a, b, lower, upper) in enumerate(rows):
        node = int(market.node[number])
        agents[node][f"agent {number}"] = agent_curve(
            float(a),
            float(b),
            float(lower),
            float(upper),
            float(market.access[node]),
            market.import_price,
            market.export_price,
        )
    children: list[list[str]] = [[] for _ in market.order]
    for node, above in enumerate(market.parent.tolist()):
        if above >= 0:
            children[above].append(str(node))
    return [
        Gateway(
            str(node),
            str(above) if above >= 0 else None,
            tuple(children[node]),
            agents[node],
            float(market.fee[node]),
            float(market.capacity[node]),
        )
        for node, above in enumerate(market.parent.tolist())
    ]


def solve_by_gateways(market: TreeMarket) -> tuple[TreeSolution, int]:
    """The protocol with messages handed over in this process; the result with its certificate, and how many messages it took.

    Raises:
        MalformedInput: no clearing keeps all limits.
    """
    gateways = {one.name: one for one in gateways_of(market)}
    post = [(one.name, to, body) for one in gateways.values() for to, body in one.begin()]
    messages = 0
    while post:
        sender, to, body = post.pop()
        messages += 1
        post += [(to, onward, answer) for onward, answer in gateways[to].hear(sender, body)]
    return solution_of(market, gateways), messages


def solution_of(market: TreeMarket, gateways: Mapping[str, Gateway]) -> TreeSolution:
    """What the gateways found, with its certificate."""
    traded = np.zeros(market.agents.count)
    price = np.zeros(market.order.size)
    flow = np.zeros(market.order.size)
    for node in range(market.order.size):
        one = gateways[str(node)]
        assert one.price is not None
        price[node], flow[node] = one.price, one.flow
        for name in one.agents:
            traded[int(name.removeprefix("agent "))] = one.energy[name]
    missing = np.bincount(market.node, traded, price.size) - flow
    above = market.parent >= 0
    np.add.at(missing, market.parent[above], flow[above])
    return with_outside(market, price, traded, flow, float(np.abs(missing).max()))
