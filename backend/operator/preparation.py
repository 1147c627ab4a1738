"""From a signed report to a batch with its bundle; changes nothing outside, and the same inputs give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from backend.domain.community import CommunityTariff
from backend.domain.intervals import Period
from backend.market.pool import ClearedInterval, Pool
from backend.market.problem import Market, build_market
from backend.settlement.batch import Batch, MemberPeriod, SettledBatch, build_batch
from backend.settlement.bundle import Bundle, make_bundle
from backend.settlement.encoding import OracleReport


@dataclass(frozen=True, slots=True)
class Preparation:
    """A cleared period with its batch, which names the bundle."""

    period: Period
    batch: Batch
    cleared: tuple[ClearedInterval, ...]
    bundle: Bundle


@dataclass
class Preparer:
    """Clears, proves and packs periods of one tariff.

    Args:
        tariff: the tariff in words.
        chain_id: which chain.
        clearing_house: the community's contract.
        genesis: what the first batch names as the one before.
        salt_key: secret behind ledger and trade salts.
        solver: of the clearing.
        compiled: as of `Pool`.
    """

    tariff: CommunityTariff
    chain_id: int
    clearing_house: str
    genesis: bytes
    salt_key: bytes = field(repr=False)
    solver: str = "auto"
    compiled: bool | None = None

    def __post_init__(self) -> None:
        given = self.tariff
        self.market: Market = build_market(given.network, given.tariff_classes, given.group_keys)
        self._pool = Pool(
            self.market, self.solver, "savings-share", given.share_millionths, self.compiled
        )

    def clear(
        self,
        member_periods: Sequence[MemberPeriod],
        count: int,
        progress: Callable[[int], None] = lambda index: None,
    ) -> tuple[ClearedInterval, ...]:
        """Clears the first `count` intervals.

        Args:
            member_periods: what the oracle reported, in slot order.
            count: how many intervals.
            progress: told the number of each interval cleared.

        Raises:
            ClearingFailed: an interval could not be cleared with a proof.
        """
        groups = tuple(
            self.market.group_index[item.member.node, item.member.tariff_class]
            for item in member_periods
        )
        nets = [
            tuple(item.readings[index].net_wh for item in member_periods) for index in range(count)
        ]
        cleared = []
        for index, interval in enumerate(self._pool.clear_many(groups, nets)):
            cleared.append(interval)
            progress(index)
        return tuple(cleared)

    def prepare(
        self,
        *,
        period: Period,
        report: OracleReport,
        signatures: Sequence[bytes],
        member_periods: Sequence[MemberPeriod],
        previous: Batch | SettledBatch | None,
        corrected: Batch | SettledBatch | None = None,
        cleared: Sequence[ClearedInterval] | None = None,
        active_slots: Iterable[int] = (),
    ) -> Preparation:
        """Builds batch and bundle.

        Args:
            period: the period.
            report: the oracle's report.
            signatures: its signatures.
            member_periods: its readings, in slot order.
            previous: the newest batch, or None for the first.
            corrected: the batch that this one corrects, if it does.
            cleared: the intervals, if they are cleared already.
            active_slots: accounts that take part besides.
        """
        intervals = tuple(
            self.clear(member_periods, period.interval_count) if cleared is None else cleared
        )
        batch = build_batch(
            market=self.market,
            share_millionths=self.tariff.share_millionths,
            period=period,
            report=report,
            signatures=signatures,
            member_periods=member_periods,
            cleared=intervals,
            genesis=self.genesis,
            previous=previous,
            corrected=corrected,
            active_slots=active_slots,
            salt_key=self.salt_key,
        )
        return self.pack(period, batch, intervals)

    def pack(
        self, period: Period, batch: Batch, cleared: tuple[ClearedInterval, ...]
    ) -> Preparation:
        """Makes the bundle and names it in the header."""
        bundle = make_bundle(batch, self.tariff, period, self.chain_id, self.clearing_house)
        return Preparation(period, batch.with_bundle_hash(bundle.hash), cleared, bundle)
