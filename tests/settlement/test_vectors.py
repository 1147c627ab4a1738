"""The test vectors of docs/protocol.md, recomputed twice: with `backend.settlement`, and with code that shares nothing with it.

The second way uses eth_abi for layouts, eth_account for EIP-712, two keccak implementations that have to agree, and trees by
recursion instead of by level.
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


@pytest.mark.parametrize("case", cases("meter-reading.json") + cases("oracle-report.json"))
def test_signed_messages(case: dict[str, Any]) -> None:
    # The second case of domain.json is where these are meant for.
    place = cases("domain.json")[1]
    message = typed(case["type"], case["message"], place["chain_id"], place["verifying_contract"])
    assert message.header == raw(case["domain_separator"])
    assert message.body == raw(case["struct_hash"])
    digest = hash_of(b"\x19\x01" + message.header + message.body)
    assert digest == raw(case["digest"])
    assert Account.recover_message(message, signature=case["signature"]) == case["signer"]
    assert f"`{case['type']}`" in PROTOCOL


@pytest.mark.parametrize("case", cases("oracle-config.json"))
def test_oracle_configuration(case: dict[str, Any]) -> None:
    digest = tagged(
        case["tag"],
        ["uint256", "address", "uint256", "address[]"],
        [case["chain_id"], case["oracle_contract"], case["threshold"], case["signers"]],
    )
    assert digest == raw(case["config_digest"])


# --- Readings ----------------------------------------------------------------------------------------------------------


def packed_each(rows: Sequence[Mapping[str, int]], *types: str) -> bytes:
    """The rows' values one after the other, without padding."""
    return b"".join(encode_packed(list(types), list(row.values())) for row in rows)


@pytest.mark.parametrize("case", cases("readings-vector.json"))
def test_readings_vectors(case: dict[str, Any]) -> None:
    data = packed_each(case["readings"], "uint56", "uint56", "uint16")
    assert data == raw(case["packed"])
    assert len(data) == 16 * len(case["readings"])
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
    data = b"".join(
        encode_packed(["uint64", "uint64"], pair)
        for interval in case["intervals"]
        for pair in zip(interval["demand_wh"], interval["supply_wh"], strict=True)
    )
    assert data == raw(case["packed"])
    assert hash_of(data) == raw(case["totals_hash"])


# --- Clearing ----------------------------------------------------------------------------------------------------------


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
    edges = [
        encode_packed(
            ["uint32", "uint32", "uint64", "uint128"],
            [edge["from"], edge["to"], edge["fee_nano_per_wh"], 0],
        )
        for edge in case["edges"]
    ]
    assert groups == [raw(word) for word in case["group_words"]]
    assert edges == [raw(word) for word in case["edge_words"]]
    assert {len(word) for word in (*groups, *edges)} == {32}
    digest = tagged(
        case["tag"],
        ["uint32", "uint32", "bytes32", "bytes32"],
        [
            case["share_millionths"],
            case["node_count"],
            hash_of(b"".join(groups)),
            hash_of(b"".join(edges)),
        ],
    )
    assert digest == raw(case["tariff_hash"])


@pytest.mark.parametrize("case", cases("certificate.json"))
def test_certificates(case: dict[str, Any]) -> None:
    """Record layout and check, from the record's bytes and the tariff alone."""
    tariff = cases("tariff.json")[0]
    data = raw(case["record"])
    count, nodes, edges = len(tariff["groups"]), tariff["node_count"], len(tariff["edges"])
    assert len(data) == 32 * count + 8 * (nodes + edges)

    def field(offset: int, signed: bool) -> int:
        return int.from_bytes(data[offset : offset + 8], "big", signed=signed)

    price = [field(32 * count + 8 * node, True) for node in range(nodes)]
    flow = [field(32 * count + 8 * (nodes + edge), True) for edge in range(edges)]
    assert price == case["price_nano_per_wh"]
    assert flow == case["flow_wh"]
    supplier = fees = dual = outside = 0
    balance = [0] * nodes
    for number, group in enumerate(tariff["groups"]):
        demand, supply, bought, sold = (field(32 * number + 8 * place, False) for place in range(4))
        assert [demand, supply, bought, sold] == [
            case[name][number]
            for name in ("demand_wh", "supply_wh", "matched_demand_wh", "matched_supply_wh")
        ]
        r, f = group["import_price_nano_per_wh"], group["export_price_nano_per_wh"]
        node = group["node"]
        access = tariff["access_fee_nano_per_wh"][node]
        balance[node] += sold - bought
        outside += r * demand - f * supply
        supplier += r * (demand - bought) - f * (supply - sold)
        fees += access * (bought + sold)
        dual += min(r, price[node] + access) * demand - max(f, price[node] - access) * supply
    for edge, amount in zip(tariff["edges"], flow, strict=True):
        balance[edge["from"]] -= amount
        balance[edge["to"]] += amount
        fees += edge["fee_nano_per_wh"] * abs(amount)
        assert abs(price[edge["from"]] - price[edge["to"]]) <= edge["fee_nano_per_wh"]
    assert balance == [0] * nodes
    assert (supplier, fees) == (case["supplier_nano"], case["network_fees_nano"])
    assert (supplier + fees, dual) == (case["primal_nano"], case["dual_nano"])
    assert case["gap_nano"] == supplier + fees - dual
    assert case["verdict"] == ("NotOptimal" if case["gap_nano"] else "optimal")
    if case["verdict"] == "optimal":
        assert case["outside_nano"] == outside
        assert case["savings_nano"] == outside - supplier - fees
        used = case["discount_nano_per_wh"] * sum(case["demand_wh"])
        used += case["premium_nano_per_wh"] * sum(case["supply_wh"])
        assert case["fund_nano"] == case["savings_nano"] - used


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
    word, readings, prices = raw(case["group_word"]), raw(case["readings"]), raw(case["prices"])
    imports = int.from_bytes(word[:8], "big", signed=True)
    exports = int.from_bytes(word[8:16], "big", signed=True)
    amount = 0
    for at in range(0, len(readings), 16):
        taken, given = (int.from_bytes(readings[at + k : at + k + 7], "big") for k in (0, 7))
        quality = int.from_bytes(readings[at + 14 : at + 16], "big")
        discount, premium = (int.from_bytes(prices[at + k : at + k + 8], "big") for k in (0, 8))
        net = given - taken
        if quality != 2:
            amount += net * (imports - discount if net < 0 else exports + premium)
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


def follow(node: SumLeaf, slot: int, proof: Sequence[str], tag: str) -> SumLeaf:
    """From a leaf up, along sibling hash and sibling sums; missing ones at the end are empty."""
    parts = [raw(part) for part in proof] + [ZERO] * (40 - len(proof))
    for height in range(20):
        sibling = (parts[2 * height], *split(parts[2 * height + 1]))
        pair = (sibling, node) if slot >> height & 1 else (node, sibling)
        node = sum_node(*pair, tag)
    return node


@pytest.mark.parametrize("case", cases("ledger-tree.json"))
def test_ledger_trees(case: dict[str, Any]) -> None:
    tag = case["node_tag"]
    leaves: dict[int, SumLeaf] = {}
    for leaf in case["leaves"]:
        check_leaf(leaf)
        leaves[leaf["slot"]] = (raw(leaf["leaf"]), leaf["amount_nano"], leaf["cumulative_nano"])
    root = sum_root(leaves, 20, tag)
    assert root[0] == raw(case["root"])
    assert sums_word(*root[1:]) == raw(case["root_sums"])
    left = (raw(case["left"]), *split(raw(case["left_sums"])))
    right = (raw(case["right"]), *split(raw(case["right_sums"])))
    assert sum_node(left, right, tag) == root
    for slot, proof in case["proofs"].items():
        assert follow(leaves.get(int(slot), (ZERO, 0, 0)), int(slot), proof, tag) == root


# --- Batch ---------------------------------------------------------------------------------------------------------------


def header_hash(header: Mapping[str, Any], tag: str = "peerwatt.batch.v1") -> bytes:
    types = ["uint64", "uint32", "uint64", "uint32", *["bytes32"] * 8, *["int128"] * 3]
    values = [raw(value) if isinstance(value, str) else value for value in header.values()]
    return tagged(tag, types, values)


@pytest.mark.parametrize("case", cases("batch-header.json"))
def test_batch_headers(case: dict[str, Any]) -> None:
    assert header_hash(case["header"], case["tag"]) == raw(case["batch_hash"])
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


@pytest.mark.parametrize("case", cases("example-period.json"))
def test_a_whole_period_from_its_bundle(case: dict[str, Any]) -> None:
    """What docs/protocol.md calls verifying a period, with nothing but the bundle, the genesis and the oracle's signers."""
    public_bytes = case["public"].encode("ascii")
    public = json.loads(public_bytes)
    header = case["header"]
    assert header_hash(header) == raw(case["batch_hash"])
    assert hash_of(public_bytes) == raw(header["bundle_hash"])

    genesis = case["genesis"]
    assert raw(header["previous_batch"]) == tagged(
        "peerwatt.genesis.v1",
        ["uint256", "address", "uint64", "uint64"],
        list(genesis.values()),
    )

    # Report and signatures.
    period, report, oracle = public["period"], public["report"], case["oracle"]
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
    signed_by = [
        Account.recover_message(message, signature=signature) for signature in report["signatures"]
    ]
    assert len(signed_by) >= oracle["threshold"]
    assert signed_by == sorted(set(signed_by), key=lambda signer: int(signer, 16))
    assert set(signed_by) <= set(oracle["signers"])
    assert raw(report["config_digest"]) == tagged(
        "peerwatt.oracle.config.v1",
        ["uint256", "address", "uint256", "address[]"],
        [public["chain_id"], oracle["contract"], oracle["threshold"], oracle["signers"]],
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
    edge_words = [
        encode_packed(["uint32", "uint32", "uint64", "uint128"], [*edge, 0])
        for edge in sorted(
            (
                *sorted((nodes.index(edge["from"]), nodes.index(edge["to"]))),
                edge["fee_nano_per_wh"],
            )
            for edge in tariff["network"]["edges"]
        )
    ]
    assert raw(header["tariff_hash"]) == tagged(
        "peerwatt.tariff.v1",
        ["uint32", "uint32", "bytes32", "bytes32"],
        [
            tariff["share_millionths"],
            len(nodes),
            hash_of(b"".join(group_words)),
            hash_of(b"".join(edge_words)),
        ],
    )
    assert hash_of(raw(public["prices"])) == raw(header["prices_hash"])

    # Accounts: every part unaltered, every leaf in the tree, all of them together the whole tree.
    personal = {int(slot): text for slot, text in case["personal"].items()}
    assert {
        str(slot): "0x" + hash_of(text.encode()).hex() for slot, text in personal.items()
    } == public["personal_hashes"]
    prices = raw(public["prices"])
    leaves: dict[int, SumLeaf] = {}
    readings_leaves: dict[int, bytes] = {}
    for slot, text in personal.items():
        part = json.loads(text)
        assert part["slot"] == slot
        commitment = ZERO
        if "readings" in part:
            readings = raw(part["readings"])
            commitment = tagged(
                "peerwatt.readings.leaf.v1",
                ["uint256", "bytes32", "bytes32"],
                [slot, hash_of(readings), raw(part["readings_salt"])],
            )
            readings_leaves[slot] = commitment
            at = keys.index(
                (
                    nodes.index(part["node"]),
                    numbers[part["tariff_class"]],
                    part["tariff_class"],
                )
            )
            amount = 0
            for index in range(period["interval_count"]):
                row = readings[16 * index : 16 * index + 16]
                step = prices[16 * index : 16 * index + 16]
                net = int.from_bytes(row[7:14], "big") - int.from_bytes(row[:7], "big")
                word = group_words[at]
                price = (
                    int.from_bytes(word[:8], "big", signed=True) - int.from_bytes(step[:8], "big")
                    if net < 0
                    else int.from_bytes(word[8:16], "big", signed=True)
                    + int.from_bytes(step[8:], "big")
                )
                amount += net * price if row[14:] != b"\0\2" else 0
            assert part["amount_nano"] == amount
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
        found = follow(leaves[slot], slot, part["ledger_proof"], "peerwatt.ledger.node.v1")
        assert found[0] == raw(header["ledger_root"])
    assert sum_root(leaves, 20, "peerwatt.ledger.node.v1") == (raw(header["ledger_root"]), 0, 0)
    assert root_of(readings_leaves, 20, "peerwatt.tree.node.v1") == raw(header["readings_root"])
    assert [leaves[slot][1] for slot in (0, 1, 2)] == [
        header["supplier_nano"],
        header["network_fees_nano"],
        header["fund_nano"],
    ]
    trade_leaves = {place: raw(leaf) for place, leaf in enumerate(public["trade_leaves"])}
    assert root_of(trade_leaves, 32, "peerwatt.tree.node.v1") == raw(header["trades_root"])
