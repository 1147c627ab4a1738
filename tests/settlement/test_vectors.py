"""The test vectors of docs/protocol.md, recomputed twice: with `backend.settlement`, and with code that shares nothing with it.

The second way uses eth_abi for layouts, eth_account for EIP-712, two keccak implementations that have to agree, and trees by
recursion instead of by level; the clearing is read and checked by `verifier.py` beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sha3
from Crypto.Hash import keccak as pycryptodome_keccak
from eth_abi.abi import encode
from eth_abi.packed import encode_packed
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data

from contracts.compiler import SOURCE_FOLDER
from tests.settlement.verifier import (
    Refused,
    amount_of,
    expected_edge_order,
    read_clearing,
    verify_clearing,
)
from tests.vectors.make import FOLDER, VECTORS, text_of

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
ZERO = bytes(32)


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))["cases"]
    assert found
    return found


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def hash_of(data: bytes) -> bytes:
    one: bytes = sha3.keccak_256(data).digest()
    other = pycryptodome_keccak.new(digest_bits=256, data=data).digest()
    assert one == other
    return one


def tagged(tag: str, types: Sequence[str], values: Sequence[Any]) -> bytes:
    """keccak256(abi.encode(keccak256(tag), ...))."""
    return hash_of(encode(["bytes32", *types], [hash_of(tag.encode()), *values]))


# --- The files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_what_the_platform_computes(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == text_of(name), "run python -m tests.vectors.make and see what changed"


def test_there_are_no_other_files() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(VECTORS)


@pytest.mark.parametrize("name", VECTORS)
def test_the_specification_names_each_vector_in_its_section(name: str) -> None:
    section, _ = VECTORS[name]
    body = re.search(
        rf"^## (?:\d+\. )?{re.escape(section)}$(?P<body>.*?)(?=^## |\Z)",
        PROTOCOL,
        re.MULTILINE | re.DOTALL,
    )
    assert body is not None, f"no section {section!r}"
    assert f"tests/vectors/{name}" in body["body"]


def test_the_specification_has_every_tag_of_the_contracts() -> None:
    tags = {
        found
        for path in SOURCE_FOLDER.rglob("*.sol")
        for found in re.findall(r'keccak256\("(peerwatt\.[^"]+)"\)', path.read_text())
    }
    assert len(tags) >= 8
    for tag in tags:
        assert f"`{tag}`" in PROTOCOL
        assert f"`0x{hash_of(tag.encode()).hex()}`" in PROTOCOL


# --- EIP-712 -----------------------------------------------------------------------------------------------------------


def typed(
    type_text: str, message: Mapping[str, Any], chain_id: int, contract: str
) -> SignableMessage:
    """What a wallet makes of a type string such as `Mail(address from,uint64 when)` and a message."""
    name, fields = type_text.rstrip(")").split("(")
    members = [
        {"type": kind, "name": field}
        for kind, field in (item.split(" ") for item in fields.split(","))
    ]
    values = {
        field: raw(value) if isinstance(value, str) and kind["type"].startswith("bytes") else value
        for kind, (field, value) in zip(members, message.items(), strict=True)
    }
    return encode_typed_data(
        domain_data={
            "name": "Peerwatt",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": contract,
        },
        message_types={name: members},
        message_data=values,
    )


@pytest.mark.parametrize("case", cases("domain.json"))
def test_domain(case: dict[str, Any]) -> None:
    message = typed("Nothing(uint8 a)", {"a": 0}, case["chain_id"], case["verifying_contract"])
    assert message.header == raw(case["domain_separator"])
    by_hand = encode(
        ["bytes32", "bytes32", "bytes32", "uint256", "address"],
        [
            hash_of(case["type"].encode()),
            hash_of(case["name"].encode()),
            hash_of(case["version"].encode()),
            case["chain_id"],
            case["verifying_contract"],
        ],
    )
    assert hash_of(by_hand) == raw(case["domain_separator"])


# Which case of domain.json a message is meant for: the oracle contract, or the member registry.
SIGNED = [
    (case, place)
    for name, place in (
        ("meter-reading.json", 1),
        ("reading-retraction.json", 1),
        ("oracle-report.json", 1),
        ("membership.json", 2),
        ("departure.json", 2),
    )
    for case in cases(name)
]


@pytest.mark.parametrize(("case", "place"), SIGNED)
def test_signed_messages(case: dict[str, Any], place: int) -> None:
    domain = cases("domain.json")[place]
    message = typed(case["type"], case["message"], domain["chain_id"], domain["verifying_contract"])
    assert message.header == raw(case["domain_separator"])
    assert message.body == raw(case["struct_hash"])
    digest = hash_of(b"\x19\x01" + message.header + message.body)
    assert digest == raw(case["digest"])
    assert Account.recover_message(message, signature=case["signature"]) == case["signer"]
    assert f"`{case['type']}`" in PROTOCOL


def test_a_retraction_names_the_reading_and_is_of_its_signer() -> None:
    reading, (retraction,) = cases("meter-reading.json")[0], cases("reading-retraction.json")
    assert retraction["message"] == {
        "meter": reading["message"]["meter"],
        "reading": reading["struct_hash"],
    }
    assert retraction["signer"] == reading["signer"]


@pytest.mark.parametrize("case", cases("oracle-config.json"))
def test_oracle_configuration(case: dict[str, Any]) -> None:
    digest = tagged(
        case["tag"],
        ["uint256", "address", "address", "uint256", "address[]"],
        [
            case["chain_id"],
            case["clearing_house"],
            case["oracle_contract"],
            case["threshold"],
            case["signers"],
        ],
    )
    assert digest == raw(case["config_digest"])


# --- Readings ----------------------------------------------------------------------------------------------------------


def packed_each(rows: Sequence[Mapping[str, int]], *types: str) -> bytes:
    """The rows' values one after the other, without padding."""
    return b"".join(encode_packed(list(types), list(row.values())) for row in rows)


@pytest.mark.parametrize("case", cases("readings-vector.json"))
def test_readings_vectors(case: dict[str, Any]) -> None:
    data = packed_each(case["readings"], "uint56", "uint56", "uint16")
    assert len(data) == 16 * len(case["readings"])
    if case["traded_nano"] is not None:
        data += encode_packed(["int128"], [case["traded_nano"]])
    assert data == raw(case["packed"])
    assert hash_of(data) == raw(case["hash"])


@pytest.mark.parametrize("case", cases("readings-leaf.json"))
def test_readings_leaves(case: dict[str, Any]) -> None:
    leaf = tagged(
        case["tag"],
        ["uint256", "bytes32", "bytes32"],
        [case["slot"], hash_of(raw(case["packed"])), raw(case["salt"])],
    )
    assert leaf == raw(case["leaf"])


def root_of(leaves: Mapping[int, bytes], depth: int, tag: str, first: int = 0) -> bytes:
    """By recursion: the two halves of the positions, nothing for nothing."""
    if not leaves:
        return ZERO
    if depth == 0:
        return leaves[first]
    middle = first + (1 << depth - 1)
    left = root_of({at: leaf for at, leaf in leaves.items() if at < middle}, depth - 1, tag, first)
    right = root_of(
        {at: leaf for at, leaf in leaves.items() if at >= middle}, depth - 1, tag, middle
    )
    if left == right == ZERO:
        return ZERO
    return tagged(tag, ["bytes32", "bytes32"], [left, right])


def check_tree(case: dict[str, Any]) -> None:
    leaves = {int(at): raw(leaf) for at, leaf in case["leaves"].items()}
    depth, tag = case["depth"], case["node_tag"]
    assert root_of(leaves, depth, tag) == raw(case["root"])
    for at, proof in case["proofs"].items():
        position, node = int(at), leaves.get(int(at), ZERO)
        siblings = [raw(part) for part in proof] + [ZERO] * (depth - len(proof))
        for sibling in siblings:
            pair = [sibling, node] if position & 1 else [node, sibling]
            node = ZERO if pair == [ZERO, ZERO] else tagged(tag, ["bytes32", "bytes32"], pair)
            position >>= 1
        assert node == raw(case["root"])


@pytest.mark.parametrize("case", cases("positional-tree.json"))
def test_positional_trees(case: dict[str, Any]) -> None:
    assert case["depth"] == 20
    check_tree(case)


@pytest.mark.parametrize("case", cases("group-totals.json"))
def test_group_totals(case: dict[str, Any]) -> None:
    energies = [
        energy
        for interval in case["intervals"]
        for pair in zip(interval["demand_wh"], interval["supply_wh"], strict=True)
        for energy in pair
    ]
    # The first width from 2 on that all of them fit.
    width = next(width for width in range(2, 9) if max(energies) < 256**width)
    data = bytes([width]) + b"".join(
        encode_packed([f"uint{8 * width}"], [energy]) for energy in energies
    )
    assert width == case["width"]
    assert data == raw(case["packed"])
    assert hash_of(data) == raw(case["totals_hash"])


# --- Clearing ----------------------------------------------------------------------------------------------------------


def edge_words_of(nodes: int, edges: Sequence[tuple[int, int, int]]) -> tuple[int, list[bytes]]:
    """Number of chords and the words, from (from, to, fee) of all edges."""
    chords, tree = expected_edge_order(nodes, [edge[:2] for edge in edges])
    ends = [edges[edge][:2] for edge in chords] + [(tail, head) for _, tail, head in tree]
    fees = [edges[edge][2] for edge in (*chords, *(edge for edge, _, _ in tree))]
    return len(chords), [
        encode_packed(["uint32", "uint32", "uint64", "uint128"], [*pair, fee, 0])
        for pair, fee in zip(ends, fees, strict=True)
    ]


def edges_of(case: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    edges = [(edge["from"], edge["to"], edge["fee_nano_per_wh"]) for edge in case["edges"]]
    assert edges == sorted(edges)
    return edges


@pytest.mark.parametrize("case", cases("edge-order.json"))
def test_edge_orders(case: dict[str, Any]) -> None:
    edges = edges_of(case)
    chords, tree = expected_edge_order(case["node_count"], [edge[:2] for edge in edges])
    assert chords == case["chords"]
    assert tree == [(edge["edge"], edge["from"], edge["to"]) for edge in case["tree"]]
    words = [raw(word) for word in case["edge_words"]]
    assert edge_words_of(case["node_count"], edges) == (len(chords), words)


@pytest.mark.parametrize("case", cases("tariff.json"))
def test_tariffs(case: dict[str, Any]) -> None:
    groups = [
        encode_packed(
            ["int64", "int64", "uint64", "uint32", "uint32"],
            [
                group["import_price_nano_per_wh"],
                group["export_price_nano_per_wh"],
                case["access_fee_nano_per_wh"][group["node"]],
                group["node"],
                group["tariff_class"],
            ],
        )
        for group in case["groups"]
    ]
    chords, edges = edge_words_of(case["node_count"], edges_of(case))
    assert groups == [raw(word) for word in case["group_words"]]
    assert edges == [raw(word) for word in case["edge_words"]]
    assert chords == case["chord_count"]
    assert {len(word) for word in (*groups, *edges)} == {32}
    assert tariff_hash_of(
        case["share_millionths"], case["node_count"], chords, groups, edges
    ) == raw(case["tariff_hash"])


def tariff_hash_of(
    share: int, nodes: int, chords: int, groups: Sequence[bytes], edges: Sequence[bytes]
) -> bytes:
    return tagged(
        "peerwatt.tariff.v2",
        ["uint32", "uint32", "uint32", "bytes32", "bytes32"],
        [share, nodes, chords, hash_of(b"".join(groups)), hash_of(b"".join(edges))],
    )


@pytest.mark.parametrize("case", cases("clearing.json"))
def test_clearings(case: dict[str, Any]) -> None:
    """Layout and check, from the bytes and the tariff's words alone."""
    tariff = cases("tariff.json")[case["tariff_case"]]
    groups = [raw(word) for word in tariff["group_words"]]
    edges = [raw(word) for word in tariff["edge_words"]]
    nodes, chords = tariff["node_count"], tariff["chord_count"]
    data, count = raw(case["clearing"]), len(case["intervals"])
    width, intervals = read_clearing(data, len(groups), nodes, chords, count)
    assert width == case["width"]
    for interval, stated in zip(intervals, case["intervals"], strict=True):
        assert (interval.demand, interval.supply) == (stated["demand_wh"], stated["supply_wh"])
        assert interval.certified == ("flow_wh" in stated)
        if interval.certified:
            assert interval.bought == stated["matched_demand_wh"]
            assert interval.sold == stated["matched_supply_wh"]
            assert interval.price == stated["price_nano_per_wh"]
    arguments = groups, edges, nodes, chords, tariff["share_millionths"], data, count
    if case["verdict"] != "optimal":
        assert case["gap_nano"] > 0
        with pytest.raises(Refused, match=case["verdict"]):
            verify_clearing(*arguments)
        return
    found = verify_clearing(*arguments)
    assert hash_of(found.totals) == raw(case["totals_hash"])
    assert hash_of(found.prices) == raw(case["prices_hash"])
    assert (found.supplier, found.fees, found.fund) == (
        case["supplier_nano"],
        case["network_fees_nano"],
        case["fund_nano"],
    )
    # Flows are stated by edge number and from the lower-numbered end; they are read in the tariff's order.
    chord_numbers, tree = expected_edge_order(nodes, [edge[:2] for edge in edges_of(tariff)])
    for flows, savings, stated in zip(found.flows, found.savings, case["intervals"], strict=True):
        assert savings == stated["savings_nano"]
        if flows:
            signs = [1] * chords + [1 if tail < head else -1 for _, tail, head in tree]
            order = [*chord_numbers, *(edge for edge, _, _ in tree)]
            assert flows == [
                sign * stated["flow_wh"][edge] for sign, edge in zip(signs, order, strict=True)
            ]


def clearing_with(case: dict[str, Any], data: bytes) -> None:
    tariff = cases("tariff.json")[case["tariff_case"]]
    verify_clearing(
        [raw(word) for word in tariff["group_words"]],
        [raw(word) for word in tariff["edge_words"]],
        tariff["node_count"],
        tariff["chord_count"],
        tariff["share_millionths"],
        data,
        len(case["intervals"]),
    )


@pytest.mark.parametrize(
    "case", [case for case in cases("clearing.json") if case["verdict"] == "optimal"]
)
def test_no_other_clearing_of_one_byte_more_or_less(case: dict[str, Any]) -> None:
    data = raw(case["clearing"])
    for other in (data[:-1], data + b"\0", b"\1" + data[1:], b"\x09" + data[1:], b""):
        with pytest.raises(Refused, match=r"WrongClearingLength|WrongEnergyWidth"):
            clearing_with(case, other)


@pytest.mark.parametrize("case", cases("savings-share.json"))
def test_savings_share(case: dict[str, Any]) -> None:
    """The largest whole steps whose cost is within each side's part."""
    share, savings = case["share_millionths"], case["savings_nano"]
    for step, energy, part in (
        (case["discount_nano_per_wh"], case["demand_wh"], share),
        (case["premium_nano_per_wh"], case["supply_wh"], 10**6 - share),
    ):
        if energy == 0:
            assert step == 0
        else:
            assert step * energy * 10**6 <= savings * part < (step + 1) * energy * 10**6


@pytest.mark.parametrize("case", cases("prices.json"))
def test_prices(case: dict[str, Any]) -> None:
    data = packed_each(case["steps"], "uint64", "uint64")
    assert data == raw(case["packed"])
    assert hash_of(data) == raw(case["prices_hash"])


@pytest.mark.parametrize("case", cases("statement.json"))
def test_statements(case: dict[str, Any]) -> None:
    amount = amount_of(raw(case["readings"]), raw(case["prices"]), raw(case["group_word"]))
    assert amount == case["amount_nano"]


# --- Trades and ledger ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("trades.json"))
def test_trades(case: dict[str, Any]) -> None:
    for place, trade in enumerate(case["trades"]):
        leaf = tagged(
            trade["tag"],
            ["uint256"] * 5 + ["bytes32"],
            [
                trade["interval"],
                trade["seller_slot"],
                trade["buyer_slot"],
                trade["energy_wh"],
                trade["fee_nano"],
                raw(trade["salt"]),
            ],
        )
        assert leaf == raw(trade["leaf"])
        assert case["tree"]["leaves"][str(place)] == trade["leaf"]
    assert case["tree"]["depth"] == 32
    check_tree(case["tree"])


@pytest.mark.parametrize("case", cases("forward-trades.json"))
def test_forward_trades(case: dict[str, Any]) -> None:
    place = case["chain_id"], case["trade_book"]
    for number, trade in enumerate(case["trades"]):
        message = typed(trade["type"], trade["message"], *place)
        assert message.header == raw(trade["domain_separator"])
        assert message.body == raw(trade["struct_hash"])
        for side in ("seller", "buyer"):
            signature = trade[f"{side}_signature"]
            assert Account.recover_message(message, signature=signature) == trade[side]
        assert f"`{trade['type']}`" in PROTOCOL
        leaf = tagged(
            trade["tag"],
            ["bytes32"] * 4,
            [
                message.body,
                hash_of(raw(trade["seller_signature"])),
                hash_of(raw(trade["buyer_signature"])),
                raw(trade["salt"]),
            ],
        )
        assert leaf == raw(trade["leaf"])
        assert case["tree"]["leaves"][str(number)] == trade["leaf"]
        energy, price, fee = (
            trade["message"][name] for name in ("energyWh", "priceNanoPerWh", "feeNanoPerWh")
        )
        assert trade["seller_nano"] == energy * (price - fee // 2)
        assert trade["seller_nano"] + trade["buyer_nano"] + trade["network_fee_nano"] == 0
    assert case["tree"]["depth"] == 32
    check_tree(case["tree"])
    limits = case["limits"]
    assert typed(limits["type"], limits["message"], *place).body == raw(limits["struct_hash"])
    assert f"`{limits['type']}`" in PROTOCOL


_FORWARD_FIELDS = {
    "interval": "interval", "sellerSlot": "seller_slot", "buyerSlot": "buyer_slot", "energyWh": "energy_wh",
    "priceNanoPerWh": "price_nano_per_wh", "feeNanoPerWh": "fee_nano_per_wh",
}  # fmt: skip


@pytest.mark.parametrize("case", cases("forward-trades.json"))
def test_which_forward_trades_stand(case: dict[str, Any]) -> None:
    given, kind = case["standing"], case["trades"][0]["type"]
    book, accounts = given["book"], given["accounts"]
    leaves, standing, seen = {}, [], set()
    brought: dict[str, int] = {}
    for position, trade in enumerate(book["trades"]):
        message = {name: trade[field] for name, field in _FORWARD_FIELDS.items()}
        signable = typed(kind, message, book["chain_id"], book["trade_book"])
        signatures = [raw(trade[f"{side}_signature"]) for side in ("seller", "buyer")]
        hashes = [hash_of(one) for one in signatures]
        words = [signable.body, *hashes, raw(trade["salt"])]
        leaves[position] = tagged("peerwatt.forward.leaf.v1", ["bytes32"] * 4, words)
        ends = [str(trade["seller_slot"]), str(trade["buyer_slot"])]
        signers = [Account.recover_message(signable, signature=one) for one in signatures]
        key = (trade["interval"], *ends)
        if (
            position in given["struck"]
            or not 0 <= trade["interval"] - book["first_interval"] < book["interval_count"]
            or ends[0] == ends[1]
            or str(given["fee_slot"]) in ends
            or trade["fee_nano_per_wh"] < given["least_fee_nano_per_wh"]
            or signers != [accounts[end] for end in ends]
            or key in seen
        ):
            continue
        seen.add(key)
        standing.append(position)
        energy, price, fee = (
            trade[name] for name in ("energy_wh", "price_nano_per_wh", "fee_nano_per_wh")
        )
        for slot, nano in (
            (ends[0], energy * (price - fee // 2)),
            (ends[1], -energy * (price + fee - fee // 2)),
            (str(given["fee_slot"]), energy * fee),
        ):
            brought[slot] = brought.get(slot, 0) + nano
    assert standing == given["standing"] and len(given["why"]) == len(leaves)
    assert brought == given["brought_nano"]
    assert root_of(leaves, 32, "peerwatt.tree.node.v1")[:27] == raw(given["committed_root"])


@pytest.mark.parametrize("case", cases("sums.json"))
def test_sums(case: dict[str, Any]) -> None:
    data = encode_packed(["int128", "int128"], [case["amount_nano"], case["cumulative_nano"]])
    assert data == raw(case["sums"])


def check_leaf(case: dict[str, Any]) -> None:
    sums = encode_packed(["int128", "int128"], [case["amount_nano"], case["cumulative_nano"]])
    assert sums == raw(case["sums"])
    leaf = tagged(
        "peerwatt.ledger.leaf.v1",
        ["uint32", "bytes32", "bytes32", "bytes32"],
        [case["slot"], sums, raw(case["readings_commitment"]), raw(case["salt"])],
    )
    assert leaf == raw(case["leaf"])


@pytest.mark.parametrize("case", cases("ledger-leaf.json"))
def test_ledger_leaves(case: dict[str, Any]) -> None:
    assert case["tag"] == "peerwatt.ledger.leaf.v1"
    check_leaf(case)


SumLeaf = tuple[bytes, int, int]


def sums_word(amount: int, cumulative: int) -> bytes:
    return encode_packed(["int128", "int128"], [amount, cumulative])


def sum_node(left: SumLeaf, right: SumLeaf, tag: str) -> SumLeaf:
    if left == right == (ZERO, 0, 0):
        return left
    digest = tagged(
        tag,
        ["bytes32"] * 4,
        [left[0], sums_word(*left[1:]), right[0], sums_word(*right[1:])],
    )
    return digest, left[1] + right[1], left[2] + right[2]


def sum_root(leaves: Mapping[int, SumLeaf], depth: int, tag: str, first: int = 0) -> SumLeaf:
    """By recursion, as `root_of`."""
    if not leaves:
        return ZERO, 0, 0
    if depth == 0:
        return leaves[first]
    middle = first + (1 << depth - 1)
    halves = (
        sum_root({at: leaf for at, leaf in leaves.items() if at < middle}, depth - 1, tag, first),
        sum_root({at: leaf for at, leaf in leaves.items() if at >= middle}, depth - 1, tag, middle),
    )
    return sum_node(*halves, tag)


def split(word: bytes) -> tuple[int, int]:
    return (
        int.from_bytes(word[:16], "big", signed=True),
        int.from_bytes(word[16:], "big", signed=True),
    )


def follow(node: SumLeaf, slot: int, proof: Sequence[str], depth: int, tag: str) -> SumLeaf:
    """From a leaf up, along sibling hash and sibling sums; missing ones at the end are empty."""
    parts = [raw(part) for part in proof] + [ZERO] * (2 * depth - len(proof))
    assert len(parts) == 2 * depth
    for height in range(depth):
        sibling = (parts[2 * height], *split(parts[2 * height + 1]))
        pair = (sibling, node) if slot >> height & 1 else (node, sibling)
        node = sum_node(*pair, tag)
    return node


@pytest.mark.parametrize("case", cases("ledger-tree.json"))
def test_ledger_trees(case: dict[str, Any]) -> None:
    tag, depth = case["node_tag"], case["depth"]
    leaves: dict[int, SumLeaf] = {}
    for leaf in case["leaves"]:
        check_leaf(leaf)
        leaves[leaf["slot"]] = (raw(leaf["leaf"]), leaf["amount_nano"], leaf["cumulative_nano"])
    root = sum_root(leaves, depth, tag)
    assert root[0] == raw(case["root"])
    assert sums_word(*root[1:]) == raw(case["root_sums"])
    left = (raw(case["left"]), *split(raw(case["left_sums"])))
    right = (raw(case["right"]), *split(raw(case["right_sums"])))
    assert sum_node(left, right, tag) == root
    for slot, proof in case["proofs"].items():
        leaf = leaves.get(int(slot), (ZERO, 0, 0))
        assert follow(leaf, int(slot), proof, depth, tag) == root


# --- Batch ---------------------------------------------------------------------------------------------------------------


def header_hash(header: Mapping[str, Any]) -> bytes:
    types = {
        "number": "uint64",
        "period": "uint64",
        "version": "uint32",
        "first_interval": "uint64",
        "interval_count": "uint32",
        "next_period": "uint64",
        "next_interval": "uint64",
        "previous_batch": "bytes32",
        "corrected_batch": "bytes32",
        "report_hash": "bytes32",
        "readings_root": "bytes32",
        "tariff_hash": "bytes32",
        "prices_hash": "bytes32",
        "ledger_root": "bytes32",
        "ledger_depth": "uint8",
        "trades_root": "bytes32",
        "bundle_hash": "bytes32",
        "supplier_nano": "int128",
        "network_fees_nano": "int128",
        "fund_nano": "int128",
    }
    assert set(header) == set(types)
    values = [
        raw(header[name]) if kind == "bytes32" else header[name] for name, kind in types.items()
    ]
    contents = tagged("peerwatt.batch.contents.v2", list(types.values()), values)
    head = [
        header["number"],
        header["next_period"],
        raw(header["ledger_root"]),
        header["ledger_depth"],
        contents,
    ]
    kinds = ["uint64", "uint64", "bytes32", "uint8", "bytes32"]
    return tagged("peerwatt.batch.v2", kinds, head)[:27] + bytes(5)


@pytest.mark.parametrize("case", cases("batch-header.json"))
def test_batch_headers(case: dict[str, Any]) -> None:
    assert header_hash(case["header"]) == raw(case["batch_hash"])
    for name in case["header"]:
        assert f"`{name}`" in PROTOCOL


@pytest.mark.parametrize("case", cases("genesis.json"))
def test_genesis(case: dict[str, Any]) -> None:
    digest = tagged(
        case["tag"],
        ["uint256", "address", "uint64", "uint64"],
        [
            case["chain_id"],
            case["clearing_house"],
            case["first_period"],
            case["first_interval"],
        ],
    )
    assert digest == raw(case["genesis_hash"])


@pytest.mark.parametrize("case", cases("canonical-json.json"))
def test_canonical_json(case: dict[str, Any]) -> None:
    assert json.dumps(case["value"], sort_keys=True, separators=(",", ":")) == case["canonical"]
    assert hash_of(case["canonical"].encode("ascii")) == raw(case["hash"])


# What each version of a period came to, by slot: the next version settles the difference.
Due = dict[int, int]


def check_period(
    case: dict[str, Any],
    first: dict[str, Any],
    before: dict[str, Any] | None,
    corrected: dict[str, Any] | None,
    settled: Due,
) -> Due:
    """What docs/protocol.md calls verifying a period, with nothing but bundles, genesis and the oracle's signers.

    Args:
        case: the period.
        first: the case with the genesis and the oracle.
        before: the batch before.
        corrected: the batch that this one corrects.
        settled: what the corrected version came to.
    """
    public_bytes = case["public"].encode("ascii")
    public = json.loads(public_bytes)
    header = case["header"]
    assert header_hash(header) == raw(case["batch_hash"])
    assert hash_of(public_bytes) == raw(header["bundle_hash"])

    # Its place in the chain of batches.
    genesis = tagged(
        "peerwatt.genesis.v2",
        ["uint256", "address", "uint64", "uint64"],
        list(first["genesis"].values()),
    )
    earlier = before["header"] if before else None
    assert raw(header["previous_batch"]) == (raw(before["batch_hash"]) if before else genesis)
    assert header["number"] == (earlier["number"] + 1 if earlier else 1)
    end = header["first_interval"] + header["interval_count"]
    following = (header["period"] + 1, end)
    if corrected is None:
        assert header["version"] == 0
        assert raw(header["corrected_batch"]) == ZERO
        if earlier:
            assert (header["period"], header["first_interval"]) == (
                earlier["next_period"],
                earlier["next_interval"],
            )
    else:
        assert earlier is not None
        assert header["version"] == corrected["header"]["version"] + 1
        assert header["corrected_batch"] == corrected["batch_hash"]
        for name in ("period", "first_interval", "interval_count", "tariff_hash"):
            assert header[name] == corrected["header"][name]
        following = (earlier["next_period"], earlier["next_interval"])
    assert (header["next_period"], header["next_interval"]) == following

    # Report and signatures.
    period, report, oracle = public["period"], public["report"], first["oracle"]
    message = typed(
        cases("oracle-report.json")[0]["type"],
        {
            "period": period["number"],
            "version": period["version"],
            "firstInterval": period["first_interval"],
            "intervalCount": period["interval_count"],
            "readingsRoot": report["readings_root"],
            "totalsHash": report["totals_hash"],
            "configDigest": report["config_digest"],
        },
        public["chain_id"],
        oracle["contract"],
    )
    assert message.body == raw(header["report_hash"])
    assert header["readings_root"] == report["readings_root"]
    assert [header["period"], header["version"], header["number"]] == [
        period["number"],
        period["version"],
        period["batch_number"],
    ]
    assert [header["first_interval"], header["interval_count"]] == [
        period["first_interval"],
        period["interval_count"],
    ]
    signed_by = [
        Account.recover_message(message, signature=signature) for signature in report["signatures"]
    ]
    assert len(signed_by) >= oracle["threshold"]
    assert signed_by == sorted(set(signed_by), key=lambda signer: int(signer, 16))
    assert set(signed_by) <= set(oracle["signers"])
    assert raw(report["config_digest"]) == tagged(
        "peerwatt.oracle.config.v2",
        ["uint256", "address", "address", "uint256", "address[]"],
        [
            public["chain_id"],
            public["clearing_house"],
            oracle["contract"],
            oracle["threshold"],
            oracle["signers"],
        ],
    )

    # Tariff in words to tariff words.
    tariff = public["tariff"]
    nodes = sorted(node["id"] for node in tariff["network"]["nodes"])
    access = {node["id"]: node["access_fee_nano_per_wh"] for node in tariff["network"]["nodes"]}
    classes = {item["id"]: item for item in tariff["tariff_classes"]}
    numbers = {name: number for number, name in enumerate(sorted(classes))}
    keys = sorted((nodes.index(node), numbers[name], name) for node, name in tariff["groups"])
    group_words = [
        encode_packed(
            ["int64", "int64", "uint64", "uint32", "uint32"],
            [
                classes[name]["import_price_nano_per_wh"],
                classes[name]["export_price_nano_per_wh"],
                access[nodes[node]],
                node,
                number,
            ],
        )
        for node, number, name in keys
    ]
    edges = sorted(
        (*sorted((nodes.index(edge["from"]), nodes.index(edge["to"]))), edge["fee_nano_per_wh"])
        for edge in tariff["network"]["edges"]
    )
    chords, edge_words = edge_words_of(len(nodes), edges)
    share = tariff["share_millionths"]
    assert raw(header["tariff_hash"]) == tariff_hash_of(
        share, len(nodes), chords, group_words, edge_words
    )

    # The clearing, and what follows from it.
    found = verify_clearing(
        group_words,
        edge_words,
        len(nodes),
        chords,
        share,
        raw(public["clearing"]),
        period["interval_count"],
    )
    assert hash_of(found.totals) == raw(report["totals_hash"])
    assert found.prices == raw(public["prices"])
    assert hash_of(found.prices) == raw(header["prices_hash"])
    assert [found.supplier, found.fees, found.fund] == [
        header["supplier_nano"],
        header["network_fees_nano"],
        header["fund_nano"],
    ]

    # Accounts: every part unaltered, every leaf in the tree, all of them together the whole tree.
    personal = {int(slot): text for slot, text in case["personal"].items()}
    assert {
        str(slot): "0x" + hash_of(text.encode()).hex() for slot, text in personal.items()
    } == public["personal_hashes"]
    depth = header["ledger_depth"]
    assert public["ledger"]["depth"] == depth
    due: Due = {0: found.supplier, 1: found.fees, 2: found.fund}
    carried = (
        {slot: json.loads(text)["cumulative_nano"] for slot, text in before["personal"].items()}
        if before
        else {}
    )
    assert {str(slot) for slot in personal} >= set(carried)
    leaves: dict[int, SumLeaf] = {}
    readings_leaves: dict[int, bytes] = {}
    totals = [[0, 0] for _ in range(len(keys) * period["interval_count"])]
    for slot, text in personal.items():
        part = json.loads(text)
        assert [part["slot"], part["batch_number"], part["period"], part["version"]] == [
            slot,
            header["number"],
            header["period"],
            header["version"],
        ]
        commitment = ZERO
        if "readings" in part:
            readings = raw(part["readings"])
            assert len(readings) == 16 * period["interval_count"]
            commitment = tagged(
                "peerwatt.readings.leaf.v1",
                ["uint256", "bytes32", "bytes32"],
                [slot, hash_of(readings), raw(part["readings_salt"])],
            )
            readings_leaves[slot] = commitment
            key = nodes.index(part["node"]), numbers[part["tariff_class"]], part["tariff_class"]
            group = keys.index(key)
            due[slot] = amount_of(readings, found.prices, group_words[group])
            for index in range(period["interval_count"]):
                row = readings[16 * index : 16 * index + 16]
                net = int.from_bytes(row[7:14], "big") - int.from_bytes(row[:7], "big")
                if row[14:] != b"\0\2":
                    totals[index * len(keys) + group][net >= 0] += abs(net)
        amount = due.get(slot, 0) - settled.get(slot, 0)
        assert part["amount_nano"] == amount
        assert part["cumulative_nano"] == carried.get(str(slot), 0) + amount
        leaf = tagged(
            "peerwatt.ledger.leaf.v1",
            ["uint32", "bytes32", "bytes32", "bytes32"],
            [
                slot,
                sums_word(part["amount_nano"], part["cumulative_nano"]),
                commitment,
                raw(part["ledger_salt"]),
            ],
        )
        leaves[slot] = (leaf, part["amount_nano"], part["cumulative_nano"])
        root = follow(leaves[slot], slot, part["ledger_proof"], depth, "peerwatt.ledger.node.v1")
        assert root == (raw(header["ledger_root"]), 0, 0)
    assert sum(due.values()) == 0
    root = sum_root(leaves, depth, "peerwatt.ledger.node.v1")
    assert root == (raw(header["ledger_root"]), 0, 0)
    ledger = public["ledger"]
    halves = [
        (raw(ledger[side]), *split(raw(ledger[f"{side}_sums"]))) for side in ("left", "right")
    ]
    assert sum_node(*halves, "peerwatt.ledger.node.v1") == root
    assert root_of(readings_leaves, 20, "peerwatt.tree.node.v1") == raw(header["readings_root"])
    # The readings add up to what the oracle vouches for.
    width = found.totals[0]
    assert found.totals[1:] == b"".join(
        energy.to_bytes(width, "big") for pair in totals for energy in pair
    )
    trade_leaves = {place: raw(leaf) for place, leaf in enumerate(public["trade_leaves"])}
    assert root_of(trade_leaves, 32, "peerwatt.tree.node.v1") == raw(header["trades_root"])
    return due


def test_a_whole_period_from_its_bundle() -> None:
    (first,) = cases("example-period.json")
    check_period(first, first, None, None, {})


def test_two_corrections_from_their_bundles() -> None:
    """The next period, then the first one corrected, and corrected again."""
    (first,) = cases("example-period.json")
    second, once, twice = cases("example-correction.json")
    due = check_period(first, first, None, None, {})
    assert check_period(second, first, first, None, {}) != due
    due_once = check_period(once, first, second, first, due)
    due_twice = check_period(twice, first, once, once, due_once)
    assert len({tuple(sorted(found.items())) for found in (due, due_once, due_twice)}) == 3
