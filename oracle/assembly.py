"""Gets a report from the signers: lets them exchange readings, compares what they find, collects k signatures.

Nobody is trusted here. Readings that are passed on are checked by whoever takes them; leaves are hashed anew; signatures must be
the committee's, over the report that was asked for. A signer that is down, slow, or wrong costs its own signature and no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from eth_utils.address import to_checksum_address

from backend.domain.community import Member
from backend.domain.errors import QuorumNotReached, ReadingRejected, UnknownReference
from backend.domain.readings import IntervalReading
from backend.domain.units import SLOT_LIMIT
from backend.settlement.batch import MemberPeriod
from backend.settlement.encoding import OracleReport, readings_leaf, typed_data_digest
from backend.settlement.trees import PositionalTree

from .clocks import describe_clock, read_clock, wrong_clocks
from .config import Committee
from .exchange import Exchange
from .node import differing, reported_period
from .peers import SignerClient, SignerFailed, parsed
from .signing import recover
from .wire import VECTOR_BYTES, unpack_readings

_HEAD_BYTES = 36
# Of as many slots the intervals are shown in which a signer differs.
_SHOWN_SLOTS = 1000
_INTERVAL_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where a signer's draft differs from the report.

    Attributes:
        signer_url: which one.
        slots: by slot, the intervals whose value differs; a slot that only one of them has, or whose readings it does not show, has none.
    """

    signer_url: str
    slots: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ReportedSlot:
    """What was reported of a slot, with the salt of its leaf; where members trade before delivery the vector ends in what trades brought."""

    slot: int
    salt: bytes
    vector: bytes

    def readings(self) -> tuple[IntervalReading, ...]:
        """The energy by interval, where members do not trade before delivery."""
        return unpack_readings(self.vector)


@dataclass(frozen=True, slots=True)
class AssembledReport:
    """A report that k of n signers signed.

    Attributes:
        report: the report.
        signatures: in ascending order of the signers' addresses.
        signers: their addresses.
        slots: what was reported, by slot; checked against the readings root.
        disagreements: of signers that found something else.
        failures: by URL, what went wrong with the others.
        clocks: by URL, how many seconds a clock that goes wrong is ahead of the others.
        is_kept: a signer had signed it before; it may lack readings that the signers have by now.
    """

    report: OracleReport
    signatures: tuple[bytes, ...]
    signers: tuple[str, ...]
    slots: Mapping[int, ReportedSlot]
    disagreements: tuple[Disagreement, ...]
    failures: Mapping[str, str]
    clocks: Mapping[str, float] = field(default_factory=dict)
    is_kept: bool = False

    def member_periods(self, members: Sequence[Member]) -> tuple[MemberPeriod, ...]:
        """The report as the coordinator clears it, in slot order.

        Args:
            members: the active members; what the oracle does not know of them (name, wallet) is theirs.

        Raises:
            UnknownReference: a member has no slot in the report, or a slot no member.
        """
        by_slot = {member.slot: member for member in members}
        if set(by_slot) != set(self.slots):
            odd = sorted(set(by_slot) ^ set(self.slots))
            raise UnknownReference(
                "slots", odd[:10], "members and report differ", "use the members of this period"
            )
        return tuple(
            reported_period(by_slot[slot], item.vector, item.salt, self.report.interval_count)
            for slot, item in sorted(self.slots.items())
        )


@dataclass(frozen=True, slots=True)
class _Draft:
    client: SignerClient
    report: OracleReport
    leaves: Mapping[int, bytes]
    is_kept: bool


@dataclass(slots=True)
class Assembly:
    """Assembles reports.

    Args:
        clients: the signers.
        domain: EIP-712 domain separator.
        committee: who may sign, and how many must.
        patience_seconds: how long a step waits for signers that do not answer.
        clock_tolerance_seconds: by how much a clock may differ from the others.
        members: slots that may be reported; None for any. A report is signed once, and one with a stranger could never be settled.
    """

    clients: Sequence[SignerClient]
    domain: bytes
    committee: Committee
    patience_seconds: float = 60
    clock_tolerance_seconds: float = 30
    members: Collection[int] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)
    # Who was not heard at every step before the signing, so that its readings may be missing, or it may miss those of others.
    unheard: frozenset[str] = frozenset()

    def report(self, number: int, version: int = 0) -> AssembledReport:
        """A report of a period.

        Raises:
            QuorumNotReached: fewer than k signers agree; the message says who differs in which slots and intervals.
        """
        self.failures.clear()
        self.compare_clocks()
        self.exchange(number)
        drafts = list(self._all(lambda client: self._draft(client, number, version)).values())
        self.unheard = frozenset(self.failures)
        if not drafts:
            raise self._quorum(0, (), number)
        votes = Counter(draft.report.struct_hash() for draft in drafts)
        # Between equal votes the smaller hash, so that everybody who asks gets the same.
        chosen_hash = min(votes, key=lambda item: (-votes[item], item))
        agreeing = [draft for draft in drafts if draft.report.struct_hash() == chosen_hash]
        disagreements = tuple(
            self._disagreement(draft, agreeing[0], number, version)
            for draft in drafts
            if draft.report.struct_hash() != chosen_hash
        )
        if len(agreeing) >= self.committee.threshold:
            signatures = self._signatures(agreeing[0].report, [item.client for item in agreeing])
        else:
            agreeing, signatures = self._completed(drafts)
        if len(signatures) < self.committee.threshold:
            raise self._quorum(max(len(agreeing), len(signatures)), disagreements, number)
        report = agreeing[0].report
        slots = self._slots(agreeing)
        order = sorted(signatures, key=lambda signer: int(signer, 16))[: self.committee.threshold]
        return AssembledReport(
            report,
            tuple(signatures[signer] for signer in order),
            tuple(order),
            slots,
            disagreements,
            dict(self.failures),
            dict(self.clocks),
            any(draft.is_kept for draft in agreeing),
        )

    def _signatures(
        self, report: OracleReport, clients: Sequence[SignerClient]
    ) -> dict[str, bytes]:
        """By signer what those give who confirm a report."""
        return dict(self._all(lambda client: self._confirm(client, report), clients).values())

    def _completed(self, drafts: Sequence[_Draft]) -> tuple[list[_Draft], dict[str, bytes]]:
        """A report that somebody has signed already, if enough others once found the same; no signatures if there is none.

        Otherwise signers that each signed with another partner, who failed before signing, would never agree again.
        """
        for draft in sorted(drafts, key=lambda item: item.report.struct_hash()):
            if draft.is_kept:
                signatures = self._signatures(draft.report, [item.client for item in drafts])
                if len(signatures) >= self.committee.threshold:
                    return [draft], signatures
        return [], {}

    def compare_clocks(self) -> dict[str, float]:
        """By URL, how many seconds a clock that goes wrong is ahead of the others."""
        found = self._all(lambda client: read_clock(client.get))
        known = {client.url: item for client, item in found.items() if item is not None}
        self.clocks = wrong_clocks(known, self.clock_tolerance_seconds)
        return self.clocks

    def exchange(self, number: int) -> int:
        """Passes on the readings that some signers have and others lack; returns how many bytes were sent.

        Every signer checks what it is sent, so whoever passes them on needs no trust.
        """
        return Exchange(self._all, self.domain, self.failures, self.patience_seconds).run(number)

    # --- Steps ---------------------------------------------------------------------------------------------------------

    def _draft(self, client: SignerClient, number: int, version: int) -> _Draft:
        data = client.json(f"/periods/{number}/{version}/draft")
        try:
            report = OracleReport(
                period=int(data["period"]),
                version=int(data["version"]),
                first_interval=int(data["first_interval"]),
                interval_count=int(data["interval_count"]),
                readings_root=_bytes32(data["readings_root"]),
                totals_hash=_bytes32(data["totals_hash"]),
                config_digest=_bytes32(data["config_digest"]),
            )
            leaves = {int(slot): _bytes32(leaf) for slot, leaf in data["leaves"].items()}
            if not 0 < report.interval_count <= _INTERVAL_LIMIT or not all(
                0 <= slot < SLOT_LIMIT for slot in leaves
            ):
                raise ValueError("slots or intervals")
            root = PositionalTree(leaves).root
            report.struct_hash()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SignerFailed(
                f"drafts something that is no report: {type(error).__name__}"
            ) from None
        strangers = set() if self.members is None else set(leaves) - set(self.members)
        if strangers:
            raise SignerFailed(
                f"drafts slots {sorted(strangers)[:10]}, no members on chain then: correct its members"
            )
        if root != report.readings_root:
            raise SignerFailed("drafts leaves that do not lead to its readings root")
        if (report.period, report.version) != (number, version):
            raise SignerFailed("drafts another period or version than it was asked for")
        if report.config_digest != self.committee.config_digest:
            raise SignerFailed("drafts for another chain, contract or committee")
        # One that does not say so may have signed it long ago.
        return _Draft(client, report, leaves, data.get("is_kept") is not False)

    def _confirm(self, client: SignerClient, report: OracleReport) -> tuple[str, bytes]:
        digest = report.struct_hash()
        path = f"/periods/{report.period}/{report.version}/confirm"
        data = parsed(client.post(path, json={"hash": "0x" + digest.hex()}))
        try:
            signature = bytes.fromhex(str(data["signature"]).removeprefix("0x"))
            signer = recover(typed_data_digest(self.domain, digest), signature)
        except (KeyError, TypeError, ValueError, AttributeError, ReadingRejected):
            raise SignerFailed("gives no valid signature") from None
        if signer not in self.committee.signers:
            raise SignerFailed(f"signs as {signer}, who is not of the committee")
        return to_checksum_address(signer), signature

    def _slots(self, drafts: Sequence[_Draft]) -> dict[int, ReportedSlot]:
        """What was reported of every slot, from the first signer whose answer hashes to the root."""
        by_client = {draft.client: draft for draft in drafts}
        for client in by_client:
            found: dict[int, ReportedSlot] | None = self._one(
                client, lambda asked: self._whole(by_client[asked])
            )
            if found is not None:
                return found
        raise QuorumNotReached(
            "no signer shows the readings behind the report it signed",
            "ask again; the signatures are kept",
        )

    def _whole(self, draft: _Draft) -> dict[int, ReportedSlot]:
        found = self._vectors(draft)
        leaves = {slot: readings_leaf(slot, item.vector, item.salt) for slot, item in found.items()}
        if PositionalTree(leaves).root != draft.report.readings_root:
            raise SignerFailed("shows readings that do not lead to the readings root")
        return found

    def _vectors(self, draft: _Draft, slots: Sequence[int] = ()) -> dict[int, ReportedSlot]:
        report = draft.report
        body = draft.client.get(
            f"/periods/{report.period}/{report.version}/vectors",
            report="0x" + report.struct_hash().hex(),
            slots=",".join(str(slot) for slot in slots),
        )
        count = len(draft.leaves.keys() & set(slots)) if slots else len(draft.leaves)
        size, over = divmod(len(body), max(1, count))
        energies = _HEAD_BYTES + VECTOR_BYTES * report.interval_count
        # What trades brought takes as much as one interval.
        if over or (body and size not in (energies, energies + VECTOR_BYTES)):
            raise SignerFailed("shows readings of another length")
        parts = [body[start : start + size] for start in range(0, len(body), size or 1)]
        return {
            slot: ReportedSlot(slot, part[4:_HEAD_BYTES], part[_HEAD_BYTES:])
            for part in parts
            if 0 <= (slot := int.from_bytes(part[:4], "big")) < SLOT_LIMIT
        }

    def _disagreement(
        self, other: _Draft, chosen: _Draft, number: int, version: int
    ) -> Disagreement:
        differ = sorted(
            slot
            for slot in set(other.leaves) | set(chosen.leaves)
            if other.leaves.get(slot) != chosen.leaves.get(slot)
        )
        # A URL has no room for more, and a signer could draft a leaf for every slot there is.
        asked = differ[:_SHOWN_SLOTS]
        ours = self._one(chosen.client, lambda _: self._vectors(chosen, asked)) or {}
        theirs = self._one(other.client, lambda _: self._vectors(other, asked)) or {}
        first = chosen.report.first_interval
        return Disagreement(
            other.client.url,
            {
                slot: tuple(
                    first + index
                    for index in differing(ours[slot].vector, theirs[slot].vector)
                    if index < chosen.report.interval_count
                )
                if slot in ours and slot in theirs
                else ()
                for slot in differ
            },
        )

    # --- Asking --------------------------------------------------------------------------------------------------------

    def _one(self, client: SignerClient, ask: Callable[[SignerClient], Any]) -> Any:
        return self._all(ask, [client]).get(client)

    def _all(
        self, ask: Callable[[SignerClient], Any], clients: Sequence[SignerClient] | None = None
    ) -> dict[SignerClient, Any]:
        """Asks signers at the same time; who fails is noted, who is too slow is not waited for."""
        asked = [*(self.clients if clients is None else clients)]
        found: dict[SignerClient, Any] = {}
        pool = ThreadPoolExecutor(max(1, len(asked)))
        futures = {pool.submit(ask, client): client for client in asked}
        done, late = wait(futures, self.patience_seconds)
        for future in done:
            try:
                found[futures[future]] = future.result()
            except SignerFailed as error:
                self.failures[futures[future].url] = str(error)
            except Exception as error:
                # What it sent took a check of ours apart: its fault, and nobody else's.
                self.failures[futures[future].url] = f"answers nonsense: {type(error).__name__}"
        for future in late:
            self.failures[futures[future].url] = f"no answer within {self.patience_seconds:g} s"
        pool.shutdown(wait=False, cancel_futures=True)
        # In the order of the clients, whoever answered first.
        return {client: found[client] for client in asked if client in found}

    def _quorum(
        self, count: int, disagreements: Sequence[Disagreement], number: int
    ) -> QuorumNotReached:
        said = [f"{url} {what}" for url, what in self.failures.items()]
        said += [f"{url}: {describe_clock(ahead)}" for url, ahead in self.clocks.items()]
        for item in disagreements:
            slots = "; ".join(
                f"slot {slot} in {len(intervals) or 'all'} intervals"
                + (f" from {intervals[0]}" if intervals else "")
                for slot, intervals in list(item.slots.items())[:5]
            )
            said.append(f"{item.signer_url} differs: {slots or 'in the totals'}")
        return QuorumNotReached(
            f"{count} of the {self.committee.threshold} signatures needed for period {number}"
            + (f" ({' | '.join(said)})" if said else ""),
            "bring the signers back, or compare their readings of the slots named, and ask again",
        )


def _bytes32(text: str) -> bytes:
    data = bytes.fromhex(text.removeprefix("0x"))
    if len(data) != 32:
        raise ValueError("not 32 bytes")
    return data
