"""The proof of optimality: Solidity and a second reading of the same bytes agree on every total and every refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from web3.contract import Contract

from backend.domain.errors import ContractRefused
from backend.market.certificate import (
    dual_value_nano,
    duality_gap_nano,
    network_fees_nano,
    outside_cost_nano,
    primal_cost_nano,
)
from backend.market.pricing import savings_share_steps
from backend.market.problem import Graph, Group, Market, Problem, Solution
from backend.settlement.clearing_encoding import edge_order, pack_clearing
from contracts.bindings import tariff_tuple
from tests.support.certificates import Verdict, verdict
from tests.support.chain import answer, said
from tests.support.strategies import Cleared, cleared_markets

EXAMPLES = settings.default.max_examples  # type: ignore[union-attr]


def solidity(
    harness: Contract, cleared: Cleared, data: bytes | None = None, count: int | None = None
) -> Verdict:
    """What the contract makes of the clearing."""
    outcome = answer(
        harness.functions.verifyCertificates(
            tariff_tuple(cleared.market, cleared.share_millionths),
            pack_clearing(cleared.intervals) if data is None else data,
            len(cleared.intervals) if count is None else count,
        )
    )
    if isinstance(outcome, ContractRefused):
        refused = said(outcome)
        assert refused is not None
        return refused
    return tuple(outcome)


def python(cleared: Cleared, data: bytes | None = None, count: int | None = None) -> Verdict:
    """What the second reading makes of it."""
    return verdict(
        cleared.market,
        len(edge_order(cleared.market.graph).chords),
        cleared.share_millionths,
        pack_clearing(cleared.intervals) if data is None else data,
        len(cleared.intervals) if count is None else count,
    )


def taken(outcome: Verdict) -> bool:
    return isinstance(outcome[0], int)


@settings(max_examples=EXAMPLES)
@given(cleared=cleared_markets())
def test_optimal_clearings_of_any_network_are_taken_with_the_same_totals(
    harness: Contract, cleared: Cleared
) -> None:
    """Islands, forests, meshes; two to eight bytes; several rows of groups; intervals in which nobody sells or buys."""
    expected = python(cleared)
    assert taken(expected), expected
    assert solidity(harness, cleared) == expected


@settings(max_examples=EXAMPLES // 4)
@given(cleared=cleared_markets())
def test_the_totals_are_those_of_the_engines_own_bookkeeping(cleared: Cleared) -> None:
    """The second reading itself agrees with backend.market on what supplier, DSO and fund receive."""
    supplier = fees = fund = 0
    for problem, solution in cleared.intervals:
        cost = primal_cost_nano(problem, solution)
        assert duality_gap_nano(problem, solution) == 0
        savings = outside_cost_nano(problem) - cost
        demand, supply = sum(problem.demand_wh), sum(problem.supply_wh)
        discount, premium = savings_share_steps(savings, demand, supply, cleared.share_millionths)
        supplier += cost - network_fees_nano(problem, solution)
        fees += network_fees_nano(problem, solution)
        fund += savings - discount * demand - premium * supply
    assert python(cleared)[:3] == (supplier, fees, fund)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[Cleared, bytes]:
    """A clearing with one byte changed."""
    cleared = draw(cleared_markets(most_intervals=2))
    data = bytearray(pack_clearing(cleared.intervals))
    position = draw(st.one_of(st.integers(0, len(data) - 1), st.integers(0, min(4, len(data) - 1))))
    change = draw(st.one_of(st.sampled_from([1, 128, 255]), st.integers(1, 255)))
    data[position] ^= change
    return cleared, bytes(data)


@settings(max_examples=EXAMPLES)
@given(mutation=mutations())
def test_one_byte_changed_is_refused_or_shows_in_what_was_signed_or_changes_nothing(
    harness: Contract, mutation: tuple[Cleared, bytes]
) -> None:
    """Refused for the same reason; or other totals, which the oracle has not signed; or another proof of the same prices."""
    cleared, data = mutation
    found = solidity(harness, cleared, data)
    assert found == python(cleared, data)
    if taken(found):
        honest = python(cleared)
        supplier, fees, fund, totals_hash, _ = found
        if totals_hash == honest[3]:
            # No other clearing of what was metered is as cheap and books other prices.
            assert found[4] == honest[4]
            assert supplier + fees + fund == honest[0] + honest[1] + honest[2]


VERDICTS = (
    "MatchedAboveMetered",
    "PriceGapAboveFee",
    "NodeOutOfBalance",
    "NotOptimal",
    "WrongEnergyWidth",
    "WrongClearingLength",
    "other totals",
)


def test_mutations_reach_every_verdict() -> None:
    """The test above is worth something only if its cases end in every way there is."""
    reached = set()

    # The same cases each time: by chance a rare verdict is missed.
    @settings(max_examples=4 * EXAMPLES, phases=[Phase.generate], derandomize=True)
    @given(mutation=mutations())
    def reach(mutation: tuple[Cleared, bytes]) -> None:
        cleared, data = mutation
        outcome = python(cleared, data)
        same = outcome == python(cleared)
        reached.add(("another proof" if same else "other totals") if taken(outcome) else outcome[0])

    reach()
    # Which of the rarer ones come up depends on the draw; each has a test of its own below.
    assert reached >= set(VERDICTS) - {"PriceGapAboveFee", "NodeOutOfBalance"}


def test_mutations_reach_another_proof_of_the_same_prices() -> None:
    """Rarer: a node price that may be a little otherwise."""

    def reaches(mutation: tuple[Cleared, bytes]) -> bool:
        cleared, data = mutation
        return python(cleared, data) == python(cleared)

    search = settings(max_examples=5000, derandomize=True, database=None, phases=[Phase.generate])
    assert find(mutations(), reaches, settings=search)


@st.composite
def altered_solutions(draw: st.DrawFn) -> Cleared:
    """One number of one interval changed, by a little or to an extreme."""
    cleared = draw(cleared_markets(most_intervals=2))
    at = draw(st.integers(0, len(cleared.intervals) - 1))
    problem, solution = cleared.intervals[at]
    field = draw(
        st.sampled_from(["matched_demand_wh", "matched_supply_wh", "flow_wh", "price_nano_per_wh"])
    )
    values = list(getattr(solution, field))
    assume(values)
    position = draw(st.integers(0, len(values) - 1))
    values[position] += draw(st.sampled_from([1, -1, 7, -7, 100, -100, 10**6]))
    if field.startswith("matched"):
        assume(0 <= values[position] < 256 ** pack_clearing(cleared.intervals)[0])
    changed: tuple[Problem, Solution] = (problem, replace(solution, **{field: tuple(values)}))
    intervals = (*cleared.intervals[:at], changed, *cleared.intervals[at + 1 :])
    return replace(cleared, intervals=intervals)


@settings(max_examples=EXAMPLES // 2)
@given(cleared=altered_solutions())
def test_one_number_changed_is_judged_alike(harness: Contract, cleared: Cleared) -> None:
    assert solidity(harness, cleared) == python(cleared)


@settings(max_examples=EXAMPLES // 4)
@given(cleared=cleared_markets(most_intervals=2), cut=st.integers(-40, 40))
def test_data_of_another_length(harness: Contract, cleared: Cleared, cut: int) -> None:
    data = pack_clearing(cleared.intervals)
    assume(cut and len(data) + cut >= 0)
    wrong = data + bytes(cut) if cut > 0 else data[:cut]
    assert solidity(harness, cleared, wrong) == python(cleared, wrong)
    assert not taken(solidity(harness, cleared, wrong))
    count = len(cleared.intervals) + 1
    assert solidity(harness, cleared, data, count) == python(cleared, data, count)


@settings(max_examples=EXAMPLES // 4)
@given(cleared=cleared_markets(most_intervals=1), data=st.data())
def test_what_follows_the_data_does_not_matter(
    harness: Contract, cleared: Cleared, data: st.DataObject
) -> None:
    """The last fields are read as part of a longer word: bytes after them must not leak in."""
    call = harness.functions.verifyCertificates(
        tariff_tuple(cleared.market, cleared.share_millionths), pack_clearing(cleared.intervals), 1
    )
    dirty = call._encode_transaction_data() + data.draw(st.binary(min_size=1, max_size=64)).hex()
    web3 = harness.w3
    clean = web3.eth.call({"to": harness.address, "data": call._encode_transaction_data()})
    assert web3.eth.call({"to": harness.address, "data": dirty}) == clean  # type: ignore[typeddict-item]


def test_energies_have_two_to_eight_bytes(harness: Contract) -> None:
    market = Market(Graph((0,), (), (), ()), (Group(0, 0, 9, 5),), ("n",), ("a",), {("n", "a"): 0})
    cleared = Cleared(market, 0, ((Problem(market, (1,), (0,)), Solution((0,), (0,), (), (0,))),))
    data = pack_clearing(cleared.intervals)
    assert taken(solidity(harness, cleared, data))
    for width in (0, 1, 9, 255):
        found = solidity(harness, cleared, bytes([width]) + data[1:])
        assert found == ("WrongEnergyWidth", width)
    assert solidity(harness, cleared, b"") == ("WrongEnergyWidth", 0)


@settings(max_examples=EXAMPLES // 4)
@given(cleared=cleared_markets(most_intervals=1), data=st.data())
def test_no_node_prices_prove_more_than_the_optimum(cleared: Cleared, data: st.DataObject) -> None:
    """Weak duality: for any prices within the fees the gap is not negative, so nobody passes for better than optimal."""
    problem, solution = cleared.intervals[0]
    shift = data.draw(st.integers(-(10**6), 10**6))
    prices = tuple(price + shift for price in solution.price_nano_per_wh)
    assert dual_value_nano(problem, prices) <= primal_cost_nano(problem, solution)


@pytest.mark.parametrize("width", [2, 3, 8])
def test_sums_of_the_longest_period_and_the_largest_energies_fit(
    harness: Contract, width: int
) -> None:
    """Three groups at one node: two that want all there is, one that has it; nothing overflows into a neighbour's field."""
    largest = 256**width - 1
    market = Market(
        Graph((0,), (), (), ()),
        (Group(0, 0, 2**40 - 1, -(2**40) + 1), Group(0, 1, 9, 5), Group(0, 2, 8, 5)),
        ("n",),
        ("a", "b", "c"),
        {("n", "a"): 0, ("n", "b"): 1, ("n", "c"): 2},
    )
    problem = Problem(market, (largest, largest, largest), (largest, 0, largest))
    solution = Solution((largest, largest, 0), (largest, 0, largest), (), (8,))
    assert duality_gap_nano(problem, solution) == 0
    cleared = Cleared(market, 400_000, ((problem, solution),) * 300)
    expected = python(cleared)
    assert taken(expected)
    assert solidity(harness, cleared) == expected
