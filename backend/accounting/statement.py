"""A member's statement: its batches of some periods, recomputed by the auditor, with what each interval adds up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from backend.audit.bundle_files import BundleFiles
from backend.audit.bundle_format import Personal, Series, read_personal, read_public
from backend.audit.facts import SubmittedBatch
from backend.audit.forward import Traded
from backend.audit.intervals import AuditTariff, check_intervals, unpack_clearing
from backend.audit.tariff_words import tariff_words
from backend.audit.verdict import Checks
from backend.domain.errors import AuditFailed
from backend.domain.intervals import EPOCH_DATE

_MISSING = 2
_NANO = 10**9


@dataclass(frozen=True)
class Ahead:
    """Trades before delivery.

    Attributes:
        sold_wh, bought_wh: energy, by the trade books.
        sold_nano, bought_nano: what it earned and cost, network fees included.
        other_nano: what was received besides: other members' network fees, or all that is known without the trade books.
    """

    sold_wh: int = 0
    bought_wh: int = 0
    sold_nano: int = 0
    bought_nano: int = 0
    other_nano: int = 0

    def __add__(self, other: Ahead) -> Ahead:
        return Ahead(
            *(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )

    @property
    def nano(self) -> int:
        """What they brought in all."""
        return self.sold_nano - self.bought_nano + self.other_nano


@dataclass(frozen=True)
class StatementLine:
    """One batch of a member.

    Attributes:
        batch: its number.
        day: local date of the period.
        version: 0, or the number of the correction.
        bought_wh, sold_wh: net of each interval, summed; where members trade before delivery, what deviates from their trades.
        bought_nano: what the bought energy costs (not negative where prices are not).
        sold_nano: what the sold energy earns.
        ahead: what was traded before delivery.
        amount_nano: what was booked; in a correction the difference to the version before.
        balance_nano: cumulative, after it.
    """

    batch: int
    day: date
    version: int
    bought_wh: int
    sold_wh: int
    bought_nano: int
    sold_nano: int
    ahead: Ahead
    amount_nano: int
    balance_nano: int


@dataclass(frozen=True)
class MemberStatement:
    """What a member is told of some periods.

    Attributes:
        slot, name, node, tariff_class: whose.
        clearing_house, chain_id: where it is settled.
        lines: oldest first.
    """

    slot: int
    name: str
    node: str
    tariff_class: str
    clearing_house: str
    chain_id: int
    lines: tuple[StatementLine, ...]

    @property
    def bought_nano(self) -> int:
        """Cost of what was bought, corrections included as the difference they made."""
        return sum(line.sold_nano + line.ahead.nano - line.amount_nano for line in self._newest())

    @property
    def bought_wh(self) -> int:
        """Energy bought, by the newest versions."""
        return sum(line.bought_wh for line in self._newest())

    @property
    def sold_wh(self) -> int:
        """Energy sold, by the newest versions."""
        return sum(line.sold_wh for line in self._newest())

    @property
    def sold_nano(self) -> int:
        """What was earned."""
        return sum(line.sold_nano for line in self._newest())

    @property
    def ahead(self) -> Ahead:
        """Trades before delivery; corrections leave them as they are."""
        return sum((line.ahead for line in self._newest()), Ahead())

    @property
    def amount_nano(self) -> int:
        """What was received in all; negative: paid."""
        return sum(line.amount_nano for line in self.lines)

    def _newest(self) -> Iterator[StatementLine]:
        """The version of each period that counts, with the amount that all versions together booked."""
        newest = {line.day: line for line in self.lines}
        for day, line in newest.items():
            booked = sum(item.amount_nano for item in self.lines if item.day == day)
            yield replace(line, amount_nano=booked)


def member_statements(
    batches: list[SubmittedBatch],
    files: BundleFiles,
    clearing_house: str,
    chain_id: int,
    slots: frozenset[int] | None = None,
    traded: Mapping[int, Traded] | None = None,
) -> list[MemberStatement]:
    """Statements over some batches.

    Args:
        batches: oldest first; only audited ones belong here.
        files: their bundles, with the members' parts.
        clearing_house: address.
        chain_id: which chain.
        slots: whose; None for everybody with a meter.
        traded: trades before delivery by number of the batch, as far as the trade books were shown.

    Raises:
        AuditFailed: a part does not add up to its amount.
    """
    found: dict[int, list[StatementLine]] = {}
    persons: dict[int, Personal] = {}
    settled: dict[tuple[int, int], int] = {}
    for batch in batches:
        public = read_public(files.public(batch.number))
        tariff = AuditTariff.unpack(dict(batch.submission["tariff"]))
        totals, intervals = unpack_clearing(public.clearing, tariff, batch.header["intervalCount"])
        steps = check_intervals(totals, intervals, tariff, Checks()).steps
        words = tariff_words(public.data["tariff"])
        for slot in sorted(public.personal_hashes):
            if slots is not None and slot not in slots:
                continue
            part = read_personal(files.personal(batch.number, slot))
            if part.series is None or part.group is None:
                continue
            group = tariff.group_of(
                words.nodes.index(part.group[0]), words.classes.index(part.group[1])
            )
            prices = tariff.groups[group][:2] if group is not None else (0, 0)
            series = part.series.of_period(len(steps))
            ahead = _ahead(slot, series, (traded or {}).get(batch.number))
            line = _line(batch, part, series, prices, steps, ahead)
            due = line.sold_nano - line.bought_nano + ahead.nano if group is not None else 0
            before = settled.get((slot, batch.header["period"]), 0)
            if (line.version == 0 and line.amount_nano != due) or (
                before and line.amount_nano != due - before
            ):
                raise AuditFailed(
                    f"slot {slot} was booked {line.amount_nano} nano in batch {batch.number}, its readings come to "
                    f"{due - before}",
                    "run `peerwatt audit`",
                )
            settled[slot, batch.header["period"]] = due
            persons[slot] = part
            found.setdefault(slot, []).append(line)
    return [
        MemberStatement(
            slot, part.name, *(part.group or ("", "")), clearing_house, chain_id, tuple(found[slot])
        )
        for slot, part in sorted(persons.items())
    ]


def _ahead(slot: int, series: Series, traded: Traded | None) -> Ahead:
    """A slot's trades before delivery, which its readings say the sum of."""
    found = Ahead()
    for trade in traded.trades if traded else ():
        earned, paid, _ = trade.brings
        if trade.seller == slot:
            found += Ahead(sold_wh=trade.energy_wh, sold_nano=earned)
        elif trade.buyer == slot:
            found += Ahead(bought_wh=trade.energy_wh, bought_nano=-paid)
    return replace(found, other_nano=series.traded_nano - found.nano)


def _line(
    batch: SubmittedBatch,
    part: Personal,
    series: Series,
    prices: tuple[int, ...],
    steps: list[tuple[int, int]],
    ahead: Ahead,
) -> StatementLine:
    bought_wh = sold_wh = bought = sold = 0
    for net, (discount, premium) in zip(series.net_wh.tolist(), steps, strict=True):
        if net < 0:
            bought_wh -= net
            bought -= net * (prices[0] - discount)
        else:
            sold_wh += net
            sold += net * (prices[1] + premium)
    return StatementLine(
        batch=batch.number,
        day=EPOCH_DATE + timedelta(days=batch.header["period"]),
        version=batch.header["version"],
        bought_wh=bought_wh,
        sold_wh=sold_wh,
        bought_nano=bought,
        sold_nano=sold,
        ahead=ahead,
        amount_nano=part.amount,
        balance_nano=part.cumulative,
    )


def cents(nano: int) -> Decimal:
    """Money as invoices have it: two decimals, half to even."""
    return (Decimal(nano) / _NANO).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
