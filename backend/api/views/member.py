"""What a member sees of its own: today, its days, savings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from backend.domain.errors import UnknownReference
from backend.domain.readings import IntervalReading
from backend.domain.readings import Quality as ReadingQuality
from backend.domain.values import Value

from ..site import Site, Standing, StandingBatch
from .ahead import Ahead, AheadTrade, ahead_of
from .settled import settled_of
from .values import EnergyState, Exact, Prices, Quality, energy_state, millionths

_QUALITIES = tuple(Quality)


class MemberInterval(Value):
    """One interval of a member. Import and export are what the meter shows; inside and outside are parts of the net of both.

    Attributes:
        bought_ahead_wh, sold_ahead_wh: traded before delivery, as far as the trade books are here; the pool settles the rest.
        ahead_amount_nano: what that brought; part of the amount.
        amount_nano: received; negative is paid.
        outside_amount_nano: the same energy outside the community.
    """

    interval: int
    start: datetime
    end: datetime
    quality: Quality
    import_wh: Exact
    export_wh: Exact
    bought_inside_wh: Exact
    sold_inside_wh: Exact
    bought_outside_wh: Exact
    sold_outside_wh: Exact
    prices: Prices
    bought_ahead_wh: Exact = 0
    sold_ahead_wh: Exact = 0
    ahead_amount_nano: Exact = 0
    amount_nano: Exact
    outside_amount_nano: Exact


class MemberTotals(Value):
    """Sums over intervals.

    Attributes:
        community_share_millionths: what part of the bought energy came from the community.
        amount_nano: of all intervals, and what trades before delivery brought besides.
        saved_nano: better off than outside, interval by interval.
    """

    import_wh: Exact
    export_wh: Exact
    bought_inside_wh: Exact
    sold_inside_wh: Exact
    bought_outside_wh: Exact
    sold_outside_wh: Exact
    amount_nano: Exact
    outside_amount_nano: Exact
    saved_nano: Exact
    community_share_millionths: Exact
    missing_intervals: int
    substituted_intervals: int


class MemberDay(Value):
    """A day of a member.

    Attributes:
        standing: running, waiting, provisional, settled or disputed.
        challenge_until: until when a provisional day can be challenged; null otherwise.
        version: 0, or the number of the newest correction.
        ahead: trades before delivery; null in a community without, and while there is no batch.
    """

    slot: int
    period: int
    day: str
    time_zone: str
    interval_minutes: int
    standing: Standing
    challenge_until: datetime | None
    version: int
    totals: MemberTotals
    ahead: Ahead | None = None
    intervals: tuple[MemberInterval, ...]


class Today(Value):
    """The member's start page.

    Attributes:
        now: the community's time.
        newest: the newest interval that is over; null before the first.
        state: the community's in it.
        day: the running day; null before its first interval is over.
        waiting: days that are over and have no batch yet, oldest first.
        settled: the newest day that is on chain.
    """

    slot: int
    name: str
    now: datetime
    time_zone: str
    currency: str
    newest: MemberInterval | None
    state: EnergyState | None
    day: MemberDay | None
    waiting: tuple[MemberDay, ...]
    settled: MemberDay | None
    balance_nano: Exact


class MonthSavings(Value):
    """A month against being outside; days that are on chain, of which the newest version counts."""

    slot: int
    month: str
    currency: str
    totals: MemberTotals
    days: tuple[DaySavings, ...]


class DaySavings(Value):
    """A day of a month."""

    period: int
    day: str
    standing: Standing
    import_wh: Exact
    export_wh: Exact
    amount_nano: Exact
    outside_amount_nano: Exact
    saved_nano: Exact


@dataclass(frozen=True, slots=True)
class _Row:
    reading: IntervalReading
    bought_wh: int
    sold_wh: int
    step: tuple[int, int]
    ahead: tuple[AheadTrade, ...] = ()


def member_day(site: Site, slot: int, period: int) -> MemberDay | None:
    """A day of a member; None if there is nothing of it.

    Args:
        site: the community.
        slot: whose.
        period: which day.
    """
    return site.made_once(("member day", slot, period), lambda: _member_day(site, slot, period))


def _member_day(site: Site, slot: int, period: int) -> MemberDay | None:
    found = settled_of(site).newest(period)
    if found is None:
        return _running_day(site, slot, period)
    return day_of(site, found[0], slot)


def day_of(site: Site, batch: StandingBatch, slot: int) -> MemberDay | None:
    """A member's day as a batch settled it; None without the member's part."""
    own = settled_of(site).own(batch.header, slot)
    if own is None:
        return None
    cleared = settled_of(site).cleared(batch.header)
    bought: dict[int, int] = defaultdict(int)
    sold: dict[int, int] = defaultdict(int)
    for trade in own.trades:
        (sold if trade.seller_slot == slot else bought)[trade.interval] += trade.energy_wh
    first = batch.header.first_interval
    ahead = None
    if own.forward_nano is not None:
        ahead = ahead_of(site, slot, batch.header.period, own.forward_nano)
    agreed: dict[int, list[AheadTrade]] = defaultdict(list)
    for item in ahead.trades if ahead else ():
        agreed[item.interval].append(item)
    rows = [
        _Row(
            reading, bought[first + index], sold[first + index], step, tuple(agreed[first + index])
        )
        for index, (reading, step) in enumerate(zip(own.readings, cleared.steps, strict=True))
    ]
    intervals = tuple(_intervals(site, first, rows, own.prices))
    provisional = batch.standing is not Standing.SETTLED
    return MemberDay(
        slot=slot,
        period=batch.header.period,
        day=site.day(batch.header.period),
        time_zone=site.time_zone,
        interval_minutes=site.interval_minutes,
        standing=batch.standing,
        challenge_until=site.moment(batch.final_at) if provisional else None,
        version=batch.header.version,
        totals=member_totals(intervals, ahead.other_nano if ahead else 0),
        ahead=ahead,
        intervals=intervals,
    )


def _running_day(site: Site, slot: int, period: int) -> MemberDay | None:
    steps = {
        row.interval: (row.discount_nano_per_wh, row.premium_nano_per_wh)
        for row in site.previews()
        if row.period == period
    }
    found = site.previewed(slot, period)
    readings, trades = found.readings, found.trades
    outside = outside_prices(site, slot, period)
    bought: dict[int, int] = defaultdict(int)
    sold: dict[int, int] = defaultdict(int)
    for trade in trades:
        (sold if trade.seller_slot == slot else bought)[trade.interval] += trade.energy_wh
    intervals = tuple(
        _interval(
            site,
            row.interval,
            _Row(
                IntervalReading(row.import_wh, row.export_wh, ReadingQuality(row.quality)),
                bought[row.interval],
                sold[row.interval],
                steps[row.interval],
            ),
            outside,
        )
        for row in readings
        if row.interval in steps
    )
    if not intervals:
        return None
    return MemberDay(
        slot=slot,
        period=period,
        day=site.day(period),
        time_zone=site.time_zone,
        interval_minutes=site.interval_minutes,
        standing=site.standing_without_batch(period),
        challenge_until=None,
        version=0,
        totals=member_totals(intervals),
        intervals=intervals,
    )


def outside_prices(site: Site, slot: int, period: int) -> tuple[int, int]:
    """What a member pays and gets outside in a period: import and export price."""
    wanted = site.participant(slot).tariff_class
    for item in site.rules.preparer(period).tariff.tariff_classes:
        if item.id == wanted:
            return item.import_price_nano_per_wh, item.export_price_nano_per_wh
    raise UnknownReference("tariff_class", wanted, "not in the tariff", "mend the configuration")


def _intervals(
    site: Site, first: int, rows: Iterable[_Row], outside: tuple[int, int]
) -> Iterable[MemberInterval]:
    for index, row in enumerate(rows):
        yield _interval(site, first + index, row, outside)


def _interval(site: Site, interval: int, row: _Row, outside: tuple[int, int]) -> MemberInterval:
    net = row.reading.net_wh
    sold_ahead = sum(item.energy_wh for item in row.ahead if item.side == "sold")
    bought_ahead = sum(item.energy_wh for item in row.ahead if item.side == "bought")
    ahead_nano = sum(item.amount_nano for item in row.ahead)
    # What was sold before delivery was reported as drawn, what was bought as fed in.
    metered = net + sold_ahead - bought_ahead
    buying, selling = outside[0] - row.step[0], outside[1] + row.step[1]
    return MemberInterval(
        interval=interval,
        start=site.interval_start(interval),
        end=site.interval_start(interval + 1),
        quality=_QUALITIES[int(row.reading.quality)],
        import_wh=row.reading.import_wh - sold_ahead,
        export_wh=row.reading.export_wh - bought_ahead,
        bought_inside_wh=row.bought_wh,
        sold_inside_wh=row.sold_wh,
        bought_outside_wh=max(0, -net) - row.bought_wh,
        sold_outside_wh=max(0, net) - row.sold_wh,
        prices=Prices(
            buy_nano_per_wh=buying,
            sell_nano_per_wh=selling,
            outside_import_nano_per_wh=outside[0],
            outside_export_nano_per_wh=outside[1],
        ),
        bought_ahead_wh=bought_ahead,
        sold_ahead_wh=sold_ahead,
        ahead_amount_nano=ahead_nano,
        amount_nano=net * (buying if net < 0 else selling) + ahead_nano,
        outside_amount_nano=metered * (outside[0] if metered < 0 else outside[1]),
    )


def member_totals(intervals: Sequence[MemberInterval], other_nano: int = 0) -> MemberTotals:
    """Sums over intervals.

    Args:
        intervals: of a day or more.
        other_nano: received besides.
    """
    bought = sum(item.bought_inside_wh for item in intervals)
    outside = sum(item.bought_outside_wh for item in intervals)
    amount = sum(item.amount_nano for item in intervals)
    compared = sum(item.outside_amount_nano for item in intervals)
    return MemberTotals(
        import_wh=sum(item.import_wh for item in intervals),
        export_wh=sum(item.export_wh for item in intervals),
        bought_inside_wh=bought,
        sold_inside_wh=sum(item.sold_inside_wh for item in intervals),
        bought_outside_wh=outside,
        sold_outside_wh=sum(item.sold_outside_wh for item in intervals),
        amount_nano=amount + other_nano,
        outside_amount_nano=compared,
        saved_nano=amount - compared,
        community_share_millionths=millionths(bought, bought + outside),
        missing_intervals=sum(item.quality is Quality.MISSING for item in intervals),
        substituted_intervals=sum(item.quality is Quality.SUBSTITUTED for item in intervals),
    )


def today(site: Site, slot: int) -> Today:
    """The member's start page."""
    running = site.running_period()
    day = member_day(site, slot, running.number)
    # The newest batch may correct an older day.
    newest_period = max((batch.header.period for batch in site.batches()), default=None)
    settled = member_day(site, slot, newest_period) if newest_period is not None else None
    waiting = [member_day(site, slot, period) for period in site.waiting_periods()]
    newest = day.intervals[-1] if day and day.intervals else None
    return Today(
        slot=slot,
        name=site.participant(slot).name,
        now=site.moment(site.now()),
        time_zone=site.time_zone,
        currency=site.currency,
        newest=newest,
        state=_state(site, newest) if newest else None,
        day=day,
        waiting=tuple(item for item in waiting if item is not None),
        settled=settled,
        balance_nano=balance_nano(site, slot),
    )


def _state(site: Site, newest: MemberInterval) -> EnergyState | None:
    for row in site.previews():
        if row.interval == newest.interval:
            return energy_state(row.demand_wh, row.supply_wh)
    return None


def balance_nano(site: Site, slot: int) -> int:
    """Everything settled so far; positive: the community owes the member."""
    for batch in reversed(site.batches()):
        own = settled_of(site).own(batch.header, slot)
        if own is not None:
            return own.cumulative_nano
    return 0


def month_savings(site: Site, slot: int, month: str) -> MonthSavings:
    """A month against being outside.

    Args:
        site: the community.
        slot: whose.
        month: such as `2016-06`.
    """
    periods = sorted({batch.header.period for batch in site.batches()})
    days = [
        day
        for period in periods
        if site.day(period).startswith(month + "-")
        if (day := member_day(site, slot, period)) is not None
    ]
    return MonthSavings(
        slot=slot,
        month=month,
        currency=site.currency,
        totals=member_totals(
            [item for day in days for item in day.intervals],
            sum(day.ahead.other_nano for day in days if day.ahead),
        ),
        days=tuple(
            DaySavings(
                period=day.period,
                day=day.day,
                standing=day.standing,
                import_wh=day.totals.import_wh,
                export_wh=day.totals.export_wh,
                amount_nano=day.totals.amount_nano,
                outside_amount_nano=day.totals.outside_amount_nano,
                saved_nano=day.totals.saved_nano,
            )
            for day in days
        ),
    )
