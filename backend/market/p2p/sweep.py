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
from backend.market.kernels.quantities import agent_ranges, tree_proof, tree_quantities

from .problem import Agents, Floats, Indices

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
    tree = market.order, market.parent, market.fee, market.capacity
    outside = market.import_price, market.export_price
    order, starts = _by_node(market)
    agents = market.agents.part(order)
    costs, limits = (agents.a, agents.b), (agents.lower, agents.upper)
    price, moved = kernel(price_sweeps, compiled=compiled)(
        *tree, market.access, starts, costs, limits, outside
    )
    known = np.abs(price)
    # Prices are right to the last digits of what they were moved by.
    near = 1e-12 * max(float(known[known < FAR / 2].max(initial=1.0)), moved)
    least, most = kernel(agent_ranges, compiled=compiled)(
        starts, price, near, market.access, costs, limits, outside
    )
    sold, flow, missing = kernel(tree_quantities, compiled=compiled)(
        *tree, price, near, starts, least, most
    )
    traded = np.empty(agents.count)
    traded[order] = sold
    return with_outside(market, price, traded, flow, float(missing), compiled=compiled)


def _by_node(market: TreeMarket) -> tuple[Indices, Indices]:
    """(N,) agents in the order of their nodes, and (V + 1,) where each node's begin."""
    starts = np.zeros(market.access.size + 1, np.int64)
    np.cumsum(np.bincount(market.node, minlength=market.access.size), out=starts[1:])
    return np.argsort(market.node, kind="stable"), starts


def with_outside(
    market: TreeMarket,
    node_price: Floats,
    traded: Floats,
    flow: Floats,
    missing: float,
    *,
    compiled: bool = False,
) -> TreeSolution:
    """Adds what each agent does outside, and the certificate."""
    agents = market.agents
    price, imported, exported, cost, bound, broken = kernel(tree_proof, compiled=compiled)(
        market.parent,
        market.fee,
        market.capacity,
        market.access,
        market.node,
        node_price,
        (agents.a, agents.b),
        (agents.lower, agents.upper),
        (market.import_price, market.export_price),
        traded,
        flow,
    )
    size = max(1.0, float(np.abs(traded).max(initial=0.0)))
    residual = max(missing, float(broken)) / size
    if not residual < 1e-6 or not np.isfinite(price).all():
        raise MalformedInput(
            "agents",
            missing,
            "no clearing keeps all limits: this much is left over or missing",
            "widen a limit or a line, or give `outside`",
        )
    return TreeSolution(
        node_price, price, traded, imported, exported, flow, float(cost), float(bound), residual
    )
