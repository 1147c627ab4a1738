"""Which tariff holds in which period, and what no tariff may say."""

from __future__ import annotations

from typing import Any

import pytest
from web3.contract.contract import ContractFunction

from backend.settlement.clearing_encoding import tariff_hash
from contracts.bindings import tariff_tuple
from tests.support.chain import answer, said
from tests.support.community import FIRST_PERIOD, SHARE_MILLIONTHS, LiveCommunity

PRICE_LIMIT = 2**40
MINUS = 2**64  # two's complement of eight bytes


def group_word(
    node: int = 0,
    tariff_class: int = 0,
    import_price: int = 300_000,
    export_price: int = 80_000,
    access_fee: int = 0,
) -> bytes:
    return b"".join(
        value.to_bytes(size, "big", signed=signed)
        for value, size, signed in (
            (import_price, 8, True),
            (export_price, 8, True),
            (access_fee, 8, False),
            (node, 4, False),
            (tariff_class, 4, False),
        )
    )


def edge_word(tail: int = 0, head: int = 1, fee: int = 10_000) -> bytes:
    return tail.to_bytes(4, "big") + head.to_bytes(4, "big") + fee.to_bytes(8, "big") + bytes(16)


def announce(
    community: LiveCommunity, tariff: tuple[Any, ...], from_period: int = FIRST_PERIOD + 1
) -> ContractFunction:
    call: ContractFunction = community.functions("TariffBook").announce(tariff, from_period)
    return call


def test_the_announced_tariff_is_public_in_full(community: LiveCommunity) -> None:
    (event,) = community.events("TariffBook", "TariffAnnounced")
    assert event["tariffHash"] == tariff_hash(community.market, SHARE_MILLIONTHS)
    assert event["fromPeriod"] == FIRST_PERIOD
    names = ("shareMillionths", "nodeCount", "chordCount", "groups", "edges")
    found = tuple(event["tariff"][name] for name in names)
    assert found == tariff_tuple(community.market, SHARE_MILLIONTHS)


def test_each_period_has_the_newest_tariff_announced_for_it(community: LiveCommunity) -> None:
    hashes = {}
    for offset, share in ((0, SHARE_MILLIONTHS), (5, 1), (6, 2), (90, 3)):
        hashes[offset] = tariff_hash(community.market, share)
        if offset:
            community.send(
                community.contracts.announce_tariff(community.market, share, FIRST_PERIOD + offset)
            )
    for offset, holds in ((0, 0), (4, 0), (5, 5), (6, 6), (89, 6), (90, 90), (10**6, 90)):
        found = community.contracts.tariff_hash_at(FIRST_PERIOD + offset)
        assert found == hashes[holds], offset


def test_one_announcement_does_not_end_all_others(community: LiveCommunity) -> None:
    """None comes before the newest, so none is for a period of the next century."""
    limit = FIRST_PERIOD + 400
    for period in (limit + 1, 2**64 - 1):
        call = community.contracts.announce_tariff(community.market, 7, period)
        assert community.refused(call, "deployer") == ("TooFarAhead", period, limit)
    community.send(community.contracts.announce_tariff(community.market, 7, limit))
    community.submit(community.batch(0))
    limit = community.contracts.first_future_period() + 400
    call = community.contracts.announce_tariff(community.market, 7, limit + 1)
    assert community.refused(call, "deployer") == ("TooFarAhead", limit + 1, limit)
    community.send(community.contracts.announce_tariff(community.market, 7, limit))


def test_an_old_period_is_found_among_many(community: LiveCommunity) -> None:
    """A community that announces for every interval corrects one of a month ago; each entry read costs 2 100 gas."""
    call = community.functions("TariffBook").tariffHashAt
    one = call(FIRST_PERIOD).estimate_gas()
    offsets, share = [0], SHARE_MILLIONTHS
    for step in (
        1,
        1,
        2,
        1,
        3,
        1,
        1,
        1,
        5,
        1,
        1,
        2,
        1,
        1,
        1,
        1,
        4,
        1,
        1,
        1,
        1,
        1,
        1,
        2,
        1,
        1,
        1,
        1,
        1,
    ):
        offsets.append(offsets[-1] + step)
        call_ = community.contracts.announce_tariff(
            community.market, offsets[-1], FIRST_PERIOD + offsets[-1]
        )
        community.send(call_)
    for period in range(offsets[-1] + 3):
        holds = max(offset for offset in offsets if offset <= period)
        expected = tariff_hash(community.market, holds or share)
        assert community.contracts.tariff_hash_at(FIRST_PERIOD + period) == expected
    # Of 30 entries at most 5 steps back and 4 halves are read more than of one.
    assert call(FIRST_PERIOD).estimate_gas() - one < 10 * 2_800
    assert said(answer(call(FIRST_PERIOD - 1))) == ("NoTariffYet", FIRST_PERIOD - 1)


def test_before_the_first_there_is_none(community: LiveCommunity) -> None:
    call = community.functions("TariffBook").tariffHashAt(FIRST_PERIOD - 1)
    assert said(answer(call)) == ("NoTariffYet", FIRST_PERIOD - 1)


def test_what_was_announced_is_not_announced_otherwise(community: LiveCommunity) -> None:
    call = community.contracts.announce_tariff(community.market, 7, FIRST_PERIOD)
    assert community.refused(call, "deployer") == ("NotAfterLast", FIRST_PERIOD, FIRST_PERIOD)


def test_a_period_that_has_begun_keeps_its_tariff(community: LiveCommunity) -> None:
    community.submit(community.batch(0))
    first_future = community.contracts.first_future_period()
    for period in (FIRST_PERIOD + 1, first_future - 1):
        call = community.contracts.announce_tariff(community.market, 7, period)
        refused = community.refused(call, "deployer")
        assert refused == ("PeriodBegun", period, first_future)
    community.send(community.contracts.announce_tariff(community.market, 7, first_future))


def test_the_largest_prices_and_fees_are_taken(community: LiveCommunity) -> None:
    limit = PRICE_LIMIT - 1
    groups = [
        group_word(0, 0, limit, limit, limit),
        group_word(0, 1, -limit, -limit, 0),
        group_word(1, 0, limit, -limit, limit),
    ]
    tariff = (1_000_000, 2, 0, groups, [edge_word(0, 1, limit)])
    assert community.refused(announce(community, tariff), "deployer") is None


@pytest.mark.parametrize(
    ("nodes", "chords", "edges"),
    [
        (0, 0, []),
        (5, 0, []),
        (3, 0, [(2, 1), (1, 0)]),
        (3, 0, [(1, 0), (2, 0)]),
        (4, 0, [(3, 2), (1, 0)]),
        (3, 1, [(0, 2), (2, 1), (1, 0)]),
        (3, 3, [(0, 1), (1, 2), (2, 0)]),
        (2, 2, [(0, 1), (0, 1)]),
        (2, 1, [(0, 1), (1, 0)]),
    ],
    ids=[
        "nothing",
        "islands",
        "chain",
        "star",
        "forest",
        "circle",
        "all chords",
        "two chords",
        "parallel lines",
    ],
)
def test_any_graph_can_be_announced(
    community: LiveCommunity, nodes: int, chords: int, edges: list[tuple[int, int]]
) -> None:
    tariff = (0, nodes, chords, [], [edge_word(*edge) for edge in edges])
    assert community.refused(announce(community, tariff), "deployer") is None


@pytest.mark.parametrize(
    ("nodes", "chords", "edges", "edge"),
    [
        (3, 0, [(0, 1), (1, 2), (2, 0)], 2),
        (2, 0, [(0, 1), (0, 1)], 1),
        (2, 0, [(0, 1), (1, 0)], 1),
        (2, 0, [(1, 1)], 0),
        (3, 0, [(1, 0), (2, 1)], 1),
        (3, 1, [(0, 1), (0, 1), (0, 2)], 2),
        (4, 1, [(1, 2), (3, 2), (2, 1), (1, 0), (0, 3)], 4),
    ],
    ids=[
        "circle",
        "line twice",
        "back and forth",
        "to itself",
        "wrong order",
        "node goes twice",
        "to a node that is gone",
    ],
)
def test_edges_that_are_no_chords_take_their_nodes_off_one_by_one(
    community: LiveCommunity, nodes: int, chords: int, edges: list[tuple[int, int]], edge: int
) -> None:
    """Otherwise what is left at the roots would not be the balance of all nodes."""
    tariff = (0, nodes, chords, [], [edge_word(*ends) for ends in edges])
    assert community.refused(announce(community, tariff), "deployer") == ("NotATree", edge)


@pytest.mark.parametrize(
    ("tariff", "error"),
    [
        ((1_000_001, 1, 0, [], []), ("ShareAboveOne", 1_000_001)),
        ((0, 4097, 0, [], []), ("TooManyNodes", 4097, 4096)),
        ((0, 1, 0, [bytes(32)] * 4097, []), ("TooManyGroups", 4097, 4096)),
        ((0, 1, 0, [], [bytes(32)] * 8193), ("TooManyEdges", 8193, 8192)),
        ((0, 2, 2, [], [edge_word()]), ("TooManyChords", 2, 1)),
        ((0, 2, 1, [], []), ("TooManyChords", 1, 0)),
        ((0, 0, 0, [group_word(0)], []), ("UnknownNode", 0, 0)),
        ((0, 2, 0, [group_word(2)], []), ("UnknownNode", 2, 2)),
        ((0, 2, 0, [group_word(0), group_word(0)], []), ("GroupsOutOfOrder", 1)),
        ((0, 2, 0, [group_word(1), group_word(0, 5)], []), ("GroupsOutOfOrder", 1)),
        ((0, 1, 0, [group_word(0, 1), group_word(0, 0)], []), ("GroupsOutOfOrder", 1)),
        (
            (0, 1, 0, [group_word(import_price=5, export_price=6)], []),
            ("ExportAboveImport", 0, 6, 5),
        ),
        (
            (0, 1, 0, [group_word(import_price=PRICE_LIMIT)], []),
            ("PriceOutOfRange", 0, PRICE_LIMIT),
        ),
        (
            (0, 1, 0, [group_word(), group_word(0, 1, export_price=-PRICE_LIMIT)], []),
            ("PriceOutOfRange", 1, -PRICE_LIMIT),
        ),
        ((0, 1, 0, [group_word(access_fee=MINUS - 1)], []), ("PriceOutOfRange", 0, MINUS - 1)),
        ((0, 2, 0, [], [edge_word(2, 1)]), ("UnknownNode", 2, 2)),
        ((0, 2, 1, [], [edge_word(0, 1), edge_word(1, 2)]), ("UnknownNode", 2, 2)),
        ((0, 2, 0, [], [edge_word(fee=PRICE_LIMIT)]), ("PriceOutOfRange", 0, PRICE_LIMIT)),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)
def test_a_tariff_that_breaks_a_rule_is_refused(
    community: LiveCommunity, tariff: tuple[Any, ...], error: tuple[Any, ...]
) -> None:
    assert community.refused(announce(community, tariff), "deployer") == error
