"""The meters' keys as the contract MeterRegistry has them: who may sign when, and what happens while the node is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.abi import event_abi_to_log_topic

from backend.domain.errors import MalformedInput, NodeUnreachable, ReportRefused
from backend.settlement.encoding import domain_separator
from contracts.artifact import artifact
from oracle.config import load_config
from oracle.directory import SignerKind, refusal
from oracle.meter_registry import ChainDirectory, open_directory
from oracle.node import OracleNode
from oracle.registry_reader import ACTIVATED, REVOKED
from oracle.signing import address_of
from oracle.wire import address_bytes
from tests.support.broker import free_port
from tests.support.community import PAPER, LiveCommunity
from tests.support.json_rpc import Node, serving
from tests.support.oracle import SLOTS, Signer, key, packed, past_period, signer_addresses

FROM = 1_000
METERS = {slot: address_of(key("meter", slot)) for slot in SLOTS}
GATEWAY, COLLECTOR, STRANGER = (address_of(key(role)) for role in ("gateway", "collector", "x"))


@pytest.fixture
def node(community: LiveCommunity) -> Iterator[Node]:
    with serving(community.client.web3) as started:
        yield started


def activate(community: LiveCommunity, meter: str, slot: int, from_interval: int = FROM) -> None:
    community.send(community.contracts.activate_meters([meter], [slot], from_interval))


def revoke(community: LiveCommunity, meter: str, until_interval: int) -> None:
    community.send(community.contracts.revoke_meter(meter, until_interval))


def written(folder: Path, community: LiveCommunity, url: str, **fields: Any) -> Signer:
    """A signer's folder whose meters are those on chain."""
    signer = Signer(folder, 0)
    entry = {
        "contract": community.contracts.addresses["MeterRegistry"],
        "rpc_url": url,
        "confirmations": 0,
    }
    signer.write(
        signer_addresses(), chain_id=community.client.chain_id, meter_registry=entry | fields
    )
    return signer


def directory(signer: Signer, now: float = 5e9) -> ChainDirectory:
    made = open_directory(load_config(signer.path), lambda: now)
    assert isinstance(made, ChainDirectory)
    return made


def embedded(community: LiveCommunity) -> Any:
    return getattr(community.client.web3.provider, "ethereum_tester")  # noqa: B009


def why(made: ChainDirectory, meter: str, signer: str, interval: int) -> str | None:
    return refusal(made, address_bytes(meter), address_bytes(signer), interval)


def test_the_events_are_those_of_the_contract() -> None:
    topics = {
        entry["name"]: "0x" + event_abi_to_log_topic(entry).hex()
        for entry in artifact("MeterRegistry")["abi"]
        if entry["type"] == "event"
    }
    assert (topics["MeterActivated"], topics["MeterRevoked"]) == (ACTIVATED, REVOKED)


def test_a_key_signs_from_its_activation_to_its_revocation(
    community: LiveCommunity, node: Node, tmp_path: Path
) -> None:
    """As the contract itself says, interval by interval."""
    activate(community, METERS[3], 3)
    activate(community, METERS[4], 4, FROM + 7)
    revoke(community, METERS[3], FROM + 5)
    made = directory(written(tmp_path, community, node.url))
    for slot in (3, 4):
        on_chain = community.functions("MeterRegistry").meterAt(METERS[slot]).call()
        assert on_chain[0] == slot
        for interval in range(FROM - 2, FROM + 10):
            fault = why(made, METERS[slot], METERS[slot], interval)
            assert (fault is None) == (on_chain[1] <= interval < on_chain[2])
    assert "not registered" in str(why(made, METERS[5], METERS[5], FROM))
    assert "may not sign for this meter in interval 1005" in str(
        why(made, METERS[3], METERS[3], FROM + 5)
    )


def test_changes_are_taken_over_and_read_once(
    community: LiveCommunity, node: Node, tmp_path: Path
) -> None:
    signer = written(tmp_path, community, node.url)
    made = directory(signer)
    assert why(made, METERS[3], METERS[3], FROM)
    activate(community, METERS[3], 3)
    assert made.reload()
    assert why(made, METERS[3], METERS[3], FROM) is None
    assert not made.reload()
    # Back to before it began, for a key that was stolen.
    revoke(community, METERS[3], FROM)
    assert made.reload()
    assert "may not sign" in str(why(made, METERS[3], METERS[3], FROM))
    node.calls.clear()
    again = directory(signer)
    assert why(again, METERS[3], METERS[3], FROM)
    assert "eth_getLogs" not in node.calls, "what is kept is not asked for again"


def test_a_gateway_signs_for_its_slot_and_the_collector_while_the_meter_is_registered(
    community: LiveCommunity, node: Node, tmp_path: Path
) -> None:
    activate(community, METERS[3], 3)
    activate(community, GATEWAY, 3, FROM + 2)
    revoke(community, METERS[3], FROM + 6)
    signer = written(tmp_path, community, node.url)
    signers = [
        {"signer": COLLECTOR, "kind": "collector", "from_interval": FROM + 4},
        # On a signer's own word nobody becomes a meter or a gateway.
        {"signer": STRANGER, "kind": "gateway"},
    ]
    entries = [{"meter": METERS[slot], "signers": signers} for slot in (3, 4)]
    entries[0]["register_modulus_wh"] = 10**6
    (tmp_path / "meters.json").write_text(json.dumps({"meters": entries}))
    made = directory(signer)
    able = {
        name: [n for n in range(10) if why(made, METERS[3], name, FROM + n) is None]
        for name in (METERS[3], GATEWAY, COLLECTOR, STRANGER)
    }
    assert able == {
        METERS[3]: [0, 1, 2, 3, 4, 5],
        GATEWAY: [2, 3, 4, 5, 6, 7, 8, 9],
        COLLECTOR: [4, 5],
        STRANGER: [],
    }
    record = made.record(address_bytes(METERS[3]))
    assert record is not None
    assert record.register_modulus_wh == 10**6
    kinds = {address_bytes(METERS[3]): "meter", address_bytes(GATEWAY): "gateway"}
    kinds[address_bytes(COLLECTOR)] = "collector"
    assert {grant.signer: grant.kind for grant in record.grants} == {
        signer: SignerKind(kind) for signer, kind in kinds.items()
    }
    # The gateway is slot 3's; slot 4's meter is not registered, so nobody signs for it.
    assert why(made, METERS[4], GATEWAY, FROM + 5)
    assert why(made, METERS[4], COLLECTOR, FROM + 5)


def test_a_meter_registered_for_another_slot_does_not_count_for_the_member(
    community: LiveCommunity, node: Node, tmp_path: Path
) -> None:
    activate(community, METERS[3], 4)
    activate(community, STRANGER, 5)
    made = directory(written(tmp_path, community, node.url))
    assert why(made, METERS[3], METERS[3], FROM)
    # Of a meter that is nobody's here, the chain alone says whose it is.
    assert why(made, STRANGER, STRANGER, FROM) is None


def test_only_confirmed_blocks_count(community: LiveCommunity, node: Node, tmp_path: Path) -> None:
    activate(community, METERS[3], 3)
    made = directory(written(tmp_path, community, node.url, confirmations=2))
    assert why(made, METERS[3], METERS[3], FROM)
    embedded(community).mine_blocks(2)
    made.reload()
    assert why(made, METERS[3], METERS[3], FROM) is None
    young = directory(written(tmp_path / "y", community, node.url, confirmations=10_000))
    assert young.record(address_bytes(METERS[3])) is None
    assert not young.reload()


def test_a_block_that_is_not_on_the_chain_any_more_makes_it_read_anew(
    community: LiveCommunity, node: Node, tmp_path: Path
) -> None:
    chain = embedded(community)
    activate(community, METERS[4], 4)
    made = directory(written(tmp_path, community, node.url))
    snapshot = chain.take_snapshot()
    activate(community, METERS[3], 3)
    made.reload()
    assert why(made, METERS[3], METERS[3], FROM) is None
    chain.revert_to_snapshot(snapshot)
    # A node that lags behind is no reason to forget anything.
    assert not made.reload()
    community = community.reopened()
    activate(community, METERS[5], 5)
    assert made.reload()
    found = [slot for slot in SLOTS if why(made, METERS[slot], METERS[slot], FROM) is None]
    assert found == [4, 5]


def test_a_provider_that_limits_questions(
    community: LiveCommunity, node: Node, tmp_path: Path
) -> None:
    activate(community, METERS[3], 3)
    node.most_blocks = 3
    made = directory(written(tmp_path, community, node.url))
    assert why(made, METERS[3], METERS[3], FROM) is None
    assert node.calls.count("eth_getLogs") > 5
    node.most_blocks = 0
    with pytest.raises(NodeUnreachable, match="refuses eth_getLogs"):
        directory(written(tmp_path / "second", community, node.url))


EVENT = {"topics": [ACTIVATED, "0x" + "ab" * 32, "0x3"], "data": "0x1"}
SPOILED = [
    b"", b"<html>", b"[]", b'"0x1"', b"{}", b'{"error": {"code": -32000}}', b'{"error": 7}', b'{"result": "0xzz"}',
    b'{"result": {}}', b'{"result": [1]}', b'{"result": [{}]}', b'{"result": [[], {}]}',
    *(json.dumps({"result": [EVENT | change]}).encode() for change in (
        {"topics": []}, {"topics": [REVOKED, "0x" + "ab" * 32, "0x3"]}, {"topics": [ACTIVATED, "0xzz", "0x3"]},
        {"topics": None}, {"topics": [ACTIVATED, "0x" + "ab" * 31, "0x3"]}, {"data": "0x"}, {"data": 5}, {"data": None},
    )),
]  # fmt: skip


@pytest.mark.parametrize("method", ["eth_blockNumber", "eth_getBlockByNumber", "eth_getLogs"])
def test_an_answer_that_makes_no_sense_changes_nothing(
    community: LiveCommunity, node: Node, tmp_path: Path, method: str
) -> None:
    activate(community, METERS[3], 3)
    made = directory(written(tmp_path, community, node.url))
    known = made.freshness()
    activate(community, METERS[4], 4)
    for body in SPOILED:
        node.spoiled = {method: body}
        assert not made.reload(), body
        assert made.freshness().failure, body
        assert made.freshness().block == known.block
        assert why(made, METERS[3], METERS[3], FROM) is None
        assert why(made, METERS[4], METERS[4], FROM) is not None
    node.spoiled = {}
    assert made.reload()
    assert made.freshness().failure is None
    assert why(made, METERS[4], METERS[4], FROM) is None


def test_while_the_node_is_away_the_last_state_counts_and_says_so(
    community: LiveCommunity, tmp_path: Path
) -> None:
    port = free_port()
    with pytest.raises(NodeUnreachable, match="does not answer"):
        directory(written(tmp_path, community, f"http://127.0.0.1:{port}"))
    activate(community, METERS[3], 3)
    with serving(community.client.web3, port) as node:
        signer = written(tmp_path, community, node.url)
        made = directory(signer, 5e9)
        assert made.freshness().failure is None
    # Running, and started again: the same.
    for away in (made, directory(signer, 5e9 + 100)):
        assert not away.reload()
        assert why(away, METERS[3], METERS[3], FROM) is None
        known = away.freshness()
        assert "does not answer" in str(known.failure)
        assert known.block == community.client.web3.eth.block_number
    assert away.freshness().age_seconds == 100
    with serving(community.client.web3, port):
        assert not away.reload()
    assert away.freshness().failure is None
    assert away.freshness().age_seconds == 0


def test_too_old_a_state_signs_nothing_and_still_takes_readings(
    community: LiveCommunity, tmp_path: Path
) -> None:
    period = past_period(3)
    domain = domain_separator(community.client.chain_id, PAPER.reading_oracle)
    with serving(community.client.web3) as node:
        for slot in SLOTS:
            activate(community, METERS[slot], slot, 0)
        signer = written(tmp_path, community, node.url, stale_seconds=60)
        signer.change(chain_id=1)
        with pytest.raises(MalformedInput, match="chain_id"):
            load_and_open(signer, 0)
        signer.change(chain_id=community.client.chain_id)
        load_and_open(signer, 0).store.close()
    made = load_and_open(signer, 61)
    assert made.intake.take(packed(period, domain)).taken == 97 * len(SLOTS)
    draft = made.draft(period.number, 0)
    assert draft.reasons == {}
    with pytest.raises(ReportRefused, match="registry was last read 61 s ago"):
        made.confirm(period.number, 0, draft.hash)
    made.store.close()
    made = load_and_open(signer, 59)
    assert made.confirm(period.number, 0, draft.hash).report_hash == draft.hash
    made.store.close()


def load_and_open(signer: Signer, seconds: float) -> OracleNode:
    start = time.time() if seconds == 0 else (signer.folder / "meter-registry.json").stat().st_mtime
    return OracleNode.open(signer.config, lambda: start + seconds)


def test_a_file_of_another_registry_or_a_damaged_one_is_not_used(
    community: LiveCommunity, node: Node, tmp_path: Path
) -> None:
    signer = written(tmp_path, community, node.url)
    activate(community, METERS[3], 3)
    directory(signer)
    kept = tmp_path / "meter-registry.json"
    good = kept.read_text()
    other = good.replace(community.contracts.addresses["MeterRegistry"], "0x" + "77" * 20)
    assert other != good
    for text in (other, good[:-9], "{}", good.replace('"slot":3', '"slot":"x"')):
        kept.write_text(text)
        node.calls.clear()
        assert why(directory(signer), METERS[3], METERS[3], FROM) is None
        assert "eth_getLogs" in node.calls


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"contract": "0x" + "12" * 20}, "there is no contract"), ({"rpc_url": "ftp://x"}, "rpc_url")],
)
def test_a_wrong_configuration(
    community: LiveCommunity, node: Node, tmp_path: Path, fields: dict[str, str], said: str
) -> None:
    with pytest.raises(MalformedInput, match=said):
        directory(written(tmp_path, community, node.url, **fields))
