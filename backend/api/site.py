"""A site: one community as it is offered to people. Everything that pages and routes show is read through it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

from sqlmodel import Session, col, func, select
from web3 import Web3

from backend.domain.errors import PeerwattError, UnknownReference
from backend.domain.intervals import EPOCH_DATE, Period
from backend.ledger.cycle import CycleStore, PreviewedTrade
from backend.ledger.live_batches import live_batches
from backend.ledger.store import LedgerStore
from backend.ledger.tables import (
    BatchStateRow,
    ChainEventRow,
    CycleStateRow,
    IndexedBlockRow,
    PreviewRow,
)
from backend.operator.demands import open_demands
from backend.operator.periods import CommunityRules
from backend.settlement.encoding import BatchHeader
from backend.settlement.forward import ForwardTrade
from contracts.bindings import CommunityContracts

from .bundles import Bundles
from .running_day import Previewed, RunningDay, read_running_day
from .shelf import Shelf

_REVISION_SECONDS = 1.0
# What another process erases is gone here after so long too: an erasure leaves nothing behind that could be noticed.
_FORGET_SECONDS = 300.0
# Views are thousands of small objects each, all of which the garbage collector visits while everything waits; written ones are not.
_VALUES_KEPT = 128
_WRITTEN_KEPT = 16_384
_LOCKS_KEPT = 4096
Made = TypeVar("Made")


class Standing(StrEnum):
    """What of a period holds, in the words that people are shown."""

    # Cleared from the readings so far; nothing is on chain.
    RUNNING = "running"
    # The same of a day that is over: its batch comes next.
    WAITING = "waiting"
    # On chain, and can still be challenged.
    PROVISIONAL = "provisional"
    SETTLED = "settled"
    # Overturned by a challenge, or data are demanded and not yet shown.
    DISPUTED = "disputed"


@dataclass(frozen=True, slots=True)
class StandingBatch:
    """A batch that stands on chain.

    Attributes:
        batch_hash: 0x and hexadecimal digits.
        submitted_at, final_at: chain time, seconds since the Unix epoch.
        standing: what holds.
    """

    number: int
    batch_hash: str
    header: BatchHeader
    transaction_hash: str
    block_number: int
    submitted_at: int
    final_at: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class ParticipantFacts:
    """What the community knows of a member, and tells the other members.

    Attributes:
        generation_peak_w: what its plant can generate; None where nobody said.
        from_period, until_period: membership; the latter None while it is open.
    """

    slot: int
    name: str
    account: str
    meter: str
    node: str
    tariff_class: str
    generation_peak_w: int | None = None
    heat_pump: bool = False
    ev: bool = False
    from_period: int = 0
    until_period: int | None = None


class CoordinatorActions(Protocol):
    """What the coordinator can do by hand, through the one cycle there is."""

    def run(self) -> list[PeerwattError]:
        """Goes on with everything that can go on; returns what could not.

        Raises:
            LeadershipLost: a running coordinator does it already.
        """

    def finalise(self, period: int) -> None:
        """States a period that can no longer be challenged; goes on with nothing else.

        Raises:
            UnknownReference: the period was not begun.
            NotFinal: its newest batch can still be challenged, or is not on the chain.
            LeadershipLost: a running coordinator does it already.
        """

    def preview(self, period: int) -> int:
        """Clears a period from the readings that are there; returns how many intervals.

        Raises:
            LeadershipLost: a running coordinator does it already.
        """


@dataclass
class Site:
    """One community.

    Args:
        name: in URLs.
        title: for people.
        currency: three letters.
        time_zone: IANA.
        interval_minutes: 5 or 15.
        web3, chain_id, contracts: the community on its chain.
        ledger: its database.
        bundles: its bundles.
        rules: periods, tariffs, members.
        participants: what is known of members, in slot order.
        now: seconds since the Unix epoch; a demonstration has a clock of its own.
        connect: gives another connection to the chain; None for the embedded one, of which there is only this.
        first_block: where the contracts were deployed, or any before.
        failures, services: for the coordinator's page.
        forward_trades: the standing trades before delivery of a day; None where there are none, or their books are not here.
        actions: what the coordinator can do by hand; None where nothing.
        grid_notices: folder of `peerwatt/fee-notice/1`, named by interval; None where the grid is not coordinated.
        demo: what only a demonstration has; see `backend/api/demo.py`.
    """

    name: str
    title: str
    currency: str
    time_zone: str
    interval_minutes: int
    web3: Web3
    chain_id: int
    contracts: CommunityContracts
    ledger: LedgerStore
    bundles: Bundles
    rules: CommunityRules
    participants: Callable[[], tuple[ParticipantFacts, ...]]
    now: Callable[[], float] = time.time
    # A connection of its own, whose questions can be recorded.
    connect: Callable[[], Web3] | None = None
    first_block: int = 0
    # What could not go on when the coordinator tried last; and what else answers or does not.
    failures: Callable[[], Sequence[PeerwattError]] = tuple
    services: Callable[[], Sequence[tuple[str, PeerwattError | None]]] = tuple
    forward_trades: Callable[[int], Sequence[ForwardTrade]] | None = None
    actions: CoordinatorActions | None = None
    demo: Any = None
    # Folder of the operator's fee notices, where the grid is coordinated.
    grid_notices: Path | None = None
    # Sends for members; see `backend/api/relay.py`.
    relay: Any = None
    # What views keep of it.
    extras: dict[Any, Any] = field(default_factory=dict, repr=False)
    cycle: CycleStore = field(init=False)
    auditing: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _guard: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)
    _revision: tuple[float, tuple[Any, ...]] = field(default=(float("-inf"), ()), init=False)
    _forgotten: int = field(default=0, init=False)
    _forgot_at: float = field(default_factory=time.monotonic, init=False)
    _values: Shelf[tuple[tuple[Any, ...], Any]] = field(init=False, repr=False)
    _written: Shelf[tuple[tuple[Any, ...], tuple[bytes, str]]] = field(init=False, repr=False)
    _making: Shelf[threading.RLock] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.cycle = CycleStore(self.ledger.engine)
        self._values, self._written = Shelf(_VALUES_KEPT), Shelf(_WRITTEN_KEPT)
        self._making = Shelf(_LOCKS_KEPT)
        self.parameters = self.contracts.parameters()
        self.zone = ZoneInfo(self.time_zone)

    # --- Time ------------------------------------------------------------------------------------------------------------

    def moment(self, seconds: float) -> datetime:
        """A time in the community's zone."""
        return datetime.fromtimestamp(seconds, UTC).astimezone(self.zone)

    def interval_start(self, interval: int) -> datetime:
        """When an interval begins, in the community's zone."""
        return self.moment(interval * self.interval_minutes * 60)

    def running_period(self) -> Period:
        """The local day that is running."""
        number = (self.moment(self.now()).date() - EPOCH_DATE).days
        return self.rules.period(number)

    def day(self, number: int) -> str:
        """A period's local date, in ISO 8601."""
        return (EPOCH_DATE + timedelta(days=number)).isoformat()

    # --- What stands ------------------------------------------------------------------------------------------------------

    def revision(self) -> tuple[Any, ...]:
        """Changes whenever chain, cycle or preview have; asked of the database once a second at most."""
        with self._guard:
            asked, found = self._revision
            if time.monotonic() - asked < _REVISION_SECONDS:
                return found
            self._forget_parts()
            with Session(self.ledger.engine) as session:
                found = (
                    self._forgotten,
                    session.exec(select(func.max(IndexedBlockRow.number))).one(),
                    session.exec(select(func.count()).select_from(ChainEventRow)).one(),
                    session.exec(select(func.count()).select_from(CycleStateRow)).one(),
                    session.exec(select(func.count()).select_from(BatchStateRow)).one(),
                    tuple(
                        session.exec(
                            select(func.max(PreviewRow.cleared_at), func.max(PreviewRow.interval))
                        ).one()
                    ),
                )
            self._revision = (time.monotonic(), found)
            return found

    def _forget_parts(self) -> None:
        """Members' parts of bundles, once in a while."""
        if time.monotonic() - self._forgot_at >= _FORGET_SECONDS:
            self._forgot_at = time.monotonic()
            self._forgotten += 1
            for kept in (self.bundles, self.extras.get("settled")):
                if kept is not None:
                    kept.forget()

    def changed(self) -> None:
        """Something was written here; the next `revision` looks again."""
        with self._guard:
            self._revision = (float("-inf"), ())

    def forget(self) -> None:
        """Makes every value anew, also where nothing else has changed."""
        with self._guard:
            # What is being made at this moment is of before.
            self._forgotten += 1
            self._revision = (float("-inf"), ())
        self._values.clear()
        self._written.clear()

    def made_once(self, key: Any, make: Callable[[], Made]) -> Made:
        """A value that is made again only when the site has changed, or when many others were asked for since."""
        found: Made = self._once(self._values, key, make)
        return found

    def written_once(self, key: Any, write: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
        """The same for what is sent: text and tag."""
        return self._once(self._written, key, write)

    def peek(self, key: Any) -> tuple[bytes, str] | None:
        """What was written and still holds; None if it has to be made, or that is not known without asking the database."""
        asked, revision = self._revision
        known = self._written.get(key)
        if known is None or known[0] != revision or time.monotonic() - asked >= _REVISION_SECONDS:
            return None
        return known[1]

    def _once(
        self, shelf: Shelf[tuple[tuple[Any, ...], Made]], key: Any, make: Callable[[], Made]
    ) -> Made:
        # Whoever asks for the same meanwhile waits, instead of making it too.
        with self._making.get_or_put(key, threading.RLock):
            revision = self.revision()
            known = shelf.get(key)
            if known is not None and known[0] == revision:
                return known[1]
            value = make()
            shelf.put(key, (revision, value))
            return value

    def kept(self, key: Any, ask: Callable[[], Made]) -> Made:
        """A value that never changes, asked for once."""
        if key not in self.extras:
            self.extras[key] = ask()
        found: Made = self.extras[key]
        return found

    def chain_time(self) -> int:
        """Time of the newest block that was read."""
        with Session(self.ledger.engine) as session:
            found = session.exec(select(func.max(IndexedBlockRow.timestamp))).one()
        return int(found or 0)

    def batches(self) -> tuple[StandingBatch, ...]:
        """The batches that stand, oldest first."""
        return self.made_once("batches", self._batches)

    def batch(self, number: int) -> StandingBatch:
        """A batch by its number.

        Raises:
            UnknownReference: none stands under it.
        """
        for batch in self.batches():
            if batch.number == number:
                return batch
        raise UnknownReference("batch", number, "no such batch", "see the list of batches")

    def newest_of(self, period: int) -> StandingBatch | None:
        """The newest version of a period that stands."""
        found = [batch for batch in self.batches() if batch.header.period == period]
        return found[-1] if found else None

    def versions_of(self, period: int) -> tuple[StandingBatch, ...]:
        """All versions of a period that stand, oldest first."""
        return tuple(batch for batch in self.batches() if batch.header.period == period)

    def voided(self) -> tuple[dict[str, Any], ...]:
        """Overturned batches, as the chain told it."""
        return self.made_once("voided", lambda: tuple(self.events("BatchVoided")))

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Events by name, oldest first, with `event`, `timestamp`, `block_number`, `transaction_hash`."""
        with Session(self.ledger.engine) as session:
            rows = session.exec(
                select(ChainEventRow)
                .where(col(ChainEventRow.name).in_(names))
                .order_by(col(ChainEventRow.block_number), col(ChainEventRow.log_index))
            ).all()
        return [
            json.loads(row.arguments)
            | {
                "event": row.name,
                "timestamp": row.timestamp,
                "block_number": row.block_number,
                "transaction_hash": row.transaction_hash,
            }
            for row in rows
        ]

    def _batches(self) -> tuple[StandingBatch, ...]:
        with Session(self.ledger.engine) as session:
            standing = live_batches(session)
        submitted = {item["batchHash"]: item for item in self.events("BatchSubmitted")}
        demanded = {demand.batch_hash for demand in open_demands(self.ledger.engine)}
        head = self.chain_time()
        found = []
        for number, (batch_hash, header) in standing.items():
            event = submitted[batch_hash]
            final_at = event["timestamp"] + self.parameters.challenge_seconds
            if head >= final_at:
                state = Standing.SETTLED
            elif batch_hash in demanded:
                state = Standing.DISPUTED
            else:
                state = Standing.PROVISIONAL
            found.append(
                StandingBatch(
                    number,
                    batch_hash,
                    header,
                    event["transaction_hash"],
                    event["block_number"],
                    event["timestamp"],
                    final_at,
                    state,
                )
            )
        return tuple(found)

    def previews(self) -> tuple[PreviewRow, ...]:
        """Cleared intervals of the running day, and of those that are over and have no batch; oldest first."""
        return self._running_day().rows

    def waiting_periods(self) -> tuple[int, ...]:
        """Days that are over and have a preview and no batch, oldest first."""
        running = self.running_period().number
        settled = {batch.header.period for batch in self.batches()}
        found = {row.period for row in self.previews() if row.period < running}
        return tuple(sorted(found - settled))

    def standing_without_batch(self, period: int) -> Standing:
        """What holds of a day of which no batch stands."""
        if period >= self.running_period().number:
            return Standing.RUNNING
        overturned = any(event["period"] == period for event in self.voided())
        return Standing.DISPUTED if overturned else Standing.WAITING

    def previewed(self, slot: int, period: int) -> Previewed:
        """A member's readings and trades of a day without a batch, oldest first."""
        return self._running_day().own(slot, self._interval_range(period))

    def previewed_trades(self, period: int) -> list[PreviewedTrade]:
        """Everybody's trades of a day without a batch, oldest first."""
        return self._running_day().trades(self._interval_range(period))

    def _interval_range(self, period: int) -> range:
        found = self.rules.period(period)
        return range(found.first_interval, found.end_interval)

    def _running_day(self) -> RunningDay:
        return self.made_once("running day", self._read_running_day)

    def _read_running_day(self) -> RunningDay:
        before = self.extras.get("running day", RunningDay())
        found = self.extras["running day"] = read_running_day(self.cycle, before)
        return found

    # --- Participants -----------------------------------------------------------------------------------------------------

    def known(self, slot: int) -> ParticipantFacts | None:
        """What is known of a member; None if there is none at the slot."""
        items = self.participants()
        known, by_slot = self.extras.get("participants", (None, {}))
        if known is not items:
            by_slot = {item.slot: item for item in items}
            self.extras["participants"] = (items, by_slot)
        found: ParticipantFacts | None = by_slot.get(slot)
        return found

    def participant(self, slot: int) -> ParticipantFacts:
        """What is known of a member.

        Raises:
            UnknownReference: there is none at the slot.
        """
        found = self.known(slot)
        if found is not None:
            return found
        raise UnknownReference("slot", slot, "no member", "see the list of members")

    def close(self) -> None:
        """Lets go of the database."""
        if self.demo is not None:
            self.demo.player.stop()
        if self.relay is not None:
            self.relay.stop()
        self.ledger.close()
