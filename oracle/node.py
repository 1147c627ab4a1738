"""One oracle signer: its own keys, its own store, its own view of the readings.

A report is made in two steps. A *draft* says what this signer finds, unsigned. `confirm` signs one particular report, if it is
what this signer found, and if it has not signed another one for the same period and version: then no two reports of one
version can both collect k signatures of honest signers. The signature is stored before it is given out, so that asking again
after a crash gives the same.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from backend.domain.community import Member
from backend.domain.errors import ReportRefused, StoreUnavailable
from backend.domain.intervals import Period
from backend.settlement.batch import MemberPeriod
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import OracleReport, derive_salt
from backend.settlement.forward import with_trades
from backend.settlement.trees import PositionalTree

from .committee import group_totals
from .config import OracleConfig, load_salts
from .directory import MeterDirectory
from .intake import Intake, rejection
from .keystore import load_keys
from .meter_registry import open_directory
from .period_readings import PeriodReadings
from .signing import sign_report
from .store import ReadingStore
from .trade_books import TradeBooks, TradedPeriod, open_trade_books
from .validation import Rejection
from .wire import address_bytes, pack, unpack_vector

_KEPT_DRAFTS = 2
# Of one version; each has every member's readings.
_KEPT_OFFERS = 3
# What a refusal says when there is nothing to correct.
NO_CHANGE = "would change nothing"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a signer finds for a period.

    Attributes:
        report: the report it would sign.
        member_periods: the readings behind it, in slot order.
        reasons: by slot and interval, why a value is not measured.
        rejected: readings that do not fit the ones beside them.
        is_kept: it was signed before, and readings that came in since are not in it.
    """

    report: OracleReport
    member_periods: tuple[MemberPeriod, ...]
    reasons: Mapping[int, Mapping[int, str]]
    rejected: int
    is_kept: bool = False

    @property
    def hash(self) -> bytes:
        """EIP-712 struct hash of the report."""
        return self.report.struct_hash()

    def vectors(self) -> dict[int, bytes]:
        """By slot the packed readings."""
        return {item.member.slot: item.packed() for item in self.member_periods}


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature over a report."""

    report_hash: bytes
    signer: str
    signature: bytes


@dataclass(slots=True)
class OracleNode:
    """A signer.

    Args:
        config: its configuration.
        store: its readings.
        directory: who may sign for which meter.
        keys: its keys by address; during a rotation the old one and the new.
        salts: by slot, the secrets of the members' salts.
        intake: where readings come in.
        clock: seconds since the Unix epoch.
        trade_books: where members trade before delivery.
    """

    config: OracleConfig
    store: ReadingStore
    directory: MeterDirectory
    keys: Mapping[str, PrivateKey]
    salts: Mapping[int, bytes]
    intake: Intake
    clock: Callable[[], float] = time.time
    trade_books: TradeBooks | None = None
    _drafts: dict[tuple[int, int], dict[bytes, Draft]] = field(default_factory=dict)
    _signing: threading.Lock = field(default_factory=threading.Lock)
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(
        cls,
        config: OracleConfig,
        clock: Callable[[], float] = time.time,
        workers: Executor | None = None,
    ) -> OracleNode:
        """Opens everything that the configuration names.

        Raises:
            InputError: a file is not what it should be.
            StoreUnavailable: the store cannot be opened.
            NodeUnreachable: the meter registry cannot be read, and never was.
        """
        directory = open_directory(config, clock)
        keys = load_keys(config.path(config.file.keystores), config.path(config.file.password_file))
        store = ReadingStore(config.store_url)
        intake = Intake(
            store,
            directory,
            config.domain,
            config.file.interval_minutes,
            config.file.clock_tolerance_seconds,
            clock,
            workers,
            max(1, config.file.workers),
        )
        salts = load_salts(config.path(config.file.salts_file))
        books = open_trade_books(config)
        return cls(config, store, directory, keys, salts, intake, clock, books)

    def reload(self, config: OracleConfig) -> None:
        """Takes over a changed configuration and new keys while running: members, committees, meters, keystores, salts.

        Raises:
            InputError: something is wrong with it; everything stays as it was.
            NodeUnreachable: it names another meter registry, which cannot be read; likewise.
        """
        keys = load_keys(config.path(config.file.keystores), config.path(config.file.password_file))
        salts = load_salts(config.path(config.file.salts_file))
        self.directory = self.intake.directory = open_directory(config, self.clock)
        self.config, self.keys, self.salts = config, keys, salts
        self.trade_books = open_trade_books(config)
        self._forget_drafts()

    def refresh_meters(self) -> bool:
        """Asks the meter registry for what is new; says whether there was anything."""
        changed = self.directory.reload()
        if changed:
            self._forget_drafts()
        return changed

    @property
    def readings(self) -> PeriodReadings:
        """This signer's readings as configuration and meter registry are now."""
        return PeriodReadings(self.config, self.store, self.directory)

    def _forget_drafts(self) -> None:
        with self._keeping:
            self._drafts.clear()

    # --- Reports -------------------------------------------------------------------------------------------------------

    def draft(self, number: int, version: int) -> Draft:
        """Puts the period together from this signer's readings.

        Raises:
            ReportRefused: the period is not over, or cannot have this version (any more).
            MalformedInput: no such period.
        """
        period = self.config.period(number)
        self._check_time(period, version)
        member_periods: list[MemberPeriod] = []
        reasons: dict[int, Mapping[int, str]] = {}
        rejections: list[Rejection] = []
        for found in self.readings.validated(period):
            salt_key = self.salts.get(found.member.slot)
            if salt_key is None:
                raise ReportRefused(
                    f"there is no salt secret for slot {found.member.slot}",
                    "add it to the file of salts, the same at all signers",
                )
            salt = derive_salt(salt_key, "readings", number, version, found.member.slot)
            member_periods.append(MemberPeriod(found.member, found.readings, salt))
            if found.reasons:
                reasons[found.member.slot] = found.reasons
            rejections += found.rejections
        member_periods.sort(key=lambda item: item.member.slot)
        member_periods = self._with_trades(period, member_periods)
        self._keep_rejections(rejections)
        report = self._report(period, version, tuple(member_periods))
        made = Draft(report, tuple(member_periods), reasons, len(rejections))
        with self._keeping:
            # Earlier ones too: others may have signed what this one had found as well, before it found more.
            offered = self._drafts.setdefault((number, version), {})
            offered.pop(made.hash, None)
            offered[made.hash] = made
            while len(offered) > _KEPT_OFFERS:
                offered.pop(next(iter(offered)))
            while len(self._drafts) > _KEPT_DRAFTS:
                self._drafts.pop(next(iter(self._drafts)))
        return made

    def _with_trades(
        self, period: Period, member_periods: list[MemberPeriod]
    ) -> list[MemberPeriod]:
        """Less what was traded before delivery, where members do."""
        traded = self.traded(period)
        if traded is None:
            return member_periods
        return with_trades(member_periods, period, traded.trades, traded.fee_slot)

    def traded(self, period: Period) -> TradedPeriod | None:
        """The trades that a report counts, or None where members do not trade before delivery.

        Raises:
            TradeBookOpen: that is not certain yet.
            NodeUnreachable: the chain cannot be asked.
        """
        if self.trade_books is None:
            return None
        members = {member.slot: member for member in self.config.members(period.number)}
        return self.trade_books.period(period, members)

    def _keep_rejections(self, rejections: Sequence[Rejection]) -> None:
        """Keeps and counts readings that do not fit the ones beside them, each once however often it is found."""
        now = int(self.clock())
        for item in rejections:
            reading = item.signed.reading
            row = rejection(
                "validation",
                reading.meter,
                item.code,
                item.reason,
                pack(item.signed),
                now,
                reading.interval,
            )
            try:
                added = self.store.add(rejections=[row])
            except StoreUnavailable:
                # They are found anew with every draft; the draft itself needs no disk.
                return
            if added.rejections:
                self.intake.observe_rejection(item.code)

    def _report(
        self, period: Period, version: int, member_periods: tuple[MemberPeriod, ...]
    ) -> OracleReport:
        totals = group_totals(member_periods, self.config.market, period)
        return OracleReport(
            period=period.number,
            version=version,
            first_interval=period.first_interval,
            interval_count=period.interval_count,
            readings_root=PositionalTree(
                {item.member.slot: item.leaf() for item in member_periods}
            ).root,
            totals_hash=keccak(pack_totals(totals)),
            config_digest=self.config.committee(period.number).config_digest,
        )

    def offered(self, number: int, version: int) -> Draft:
        """What this signer would sign: the report that it has signed already, or else what it finds.

        A report that only some have signed when whoever asked was killed must still be reached when readings came in since.

        Raises:
            ReportRefused, MalformedInput: as `draft`.
        """
        kept = self._signed_draft(number, version)
        return kept or self.draft(number, version)

    def _signed_draft(self, number: int, version: int) -> Draft | None:
        kept = self.store.report(number, version)
        if kept is None:
            return None
        members = {member.slot: member for member in self.config.members(number)}
        data = json.loads(kept)
        if {int(slot) for slot in data["vectors"]} != set(members):
            return None
        period = self.config.period(number)
        member_periods = tuple(
            reported_period(
                members[int(slot)],
                bytes.fromhex(vector),
                derive_salt(self.salts[int(slot)], "readings", number, version, int(slot)),
                period.interval_count,
            )
            for slot, vector in sorted(data["vectors"].items(), key=lambda item: int(item[0]))
            if int(slot) in self.salts
        )
        made = self._report(period, version, member_periods)
        # Members, salts or committee may have been changed since.
        return (
            Draft(made, member_periods, {}, 0, is_kept=True)
            if made.struct_hash().hex() == data["hash"]
            else None
        )

    def draft_with(self, number: int, version: int, report_hash: bytes) -> Draft:
        """The draft of a report.

        Raises:
            ReportRefused: this signer does not find that report.
        """
        offered = self._drafts.get((number, version), {}).get(report_hash)
        for known in (offered, self._signed_draft(number, version)):
            if known is not None and known.hash == report_hash:
                return known
        found = self.draft(number, version)
        if found.hash == report_hash:
            return found
        raise ReportRefused(
            f"asked for 0x{report_hash.hex()[:16]}..., found 0x{found.hash.hex()[:16]}...",
            "compare the drafts; exchange the readings that one of them lacks",
        )

    def confirm(self, number: int, version: int, report_hash: bytes) -> Signed:
        """Signs a report, if it is what this signer finds.

        Raises:
            ReportRefused: it is not, another one was signed, or no key of this signer is of the committee.
            StoreUnavailable: the signature could not be kept, and was not given out.
        """
        with self._signing:
            kept = self.store.report(number, version)
            if kept is not None:
                return _signed_before(kept, report_hash)
            self._check_meters()
            draft = self.draft_with(number, version, report_hash)
            if version:
                self._check_change(draft)
            signer = self._signer(number)
            signature = sign_report(self.keys[signer], self.config.domain, draft.report)
            self.store.add_report(
                number,
                version,
                report_hash,
                address_bytes(signer),
                json.dumps(
                    {
                        "hash": report_hash.hex(),
                        "signer": signer,
                        "signature": signature.hex(),
                        "vectors": {slot: data.hex() for slot, data in draft.vectors().items()},
                    }
                ),
            )
            return Signed(report_hash, signer, signature)

    def changes(self, number: int, version: int) -> list[tuple[int, int]]:
        """Slots and intervals in which a version differs from the one before, as far as this signer signed both."""
        later, earlier = self._vectors(number, version), self._vectors(number, version - 1)
        if later is None or earlier is None:
            return []
        first = self.config.period(number).first_interval
        return [
            (slot, first + index)
            for slot in sorted(set(later) | set(earlier))
            for index in differing(earlier.get(slot, b""), later.get(slot, b""))
        ]

    def _vectors(self, number: int, version: int) -> dict[int, bytes] | None:
        kept = self.store.report(number, version)
        if kept is None:
            return None
        return {
            int(slot): bytes.fromhex(data) for slot, data in json.loads(kept)["vectors"].items()
        }

    def _check_time(self, period: Period, version: int) -> None:
        seconds = period.interval_minutes * 60
        ends = (period.first_interval + period.interval_count) * seconds
        now = self.clock()
        if now < ends:
            raise ReportRefused(f"period {period.number} is not over", "ask when it is")
        if version and now > ends + self.config.file.correction_days * 86_400:
            raise ReportRefused(
                f"version {version} of period {period.number} is outside the correction window of "
                f"{self.config.file.correction_days} days",
                "settle it outside",
            )

    def _check_change(self, draft: Draft) -> None:
        earlier = self._vectors(draft.report.period, draft.report.version - 1)
        if earlier is not None and earlier == draft.vectors():
            raise ReportRefused(
                f"version {draft.report.version} of period {draft.report.period} {NO_CHANGE}",
                "keep the version before",
            )

    def _check_meters(self) -> None:
        """A key may have been revoked that this signer has not heard of."""
        entry, known = self.config.file.meter_registry, self.directory.freshness()
        if entry is not None and known is not None and known.age_seconds > entry.stale_seconds:
            raise ReportRefused(
                f"the meter registry was last read {known.age_seconds:.0f} s ago, as of block {known.block}"
                f" ({known.failure})",
                "bring the node back; nothing is signed until then",
            )

    def _signer(self, number: int) -> str:
        committee = self.config.committee(number)
        for signer in committee.signers:
            if signer in self.keys:
                return signer
        raise ReportRefused(
            f"none of this signer's keys is of the committee of period {number}",
            "add the keystore, or name its address in the configuration",
        )


def reported_period(
    member: Member, vector: bytes, salt: bytes, interval_count: int
) -> MemberPeriod:
    """What was reported of a member, from its packed readings."""
    readings, traded_nano = unpack_vector(vector, interval_count)
    return MemberPeriod(member, readings, salt, traded_nano)


def differing(one: bytes, other: bytes) -> list[int]:
    """Numbers of the intervals in which two packed readings vectors differ."""
    length = max(len(one), len(other))
    return [
        start // 16
        for start in range(0, length, 16)
        if one[start : start + 16] != other[start : start + 16]
    ]


def _signed_before(kept: str, report_hash: bytes) -> Signed:
    data = json.loads(kept)
    if data["hash"] != report_hash.hex():
        raise ReportRefused(
            f"another report of this period and version is signed already: 0x{data['hash'][:16]}...",
            "use that one, or ask for the next version",
        )
    return Signed(report_hash, data["signer"], bytes.fromhex(data["signature"]))
