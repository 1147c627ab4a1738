"""A community: its accounts and members by slot, and the tariff it is cleared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .case import Network, TariffClass
from .errors import MalformedInput

# Slots of the accounts that are not members; the contracts have the same numbers.
SUPPLIER_SLOT = 0
DSO_SLOT = 1
FUND_SLOT = 2
FIRST_MEMBER_SLOT = 3


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the community.

    Attributes:
        slot: position in registry, readings tree and ledger tree; for life.
        name: what people call it; never on chain.
        account: wallet address that owns the slot's money.
        meter: address of the meter's key.
        node: network node.
        tariff_class: outside tariff.
        fuse_limit_wh: most energy the connection can carry in one interval, in either direction.
    """

    slot: int
    name: str
    account: str
    meter: str
    node: str
    tariff_class: str
    fuse_limit_wh: int


@dataclass(frozen=True, slots=True)
class CommunityTariff:
    """Everything the price of an interval depends on besides the meters.

    Attributes:
        network: nodes with access fees and edges with fees.
        tariff_classes: outside prices.
        group_keys: the (node, tariff class) pairs that exist in the community.
        share_millionths: the buyers' share of the savings.
    """

    network: Network
    tariff_classes: tuple[TariffClass, ...]
    group_keys: tuple[tuple[str, str], ...]
    share_millionths: int

    def __post_init__(self) -> None:
        if self.network.pair_fees_nano_per_wh is not None:
            raise MalformedInput(
                "network.pair_fees_nano_per_wh",
                f"{len(self.network.nodes)} nodes",
                "contracts prove clearings on a graph only",
                "settle with a network of edges, such as zones",
            )


# The chain shows what each group takes and gives in every interval; in smaller groups that tells too much about one of them.
SMALLEST_GROUP = 3


def small_groups(
    members: Iterable[Member], smallest: int = SMALLEST_GROUP
) -> dict[tuple[str, str], int]:
    """The (node, tariff class) groups with fewer than `smallest` members, with their sizes."""
    sizes = Counter((member.node, member.tariff_class) for member in members)
    return {key: size for key, size in sorted(sizes.items()) if size < smallest}
