"""The coordinator's cycle: every period from the oracle's report to statements, unattended.

    collecting -> collected -> prepared -> published -> submitting -> submitted -> final -> stated
                     ^------------- refused, voided: prepared again, after a while -------------'

Each state is stored before the effect it announces, each effect can be repeated, and what decides in the end is the chain: a
batch is `final` when the journal has booked it, `voided` when the chain's final blocks no longer have it. So whenever the process
is killed, `advance` goes on where it was; after an outage it works off what has become due.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from sqlalchemy.exc import IntegrityError

from backend.chain.sender import Sender, SendState
from backend.domain.community import Member
from backend.domain.errors import (
    ContractRefused,
    LeadershipLost,
    LedgerDamaged,
    PeerwattError,
    QuorumNotReached,
)
from backend.domain.intervals import Period
from backend.domain.states import BatchState, CycleState
from backend.ledger.cycle import CycleStore, Item, StoredReport
from backend.ledger.store import LedgerStore
from backend.ledger.tables import OutcomeRow
from backend.settlement.batch import MemberPeriod, SettledBatch
from backend.settlement.encoding import BatchHeader
from contracts.bindings import CommunityContracts
from oracle.assembly import AssembledReport, ReportedSlot

from .books import CommunityBooks
from .bundle_store import BundleStore
from .cover import Cover
from .demands import answer_key, open_demands
from .finality import final_item
from .membership import reported_members
from .oracle_reports import NothingToCorrect, ReportSource
from .preparation import Preparation, Preparer
from .statements import make_statement
from .trade_desk import TradeDesk

_LOG = logging.getLogger("peerwatt.coordinator")
_ON_CHAIN = (CycleState.SUBMITTED, CycleState.FINAL, CycleState.STATED)
_FAILED = (CycleState.REFUSED, CycleState.VOIDED)
_TO_PREPARE = (CycleState.COLLECTED, *_FAILED)
# Reports of so many periods are asked for in one go, after an outage.
_COLLECTED_AT_ONCE = 4
_FIRST_PAUSE_SECONDS = 30
_BOND_FOR = "bond for "
_LONGEST_PAUSE_SECONDS = 3600
Made = TypeVar("Made")


class CommunityRules(Protocol):
    """What a community's configuration says of a period."""

    def period(self, number: int) -> Period:
        """The period by its number."""

    def preparer(self, number: int) -> Preparer:
        """With the tariff of the period."""

    def members(self, number: int) -> Sequence[Member]:
        """The members of the period, in slot order."""


@dataclass
class PeriodCycle:
    """The cycle of one community.

    Args:
        rules: periods, tariffs, members.
        contracts: the community on its chain.
        sender: submits; nothing else may send with its key.
        books: follows the chain.
        ledger: the database.
        bundles: where bundles are published.
        oracle: where reports come from.
        now: seconds since the Unix epoch.
        settle_after_seconds: how long after its end a period is settled, for readings that are late.
        correction_check_seconds: how often late readings of settled periods are looked for.
        observe: told of every new state.
        trades: where members trade before delivery.
        credit_limit_nano: the most that the coordinator vouches for one account.
    """

    rules: CommunityRules
    contracts: CommunityContracts
    sender: Sender
    books: CommunityBooks
    ledger: LedgerStore
    bundles: BundleStore
    oracle: ReportSource
    now: Callable[[], float]
    settle_after_seconds: int = 0
    correction_check_seconds: int = 900
    observe: Callable[[Item], None] = lambda item: None
    trades: TradeDesk | None = None
    credit_limit_nano: int = 0
    store: CycleStore = field(init=False)
    cover: Cover = field(init=False)
    _made: Preparation | None = field(default=None, init=False)
    _corrections_checked_at: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.store = CycleStore(self.ledger.engine)
        self.cover = Cover(
            self.contracts, self.sender, self.ledger.engine, self.now, self.credit_limit_nano
        )
        self.parameters = self.contracts.parameters()

    def advance(self) -> list[PeerwattError]:
        """Goes on with everything that can go on; returns what could not, and why. The next call tries again.

        Raises:
            LeadershipLost: another coordinator is at work.
        """
        return _alone(self._advance)

    def finalise(self, period: int) -> Item:
        """Takes over what the chain says of batches, and states a period that is final; goes on with nothing else.

        Args:
            period: whose newest version is to be final.

        Returns:
            The newest version, stated.

        Raises:
            UnknownReference: the period was not begun.
            NotFinal: its newest batch can still be challenged, or is not on the chain.
            LeadershipLost: another coordinator is at work.
            NodeError: the chain does not answer.
        """
        return _alone(lambda: self._finalise(period))

    def _finalise(self, period: int) -> Item:
        self._follow()
        final_item(self.store, period, self.parameters.challenge_seconds)
        for item in self.store.items():
            if item.period == period and item.state is CycleState.FINAL:
                self._state_one(item)
        return final_item(self.store, period, self.parameters.challenge_seconds)

    def _advance(self) -> list[PeerwattError]:
        failures: list[PeerwattError] = []

        def attempt(stage: Callable[[], None]) -> bool:
            try:
                stage()
            except LeadershipLost:
                raise
            except PeerwattError as error:
                failures.append(error)
                return False
            return True

        # What cannot be paid for, say, must not keep us from seeing what became of the rest.
        attempt(self._push)
        followed = attempt(self._follow)
        if self.trades is not None:
            attempt(self.trades.commit_due)
        # Without knowing who is a member, what was settled already and what became of it, nothing is begun or built on it.
        if followed:
            attempt(self._begin_due)
            attempt(self._collect)
            attempt(self._settle)
            attempt(self._state)
            attempt(self._answer_demands)
            attempt(self._cover_demanded)
            attempt(self._correct)
        return failures

    # --- The chain -------------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        """Goes on with transactions."""
        self.sender.push_all()

    def _follow(self) -> None:
        """Reads the chain, and takes over what it says of batches."""
        self.books.follow()
        standing = {key for key, _ in self.store.live(final_only=True).values()}
        for item in self.store.items():
            if item.state is CycleState.SUBMITTED:
                self._judge(item, standing)
        # One that was refused here and stands all the same: a database restored from a backup sends it again.
        known = {item.batch_hash for item in self.store.items() if item.state not in _FAILED}
        for key, header in self.store.live(final_only=True).values():
            if key not in known:
                self._adopt(key, header)

    def _adopt(self, key: str, header: BatchHeader) -> None:
        """Takes over a batch that stands and is not here, as after a lost database: made again from its bundle, if that is whole."""
        leaves, report = self.bundles.leaves(header), self.bundles.report(header)
        if report is not None:
            try:
                made = self._remade(header, report)
            except PeerwattError as error:
                # A member whose data were erased, say: the accounts stand for themselves, only what led to them is not known.
                _LOG.warning(
                    "batch taken over without its intervals",
                    extra={"batch": key, "reason": error.message},
                )
            else:
                share = self.rules.preparer(header.period).tariff.share_millionths
                self.ledger.add_batch(made.batch, made.cleared, share)
        state = CycleState.FINAL if self.store.is_booked(key) else CycleState.SUBMITTED
        self.store.adopt(header, leaves, report, state, int(self.now()))

    def _judge(self, item: Item, standing: set[str]) -> None:
        """What became of a batch that was in a block."""
        if self.store.is_booked(item.batch_hash):
            self._move(item, CycleState.FINAL)
            self._mark(item, BatchState.FINAL)
            return
        outcome = self.sender.outcome(_key(item))
        if outcome is not None and not outcome.succeeded:
            self._refuse(item, self.sender.why_failed(_key(item), outcome.block_number))
        elif item.batch_hash not in standing and self._is_decided_on_chain(item, outcome):
            reason = "the chain's final blocks no longer have it"
            self._move(item, CycleState.VOIDED, reason=reason)
            self._mark(item, BatchState.VOIDED, reason=reason)

    def _is_decided_on_chain(self, item: Item, outcome: OutcomeRow | None) -> bool:
        """Whether the final blocks that were read say what became of a batch that was in a block."""
        if outcome is not None:
            # An endpoint that lags behind has not shown the block yet.
            return outcome.block_number <= self.store.booked_block()
        if self.sender.is_open(_key(item)):
            return False
        # Sent with a former key, or from a database that was lost: it was in a block when this was noted, and that block is older.
        return self.store.final_time() > item.at

    # --- The oracle ------------------------------------------------------------------------------------------------------

    def _begin_due(self) -> None:
        regular = [item.period for item in self.store.items() if item.version == 0]
        number = max(regular) + 1 if regular else self.parameters.first_period
        # No more than are collected at once: a clock that has jumped ahead begins a few days too early, not a year.
        for _ in range(_COLLECTED_AT_ONCE - len(self._collecting())):
            if self._ends(number) + self.settle_after_seconds > self.now():
                return
            self.observe(self.store.begin(number, 0, int(self.now())))
            number += 1

    def _collecting(self) -> list[Item]:
        return [
            item
            for item in self.store.items()
            if item.state is CycleState.COLLECTING and not self.is_given_up(item)
        ]

    def _ends(self, number: int) -> int:
        period = self.rules.period(number)
        return period.end_interval * period.interval_minutes * 60

    def _collect(self) -> None:
        for item in self._collecting():
            with _about(item):
                self._deliver_trades(item)
                before = self.oracle.readings_digest(item.period)
                self._keep(item, self._reported(item.period, item.version), before)

    def _reported(self, period: int, version: int) -> AssembledReport:
        return self.oracle.report(period, version, self.store.members(period).keys())

    def _deliver_trades(self, item: Item) -> None:
        if self.trades is not None:
            self.trades.deliver(self.rules.period(item.period))

    def _keep(self, item: Item, found: AssembledReport, before: str | None) -> None:
        """Stores a report, and the digest of the readings it rests on where that is certain: put together now, by all, and nothing came in."""
        after = self.oracle.readings_digest(item.period)
        is_certain = after == before and not found.failures and not found.is_kept
        digest = after if after and is_certain else ""
        slots = {slot: (part.salt, part.vector) for slot, part in found.slots.items()}
        now = int(self.now())
        self.observe(self.store.collected(item, now, found.report, found.signatures, slots, digest))

    def _correct(self) -> None:
        """Asks for a new version of final periods whose readings have changed since."""
        # A time to come is that of a clock that has been set right since; here and where attempts are made again.
        if 0 <= self.now() - self._corrections_checked_at < self.correction_check_seconds:
            return
        newest = {item.period: item for item in self.store.items()}
        failures: list[PeerwattError] = []
        for item in newest.values():
            until = self._ends(item.period) + self.parameters.correction_seconds
            if item.state not in (CycleState.FINAL, CycleState.STATED) or until < self.now():
                continue
            try:
                with _about(item):
                    self._look_for_late_readings(item)
            except QuorumNotReached as error:
                # A day on which signers do not agree must not keep the others from being corrected.
                failures.append(error)
        # Also where signers were away: the next look is soon enough, and until then nothing is wrong with the rest.
        self._corrections_checked_at = self.now()
        if failures:
            raise failures[0]

    def _look_for_late_readings(self, item: Item) -> None:
        digest = self.oracle.readings_digest(item.period)
        report = self.store.report(item.period, item.version)
        seen = {report.readings_digest if report else None, self.store.looked_at(item.period)}
        if digest is None or digest in seen:
            return
        next_version = Item(
            item.period, item.version + 1, CycleState.COLLECTING, -1, int(self.now())
        )
        self._deliver_trades(item)
        try:
            # Signers keep what they sign, so that asking again after a crash gives the same; a version begins when it is there.
            found = self._reported(item.period, item.version + 1)
        except NothingToCorrect:
            if self.oracle.readings_digest(item.period) == digest:
                self.store.look_at(item.period, digest)
            return
        self._keep(next_version, found, digest)

    # --- Batches -----------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Prepares, publishes and submits in order; each batch waits for the one before to be in a block."""
        without_report = False
        failed: PeerwattError | None = None
        for item in self.store.items():
            if item.state in _ON_CHAIN or self.is_given_up(item):
                continue
            if item.state is CycleState.COLLECTING or (without_report and not item.version):
                without_report = (
                    True  # the days after it wait, corrections of days before it do not
                )
                continue
            if item.version and item.state in _FAILED and not self._may_retry(item):
                continue  # a correction that is refused must not hold up the days after it
            moved: Item | None = item
            try:
                with _about(item):
                    while moved is not None and moved.state not in _ON_CHAIN:
                        moved = self._go_on(moved)
            except LeadershipLost:
                raise
            except PeerwattError as error:
                if not item.version:
                    raise
                # Nor must one that cannot be made, as where a former member is no longer configured.
                failed = failed or error
                continue
            if moved is None:
                break
        if failed is not None:
            raise failed

    def _go_on(self, item: Item) -> Item | None:
        """The next state; None if it is not time for it."""
        if item.state in _TO_PREPARE:
            if self.store.report(item.period, item.version) is None:
                # Taken over from the chain without its report, and overturned since: signers keep what they signed.
                self._move(item, CycleState.COLLECTING)
                return None
            return self._prepare(item) if self._may_retry(item) else None
        if item.state is CycleState.PREPARED:
            try:
                made = self._rebuilt(item)
            except LedgerDamaged as error:
                return self._refuse(item, error.message)
            self.bundles.publish(made.bundle)
            return self._move(item, CycleState.PUBLISHED)
        if item.state is CycleState.PUBLISHED:
            return self._move(item, CycleState.SUBMITTING)
        assert item.state is CycleState.SUBMITTING, item
        return self._submit(item)

    def _may_retry(self, item: Item) -> bool:
        """Whether a batch that failed is prepared again now: ever more rarely."""
        if not item.attempts:
            return True
        pause: int = min(_FIRST_PAUSE_SECONDS * 2 ** min(item.attempts, 10), _LONGEST_PAUSE_SECONDS)
        return not 0 <= self.now() - item.at < pause

    def is_given_up(self, item: Item) -> bool:
        """Whether nothing more becomes of it: a correction without a batch on its way, whose time is over."""
        if not item.version or item.state not in (CycleState.COLLECTING, *_TO_PREPARE):
            return False
        return self.now() > self._ends(item.period) + self.parameters.correction_seconds

    def _prepare(self, item: Item) -> Item:
        on_chain = [other for other in self.store.items() if other.state in _ON_CHAIN]
        headers = {other.batch_hash: self.store.header(other.batch_hash) for other in on_chain}
        newest = max(headers, key=lambda key: headers[key].number, default=None)
        corrected = next(
            (
                other.batch_hash
                for other in on_chain
                if (other.period, other.version + 1) == (item.period, item.version)
            ),
            None,
        )
        made = self._make(
            item,
            self.store.settled(newest) if newest else None,
            self.store.settled(corrected) if corrected else None,
        )
        preparer = self.rules.preparer(item.period)
        self.ledger.add_batch(made.batch, made.cleared, preparer.tariff.share_millionths)
        moved = self.store.prepared(item, int(self.now()), made.batch.header)
        self._made = made
        self.observe(moved)
        return moved

    def _make(
        self, item: Item, previous: SettledBatch | None, corrected: SettledBatch | None
    ) -> Preparation:
        stored = self.store.report(item.period, item.version)
        assert stored is not None, f"no report of {item.name}"
        return self._made_of(stored, previous, corrected)

    def _made_of(
        self, stored: StoredReport, previous: SettledBatch | None, corrected: SettledBatch | None
    ) -> Preparation:
        number = stored.report.period
        preparer, on_chain = self.rules.preparer(number), self.store.members(number)
        members = reported_members(
            on_chain, self.rules.members(number), preparer.market, stored.slots.keys()
        )
        return preparer.prepare(
            period=self.rules.period(number),
            report=stored.report,
            signatures=stored.signatures,
            member_periods=_member_periods(members, stored),
            previous=previous,
            corrected=corrected,
            active_slots=on_chain.keys(),
        )

    def _rebuilt(self, item: Item) -> Preparation:
        """A prepared batch once more, as it was.

        Raises:
            LedgerDamaged: tariff, members or secrets are not what they were.
        """
        made = self._made
        if made is not None and "0x" + made.batch.header.hash().hex() == item.batch_hash:
            return made
        stored = self.store.report(item.period, item.version)
        assert stored is not None, f"no report of {item.name}"
        self._made = self._remade(self.store.header(item.batch_hash), stored)
        return self._made

    def _remade(self, header: BatchHeader, stored: StoredReport) -> Preparation:
        """The batch that a header names, from the report that it rests on.

        Raises:
            LedgerDamaged: tariff, members or secrets are not what they were.
        """
        previous = corrected = None
        if header.number > 1:
            previous = self.store.settled("0x" + header.previous_batch.hex())
        if any(header.corrected_batch):
            corrected = self.store.settled("0x" + header.corrected_batch.hex())
        made = self._made_of(stored, previous, corrected)
        if made.batch.header != header:
            raise LedgerDamaged(
                f"batch {header.number} cannot be made again as it was: members, tariff or salts have changed",
                "put tariff, members and salts of the configuration back as they were",
            )
        return made

    def _submit(self, item: Item) -> Item | None:
        key = _key(item)
        if not self.sender.is_decided(key):
            if not self._bond_stands(item):
                return None
            mark = self.sender.mark()
            if not self._is_next(item):
                if self._is_open_before(item):
                    return None
                return self._refuse(
                    item, "another batch has come between, or the one before is gone"
                )
            try:
                made = self._rebuilt(item)
            except LedgerDamaged as error:
                return self._refuse(item, error.message)
            if not self.cover.is_covered(item.batch_hash, made.batch.cumulative_nano):
                return None
            # Files may be lost where states are not: a disk that ended with the power, a folder restored from a backup.
            if self.bundles.public(made.batch.header.bundle_hash) is None:
                self.bundles.publish(made.bundle)
            preparer = self.rules.preparer(item.period)
            share = preparer.tariff.share_millionths
            given = (made.batch, preparer.market, share, self.contracts.oracle_config())
            header = made.batch.header
            call = (
                self.contracts.submit_correction(
                    *given, self.store.header("0x" + header.corrected_batch.hex())
                )
                if header.version
                else self.contracts.submit_batch(*given)
            )
            try:
                self.sender.submit(key, call, since=mark)
            except ContractRefused as refused:
                self._refuse(item, refused.message)
                raise
        progress = self.sender.push(key)
        if progress.state is SendState.PENDING:
            return None
        if not progress.succeeded:
            if progress.state is SendState.FINAL:
                return self._refuse(item, self.sender.why_failed(key, progress.block_number))
            return None
        self.ledger.set_batch_state(
            bytes.fromhex(item.batch_hash[2:]),
            BatchState.SUBMITTED,
            transaction_hash=progress.transaction_hash,
            gas_used=progress.gas_used,
        )
        return self._move(item, CycleState.SUBMITTED)

    def _is_next(self, item: Item) -> bool:
        """Whether the chain's newest batch is the one that this one's balances go on from, and no other is on its way.

        The contract numbers what it is given, whatever that was made to follow: balances that go on from another batch would be
        false, and overturned.
        """
        header = self.store.header(item.batch_hash)
        if header.number != self.contracts.head_number() + 1:
            return False
        if header.number > 1:
            newest = self.contracts.record_of(header.number - 1).batch_hash
            if newest != header.previous_batch:
                return False
        return not any(
            other.state is CycleState.SUBMITTING and self.sender.is_decided(_key(other))
            for other in self.store.items()
            if other.batch_hash != item.batch_hash
        )

    def _is_open_before(self, item: Item) -> bool:
        """Whether another batch was sent and is not in a final block: what becomes of it is to be seen first."""
        return any(
            other.state in (CycleState.SUBMITTING, CycleState.SUBMITTED)
            and self.sender.is_decided(_key(other))
            and self.sender.outcome(_key(other)) is None
            for other in self.store.items()
            if other.batch_hash != item.batch_hash
        )

    def _bond_stands(self, item: Item) -> bool:
        """Whether the bond is whole; what it lacks is added once for each attempt."""
        key = f"{_BOND_FOR}{_key(item)}"
        if not self.sender.is_decided(key):
            mark = self.sender.mark()
            owner, amount = self.contracts.bond()
            own = amount if owner == self.sender.key.address else 0
            missing = self.parameters.bond_wei - own
            if missing <= 0:
                return True
            # One for another batch may still come, or come again after a reorg: both together would be too much.
            if self.sender.is_any_open(_BOND_FOR):
                return False
            self.sender.submit(key, self.contracts.post_bond(), missing, since=mark)
        return self.sender.push(key).state is not SendState.PENDING

    def _refuse(self, item: Item, reason: str) -> Item:
        self._mark(item, BatchState.REFUSED, reason=reason)
        return self._move(item, CycleState.REFUSED, reason=reason)

    # --- After finality ------------------------------------------------------------------------------------------------------

    def _state(self) -> None:
        """Writes the statements of what is final."""
        for item in self.store.items():
            if item.state is CycleState.FINAL:
                with _about(item):
                    self._state_one(item)

    def _state_one(self, item: Item) -> None:
        bundle_hash = self.store.header(item.batch_hash).bundle_hash
        public = self.bundles.public(bundle_hash) or b"{}"
        slots = [int(text) for text in json.loads(public).get("personal_hashes", {})]
        parts = {slot: self.bundles.personal(bundle_hash, slot) for slot in slots}
        statements = {slot: make_statement(public, part) for slot, part in parts.items() if part}
        self.bundles.add_statements(bundle_hash, statements)
        self._move(item, CycleState.STATED)

    def _answer_demands(self) -> None:
        """Answers demands for data, each whatever becomes of the others; the first failure is raised at the end."""
        items = {item.batch_hash: item for item in self.store.items()}
        failed: PeerwattError | None = None
        for demand in open_demands(self.ledger.engine):
            item = items.get(demand.batch_hash)
            if item is None or item.state is not CycleState.SUBMITTED:
                continue
            if self.store.report(item.period, item.version) is None:
                continue  # taken over from the chain, and its bundle is not whole
            key = answer_key(self.sender, demand)
            if self.sender.is_decided(key):
                continue
            try:
                with _about(item):
                    made = self._rebuilt(item)
                    self.sender.submit(key, self.contracts.answer_demand(made.batch, demand.slot))
            except PeerwattError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _cover_demanded(self) -> None:
        """Vouches for accounts that came uncovered after their batch was submitted; the first failure is raised at the end."""
        items = {item.batch_hash: item for item in self.store.items()}
        failed: PeerwattError | None = None
        for batch_hash, slot in sorted(self.cover.demands()):
            item, submitted = items.get(batch_hash), self.store.submitted_at(batch_hash)
            if item is None or item.state is not CycleState.SUBMITTED or submitted is None:
                continue
            cumulative = self.store.settled(batch_hash).cumulative_nano[slot]
            try:
                self.cover.is_covered(f"{batch_hash} {slot}", {slot: cumulative}, submitted)
            except PeerwattError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    # --- Helpers -------------------------------------------------------------------------------------------------------------

    def _move(self, item: Item, state: CycleState, reason: str = "") -> Item:
        moved = self.store.move(item, state, int(self.now()), reason=reason)
        self.observe(moved)
        return moved

    def _mark(self, item: Item, state: BatchState, reason: str = "") -> None:
        self.ledger.set_batch_state(bytes.fromhex(item.batch_hash[2:]), state, reason=reason)


def _member_periods(members: Sequence[Member], stored: StoredReport) -> tuple[MemberPeriod, ...]:
    slots = {
        slot: ReportedSlot(slot, salt, vector) for slot, (salt, vector) in stored.slots.items()
    }
    return AssembledReport(stored.report, (), (), slots, (), {}).member_periods(members)


@contextmanager
def _about(item: Item) -> Iterator[None]:
    """Says of a failure which day it is about."""
    try:
        yield
    except PeerwattError as error:
        error.period = item.period
        raise


def _alone(step: Callable[[], Made]) -> Made:
    """Takes a step that no other process may take at the same time.

    Raises:
        LeadershipLost: one does.
    """
    try:
        return step()
    except IntegrityError as error:
        raise LeadershipLost(
            "another coordinator wrote the same at the same time",
            "nothing; this process stands back, and goes on if the other one ends",
        ) from error


def _key(item: Item) -> str:
    return f"batch {item.batch_hash} {item.attempts}"
