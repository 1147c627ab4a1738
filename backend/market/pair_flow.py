"""The canonical energy flow of a pair matrix, read from the canonical prices alone.

Prices settle everything but ties: energy flows only over pairs that break even (gain = u + v), a seller with u > 0 sells
everything and a buyer with v > 0 buys everything. Every flow that does so is optimal. One is chosen thus:

1. Sellers that break even with the same buyers, and are alike in having to sell everything or not, are one group; then
   buyers with respect to these groups.
2. Among groups the network simplex (`kernels.pair_simplex`), started with everybody outside and taking groups in the order
   of their first members, maximises the energy of those that must trade.
3. What a group trades is shared among its members pro rata, with telescoping floors (mechanism, section 5); members and
   partners are then laid side by side in order, each seller's energy going to the next buyers in line.

So the flow depends on gains, supply and demand and their order, not on how the prices were found; members alike trade alike;
and trades are at most as many as members and tied pairs of groups together.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .kernels.compiling import Integers
from .kernels.pair_simplex import Loops, outside_tree

Bits = NDArray[np.uint8]
Trades = tuple[Integers, Integers, Integers]


def canonical_flow(
    tied: Bits,
    supply_wh: Integers,
    demand_wh: Integers,
    seller_price: Integers,
    buyer_price: Integers,
    loops: Loops,
) -> Trades:
    """Who sells how much to whom.

    Args:
        tied: (S, ceil(B / 8)) packed bits of the pairs that break even.
        supply_wh: (S,) above zero.
        demand_wh: (B,) above zero.
        seller_price: (S,) u, canonical, nano per Wh.
        buyer_price: (B,) v, canonical, nano per Wh.
        loops: interpreted or compiled.

    Returns:
        Seller, buyer and Wh of each trade, ascending by seller, then buyer.
    """
    must_sell, must_buy = seller_price > 0, buyer_price > 0
    # A trade between two that need not trade gains nothing.
    tied = np.where(must_sell[:, None], tied, tied & np.packbits(must_buy))
    nobody = bytes(tied.shape[1])
    rows = [b"" if partners == nobody else partners for partners in map(np.ndarray.tobytes, tied)]
    seller_group, first_seller = _alike(rows, must_sell)
    bits = np.unpackbits(tied[first_seller], axis=1, count=demand_wh.size).view(np.bool_)
    pair_seller, buyer = np.divmod(np.flatnonzero(bits), demand_wh.size)
    by_buyer = np.argsort(buyer, kind="stable")
    start = np.searchsorted(buyer[by_buyer], np.arange(demand_wh.size + 1)).tolist()
    sellers = pair_seller[by_buyer]
    columns = [sellers[low:high].tobytes() for low, high in pairwise(start)]
    buyer_group, first_buyer = _alike(columns, must_buy)
    kept = np.isin(buyer, first_buyer)
    pair_seller, pair_buyer = pair_seller[kept], buyer_group[buyer[kept]]
    need = must_sell[first_seller].astype(np.int64)[pair_seller]
    need += must_buy[first_buyer][pair_buyer]
    supply = _sums(seller_group, supply_wh, first_seller.size)
    demand = _sums(buyer_group, demand_wh, first_buyer.size)
    pairs = _most_needed(pair_seller, pair_buyer, need, supply, demand, loops)
    return _among_members(pairs, seller_group, supply_wh, buyer_group, demand_wh)


def _alike(partners: list[bytes], must: NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """Groups those with the same partners: group of each, -1 for those with none; first of each group, ascending."""
    numbers: dict[tuple[bytes, bool], int] = {}
    group = np.full(len(partners), -1, np.int64)
    first: list[int] = []
    for member, (known_by, needs) in enumerate(zip(partners, must.tolist(), strict=True)):
        if known_by:
            number = numbers.setdefault((known_by, needs), len(first))
            if number == len(first):
                first.append(member)
            group[member] = number
    return group, np.array(first, dtype=np.int64)


def _sums(group: Integers, energy_wh: Integers, groups: int) -> Integers:
    total = np.zeros(groups, np.int64)
    inside = group >= 0
    np.add.at(total, group[inside], energy_wh[inside])
    return total


def _most_needed(
    pair_seller: Integers,
    pair_buyer: Integers,
    need: Integers,
    supply_wh: Integers,
    demand_wh: Integers,
    loops: Loops,
) -> Trades:
    """Among pairs of groups, sorted, the flow that serves most of those that must trade; sorted as the pairs are."""
    tree = outside_tree(supply_wh, demand_wh)
    sellers, outside = supply_wh.size, supply_wh.size + demand_wh.size
    start = np.searchsorted(pair_seller, np.arange(sellers + 1))
    while loops.improve_lists(start, pair_buyer, need, tree) + loops.improve_outside(tree):
        pass
    nodes = np.flatnonzero((tree.parent[:outside] != outside) & (tree.flow[:outside] > 0))
    ends = np.sort([nodes, tree.parent[nodes]], axis=0)
    found = np.lexsort((ends[1], ends[0]))
    return ends[0][found], ends[1][found] - sellers, tree.flow[nodes][found]


def _among_members(
    pairs: Trades,
    seller_group: Integers,
    supply_wh: Integers,
    buyer_group: Integers,
    demand_wh: Integers,
) -> Trades:
    """Shares what groups trade among their members."""
    from_group, to_group, energy = pairs
    sellers, sold = _shares(seller_group, supply_wh, from_group, energy)
    buyers, bought = _shares(buyer_group, demand_wh, to_group, energy)
    # Sellers, group by group, beside the pairs of their group; then those pieces, by the buyers' groups, beside the buyers.
    seller_at, pair_at, piece = _side_by_side(sold, energy)
    by_buyer = np.lexsort((np.arange(piece.size), from_group[pair_at], to_group[pair_at]))
    piece_at, buyer_at, amount = _side_by_side(piece[by_buyer], bought)
    seller, buyer = sellers[seller_at[by_buyer[piece_at]]], buyers[buyer_at]
    ascending = np.lexsort((buyer, seller))
    return seller[ascending], buyer[ascending], amount[ascending]


def _shares(
    group: Integers, energy_wh: Integers, traded_group: Integers, traded_wh: Integers
) -> tuple[Integers, Integers]:
    """Members by group, and the share of each in what its group trades."""
    members = np.argsort(group, kind="stable")
    members = members[group[members] >= 0]
    groups = int(group.max(initial=-1)) + 1
    traded, whole = _sums(traded_group, traded_wh, groups), _sums(group, energy_wh, groups)
    share = energy_wh[members]
    end = np.searchsorted(group[members], np.arange(groups), side="right")
    for number in np.flatnonzero(traded < whole).tolist():
        part = slice(int(end[number - 1]) if number else 0, int(end[number]))
        # Python's integers: the products pass 64 bits.
        before, energy, total = 0, int(traded[number]), int(whole[number])
        reached = [0]
        for own in share[part].tolist():
            before += own
            reached.append(before * energy // total)
        share[part] = np.diff(reached)
    return members, share


def _side_by_side(one: Integers, other: Integers) -> Trades:
    """Two rows of lengths with the same sum, laid side by side: which of one meets which of the other, over what length."""
    ends_one, ends_other = np.cumsum(one), np.cumsum(other)
    ends = np.union1d(ends_one, ends_other)
    ends = ends[ends > 0]
    return (
        np.searchsorted(ends_one, ends),
        np.searchsorted(ends_other, ends),
        np.diff(ends, prepend=0),
    )
