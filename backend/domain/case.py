"""One interval to clear, as anybody can write it: the file format `peerwatt/clearing-case/1` (docs/files.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from .errors import (
    DisconnectedNetwork,
    DuplicateIdentifier,
    MalformedInput,
    OutOfRange,
    UnknownReference,
)
from .values import FeeNanoPerWh, Identifier, NetEnergyWh, PriceNanoPerWh, Value

CASE_FORMAT: Final = "peerwatt/clearing-case/1"


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone; write it in UTC with a Z at the end")
    return moment.astimezone(UTC)


class CaseInterval(Value):
    """When: start in UTC and length."""

    start: Annotated[datetime, AfterValidator(_utc)]
    minutes: Literal[5, 15]


class NetworkNode(Value):
    """A place in the network: a zone or a bus.

    A trade pays the access fee of both its ends, once each.
    """

    id: Identifier
    access_fee_nano_per_wh: FeeNanoPerWh = 0


class NetworkEdge(Value):
    """A connection between two nodes; a trade pays its fee per Wh that crosses it, in either direction."""

    from_node: Identifier = Field(alias="from")
    to_node: Identifier = Field(alias="to")
    fee_nano_per_wh: FeeNanoPerWh


class Network(Value):
    """What a trade pays between its two nodes: a shortest path on a sparse graph, or the entry of a matrix (mechanism, section 2)."""

    nodes: tuple[NetworkNode, ...]
    edges: tuple[NetworkEdge, ...] = ()
    # Instead of edges: square and symmetric, in the order of `nodes`; on the diagonal, trades between members at one node.
    pair_fees_nano_per_wh: tuple[tuple[FeeNanoPerWh, ...], ...] | None = Field(
        default=None, exclude_if=lambda fees: fees is None
    )
    # Parts that no edge connects are a mistake, unless somebody says that they are meant: they then trade apart.
    islands: bool = False


class TariffClass(Value):
    """What a member pays and gets outside the community, all-in."""

    id: Identifier
    import_price_nano_per_wh: PriceNanoPerWh
    export_price_nano_per_wh: PriceNanoPerWh


class CaseMember(Value):
    """One member's metered net position: `net_wh` > 0 is a surplus exported, < 0 a deficit imported."""

    id: Identifier
    node: Identifier
    tariff_class: Identifier
    net_wh: NetEnergyWh


class ClearingCase(Value):
    """Everything the clearing of one interval depends on."""

    format: Literal["peerwatt/clearing-case/1"] = CASE_FORMAT
    interval: CaseInterval
    network: Network
    tariff_classes: tuple[TariffClass, ...]
    members: tuple[CaseMember, ...]

    @classmethod
    def parse(cls, data: Any, where: str = "") -> ClearingCase:
        """Builds and checks a case from plain JSON data.

        Raises:
            InputError: naming the field, the value and the remedy; of the many faults the first.
        """
        case = cls.from_data(data, where)
        case.check()
        return case

    def check(self) -> None:
        """Checks what one field alone cannot show: references, uniqueness, prices in order, a connected network.

        Raises:
            InputError: as `parse`.
        """
        check_network(self.network)
        classes = _unique([tariff.id for tariff in self.tariff_classes], "tariff_classes")
        for index, tariff in enumerate(self.tariff_classes):
            if tariff.export_price_nano_per_wh > tariff.import_price_nano_per_wh:
                raise OutOfRange(
                    f"tariff_classes[{index}].export_price_nano_per_wh",
                    tariff.export_price_nano_per_wh,
                    f"above the import price {tariff.import_price_nano_per_wh}",
                    "an export price above the import price would pay for circulating energy; correct one of them",
                )
        nodes = {node.id for node in self.network.nodes}
        _unique([member.id for member in self.members], "members")
        for index, member in enumerate(self.members):
            if member.node not in nodes:
                raise UnknownReference(
                    f"members[{index}].node",
                    member.node,
                    "no such node in network.nodes",
                    "add the node or correct the name",
                )
            if member.tariff_class not in classes:
                raise UnknownReference(
                    f"members[{index}].tariff_class",
                    member.tariff_class,
                    "no such class in tariff_classes",
                    "add the class or correct the name",
                )


def check_network(network: Network, where: str = "network") -> None:
    """Checks that nodes are unique, edges join known and different nodes, and every node reaches every other.

    Of a matrix of pair fees: that it is square, symmetric, and alone.

    Raises:
        InputError: naming the field, the value and the remedy.
    """
    if not network.nodes:
        raise MalformedInput(f"{where}.nodes", [], "no node", "name at least one node")
    nodes = _unique([node.id for node in network.nodes], f"{where}.nodes")
    if network.pair_fees_nano_per_wh is not None:
        _check_pair_fees(network, network.pair_fees_nano_per_wh, where)
        return
    parent = {node: node for node in nodes}

    def root(node: str) -> str:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    joined: set[frozenset[str]] = set()
    for index, edge in enumerate(network.edges):
        for end, node in (("from", edge.from_node), ("to", edge.to_node)):
            if node not in nodes:
                raise UnknownReference(
                    f"{where}.edges[{index}].{end}",
                    node,
                    "no such node in network.nodes",
                    "add the node or correct the name",
                )
        if edge.from_node == edge.to_node:
            raise MalformedInput(
                f"{where}.edges[{index}].to",
                edge.to_node,
                "an edge from a node to itself",
                "remove it or correct one end",
            )
        pair = frozenset((edge.from_node, edge.to_node))
        if pair in joined:
            raise DuplicateIdentifier(
                f"{where}.edges[{index}]",
                f"{edge.from_node} - {edge.to_node}",
                "a second edge between the same nodes",
                "keep the one with the fee that applies",
            )
        joined.add(pair)
        parent[root(edge.from_node)] = root(edge.to_node)
    if network.islands:
        return
    first = root(network.nodes[0].id)
    for index, place in enumerate(network.nodes):
        if root(place.id) != first:
            raise DisconnectedNetwork(
                f"{where}.nodes[{index}].id",
                place.id,
                f"no path of edges to {network.nodes[0].id}",
                "add the edge that is missing, or set network.islands to true if the parts are meant to trade apart",
            )


def _check_pair_fees(network: Network, fees: tuple[tuple[int, ...], ...], where: str) -> None:
    for field, given in (("edges", network.edges), ("islands", network.islands)):
        if given:
            raise MalformedInput(
                f"{where}.{field}",
                given,
                "beside pair_fees_nano_per_wh, which says what every pair pays",
                f"leave out {field}, or give a graph without pair_fees_nano_per_wh",
            )
    field, names = f"{where}.pair_fees_nano_per_wh", [node.id for node in network.nodes]
    if len(fees) != len(names):
        raise MalformedInput(
            field,
            len(fees),
            f"{len(fees)} rows for {len(names)} nodes",
            "give a row for each node, in the order of nodes",
        )
    for name, (index, row) in zip(names, enumerate(fees), strict=True):
        if len(row) != len(names):
            raise MalformedInput(
                f"{field}[{index}]",
                len(row),
                f"{len(row)} entries in the row of {name}, for {len(names)} nodes",
                "give an entry for each node, in the order of nodes",
            )
    if fees != tuple(zip(*fees, strict=True)):
        one, other = next(
            (one, other)
            for one, row in enumerate(fees)
            for other, fee in enumerate(row)
            if fee != fees[other][one]
        )
        raise MalformedInput(
            f"{field}[{other}][{one}]",
            fees[other][one],
            f"{names[one]} to {names[other]} costs {fees[one][other]}, and back something else",
            "give both directions the same fee",
        )


def _unique(names: list[str], where: str) -> set[str]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise DuplicateIdentifier(
                f"{where}[{index}].id", name, "named twice", "give each its own name"
            )
        seen.add(name)
    return seen
