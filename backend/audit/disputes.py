"""Finds the lies in a batch and the challenge that overturns each, from the chain and what was published alone.

Shares nothing with the coordinator's code. What a challenge proves is in IChallenges.sol; `Challenge.arguments` are ready for
`contract.functions[challenge.function](*challenge.arguments)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

from .amounts import Steps, due_nano
from .bundle_format import READING_BYTES, unpack_readings
from .facts import SubmittedBatch, header_values
from .hashing import NOTHING, ZERO, readings_leaf, two_sums
from .intervals import AuditTariff, check_intervals, unpack_clearing
from .ledger_view import Leaf, LedgerView, Parts, Place, ReadingsView, path_words
from .verdict import Checks

_SYSTEM = {0: "supplierNano", 1: "networkFeesNano", 2: "fundNano"}


@dataclass(frozen=True)
class Challenge:
    """A transaction that overturns a batch, or strikes a trade out.

    Attributes:
        what: the lie, in words.
        function: name of the contract's function.
        arguments: its arguments.
        value_wei: what to send along.
        then: what to send once the deadline has passed and nothing was done about it; None if one step is enough.
        contract: whose function.
        unseen: whether nothing was found false: it is demanded because nobody showed it.
    """

    what: str
    function: str
    arguments: tuple[Any, ...]
    value_wei: int = 0
    then: Challenge | None = None
    contract: str = "Challenges"
    unseen: bool = False


class Facts(Protocol):
    """What the chain says about a community; `ChainReader` does."""

    @property
    def members(self) -> dict[int, dict[str, Any]]:
        """Everybody ever admitted, by slot."""

    @property
    def parameters(self) -> dict[str, int]:
        """What the community was founded with."""

    def is_active(self, slot: int, period: int) -> bool:
        """Whether an account takes part in a period."""

    def cover(self, slot: int, cumulative: int, batch: SubmittedBatch) -> int:
        """What stands behind an account in a batch, in nano."""

    def revealed(self, batch: SubmittedBatch) -> Sequence[Mapping[str, Any]]:
        """Entries with which demands were answered."""


@dataclass(frozen=True)
class Published:
    """A batch with the personal parts that were published of it, by slot.

    Where the coordinator shows nothing of a slot, a part may hold what its member has from the oracle alone: `readings`,
    `readings_salt`, `readings_proof`. Without them nobody but that member can tell whether it was billed rightly.
    """

    batch: SubmittedBatch
    parts: Parts


def find_challenges(
    facts: Facts,
    target: Published,
    previous: Published | None,
    corrected: Published | None = None,
    ranks: Mapping[int, int] = MappingProxyType({}),
) -> list[Challenge]:
    """Every challenge that what is known of a batch allows; none for an honest one that was published in full.

    Args:
        facts: the chain.
        target: the batch to be looked at, which the contract has accepted.
        previous: the batch before it; None for the first.
        corrected: the batch that it corrects; None if it corrects none.
        ranks: of several slots behind one place that nobody showed, the one with the lowest rank is demanded; others come last.
    """
    return list(_Search(facts, target, previous, corrected, ranks).run())


class _Settlement:
    """A batch's ledger, readings and prices as far as they can be known."""

    def __init__(self, facts: Facts, published: Published) -> None:
        self.batch = published.batch
        self.header = published.batch.header
        self.values = header_values(self.header)
        self.ledger = LedgerView(published.batch, published.parts, facts.revealed(published.batch))
        self.readings = ReadingsView(published.batch, published.parts)
        self.facts = facts

    @cached_property
    def tariff(self) -> AuditTariff:
        """As submitted."""
        return AuditTariff.unpack(dict(self.batch.submission["tariff"]))

    @cached_property
    def steps(self) -> tuple[list[tuple[int, int]], bytes]:
        """Discount and premium per interval, and as they are hashed."""
        clearing = bytes(self.batch.submission["clearing"])
        totals, intervals = unpack_clearing(clearing, self.tariff, self.header["intervalCount"])
        results = check_intervals(totals, intervals, self.tariff, Checks())
        return results.steps, results.prices

    def due(self, slot: int) -> tuple[int, bytes, tuple[Any, ...]] | None:
        """What a member is owed for the period, what its leaf must commit to, and the evidence; None if not known."""
        found = self.readings.evidence(slot)
        if found is None or not self.batch.submission:
            return None
        data, salt, path = found
        steps, prices = self.steps
        evidence = (data, salt, path, prices)
        if not data:
            return 0, ZERO, evidence
        commitment = readings_leaf(slot, data, salt)
        member = self.facts.members[slot]
        group = self.tariff.group_of(member["node"], member["tariffClass"])
        if group is None:
            return 0, commitment, evidence
        # What trades before delivery brought stands behind the intervals.
        if len(data) not in (READING_BYTES * len(steps), READING_BYTES * (len(steps) + 1)):
            return None
        outside = self.tariff.groups[group][:2]
        series = unpack_readings(data).of_period(len(steps))
        due = due_nano(series, Steps(steps), outside) + series.traded_nano
        return due, commitment, evidence

    def has_begun(self, slot: int) -> bool:
        """Whether the slot's account takes part in a period that this batch or one before it settles."""
        member = self.facts.members.get(slot)
        return member is not None and member["fromPeriod"] < self.header["nextPeriod"]

    def entry(self, slot: int) -> tuple[Any, ...] | None:
        """What stands at a slot, with its proof; None if not known."""
        leaf = self.ledger.known_leaf(slot)
        if leaf is not None:
            return (False, leaf.values(), path_words(self.ledger.leaves[slot].path))
        path = self.ledger.empty_path(slot)
        return None if path is None else (True, (slot, ZERO, ZERO, ZERO), path)


class _Search:
    """The search for lies in one batch."""

    def __init__(
        self,
        facts: Facts,
        target: Published,
        previous: Published | None,
        corrected: Published | None,
        ranks: Mapping[int, int],
    ) -> None:
        self.facts, self.ranks = facts, ranks
        self.target = _Settlement(facts, target)
        self.previous = _Settlement(facts, previous) if previous else None
        self.corrected = _Settlement(facts, corrected) if corrected else None
        self.header = self.target.header

    def run(self) -> Iterator[Challenge]:
        ledger = self.target.ledger
        for place in ledger.places:
            yield from self._look_at(place)
        slots = set(self.facts.members)
        if self.previous:
            slots |= set(self.previous.ledger.leaves)
        for slot in sorted(slots):
            path = ledger.empty_path(slot)
            if path is not None:
                yield from self._empty(slot, path)

    def _look_at(self, place: Place) -> Iterator[Challenge]:
        ledger = self.target.ledger
        if place.index << place.level > max(self.facts.members):
            if place.node != NOTHING:
                yield self._outside(place)
        elif place.level:
            if place.children is None and place.node[0] != ZERO:
                yield self._demand(place)
            elif not place.adds_up:
                yield self._tree_sum(place)
        elif place.node[0] != ZERO:
            leaf = ledger.leaf_by_hash.get(place.node[0])
            if leaf is None:
                yield self._demand(place)
            elif leaf.node() != place.node or leaf.slot != place.index:
                claimed = two_sums(*place.node[1:])
                path = path_words(place.path)
                yield self._challenge(
                    f"slot {place.index}: the tree counts another leaf or other sums",
                    "challengeLeafSum",
                    place.index,
                    leaf.values(),
                    claimed,
                    path,
                )
            else:
                yield from self._account(leaf, path_words(place.path))

    def _challenge(self, what: str, function: str, *arguments: Any) -> Challenge:
        return Challenge(what, function, (self.target.values, *arguments))

    def _demand(self, place: Place) -> Challenge:
        """Asks for a slot below a node that nobody has shown; one that was given out, if there is one."""
        first, last = place.index << place.level, (place.index + 1) << place.level
        below = [slot for slot in self.facts.members if first <= slot < last]
        last_rank = len(self.facts.members)
        slot = min(below, key=lambda slot: (self.ranks.get(slot, last_rank), slot), default=first)
        return self._demand_slot(slot, "what the tree has there was not shown", unseen=True)

    def _demand_slot(self, slot: int, why: str, *, unseen: bool = False) -> Challenge:
        what = f"slot {slot}: {why}"
        return Challenge(
            what,
            "demandData",
            (self.target.values, slot),
            self.facts.parameters["demandBondWei"],
            self._challenge(what, "voidUnanswered", slot),
            unseen=unseen,
        )

    def _outside(self, place: Place) -> Challenge:
        digest, *sums = place.node
        return self._challenge(
            f"node {place.index} of level {place.level}: something behind the last slot given out",
            "challengeOutside",
            place.level,
            place.index,
            digest,
            two_sums(*sums),
            path_words(place.path),
        )

    def _tree_sum(self, place: Place) -> Challenge:
        left, right = place.children or (NOTHING, NOTHING)
        return self._challenge(
            f"node {place.index} of level {place.level}: its sums are not its children's",
            "challengeTreeSum",
            place.level,
            place.index,
            two_sums(*place.node[1:]),
            path_words((left, right)),
            path_words(place.path),
        )

    def _account(self, leaf: Leaf, path: list[bytes]) -> Iterator[Challenge]:
        slot, period = leaf.slot, self.header["period"]
        if slot in _SYSTEM:
            yield from self._system(leaf, path)
        elif self.facts.is_active(slot, period):
            yield from self._member(leaf, path)
        elif leaf.amount or (leaf.cumulative and not self.target.has_begun(slot)):
            yield self._challenge(
                f"slot {slot}: money of nobody who takes part",
                "challengeInactive",
                leaf.values(),
                path,
            )
        if leaf.commitment != ZERO and (slot in _SYSTEM or not self.facts.is_active(slot, period)):
            yield self._demand_slot(slot, "commits to readings that it has not")
        yield from self._cumulative(slot, leaf.amount, leaf.cumulative)
        lacking = -self.facts.cover(slot, leaf.cumulative, self.target.batch)
        if lacking > 0:
            what = f"slot {slot}: {lacking} nano are not covered"
            given = (leaf.values(), path)
            yield Challenge(
                what,
                "demandCover",
                (self.target.values, *given),
                then=self._challenge(what, "voidUncovered", *given),
            )

    def _system(self, leaf: Leaf, path: list[bytes]) -> Iterator[Challenge]:
        name = _SYSTEM[leaf.slot]
        other = self.corrected.header if self.corrected else self.header
        due = self.header[name] - (other[name] if self.corrected else 0)
        if leaf.amount != due:
            yield self._challenge(
                f"slot {leaf.slot}: credited {leaf.amount}, certified {due} nano",
                "challengeSystemAmount",
                leaf.values(),
                path,
                header_values(other),
            )

    def _member(self, leaf: Leaf, path: list[bytes]) -> Iterator[Challenge]:
        found = self.target.due(leaf.slot)
        before = self.corrected.due(leaf.slot) if self.corrected else (0, ZERO, ())
        if found is None or before is None:
            return
        due, commitment, evidence = found
        settled, _, evidence_before = before
        if leaf.amount == due - settled and leaf.commitment == commitment:
            return
        raw = self.target.batch.submission["tariff"]
        names = ("shareMillionths", "nodeCount", "chordCount", "groups", "edges")
        tariff = tuple(raw[name] for name in names)
        what = f"slot {leaf.slot}: booked {leaf.amount}, due {due - settled} nano"
        if self.corrected is None:
            yield self._challenge(what, "challengeAmount", evidence, tariff, leaf.values(), path)
        else:
            yield self._challenge(
                what,
                "challengeCorrectedAmount",
                evidence,
                tariff,
                leaf.values(),
                path,
                self.corrected.values,
                evidence_before,
            )

    def _empty(self, slot: int, path: list[bytes]) -> Iterator[Challenge]:
        if self.facts.is_active(slot, self.header["period"]):
            what = f"slot {slot}: left out"
            yield self._challenge(what, "challengeMissing", slot, path)
        yield from self._cumulative(slot, 0, 0)

    def _cumulative(self, slot: int, amount: int, cumulative: int) -> Iterator[Challenge]:
        """Whether a balance continues the one before."""
        before = self.previous or self.target
        carried = before.ledger.known_leaf(slot)
        entry, entry_before = self.target.entry(slot), before.entry(slot)
        if entry is None or entry_before is None:
            return
        expected = amount
        if self.previous and carried and self.previous.has_begun(slot):
            expected += carried.cumulative
        if cumulative != expected:
            yield self._challenge(
                f"slot {slot}: has {cumulative}, should have {expected} nano in all",
                "challengeCumulative",
                entry,
                before.values,
                entry_before,
            )
