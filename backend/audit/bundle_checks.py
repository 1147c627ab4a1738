"""Everything that the bundle shows of a batch: readings, amounts, balances, trades."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from .chain_reader import ChainReader, SubmittedBatch
from .hashing import (
    ACCOUNT_LEVELS,
    TRADE_LEVELS,
    ZERO,
    from_hex,
    ledger_children,
    ledger_leaf,
    plain_root,
    readings_leaf,
    split_sums,
    tagged,
)
from .intervals import AuditTariff, IntervalResults
from .verdict import Checks

_SUPPLIER, _DSO, _FUND = 0, 1, 2
_MISSING = 2
FROM_BUNDLE = "members' readings, amounts, balances and trades follow from the bundle"


@dataclass(frozen=True)
class Context:
    """What a batch's bundle is held against.

    Attributes:
        reader: the chain, for members.
        batch: as submitted.
        results: recomputed from its certificates.
        tariff: as submitted.
        before: cumulative amounts by slot in the batch before, or None if they are not known.
        settled: by slot what the corrected batch's period came to; empty if the batch corrects none, None if not known.
    """

    reader: ChainReader
    batch: SubmittedBatch
    results: IntervalResults
    tariff: AuditTariff
    before: dict[int, int] | None
    settled: dict[int, int] | None

    def group_of(self, slot: int) -> int | None:
        """Number of a member's group; None for accounts without a meter and where the tariff has none."""
        member = self.reader.members[slot]
        return self.tariff.group_of(member["node"], member["tariffClass"])


@dataclass(frozen=True)
class Recomputed:
    """What a batch's bundle came to.

    Attributes:
        cumulative: amounts by slot since the community began.
        due: by slot what the period came to; a correction books less what was settled before.
    """

    cumulative: dict[int, int]
    due: dict[int, int]


Parts = dict[int, dict[str, Any]]
Readings = dict[int, list[tuple[int, int, int]]]


def check_bundle(folder: Path, context: Context, checks: Checks) -> Recomputed | None:
    """Everything that the full bundle shows; None if it cannot be known."""
    if not (folder / "public.json").is_file():
        checks.add(FROM_BUNDLE, None, detail=f"no public.json in {folder}")
        return None
    try:
        return _check_bundle(folder, context, checks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        checks.add("the bundle can be read", False, detail=f"{type(error).__name__}: {error}")
        return None


def _check_bundle(folder: Path, context: Context, checks: Checks) -> Recomputed | None:
    batch = context.batch
    header = batch.header
    public_bytes = (folder / "public.json").read_bytes()
    checks.equal(
        "the bundle is the one the batch names", keccak(public_bytes), bytes(header["bundleHash"])
    )
    public = json.loads(public_bytes)
    checks.equal(
        "bundle and chain have the same certificates",
        from_hex(public["clearing"]),
        bytes(batch.submission["clearing"]),
    )
    parts: Parts = {}
    absent, altered = [], []
    for text, expected in public["personal_hashes"].items():
        path = folder / "personal" / f"{text}.json"
        if not path.exists():
            absent.append(text)
        elif keccak(path.read_bytes()) != from_hex(expected):
            altered.append(text)
        else:
            parts[int(text)] = json.loads(path.read_bytes())
    checks.add(
        "every personal part is unaltered",
        not altered,
        count=len(parts),
        detail=f"altered: slots {', '.join(altered)}",
    )
    if absent:
        checks.add(
            FROM_BUNDLE,
            None,
            detail=f"no personal part of slots {', '.join(absent)}",
        )
        return None
    count = len(context.results.steps)
    vectors = {
        slot: split_readings(from_hex(part["readings"]), count)
        for slot, part in parts.items()
        if "readings" in part
    }
    readings = {slot: series for slot, (series, _) in vectors.items()}
    traded = {slot: nano for slot, (_, nano) in vectors.items()}
    _check_readings(parts, readings, context, checks)
    found = _check_amounts(parts, readings, traded, context, checks)
    _check_trades(parts, public, context, checks)
    return found


def split_readings(data: bytes, count: int) -> tuple[list[tuple[int, int, int]], int]:
    """Import, export, quality of each of `count` intervals, and what trades before delivery brought."""
    end = 16 * count
    traded = data[end:] if len(data) == end + 16 else b""
    series = unpack_readings(data[:end] if traded else data)
    return series, int.from_bytes(traded, "big", signed=True)


def unpack_readings(data: bytes) -> list[tuple[int, int, int]]:
    """Import, export, quality per interval."""
    return [
        (
            int.from_bytes(data[at : at + 7], "big"),
            int.from_bytes(data[at + 7 : at + 14], "big"),
            int.from_bytes(data[at + 14 : at + 16], "big"),
        )
        for at in range(0, len(data), 16)
    ]


def net_wh(reading: tuple[int, int, int]) -> int:
    """Export less import; nothing where the reading is missing."""
    return 0 if reading[2] == _MISSING else reading[1] - reading[0]


def _readings_leaf(slot: int, part: dict[str, Any]) -> bytes:
    return readings_leaf(slot, from_hex(part["readings"]), from_hex(part["readings_salt"]))


def due_nano(
    series: list[tuple[int, int, int]],
    steps: list[tuple[int, int]],
    prices: tuple[int, int],
) -> int:
    """What a member receives (negative: pays) over a period.

    Args:
        series: import, export, quality per interval.
        steps: discount and premium per interval.
        prices: outside import and export price.
    """
    due = 0
    for reading, (discount, premium) in zip(series, steps, strict=True):
        net = net_wh(reading)
        due += net * (prices[0] - discount) if net < 0 else net * (prices[1] + premium)
    return due


def _check_readings(parts: Parts, readings: Readings, context: Context, checks: Checks) -> None:
    header, results, tariff = context.batch.header, context.results, context.tariff
    leaves = {slot: _readings_leaf(slot, parts[slot]) for slot in readings}
    checks.equal(
        "the members' readings are the ones the oracle signed",
        plain_root(leaves, ACCOUNT_LEVELS),
        bytes(header["readingsRoot"]),
    )
    active = {
        slot
        for slot in context.reader.members
        if context.group_of(slot) is not None and context.reader.is_active(slot, header["period"])
    }
    checks.equal("every active member and nobody else is in it", set(readings), active)
    wrong = []
    for index, interval in enumerate(results.intervals):
        for group, (demand, supply, _, _) in enumerate(interval.groups):
            nets = [
                net_wh(series[index])
                for slot, series in readings.items()
                if context.group_of(slot) == group
            ]
            if (-sum(net for net in nets if net < 0), sum(net for net in nets if net > 0)) != (
                demand,
                supply,
            ):
                wrong.append(f"interval {index}, group {group}")
    checks.add(
        "the groups' totals are the sums of their members' readings",
        not wrong,
        count=len(results.intervals) * len(tariff.groups),
        detail="; ".join(wrong[:5]),
    )


def _check_amounts(
    parts: Parts, readings: Readings, traded: dict[int, int], context: Context, checks: Checks
) -> Recomputed:
    batch, before, settled = context.batch, context.before, context.settled
    results, tariff = context.results, context.tariff
    wrong, worse, broken = [], [], []
    due = {_SUPPLIER: results.supplier, _DSO: results.fees, _FUND: results.fund}
    for slot, series in readings.items():
        group = context.group_of(slot)
        if group is None:
            continue
        outside = tariff.groups[group][:2]
        pooled = due_nano(series, results.steps, outside)
        due[slot] = pooled + traded[slot]
        if pooled < due_nano(series, [(0, 0)] * len(series), outside):
            worse.append(str(slot))
    leaves = {}
    for slot, part in parts.items():
        amount, cumulative = part["amount_nano"], part["cumulative_nano"]
        expected = due.get(slot, 0) - (settled or {}).get(slot, 0)
        if amount != expected:
            wrong.append(f"slot {slot}: billed {amount}, due {expected} nano")
        if before is not None and cumulative != before.get(slot, 0) + amount:
            broken.append(f"slot {slot}: {before.get(slot, 0)} + {amount} is not {cumulative}")
        commitment = _readings_leaf(slot, part) if slot in readings else ZERO
        salt = from_hex(part["ledger_salt"])
        leaves[slot] = (
            ledger_leaf(slot, amount, cumulative, commitment, salt),
            amount,
            cumulative,
        )
    checks.add(
        "every account's amount is what readings, prices and certificates say, to the nano",
        None if settled is None else not wrong,
        count=len(parts),
        detail="; ".join(wrong[:5]) if settled is not None else "what was corrected is not known",
    )
    left_out = [
        str(slot)
        for slot in context.reader.members
        if context.reader.is_active(slot, batch.header["period"]) and slot not in parts
    ]
    checks.add(
        "no account that should be settled is left out",
        not left_out,
        count=len(parts),
        detail=f"slots {', '.join(left_out)}",
    )
    checks.add(
        "nobody pays more or earns less than outside",
        not worse,
        count=len(readings),
        detail=f"slots {', '.join(worse)}",
    )
    checks.add(
        "every balance continues the one before",
        None if before is None else not broken,
        count=len(parts),
        detail="; ".join(broken[:5]) or "the batch before could not be recomputed",
    )
    ledger = batch.submission["ledger"]
    checks.equal(
        "the ledger tree holds exactly these accounts",
        ledger_children(leaves, ledger["depth"]),
        (
            (bytes(ledger["left"]), *split_sums(ledger["leftSums"])),
            (bytes(ledger["right"]), *split_sums(ledger["rightSums"])),
        ),
    )
    return Recomputed({slot: part["cumulative_nano"] for slot, part in parts.items()}, due)


def _check_trades(parts: Parts, public: dict[str, Any], context: Context, checks: Checks) -> None:
    header, results, tariff = context.batch.header, context.results, context.tariff
    trades: dict[int, dict[str, Any]] = {}
    contradictions = []
    for slot, part in parts.items():
        for trade in part.get("trades", []):
            known = trades.setdefault(trade["position"], trade)
            if known != trade or slot not in (trade["seller_slot"], trade["buyer_slot"]):
                contradictions.append(str(trade["position"]))
    fields = ("interval", "seller_slot", "buyer_slot", "energy_wh", "fee_nano")
    leaves = {
        position: tagged(
            "peerwatt.trade.leaf.v1",
            ["uint256"] * 5 + ["bytes32"],
            [*(trade[name] for name in fields), from_hex(trade["salt"])],
        )
        for position, trade in trades.items()
    }
    checks.equal(
        "the trades are the ones the batch commits to",
        (plain_root(leaves, TRADE_LEVELS), [leaves[key] for key in sorted(leaves)]),
        (bytes(header["tradesRoot"]), [from_hex(leaf) for leaf in public["trade_leaves"]]),
    )
    checks.add(
        "sellers and buyers are shown the same trades",
        not contradictions,
        count=len(trades),
        detail=f"positions {', '.join(contradictions[:5])}",
    )
    distances = tariff.distances()
    sold: dict[tuple[int, int], int] = {}
    bought: dict[tuple[int, int], int] = {}
    wrong_fee, fees = [], 0
    for position, trade in trades.items():
        seller = context.group_of(trade["seller_slot"])
        buyer = context.group_of(trade["buyer_slot"])
        if seller is None or buyer is None:
            wrong_fee.append(str(position))
            continue
        index, energy = trade["interval"] - header["firstInterval"], trade["energy_wh"]
        sold[index, seller] = sold.get((index, seller), 0) + energy
        bought[index, buyer] = bought.get((index, buyer), 0) + energy
        way = distances[tariff.groups[seller][3]][tariff.groups[buyer][3]]
        rate = tariff.groups[seller][2] + (way or 0) + tariff.groups[buyer][2]
        fees += trade["fee_nano"]
        if way is None or trade["fee_nano"] != rate * energy:
            wrong_fee.append(str(position))
    matched_wrong = [
        f"interval {index}, group {group}"
        for index, interval in enumerate(results.intervals)
        for group, (_, _, matched_demand, matched_supply) in enumerate(interval.groups)
        if sold.get((index, group), 0) != matched_supply
        or bought.get((index, group), 0) != matched_demand
    ]
    checks.add(
        "trades add up to the matched energy of every group in every interval",
        not matched_wrong,
        count=len(trades),
        detail="; ".join(matched_wrong[:5]),
    )
    checks.add(
        "every trade pays the fee of its shortest path, and together what the DSO receives",
        not wrong_fee and fees == results.fees,
        count=len(trades),
        detail=f"positions {', '.join(wrong_fee[:5])}; sum {fees}, due {results.fees}",
    )
