"""Exact clearing where each pair of seller and buyer has a network fee of its own.

On a meshed grid the PTDF distance between two buses is no path on a graph (mechanism, section 2), so the pairs stay: with
gain_ij = r_j - f_i - gamma_ij, what a Wh from seller i to buyer j saves against both trading outside,

    maximise   sum gain_ij x_ij      subject to   sum_j x_ij <= supply_i,   sum_i x_ij <= demand_j,   x_ij >= 0
    minimise   sum supply_i u_i + sum demand_j v_j     subject to   u_i + v_j >= gain_ij,   u_i, v_j >= 0     (its dual)

The matrix is totally unimodular: integer data have an integer optimum and integer prices, and both sums are equal.
Everything here is in integers; `pair_duality_gap_nano` proves an answer over all pairs.

How: the network simplex of `kernels.pair_simplex` reads the gains row by row, sweep after sweep, until nobody can do better.
It keeps no list of candidate pairs and no more than the block of rows that it reads, so gains may come from a function.

What is canonical, that is, depends on gains, supply and demand alone:

- *Savings*: the optimum.
- *Prices*: with potentials a_i = u_i and b_j = -v_j the optimal prices form a lattice (L-natural convex; Murota, Discrete
  Convex Analysis, 2003, chapter 7), so there are a smallest and a largest one, and the floor of their midpoint is optimal.
  So a seller's price is the floor of the middle, a buyer's the ceiling. A seller without supply or a buyer without demand
  gets the least price that no pair contradicts, buyers first.
- *Flow*: one of the optimal ones, chosen from canonical prices by the rule in `pair_flow`; it follows the members' order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backend.domain.errors import ClearingFailed, OutOfRange, SolverUnavailable

from .kernels.compiling import Integers
from .kernels.pair_simplex import INTERPRETED, Loops, Tree, compiled_loops, outside_tree
from .pair_flow import Bits, canonical_flow
from .pair_gains import BLOCK_PAIRS, Gains, PairGains, integers

# Every total of energy, and every price on the way to the optimum, which is a sum of at most S + B gains, stays below.
_LIMIT = 2**62
# Compiled loops take a second to load, the first time several to compile.
_COMPILE_FROM_PAIRS = 40_000


@dataclass(frozen=True, slots=True)
class PairSolution:
    """The canonical optimum.

    Attributes:
        seller: (T,) sellers' numbers, ascending.
        buyer: (T,) buyers' numbers, ascending for each seller.
        energy_wh: (T,) above zero.
        seller_price_nano_per_wh: (S,) u: what a Wh of the seller's surplus earns beyond its outside price.
        buyer_price_nano_per_wh: (B,) v: what a Wh of the buyer's deficit costs less than its outside price.
        savings_nano: sum of gain times energy.
    """

    seller: Integers
    buyer: Integers
    energy_wh: Integers
    seller_price_nano_per_wh: Integers
    buyer_price_nano_per_wh: Integers
    savings_nano: int


def solve_pairs(
    gain_nano_per_wh: ArrayLike | PairGains,
    supply_wh: ArrayLike,
    demand_wh: ArrayLike,
    *,
    compiled: bool | None = None,
) -> PairSolution:
    """The least-cost clearing of one interval, certified over all pairs.

    Args:
        gain_nano_per_wh: (S, B) integers; or a function that takes numbers of sellers and of buyers and returns their block
            of it, which is asked for all pairs once per sweep, typically 15 to 60 times, and needs no more memory than a
            block.
        supply_wh: (S,) integers, at least 0.
        demand_wh: (B,) integers, at least 0.
        compiled: whether the loops are compiled (numba, extra `scale`); by default if there are many pairs and numba is
            installed. The answer is the same.

    Returns:
        The canonical optimum, duality gap 0.

    Raises:
        MalformedInput: not integers, or shapes that do not fit.
        OutOfRange: negative energy, total energy from 2^62 Wh, or gains from 2^62 / (S + B + 1) nano per Wh. Gains of prices
            and fees below 2^40 pass with up to 2^20 members.
        SolverUnavailable: compiled loops were asked for without numba.
        ClearingFailed: the certificate does not hold; a defect here.
    """
    supply, demand = _energies("supply_wh", supply_wh), _energies("demand_wh", demand_wh)
    gains = Gains.of(gain_nano_per_wh, supply.size, demand.size)
    selling, buying = np.flatnonzero(supply > 0), np.flatnonzero(demand > 0)
    active = gains.among(selling, buying)
    prices = np.zeros(supply.size, np.int64), np.zeros(demand.size, np.int64)
    trades = selling[:0], buying[:0], supply[:0]
    if selling.size and buying.size:
        _check_range(active)
        loops = _loops(active, compiled)
        traders = supply[selling], demand[buying]
        seller_price, buyer_price = _prices(active, *traders, loops)
        tied = _tied_pairs(active, seller_price, buyer_price)
        seller, buyer, energy = canonical_flow(tied, *traders, seller_price, buyer_price, loops)
        prices[0][selling], prices[1][buying] = seller_price, buyer_price
        trades = selling[seller], buying[buyer], energy
    _price_idle(gains, selling, buying, *prices)
    savings = _savings_nano(gains, *trades)
    solution = PairSolution(*trades, *prices, savings)
    if pair_duality_gap_nano(gain_nano_per_wh, supply, demand, solution) != 0:
        raise ClearingFailed("a pair clearing is not optimal", "report this with the case")
    return solution


def pair_duality_gap_nano(
    gain_nano_per_wh: ArrayLike | PairGains,
    supply_wh: ArrayLike,
    demand_wh: ArrayLike,
    solution: PairSolution,
) -> int:
    """How much more any other clearing could save at most, in nano; 0 proves the solution optimal.

    Looks at every pair once.

    Raises:
        ClearingFailed: more is sold or bought than there is, a price is negative, or a pair contradicts the prices.
        InputError: as `solve_pairs`.
    """
    supply, demand = _energies("supply_wh", supply_wh), _energies("demand_wh", demand_wh)
    gains = Gains.of(gain_nano_per_wh, supply.size, demand.size)
    u, v = solution.seller_price_nano_per_wh, solution.buyer_price_nano_per_wh
    fault = None
    if solution.energy_wh.min(initial=1) < 1:
        fault = "a trade without energy"
    for name, number, limit in (
        ("seller", solution.seller, supply),
        ("buyer", solution.buyer, demand),
    ):
        traded = [0] * limit.size
        for member, energy in zip(number.tolist(), solution.energy_wh.tolist(), strict=True):
            traded[member] += energy
        if any(one > most for one, most in zip(traded, limit.tolist(), strict=True)):
            fault = f"a {name} trades more than it has"
    if u.min(initial=0) < 0 or v.min(initial=0) < 0:
        fault = "a price below outside"
    elif any((block > u[rows, None] + v).any() for rows, block in gains.blocks()):
        fault = "a pair gains more than its prices"
    if fault is not None:
        raise ClearingFailed(f"not a pair clearing with prices: {fault}", "report this")
    bound = product_nano(u, supply) + product_nano(v, demand)
    return bound - _savings_nano(gains, solution.seller, solution.buyer, solution.energy_wh)


def _energies(field: str, given: ArrayLike) -> Integers:
    array = np.asarray(given)
    energies = integers(field, array, (array.size,))
    if energies.min(initial=0) < 0:
        raise OutOfRange(field, int(energies.min()), "negative", "give Wh of at least 0")
    total = sum(energies.tolist())
    if total >= _LIMIT:
        raise OutOfRange(field, total, "too large in sum", f"stay below {_LIMIT} Wh")
    return energies


def _loops(gains: Gains, compiled: bool | None) -> Loops:
    if compiled is None:
        compiled = gains.sellers * gains.buyers >= _COMPILE_FROM_PAIRS
        return (compiled_loops() if compiled else None) or INTERPRETED
    if not compiled:
        return INTERPRETED
    loops = compiled_loops()
    if loops is None:
        raise SolverUnavailable("numba is not installed", "pip install 'peerwatt[scale]'")
    return loops


def _check_range(gains: Gains) -> None:
    """Refuses gains whose sums along a path could pass 64 bits."""
    limit = (_LIMIT - 1) // (gains.sellers + gains.buyers + 1)
    for _, block in gains.blocks():
        for end in (int(block.max()), int(block.min())):
            if abs(end) > limit:
                raise OutOfRange(
                    "gain_nano_per_wh", end, "too large", f"stay within {limit} either way"
                )


def _prices(
    gains: Gains, supply: Integers, demand: Integers, loops: Loops
) -> tuple[Integers, Integers]:
    """The canonical prices, u and v. Members who gain alike with everybody pay and earn alike, so they are one."""
    first_seller, seller_group = gains.equal_rows()
    some = gains.among(first_seller, np.arange(gains.buyers))
    first_buyer, buyer_group = some.turned().equal_rows()
    some = some.among(np.arange(some.sellers), first_buyer)
    supplies, demands = np.zeros(some.sellers, np.int64), np.zeros(some.buyers, np.int64)
    np.add.at(supplies, seller_group, supply)
    np.add.at(demands, buyer_group, demand)
    u, v = _middle_prices(some, _optimal_tree(some, supplies, demands, loops))
    return u[seller_group], v[buyer_group]


def _optimal_tree(gains: Gains, supply: Integers, demand: Integers, loops: Loops) -> Tree:
    """Sweeps until a whole one changes nothing."""
    tree = outside_tree(supply, demand)
    while True:
        pivots = sum(loops.improve_rows(block, rows.start, tree) for rows, block in gains.blocks())
        if not pivots + loops.improve_outside(tree):
            return tree


def _middle_prices(gains: Gains, tree: Tree) -> tuple[Integers, Integers]:
    """The floor of the midpoint of the smallest and the largest optimal prices, as u and v.

    Nodes joined by arcs with energy on them keep their price differences in every optimum, so parts of the tree move as
    a whole: up by at most the shortest path from the outside's part, down by at most the shortest path to it, lengths
    being what a pair's prices exceed its gain by.
    """
    sellers, outside = gains.sellers, gains.sellers + gains.buyers
    part = list(range(outside + 1))
    parent, moves = tree.parent.tolist(), (tree.flow > 0).tolist()
    for node in tree.order[1:].tolist():
        if moves[node]:
            part[node] = part[parent[node]]
    parts = np.array(part, dtype=np.int64)
    u, v = tree.price[:sellers], -tree.price[sellers:outside]
    fixed = parts == outside
    up = _room(gains.block, (u, v), (parts[:sellers], parts[sellers:outside]), fixed)
    down = _room(
        gains.turned().block,
        (v, u),
        (parts[sellers:outside], parts[:sellers]),
        fixed,
    )
    shift = ((up - down) // 2)[parts]
    return u + shift[:sellers], v - shift[sellers:outside]


def _room(
    block: PairGains,
    prices: tuple[Integers, Integers],
    parts: tuple[Integers, Integers],
    fixed: NDArray[np.bool_],
) -> Integers:
    """How far each part can raise the prices of one side and lower those of the other (Dijkstra, dense).

    Args:
        block: gains of members of one side and of the other, by number.
        prices: of either side.
        parts: of either side's members.
        fixed: by part: whether it contains the outside.

    Returns:
        By part, nano per Wh.
    """
    (price, other_price), (part, other_part) = prices, parts
    room = np.zeros(fixed.size, np.int64)
    movable = np.flatnonzero(~fixed[other_part])
    if not movable.size:
        return room
    ends = other_part[movable]
    # The other side pays no less than nothing; nor does any pair gain more than its prices.
    reach = other_price[movable].copy()
    by_part = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[by_part], np.arange(fixed.size + 1)).tolist()

    def relax(members: Integers, distance: int) -> None:
        excess = price[members, None] + reach_price - block(members, movable)
        np.minimum(reach, excess.min(axis=0) + distance, out=reach)

    reach_price = other_price[movable]
    settled = np.flatnonzero(fixed[part])
    height = max(1, BLOCK_PAIRS // movable.size)
    for low in range(0, settled.size, height):
        relax(settled[low : low + height], 0)
    open_ends = np.ones(movable.size, np.bool_)
    far = np.iinfo(np.int64).max
    while open_ends.any():
        nearest = int(np.argmin(np.where(open_ends, reach, far)))
        distance, here = int(reach[nearest]), int(ends[nearest])
        room[here] = distance
        open_ends &= ends != here
        relax(by_part[starts[here] : starts[here + 1]], distance)
    return room


def _tied_pairs(gains: Gains, seller_price: Integers, buyer_price: Integers) -> Bits:
    """(S, ceil(B / 8)) packed bits: the pairs that break even."""
    tied = np.empty((gains.sellers, -(-gains.buyers // 8)), np.uint8)
    for rows, block in gains.blocks():
        tied[rows] = np.packbits(block - seller_price[rows, None] == buyer_price, axis=1)
    return tied


def _price_idle(
    gains: Gains, selling: Integers, buying: Integers, u: Integers, v: Integers
) -> None:
    """Sets the prices of those who have nothing to trade: the least that no pair contradicts, buyers first."""
    idle_sellers = np.setdiff1d(np.arange(u.size), selling, assume_unique=True)
    idle_buyers = np.setdiff1d(np.arange(v.size), buying, assume_unique=True)
    if idle_buyers.size:
        for rows, block in gains.among(selling, idle_buyers).blocks():
            worth = (block - u[selling[rows], None]).max(axis=0)
            v[idle_buyers] = np.maximum(v[idle_buyers], worth)
    if idle_sellers.size:
        for rows, block in gains.among(idle_sellers, np.arange(v.size)).blocks():
            u[idle_sellers[rows]] = (block - v).max(axis=1, initial=0)


def _savings_nano(gains: Gains, seller: Integers, buyer: Integers, energy_wh: Integers) -> int:
    return product_nano(gains.at(seller, buyer), energy_wh)


def product_nano(price: Integers, energy_wh: Integers) -> int:
    """The sum of products in Python's integers, which have no limit."""
    return sum(one * other for one, other in zip(price.tolist(), energy_wh.tolist(), strict=True))
