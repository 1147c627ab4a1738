"""The demonstration goes on: the days after its last, metered, cleared and settled interval by interval at a chosen pace."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.chain.networks import Network
from backend.chain.sender import Sender
from backend.demo.community import ORACLE_SIGNERS, ORACLE_THRESHOLD, DemoCommunity
from backend.domain.errors import OutOfRange, PeerwattError, QuorumNotReached
from backend.domain.intervals import Period
from backend.domain.readings import SignedReading
from backend.ledger.outbox import Outbox
from backend.operator.oracle_reports import NothingToCorrect
from backend.operator.periods import PeriodCycle
from backend.operator.preview import Previewer
from backend.settlement.encoding import domain_separator
from contracts.bindings import CommunityContracts
from oracle.assembly import AssembledReport, ReportedSlot
from oracle.committee import OracleSettings, OracleSigner, assemble
from oracle.meter import Meter
from oracle.signing import private_key
from oracle.sources.simbench import available_days, interval_energy_wh
from oracle.wire import pack_all

from .site import Site

_LOG = logging.getLogger("peerwatt.web")
_SETTLE_AFTER_SECONDS = 1800
_DAY_SECONDS = 86_400


@dataclass
class LiveMeters:
    """The community's meters, and the oracle's signers over them, in this process (`oracle_reports.ReportSource`).

    Args:
        community: everybody with their keys.
        contracts: the oracle's contract.
        chain_id: for signatures.
        last: the last reading of every meter so far.
        site: for its clock and periods.
    """

    community: DemoCommunity
    contracts: CommunityContracts
    chain_id: int
    last: dict[str, SignedReading]
    site: Site
    _days: dict[int, dict[str, list[SignedReading]]] = field(default_factory=dict, init=False)

    def day(self, number: int) -> dict[str, list[SignedReading]]:
        """All readings of a day by meter, the one before it first; each day is metered once, in order.

        Raises:
            OutOfRange: there are no data for the day, or it was before this process.
        """
        for following in range(self._next(), number + 1):
            self._days[following] = self._metered(self.site.rules.period(following))
        if number not in self._days:
            raise OutOfRange("day", number, "was metered before", "ask for a later one")
        return self._days[number]

    def _next(self) -> int:
        """The day that is metered next."""
        if self._days:
            return max(self._days) + 1
        newest = max(item.reading.interval for item in self.last.values())
        return (newest + 1) * self.site.interval_minutes * 60 // _DAY_SECONDS

    def _metered(self, period: Period) -> dict[str, list[SignedReading]]:
        if period.day not in available_days(self.community.feeder):
            raise OutOfRange("day", str(period.day), "has no data", "start the demonstration anew")
        domain = domain_separator(self.chain_id, self.contracts.addresses["ReadingOracle"])
        found = {}
        for item in self.community.participants:
            before = self.last[item.member.meter]
            shown = before.reading
            meter = Meter(
                item.meter_key, domain, shown.import_register_wh, shown.export_register_wh
            )
            meter.sequence = shown.sequence + 1
            imported, exported = interval_energy_wh(
                item.household, period.day, self.community.feeder
            )
            signed = list(meter.run(period.first_interval, imported.tolist(), exported.tolist()))
            found[meter.address] = [before, *signed]
            self.last[meter.address] = signed[-1]
        return found

    def readings(self, number: int, meters: Sequence[str]) -> bytes:
        """See `ReportSource`: what has been metered up to now."""
        interval = int(self.site.now()) // (self.site.interval_minutes * 60)
        day = self.day(number)
        return b"".join(
            pack_all(item for item in day[meter] if item.reading.interval < interval)
            for meter in meters
        )

    def readings_digest(self, number: int) -> str | None:
        """See `ReportSource`: nothing ever changes."""
        return "metered once" if number in self._days else None

    def report(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        """See `ReportSource`: each signer checks everything by itself."""
        if version:
            raise NothingToCorrect("nothing came in", "nothing")
        return self.confirmed(number, version, members)

    def confirmed(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        """What the signers make of the readings that are there.

        Raises:
            QuorumNotReached: the day is not over.
        """
        period = self.site.rules.period(number)
        if self.site.now() < period.end_interval * period.interval_minutes * 60:
            raise QuorumNotReached("the day is not over", "wait until it is")
        reported = [item for item in self.site.rules.members(number) if item.slot in members]
        domain = domain_separator(self.chain_id, self.contracts.addresses["ReadingOracle"])
        settings = OracleSettings(
            domain=domain,
            config_digest=self.contracts.oracle_config_digest(),
            threshold=ORACLE_THRESHOLD,
            salt_keys={
                member.slot: self.community.key("reading salts", member.slot) for member in reported
            },
        )
        keys = [private_key(self.community.key("oracle signer", i)) for i in range(ORACLE_SIGNERS)]
        received = self.day(number)
        confirmed = [
            OracleSigner(key, settings).confirm(
                period, version, reported, self.community.market, received
            )
            for key in keys
        ]
        signed = assemble(confirmed, ORACLE_THRESHOLD, domain)
        slots = {
            item.member.slot: ReportedSlot(item.member.slot, item.salt, item.packed())
            for item in signed.member_periods
        }
        return AssembledReport(signed.report, signed.signatures, signed.signers, slots, (), {})


class LivePlayer:
    """Plays the days that follow: clears every interval when it is over, settles every day, lets chain time pass.

    Args:
        site: the demonstration's.
        meters: what is metered.
        network: the embedded chain.
        cycle: the coordinator's.
    """

    def __init__(
        self, site: Site, meters: LiveMeters, network: Network, cycle: PeriodCycle
    ) -> None:
        self.site = site
        self.meters = meters
        self.cycle = cycle
        self.network = network
        self.previewer = Previewer(site.rules, meters, site.cycle, site.interval_minutes, site.now)
        self.failures: list[PeerwattError] = []
        # One step at a time, whoever asks for it.
        self.stepping = threading.RLock()
        self._done = int(site.now()) // self._seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def _seconds(self) -> int:
        return self.site.interval_minutes * 60

    def start(self) -> None:
        """Plays until `stop`."""
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the step that is under way, and no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def step(self) -> list[PeerwattError]:
        """Catches up with the clock; returns what could not go on."""
        with self.stepping:
            current = int(self.site.now()) // self._seconds
            if current > self._done:
                provider: Any = self.site.web3.provider
                provider.advance((current - self._done) * self._seconds)
                self._done = current
            self.previewer.keep_up(self.site.running_period().number)
            self.failures = self.cycle.advance()
            # What was just sent is in a block already.
            self.cycle.books.follow()
            self.site.changed()
            return self.failures

    def run(self) -> list[PeerwattError]:
        """See `CoordinatorActions`."""
        return self.step()

    def finalise(self, period: int) -> None:
        """See `CoordinatorActions`."""
        with self.stepping:
            self.cycle.finalise(period)
            self.site.changed()

    def preview(self, period: int) -> int:
        """See `CoordinatorActions`."""
        with self.stepping:
            rows = self.previewer.refresh(period)
            self.site.changed()
            return len(rows)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if int(self.site.now()) // self._seconds > self._done:
                    self.step()
            except PeerwattError as error:
                self.failures = [error]
                _LOG.warning("live day stops", extra={"code": error.code})
                return
            pace = self.site.demo.clock.pace
            left = self._seconds - self.site.now() % self._seconds
            self._stop.wait(min(1.0, left / pace + 0.01))


def make_player(site: Site, last: dict[str, SignedReading], network: Network) -> LivePlayer:
    """Everything that plays.

    Args:
        site: the demonstration's.
        last: the last reading of every meter.
        network: the embedded chain.
    """
    demo = site.demo
    meters = LiveMeters(demo.community, site.contracts, site.chain_id, last, site)
    sender = Sender(
        site.web3,
        network,
        demo.community.account("coordinator"),
        Outbox(site.ledger.engine),
        now=site.now,
    )
    cycle = PeriodCycle(
        rules=site.rules,
        contracts=site.contracts,
        sender=sender,
        books=demo.books,
        ledger=site.ledger,
        bundles=site.bundles.store,
        oracle=meters,
        now=site.now,
        settle_after_seconds=_SETTLE_AFTER_SECONDS,
    )
    return LivePlayer(site, meters, network, cycle)
