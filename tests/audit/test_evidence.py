"""Evidence repeats an audit with nobody to ask, and whatever is changed in it is noticed."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.audit.command import Outcome, repeat_audit
from backend.audit.evidence import ANSWERS
from backend.domain.errors import EvidenceDamaged, PeerwattError

from .settled import Answer, Settled, lying_node, outcomes

SAME = "the audit repeated comes to the verdict in evidence, check by check"
AGREES = "a second node gives the answers that are in evidence"


@pytest.fixture(scope="module")
def evidence(settled: Settled, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    path = tmp_path_factory.mktemp("evidence") / "evidence.zip"
    return path, settled.run(save_evidence=path)


def repeated(path: Path, *rpc: str) -> Outcome:
    return repeat_audit(path, rpc, 1, lambda line: None)


def test_the_audit_is_repeated_without_asking_anybody(evidence: tuple[Path, Outcome]) -> None:
    path, first = evidence
    again = repeated(path).verdict
    assert again.verdict == "verified"
    assert SAME in outcomes(again, True)
    assert again.periods == first.verdict.periods
    assert again.block_hash == first.verdict.block_hash


def test_the_same_audit_gives_the_same_evidence(
    settled: Settled, evidence: tuple[Path, Outcome], tmp_path: Path
) -> None:
    again = settled.run(save_evidence=tmp_path / "again.zip")
    assert again.evidence_hash == evidence[1].evidence_hash


def test_a_second_auditor_s_node_is_asked_the_same(
    settled: Settled, evidence: tuple[Path, Outcome]
) -> None:
    assert AGREES in outcomes(repeated(evidence[0], settled.url).verdict, True)

    def lie(question: Answer, answer: Answer) -> Answer:
        if question["method"] == "eth_getCode":
            answer["result"] = answer["result"][:-2] + "00"
        return answer

    with lying_node(settled.url, lie) as url:
        verdict = repeated(evidence[0], url).verdict
    assert AGREES in outcomes(verdict, False)
    assert verdict.verdict == "failed"


def changed(path: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other contents; the manifest is left as it was."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return target


def flip(contents: dict[str, bytes]) -> None:
    contents["bundles/1/personal/3.json"] = contents["bundles/1/personal/3.json"].replace(
        b"1", b"2", 1
    )


CHANGES: dict[str, Callable[[dict[str, bytes]], object]] = {
    "a part altered": flip,
    "a part missing": lambda contents: contents.pop("bundles/2/public.json"),
    "a file too many": lambda contents: contents.update({"../escape": b""}),
    "no manifest": lambda contents: contents.pop("manifest.json"),
    "no chain": lambda contents: contents.pop(ANSWERS),
    "another format": lambda contents: contents.update({"manifest.json": b'{"format":"x"}'}),
    "a manifest that is none": lambda contents: contents.update({"manifest.json": b"["}),
}


@pytest.mark.parametrize("how", CHANGES)
def test_changed_evidence_is_refused(
    evidence: tuple[Path, Outcome], tmp_path: Path, how: str
) -> None:
    def change(contents: dict[str, bytes]) -> None:
        CHANGES[how](contents)

    with pytest.raises(EvidenceDamaged):
        repeated(changed(evidence[0], tmp_path / "changed.zip", change))


def test_evidence_cut_short_or_no_archive_at_all(
    evidence: tuple[Path, Outcome], tmp_path: Path
) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(evidence[0].read_bytes()[:-200])
    with pytest.raises(EvidenceDamaged):
        repeated(path)
    with pytest.raises(EvidenceDamaged):
        repeated(tmp_path / "nothing")


def rehash(contents: dict[str, bytes]) -> None:
    """A forger's manifest fits what it holds."""
    from backend.audit.hashing import keccak

    manifest = json.loads(contents["manifest.json"])
    manifest["files"] = {
        name: {"bytes": len(data), "keccak256": "0x" + keccak(data).hex()}
        for name, data in contents.items()
        if name != "manifest.json"
    }
    contents["manifest.json"] = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def test_a_forger_who_makes_the_hashes_fit_is_found_by_the_audit_itself(
    evidence: tuple[Path, Outcome], tmp_path: Path
) -> None:
    def forge(contents: dict[str, bytes]) -> None:
        part = json.loads(contents["bundles/1/personal/3.json"])
        part["amount_nano"] += 1
        data = json.dumps(part, sort_keys=True, separators=(",", ":")).encode()
        contents["bundles/1/personal/3.json"] = data
        rehash(contents)

    verdict = repeated(changed(evidence[0], tmp_path / "forged.zip", forge)).verdict
    assert verdict.verdict == "failed"
    assert {SAME, "every personal part is unaltered"} <= outcomes(verdict, False)

    def cut(contents: dict[str, bytes]) -> None:
        lines = contents[ANSWERS].splitlines(keepends=True)
        contents[ANSWERS] = b"".join(lines[: len(lines) // 2])
        rehash(contents)

    with pytest.raises(PeerwattError):
        repeated(changed(evidence[0], tmp_path / "torn.zip", cut))


def test_evidence_of_an_incomplete_audit_stays_incomplete(
    settled: Settled, bundles: Path, tmp_path: Path
) -> None:
    shutil.rmtree(bundles / "2" / "personal")
    path = tmp_path / "evidence.zip"
    assert settled.run(bundle=str(bundles), save_evidence=path).verdict.verdict == "incomplete"
    assert repeated(path).verdict.verdict == "incomplete"
