"""Tariffs on a tree: the exact optimum in two sweeps (piecewise linear curves up, prices down), lines with capacities included.

A trade pays the access fee at both ends and the fee of each line on its path, so all that a part of the tree has to tell the rest
is its curve: how much it sells net at each price. The node's price is then its parent's, moved by the line's fee in the direction
of the flow, until the line is full (mechanism, section 2; Johnson 2013 and Kolmogorov et al. 2016 for the same recursion in
total-variation problems on chains and trees). With one node it is the community manager's market, sum q_n = 0: one scalar price.

Prices settle everything but ties; `_quantities` settles those, so that energy balances and limits hold exactly as far as
floating-point numbers add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.domain.errors import MalformedInput
from backend.market.kernels.compiling import kernel
from backend.market.kernels.curves import FAR, price_sweeps
from backend.market.kernels.quantities import tree_quantities

from .problem import Agents, Floats, Indices, sums

# Below this many agents plain loops are quicker than loading compiled ones.
_COMPILE_FROM_AGENTS = 300


@dataclass(frozen=True, slots=True, eq=False)
class TreeMarket:
    """Agents at the nodes of a tree.

    Attributes:
        agents: N of them.
        node: (N,) where each is.
        access: (V,) what each end of a trade pays there per unit.
        order: (V,) nodes, each parent before its children.
        parent: (V,) the node above, -1 for the root.
        fee: (V,) what a unit pays on the line to the parent, both sides together.
        capacity: (V,) most that crosses that line; infinite if it has no limit.
        import_price: of a unit bought outside; infinite where there is no outside.
        export_price: of a unit sold outside; minus infinity where there is none.
    """

    agents: Agents
    node: Indices
    access: Floats
    order: Indices
    parent: Indices
    fee: Floats
    capacity: Floats
    import_price: float = np.inf
    export_price: float = -np.inf

    @classmethod
    def single(
        cls,
        agents: Agents,
        access_fee: float,
        import_price: float = np.inf,
        export_price: float = -np.inf,
    ) -> TreeMarket:
        """All at one node."""
        return cls(
            agents,
            np.zeros(agents.count, np.int64),
            np.array([access_fee]),
            np.zeros(1, np.int64),
            np.full(1, -1, np.int64),
            np.zeros(1),
            np.full(1, np.inf),
            import_price,
            export_price,
        )


@dataclass(frozen=True, slots=True, eq=False)
class TreeSolution:
    """The optimum and its proof.

    Attributes:
        node_price: (V,)
        price: (N,) each agent's price, access fee apart.
        traded: (N,) net energy sold (bought, if negative) within the market.
        imported: (N,) bought outside.
        exported: (N,) sold outside.
        flow: (V,) over the line to the parent, positive upwards.
        cost: the objective.
        bound: no clearing costs less.
        residual: energy that does not balance, relative to the largest traded.
    """

    node_price: Floats
    price: Floats
    traded: Floats
    imported: Floats
    exported: Floats
    flow: Floats
    cost: float
    bound: float
    residual: float

    @property
    def gap(self) -> float:
        """Relative to the larger of both and 1."""
        return (self.cost - self.bound) / max(1.0, abs(self.cost), abs(self.bound))

    @property
    def power(self) -> Floats:
        """(N,) P_n."""
        return self.traded - self.imported + self.exported


def solve_tree(market: TreeMarket, *, compiled: bool | None = None) -> TreeSolution:
    """The optimum in two sweeps.

    Args:
        market: N agents at V nodes.
        compiled: whether the loops are compiled (numba, extra `scale`); by default from some hundred agents on.

    Raises:
        MalformedInput: no clearing keeps all limits.
    """
    if compiled is None:
        compiled = market.agents.count + market.order.size >= _COMPILE_FROM_AGENTS
    sides = [_corners(market, side) for side in (0, 1)]
    node, key, bend, jump = (
        np.concatenate(parts) for parts in zip(*[s[:4] for s in sides], strict=True)
    )
    corner_side = np.repeat(np.arange(2), [sides[0][0].size, sides[1][0].size])
    total = np.stack([sides[0][4], sides[1][4]])
    prices = kernel(price_sweeps, compiled=compiled)(
        market.order,
        market.parent,
        market.fee,
        market.capacity,
        node,
        corner_side,
        key,
        bend,
        jump,
        total,
        float(np.median(market.agents.b)),
    )
    return _settle(market, prices, compiled)


def _corners(market: TreeMarket, side: int) -> tuple[Indices, Floats, Floats, Floats, Floats]:
    """Corners of what the agents sell by price (side 0), or buy by minus the price (side 1): node, key, bend, jump; and where the sums end."""
    agents = market.agents
    if side == 0:
        b, lower, upper = agents.b, agents.lower, agents.upper
        floor, ceiling = market.export_price, market.import_price
    else:
        b, lower, upper = -agents.b, -agents.upper, -agents.lower
        floor, ceiling = -market.import_price, -market.export_price
    able = np.flatnonzero(upper > 0)
    a, b, lower, upper = agents.a[able], b[able], lower[able], upper[able]
    least = np.maximum(lower, 0.0)
    access = market.access[market.node[able]]
    low_key = np.full(able.size, max(floor, -FAR))
    start, end = b + a * least, b + a * upper
    first = np.maximum(start, low_key)
    bent = (a > 0) & (end > low_key)
    slope = np.where(bent, 1.0 / np.where(a > 0, a, 1.0), 0.0)
    # At the price outside pays, whatever was sold there before comes in at once.
    there = np.where(
        a > 0,
        np.clip((low_key - b) / np.where(a > 0, a, 1.0), least, upper),
        np.where(b <= low_key, upper, least),
    )
    late = (a == 0) & (b > low_key)
    keys, bends = [low_key, first, end], [np.zeros(able.size), slope, -slope]
    jumps = [there, np.zeros(able.size), np.where(late, upper - least, 0.0)]
    keys[2] = np.where(late, b, keys[2])
    total = sums(market.node[able], upper, market.access.size)
    owners = [able, able, able]
    if np.isfinite(ceiling):
        # Whoever can buy too resells without limit what outside sells.
        both = lower < 0
        plenty = 1.0 + 2.0 * float(np.maximum(np.abs(agents.lower), np.abs(agents.upper)).sum())
        owners.append(able[both])
        keys.append(np.full(int(both.sum()), ceiling))
        bends.append(np.zeros(int(both.sum())))
        jumps.append(np.full(int(both.sum()), plenty))
        access = np.concatenate([access, access, access, access[both]])
        weights = np.full(int(both.sum()), plenty)
        total = total + np.bincount(market.node[able[both]], weights, market.access.size)
    else:
        access = np.concatenate([access, access, access])
    owner = np.concatenate(owners)
    key, bend, jump = (np.concatenate(parts) for parts in (keys, bends, jumps))
    real = (bend != 0) | (jump != 0)
    return market.node[owner][real], (key + access)[real], bend[real], jump[real], total


def _settle(market: TreeMarket, node_price: Floats, compiled: bool) -> TreeSolution:
    """Quantities at the prices, and the bound that the prices prove."""
    agents = market.agents
    scale = max(1.0, float(np.abs(node_price[np.abs(node_price) < FAR / 2]).max(initial=1.0)))
    near = 1e-12 * scale
    here, access = node_price[market.node], market.access[market.node]
    least = _range_end(market, here, access, -near)
    most = _range_end(market, here, access, near)
    ahead, back = _line_differences(market, node_price)
    line_least = np.where(
        ahead > near, market.capacity, np.where(back >= -near, -market.capacity, 0.0)
    )
    line_most = np.where(
        back > near, -market.capacity, np.where(ahead >= -near, market.capacity, 0.0)
    )
    order = np.argsort(market.node, kind="stable")
    starts = np.searchsorted(market.node[order], np.arange(market.access.size + 1))
    traded_sorted, flow, missing = kernel(tree_quantities, compiled=compiled)(
        market.order, market.parent, line_least, line_most, starts, least[order], most[order]
    )
    traded = np.empty(agents.count)
    traded[order] = traded_sorted
    return with_outside(market, node_price, traded, flow, float(missing))


def _line_differences(market: TreeMarket, node_price: Floats) -> tuple[Floats, Floats]:
    """By how much prices differ along each line beyond its fee, upwards and downwards."""
    above = np.where(market.parent >= 0, node_price[market.parent], node_price)
    return above - node_price - market.fee, node_price - above - market.fee


def _range_end(market: TreeMarket, here: Floats, access: Floats, offset: float) -> Floats:
    """(N,) what agents sell net within the market at prices moved by an offset."""
    agents = market.agents
    selling, buying = here - access + offset, here + access + offset
    sold = np.maximum(agents.response(selling), 0.0)
    sold[(selling < market.export_price) | (agents.upper <= 0)] = 0.0
    bought = np.minimum(agents.response(buying), 0.0)
    bought[(buying > market.import_price) | (agents.lower >= 0)] = 0.0
    both = (agents.upper > 0) & (agents.lower < 0)
    plenty = 1.0 + 2.0 * float(np.maximum(np.abs(agents.lower), np.abs(agents.upper)).sum())
    sold[both & (selling > market.import_price)] += plenty
    bought[both & (buying < market.export_price)] -= plenty
    return sold + bought


def with_outside(
    market: TreeMarket, node_price: Floats, traded: Floats, flow: Floats, missing: float
) -> TreeSolution:
    """Adds what each agent does outside, and the certificate."""
    agents = market.agents
    here, access = node_price[market.node], market.access[market.node]
    can_sell, can_buy = agents.upper > 0, agents.lower < 0
    imported, exported = agents.outside(traded, market.import_price, market.export_price)
    low, high = np.full(agents.count, -np.inf), np.full(agents.count, np.inf)
    low[can_sell] = (here - access)[can_sell]
    high[can_buy] = (here + access)[can_buy]
    if np.isfinite(market.import_price):
        low[can_sell] = np.maximum(low[can_sell], market.export_price)
        high[can_buy] = np.minimum(high[can_buy], market.import_price)
    still = np.where(agents.lower > 0, -np.inf, np.where(agents.upper < 0, np.inf, agents.b))
    price = np.clip(still, low, np.maximum(low, high))
    ahead, back = _line_differences(market, node_price)
    beyond = np.maximum(ahead, back)
    # Lines without a limit keep prices within the fee, to the last digit of a subtraction.
    full = np.isfinite(market.capacity) & (beyond > 0)
    power = traded - imported + exported
    broken = float(np.maximum(agents.lower - power, power - agents.upper).max(initial=0.0))
    size = max(1.0, float(np.abs(traded).max(initial=0.0)))
    residual = max(missing, broken) / size
    if not residual < 1e-6 or not np.isfinite(price).all():
        raise MalformedInput(
            "agents",
            missing,
            "no clearing keeps all limits: this much is left over or missing",
            "widen a limit or a line, or give `outside`",
        )
    cost = (
        float(agents.cost(power).sum() + (access * np.abs(traded)).sum())
        + float((market.fee * np.abs(flow)).sum())
        + (market.import_price * float(imported.sum()) if imported.any() else 0.0)
        - (market.export_price * float(exported.sum()) if exported.any() else 0.0)
    )
    bound = float(agents.gain(price).sum()) - float((market.capacity[full] * beyond[full]).sum())
    return TreeSolution(node_price, price, traded, imported, exported, flow, cost, bound, residual)
