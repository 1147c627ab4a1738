"""Random markets, intervals and communities for property tests; ties, zeros and limits made likely on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from backend.domain.case import Network, TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT
from backend.domain.readings import IntervalReading, Quality
from backend.market.problem import Graph, Group, Market, Problem, Solution, build_market
from backend.settlement.encoding import BatchHeader, LedgerLeaf, OracleReport
from backend.settlement.trees import ACCOUNT_DEPTH
from tests.market.strategies import FEES, PRICES, networks
from tests.support.clearing import cheapest
from tests.support.community import Community, Energy, member_at

WORDS = st.binary(min_size=32, max_size=32)
SHARES = st.one_of(st.sampled_from([0, 500_000, 1_000_000]), st.integers(0, 1_000_000))
ENERGY_WH = st.one_of(st.sampled_from([0, 0, 1, 100]), st.integers(0, 5000), st.integers(0, 2**50))
MONEY_NANO = st.one_of(
    st.sampled_from([0, 1, -1]),
    st.integers(-(10**12), 10**12),
    st.integers(-(2**90), 2**90),
)
SLOTS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 2**19, 2**20 - 1]), st.integers(0, 12), st.integers(0, 2**20 - 1)
)


def unsigned(bits: int) -> st.SearchStrategy[int]:
    """Numbers of so many bits, the largest among them."""
    return st.one_of(st.sampled_from([0, 1, 2**bits - 1]), st.integers(0, 2**bits - 1))


def signed(bits: int) -> st.SearchStrategy[int]:
    """Two's complement numbers of so many bits, both ends among them."""
    half = 2 ** (bits - 1)
    return st.one_of(st.sampled_from([0, 1, -1, half - 1, -half]), st.integers(-half, half - 1))


@st.composite
def tariff_classes(draw: st.DrawFn) -> tuple[TariffClass, ...]:
    """One to three outside tariffs."""
    classes = []
    for number in range(draw(st.integers(1, 3))):
        export = draw(PRICES)
        spread = draw(st.one_of(st.just(0), st.integers(0, 300_000)))
        classes.append(
            TariffClass(
                id=f"c{number}",
                import_price_nano_per_wh=export + spread,
                export_price_nano_per_wh=export,
            )
        )
    return tuple(classes)


@st.composite
def markets(draw: st.DrawFn) -> Market:
    """A connected network with some groups, at least one."""
    network = Network.from_data(draw(networks(largest=5)))
    classes = draw(tariff_classes())
    keys = [(node.id, item.id) for node in network.nodes for item in classes]
    chosen = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=6, unique=True))
    return build_market(network, classes, chosen)


@st.composite
def any_markets(draw: st.DrawFn, most_groups: int = 12) -> Market:
    """Any graph: islands, forests, meshes; groups enough for several rows of a certificate, or none."""
    count = draw(st.integers(1, 6))
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    pairs = draw(st.lists(ends, max_size=9))
    chosen = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    graph = Graph(
        access_fee_nano_per_wh=tuple(draw(FEES) for _ in range(count)),
        edge_from=tuple(tail for tail, _ in chosen),
        edge_to=tuple(head for _, head in chosen),
        edge_fee_nano_per_wh=tuple(draw(FEES) for _ in chosen),
    )
    classes = draw(tariff_classes())
    places = st.tuples(st.integers(0, count - 1), st.integers(0, len(classes) - 1))
    keys = sorted(draw(st.lists(places, max_size=most_groups, unique=True)))
    groups = tuple(
        Group(
            node,
            number,
            classes[number].import_price_nano_per_wh,
            classes[number].export_price_nano_per_wh,
        )
        for node, number in keys
    )
    nodes = tuple(f"n{node}" for node in range(count))
    names = tuple(item.id for item in classes)
    index = {(nodes[node], names[number]): at for at, (node, number) in enumerate(keys)}
    return Market(graph, groups, nodes, names, index)


@dataclass(frozen=True, slots=True)
class Cleared:
    """A market's intervals with optimal clearings."""

    market: Market
    share_millionths: int
    intervals: tuple[tuple[Problem, Solution], ...]


@st.composite
def cleared_markets(draw: st.DrawFn, most_intervals: int = 3) -> Cleared:
    """A market cleared for some intervals, of energies that take two to eight bytes; in some nobody buys or nobody sells."""
    market = draw(any_markets())
    count = len(market.groups)
    largest = 256 ** draw(st.integers(2, 8)) - 1
    energy = st.one_of(
        st.sampled_from([0, 0, 1, 100, largest]), st.integers(0, 5000), st.integers(0, largest)
    )
    energies = st.lists(energy, min_size=count, max_size=count).map(tuple)
    nothing = st.just((0,) * count)
    intervals = []
    for _ in range(draw(st.integers(1, most_intervals))):
        sides = draw(
            st.sampled_from([(energies, energies)] * 4 + [(nothing, energies), (energies, nothing)])
        )
        problem = Problem(market, draw(sides[0]), draw(sides[1]))
        intervals.append((problem, cheapest(problem)))
    return Cleared(market, draw(SHARES), tuple(intervals))


def readings(largest_wh: int = 2**56 - 1) -> st.SearchStrategy[IntervalReading]:
    """One interval's reading of any quality."""
    energy = st.one_of(
        st.sampled_from([0, 1, largest_wh]), st.integers(0, 5000), st.integers(0, largest_wh)
    )
    return st.builds(IntervalReading, energy, energy, st.sampled_from(list(Quality)))


@st.composite
def communities(
    draw: st.DrawFn, most_members: int = 7, most_intervals: int = 3
) -> tuple[Community, list[Energy]]:
    """A random community and what its members used and made in two consecutive periods of the same length."""
    network = Network.from_data(draw(networks(largest=4)))
    classes = draw(tariff_classes())
    members = tuple(
        member_at(
            FIRST_MEMBER_SLOT + index,
            draw(st.sampled_from(network.nodes)).id,
            draw(st.sampled_from(classes)).id,
        )
        for index in range(draw(st.integers(1, most_members)))
    )
    length = draw(st.integers(1, most_intervals))
    taken = st.one_of(st.sampled_from([0, 0, 1, 100]), st.integers(0, 5000), st.integers(0, 2**40))
    pairs = st.tuples(taken, taken)
    energies: list[Energy] = [
        {
            member.slot: tuple(draw(st.lists(pairs, min_size=length, max_size=length)))
            for member in members
        }
        for _ in range(2)
    ]
    return Community(network, classes, members, draw(SHARES)), energies


@st.composite
def ledgers(draw: st.DrawFn, most: int = 8) -> dict[int, LedgerLeaf]:
    """Some accounts at any slots, with any money."""
    slots = draw(st.lists(SLOTS, max_size=most, unique=True))
    return {
        slot: LedgerLeaf(slot, draw(MONEY_NANO), draw(MONEY_NANO), draw(WORDS), draw(WORDS))
        for slot in slots
    }


def positions(depth: int = ACCOUNT_DEPTH) -> st.SearchStrategy[int]:
    """A position in a tree; neighbours and both ends are likely."""
    last = 2**depth - 1
    return st.one_of(
        st.sampled_from([0, 1, last]), st.integers(0, min(9, last)), st.integers(0, last)
    )


def leaves_by_position(depth: int = ACCOUNT_DEPTH) -> st.SearchStrategy[dict[int, bytes]]:
    """Leaves of a plain tree."""
    return st.dictionaries(positions(depth), WORDS, max_size=8)


def reports() -> st.SearchStrategy[OracleReport]:
    """Any oracle report."""
    return st.builds(
        OracleReport,
        unsigned(64),
        unsigned(32),
        unsigned(64),
        unsigned(32),
        WORDS,
        WORDS,
        WORDS,
    )


def headers() -> st.SearchStrategy[BatchHeader]:
    """Any batch header."""
    sizes = (64, 64, 32, 64, 32, 64, 64)
    numbers: list[Any] = [unsigned(bits) for bits in sizes]
    return st.builds(
        BatchHeader,
        *numbers,
        *[WORDS] * 7,
        unsigned(8),
        *[WORDS] * 2,
        *[signed(128)] * 3,
    )


__all__ = [
    "FEES",
    "Cleared",
    "any_markets",
    "cleared_markets",
    "communities",
    "headers",
    "leaves_by_position",
    "ledgers",
    "markets",
    "positions",
    "readings",
    "reports",
    "signed",
    "tariff_classes",
    "unsigned",
]
