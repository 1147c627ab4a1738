"""The watchtower: follows the chain, recomputes each batch as it appears, and files the challenge where one is false.

What it has decided to send is stored before it is sent (`Sends`), and what it has found is only a memory that saves work: killed at
any moment it goes on from the chain's own state.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from web3.contract.contract import ContractFunction
from web3.exceptions import Web3Exception

from backend.domain.errors import ContractRefused, NodeError

from .batch_checks import Findings, judge
from .bundle_files import BundleFiles, NotShown
from .bundle_format import Unreadable, parse, read_personal, read_public
from .chain_checks import UNREADABLE
from .chain_reader import ChainReader
from .community_checks import check_cover
from .disputes import Challenge, Published, find_challenges
from .facts import CommunityFacts, SubmittedBatch
from .forward_checks import commitments_of, find_books
from .hashing import keccak
from .ledger_view import Parts
from .verdict import Check, verdict_of

WATCH_FORMAT = "peerwatt/watch/1"
RECEIPT_FORMAT = "peerwatt/reading-receipt/1"
_DEMANDS = {"demandData": "DataDemanded", "demandCover": "CoverDemanded"}
_SHOWN = 5


class Sends(Protocol):
    """Sends a call exactly once, whatever crashes; `backend.chain.sender.Sender` does."""

    def submit(self, key: str, call: ContractFunction, value_wei: int = 0) -> None:
        """Decides and sends; with a known key it goes on with what was decided."""

    def push_all(self) -> int:
        """Goes on with everything open."""


@dataclass(frozen=True)
class WatchEvent:
    """Something that happened.

    Attributes:
        kind: `verdict`, `lie` (found, and nothing can or need be sent now), `sent`, `refused`, `voided`, `trouble`.
        number: of the batch; 0 where it is about none.
        period: of the batch.
        text: in words.
        function: of the contract that was or would be called; empty if none.
    """

    kind: str
    number: int
    period: int
    text: str
    function: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass
class WatchState:
    """What the watchtower remembers: verdicts by record (batch hash and time), and which batches stood.

    Attributes:
        path: of its file; None to forget.
        verdicts: by record.
        standing: number and period by record, at the last look.
        told: what was said last of a record, not to say it again.
    """

    path: Path | None = None
    verdicts: dict[str, str] = field(default_factory=dict)
    standing: dict[str, tuple[int, int]] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> WatchState:
        """From its file; empty where there is none, or none that can be read: everything is then looked at again."""
        try:
            data = json.loads(path.read_bytes())
            if data["format"] != WATCH_FORMAT:
                return cls(path)
            standing = {key: (int(n), int(p)) for key, (n, p) in data["standing"].items()}
            return cls(path, dict(data["verdicts"]), standing, dict(data["told"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path)

    def save(self) -> None:
        """Writes the file whole or not at all."""
        if self.path is None:
            return
        data = {
            "format": WATCH_FORMAT,
            "verdicts": self.verdicts,
            "standing": self.standing,
            "told": self.told,
        }
        temporary = self.path.with_name(self.path.name + ".part")
        temporary.write_text(json.dumps(data, sort_keys=True))
        temporary.replace(self.path)


# Gets the bundles of some batches and the trade books of some first intervals, until a time as `time.monotonic` counts.
Bundles = Callable[[list[SubmittedBatch], list[int], float], BundleFiles]


class Watchtower:
    """Looks after one community.

    Args:
        reader: the community.
        bundles: gets bundles and trade books.
        state: what is remembered.
        sends: sends challenges; None only to look.
        grace_seconds: how long after a submission its data may be missing before it is demanded.
        receipts: folder of members' reading receipts, which show readings that the coordinator keeps to itself.
        fetch_seconds: how long one look may wait for bundles; what is not there by then is not shown.
        demands: slots whose data are demanded where nobody shows them; None for all. A demand makes an account public.
    """

    def __init__(
        self,
        reader: ChainReader,
        bundles: Bundles,
        state: WatchState,
        sends: Sends | None = None,
        *,
        grace_seconds: int = 0,
        receipts: Path | None = None,
        fetch_seconds: float = math.inf,
        demands: frozenset[int] | None = frozenset(),
    ) -> None:
        self.reader, self.bundles, self.state, self.sends = reader, bundles, state, sends
        self.grace_seconds, self.receipts = grace_seconds, receipts
        self.fetch_seconds, self.demands = fetch_seconds, demands
        self._deadline_of_look = math.inf

    def look(self) -> Iterator[WatchEvent]:
        """Looks once at everything that can still change, and does what is to be done about it."""
        try:
            if self.sends is not None:
                self.sends.push_all()
            yield from self._look()
        except NodeError as error:
            yield WatchEvent("trouble", 0, 0, f"{error.code}: {error.message}")
        except Web3Exception as error:  # a node that is behind, or has forgotten
            yield WatchEvent("trouble", 0, 0, f"the node refuses an answer: {error}")
        except (
            Exception
        ) as error:  # whatever somebody made up to stop it: it goes on at the next look
            yield WatchEvent("trouble", 0, 0, _named_fault(error))
        self.state.save()

    def _look(self) -> Iterator[WatchEvent]:
        reader, state = self.reader, self.state
        self._deadline_of_look = time.monotonic() + self.fetch_seconds
        reader.refresh()
        batches = reader.standing_batches()
        facts = reader.facts()
        now = {record_of(batch): (batch.number, batch.header["period"]) for batch in batches}
        for record, (number, period) in state.standing.items():
            if record not in now:
                yield WatchEvent("voided", number, period, f"batch {number} stands no longer")
        state.standing = now
        yield from self._strike_out()
        for batch in batches:
            record = record_of(batch)
            if batch.final and record in state.verdicts:
                continue
            if state.verdicts.get(record) == "verified" and not batch.final:
                continue
            done = False
            try:
                for event in self._look_at(facts, batches, batch):
                    done = done or (event.kind == "sent" and event.function not in _DEMANDS)
                    yield event
            except (NodeError, Web3Exception):
                raise
            except Exception as error:  # the other batches are looked at all the same
                self.state.verdicts.pop(record, None)
                yield from self._tell("trouble", batch, _named_fault(error))
            if done:
                return  # later batches fall with this one

    def _look_at(
        self, facts: CommunityFacts, batches: list[SubmittedBatch], batch: SubmittedBatch
    ) -> Iterator[WatchEvent]:
        """Recomputes a batch and disputes it where that is due."""
        asked = _needed(batches, batch)
        books = [item.first_interval for item in commitments_of(self.reader, [batch])]
        files = self.bundles(asked, books, self._deadline_of_look)
        if not batch.submission:
            yield from self._tell("trouble", batch, f"the submission cannot be read: {UNREADABLE}")
        yield from self._examine(facts, batches, asked, files)
        if not batch.final and self.state.verdicts.get(record_of(batch)) != "verified":
            yield from self._dispute(batches, batch, files)

    def _examine(
        self,
        facts: CommunityFacts,
        batches: list[SubmittedBatch],
        asked: list[SubmittedBatch],
        files: BundleFiles,
    ) -> Iterator[WatchEvent]:
        """Recomputes the last of some batches, which builds on the others."""
        books = find_books(self.reader, files, commitments_of(self.reader, asked[-1:]))
        *_, (batch, found, recomputed, checks) = judge(facts, batches, asked, files, books=books)
        if not batch.final and recomputed is not None and recomputed.complete:
            check_cover(self.reader, batch, recomputed.cumulative, checks)
        verdict = verdict_of(tuple(checks.items))
        self.state.verdicts[record_of(batch)] = verdict
        yield from self._tell(
            "verdict", batch, f"{verdict} ({found.level}): {_summary(found, checks.items)}"
        )

    def _strike_out(self) -> Iterator[WatchEvent]:
        """Looks at every trade book while its trades can still be struck out, and does so with what was never signed."""
        now = self.reader.time()
        pending = {}
        for item in self.reader.commitments():
            record = f"trade book {item.first_interval} {item.root.hex()}"
            if now <= item.strike_until and self.state.verdicts.get(record) != "verified":
                pending[record] = item
        if not pending:
            return
        books = [item.first_interval for item in pending.values()]
        files = self.bundles([], books, self._deadline_of_look)
        found = find_books(self.reader, files, pending.values())
        for record, book in zip(pending, found, strict=True):
            name = f"trade book of interval {book.commitment.first_interval}"
            wrong, hidden = book.fault or book.forged, book.hidden
            verdict = "failed" if wrong else "incomplete" if hidden else "verified"
            self.state.verdicts[record] = verdict
            if verdict != "verified":
                why = (
                    book.fault or hidden or f"{len(book.forged)} trade(s) that a side never signed"
                )
                yield from self._tell("verdict", None, f"{verdict}: {name}: {why}", record)
            for one in book.forged:
                # Who strikes out a trade of a contract gets nothing, and no oracle signer takes it for signed either.
                if one.is_key:
                    yield self._send(None, one.strike(book.commitment), record)

    def _dispute(
        self, batches: list[SubmittedBatch], batch: SubmittedBatch, files: BundleFiles
    ) -> Iterator[WatchEvent]:
        """Finds the lie and does the next thing about it."""

        def published(other: SubmittedBatch | None) -> Published | None:
            return None if other is None else Published(other, self._parts(other, files))

        by_number = {item.number: item for item in batches}
        by_hash = {item.header_hash: item for item in batches}
        target = published(batch)
        assert target is not None
        found = find_challenges(
            self.reader,
            target,
            published(by_number.get(batch.number - 1)),
            published(by_hash.get(bytes(batch.header["correctedBatch"]))),
            self._ranks(batch),
        )
        at_once = [item for item in found if item.then is None]
        for challenge in at_once:
            event = self._send(batch, challenge)
            yield event
            if event.kind in ("sent", "lie"):
                return
        for challenge in found:
            for event in self._two_steps(batch, challenge):
                yield event
                if event.kind == "sent" and event.function not in _DEMANDS:
                    return

    def _two_steps(self, batch: SubmittedBatch, challenge: Challenge) -> Iterator[WatchEvent]:
        """Demands, or voids where a demand's time is over."""
        now = self.reader.time()
        deadline = self._deadline(batch, challenge)
        assert challenge.then is not None
        if deadline is not None:
            if now > deadline:
                yield self._send(batch, challenge.then)
            else:
                yield from self._tell(
                    "lie", batch, f"{challenge.what}; demanded, due at {deadline}"
                )
            return
        if (
            challenge.unseen
            and self.demands is not None
            and challenge.arguments[1] not in self.demands
        ):
            yield from self._tell(
                "trouble",
                batch,
                f"{challenge.what}; not demanded: --slot and --demand-all say what is",
            )
            return
        is_data = challenge.function == "demandData"
        if is_data and now < batch.submitted_at + self.grace_seconds:
            yield from self._tell("lie", batch, f"{challenge.what}; not demanded yet")
            return
        yield self._send(batch, challenge)

    def _deadline(self, batch: SubmittedBatch, challenge: Challenge) -> int | None:
        """Until when a demand must be met; None if nobody has made it of this record."""
        argument = challenge.arguments[1]
        slot = argument if isinstance(argument, int) else argument[0]
        return self._deadlines(batch, challenge.function).get(slot)

    def _deadlines(self, batch: SubmittedBatch, function: str) -> dict[int, int]:
        """Until when the demands of a record must be met, by slot."""
        third = self.reader.parameters["challengeSeconds"] // 3
        return {
            entry["args"]["slot"]: int(entry["args"]["deadline"])
            for entry in self.reader.events("Challenges", _DEMANDS[function])
            # The same batch may have been voided and submitted again; demands do not outlive a record.
            if bytes(entry["args"]["batchHash"]) == batch.header_hash
            and entry["args"]["deadline"] - third >= batch.submitted_at
        }

    def _ranks(self, batch: SubmittedBatch) -> dict[int, int]:
        """Which slot to demand where nobody shows several: one's own, or else what others have demanded already."""
        others = dict.fromkeys(self._deadlines(batch, "demandData"), 1)
        return others | dict.fromkeys(self.demands or (), 0)

    def _send(
        self, batch: SubmittedBatch | None, challenge: Challenge, record: str = ""
    ) -> WatchEvent:
        name, (number, period) = challenge.function, _named(batch)
        if self.sends is None:
            return WatchEvent(
                "lie", number, period, f"{challenge.what}; no key to send {name}", name
            )
        call = self.reader.functions(challenge.contract)[name](*challenge.arguments)
        data = bytes.fromhex(call._encode_transaction_data()[2:])
        key = f"{record_of(batch) if batch else record} {name} {keccak(data).hex()}"
        try:
            self.sends.submit(key, call, challenge.value_wei)
        except ContractRefused as refused:
            return WatchEvent(
                "refused", number, period, f"{challenge.what}: {refused.message}", name
            )
        return WatchEvent("sent", number, period, challenge.what, name)

    def _parts(self, batch: SubmittedBatch, files: BundleFiles) -> Parts:
        """Personal parts that can be read, by slot, whatever the public part says of them; and members' receipts."""
        parts: dict[int, Mapping[str, Any]] = {}
        for receipt in self._receipts(batch):
            parts[receipt["slot"]] = {
                "readings": receipt["vector"],
                "readings_salt": receipt["salt"],
                "readings_proof": receipt["proof"],
            }
        slots = set(self.reader.members)
        with contextlib.suppress(NotShown, Unreadable):
            slots |= set(read_public(files.public(batch.number)).personal_hashes)
        for slot in sorted(slots):
            try:
                data = files.personal(batch.number, slot)
                if read_personal(data).place[5] == slot:
                    parts[slot] = json.loads(data)
            except (NotShown, Unreadable):
                continue
        return parts

    def _receipts(self, batch: SubmittedBatch) -> Iterator[dict[str, Any]]:
        wanted = (batch.header["period"], batch.header["version"])
        for path in sorted(self.receipts.rglob("*.json")) if self.receipts else ():
            try:
                data = parse(path.read_bytes())
                if data["format"] == RECEIPT_FORMAT and (data["period"], data["version"]) == wanted:
                    yield data
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def _tell(
        self, kind: str, batch: SubmittedBatch | None, text: str, record: str = ""
    ) -> Iterator[WatchEvent]:
        """Says something of a batch, or of another record, once."""
        told = self.state.told.setdefault(record_of(batch) if batch else record, [])
        if text not in told:
            told.append(text)
            yield WatchEvent(kind, *_named(batch), text)


def record_of(batch: SubmittedBatch) -> str:
    """Names a submission: the same batch submitted again has another time."""
    return f"{batch.header_hash.hex()}@{batch.submitted_at}"


def _named(batch: SubmittedBatch | None) -> tuple[int, int]:
    """Number and period of a batch; zeros where it is about none."""
    return (batch.number, batch.header["period"]) if batch else (0, 0)


def _named_fault(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _needed(batches: list[SubmittedBatch], batch: SubmittedBatch) -> list[SubmittedBatch]:
    """A batch behind those that it builds on."""
    corrected = bytes(batch.header["correctedBatch"])
    return [
        item
        for item in batches
        if item.number in (batch.number - 1, batch.number) or item.header_hash == corrected
    ]


def _summary(found: Findings, checks: list[Check]) -> str:
    wrong = [check for check in checks if check.passed is False]
    unknown = [check for check in checks if check.passed is None]
    if wrong:
        return "; ".join(f"{check.what}: {check.detail}" for check in wrong[:_SHOWN])
    if unknown:
        return f"{len(unknown)} not checked: {unknown[0].detail}"
    return f"{sum(check.count for check in checks):,} checks"
