"""Loops of the two-sweep clearing on a tree with quadratic agents and line capacities (`p2p.sweep`).

What a part of the tree sells net is a rising function of its node's price, made of straight pieces and jumps. Above its zero it
is kept as a heap of corners by price; below as a heap by minus the price, mirrored, so that one set of loops serves both: a
side is a function that is 0 up to its first corner, and whose value changes by `jump`, its slope by `bend`, at each corner.
Skew heaps (Sleator, Tarjan 1986) merge in O(log) amortised. Keys count the fees up to the root, so that a curve passes a line as it
stands. A corner is taken off its heap only where it turns out to be on the other side of the zero, or as far as a line's capacity
reaches; what is taken off is in order, and a chain in order is a heap again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiling import Integers

Floats = NDArray[np.float64]

FAR = 1e30
# Values and slopes below this share of the largest in play are rounding.
_ROUNDING = 1e-13
_NO_SLOPE = 1e-12


def price_sweeps(
    order: Integers,
    parent: Integers,
    fee: Floats,
    capacity: Floats,
    access: Floats,
    starts: Integers,
    costs: tuple[Floats, Floats],
    limits: tuple[Floats, Floats],
    outside: tuple[float, float],
) -> tuple[Floats, float]:
    """One sweep up, merging curves, and one down, setting prices.

    Args:
        order: (V,) nodes, every parent before its children.
        parent: (V,) node above, -1 for the root.
        fee: (V,) what a unit pays between a node and its parent.
        capacity: (V,) most that crosses there, either way.
        access: (V,) what each end of a trade pays at a node.
        starts: (V + 1,) where each node's agents begin.
        costs: (N,), (N,) a and b of the agents by node.
        limits: (N,), (N,) least and most that each sells.
        outside: import and export price; infinite where there is none.

    Returns:
        (V,) prices; and the most that fees add up to between a node and the root, by which keys were moved.
    """
    nodes = order.size
    curved, first = costs
    lower, upper = limits
    # An agent has at most four corners above its zero and four below; a node adds two there and two at its line's capacity.
    # Memory that is never touched costs nothing; what belongs to a corner lies in one row, since most of the time goes to fetching it.
    room = 8 * curved.size + 4 * nodes
    corners = np.empty((room, 4))
    key, bend, jump = corners[:, 0], corners[:, 1], corners[:, 2]
    links = corners.view(np.int32)
    left, right = links[:, 6], links[:, 7]
    used = 0
    heap = np.full((nodes, 2), -1, np.int32)
    zero, limit = np.zeros((nodes, 2)), np.full((nodes, 2), FAR)
    total, depth = np.zeros((nodes, 2)), np.zeros(nodes)
    plenty = 1.0
    for agent in range(curved.size):
        plenty += 2.0 * max(abs(lower[agent]), abs(upper[agent]))
    for number in range(nodes):
        node = order[number]
        if parent[node] >= 0:
            depth[node] = depth[parent[node]] + fee[node]

    def meld(one: int, other: int) -> int:
        if one < 0:
            return other
        if other < 0:
            return one
        if key[other] < key[one]:
            one, other = other, one
        top = one
        while True:
            below = right[one]
            right[one] = left[one]
            if below < 0:
                left[one] = other
                return top
            if key[other] < key[below]:
                below, other = other, below
            left[one] = below
            one = below

    def corner(one: int, where: float, turn: float, step: float, after: int) -> int:
        """A corner in front of a chain of later ones."""
        key[one], bend[one], jump[one] = where, turn, step
        left[one], right[one] = after, -1
        return one

    for number in range(nodes - 1, -1, -1):
        node = order[number]
        deep = depth[node]
        for agent in range(starts[node], starts[node + 1]):
            for side in range(2):
                a, at_zero = curved[agent], first[agent]
                low, high, floor, ceiling = lower[agent], upper[agent], outside[1], outside[0]
                if side == 1:
                    at_zero, low, high = -at_zero, -high, -low
                    floor, ceiling = -outside[0], -outside[1]
                if high <= 0.0:
                    continue
                moved = access[node] + deep
                least, floor = max(low, 0.0), max(floor, -FAR)
                total[node, side] += high
                chain = -1
                # Whoever does both resells without limit what outside trades.
                if low < 0.0 and ceiling < np.inf:
                    total[node, side] += plenty
                    chain = corner(used, ceiling + moved, 0.0, plenty, -1)
                    used += 1
                # At the price outside pays, whatever was sold there before comes in at once.
                there = least
                if a > 0.0:
                    start, end, slope = at_zero + a * least, at_zero + a * high, 1.0 / a
                    if floor > start:
                        there = min((floor - at_zero) / a, high)
                    if end > floor:
                        late = corner(used, end + moved, -slope, 0.0, -1)
                        used += 1
                        late = corner(used, max(start, floor) + moved, slope, 0.0, late)
                        used += 1
                        chain = meld(chain, late)
                elif at_zero <= floor:
                    there = high
                elif high > least:
                    late = corner(used, at_zero + moved, 0.0, high - least, -1)
                    used += 1
                    chain = meld(chain, late)
                if there > 0.0:
                    chain = corner(used, floor + moved, 0.0, there, chain)
                    used += 1
                heap[node, side] = meld(heap[node, side], chain)

        # Both sides from their own zero towards the node's. Each has a place, a value and a slope there, and perhaps a jump
        # at that place that it has not made. What it leaves behind it is on the other side of the zero: mirrored, its bend turns
        # round, in a chain of its own, the nearest first.
        up, down = heap[node, 0], heap[node, 1]
        behind_up, behind_down, rising, falling = -1, -1, -1, -1
        here, sold, steep = -FAR, 0.0, 0.0
        there, bought, slant = FAR, 0.0, 0.0
        while True:
            if rising >= 0:
                next_up, sold_next = here, sold + jump[rising]
            elif up >= 0:
                next_up = key[up] - deep
                sold_next = sold + steep * (next_up - here)
            else:
                next_up, sold_next, steep = FAR, sold, 0.0
            if falling >= 0:
                next_down, bought_next = there, bought + jump[falling]
            elif down >= 0:
                next_down = deep - key[down]
                bought_next = bought + slant * (there - next_down)
            else:
                next_down, bought_next, slant = -FAR, bought, 0.0
            low, high = max(here, next_down), min(there, next_up)
            onwards = 0
            if next_up < next_down:
                # Whoever has less at its next corner cannot pass the zero by going there.
                onwards = 1 if sold_next <= bought_next else 2
            else:
                sold_low, sold_high = sold, sold
                if rising < 0 and steep != 0.0:
                    sold_low += steep * (low - here)
                    sold_high += steep * (high - here)
                bought_low, bought_high = bought, bought
                if falling < 0 and slant != 0.0:
                    bought_low += slant * (there - low)
                    bought_high += slant * (there - high)
                if rising >= 0:
                    sold_high = sold_next
                if falling >= 0:
                    bought_low = bought_next
                slack = _ROUNDING * max(abs(sold_high), abs(bought_low), 1e-300)
                surplus_low, surplus_high = sold_low - bought_low, sold_high - bought_high
                if next_up <= there and (
                    surplus_high < -slack or (rising >= 0 and surplus_high <= slack)
                ):
                    onwards = 1
                elif next_down >= here and (
                    surplus_low > slack or (falling >= 0 and surplus_low >= -slack)
                ):
                    onwards = 2
            if onwards == 0:
                break
            if onwards == 1:
                if rising < 0 and up < 0:
                    low = high
                    break
                sold, here = sold_next, next_up
                if rising < 0:
                    rising = up
                    up = meld(left[up], right[up])
                    if jump[rising] > 0.0:
                        continue
                steep += bend[rising]
                if abs(steep) <= _NO_SLOPE * abs(bend[rising]):
                    steep = 0.0
                key[rising], bend[rising] = 2.0 * deep - key[rising], -bend[rising]
                left[rising], right[rising] = behind_up, -1
                behind_up, rising = rising, -1
            else:
                if falling < 0 and down < 0:
                    high = low
                    break
                bought, there = bought_next, next_down
                if falling < 0:
                    falling = down
                    down = meld(left[down], right[down])
                    if jump[falling] > 0.0:
                        continue
                slant += bend[falling]
                if abs(slant) <= _NO_SLOPE * abs(bend[falling]):
                    slant = 0.0
                key[falling], bend[falling] = 2.0 * deep - key[falling], -bend[falling]
                left[falling], right[falling] = behind_down, -1
                behind_down, falling = falling, -1

        bend_up = bend_down = steep + slant
        jump_up = jump_down = 0.0
        if rising >= 0 or falling >= 0:
            # The zero is within a jump, whose corner is divided.
            low = high = here if rising >= 0 else there
            jump_up, jump_down = max(0.0, surplus_high), max(0.0, -surplus_low)
            if rising >= 0:
                bend_up += bend[rising]
            if falling >= 0:
                bend_down += bend[falling]
        elif surplus_high - surplus_low <= slack:
            if high > low:
                bend_up = bend_down = 0.0
        else:
            point = low - surplus_low * (high - low) / (surplus_high - surplus_low)
            low = high = min(max(point, low), high)
        zero[node, 0], zero[node, 1] = high, low
        if bend_up != 0.0 or jump_up != 0.0:
            behind_down = corner(used, high + deep, bend_up, jump_up, behind_down)
            used += 1
        if bend_down != 0.0 or jump_down != 0.0:
            behind_up = corner(used, deep - low, bend_down, jump_down, behind_up)
            used += 1
        heap[node, 0], heap[node, 1] = meld(up, behind_down), meld(down, behind_up)

        above = parent[node]
        if above < 0:
            continue
        most = capacity[node]
        for side in range(2):
            top = heap[node, side]
            if total[node, side] > most:
                limit[node, side] = high if side == 0 else -low
                kept, last = -1, -1
                at, value, slope = -FAR, 0.0, 0.0
                # The corners up to the capacity, which is where the curve ends. Where nothing passes, none.
                while most > 0.0 and top >= 0:
                    ahead = key[top] - deep
                    reach = value + slope * (ahead - at)
                    if reach >= most:
                        break
                    following = meld(left[top], right[top])
                    left[top], right[top] = -1, -1
                    if last < 0:
                        kept = top
                    else:
                        left[last] = top
                    last = top
                    value, at = reach + jump[top], ahead
                    if value >= most:
                        jump[top] -= value - most
                        bend[top] = -slope
                        slope = 0.0
                        break
                    slope += bend[top]
                    if abs(slope) <= _NO_SLOPE * abs(bend[top]):
                        slope = 0.0
                    top = following
                if last >= 0:
                    if value < most:
                        if slope > 0.0:
                            at += (most - value) / slope
                        left[last] = corner(used, at + deep, -slope, 0.0, -1)
                        used += 1
                    limit[node, side] = at
                top, total[node, side] = kept, most
            if top >= 0:
                heap[above, side] = meld(heap[above, side], top)
            total[above, side] += total[node, side]

    price = np.zeros(nodes)
    for number in range(nodes):
        node = order[number]
        above = parent[node]
        if above < 0:
            # Where several prices balance the root, the usual marginal cost.
            usual = np.median(first) if zero[node, 1] < zero[node, 0] else zero[node, 0]
            price[node] = min(max(usual, zero[node, 1]), zero[node, 0])
        elif price[above] - fee[node] > zero[node, 0]:
            price[node] = min(price[above] - fee[node], limit[node, 0])
        elif price[above] + fee[node] < zero[node, 1]:
            price[node] = max(price[above] + fee[node], -limit[node, 1])
        else:
            price[node] = min(max(price[above], zero[node, 1]), zero[node, 0])
    return price, np.abs(depth).max()
