"""The forward peer-to-peer market of one interval: the file formats `peerwatt/p2p-case/1` and `peerwatt/p2p/1` (docs/files.md).

Before delivery energy and price are in the case's own units and may be fractions; `backend.negotiation.agreement` turns what
is agreed into watt-hours and nano currency units.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from .errors import (
    DisconnectedNetwork,
    DuplicateIdentifier,
    MalformedInput,
    OutOfRange,
    UnknownReference,
)
from .values import Identifier, Value

P2P_CASE_FORMAT: Final = "peerwatt/p2p-case/1"
P2P_FORMAT: Final = "peerwatt/p2p/1"
# Parties of a trade that are no agents.
OUTSIDE: Final = "outside"
COMMUNITY: Final = "community"
# Beyond, sums of products lose the digits that a certificate needs.
_LARGEST: Final = 1e12

Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=_LARGEST)]


class P2PAgent(Value):
    """An agent with cost a/2 P^2 + b P; P > 0 is sold, P < 0 bought."""

    id: Identifier
    a: NotNegative
    b: Number
    lower: Number
    upper: Number
    node: Identifier | None = None
    community: Identifier | None = None


class P2PNode(Value):
    """A place in the network; each end of a trade pays its fee per unit."""

    id: Identifier
    access_fee: NotNegative = 0.0


class P2PLine(Value):
    """A line: a unit that crosses pays `fee` in total, each side half; at most `capacity` crosses, without it anything."""

    from_node: Identifier = Field(alias="from")
    to_node: Identifier = Field(alias="to")
    fee: NotNegative
    capacity: NotNegative | None = None


class P2PNetwork(Value):
    """A network without circles: what a trade pays is the sum along its path."""

    nodes: tuple[P2PNode, ...]
    edges: tuple[P2PLine, ...] = ()


class P2POutside(Value):
    """What a unit costs and earns outside, all-in."""

    import_price: Number
    export_price: Number


class P2PCase(Value):
    """Everything the forward market of one interval depends on."""

    format: Literal["peerwatt/p2p-case/1"] = P2P_CASE_FORMAT
    agents: tuple[P2PAgent, ...]
    fees: NotNegative | tuple[tuple[NotNegative, ...], ...] = 0.0
    preferences: tuple[tuple[Number, ...], ...] | None = None
    pairs: Literal["all"] | tuple[tuple[Identifier, Identifier], ...] = "all"
    outside: P2POutside | None = None
    network: P2PNetwork | None = None
    between_fee: NotNegative = 0.0

    @classmethod
    def parse(cls, data: Any, where: str = "") -> P2PCase:
        """Builds and checks a case from plain JSON data.

        Raises:
            InputError: naming the field, the value and the remedy; of the many faults the first.
        """
        case = cls.from_data(data, where)
        case.check()
        return case

    def check(self) -> None:
        """Checks what one field alone cannot show.

        Raises:
            InputError: as `parse`.
        """
        if not self.agents:
            raise MalformedInput("agents", [], "an empty market", "name at least one agent")
        names: set[str] = set()
        for index, agent in enumerate(self.agents):
            self._check_agent(f"agents[{index}]", agent, names)
        for field in ("fees", "preferences"):
            self._check_matrix(field)
        self._check_pairs(names)
        outside = self.outside
        if outside is not None and outside.export_price > outside.import_price:
            raise OutOfRange(
                "outside.export_price",
                outside.export_price,
                f"above the import price {outside.import_price}",
                "this would pay for circulating energy; correct one of them",
            )
        if self.network is not None:
            self._check_network(self.network)

    def _check_agent(self, where: str, agent: P2PAgent, names: set[str]) -> None:
        if agent.id in names:
            raise DuplicateIdentifier(
                f"{where}.id", agent.id, "named twice", "give each its own name"
            )
        if agent.id in (OUTSIDE, COMMUNITY):
            raise MalformedInput(f"{where}.id", agent.id, "a reserved name", "choose another")
        names.add(agent.id)
        if agent.lower > agent.upper:
            raise OutOfRange(
                f"{where}.lower",
                agent.lower,
                f"above the upper limit {agent.upper}",
                "give lower <= upper",
            )

    def _check_matrix(self, field: str) -> None:
        matrix = getattr(self, field)
        if not isinstance(matrix, tuple):
            return
        count = len(self.agents)
        if len(matrix) != count:
            raise MalformedInput(
                field, len(matrix), f"not {count} rows", "give a row for each agent"
            )
        for index, row in enumerate(matrix):
            if len(row) != count:
                raise MalformedInput(
                    f"{field}[{index}]",
                    len(row),
                    f"not {count} numbers",
                    "give a number for each agent, 0 for itself",
                )
            if row[index] != 0:
                raise MalformedInput(
                    f"{field}[{index}][{index}]",
                    row[index],
                    "an agent with itself",
                    "write 0 on the diagonal",
                )

    def _check_pairs(self, names: set[str]) -> None:
        if self.pairs == "all":
            return
        seen: set[frozenset[str]] = set()
        for index, pair in enumerate(self.pairs):
            for end, name in enumerate(pair):
                if name not in names:
                    raise UnknownReference(
                        f"pairs[{index}][{end}]",
                        name,
                        "no such agent",
                        "add the agent or correct the name",
                    )
            if pair[0] == pair[1]:
                raise MalformedInput(
                    f"pairs[{index}]", pair, "an agent with itself", "remove the pair"
                )
            if frozenset(pair) in seen:
                raise DuplicateIdentifier(
                    f"pairs[{index}]", pair, "the same pair twice", "keep one"
                )
            seen.add(frozenset(pair))

    def _check_network(self, network: P2PNetwork) -> None:
        if self.preferences is not None or self.pairs != "all":
            field = "preferences" if self.preferences is not None else "pairs"
            raise MalformedInput(
                "network",
                "...",
                f"together with {field}, which no network can say",
                f"remove {field}, or write the fees of all pairs as a matrix in `fees`",
            )
        if isinstance(self.fees, tuple):
            raise MalformedInput(
                "fees", "...", "a matrix beside a network", "give one number, or no network"
            )
        parent: dict[str, str] = {}

        def root(node: str) -> str:
            while parent[node] != node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        for index, node in enumerate(network.nodes):
            if node.id in parent:
                raise DuplicateIdentifier(
                    f"network.nodes[{index}].id", node.id, "named twice", "give each its own name"
                )
            parent[node.id] = node.id
        if not parent:
            raise MalformedInput("network.nodes", [], "no node", "name at least one node")
        for index, edge in enumerate(network.edges):
            for end, name in (("from", edge.from_node), ("to", edge.to_node)):
                if name not in parent:
                    raise UnknownReference(
                        f"network.edges[{index}].{end}",
                        name,
                        "no such node in network.nodes",
                        "add the node or correct the name",
                    )
            one, other = root(edge.from_node), root(edge.to_node)
            if one == other:
                raise MalformedInput(
                    f"network.edges[{index}]",
                    f"{edge.from_node} - {edge.to_node}",
                    "closes a circle",
                    "open it, or write the fees of all pairs as a matrix in `fees`",
                )
            parent[one] = other
        first = root(network.nodes[0].id)
        for index, node in enumerate(network.nodes):
            if root(node.id) != first:
                raise DisconnectedNetwork(
                    f"network.nodes[{index}].id",
                    node.id,
                    f"no path of edges to {network.nodes[0].id}",
                    "add the edge that is missing",
                )
        for index, agent in enumerate(self.agents):
            if agent.node is None or agent.node not in parent:
                raise UnknownReference(
                    f"agents[{index}].node",
                    agent.node,
                    "no such node in network.nodes",
                    "say at which node the agent is",
                )


class P2PAgentResult(Value):
    """What an agent sells (power > 0) or buys, and its price: what one more unit is worth to it, fees apart."""

    id: str
    power: float
    price: float


class P2PTrade(Value):
    """A trade; a party may be `outside` or `community`. The seller receives `price`, the buyer pays it, each its own fee."""

    seller: str
    buyer: str
    energy: float
    price: float


class P2PResult(Value):
    """What was agreed, and how well that is proven."""

    format: Literal["peerwatt/p2p/1"] = P2P_FORMAT
    organisation: str
    method: str
    outcome: str
    objective: float
    certified_gap: float
    primal_residual: float
    dual_residual: float
    iterations: int
    messages: int
    scalars: int
    agents: tuple[P2PAgentResult, ...]
    trades: tuple[P2PTrade, ...]
    imported: float
    exported: float
    fees: float
