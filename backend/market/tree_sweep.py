"""The exact engine for radial networks: two sweeps over the tree, no solver.

Up: each node's net supply as a function of its price is a step function, its own plus its children's, each moved by the
edge's fee. Down: a node's price is its parent's, moved into reach of the fee and into the interval where the node balances.
O(N log N) with mergeable heaps; exact optimal transport on trees (Sato, Yamada, Kashima 2020). It is also a finite
negotiation: each gateway sends its parent one curve and receives one price.
"""

from __future__ import annotations

from .arrays import MarketArrays
from .kernels.clearing import forest_flow, forest_price_middle
from .kernels.compiling import Integers, kernel
from .kernels.forest import meld, sweep_down, sweep_up


def sweep_prices(market: MarketArrays, demand_wh: Integers, supply_wh: Integers) -> Integers:
    """The canonical node prices of a forest.

    Args:
        market: whose graph is a forest.
        demand_wh: (G,).
        supply_wh: (G,).

    Returns:
        (V,) nano per Wh.
    """
    up = kernel(sweep_up, compiled=market.compiled)
    join = kernel(meld, compiled=market.compiled)
    capacity = 8 * (market.group_count + 8)
    enough = False
    while not enough:
        enough, lowest, highest = up(
            market.order,
            market.parent,
            market.parent_edge,
            market.edge_fee,
            market.access,
            market.group_start,
            market.import_price,
            market.export_price,
            demand_wh,
            supply_wh,
            capacity,
            join,
        )
        capacity *= 4
    floor_price, ceiling_price = market.price_bounds()
    prices: Integers = kernel(sweep_down, compiled=market.compiled)(
        market.order,
        market.parent,
        market.parent_edge,
        market.edge_fee,
        lowest,
        highest,
        floor_price,
        ceiling_price,
    )
    return prices


def forest_clearing(
    market: MarketArrays, demand_wh: Integers, supply_wh: Integers, price: Integers
) -> tuple[Integers, Integers, Integers]:
    """The canonical clearing of a forest at its canonical prices.

    Args:
        market: whose graph is a forest.
        demand_wh: (G,).
        supply_wh: (G,).
        price: (V,) canonical.

    Returns:
        Matched demand (G,), matched supply (G,), flow (E,), in Wh.

    Raises:
        ValueError: the prices are not optimal.
    """
    optimal, matched_demand, matched_supply, flow = kernel(forest_flow, compiled=market.compiled)(
        market.order,
        market.parent,
        market.parent_edge,
        market.edge_from,
        market.edge_fee,
        market.access,
        market.group_start,
        market.import_price,
        market.export_price,
        demand_wh,
        supply_wh,
        price,
    )
    if not optimal:
        raise ValueError("no clearing balances at these prices")
    return matched_demand, matched_supply, flow


def middle_prices(
    market: MarketArrays, demand_wh: Integers, supply_wh: Integers, optimal_price: Integers
) -> Integers | None:
    """The canonical prices, from any optimal ones.

    Args:
        market: whose graph is a forest.
        demand_wh: (G,).
        supply_wh: (G,).
        optimal_price: (V,) differences within the fees.

    Returns:
        (V,) nano per Wh; None if the prices given are not optimal.
    """
    try:
        matched_demand, matched_supply, flow = forest_clearing(
            market, demand_wh, supply_wh, optimal_price
        )
    except ValueError:
        return None
    prices: Integers = kernel(forest_price_middle, compiled=market.compiled)(
        market.order,
        market.parent,
        market.parent_edge,
        market.edge_from,
        market.edge_fee,
        market.access,
        market.group_start,
        market.import_price,
        market.export_price,
        demand_wh,
        supply_wh,
        matched_demand,
        matched_supply,
        flow,
        *market.price_bounds(),
    )
    return prices
