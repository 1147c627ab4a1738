"""Random cases for hypothesis: trees and meshes, several tariff classes, ties and zeros made likely on purpose."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

PRICES = st.one_of(st.sampled_from([0, 60_000, 80_000]), st.integers(-50_000, 200_000))
FEES = st.one_of(st.sampled_from([0, 10, 10_000]), st.integers(0, 120_000))
NET_WH = st.one_of(
    st.sampled_from([0, 100, -100, 1, -1]), st.integers(-3000, 3000), st.integers(-(2**40), 2**40)
)


@st.composite
def networks(draw: st.DrawFn, largest: int = 6) -> dict[str, Any]:
    """A connected network as case data."""
    count = draw(st.integers(1, largest))
    nodes = [{"id": f"n{i}", "access_fee_nano_per_wh": draw(FEES)} for i in range(count)]
    pairs = {(draw(st.integers(0, i - 1)), i) for i in range(1, count)}
    if count > 2:
        extra = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
        for one, other in draw(st.lists(extra, max_size=3)):
            if one != other:
                pairs.add((min(one, other), max(one, other)))
    edges = [
        {"from": f"n{one}", "to": f"n{other}", "fee_nano_per_wh": draw(FEES)}
        for one, other in sorted(pairs)
    ]
    return {"nodes": nodes, "edges": edges}


@st.composite
def pair_networks(draw: st.DrawFn, largest: int = 6) -> dict[str, Any]:
    """A matrix of pair fees, in general no metric, as case data."""
    count = draw(st.integers(1, largest))
    nodes = [{"id": f"n{i}", "access_fee_nano_per_wh": draw(FEES)} for i in range(count)]
    fees = [[0] * count for _ in nodes]
    for one in range(count):
        for other in range(one + 1):
            fees[one][other] = fees[other][one] = draw(FEES)
    return {"nodes": nodes, "pair_fees_nano_per_wh": fees}


@st.composite
def cases(
    draw: st.DrawFn,
    most_members: int = 12,
    net_wh: Any = NET_WH,
    made_on: st.SearchStrategy[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """A case as JSON data; on a graph by default."""
    network = draw(networks() if made_on is None else made_on)
    classes = []
    for number in range(draw(st.integers(1, 3))):
        export = draw(PRICES)
        spread = draw(st.one_of(st.just(0), st.integers(0, 300_000)))
        classes.append(
            {
                "id": f"c{number}",
                "import_price_nano_per_wh": export + spread,
                "export_price_nano_per_wh": export,
            }
        )
    count = draw(st.integers(0, most_members))
    members = [
        {
            "id": f"m{number:02d}",
            "node": draw(st.sampled_from(network["nodes"]))["id"],
            "tariff_class": draw(st.sampled_from(classes))["id"],
            "net_wh": draw(net_wh),
        }
        for number in range(count)
    ]
    return {
        "format": "peerwatt/clearing-case/1",
        "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
        "network": network,
        "tariff_classes": classes,
        "members": members,
    }


def pair_cases(most_members: int = 12, net_wh: Any = NET_WH) -> st.SearchStrategy[dict[str, Any]]:
    """A case with pair fees as JSON data."""
    return cases(most_members, net_wh, pair_networks())
