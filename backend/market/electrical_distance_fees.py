"""Electrical distance as a network tariff: a sparse graph where the grid is radial, a fee for each pair where it is not.

A trade from n to m pays

    gamma_nm = access_n + u d(n, m) + access_m,

each side half of u d(n, m), as in the slides. u is in nano per Wh and milliohm (Thevenin) or per branch (PTDF; per unit of
`ptdf_weight`).

On a radial grid d adds up along the path, so the feeder itself is the graph: an edge for each branch, its fee u times the
branch's own weight, an integer. *Rounding*: the product is formed exactly from the decimal numbers as written and rounded
once for each edge, to the nearest integer, ties to even. What a trade pays is the exact integer sum over the path; it is
within half a nano per Wh and branch of u d(n, m). Branches in parallel become one edge, by the law of each distance.

On a grid with loops electricity takes every way at once, and the branches' own weights do not add up to the distance; the
modulus of a complex impedance adds up on no grid with mixed r / x. Then the matrix of all pairs is kept, each pair's
u d(n, m) rounded once, to the nearest integer, ties to even. It comes from floating-point numbers, whose last bits depend
on the machine: publish the matrix and use what was published, do not compute it twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from backend.domain.case import Network, NetworkEdge, NetworkNode, check_network
from backend.domain.errors import (
    DisconnectedNetwork,
    MalformedInput,
    OutOfRange,
    UnknownReference,
)
from backend.domain.units import PRICE_LIMIT_NANO_PER_WH

from .electrical_distance import ptdf_distances, thevenin_distances
from .grid_branches import (
    DistanceKind,
    GridBranch,
    branch_weights,
    check_grid,
    independent_loops,
)

_MILLIOHM_PER_OHM = 1000
# Integers up to here are exact in floating point, and so are their sums.
_EXACT_LIMIT = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class PairFees:
    """What a trade pays between every two buses, where no sparse graph says it.

    Attributes:
        buses: names of rows and columns.
        fee_nano_per_wh: gamma, shape (buses, buses), symmetric, read-only: what a trade pays in total, both access fees
            included; each side bears half of the part between them. The diagonal is a trade between two members of one bus.
        reason: why it is a matrix, for people.
    """

    buses: tuple[str, ...]
    fee_nano_per_wh: npt.NDArray[np.int64]
    reason: str

    def __post_init__(self) -> None:
        assert self.fee_nano_per_wh.shape == (len(self.buses), len(self.buses))
        assert self.fee_nano_per_wh.dtype == np.int64
        assert np.array_equal(self.fee_nano_per_wh, self.fee_nano_per_wh.T)
        self.fee_nano_per_wh.flags.writeable = False

    def between(self, one: str, other: str) -> int:
        """The fee of a trade between two buses, in nano per Wh.

        Raises:
            UnknownReference: a bus is not in `buses`.
        """
        for name, bus in (("one", one), ("other", other)):
            if bus not in self.buses:
                raise UnknownReference(name, bus, "no such bus", "name one of `buses`")
        return int(self.fee_nano_per_wh[self.buses.index(one), self.buses.index(other)])

    def network(self) -> Network:
        """The same fees for a clearing case. They stay whole in the matrix: nodes have no access fee besides.

        Raises:
            InputError: a bus is named twice; a fee is not in the range of `FeeNanoPerWh`.
        """
        highest = int(self.fee_nano_per_wh.max(initial=0))
        if highest >= PRICE_LIMIT_NANO_PER_WH:
            raise OutOfRange(
                "fee_nano_per_wh",
                highest,
                "more than a fee can be",
                f"stay below {PRICE_LIMIT_NANO_PER_WH}; check the units of fee and branch",
            )
        network = Network(
            nodes=tuple(NetworkNode(id=bus) for bus in self.buses),
            pair_fees_nano_per_wh=tuple(map(tuple, self.fee_nano_per_wh.tolist())),
        )
        check_network(network)
        return network


def electrical_distance_fees(
    buses: Sequence[str],
    branches: Sequence[GridBranch],
    unit_fee: int | Decimal,
    kind: DistanceKind,
    access_fee_nano_per_wh: int | Mapping[str, int] = 0,
) -> Network | PairFees:
    """The tariff in its leanest exact form: a `Network` where the distance adds up along a path, else `PairFees`.

    Arguments and errors as `electrical_distance_network`, which see.
    """
    check_grid(buses, branches)
    if _why_no_graph(buses, branches, kind) is None:
        return electrical_distance_network(buses, branches, unit_fee, kind, access_fee_nano_per_wh)
    return electrical_distance_pair_fees(buses, branches, unit_fee, kind, access_fee_nano_per_wh)


def electrical_distance_network(
    buses: Sequence[str],
    branches: Sequence[GridBranch],
    unit_fee: int | Decimal,
    kind: DistanceKind,
    access_fee_nano_per_wh: int | Mapping[str, int] = 0,
) -> Network:
    """The feeder as the graph on which a trade's fee is the shortest path.

    Args:
        unit_fee: u, what a trade pays in total, at least 0: nano per Wh and milliohm, or nano per Wh and branch (`ptdf`).
        kind: which distance; `thevenin-complex` adds up along no path.
        access_fee_nano_per_wh: what each end pays besides, one for all buses or by bus (0 for buses not named).

    Returns:
        A node for each bus in the order given, an edge for each branch (one for branches in parallel).

    Raises:
        InputError: as `check_grid`; the grid has loops; a fee is out of range.
    """
    check_grid(buses, branches)
    why_not = _why_no_graph(buses, branches, kind)
    if why_not is not None:
        complex_kind = kind == "thevenin-complex"
        raise MalformedInput(
            "kind" if complex_kind else "branches",
            kind if complex_kind else len(branches),
            why_not,
            "use electrical_distance_pair_fees, open a branch of each loop, or choose a kind that adds up along a path",
        )
    unit = _unit_fee(unit_fee, kind)
    access = _access_fees(buses, access_fee_nano_per_wh)
    edges = []
    for (one, other), weight in _edge_weights(branches, kind).items():
        fee = round(unit * weight)
        if fee >= PRICE_LIMIT_NANO_PER_WH:
            raise OutOfRange(
                "unit_fee",
                str(unit_fee),
                f"the edge {one} - {other} would cost {fee} nano per Wh",
                f"stay below {PRICE_LIMIT_NANO_PER_WH}; check the units of fee and branch",
            )
        edges.append(NetworkEdge(from_node=one, to_node=other, fee_nano_per_wh=fee))
    return Network(
        nodes=tuple(
            NetworkNode(id=bus, access_fee_nano_per_wh=fee)
            for bus, fee in zip(buses, access, strict=True)
        ),
        edges=tuple(edges),
    )


def electrical_distance_pair_fees(
    buses: Sequence[str],
    branches: Sequence[GridBranch],
    unit_fee: int | Decimal,
    kind: DistanceKind,
    access_fee_nano_per_wh: int | Mapping[str, int] = 0,
    between: Sequence[str] | None = None,
) -> PairFees:
    """What every pair of buses pays, on any grid; on a radial one exactly what `electrical_distance_network` charges.

    Args:
        unit_fee, kind, access_fee_nano_per_wh: as `electrical_distance_network`.
        between: the buses wanted, in the order of rows and columns, repeated if need be; all by default.

    Raises:
        InputError: as `check_grid`; a fee is out of range; unknown bus in `between`.
    """
    check_grid(buses, branches)
    reason = _why_no_graph(buses, branches, kind)
    if reason is None:
        network = electrical_distance_network(
            buses, branches, unit_fee, kind, access_fee_nano_per_wh
        )
        return network_pair_fees(network, between)
    access = dict(zip(buses, _access_fees(buses, access_fee_nano_per_wh), strict=True))
    unit = float(_unit_fee(unit_fee, kind))
    if kind == "ptdf":
        distance = ptdf_distances(buses, branches, between)
    else:
        distance = thevenin_distances(buses, branches, kind, between)
    rows = tuple(buses if between is None else between)
    return _pair_fees(rows, np.rint(unit * distance), [access[bus] for bus in rows], reason)


def network_pair_fees(network: Network, between: Sequence[str] | None = None) -> PairFees:
    """What every pair of nodes pays on a sparse graph, whatever tariff it stands for: access fees and shortest path.

    For whoever needs a matrix, as the forward market does; clearing works on the graph itself.

    Raises:
        InputError: as `check_network`; unknown node in `between`; nodes of different islands; a path above 2^53 nano per Wh.
    """
    check_network(network)
    if network.pair_fees_nano_per_wh is not None:
        raise MalformedInput(
            "network.pair_fees_nano_per_wh",
            f"{len(network.nodes)} nodes",
            "is such a matrix already",
            "read the fees there",
        )
    place = {node.id: index for index, node in enumerate(network.nodes)}
    rows = tuple(place) if between is None else tuple(between)
    for index, name in enumerate(rows):
        if name not in place:
            raise UnknownReference(
                f"between[{index}]", name, "no such node", "add the node or correct the name"
            )
    ends = (
        [place[edge.from_node] for edge in network.edges],
        [place[edge.to_node] for edge in network.edges],
    )
    fees = np.array([edge.fee_nano_per_wh for edge in network.edges], dtype=np.float64)
    graph = coo_array((fees, ends), shape=(len(place), len(place))).tocsr()
    wanted = [place[name] for name in rows]
    distance = np.atleast_2d(dijkstra(graph, directed=False, indices=wanted))[:, wanted]
    apart = np.argwhere(np.isinf(distance))
    if len(apart):
        one, other = (rows[index] for index in apart[0])
        raise DisconnectedNetwork(
            "network.islands",
            network.islands,
            f"no trade is possible between {one} and {other}",
            "ask for the pairs of one island at a time, with `between`",
        )
    access = [network.nodes[index].access_fee_nano_per_wh for index in wanted]
    reason = "sums of fees along the cheapest paths of the network, which is the leaner form"
    return _pair_fees(rows, distance, access, reason)


def _why_no_graph(
    buses: Sequence[str], branches: Sequence[GridBranch], kind: DistanceKind
) -> str | None:
    if kind == "thevenin-complex":
        return (
            "the modulus of a complex impedance does not add up along a path where branches differ in"
            " resistance to reactance, so no fees on branches give it"
        )
    loops = independent_loops(buses, branches)
    if loops:
        return (
            f"the grid has {loops} independent loop{'s' if loops > 1 else ''} ({len(buses)} buses,"
            f" {loops + len(buses) - 1} connections), where distance is not the sum along a path"
        )
    return None


def _edge_weights(
    branches: Sequence[GridBranch], kind: DistanceKind
) -> dict[tuple[str, str], Fraction]:
    """The weight of each connection, branches in parallel made one: in ohm, or for `ptdf` in units of `ptdf_weight`."""
    weights = branch_weights(branches, kind)
    if kind == "ptdf":
        reactance = branch_weights(branches, "thevenin-reactance")
    parallel: dict[frozenset[str], list[int]] = {}
    for index, branch in enumerate(branches):
        parallel.setdefault(frozenset((branch.from_bus, branch.to_bus)), []).append(index)
    found = {}
    for members in parallel.values():
        first = branches[members[0]]
        if kind == "ptdf":
            # Energy divides over branches in parallel by 1 / x.
            shares = [1 / reactance[index] for index in members]
            weighted = [share * weights[i] for share, i in zip(shares, members, strict=True)]
            weight = sum(weighted, Fraction(0)) / sum(shares)
        else:
            weight = 1 / sum((1 / weights[index] for index in members), Fraction(0))
        found[first.from_bus, first.to_bus] = weight
    return found


def _pair_fees(
    rows: tuple[str, ...],
    distance_nano_per_wh: npt.NDArray[np.float64],
    access_nano_per_wh: Sequence[int],
    reason: str,
) -> PairFees:
    highest = distance_nano_per_wh.max(initial=0)
    if not highest < _EXACT_LIMIT:
        raise OutOfRange(
            "unit_fee",
            float(highest),
            "a pair would pay more nano per Wh than can be told exactly",
            f"stay below {_EXACT_LIMIT}; check the units of fee and branch",
        )
    access = np.array(access_nano_per_wh, dtype=np.int64)
    fees = distance_nano_per_wh.astype(np.int64) + access[:, None] + access[None, :]
    return PairFees(rows, fees, reason)


def _unit_fee(unit_fee: int | Decimal, kind: DistanceKind) -> Fraction:
    """The fee for one ohm, or for one unit of `ptdf_weight`."""
    given: object = unit_fee
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        raise MalformedInput(
            "unit_fee", given, "neither an integer nor a Decimal", "write it as Decimal('0.01')"
        )
    if isinstance(given, Decimal) and not given.is_finite():
        raise MalformedInput("unit_fee", str(given), "not finite", "give a number of at least 0")
    if given < 0:
        raise OutOfRange("unit_fee", str(given), "negative", "give a number of at least 0")
    return Fraction(given) * (1 if kind == "ptdf" else _MILLIOHM_PER_OHM)


def _access_fees(buses: Sequence[str], fees: int | Mapping[str, int]) -> list[int]:
    by_bus = dict(fees) if isinstance(fees, Mapping) else dict.fromkeys(buses, fees)
    known = set(buses)
    for bus, fee in by_bus.items():
        given: object = fee
        field = "access_fee_nano_per_wh" + (f"[{bus!r}]" if isinstance(fees, Mapping) else "")
        if bus not in known:
            raise UnknownReference(field, bus, "no such bus", "add the bus or correct the name")
        if isinstance(given, bool) or not isinstance(given, int):
            raise MalformedInput(field, given, "not an integer", "give nano per Wh, whole")
        if not 0 <= given < PRICE_LIMIT_NANO_PER_WH:
            raise OutOfRange(
                field,
                given,
                "out of range",
                f"give a whole number from 0 to {PRICE_LIMIT_NANO_PER_WH - 1}",
            )
    return [by_bus.get(bus, 0) for bus in buses]
