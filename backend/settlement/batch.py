"""Builds the batch of a period: from the oracle's readings and the cleared intervals to everything that is submitted,
published and proved.

The ledger's accounts are the members and three system accounts: the outside supplier (through the coordinator), the DSO and
the community fund. Every period's amounts sum to zero, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from eth_hash.auto import keccak

from backend.domain.community import DSO_SLOT, FUND_SLOT, SUPPLIER_SLOT, Member
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading
from backend.market.certificate import outside_cost_nano
from backend.market.pool import ClearedInterval
from backend.market.pricing import savings_share_steps
from backend.market.problem import Market

from .clearing_encoding import pack_clearing, pack_prices, tariff_hash
from .encoding import (
    EMPTY,
    BatchHeader,
    LedgerLeaf,
    OracleReport,
    derive_salt,
    pack_readings,
    readings_leaf,
    trade_leaf,
)
from .statement import statement_amount_nano
from .trees import TRADES_DEPTH, PositionalTree, SumNode, SumTree, depth_for


@dataclass(frozen=True, slots=True)
class MemberPeriod:
    """One member in one period: what the oracle reported of it.

    Attributes:
        member: who.
        readings: of each interval; who traded before delivery has its sales added to the import and its purchases to the export,
            so that what is left is what it deviated by.
        salt: of its leaf.
        traded_nano: what its trades brought (negative: cost); None if nobody could trade.
    """

    member: Member
    readings: tuple[IntervalReading, ...]
    salt: bytes
    traded_nano: int | None = None

    def packed(self) -> bytes:
        """The readings vector."""
        return pack_readings(self.readings, self.traded_nano)

    def leaf(self) -> bytes:
        """Leaf in the readings tree."""
        return readings_leaf(self.member.slot, self.packed(), self.salt)


@dataclass(frozen=True, slots=True)
class SettledTrade:
    """One trade of the period with its place in the trades tree."""

    interval: int
    seller_slot: int
    buyer_slot: int
    energy_wh: int
    fee_nano: int
    salt: bytes

    def leaf(self) -> bytes:
        """Leaf in the trades tree."""
        return trade_leaf(
            self.interval,
            self.seller_slot,
            self.buyer_slot,
            self.energy_wh,
            self.fee_nano,
            self.salt,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """A period's batch, complete.

    Attributes:
        header: what the chain stores the hash of; `bundle_hash` included.
        report: the oracle's report.
        signatures: of the oracle's signers, in ascending order of their addresses.
        clearing: group totals and certificates.
        packed_prices: discount and premium per interval.
        due_nano: by slot what the period comes to; what the leaves book is less what the corrected batch has settled.
        leaves: the ledger's accounts by slot.
        ledger: their tree.
        readings_tree: the oracle's tree.
        member_periods: by slot.
        trades: in the order of their positions in the trades tree.
    """

    header: BatchHeader
    report: OracleReport
    signatures: tuple[bytes, ...]
    clearing: bytes
    packed_prices: bytes
    due_nano: Mapping[int, int]
    leaves: Mapping[int, LedgerLeaf]
    ledger: SumTree
    readings_tree: PositionalTree
    member_periods: Mapping[int, MemberPeriod]
    trades: tuple[SettledTrade, ...]
    trades_tree: PositionalTree

    @property
    def cumulative_nano(self) -> dict[int, int]:
        """By slot what has been settled up to and with this batch."""
        return {slot: leaf.cumulative_nano for slot, leaf in self.leaves.items()}

    @property
    def root_children(self) -> tuple[SumNode, SumNode]:
        """The two nodes below the ledger's root."""
        return self.ledger.root_children

    def with_bundle_hash(self, bundle_hash: bytes) -> Batch:
        """The same batch naming the bundle that was published."""
        return replace(self, header=replace(self.header, bundle_hash=bundle_hash))


@dataclass(frozen=True, slots=True)
class LedgerState:
    """The accounts of a batch, which is all that a proof of one needs; see `Batch`."""

    header: BatchHeader
    leaves: Mapping[int, LedgerLeaf]
    ledger: SumTree


@dataclass(frozen=True, slots=True)
class SettledBatch:
    """What later batches need of an earlier one, when the rest of it is no longer at hand; see `Batch`."""

    header: BatchHeader
    cumulative_nano: Mapping[int, int]
    due_nano: Mapping[int, int]


def interval_steps(cleared: ClearedInterval, share_millionths: int) -> tuple[int, int]:
    """Discount and premium of a cleared interval, nano per Wh."""
    problem = cleared.problem
    cost = cleared.supplier_nano + cleared.fees_nano
    return savings_share_steps(
        outside_cost_nano(problem) - cost,
        sum(problem.demand_wh),
        sum(problem.supply_wh),
        share_millionths,
    )


def build_batch(
    *,
    market: Market,
    share_millionths: int,
    period: Period,
    report: OracleReport,
    signatures: Sequence[bytes],
    member_periods: Sequence[MemberPeriod],
    cleared: Sequence[ClearedInterval],
    genesis: bytes,
    previous: Batch | SettledBatch | None,
    corrected: Batch | SettledBatch | None = None,
    active_slots: Iterable[int] = (),
    salt_key: bytes,
) -> Batch:
    """Builds the batch; its bundle hash is still zero (`bundle.publish` sets it).

    Args:
        market: the community's market.
        share_millionths: the buyers' share of the savings.
        period: the period.
        report: the oracle's report of it.
        signatures: its signatures.
        member_periods: what the oracle reported, in slot order.
        cleared: the period's intervals in order; members in the same order as `member_periods`.
        genesis: what the first batch names as the one before it.
        previous: the newest batch, or None for the first.
        corrected: the batch of the same period and the version before, for a correction.
        active_slots: accounts that take part in the period; those that are not in `member_periods` get a leaf with no amount,
            because an account that takes part and has no leaf overturns the batch.
        salt_key: the coordinator's secret for ledger and trade salts.
    """
    steps = [interval_steps(interval, share_millionths) for interval in cleared]
    due = {
        SUPPLIER_SLOT: sum(interval.supplier_nano for interval in cleared),
        DSO_SLOT: sum(interval.fees_nano for interval in cleared),
        FUND_SLOT: sum(interval.dust_nano for interval in cleared),
    }
    for item in member_periods:
        group = market.groups[market.group_index[item.member.node, item.member.tariff_class]]
        due[item.member.slot] = statement_amount_nano(item.readings, steps, group, item.traded_nano)
    # INVARIANT: money is neither made nor lost.
    assert sum(due.values()) == 0
    settled = corrected.due_nano if corrected else {}
    amounts = {
        slot: due.get(slot, 0) - settled.get(slot, 0) for slot in due.keys() | settled.keys()
    }
    carried = previous.cumulative_nano if previous else {}
    readings_leaves = {item.member.slot: item.leaf() for item in member_periods}

    # Accounts that are no longer active keep their cumulative amount.
    leaves = {}
    for slot in sorted({*amounts, *carried, *active_slots}):
        amount = amounts.get(slot, 0)
        leaves[slot] = LedgerLeaf(
            slot=slot,
            amount_nano=amount,
            cumulative_nano=carried.get(slot, 0) + amount,
            readings_commitment=readings_leaves.get(slot, EMPTY),
            salt=derive_salt(salt_key, "ledger", period.number, report.version, slot),
        )
    ledger = SumTree(leaves)
    assert ledger.root.amount_nano == 0 and ledger.root.cumulative_nano == 0
    trades = _settled_trades(period, report.version, member_periods, cleared, salt_key)
    trades_tree = PositionalTree(
        {position: trade.leaf() for position, trade in enumerate(trades)}, TRADES_DEPTH
    )
    readings_tree = PositionalTree(readings_leaves)
    packed_prices = pack_prices(steps)
    head = previous.header if previous else None
    header = BatchHeader(
        number=head.number + 1 if head else 1,
        period=period.number,
        version=report.version,
        first_interval=period.first_interval,
        interval_count=period.interval_count,
        next_period=head.next_period if head and corrected else period.number + 1,
        next_interval=head.next_interval if head and corrected else period.end_interval,
        previous_batch=head.hash() if head else genesis,
        corrected_batch=corrected.header.hash() if corrected else EMPTY,
        report_hash=report.struct_hash(),
        readings_root=report.readings_root,
        tariff_hash=tariff_hash(market, share_millionths),
        prices_hash=keccak(packed_prices),
        ledger_root=ledger.root.hash,
        ledger_depth=ledger.depth,
        trades_root=trades_tree.root,
        bundle_hash=EMPTY,
        supplier_nano=due[SUPPLIER_SLOT],
        network_fees_nano=due[DSO_SLOT],
        fund_nano=due[FUND_SLOT],
    )
    return Batch(
        header=header,
        report=report,
        signatures=tuple(signatures),
        clearing=pack_clearing([(interval.problem, interval.solution) for interval in cleared]),
        packed_prices=packed_prices,
        due_nano=due,
        leaves=leaves,
        ledger=ledger,
        readings_tree=readings_tree,
        member_periods={item.member.slot: item for item in member_periods},
        trades=trades,
        trades_tree=trades_tree,
    )


def with_ledger(batch: Batch, leaves: Mapping[int, LedgerLeaf]) -> Batch:
    """The same batch with other leaves: how a lie about a bill is made for demonstrations and tests."""
    ledger = SumTree(leaves, max(batch.header.ledger_depth, depth_for(leaves)))
    return replace(
        batch,
        leaves=dict(leaves),
        ledger=ledger,
        header=replace(batch.header, ledger_root=ledger.root.hash, ledger_depth=ledger.depth),
    )


def shift_money(batch: Batch, from_slot: int, to_slot: int, amount_nano: int) -> Batch:
    """The batch with money moved from one account's bill to another's: sums still zero, two leaves false."""
    leaves = dict(batch.leaves)
    for slot, sign in ((from_slot, -1), (to_slot, 1)):
        leaf = leaves[slot]
        leaves[slot] = replace(
            leaf,
            amount_nano=leaf.amount_nano + sign * amount_nano,
            cumulative_nano=leaf.cumulative_nano + sign * amount_nano,
        )
    return with_ledger(batch, leaves)


def _settled_trades(
    period: Period,
    version: int,
    member_periods: Sequence[MemberPeriod],
    cleared: Sequence[ClearedInterval],
    salt_key: bytes,
) -> tuple[SettledTrade, ...]:
    trades: list[SettledTrade] = []
    for index, interval in enumerate(cleared):
        for trade in interval.trades:
            trades.append(
                SettledTrade(
                    interval=period.first_interval + index,
                    seller_slot=member_periods[trade.seller].member.slot,
                    buyer_slot=member_periods[trade.buyer].member.slot,
                    energy_wh=trade.energy_wh,
                    fee_nano=trade.fee_nano,
                    salt=derive_salt(salt_key, "trade", period.number, version, len(trades)),
                )
            )
    return tuple(trades)
