"""Network tariffs as sparse graphs (mechanism, section 2; DTU slides, "New grid tariffs").

A trade from i to j pays access(i) + shortest path from i's node to j's + access(j).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backend.domain.case import Network, NetworkEdge, NetworkNode, check_network


def uniform_network(fee_nano_per_wh: int, node: str = "community") -> Network:
    """Socialised fee: one node; each side pays half.

    Args:
        fee_nano_per_wh: what a traded Wh pays in total (the slides' u_fixed); must be even so that both halves are whole.

    Raises:
        ValueError: the fee is odd.
    """
    if fee_nano_per_wh % 2:
        raise ValueError(f"fee {fee_nano_per_wh} nano per Wh is odd; both sides pay half of it")
    return Network(nodes=(NetworkNode(id=node, access_fee_nano_per_wh=fee_nano_per_wh // 2),))


def zonal_network(
    zones: Sequence[str],
    neighbours: Iterable[tuple[str, str]],
    fee_per_border_nano_per_wh: int,
    access_fee_nano_per_wh: int = 0,
) -> Network:
    """Zonal fee: a trade pays for each border on the shortest way between the two zones.

    Args:
        zones: names of the zones.
        neighbours: pairs of zones that share a border.
        fee_per_border_nano_per_wh: the slides' u_zonal.
        access_fee_nano_per_wh: what each side pays besides, also inside its own zone.

    Raises:
        InputError: a zone is unknown, named twice or out of reach.
    """
    network = Network(
        nodes=tuple(
            NetworkNode(id=zone, access_fee_nano_per_wh=access_fee_nano_per_wh) for zone in zones
        ),
        edges=tuple(
            NetworkEdge(from_node=one, to_node=other, fee_nano_per_wh=fee_per_border_nano_per_wh)
            for one, other in neighbours
        ),
    )
    check_network(network)
    return network
