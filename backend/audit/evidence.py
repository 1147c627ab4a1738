"""An audit's evidence in one file: every answer of the chain and every part of the bundles, so that somebody else can repeat the
audit without asking anybody (docs/files.md, `peerwatt/evidence/1`).
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from web3 import Web3
from web3.providers import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from backend.domain.errors import EvidenceDamaged

from .auditor import Scope
from .bundle_files import PUBLIC_LIMIT_BYTES, BundleFiles
from .bundle_format import parse
from .calls import TRACE_METHOD
from .hashing import keccak
from .node import Question, question_key, same_answer
from .verdict import AuditVerdict, Checks

EVIDENCE_FORMAT = "peerwatt/evidence/1"
_BUNDLE_NAME = re.compile(
    r"bundles/(\d{1,20}/(public|personal/\d{1,7})|trade-books/\d{1,20}(/\d{1,7})?)\.json"
)
_MANIFEST_LIMIT_BYTES = 256 * 1024 * 1024
_TOTAL_LIMIT_BYTES = 8 * 1024**3
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Where a chain was executed here, its transactions are the evidence; elsewhere a node's answers are.
JOURNAL, ANSWERS = "journal.json", "chain.jsonl"


@dataclass(frozen=True)
class Evidence:
    """What a file holds.

    Attributes:
        manifest: what it says about itself.
        answers: a node's, by question; empty where there is a journal.
        journal: transactions of an embedded chain; None for a node's answers.
        verdict: the first auditor's.
        bundles: what was copied out of it.
    """

    manifest: dict[str, Any]
    answers: dict[Question, Any]
    journal: list[dict[str, Any]] | None
    verdict: dict[str, Any]
    bundles: BundleFiles

    @property
    def scope(self) -> Scope:
        """What the first auditor looked at."""
        given = self.manifest["scope"]
        only = given["only"]
        return Scope(given["first"], given["last"], None if only is None else frozenset(only))


def write_evidence(
    path: Path,
    verdict: AuditVerdict,
    scope: Scope,
    files: BundleFiles,
    chain: Mapping[Question, Any] | list[dict[str, Any]],
) -> str:
    """Writes the file, the same bytes for the same evidence.

    Args:
        path: where to.
        verdict: of the audit.
        scope: of the audit.
        files: the bundles it had.
        chain: a node's answers by question, or an embedded chain's journal.

    Returns:
        keccak256 of the file in hex.
    """
    contents: dict[str, bytes] = {}
    if isinstance(chain, list):
        contents[JOURNAL] = _json(chain)
    else:
        lines = [
            _json({"method": method, "params": json.loads(params), "answer": answer})
            for (method, params), answer in sorted(chain.items())
        ]
        contents[ANSWERS] = b"\n".join(lines) + b"\n"
    contents["verdict.json"] = _json(verdict.as_dict())
    hashes = {name: _entry(data) for name, data in contents.items()}
    buffer = path.with_name(path.name + ".part")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in contents.items():
            _put(archive, name, data)
        for name, data in _bundle_parts(verdict, files):
            hashes[name] = _entry(data)
            _put(archive, name, data)
        manifest = {
            "format": EVIDENCE_FORMAT,
            "generated_by": f"peerwatt {version('peerwatt')}",
            "chain_id": verdict.chain_id,
            "clearing_house": verdict.clearing_house,
            "block": verdict.block,
            "block_hash": verdict.block_hash,
            "scope": {
                "first": scope.first,
                "last": scope.last,
                "only": None if scope.only is None else sorted(scope.only),
            },
            "refused": dict(sorted(files.refused.items())),
            "verdict": verdict.verdict,
            "files": dict(sorted(hashes.items())),
        }
        _put(archive, "manifest.json", _json(manifest))
    buffer.replace(path)
    return "0x" + keccak(path.read_bytes()).hex()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "keccak256": "0x" + keccak(data).hex()}


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


def _bundle_parts(verdict: AuditVerdict, files: BundleFiles) -> Iterator[tuple[str, bytes]]:
    """Every part the audit had, also of batches that those in its scope build on."""
    found: dict[str, Path] = {}
    if files.folder is not None:
        for path in files.folder.rglob("*.json"):
            name = f"bundles/{path.relative_to(files.folder).as_posix()}"
            if _BUNDLE_NAME.fullmatch(name) and path.stat().st_size <= PUBLIC_LIMIT_BYTES:
                found[name] = path
    for (number, slot), path in files.own.items():
        found[f"bundles/{number}/personal/{slot}.json"] = path
    for (first_interval, slot), path in files.own_books.items():
        found[f"bundles/trade-books/{first_interval}/{slot}.json"] = path
    last_batch = max((period.number for period in verdict.periods), default=0)
    ends = (period.first_interval + len(period.outcomes) for period in verdict.periods)
    last_interval = max(ends, default=0)
    for name in sorted(found):
        kind, which, *_ = name.removeprefix("bundles/").removesuffix(".json").split("/")
        if int(which) < last_interval if kind == "trade-books" else int(kind) <= last_batch:
            yield name, found[name].read_bytes()


def read_evidence(path: Path, folder: Path) -> Evidence:
    """Reads the file and copies its bundles into a folder.

    Args:
        path: the file.
        folder: an empty one.

    Raises:
        EvidenceDamaged: it is not what its manifest says, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, folder)
    # All that zipfile raises for archives that are cut, altered, or packed in a way it does not know.
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise _damaged(str(path), f"no usable archive: {error}") from None


def _damaged(where: str, why: str) -> EvidenceDamaged:
    return EvidenceDamaged(f"{where}: {why}", "ask whoever made the evidence for the file again")


def _read(archive: zipfile.ZipFile, folder: Path) -> Evidence:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    if sum(sizes.values()) > _TOTAL_LIMIT_BYTES or len(sizes) != len(archive.infolist()):
        raise _damaged("the archive", "larger than 8 GiB, or names a file twice")
    if sizes.get("manifest.json", _MANIFEST_LIMIT_BYTES) >= _MANIFEST_LIMIT_BYTES:
        raise _damaged("manifest.json", "missing or too large")
    manifest = _object(archive.read("manifest.json"), "manifest.json")
    hashes = manifest.get("files")
    if manifest.get("format") != EVIDENCE_FORMAT or not isinstance(hashes, dict):
        raise _damaged("manifest.json", f"is no {EVIDENCE_FORMAT}")
    if set(hashes) | {"manifest.json"} != set(sizes):
        odd = sorted((set(hashes) | {"manifest.json"}) ^ set(sizes))
        raise _damaged(odd[0], "in the manifest and not in the archive, or the other way round")
    contents: dict[str, bytes] = {}
    for name in sorted(hashes):
        data = archive.read(name)
        if hashes[name] != _entry(data):
            raise _damaged(name, "has another hash or size than the manifest says")
        if _BUNDLE_NAME.fullmatch(name):
            target = folder / name.removeprefix("bundles/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        elif name in (JOURNAL, ANSWERS, "verdict.json"):
            contents[name] = data
        else:
            raise _damaged(name, "does not belong into evidence")
    scope = manifest.get("scope")
    if not isinstance(scope, dict) or set(scope) != {"first", "last", "only"}:
        raise _damaged("manifest.json", "has no scope")
    refused = manifest.get("refused")
    return Evidence(
        manifest,
        _answers(contents[ANSWERS]) if ANSWERS in contents else {},
        _journal(contents[JOURNAL]) if JOURNAL in contents else None,
        _object(contents.get("verdict.json", b""), "verdict.json"),
        BundleFiles(folder, refused=refused if isinstance(refused, dict) else {}),
    )


def _journal(data: bytes) -> list[dict[str, Any]]:
    try:
        value = parse(data)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise _damaged(JOURNAL, "not a list")
    return value


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = parse(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _damaged(name, "not a JSON object")
    return value


def _answers(data: bytes) -> dict[Question, Any]:
    found = {}
    for number, line in enumerate(io.BytesIO(data), start=1):
        entry = _object(line, f"{ANSWERS} line {number}")
        if set(entry) != {"method", "params", "answer"}:
            raise _damaged(f"{ANSWERS} line {number}", "is no question with its answer")
        found[question_key(entry["method"], entry["params"])] = entry["answer"]
    return found


class EvidenceProvider(BaseProvider):
    """Answers from evidence alone.

    Args:
        answers: by question.
    """

    def __init__(self, answers: Mapping[Question, Any]) -> None:
        super().__init__()
        self._answers = answers

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The recorded answer.

        Raises:
            EvidenceDamaged: the first auditor did not ask that.
        """
        key = question_key(method, params)
        if key not in self._answers:
            raise EvidenceDamaged(
                f"the evidence has no answer to {method} {key[1][:120]}",
                "it was cut, or made by another version of this program: ask for it again",
            )
        found = {"jsonrpc": "2.0", "id": 0, **self._answers[key]}
        return cast(RPCResponse, found)


def check_against_node(evidence: Evidence, web3: Web3, checks: Checks) -> None:
    """Whether a node of one's own gives the answers that are in evidence."""
    differing = []
    for (method, params), answer in evidence.answers.items():
        # Nodes write traces differently; what is taken from one is held against the chain.
        if method in ("eth_blockNumber", TRACE_METHOD):
            continue
        theirs = web3.provider.make_request(RPCEndpoint(method), json.loads(params))
        if not same_answer(theirs, answer):
            differing.append(f"{method} {params[:80]}")
    checks.add(
        "a second node gives the answers that are in evidence",
        not differing,
        count=len(evidence.answers),
        detail="; ".join(differing[:5]),
    )


def check_same_verdict(evidence: Evidence, again: AuditVerdict, checks: Checks) -> None:
    """Whether the audit repeated comes to what the first auditor wrote."""
    found = json.loads(json.dumps(again.as_dict()))
    # Where a chain is executed again its blocks have other times.
    leave_out = {"block_hash"} if evidence.journal is not None else set()
    odd = [
        name
        for name in sorted(found.keys() | evidence.verdict.keys())
        if name not in leave_out and found.get(name) != evidence.verdict.get(name)
    ]
    checks.add(
        "the audit repeated comes to the verdict in evidence, check by check",
        not odd,
        detail=f"differ: {', '.join(odd)}",
    )
