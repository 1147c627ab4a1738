"""What a period looks like before its batch: cleared from the readings that are there, for people, while nothing of it is final."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from backend.domain.errors import PeerwattError
from backend.domain.readings import Quality
from backend.domain.states import CycleState
from backend.ledger.cycle import CycleStore
from backend.ledger.tables import PreviewReadingRow, PreviewRow, PreviewTradeRow
from backend.market.trades import MemberTrade
from backend.settlement.batch import MemberPeriod, interval_steps
from oracle.validation import energy_of
from oracle.wire import address_bytes, records

from .oracle_reports import ReportSource
from .periods import CommunityRules

# Readings of these may still change.
NEWEST = 4
# So many days back are still looked at.
_DAYS = 3
_BATCH_STANDS = (CycleState.SUBMITTED, CycleState.FINAL, CycleState.STATED)


@dataclass
class Previewer:
    """Clears intervals that are over, of periods without a batch.

    Args:
        rules: periods, tariffs, members.
        oracle: where readings come from.
        store: keeps what was cleared.
        interval_minutes: 5 or 15.
        now: seconds since the Unix epoch.
        keep: whether what was cleared is stored.
    """

    rules: CommunityRules
    oracle: ReportSource
    store: CycleStore
    interval_minutes: int
    now: Callable[[], float]
    keep: bool = True

    def keep_up(self, running: int) -> list[PreviewRow]:
        """Clears the running period, and what is over and still without a batch: nobody's day is empty overnight.

        Args:
            running: its number.

        Returns:
            The running period's intervals that were cleared now.

        Raises:
            ClearingFailed: an interval of the running period could not be cleared with a proof.
            QuorumNotReached: no signer answers; what was cleared stays as it is.
        """
        for earlier in self._waiting(running):
            try:
                self.refresh(earlier)
            except PeerwattError:
                # What there is of it stays; the cycle says what is wrong.
                continue
        return self.refresh(running)

    def _waiting(self, running: int) -> list[int]:
        found = {
            item.period
            for item in self.store.items()
            if item.version == 0 and item.state not in _BATCH_STANDS
        }
        found |= {row.period for row in self.store.previews()}
        return sorted(period for period in found if running - _DAYS <= period < running)

    def refresh(self, number: int) -> list[PreviewRow]:
        """Clears a period as far as it is over; returns the intervals that were cleared now.

        Intervals that were cleared with every reading are not cleared again, but for the newest ones.

        A member whose reading is missing counts as served from outside, as in the settlement. Readings are the signers' word here:
        nothing is paid on it.

        Args:
            number: the period.

        Raises:
            ClearingFailed: an interval could not be cleared with a proof.
            QuorumNotReached: no signer answers.
        """
        period = self.rules.period(number)
        seconds = self.interval_minutes * 60
        over = min(int(self.now()) // seconds - period.first_interval, period.interval_count)
        if over <= 0:
            return []
        members = self.rules.members(number)
        by_meter = defaultdict(list)
        for record in records(self.oracle.readings(number, [item.meter for item in members])):
            by_meter[record.meter].append(record)
        found = [
            MemberPeriod(
                member,
                energy_of(member, period, by_meter[address_bytes(member.meter)], None).readings,
                bytes(32),
            )
            for member in members
        ]
        preparer = self.rules.preparer(number)
        share = preparer.tariff.share_millionths
        known = {row.interval: row for row in self.store.previews()} if self.keep else {}
        wanted = [
            index
            for index in range(over)
            if index >= over - NEWEST
            or period.first_interval + index not in known
            or known[period.first_interval + index].missing
        ]
        chosen = [
            replace(item, readings=tuple(item.readings[index] for index in wanted))
            for item in found
        ]
        rows: list[PreviewRow] = []
        readings: list[PreviewReadingRow] = []
        trades: list[PreviewTradeRow] = []
        for place, cleared in enumerate(preparer.clear(chosen, len(wanted))):
            interval = period.first_interval + wanted[place]
            discount, premium = interval_steps(cleared, share)
            rows.append(
                PreviewRow(
                    interval=interval,
                    period=number,
                    cleared_at=int(self.now()),
                    missing=sum(item.readings[place].quality is Quality.MISSING for item in chosen),
                    demand_wh=sum(cleared.problem.demand_wh),
                    supply_wh=sum(cleared.problem.supply_wh),
                    traded_wh=sum(cleared.solution.matched_demand_wh),
                    discount_nano_per_wh=discount,
                    premium_nano_per_wh=premium,
                )
            )
            readings += (_reading_row(interval, item, place) for item in chosen)
            trades += _trade_rows(interval, cleared.trades, [item.member.slot for item in chosen])
        if self.keep:
            self.store.replace_previews(number, rows, readings, trades)
        return rows


def _reading_row(interval: int, item: MemberPeriod, place: int) -> PreviewReadingRow:
    reading = item.readings[place]
    return PreviewReadingRow(
        interval=interval,
        slot=item.member.slot,
        import_wh=reading.import_wh,
        export_wh=reading.export_wh,
        quality=int(reading.quality),
    )


def _trade_rows(
    interval: int, trades: Iterable[MemberTrade], slots: Sequence[int]
) -> Iterable[PreviewTradeRow]:
    """Trades between the same two members as one."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for trade in trades:
        pair = slots[trade.seller], slots[trade.buyer]
        energy, fee = found.get(pair, (0, 0))
        found[pair] = (energy + trade.energy_wh, fee + trade.fee_nano)
    for (seller, buyer), (energy, fee) in found.items():
        yield PreviewTradeRow(
            interval=interval, seller_slot=seller, buyer_slot=buyer, energy_wh=energy, fee_nano=fee
        )
