"""Nodes that lie, contradict themselves, or do not answer: each is named, and nothing is called verified on their word."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from backend.audit import node
from backend.audit.block_checks import EVENTS, check_blocks
from backend.audit.chain_reader import ChainReader
from backend.audit.command import repeat_audit
from backend.audit.community_checks import check_community
from backend.audit.hashing import keccak
from backend.audit.node import open_nodes
from backend.audit.verdict import Checks
from backend.domain.errors import (
    NodeAnswerUnusable,
    NodesDisagree,
    NodeSilent,
    NodeUnreachable,
)
from backend.operator.publication import publish_bundle
from tests.support.anvil import running_anvil

from .honest import CHALLENGE_SECONDS, RING
from .settled import Answer, Settled, lying_node, outcomes, settle


def of(method: str) -> Any:
    """Twists answers to one method only."""

    def decorate(change: Any) -> Any:
        def twist(question: Answer, answer: Answer) -> Answer:
            if question["method"] == method:
                change(answer["result"])
            return answer

        return twist

    return decorate


def test_an_honest_node_s_blocks_are_verified(settled: Settled) -> None:
    assert EVENTS in outcomes(settled.verdict(), True)


@of("eth_getLogs")
def without_a_batch(logs: list[Any]) -> None:
    topics = [log["topics"][0] for log in logs]
    last = max(
        topics,
        key=lambda topic: len(
            [log for log in logs if len(log["data"]) > 1200 and log["topics"][0] == topic]
        ),
    )
    del logs[max(at for at, topic in enumerate(topics) if topic == last)]


@of("eth_getLogs")
def without_a_log(logs: list[Any]) -> None:
    del logs[len(logs) // 2]


@of("eth_getLogs")
def with_other_data(logs: list[Any]) -> None:
    log = next(log for log in logs if len(log["data"]) == 2 + 64)
    log["data"] = "0x" + "00" * 31 + "01"


@of("eth_getLogs")
def with_another_block_hash(logs: list[Any]) -> None:
    for log in logs:
        log["blockHash"] = "0x" + "ab" * 32


@of("eth_getBlockByNumber")
def with_a_made_up_header(block: Any) -> None:
    block["stateRoot"] = "0x" + "cd" * 32


@pytest.mark.parametrize(
    ("twist", "finding"),
    [
        (without_a_batch, "the node shows the submission of every batch on record"),
        (without_a_log, EVENTS),
        (with_other_data, EVENTS),
        (with_another_block_hash, EVENTS),
        (with_a_made_up_header, EVENTS),
    ],
    ids=["batch", "log", "data", "block hash", "header"],
)
def test_a_lie_about_events_is_found(settled: Settled, twist: Any, finding: str) -> None:
    with lying_node(settled.url, twist) as url:
        reader = ChainReader(open_nodes((url,)), settled.community)
        checks = Checks()
        # What an audit looks at first, of the community as a whole.
        check_community(reader, reader.standing_batches(), checks)
        check_blocks(reader, checks)
    assert finding in {check.what for check in checks.items if check.passed is False}


def other_state(question: Answer, answer: Answer) -> Answer:
    """Says of everything that has two words that the first is another."""
    if question["method"] == "eth_call" and len(answer.get("result", "")) == 2 + 128:
        answer["result"] = "0x" + "77" * 32 + answer["result"][66:]
    return answer


def other_record(question: Answer, answer: Answer) -> Answer:
    """Says of every batch that another is on record."""
    selector = "0x" + keccak(b"recordOf(uint64)")[:4].hex()
    call = question["params"][0] if question["method"] == "eth_call" else {}
    return other_state(question, answer) if call.get("data", "").startswith(selector) else answer


def test_a_lie_about_the_state_leaves_nothing_verified(settled: Settled) -> None:
    with lying_node(settled.url, other_state) as url, pytest.raises(NodeAnswerUnusable):
        settled.verdict(url=url)
    with lying_node(settled.url, other_record) as url:
        verdict = settled.verdict(url=url)
        with pytest.raises(NodesDisagree) as raised:
            settled.run(rpc=(settled.url, url))
    assert url in raised.value.message
    # No batch is left, which the head's number contradicts.
    assert verdict.periods == ()
    assert "the node shows the submission of every batch on record" in outcomes(verdict, False)


def test_a_node_that_does_not_answer_in_time(settled: Settled) -> None:
    def slow(question: Answer, answer: Answer) -> Answer:
        if question["method"] == "eth_getLogs":
            time.sleep(0.6)
        return answer

    with lying_node(settled.url, slow) as url, pytest.raises(NodeSilent):
        settled.run(rpc=(url,), timeout_seconds=0.2)


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b"{}", b'{"id": -5, "result": "0x1"}', b"[" * 10_000],
    ids=["empty", "html", "list", "nothing", "another's", "nested"],
)
def test_an_answer_that_is_none(settled: Settled, answer: bytes) -> None:
    with lying_node(settled.url, lambda *_: answer) as url, pytest.raises(NodeAnswerUnusable):
        open_nodes((url,))


def test_an_answer_too_large_is_not_read(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "ANSWER_LIMIT_BYTES", 10_000)
    with pytest.raises(NodeAnswerUnusable):
        settled.verdict()


def test_a_node_that_hangs_up(settled: Settled) -> None:
    with lying_node(settled.url, lambda *_: None) as url, pytest.raises(NodeUnreachable):
        open_nodes((url,))


def test_an_address_without_a_community(settled: Settled) -> None:
    with pytest.raises(NodeAnswerUnusable, match="no such answer"):
        settled.run(community="0x" + "11" * 20)


def test_a_node_that_wants_small_questions(settled: Settled) -> None:
    """Many nodes look through some blocks only at once; the audit asks for less then. Two honest nodes agree."""

    def picky(question: Answer, answer: Answer) -> Answer:
        if question["method"] == "eth_getLogs":
            given = question["params"][0]
            if int(given["toBlock"], 16) - int(given["fromBlock"], 16) > 20:
                refusal = {"code": -32005, "message": "query returned more than 20 blocks"}
                return {"jsonrpc": "2.0", "id": question["id"], "error": refusal}
        return answer

    with lying_node(settled.url, picky) as url:
        assert settled.run(rpc=(settled.url, url)).verdict.verdict == "verified"


def test_an_event_that_was_not_asked_for(settled: Settled) -> None:
    def more(question: Answer, answer: Answer) -> Answer:
        if question["method"] == "eth_getLogs":
            foreign = json.loads(json.dumps(answer["result"][0]))
            foreign["address"] = "0x" + "22" * 20
            answer["result"].append(foreign)
        return answer

    with lying_node(settled.url, more) as url, pytest.raises(NodeAnswerUnusable):
        settled.verdict(url=url)


def test_a_node_that_makes_up_a_whole_chain(settled: Settled, tmp_path: Path) -> None:
    """Everything it says fits: real blocks, real contracts at the same addresses, proved batches. Only a second node tells."""
    evidence = tmp_path / "evidence.zip"
    with running_anvil() as url:
        town = settle(url, RING, seed=12)
        for batch in town.batches:
            publish_bundle(tmp_path / "made-up" / str(batch.header.number), town.bundle(batch))
        made_up = Settled(town, url, tmp_path / "made-up")
        assert made_up.community == settled.community
        believed = made_up.run(save_evidence=evidence).verdict
        assert believed.verdict == "verified"
        assert believed.periods[-1].batch_hash != settled.verdict().periods[-1].batch_hash
        for nodes in ((url, settled.url), (settled.url, url)):
            with pytest.raises(NodesDisagree) as raised:
                made_up.run(rpc=nodes)
            assert url in raised.value.message and settled.url in raised.value.message
    # Nor does its evidence stand up to an honest node, when it has gone.
    again = repeat_audit(evidence, (settled.url,), 1, lambda line: None).verdict
    assert again.verdict == "failed"
    assert "a second node gives the answers that are in evidence" in outcomes(again, False)


@pytest.mark.parametrize(("windows", "enough"), [(2, False), (3, True)])
def test_whoever_may_change_something_waits_longer_than_it_takes_to_leave(
    settled: Settled, windows: int, enough: bool
) -> None:
    """The last period must be settled and final, and what is free then must have been announced for as long again."""
    selector = "0x" + keccak(b"hasRole(uint64,address)")[:4].hex()

    def twist(question: Answer, answer: Answer) -> Answer:
        call = question["params"][0] if question["method"] == "eth_call" else {}
        if call.get("data", "").startswith(selector) and int(answer["result"][66:], 16):
            answer["result"] = answer["result"][:66] + f"{windows * CHALLENGE_SECONDS:064x}"
        return answer

    with lying_node(settled.url, twist) as url:
        reader = ChainReader(open_nodes((url,)), settled.community)
        checks = Checks()
        check_community(reader, reader.standing_batches(), checks)
    (found,) = (check for check in checks.items if check.what.startswith("whoever can change"))
    assert found.passed is enough
