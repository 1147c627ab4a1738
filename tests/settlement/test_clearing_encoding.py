"""Edge order and clearing bytes on any graph: forests, meshes, islands, parallel edges; read back by a verifier of its own."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.market.certificate import network_fees_nano, outside_cost_nano, primal_cost_nano
from backend.market.pricing import savings_share_steps
from backend.market.problem import Graph, Group, Market, Problem, Solution
from backend.settlement.clearing_encoding import (
    edge_order,
    edge_words,
    group_words,
    pack_clearing,
    pack_prices,
    pack_totals,
)
from tests.settlement.verifier import (
    Refused,
    Verified,
    expected_edge_order,
    read_clearing,
    verify_clearing,
)
from tests.support.clearing import cheapest
from tests.support.strategies import ENERGY_WH, FEES, PRICES, SHARES


@st.composite
def graphs(draw: st.DrawFn, most_chords: int = 4, most_nodes: int = 8) -> Graph:
    """A forest of any number of trees, and up to so many edges more: chords, or the same edge twice."""
    count = draw(st.integers(1, most_nodes))
    # Trees grow in any order of the nodes, so that roots need not be leaves or ends.
    order = draw(st.permutations(range(count)))
    pairs = []
    for place in range(1, count):
        if draw(st.integers(0, 4)):
            pairs.append((order[draw(st.integers(0, place - 1))], order[place]))
    if count > 1:
        for _ in range(draw(st.integers(0, most_chords))):
            ends = draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True))
            pairs.append((ends[0], ends[1]))
    edges = sorted((*sorted(pair), draw(FEES)) for pair in pairs)
    return Graph(
        access_fee_nano_per_wh=tuple(draw(st.lists(FEES, min_size=count, max_size=count))),
        edge_from=tuple(edge[0] for edge in edges),
        edge_to=tuple(edge[1] for edge in edges),
        edge_fee_nano_per_wh=tuple(edge[2] for edge in edges),
    )


@dataclass(frozen=True)
class Day:
    """A market and its cleared intervals."""

    market: Market
    share_millionths: int
    intervals: tuple[tuple[Problem, Solution], ...]

    def packed(self) -> bytes:
        return pack_clearing(self.intervals)

    def verified(self, data: bytes) -> Verified:
        """Read and checked by the verifier that shares no code with the platform."""
        return verify_clearing(
            group_words(self.market),
            edge_words(self.market.graph),
            self.market.graph.node_count,
            len(edge_order(self.market.graph).chords),
            self.share_millionths,
            data,
            len(self.intervals),
        )


@st.composite
def days(draw: st.DrawFn, most_chords: int = 4, most_intervals: int = 3) -> Day:
    """Any market on any graph, cleared; several groups at a node, nodes without any."""
    graph = draw(graphs(most_chords, most_nodes=6))
    keys = st.tuples(st.integers(0, graph.node_count - 1), st.integers(0, 2))
    groups = []
    for node, tariff_class in sorted(draw(st.sets(keys, min_size=1, max_size=8))):
        export = draw(PRICES)
        groups.append(Group(node, tariff_class, export + draw(st.integers(0, 300_000)), export))
    market = Market(graph, tuple(groups), (), (), {})
    energies = st.lists(ENERGY_WH, min_size=len(groups), max_size=len(groups)).map(tuple)
    problems = [
        Problem(market, draw(energies), draw(energies))
        for _ in range(draw(st.integers(1, most_intervals)))
    ]
    return Day(market, draw(SHARES), tuple((problem, cheapest(problem)) for problem in problems))


def ends_of(graph: Graph) -> list[tuple[int, int]]:
    return list(zip(graph.edge_from, graph.edge_to, strict=True))


class TestEdgeOrder:
    @given(graph=graphs(most_nodes=12))
    def test_every_node_but_the_roots_is_taken_off_once_and_nothing_flows_to_it_afterwards(
        self, graph: Graph
    ) -> None:
        """What TariffBook asks for, and that the roots are one for each island."""
        taken: set[int] = set()
        for edge, tail, head in edge_order(graph).tree:
            assert {tail, head} == set(ends_of(graph)[edge])
            assert tail != head
            assert not {tail, head} & taken
            taken.add(tail)
        islands = nx.Graph(ends_of(graph))
        islands.add_nodes_from(range(graph.node_count))
        roots = set(range(graph.node_count)) - taken
        assert roots == {min(island) for island in nx.connected_components(islands)}

    @given(graph=graphs(most_nodes=12))
    def test_every_edge_has_one_place(self, graph: Graph) -> None:
        order = edge_order(graph)
        assert sorted((*order.chords, *(edge for edge, _, _ in order.tree))) == list(
            range(len(graph.edge_from))
        )
        assert list(order.chords) == sorted(order.chords)

    @given(graph=graphs(most_nodes=12))
    def test_it_is_the_specified_one(self, graph: Graph) -> None:
        order = edge_order(graph)
        expected = expected_edge_order(graph.node_count, ends_of(graph))
        assert (list(order.chords), list(order.tree)) == expected

    @given(graph=graphs(most_chords=0, most_nodes=12))
    def test_a_forest_has_no_chords(self, graph: Graph) -> None:
        assert edge_order(graph).chords == ()


class TestClearing:
    @given(day=days())
    def test_it_reads_back_as_it_was(self, day: Day) -> None:
        market = day.market
        chords = edge_order(market.graph).chords
        width, intervals = read_clearing(
            day.packed(),
            len(market.groups),
            market.graph.node_count,
            len(chords),
            len(day.intervals),
        )
        energies = [
            energy
            for problem, _ in day.intervals
            for energy in (*problem.demand_wh, *problem.supply_wh)
        ]
        assert width == max(2, -(-max(energies).bit_length() // 8))
        for read, (problem, solution) in zip(intervals, day.intervals, strict=True):
            assert read.demand == list(problem.demand_wh)
            assert read.supply == list(problem.supply_wh)
            assert read.certified == (any(problem.demand_wh) and any(problem.supply_wh))
            if read.certified:
                assert read.bought == list(solution.matched_demand_wh)
                assert read.sold == list(solution.matched_supply_wh)
                assert read.price == list(solution.price_nano_per_wh)
                assert read.chord_flow == [solution.flow_wh[chord] for chord in chords]

    @pytest.mark.parametrize("most_chords", [0, 4])
    @given(data=st.data())
    def test_flows_follow_from_the_balances(self, most_chords: int, data: st.DataObject) -> None:
        """On forests all of them, on meshes those of the tree edges."""
        day = data.draw(days(most_chords))
        order = edge_order(day.market.graph)
        found = day.verified(day.packed())
        for flows, (_, solution) in zip(found.flows, day.intervals, strict=True):
            if not flows:
                continue
            expected = [solution.flow_wh[chord] for chord in order.chords]
            for edge, tail, _ in order.tree:
                along = day.market.graph.edge_from[edge] == tail
                expected.append(solution.flow_wh[edge] if along else -solution.flow_wh[edge])
            assert flows == expected

    @given(day=days())
    def test_totals_and_prices_follow(self, day: Day) -> None:
        found = day.verified(day.packed())
        problems = [problem for problem, _ in day.intervals]
        assert found.totals == pack_totals([(item.demand_wh, item.supply_wh) for item in problems])
        savings = [
            outside_cost_nano(problem) - primal_cost_nano(problem, solution)
            for problem, solution in day.intervals
        ]
        assert found.savings == savings
        steps = [
            savings_share_steps(
                saved, sum(problem.demand_wh), sum(problem.supply_wh), day.share_millionths
            )
            for saved, problem in zip(savings, problems, strict=True)
        ]
        assert found.prices == pack_prices(steps)
        fees = sum(network_fees_nano(*interval) for interval in day.intervals)
        assert found.fees == fees
        assert found.supplier == sum(map(outside_cost_nano, problems)) - sum(savings) - fees
        assert found.fund >= 0

    @given(day=days(most_intervals=1), data=st.data())
    def test_no_other_bytes_save_more_or_less(self, day: Day, data: st.DataObject) -> None:
        """A certificate may be another of equal worth; it cannot be a worse or a better one."""
        packed = day.packed()
        honest = day.verified(packed)
        first = len(honest.totals)
        assume(first < len(packed))
        at = data.draw(st.integers(first, len(packed) - 1))
        changed = packed[at] ^ data.draw(st.integers(1, 255))
        try:
            found = day.verified(packed[:at] + bytes([changed]) + packed[at + 1 :])
        except Refused:
            return
        assert (found.savings, found.prices) == (honest.savings, honest.prices)

    @given(day=days(most_intervals=1))
    def test_less_than_the_optimum_is_refused(self, day: Day) -> None:
        ((problem, solution),) = day.intervals
        graph = day.market.graph
        assume(outside_cost_nano(problem) > primal_cost_nano(problem, solution))
        nothing = Solution(
            (0,) * len(day.market.groups),
            (0,) * len(day.market.groups),
            (0,) * len(graph.edge_from),
            solution.price_nano_per_wh,
        )
        with pytest.raises(Refused, match="NotOptimal"):
            day.verified(pack_clearing([(problem, nothing)]))

    @pytest.mark.parametrize(
        ("largest", "width"),
        [(0, 2), (255, 2), (2**16 - 1, 2), (2**16, 3), (2**24, 4), (2**56, 8), (2**64 - 1, 8)],
    )
    def test_energies_take_as_many_bytes_as_the_largest(self, largest: int, width: int) -> None:
        packed = pack_totals([([0, 1], [0, largest])])
        assert packed[0] == width
        assert len(packed) == 1 + 4 * width
        assert int.from_bytes(packed[-width:], "big") == largest

    def test_what_needs_more_than_eight_bytes_is_refused(self) -> None:
        with pytest.raises(OverflowError, match="8 bytes"):
            pack_totals([([2**64], [0])])
