"""An audit from what the demonstration left, from any node and bundle, or from another auditor's evidence."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from web3 import Web3

from backend.chain.client import replay
from backend.domain.errors import MalformedInput, UnknownReference
from backend.domain.values import parse_json

from .auditor import Scope, audit
from .bundle_files import BundleFiles, MemberFiles, fetch_bundles, read_member
from .chain_reader import ChainReader
from .evidence import (
    EvidenceProvider,
    check_against_node,
    check_same_verdict,
    read_evidence,
    write_evidence,
)
from .facts import SubmittedBatch
from .forward_checks import commitments_of
from .node import Question, Recorder, open_nodes
from .verdict import AuditVerdict, Checks

Progress = Callable[[str], None]


@dataclass(frozen=True)
class AuditOptions:
    """What can be chosen.

    Attributes:
        folder: with `address-book.json`, `bundles`, and `chain.json` where the chain was the embedded one, which is then
            executed again from its genesis.
        rpc: nodes to ask instead; several must agree.
        community: address to audit instead.
        bundle: folder or URL of bundles instead.
        member: a member's own file.
        scope: which periods, and how many processes.
        save_evidence: where the evidence is written to.
        timeout_seconds: longest silence of a node or server.
    """

    folder: Path
    rpc: tuple[str, ...] = ()
    community: str | None = None
    bundle: str | None = None
    member: Path | None = None
    scope: Scope = field(default_factory=Scope)
    save_evidence: Path | None = None
    timeout_seconds: float = 30


@dataclass(frozen=True)
class Outcome:
    """What a command has to tell besides the verdict.

    Attributes:
        verdict: of the audit.
        interval_seconds: length of the community's intervals.
        evidence_hash: keccak256 of the evidence file; empty without.
    """

    verdict: AuditVerdict
    interval_seconds: int
    evidence_hash: str = ""


@dataclass(frozen=True)
class Audited:
    """An audit with what it was made from, while its files are there.

    Attributes:
        verdict: of the audit.
        batches: those in its scope, oldest first.
        files: their bundles.
        only: slots that were looked at; None for all.
        scope: of the audit.
        interval_seconds: length of the community's intervals.
        chain: a node's answers, or the journal of an embedded chain; what evidence is made of.
        reader: the chain.
    """

    verdict: AuditVerdict
    batches: list[SubmittedBatch]
    files: BundleFiles
    only: frozenset[int] | None
    scope: Scope
    interval_seconds: int
    chain: dict[Question, Any] | list[dict[str, Any]]
    reader: ChainReader


def run_audit(options: AuditOptions, progress: Progress) -> Outcome:
    """Audits a community, and keeps the evidence if that is wanted; errors as `audited`."""
    with audited(options, progress) as found:
        if options.save_evidence is None:
            return Outcome(found.verdict, found.interval_seconds)
        progress("writing the evidence")
        digest = write_evidence(
            options.save_evidence, found.verdict, found.scope, found.files, found.chain
        )
        return Outcome(found.verdict, found.interval_seconds, digest)


@contextmanager
def audited(options: AuditOptions, progress: Progress) -> Iterator[Audited]:
    """Audits a community.

    Raises:
        MalformedInput: something needed is neither given nor in the folder.
        UnknownReference: the member has no account.
        NodeUnreachable: the node does not answer.
        NodeSilent: it does not answer in time.
        NodeAnswerUnusable: its answer is none.
        NodesDisagree: several nodes say different things.
    """
    given = _Sources(options)
    web3, journal = given.chain(progress)
    recorder = Recorder()
    if options.save_evidence and journal is None:
        recorder.attach(web3)
    reader = ChainReader(web3, given.clearing_house)
    member = read_member(options.member) if options.member else None
    only = _slots(member, reader) if member else None
    scope = replace(options.scope, only=only)
    seconds = reader.parameters["intervalSeconds"]
    with given.bundles(reader, scope, member, progress) as files:
        verdict = audit(web3, given.clearing_house, files, scope, progress, reader)
        batches = [batch for batch in reader.standing_batches() if scope.holds(batch)]
        chain = recorder.answers if journal is None else journal
        yield Audited(verdict, batches, files, only, scope, seconds, chain, reader)


class _Sources:
    """Where chain and bundles are."""

    def __init__(self, options: AuditOptions) -> None:
        self.options = options
        book = {} if options.rpc and options.community else _address_book(options.folder)
        recorded = book.get("contracts", {}).get("ClearingHouse")
        address = options.community or recorded
        if address is None:
            raise MalformedInput(
                "folder",
                str(options.folder),
                "has no address-book.json",
                "run `peerwatt demo` first, or give --rpc, --community and --bundle",
            )
        if not Web3.is_address(address):
            raise MalformedInput(
                "community", address, "not an address", "give 0x and 40 hexadecimal digits"
            )
        self.clearing_house: str = address
        # What the folder says holds for its own community only.
        own = address == recorded
        self.rpc = options.rpc or ((book["rpc"],) if own and book.get("rpc") else ())
        self.bundle = options.bundle or (str(options.folder / "bundles") if own else None)

    def chain(self, progress: Progress) -> tuple[Web3, list[dict[str, Any]] | None]:
        """The chain, and its journal where it was executed here."""
        if self.rpc:
            return open_nodes(self.rpc, self.options.timeout_seconds), None
        path = self.options.folder / "chain.json"
        try:
            journal = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise MalformedInput(
                str(path), str(error), "no chain to audit", "give --rpc with the URL of a node"
            ) from None
        progress(f"executing the chain's {len(journal)} transactions again")
        return replay(journal), journal

    @contextmanager
    def bundles(
        self, reader: ChainReader, scope: Scope, member: MemberFiles | None, progress: Progress
    ) -> Iterator[BundleFiles]:
        """The bundles, fetched first where they are on a server."""
        own = (member.own, member.own_books) if member else ({}, {})
        if self.bundle is None:
            yield BundleFiles(None, *own)
        elif self.bundle.startswith(("http://", "https://")):
            with tempfile.TemporaryDirectory() as scratch:
                batches = scope.needed(reader.standing_batches())
                fetched = fetch_bundles(
                    self.bundle, batches, scope.only, Path(scratch),
                    self.options.timeout_seconds, progress,
                    [item.first_interval for item in commitments_of(reader, batches)],
                )  # fmt: skip
                yield replace(fetched, own=own[0], own_books=own[1])
        else:
            if self.options.bundle and not Path(self.bundle).is_dir():
                raise MalformedInput("bundle", self.bundle, "no folder", "give a folder or a URL")
            yield BundleFiles(Path(self.bundle), *own)


def _slots(member: MemberFiles, reader: ChainReader) -> frozenset[int]:
    """The member's slots; a wallet's are looked up on chain."""
    found = set(member.slots)
    for slot, entry in reader.members.items():
        if str(entry["account"]).lower() in member.accounts:
            found.add(slot)
    if not found:
        raise UnknownReference(
            "member",
            sorted(member.accounts),
            "no account of this community belongs to this wallet",
            "give the keystore of the wallet that signed the membership, or your part of a bundle",
        )
    return frozenset(found)


def repeat_audit(path: Path, rpc: tuple[str, ...], workers: int, progress: Progress) -> Outcome:
    """Repeats an audit from its evidence, and holds the evidence against a node of one's own if one is given.

    Raises:
        EvidenceDamaged: the file is not what it says, or lacks something.
        NodeUnreachable: the node does not answer.
    """
    with tempfile.TemporaryDirectory() as scratch:
        progress("reading the evidence")
        evidence = read_evidence(path, Path(scratch))
        if evidence.journal is not None:
            progress(f"executing the chain's {len(evidence.journal)} transactions again")
            web3 = replay(evidence.journal)
        else:
            web3 = Web3(EvidenceProvider(evidence.answers))
        scope = replace(evidence.scope, workers=workers)
        house = str(evidence.manifest["clearing_house"])
        reader = ChainReader(web3, house)
        seconds = reader.parameters["intervalSeconds"]
        verdict = audit(web3, house, evidence.bundles, scope, progress, reader)
        checks = Checks(list(verdict.checks))
        check_same_verdict(evidence, verdict, checks)
        if rpc and evidence.journal is None:
            progress("asking a node the same questions")
            check_against_node(evidence, open_nodes(rpc), checks)
    return Outcome(replace(verdict, checks=tuple(checks.items)), seconds)


def audit_folder(
    folder: Path,
    *,
    rpc: str | None,
    clearing_house: str | None,
    bundles: Path | None,
    progress: Progress,
) -> AuditVerdict:
    """Audits what the demonstration left; the arguments replace what the folder says."""
    options = AuditOptions(
        folder,
        rpc=(rpc,) if rpc else (),
        community=clearing_house,
        bundle=str(bundles) if bundles else None,
    )
    return run_audit(options, progress).verdict


def _address_book(folder: Path) -> dict[str, Any]:
    path = folder / "address-book.json"
    if not path.is_file():
        return {}
    book = parse_json(path.read_bytes(), path)
    if not isinstance(book, dict) or not isinstance(
        book.get("contracts", {}).get("ClearingHouse"), str
    ):
        raise MalformedInput(
            str(path), "contracts", "names no ClearingHouse", "use the file as it was written"
        )
    return book
