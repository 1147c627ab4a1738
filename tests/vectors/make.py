"""Writes the test vectors of docs/protocol.md: `python -m tests.vectors.make`. The same bytes on every machine.

Vectors are for whoever writes a verifier in another language; `tests/settlement/test_vectors.py` recomputes each of them twice,
with `backend.settlement` and with code that shares nothing with it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality, RegisterReading
from backend.market.certificate import (
    dual_value_nano,
    network_fees_nano,
    outside_cost_nano,
    primal_cost_nano,
)
from backend.market.pricing import savings_share_steps
from backend.market.problem import Graph, Group, Market, Problem, Solution
from backend.negotiation.agreement import TRADE_LIMITS_TYPE, TradeLimits
from backend.settlement.batch import Batch
from backend.settlement.bundle import canonical_json
from backend.settlement.clearing_encoding import (
    edge_order,
    edge_words,
    group_words,
    pack_clearing,
    pack_prices,
    pack_totals,
    tariff_hash,
)
from backend.settlement.encoding import (
    DEPARTURE_TYPE,
    DOMAIN_TYPE,
    EMPTY,
    MEMBERSHIP_TYPE,
    METER_READING_TYPE,
    ORACLE_REPORT_TYPE,
    BatchHeader,
    LedgerLeaf,
    OracleReport,
    departure_hash,
    domain_separator,
    genesis_hash,
    membership_hash,
    meter_reading_hash,
    oracle_config_digest,
    pack_readings,
    pack_sums,
    readings_leaf,
    trade_leaf,
    typed_data_digest,
)
from backend.settlement.forward import (
    FORWARD_TRADE_TYPE,
    CommittedBook,
    ForwardTrade,
    SignedTrade,
    book_data,
    standing_trades,
    trade_book,
)
from backend.settlement.statement import statement_amount_nano
from backend.settlement.trees import TRADES_DEPTH, PositionalTree, SumTree
from oracle.signing import (
    RETRACTION_TYPE,
    address_of,
    private_key,
    recover,
    retraction_hash,
    sign_digest,
)
from tests.support.clearing import cheapest
from tests.support.community import (
    PAPER,
    Community,
    energy_of,
    example_community,
    period_number,
)

FOLDER = Path(__file__).parent

CHAIN_ID = 1337
ORACLE_CONTRACT = "0x" + "0a" * 20
CLEARING_HOUSE = "0x" + "c1" * 20
TRADE_BOOK = "0x" + "7b" * 20
MEMBER_REGISTRY = "0x" + "3e" * 20
KEY = private_key(keccak(b"peerwatt test vectors"))


def shown(data: bytes) -> str:
    """Bytes as 0x and lower-case hex."""
    return "0x" + data.hex()


def trimmed(proof: list[bytes], step: int) -> list[str]:
    """A proof without the empty siblings at its end."""
    while proof and not any(part.strip(b"\0") for part in proof[-step:]):
        proof = proof[:-step]
    return [shown(part) for part in proof]


def filled(name: str) -> bytes:
    """32 bytes that stand for some hash or salt."""
    return keccak(f"peerwatt test vectors: {name}".encode())


# --- EIP-712 -----------------------------------------------------------------------------------------------------------


def domain() -> list[dict[str, Any]]:
    return [
        {
            "chain_id": chain_id,
            "verifying_contract": contract,
            "type": DOMAIN_TYPE,
            "name": "Peerwatt",
            "version": "1",
            "domain_separator": shown(domain_separator(chain_id, contract)),
        }
        for chain_id, contract in (
            (1, "0x" + "11" * 20),
            (CHAIN_ID, ORACLE_CONTRACT),
            (CHAIN_ID, MEMBER_REGISTRY),
        )
    ]


def _signed(struct_hash: bytes, contract: str = ORACLE_CONTRACT) -> dict[str, str]:
    separator = domain_separator(CHAIN_ID, contract)
    digest = typed_data_digest(separator, struct_hash)
    return {
        "domain_separator": shown(separator),
        "struct_hash": shown(struct_hash),
        "digest": shown(digest),
        "signer": address_of(KEY),
        "signature": shown(sign_digest(KEY, digest)),
    }


def meter_reading() -> list[dict[str, Any]]:
    cases = []
    for reading in (
        RegisterReading(address_of(KEY), 1_920_000, 104_250, 9_007, 17, Quality.MEASURED),
        RegisterReading(address_of(KEY), 2**64 - 1, 2**64 - 1, 0, 0, Quality.SUBSTITUTED),
    ):
        message = {
            "meter": reading.meter,
            "interval": reading.interval,
            "importRegisterWh": reading.import_register_wh,
            "exportRegisterWh": reading.export_register_wh,
            "sequence": reading.sequence,
            "quality": int(reading.quality),
        }
        hashes = _signed(meter_reading_hash(reading))
        cases.append({"type": METER_READING_TYPE, "message": message} | hashes)
    return cases


def reading_retraction() -> list[dict[str, Any]]:
    """Takes back the first case of `meter-reading.json`."""
    taken_back = meter_reading()[0]
    meter, reading = taken_back["message"]["meter"], taken_back["struct_hash"]
    hashes = _signed(retraction_hash(meter, bytes.fromhex(reading[2:])))
    return [{"type": RETRACTION_TYPE, "message": {"meter": meter, "reading": reading}} | hashes]


def oracle_report() -> list[dict[str, Any]]:
    report = OracleReport(
        20_000, 0, 1_920_000, 96, filled("readings root"), filled("totals"), filled("config")
    )
    message = {
        "period": report.period,
        "version": report.version,
        "firstInterval": report.first_interval,
        "intervalCount": report.interval_count,
        "readingsRoot": shown(report.readings_root),
        "totalsHash": shown(report.totals_hash),
        "configDigest": shown(report.config_digest),
    }
    return [{"type": ORACLE_REPORT_TYPE, "message": message} | _signed(report.struct_hash())]


def membership() -> list[dict[str, Any]]:
    cases = []
    for values in (
        (3, address_of(KEY), 20_001, 0, 2, 2),
        (2**20 - 1, address_of(KEY), 2**32 - 1, 2**16 - 1, 2**8 - 1, 2**8 - 1),
    ):
        names = ("slot", "account", "fromPeriod", "node", "tariffClass", "collateralSteps")
        message = dict(zip(names, values, strict=True))
        hashes = _signed(membership_hash(*values), MEMBER_REGISTRY)
        cases.append({"type": MEMBERSHIP_TYPE, "message": message} | hashes)
    return cases


def departure() -> list[dict[str, Any]]:
    return [
        {"type": DEPARTURE_TYPE, "message": {"slot": slot, "untilPeriod": until}}
        | _signed(departure_hash(slot, until), MEMBER_REGISTRY)
        for slot, until in ((3, 20_031), (2**20 - 1, 2**32 - 1))
    ]


def oracle_config() -> list[dict[str, Any]]:
    cases = []
    for threshold, signers in (
        (1, ["0x" + "01" * 20]),
        (2, ["0x" + "01" * 20, "0x" + "7f" * 20, "0x" + "fe" * 20]),
    ):
        digest = oracle_config_digest(CHAIN_ID, CLEARING_HOUSE, ORACLE_CONTRACT, threshold, signers)
        cases.append(
            {
                "tag": "peerwatt.oracle.config.v2",
                "chain_id": CHAIN_ID,
                "clearing_house": CLEARING_HOUSE,
                "oracle_contract": ORACLE_CONTRACT,
                "threshold": threshold,
                "signers": signers,
                "config_digest": shown(digest),
            }
        )
    return cases


# --- Readings ----------------------------------------------------------------------------------------------------------

READINGS = (
    IntervalReading(0, 0, Quality.MEASURED),
    IntervalReading(1200, 0, Quality.MEASURED),
    IntervalReading(31, 400, Quality.SUBSTITUTED),
    IntervalReading(0, 0, Quality.MISSING),
    IntervalReading(2**56 - 1, 2**56 - 1, Quality.MEASURED),
)


def _readings(readings: tuple[IntervalReading, ...]) -> list[dict[str, int]]:
    return [
        {
            "import_wh": reading.import_wh,
            "export_wh": reading.export_wh,
            "quality": int(reading.quality),
        }
        for reading in readings
    ]


def readings_vector() -> list[dict[str, Any]]:
    return [
        {
            "readings": _readings(readings),
            "traded_nano": traded_nano,
            "packed": shown(pack_readings(readings, traded_nano)),
            "hash": shown(keccak(pack_readings(readings, traded_nano))),
        }
        for readings, traded_nano in (((), None), (READINGS, None), (READINGS, -(2**63) - 5))
    ]


def readings_leaves() -> list[dict[str, Any]]:
    return [
        {
            "tag": "peerwatt.readings.leaf.v1",
            "slot": slot,
            "packed": shown(pack_readings(READINGS)),
            "salt": shown(filled("readings salt")),
            "leaf": shown(readings_leaf(slot, pack_readings(READINGS), filled("readings salt"))),
        }
        for slot in (3, 2**20 - 1)
    ]


def _tree(leaves: dict[int, bytes], depth: int, positions: list[int]) -> dict[str, Any]:
    tree = PositionalTree(leaves, depth)
    return {
        "node_tag": "peerwatt.tree.node.v1",
        "depth": depth,
        "leaves": {str(position): shown(leaf) for position, leaf in leaves.items()},
        "root": shown(tree.root),
        "proofs": {str(position): trimmed(tree.proof(position), 1) for position in positions},
    }


def positional_tree() -> list[dict[str, Any]]:
    leaves = {slot: filled(f"leaf {slot}") for slot in (0, 3, 4, 7, 2**20 - 1)}
    return [
        _tree({}, 20, [0]),
        _tree({3: filled("leaf 3")}, 20, [3, 2]),
        _tree(leaves, 20, [0, 3, 5, 2**20 - 1]),
    ]


def group_totals() -> list[dict[str, Any]]:
    cases = []
    for intervals in (
        [([1000, 100], [0, 400]), ([0, 0], [0, 0])],
        [([0], [0])],
        [([2**16], [2**16 - 1]), ([0], [1])],
        [([1000, 100], [0, 400]), ([0, 2**62], [2**64 - 1, 0])],
    ):
        packed = pack_totals(intervals)
        cases.append(
            {
                "width": packed[0],
                "intervals": [
                    {"demand_wh": demand, "supply_wh": supply} for demand, supply in intervals
                ],
                "packed": shown(packed),
                "totals_hash": shown(keccak(packed)),
            }
        )
    return cases


# --- Clearing ----------------------------------------------------------------------------------------------------------

# Two nodes, one tariff class: 1000 Wh wanted at `a`; 100 Wh wanted and 400 Wh offered at `b`. Worked by hand in docs/protocol.md.
MARKET = Market(
    graph=Graph(
        access_fee_nano_per_wh=(5_000, 7_000),
        edge_from=(0,),
        edge_to=(1,),
        edge_fee_nano_per_wh=(20_000,),
    ),
    groups=(Group(0, 0, 300_000, 60_000), Group(1, 0, 300_000, 60_000)),
    node_names=("a", "b"),
    class_names=("household",),
    group_index={("a", "household"): 0, ("b", "household"): 1},
)
SHARE_MILLIONTHS = 400_000
PROBLEM = Problem(MARKET, (1000, 100), (0, 400))
SOLUTION = Solution((300, 100), (0, 400), (-300,), (295_000, 275_000))


def _graph(access: tuple[int, ...], *edges: tuple[int, int, int]) -> Graph:
    """Edges are (from, to, fee), in ascending order."""
    assert list(edges) == sorted(edges)
    tails, heads, fees = zip(*edges, strict=True) if edges else ((), (), ())
    return Graph(access, tuple(tails), tuple(heads), tuple(fees))


# A triangle with a tail, and two nodes on an island of their own.
MESH = Market(
    graph=_graph(
        (5_000, 0, 7_000, 1_000, 0, 0),
        (0, 1, 10_000),
        (0, 2, 30_000),
        (1, 2, 15_000),
        (2, 3, 0),
        (4, 5, 8_000),
    ),
    groups=(
        Group(0, 0, 300_000, 60_000),
        Group(2, 0, 300_000, 60_000),
        Group(2, 1, 250_000, 80_000),
        Group(3, 1, 250_000, 80_000),
        Group(4, 0, 300_000, 60_000),
        Group(5, 0, 300_000, 60_000),
    ),
    node_names=tuple("abcdef"),
    class_names=("household", "pump"),
    group_index={},
)

GRAPHS = (
    _graph((0,)),
    _graph((0, 0), (0, 1, 5)),
    # A line, with its middle numbered first.
    _graph((0, 0, 0), (0, 1, 1), (0, 2, 1)),
    # A feeder with branches.
    _graph((0,) * 7, (0, 4, 1), (1, 4, 1), (1, 5, 1), (2, 4, 1), (3, 6, 1), (5, 6, 1)),
    MESH.graph,
    # Two edges between the same nodes, of which the cheaper has the lower number; and an edge from a node to itself.
    _graph((0, 0, 0), (0, 0, 3), (0, 1, 2), (0, 1, 9), (1, 2, 1)),
    # All of four nodes joined.
    _graph((0,) * 4, (0, 1, 1), (0, 2, 1), (0, 3, 1), (1, 2, 1), (1, 3, 1), (2, 3, 1)),
    # Islands only.
    _graph((0, 0, 0)),
)


def _edges(graph: Graph) -> list[dict[str, int]]:
    return [
        {"from": tail, "to": head, "fee_nano_per_wh": fee}
        for tail, head, fee in zip(
            graph.edge_from, graph.edge_to, graph.edge_fee_nano_per_wh, strict=True
        )
    ]


def edge_orders() -> list[dict[str, Any]]:
    cases = []
    for graph in GRAPHS:
        order = edge_order(graph)
        cases.append(
            {
                "node_count": graph.node_count,
                "edges": _edges(graph),
                "chords": list(order.chords),
                "tree": [
                    {"edge": edge, "from": tail, "to": head} for edge, tail, head in order.tree
                ],
                "edge_words": [shown(word) for word in edge_words(graph)],
            }
        )
    return cases


def tariff() -> list[dict[str, Any]]:
    odd = replace(
        MARKET,
        groups=(
            Group(0, 0, 2**40 - 1, -(2**40) + 1),
            Group(0, 2, -1, -1),
            Group(1, 1, 320_000, 80_000),
        ),
    )
    return [
        {
            "tag": "peerwatt.tariff.v2",
            "share_millionths": share,
            "node_count": market.graph.node_count,
            "chord_count": len(edge_order(market.graph).chords),
            "access_fee_nano_per_wh": list(market.graph.access_fee_nano_per_wh),
            "groups": [asdict(group) for group in market.groups],
            "group_words": [shown(word) for word in group_words(market)],
            "edges": _edges(market.graph),
            "edge_words": [shown(word) for word in edge_words(market.graph)],
            "tariff_hash": shown(tariff_hash(market, share)),
        }
        for market, share in (
            (MARKET, SHARE_MILLIONTHS),
            (odd, 1_000_000),
            (MESH, SHARE_MILLIONTHS),
        )
    ]


# The second interval has nobody to sell, the third nobody to buy.
INTERVALS = (
    (PROBLEM, SOLUTION),
    (Problem(MARKET, (70_000, 5), (0, 0)), Solution((0, 0), (0, 0), (0,), (0, 0))),
    (Problem(MARKET, (0, 0), (0, 9)), Solution((0, 0), (0, 0), (0,), (0, 0))),
)


def _mesh_intervals() -> list[tuple[Problem, Solution]]:
    problems = (
        Problem(MESH, (900, 0, 30, 0, 50, 0), (0, 20, 0, 700, 0, 80)),
        Problem(MESH, (0, 10, 10, 10, 0, 0), (0, 0, 0, 0, 0, 0)),
        Problem(MESH, (0, 500, 0, 2**33, 0, 7), (2**33, 0, 250, 0, 9, 0)),
    )
    return [(problem, cheapest(problem)) for problem in problems]


def _interval(problem: Problem, solution: Solution, share: int) -> dict[str, Any]:
    case: dict[str, Any] = {
        "demand_wh": list(problem.demand_wh),
        "supply_wh": list(problem.supply_wh),
    }
    outside = outside_cost_nano(problem)
    if any(problem.demand_wh) and any(problem.supply_wh):
        case |= {
            "matched_demand_wh": list(solution.matched_demand_wh),
            "matched_supply_wh": list(solution.matched_supply_wh),
            "price_nano_per_wh": list(solution.price_nano_per_wh),
            "flow_wh": list(solution.flow_wh),
        }
        primal = primal_cost_nano(problem, solution)
        bound = outside - dual_value_nano(problem, solution.price_nano_per_wh)
    else:
        primal, bound = outside, 0
    fees = network_fees_nano(problem, solution)
    savings = outside - primal
    case |= {
        "supplier_nano": primal - fees,
        "network_fees_nano": fees,
        "savings_nano": savings,
        "bound_nano": bound,
    }
    if savings == bound:
        demand, supply = sum(problem.demand_wh), sum(problem.supply_wh)
        discount, premium = savings_share_steps(savings, demand, supply, share)
        case |= {
            "discount_nano_per_wh": discount,
            "premium_nano_per_wh": premium,
            "fund_nano": savings - discount * demand - premium * supply,
        }
    return case


def clearing() -> list[dict[str, Any]]:
    less = replace(
        SOLUTION, matched_demand_wh=(299, 100), matched_supply_wh=(0, 399), flow_wh=(-299,)
    )
    cases = []
    for tariff_case, intervals in (
        (0, INTERVALS),
        (0, ((PROBLEM, less),)),
        (2, _mesh_intervals()),
    ):
        shown_intervals = [_interval(*item, SHARE_MILLIONTHS) for item in intervals]
        packed = pack_clearing(intervals)
        case: dict[str, Any] = {
            "tariff": f"tariff.json, case {tariff_case}",
            "tariff_case": tariff_case,
            "width": packed[0],
            "intervals": shown_intervals,
            "clearing": shown(packed),
            "verdict": "optimal",
        }
        gaps = [item["bound_nano"] - item["savings_nano"] for item in shown_intervals]
        if any(gaps):
            case |= {"verdict": "NotOptimal", "gap_nano": max(gaps)}
        else:
            totals = pack_totals([(item.demand_wh, item.supply_wh) for item, _ in intervals])
            steps = [
                (item["discount_nano_per_wh"], item["premium_nano_per_wh"])
                for item in shown_intervals
            ]
            case |= {
                "totals_hash": shown(keccak(totals)),
                "prices_hash": shown(keccak(pack_prices(steps))),
            } | {
                name: sum(item[name] for item in shown_intervals)
                for name in ("supplier_nano", "network_fees_nano", "fund_nano")
            }
        cases.append(case)
    return cases


def savings_share() -> list[dict[str, Any]]:
    return [
        {
            "savings_nano": savings,
            "demand_wh": demand,
            "supply_wh": supply,
            "share_millionths": share,
            "discount_nano_per_wh": steps[0],
            "premium_nano_per_wh": steps[1],
        }
        for savings, demand, supply, share in (
            (85_000_000, 1100, 400, 400_000),
            (85_000_000, 1100, 400, 0),
            (85_000_000, 1100, 400, 1_000_000),
            (0, 0, 0, 500_000),
            (0, 500, 0, 500_000),
            (999, 1000, 1000, 500_000),
            (3 * 2**80, 2**50, 2**49 + 1, 333_333),
        )
        for steps in (savings_share_steps(savings, demand, supply, share),)
    ]


STEPS = ((30_909, 127_500), (0, 0), (2**40, 1))


def prices() -> list[dict[str, Any]]:
    return [
        {
            "steps": [
                {"discount_nano_per_wh": discount, "premium_nano_per_wh": premium}
                for discount, premium in STEPS
            ],
            "packed": shown(pack_prices(STEPS)),
            "prices_hash": shown(keccak(pack_prices(STEPS))),
        }
    ]


def statement() -> list[dict[str, Any]]:
    group = MARKET.groups[0]
    steps = (*STEPS, (5, 5), (7, 9))
    return [
        {
            "group_word": shown(group_words(MARKET)[0]),
            "readings": shown(pack_readings(READINGS)),
            "prices": shown(pack_prices(steps)),
            "amount_nano": statement_amount_nano(READINGS, steps, group),
        }
    ]


# --- Forward trades ---------------------------------------------------------------------------------------------------


def forward_trades() -> list[dict[str, Any]]:
    """A trade at a negative price and one at the largest values, each signed by both sides, and the book of both."""
    buyer = private_key(keccak(b"peerwatt test vectors: buyer"))
    separator = domain_separator(CHAIN_ID, TRADE_BOOK)
    signed, shown_trades = [], []
    for position, trade in enumerate(
        (
            ForwardTrade(1_920_000, 3, 4, 250, -12_345, 30_001),
            ForwardTrade(1_920_001, 4, 3, 2**40, 2**40 - 1, 2**40 - 1),
        )
    ):
        digest = typed_data_digest(separator, trade.struct_hash())
        salt = filled(f"forward trade {position}")
        one = SignedTrade(trade, sign_digest(KEY, digest), sign_digest(buyer, digest), salt)
        signed.append(one)
        shown_trades.append(
            {
                "type": FORWARD_TRADE_TYPE,
                "message": {
                    "interval": trade.interval,
                    "sellerSlot": trade.seller_slot,
                    "buyerSlot": trade.buyer_slot,
                    "energyWh": trade.energy_wh,
                    "priceNanoPerWh": trade.price_nano_per_wh,
                    "feeNanoPerWh": trade.fee_nano_per_wh,
                },
                "domain_separator": shown(separator),
                "struct_hash": shown(trade.struct_hash()),
                "digest": shown(digest),
                "seller": address_of(KEY),
                "buyer": address_of(buyer),
                "seller_signature": shown(one.seller_signature),
                "buyer_signature": shown(one.buyer_signature),
                "tag": "peerwatt.forward.leaf.v1",
                "salt": shown(salt),
                "leaf": shown(one.leaf()),
                "seller_nano": trade.energy_wh * trade.earned_nano_per_wh,
                "buyer_nano": -trade.energy_wh * trade.paid_nano_per_wh,
                "network_fee_nano": trade.energy_wh * trade.fee_nano_per_wh,
            }
        )
    limits = TradeLimits(1_920_000, 3, 4000, 0, -20_000, 0)
    tree = _tree({place: one.leaf() for place, one in enumerate(signed)}, TRADES_DEPTH, [0, 1])
    assert trade_book(signed).root == bytes.fromhex(tree["root"][2:])
    return [
        {
            "trade_book": TRADE_BOOK,
            "chain_id": CHAIN_ID,
            "trades": shown_trades,
            "tree": tree,
            "limits": {
                "type": TRADE_LIMITS_TYPE,
                "message": {
                    "interval": limits.interval,
                    "slot": limits.slot,
                    "mostSoldWh": limits.most_sold_wh,
                    "mostBoughtWh": limits.most_bought_wh,
                    "leastEarnedNanoPerWh": limits.least_earned_nano_per_wh,
                    "mostPaidNanoPerWh": limits.most_paid_nano_per_wh,
                },
                "struct_hash": shown(limits.struct_hash()),
            },
            "standing": _standing_trades(separator, buyer),
        }
    ]


def _standing_trades(separator: bytes, buyer: PrivateKey) -> dict[str, Any]:
    """A book of which one trade stands, and one for each reason why the others do not."""
    first, count, fee_slot, least_fee = 1_920_000, 2, 5, 30_000
    keys = {3: KEY, 4: buyer}
    given = (
        ("stands", ForwardTrade(first, 3, 4, 250, 150_001, 30_001)),
        ("of the same interval, seller and buyer as one that stands", ForwardTrade(first, 3, 4, 900, 150_001, 30_001)),
        ("struck out", ForwardTrade(first, 4, 3, 10, 1, 30_000)),
        ("stands: the one before it was struck out", ForwardTrade(first, 4, 3, 20, 1, 30_000)),
        ("its fee is below the tariff's", ForwardTrade(first + 1, 3, 4, 10, 1, 29_999)),
        ("with the fee account", ForwardTrade(first + 1, 3, fee_slot, 10, 1, 30_000)),
        ("with itself", ForwardTrade(first + 1, 4, 4, 10, 1, 30_000)),
        ("the seller's key signed for the buyer", ForwardTrade(first + 1, 4, 3, 10, 1, 30_000)),
        ("not of the commitment's intervals", ForwardTrade(first + count, 3, 4, 10, 1, 30_000)),
    )  # fmt: skip
    signed = []
    for place, (why, trade) in enumerate(given):
        digest = typed_data_digest(separator, trade.struct_hash())
        sides = [keys.get(slot, KEY) for slot in (trade.seller_slot, trade.buyer_slot)]
        if why.startswith("the seller's key"):
            sides[1] = sides[0]
        signatures = [sign_digest(key, digest) for key in sides]
        signed.append(SignedTrade(trade, *signatures, filled(f"standing trade {place}")))
    leaves = {place: one.leaf() for place, one in enumerate(signed)}
    root = PositionalTree(leaves, TRADES_DEPTH).root
    book = CommittedBook(first, count, root, tuple(signed), frozenset({2}))
    accounts = {slot: address_of(key) for slot, key in keys.items()} | {fee_slot: address_of(KEY)}

    def has_signed(slot: int, digest: bytes, signature: bytes) -> bool:
        return recover(digest, signature) == accounts[slot]

    standing = standing_trades(
        book,
        separator,
        has_signed,
        lambda one, other: None if fee_slot in (one, other) else least_fee,
    )
    brought: dict[str, int] = defaultdict(int)
    for trade in standing:
        brought[str(trade.seller_slot)] += trade.energy_wh * trade.earned_nano_per_wh
        brought[str(trade.buyer_slot)] -= trade.energy_wh * trade.paid_nano_per_wh
        brought[str(fee_slot)] += trade.energy_wh * trade.fee_nano_per_wh
    assert sum(brought.values()) == 0
    return {
        "book": book_data(signed, first, count, CHAIN_ID, TRADE_BOOK),
        "why": [why for why, _ in given],
        "committed_root": shown(root[:27]),
        "struck": sorted(book.struck),
        "accounts": {str(slot): account for slot, account in accounts.items()},
        "fee_slot": fee_slot,
        "least_fee_nano_per_wh": least_fee,
        "standing": [[one.trade for one in signed].index(trade) for trade in standing],
        "brought_nano": dict(brought),
    }


# --- Trades and ledger ---------------------------------------------------------------------------------------------------


def trades() -> list[dict[str, Any]]:
    leaves = []
    for position in range(3):
        values = {
            "interval": 1_920_000 + position,
            "seller_slot": 3,
            "buyer_slot": 4 + position,
            "energy_wh": 300 + position,
            "fee_nano": (300 + position) * 32_000,
        }
        salt = filled(f"trade {position}")
        leaves.append(
            {"tag": "peerwatt.trade.leaf.v1"}
            | values
            | {"salt": shown(salt), "leaf": shown(trade_leaf(**values, salt=salt))}
        )
    tree = _tree(
        {place: bytes.fromhex(leaf["leaf"][2:]) for place, leaf in enumerate(leaves)},
        TRADES_DEPTH,
        [0, 2],
    )
    return [{"trades": leaves, "tree": tree}]


LEAVES = {
    0: LedgerLeaf(0, 700, 900, bytes(32), filled("ledger salt 0")),
    3: LedgerLeaf(3, -1000, -1500, filled("commitment 3"), filled("ledger salt 3")),
    4: LedgerLeaf(4, 250, 300, filled("commitment 4"), filled("ledger salt 4")),
    2**20 - 1: LedgerLeaf(2**20 - 1, 50, 300, filled("commitment"), filled("ledger salt")),
}


def _leaf(leaf: LedgerLeaf) -> dict[str, Any]:
    return {
        "slot": leaf.slot,
        "amount_nano": leaf.amount_nano,
        "cumulative_nano": leaf.cumulative_nano,
        "readings_commitment": shown(leaf.readings_commitment),
        "salt": shown(leaf.salt),
        "sums": shown(leaf.sums),
        "leaf": shown(leaf.hash()),
    }


def ledger_leaf() -> list[dict[str, Any]]:
    extreme = LedgerLeaf(5, 2**127 - 1, -(2**127), filled("commitment"), filled("salt"))
    leaves = (*LEAVES.values(), extreme)
    return [{"tag": "peerwatt.ledger.leaf.v1"} | _leaf(leaf) for leaf in leaves]


def sums() -> list[dict[str, Any]]:
    return [
        {
            "amount_nano": amount,
            "cumulative_nano": cumulative,
            "sums": shown(pack_sums(amount, cumulative)),
        }
        for amount, cumulative in ((0, 0), (1, -1), (-1, 1), (2**127 - 1, -(2**127)))
    ]


def ledger_tree() -> list[dict[str, Any]]:
    cases = []
    low = {slot: leaf for slot, leaf in LEAVES.items() if slot < 8}
    for leaves, depth in (({}, 1), ({3: LEAVES[3]}, 2), (low, 3), (low, 5), (LEAVES, 20)):
        tree = SumTree(leaves, depth)
        left, right = tree.root_children
        slots = [*leaves, 1]
        cases.append(
            {
                "node_tag": "peerwatt.ledger.node.v1",
                "depth": depth,
                "leaves": [_leaf(leaf) for leaf in leaves.values()],
                "root": shown(tree.root.hash),
                "root_sums": shown(tree.root.sums),
                "left": shown(left.hash),
                "left_sums": shown(left.sums),
                "right": shown(right.hash),
                "right_sums": shown(right.sums),
                "proofs": {str(slot): trimmed(tree.proof(slot), 2) for slot in slots},
            }
        )
    return cases


# --- Batch ---------------------------------------------------------------------------------------------------------------


def _header(header: BatchHeader) -> dict[str, Any]:
    return {
        name: shown(value) if isinstance(value, bytes) else value
        for name, value in asdict(header).items()
    }


def batch_header() -> list[dict[str, Any]]:
    roots = {
        name: filled(name.replace("_", " "))
        for name in (
            "previous_batch",
            "report_hash",
            "readings_root",
            "tariff_hash",
            "prices_hash",
            "ledger_root",
            "trades_root",
            "bundle_hash",
        )
    }
    first = BatchHeader(
        number=1,
        period=20_000,
        version=0,
        first_interval=1_920_000,
        interval_count=96,
        next_period=20_001,
        next_interval=1_920_096,
        corrected_batch=EMPTY,
        ledger_depth=7,
        supplier_nano=210_000_000,
        network_fees_nano=11_000_000,
        fund_nano=100,
        **roots,
    )
    correction = replace(
        first,
        number=9,
        version=1,
        next_period=20_008,
        next_interval=1_920_768,
        previous_batch=replace(first, number=8).hash(),
        corrected_batch=first.hash(),
        fund_nano=-100,
    )
    largest = BatchHeader(
        number=2**64 - 1,
        period=2**64 - 1,
        version=2**32 - 1,
        first_interval=2**64 - 1,
        interval_count=300,
        next_period=2**64 - 1,
        next_interval=2**64 - 1,
        corrected_batch=first.hash(),
        ledger_depth=20,
        supplier_nano=-(2**127),
        network_fees_nano=2**127 - 1,
        fund_nano=-1,
        **roots,
    )
    return [
        {"header": _header(header), "batch_hash": shown(header.hash())}
        for header in (first, correction, largest)
    ]


def genesis() -> list[dict[str, Any]]:
    return [
        {
            "tag": "peerwatt.genesis.v2",
            "chain_id": CHAIN_ID,
            "clearing_house": CLEARING_HOUSE,
            "first_period": 20_000,
            "first_interval": 1_920_000,
            "genesis_hash": shown(genesis_hash(CHAIN_ID, CLEARING_HOUSE, 20_000, 1_920_000)),
        }
    ]


def bundle() -> list[dict[str, Any]]:
    values: list[Any] = [
        {"b": 1, "a": [True, None, -5], "é": 'quote " and slash /'},
        {"10": 0, "9": 0, "Z": "", "a": {}},
        {"money": -(2**70)},
        {"\uffff": "\x7f\n\t\b\f\r\x01\x1f", "\U00010000": "😀", "": []},
    ]
    return [
        {
            "value": value,
            "canonical": canonical_json(value).decode(),
            "hash": shown(keccak(canonical_json(value))),
        }
        for value in values
    ]


def _example(community: Community, batch: Batch, period: Period) -> dict[str, Any]:
    made = community.bundle(batch, period)
    return {
        "public": made.public.decode(),
        "personal": {str(slot): part.decode() for slot, part in made.personal.items()},
        "header": _header(batch.header),
        "batch_hash": shown(batch.header.hash()),
    }


def example_period() -> list[dict[str, Any]]:
    """A whole period of five members: everything an auditor or member is given, and the header it must lead to."""
    community = example_community()
    period = period_number(0)
    signed = community.signed_report(period, energy_of(0))
    batch = community.batch(period, signed.report, signed.signatures, signed.member_periods)
    return [
        {
            "genesis": {
                "chain_id": PAPER.chain_id,
                "clearing_house": PAPER.clearing_house,
                "first_period": period.number,
                "first_interval": period.first_interval,
            },
            "oracle": {
                "contract": PAPER.reading_oracle,
                "threshold": PAPER.threshold,
                "signers": list(PAPER.signers),
            },
        }
        | _example(community, batch, period)
    ]


def example_correction() -> list[dict[str, Any]]:
    """What follows on example-period.json: the next period, then two corrections of the first one."""
    community = example_community()
    first, second = period_number(0), period_number(1)
    signed = community.signed_report(first, energy_of(0))
    settled = community.batch(first, signed.report, signed.signatures, signed.member_periods)
    signed = community.signed_report(second, energy_of(1))
    newest = community.batch(
        second, signed.report, signed.signatures, signed.member_periods, settled
    )
    cases = [_example(community, newest, second)]
    # Late readings: first one member's, then another's.
    for slot, readings in ((3, ((0, 1400), (400, 0), (0, 0), (333, 1000))), (4, ((0, 0),) * 4)):
        energy = energy_of(0) | {slot: readings}
        signed = community.signed_report(first, energy, version=settled.header.version + 1)
        newest = settled = community.batch(
            first,
            signed.report,
            signed.signatures,
            signed.member_periods,
            newest,
            corrected=settled,
        )
        cases.append(_example(community, newest, first))
    return cases


VECTORS: dict[str, tuple[str, Callable[[], list[dict[str, Any]]]]] = {
    "domain.json": ("EIP-712 domain", domain),
    "meter-reading.json": ("Meter reading", meter_reading),
    "reading-retraction.json": ("Reading retraction", reading_retraction),
    "membership.json": ("Membership and departure", membership),
    "departure.json": ("Membership and departure", departure),
    "oracle-config.json": ("Oracle configuration", oracle_config),
    "readings-vector.json": ("Readings vector", readings_vector),
    "readings-leaf.json": ("Readings leaf", readings_leaves),
    "positional-tree.json": ("Positional tree", positional_tree),
    "group-totals.json": ("Group totals", group_totals),
    "oracle-report.json": ("Oracle report", oracle_report),
    "tariff.json": ("Tariff", tariff),
    "edge-order.json": ("Edge order", edge_orders),
    "clearing.json": ("Clearing", clearing),
    "savings-share.json": ("Savings-share prices", savings_share),
    "prices.json": ("Prices vector", prices),
    "statement.json": ("A member's amount", statement),
    "trades.json": ("Trades", trades),
    "forward-trades.json": ("Forward trade", forward_trades),
    "sums.json": ("Sums word", sums),
    "ledger-leaf.json": ("Ledger leaf", ledger_leaf),
    "ledger-tree.json": ("Ledger tree", ledger_tree),
    "genesis.json": ("Genesis", genesis),
    "batch-header.json": ("Batch header", batch_header),
    "canonical-json.json": ("Canonical JSON", bundle),
    "example-period.json": ("Data bundle", example_period),
    "example-correction.json": ("Corrections", example_correction),
}


def text_of(name: str) -> str:
    """The file's text."""
    section, make = VECTORS[name]
    data = {"specification": f"docs/protocol.md, {section}", "cases": make()}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes all files."""
    for path in FOLDER.glob("*.json"):
        if path.name not in VECTORS:
            path.unlink()
    for name in VECTORS:
        (FOLDER / name).write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
