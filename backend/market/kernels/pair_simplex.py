"""Network simplex for sellers and buyers who may trade with anyone, each pair at a gain of its own.

Nodes are sellers 0..S-1, buyers S..S+B-1 and the outside, S+B, which takes what sellers keep and serves what buyers lack at
gain 0. A basis is a spanning tree rooted at the outside; energy moves on its arcs alone. Node prices make every tree arc
break even: price[seller] - price[buyer] = gain, price[outside] = 0. An arc that would more than break even enters the tree,
and the arc that it empties leaves (Ahuja, Magnanti, Orlin, Network Flows, 1993, chapter 11).

- No arc has a capacity and every arc leads from a seller's side to a buyer's, so only a seller's arc to its parent can be
  emptied on the seller's side of the cycle, only a buyer's on the other: a node's kind says which way its arc points.
- Empty arcs always point to the root (Cunningham 1976, strongly feasible trees): there is no cycling.
- The tree is kept as its preorder in an array, so that the part that moves is a slice (cf. the threaded trees of Barr,
  Glover, Klingman 1979): what a pivot costs is copying, which both NumPy and a compiler do fast.
- Rows are priced one after another, each row's best arc entering at once (the row rule of the transportation simplex):
  prices are never stale, so neither ties nor a poor start cost many sweeps, and a row is read in memory's order.

The source runs as it stands, in NumPy, and compiled; both take the same arcs in the same order. `compiled_loops` swaps two
functions for plain loops, which is what a compiler is good at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, cast

import numpy as np

from .compiling import Integers, kernel


class Tree(NamedTuple):
    """A basis. Node counts N = S + B + 1; index S + B is the outside.

    Attributes:
        sellers: S.
        parent: (N,) node; the outside's own is never read.
        size: (N,) nodes in the subtree, itself included.
        order: (N,) nodes in preorder.
        place: (N,) position in `order`.
        flow: (N,) Wh on the arc between a node and its parent, always from the seller's side to the buyer's.
        price: (N,) nano per Wh.
        moved: (N,) scratch: the part of the preorder that is being moved.
    """

    sellers: int
    parent: Integers
    size: Integers
    order: Integers
    place: Integers
    flow: Integers
    price: Integers
    moved: Integers


def outside_tree(supply_wh: Integers, demand_wh: Integers) -> Tree:
    """The basis in which everybody trades with the outside.

    Args:
        supply_wh: (S,) above zero.
        demand_wh: (B,) above zero: an empty arc to a buyer would point away from the root.
    """
    outside = supply_wh.size + demand_wh.size
    nodes = outside + 1
    size = np.ones(nodes, np.int64)
    size[outside] = nodes
    order = np.roll(np.arange(nodes, dtype=np.int64), 1)
    place = np.roll(np.arange(nodes, dtype=np.int64), -1)
    place[outside] = 0
    place[:outside] = np.arange(1, nodes)
    return Tree(
        sellers=supply_wh.size,
        parent=np.full(nodes, outside, np.int64),
        size=size,
        order=order,
        place=place,
        flow=np.concatenate([supply_wh, demand_wh, np.zeros(1, np.int64)]),
        price=np.zeros(nodes, np.int64),
        moved=np.empty(nodes, np.int64),
    )


def improve_rows(gain: Integers, first: int, tree: Tree) -> int:
    """One sweep over a block of sellers: whoever can gain with some buyer or outside, does, with the best of them.

    Args:
        gain: (rows, B) nano per Wh, C order.
        first: the seller of the first row.
        tree: changed in place.

    Returns:
        Pivots made.
    """
    outside = tree.price.size - 1
    offer = tree.price[tree.sellers : outside]
    pivots = 0
    for row in range(gain.shape[0]):
        seller = first + row
        best = highest(gain[row], offer)
        if best < 0:
            if tree.price[seller] < 0:
                enter(seller, outside, 0, tree)
                pivots += 1
        elif best > tree.price[seller]:
            buyer = position(gain[row], offer, best)
            enter(seller, tree.sellers + buyer, gain[row, buyer], tree)
            pivots += 1
    return pivots


def improve_lists(start: Integers, buyer: Integers, gain: Integers, tree: Tree) -> int:
    """As `improve_rows` for all sellers, who know few buyers each.

    Args:
        start: (S + 1,) where each seller's list begins in the next two.
        buyer: (pairs,) from 0.
        gain: (pairs,) nano per Wh.
        tree: changed in place.

    Returns:
        Pivots made.
    """
    outside = tree.price.size - 1
    offer = tree.price[tree.sellers : outside]
    pivots = 0
    for seller in range(tree.sellers):
        low, high = start[seller], start[seller + 1]
        if low == high:
            continue
        bids = gain[low:high] + offer[buyer[low:high]]
        chosen = low + np.argmax(bids)
        best = bids[chosen - low]
        if best < 0:
            if tree.price[seller] < 0:
                enter(seller, outside, 0, tree)
                pivots += 1
        elif best > tree.price[seller]:
            enter(seller, tree.sellers + buyer[chosen], gain[chosen], tree)
            pivots += 1
    return pivots


def improve_outside(tree: Tree) -> int:
    """Buyers who pay more than outside go there. Returns the pivots made."""
    outside = tree.price.size - 1
    pivots = 0
    for buyer in range(tree.sellers, outside):
        if tree.price[buyer] > 0:
            enter(outside, buyer, 0, tree)
            pivots += 1
    return pivots


def highest(gain: Integers, offer: Integers) -> int:
    """The largest of gain + offer."""
    return cast(int, np.max(gain + offer))


def position(gain: Integers, offer: Integers, best: int) -> int:
    """The first place where gain + offer is `best`, its largest value."""
    return cast(int, np.argmax(gain + offer))


def enter(seller: int, buyer: int, gain: int, tree: Tree) -> None:
    """The arc from seller to buyer (either may be the outside) enters the tree; the arc that blocks it leaves."""
    parent, size, flow, price = tree.parent, tree.size, tree.flow, tree.price
    leaving, join = blocking(seller, buyer, tree)
    amount = flow[leaving]
    node = seller
    while node != join:
        flow[node] += -amount if node < tree.sellers else amount
        node = parent[node]
    node = buyer
    while node != join:
        flow[node] += amount if node < tree.sellers else -amount
        node = parent[node]
    # The part below the leaving arc is hung up again by the entering arc; its prices move so that this breaks even.
    shift = gain + price[buyer] - price[seller]
    if leaving < tree.sellers:
        top, above = seller, buyer
    else:
        top, above = buyer, seller
        shift = -shift
    count = size[leaving]
    reorder(top, leaving, tree)
    node = parent[leaving]
    while node != join:
        size[node] -= count
        node = parent[node]
    node = above
    while node != join:
        size[node] += count
        node = parent[node]
    # From the new top down to the leaving arc, parents become children.
    node, new_parent, new_flow, outer = top, above, amount, count - count
    while True:
        old_parent, old_flow, old_size = parent[node], flow[node], size[node]
        parent[node] = new_parent
        flow[node] = new_flow
        size[node] = count - outer
        if node == leaving:
            break
        node, new_parent, new_flow, outer = old_parent, node, old_flow, old_size
    relocate(tree.place[leaving], tree.place[above] + 1, count, shift, tree)


def blocking(seller: int, buyer: int, tree: Tree) -> tuple[int, int]:
    """The node whose arc to its parent is the last to block the cycle, seen from where the cycle's two sides meet.

    Returns:
        That node, and the node where the sides meet.
    """
    parent, size, flow, sellers = tree.parent, tree.size, tree.flow, tree.sellers
    leaving = -1
    one, other = seller, buyer
    while one != other:
        # Whichever is the smaller subtree cannot contain the other.
        if size[one] < size[other]:
            if one < sellers and (leaving < 0 or flow[one] < flow[leaving]):
                leaving = one
            one = parent[one]
        else:
            if other >= sellers and (leaving < 0 or flow[other] <= flow[leaving]):
                leaving = other
            other = parent[other]
    return leaving, one


def reorder(top: int, leaving: int, tree: Tree) -> None:
    """Writes the preorder of the part below the leaving arc, as seen from its new top, to `moved`."""
    parent, size, order, place, moved = tree.parent, tree.size, tree.order, tree.place, tree.moved
    done = size[top]
    moved[:done] = order[place[top] : place[top] + done]
    child = top
    while child != leaving:
        node = parent[child]
        start, end = place[node], place[node] + size[node]
        before, after = place[child] - start, place[child] + size[child]
        moved[done : done + before] = order[start : start + before]
        done += before
        moved[done : done + end - after] = order[after:end]
        done += end - after
        child = node


def relocate(old: int, new: int, count: int, shift: int, tree: Tree) -> None:
    """Takes `count` nodes out of the preorder at `old`, puts `moved` in before `new`, and shifts their prices."""
    order, moved = tree.order, tree.moved[:count]
    if new <= old:
        order[new + count : old + count] = order[new:old].copy()
        order[new : new + count] = moved
        low, high = new, old + count
    else:
        order[old : new - count] = order[old + count : new].copy()
        order[new - count : new] = moved
        low, high = old, new
    tree.place[order[low:high]] = np.arange(low, high)
    tree.price[moved] += shift


def _highest_loop(gain: Integers, offer: Integers) -> int:
    best: int = gain[0] + offer[0]
    for place in range(1, gain.size):
        best = max(best, gain[place] + offer[place])
    return best


def _position_loop(gain: Integers, offer: Integers, best: int) -> int:
    place = 0
    while gain[place] + offer[place] != best:
        place += 1
    return place


def _relocate_loop(old: int, new: int, count: int, shift: int, tree: Tree) -> None:
    order, place, price, moved = tree.order, tree.place, tree.price, tree.moved
    start = new
    if new <= old:
        for at in range(old - 1, new - 1, -1):
            node = order[at]
            order[at + count] = node
            place[node] = at + count
    else:
        for at in range(old + count, new):
            node = order[at]
            order[at - count] = node
            place[node] = at - count
        start = new - count
    for at in range(count):
        node = moved[at]
        order[start + at] = node
        place[node] = start + at
        price[node] += shift


class Loops(NamedTuple):
    """The three sweeps, interpreted or compiled."""

    improve_rows: Callable[[Integers, int, Tree], int]
    improve_lists: Callable[[Integers, Integers, Integers, Tree], int]
    improve_outside: Callable[[Tree], int]


INTERPRETED = Loops(improve_rows, improve_lists, improve_outside)


@cache
def compiled_loops() -> Loops | None:
    """The sweeps compiled by numba; None where numba is not installed."""
    try:
        from numba.extending import overload, register_jitable
    except ImportError:
        return None
    for function in (enter, blocking, reorder):
        register_jitable(function)
    overload(highest, strict=False)(lambda gain, offer: _highest_loop)
    overload(position, strict=False)(lambda gain, offer, best: _position_loop)
    overload(relocate, strict=False)(lambda old, new, count, shift, tree: _relocate_loop)
    return Loops(*(kernel(function, compiled=True) for function in INTERPRETED))
