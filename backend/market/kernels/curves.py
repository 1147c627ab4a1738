"""Loops of the two-sweep clearing on a tree with quadratic agents and line capacities (`p2p.sweep`).

What a part of the tree sells net is a rising function of its node's price, made of straight pieces and jumps. Above its zero it
is kept as a heap of corners by price; below as a heap by minus the price, mirrored, so that one set of loops serves both: a
side is a function that is 0 up to its first corner, and whose value changes by `jump`, its slope by `bend`, at each corner.
Skew heaps (Sleator, Tarjan 1986) with lazy shifts merge in O(log) amortised. A corner is taken off its heap only where it turns out
to be on the other side of the zero, or beyond a line's capacity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiling import Integers

Floats = NDArray[np.float64]

FAR = 1e30
# Values and slopes below this share of the largest in play are rounding.
_ROUNDING = 1e-13


def price_sweeps(
    order: Integers,
    parent: Integers,
    fee: Floats,
    capacity: Floats,
    corner_node: Integers,
    corner_side: Integers,
    corner_key: Floats,
    corner_bend: Floats,
    corner_jump: Floats,
    total: Floats,
    root_price: float,
) -> Floats:
    """One sweep up, merging curves, and one down, setting prices.

    Args:
        order: (V,) nodes, every parent before its children.
        parent: (V,) node above, -1 for the root.
        fee: (V,) what a unit pays between a node and its parent.
        capacity: (V,) most that crosses there, either way.
        corner_node: (K,) node of each corner of an agent's curve.
        corner_side: (K,) 0 above the agent's zero, 1 below.
        corner_key: (K,) price, or minus the price below.
        corner_bend: (K,) change of slope.
        corner_jump: (K,) change of value, at least 0.
        total: (2, V) where both sides of the agents at a node end.
        root_price: the root's price where several balance it.

    Returns:
        (V,) prices.
    """
    nodes, corners = order.size, corner_key.size
    # Each node adds two corners at its zero and two at its line's capacity. Memory that is never touched costs nothing.
    room = corners + 4 * nodes
    key, bend, jump = np.empty(room), np.empty(room), np.empty(room)
    key[:corners], bend[:corners], jump[:corners] = corner_key, corner_bend, corner_jump
    left, right = np.empty(room, np.int64), np.empty(room, np.int64)
    lazy = np.empty(room)
    left[:corners], right[:corners], lazy[:corners] = -1, -1, 0.0
    used = corners
    heap = np.full((2, nodes), -1, np.int64)
    # Corners taken off while looking for a zero: of either side, with the state before each.
    taken = np.empty((2, room), np.int64)
    before = np.empty((2, room, 3))
    zero, limit = np.zeros((2, nodes)), np.full((2, nodes), FAR)
    at, value, slope = np.zeros(2), np.zeros(2), np.zeros(2)
    count = np.zeros(2, np.int64)

    def meld(one: int, other: int) -> int:
        if one < 0:
            return other
        if other < 0:
            return one
        if key[other] < key[one]:
            one, other = other, one
        top = one
        while True:
            shift = lazy[one]
            if shift != 0.0:
                if left[one] >= 0:
                    key[left[one]] += shift
                    lazy[left[one]] += shift
                if right[one] >= 0:
                    key[right[one]] += shift
                    lazy[right[one]] += shift
                lazy[one] = 0.0
            below = right[one]
            right[one] = left[one]
            if below < 0:
                left[one] = other
                return top
            if key[other] < key[below]:
                below, other = other, below
            left[one] = below
            one = below

    def rest(top: int) -> int:
        """The heap without its top, which stays as a heap of its own."""
        one, other, shift = left[top], right[top], lazy[top]
        if shift != 0.0:
            if one >= 0:
                key[one] += shift
                lazy[one] += shift
            if other >= 0:
                key[other] += shift
                lazy[other] += shift
        left[top], right[top], lazy[top] = -1, -1, 0.0
        return meld(one, other)

    for corner in range(corners):
        side, node = corner_side[corner], corner_node[corner]
        heap[side, node] = meld(heap[side, node], corner)

    for number in range(nodes - 1, -1, -1):
        node = order[number]
        for side in range(2):
            at[side], value[side], slope[side], count[side] = -FAR, 0.0, 0.0, 0
        # Take corners off both sides, always where less has gathered, until the two no longer overlap.
        while heap[0, node] >= 0 and heap[1, node] >= 0:
            if key[heap[0, node]] >= -key[heap[1, node]]:
                break
            side = 0 if value[0] <= value[1] else 1
            top = heap[side, node]
            place = count[side]
            taken[side, place] = top
            before[side, place, 0] = at[side]
            before[side, place, 1] = value[side]
            before[side, place, 2] = slope[side]
            count[side] = place + 1
            if value[side] != 0.0 or slope[side] != 0.0:
                value[side] += slope[side] * (key[top] - at[side])
            value[side] += jump[top]
            slope[side] += bend[top]
            at[side] = key[top]
            heap[side, node] = rest(top)
        # Walk to the zero: left end and right end of where both sides are straight and known.
        zero_jump_up, zero_jump_down = 0.0, 0.0
        while True:
            next_up = key[heap[0, node]] if heap[0, node] >= 0 else FAR
            next_down = -key[heap[1, node]] if heap[1, node] >= 0 else -FAR
            low, high = max(at[0], next_down), min(-at[1], next_up)
            known = abs(value[0]) + abs(value[1]) + 1e-300
            up_low = value[0] + slope[0] * (low - at[0]) if value[0] + abs(slope[0]) > 0 else 0.0
            down_low = value[1] + slope[1] * (-at[1] - low) if value[1] + abs(slope[1]) > 0 else 0.0
            up_high = value[0] + slope[0] * (high - at[0]) if value[0] + abs(slope[0]) > 0 else 0.0
            down_high = (
                value[1] + slope[1] * (-at[1] - high) if value[1] + abs(slope[1]) > 0 else 0.0
            )
            surplus_low, surplus_high = up_low - down_low, up_high - down_high
            known = max(known, abs(up_low), abs(down_low), abs(up_high), abs(down_high))
            slack = _ROUNDING * known
            if surplus_low > slack:
                # The zero is further left: back over a corner above, or over one more below.
                if count[0] > 0 and at[0] >= next_down:
                    place = count[0] - 1
                    corner = taken[0, place]
                    if surplus_low - jump[corner] < -slack:
                        zero[0, node], zero[1, node] = at[0], at[0]
                        zero_jump_up = surplus_low
                        zero_jump_down = max(0.0, jump[corner] - surplus_low)
                        slope[0] -= bend[corner]
                        # The corner's bend counts above the zero; its jump is divided.
                        zero[0, node] = at[0]
                        bend_up = slope[0] + slope[1] + bend[corner]
                        bend_down = slope[0] + slope[1]
                        count[0] = place
                        break
                    count[0] = place
                    at[0], value[0], slope[0] = before[0, place]
                    heap[0, node] = meld(heap[0, node], corner)
                    continue
                if heap[1, node] < 0:
                    bend_up = bend_down = slope[0] + slope[1]
                    zero[0, node] = zero[1, node] = low
                    break
                corner = heap[1, node]
                if surplus_low - jump[corner] < -slack:
                    zero[0, node] = zero[1, node] = next_down
                    zero_jump_up = surplus_low
                    zero_jump_down = max(0.0, jump[corner] - surplus_low)
                    bend_up = slope[0] + slope[1]
                    bend_down = bend_up + bend[corner]
                    heap[1, node] = rest(corner)
                    break
                place = count[1]
                taken[1, place] = corner
                before[1, place, 0] = at[1]
                before[1, place, 1] = value[1]
                before[1, place, 2] = slope[1]
                count[1] = place + 1
                value[1] = down_low + jump[corner]
                slope[1] += bend[corner]
                at[1] = key[corner]
                heap[1, node] = rest(corner)
                continue
            if surplus_high < -slack:
                if count[1] > 0 and -at[1] <= next_up:
                    place = count[1] - 1
                    corner = taken[1, place]
                    if surplus_high + jump[corner] > slack:
                        zero[0, node] = zero[1, node] = -at[1]
                        zero_jump_down = -surplus_high
                        zero_jump_up = max(0.0, jump[corner] + surplus_high)
                        slope[1] -= bend[corner]
                        bend_down = slope[0] + slope[1] + bend[corner]
                        bend_up = slope[0] + slope[1]
                        count[1] = place
                        break
                    count[1] = place
                    at[1], value[1], slope[1] = before[1, place]
                    heap[1, node] = meld(heap[1, node], corner)
                    continue
                if heap[0, node] < 0:
                    bend_up = bend_down = slope[0] + slope[1]
                    zero[0, node] = zero[1, node] = high
                    break
                corner = heap[0, node]
                if surplus_high + jump[corner] > slack:
                    zero[0, node] = zero[1, node] = next_up
                    zero_jump_down = -surplus_high
                    zero_jump_up = max(0.0, jump[corner] + surplus_high)
                    bend_down = slope[0] + slope[1]
                    bend_up = bend_down + bend[corner]
                    heap[0, node] = rest(corner)
                    break
                place = count[0]
                taken[0, place] = corner
                before[0, place, 0] = at[0]
                before[0, place, 1] = value[0]
                before[0, place, 2] = slope[0]
                count[0] = place + 1
                value[0] = up_high + jump[corner]
                slope[0] += bend[corner]
                at[0] = key[corner]
                heap[0, node] = rest(corner)
                continue
            bend_up = bend_down = slope[0] + slope[1]
            if surplus_high - surplus_low <= slack:
                zero[0, node], zero[1, node] = high, low
                if high > low:
                    bend_up = bend_down = 0.0
            else:
                point = low - surplus_low * (high - low) / (surplus_high - surplus_low)
                zero[0, node] = zero[1, node] = min(max(point, low), high)
            break
        # What was taken off is on the other side of the zero now: mirrored, its bend turns round.
        for side in range(2):
            for place in range(count[side]):
                corner = taken[side, place]
                key[corner], bend[corner] = -key[corner], -bend[corner]
                heap[1 - side, node] = meld(heap[1 - side, node], corner)
        for side in range(2):
            rise = bend_up if side == 0 else bend_down
            step = zero_jump_up if side == 0 else zero_jump_down
            if rise != 0.0 or step != 0.0:
                key[used] = zero[0, node] if side == 0 else -zero[1, node]
                bend[used], jump[used] = rise, step
                left[used] = right[used] = -1
                lazy[used] = 0.0
                heap[side, node] = meld(heap[side, node], used)
                used += 1
        above = parent[node]
        if above < 0:
            continue
        for side in range(2):
            most = capacity[node]
            if total[side, node] > most:
                # Keep the corners up to the capacity, which is where the curve ends; a sorted chain is a heap.
                kept, here, so_far, rising = 0, -FAR, 0.0, 0.0
                top = heap[side, node]
                if most <= 0.0:
                    # Nothing passes: the price stays where the node balances alone.
                    limit[side, node] = zero[0, node] if side == 0 else -zero[1, node]
                    heap[side, node], total[side, node] = -1, 0.0
                    continue
                while top >= 0:
                    reach = so_far + rising * (key[top] - here) if so_far + abs(rising) > 0 else 0.0
                    if reach >= most:
                        break
                    taken[0, kept] = top
                    kept += 1
                    so_far, here = reach + jump[top], key[top]
                    if so_far >= most:
                        jump[top] -= so_far - most
                        bend[top] = -rising
                        break
                    rising += bend[top]
                    top = rest(top)
                if so_far >= most:
                    limit[side, node] = here
                    left[taken[0, kept - 1]] = right[taken[0, kept - 1]] = -1
                    lazy[taken[0, kept - 1]] = 0.0
                else:
                    end = here + (most - so_far) / rising if rising > 0 else here
                    limit[side, node] = end
                    key[used], bend[used], jump[used] = end, -rising, 0.0
                    left[used] = right[used] = -1
                    lazy[used] = 0.0
                    taken[0, kept] = used
                    kept += 1
                    used += 1
                for place in range(kept - 1):
                    left[taken[0, place]], right[taken[0, place]] = taken[0, place + 1], -1
                    lazy[taken[0, place]] = 0.0
                heap[side, node] = taken[0, 0]
                total[side, node] = most
            if heap[side, node] >= 0:
                key[heap[side, node]] += fee[node]
                lazy[heap[side, node]] += fee[node]
                heap[side, above] = meld(heap[side, above], heap[side, node])
            total[side, above] += total[side, node]

    price = np.zeros(nodes)
    for number in range(nodes):
        node = order[number]
        above = parent[node]
        if above < 0:
            price[node] = min(max(root_price, zero[1, node]), zero[0, node])
        elif price[above] - fee[node] > zero[0, node]:
            price[node] = min(price[above] - fee[node], limit[0, node])
        elif price[above] + fee[node] < zero[1, node]:
            price[node] = max(price[above] + fee[node], -limit[1, node])
        else:
            price[node] = min(max(price[above], zero[1, node]), zero[0, node])
    return price
