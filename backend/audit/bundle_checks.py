"""Everything that a bundle shows of a batch: the public part, then readings, amounts, proofs and trades of whoever is shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .amounts import Steps, due_nano, group_totals, outside_nano
from .bundle_files import BundleFiles, NotShown
from .bundle_format import Personal, Public, Series, Unreadable, read_personal, read_public
from .facts import CommunityFacts, SubmittedBatch
from .forward_checks import BookFound, check_forward
from .hashing import (
    ACCOUNT_LEVELS,
    NOTHING,
    TRADE_LEVELS,
    ZERO,
    dense_root,
    keccak,
    ledger_children,
    ledger_leaf,
    ledger_node,
    ledger_root_above,
    plain_root_above,
    readings_leaf,
    split_sums,
)
from .intervals import AuditTariff, IntervalResults
from .statements import FULL, LINKED, PERSONAL, PUBLIC, S
from .tariff_words import TariffWords, tariff_words
from .trade_checks import Shown, check_all_trades, check_trades
from .verdict import Checks

_SUPPLIER, _DSO, _FUND = 0, 1, 2
_SHOWN = 5


@dataclass(frozen=True)
class Context:
    """What a batch's bundle is held against.

    Attributes:
        facts: the community.
        batch: as submitted.
        results: recomputed from its certificates.
        tariff: as submitted.
        only: slots to look at; None for all.
        books: trade books of the period, where members trade before delivery.
    """

    facts: CommunityFacts
    batch: SubmittedBatch
    results: IntervalResults
    tariff: AuditTariff
    only: frozenset[int] | None = None
    books: tuple[BookFound, ...] = ()

    def group_of(self, slot: int) -> int | None:
        """Number of a member's group; None for accounts without a meter and where the tariff has none."""
        member = self.facts.members.get(slot)
        return self.tariff.group_of(member["node"], member["tariffClass"]) if member else None


@dataclass(frozen=True)
class Recomputed:
    """What a batch's parts came to, for the batches that build on it.

    Attributes:
        amounts: by slot, as shown.
        cumulative: by slot, as shown.
        due: by slot what the period came to; a correction books less what was settled before.
        complete: whether these are all accounts.
    """

    amounts: dict[int, int] = field(default_factory=dict)
    cumulative: dict[int, int] = field(default_factory=dict)
    due: dict[int, int] = field(default_factory=dict)
    complete: bool = True


Parts = dict[int, Personal]


def check_bundle(
    files: BundleFiles, context: Context, checks: Checks
) -> tuple[str, Recomputed | None, int | None]:
    """Checks what is shown, and says of the rest why it could not be.

    Returns:
        The level reached (`chain`, `public`, `member`, `full`), what the parts came to, and which account got the fees of trades
        before delivery; None if not known.
    """
    number = context.batch.number
    try:
        data = files.public(number)
    except NotShown as reason:
        checks.unknown((*PUBLIC, *PERSONAL, *LINKED, *FULL), str(reason))
        check_forward(context, {}, checks, complete=False)
        return "chain", None, None
    try:
        public = read_public(data)
        words = tariff_words(public.data["tariff"])
    except Unreadable as error:
        checks.equal(S.BUNDLE_NAMED, keccak(data), bytes(context.batch.header["bundleHash"]))
        checks.add(S.READABLE, False, detail=f"public.json: {error}")
        checks.unknown((*PERSONAL, *LINKED, *FULL), "the public part cannot be read")
        check_forward(context, {}, checks, complete=False)
        return "chain", None, None
    _check_public(data, public, words, context, checks)
    parts, hidden, wrong = _parts(files, public, context, checks)
    if not parts:
        checks.unknown((*PERSONAL, *LINKED, *FULL), hidden)
        check_forward(context, {}, checks, complete=False)
        return "public", None, None
    found, shown, series = _check_parts(parts, public, words, context, checks)
    fee_slot = check_forward(context, series, checks, complete=not (hidden or wrong))
    if hidden or wrong:
        why = hidden or "a personal part is altered or cannot be read"
        checks.unknown(FULL, why)
        return ("member" if hidden else "full"), replace(found, complete=False), fee_slot
    _check_all(parts, shown, public, context, checks)
    return "full", found, fee_slot


def _check_public(
    data: bytes, public: Public, words: TariffWords, context: Context, checks: Checks
) -> None:
    batch, header, given = context.batch, context.batch.header, public.data
    checks.equal(S.BUNDLE_NAMED, keccak(data), bytes(header["bundleHash"]))
    checks.add(S.READABLE, True)
    facts, submission, ledger = context.facts, batch.submission, batch.submission["ledger"]
    report = submission["report"]
    expected = {
        "chain_id": facts.chain_id,
        "clearing_house": facts.addresses["ClearingHouse"],
        "clearing": _hex(submission["clearing"]),
        "prices": _hex(context.results.prices),
        "period": {
            "number": header["period"],
            "version": header["version"],
            "batch_number": header["number"],
            "first_interval": header["firstInterval"],
            "interval_count": header["intervalCount"],
            "interval_minutes": facts.parameters["intervalSeconds"] // 60,
        },
        "report": {
            "readings_root": _hex(report["readingsRoot"]),
            "totals_hash": _hex(report["totalsHash"]),
            "config_digest": _hex(report["configDigest"]),
            "signatures": [_hex(item) for item in submission["signatures"]],
        },
        "ledger": {
            "depth": ledger["depth"],
            "left": _hex(ledger["left"]),
            "left_sums": _hex(ledger["leftSums"]),
            "right": _hex(ledger["right"]),
            "right_sums": _hex(ledger["rightSums"]),
        },
    }
    other = [name for name, value in expected.items() if given[name] != value]
    checks.add(
        S.SAME_AS_CHAIN, not other, count=len(expected), detail=f"differ: {', '.join(other)}"
    )
    raw = {name: _plain(submission["tariff"][name]) for name in words.submitted}
    wrong = [name for name, value in words.submitted.items() if raw[name] != value]
    checks.add(S.TARIFF_WORDS, not wrong, detail=f"differ: {', '.join(wrong)}")
    root = dense_root(public.trade_leaves, TRADE_LEVELS)
    checks.equal(S.TRADES_ROOT, root, bytes(header["tradesRoot"]))


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def _plain(value: object) -> object:
    return [bytes(item) for item in value] if isinstance(value, list | tuple) else value


def _parts(
    files: BundleFiles, public: Public, context: Context, checks: Checks
) -> tuple[Parts, str, bool]:
    """The personal parts that are shown and right, why others are not shown, and whether any is wrong."""
    wanted = set(public.personal_hashes)
    hidden = ""
    if context.only is not None:
        hidden = "only some members' parts were given"
        wanted &= context.only
        if not wanted:
            hidden = "the member given has no account in this batch"
    parts: Parts = {}
    absent, altered, unreadable = [], [], []
    for slot in sorted(wanted):
        try:
            data = files.personal(context.batch.number, slot)
        except NotShown as reason:
            absent.append(str(slot))
            hidden = f"no personal part of slots {', '.join(absent[:_SHOWN])}: {reason}"
            continue
        if keccak(data) != public.personal_hashes[slot]:
            altered.append(str(slot))
            continue
        try:
            parts[slot] = read_personal(data)
        except Unreadable as error:
            unreadable.append(f"slot {slot}: {error}")
    if len(absent) < len(wanted):
        checks.add(
            S.UNALTERED, not altered, count=len(parts),
            detail=f"altered: slots {', '.join(altered[:_SHOWN])}",
        )  # fmt: skip
        checks.add(
            S.PARTS_READABLE,
            not unreadable,
            count=len(parts),
            detail="; ".join(unreadable[:_SHOWN]),
        )
        if not parts:
            hidden = hidden or "no personal part is usable"
    return parts, hidden, bool(altered or unreadable)


def _check_parts(
    parts: Parts, public: Public, words: TariffWords, context: Context, checks: Checks
) -> tuple[Recomputed, Shown, dict[int, Series]]:
    """What every part shows by itself: what they come to, the trades, and the readings that are usable."""
    header, facts, tariff = context.batch.header, context.facts, context.tariff
    steps = Steps(context.results.steps)
    root = context.batch.submission["ledger"]
    children = [(bytes(root[side]), *split_sums(root[f"{side}Sums"])) for side in ("left", "right")]
    strangers, unsigned, unproved, worse = [], [], [], []
    due = {
        _SUPPLIER: context.results.supplier,
        _DSO: context.results.fees,
        _FUND: context.results.fund,
    }
    shown: dict[int, Series] = {}
    for slot, part in parts.items():
        place = (
            facts.chain_id, facts.addresses["ClearingHouse"], header["number"], header["period"],
            header["version"], slot,
        )  # fmt: skip
        member = facts.members.get(slot)
        if part.place != place or not _same_group(part, member, words):
            strangers.append(str(slot))
        commitment = ZERO
        if part.series is not None:
            commitment = readings_leaf(slot, part.series.packed, part.readings_salt)
            missing = ACCOUNT_LEVELS - len(part.readings_proof)
            path = (*part.readings_proof, *(ZERO,) * missing)
            if plain_root_above(commitment, slot, path) != bytes(header["readingsRoot"]):
                unsigned.append(str(slot))
            group, series = context.group_of(slot), part.series.of_period(len(steps))
            if len(series.quality) != len(steps):
                unsigned.append(f"{slot} ({len(series.quality)} intervals)")
            elif group is not None:
                outside = tariff.groups[group][:2]
                shown[slot] = series
                pooled = due_nano(series, steps, outside)
                due[slot] = pooled + series.traded_nano
                if pooled < outside_nano(series, outside):
                    worse.append(str(slot))
        depth = root["depth"]
        digest = ledger_leaf(slot, part.amount, part.cumulative, commitment, part.ledger_salt)
        path_up = (part.ledger_proof + (NOTHING,) * depth)[:depth]
        above = ledger_root_above((digest, part.amount, part.cumulative), slot, path_up)
        if (
            slot >> depth
            or len(part.ledger_proof) > depth
            or above != (ledger_node(children[0], children[1]), 0, 0)
        ):
            unproved.append(str(slot))
    many = len(parts)
    checks.add(
        S.OF_THIS_BATCH, not strangers, count=many, detail=f"slots {', '.join(strangers[:_SHOWN])}"
    )
    checks.add(
        S.READINGS_SIGNED,
        not unsigned,
        count=len(shown),
        detail=f"slots {', '.join(unsigned[:_SHOWN])}",
    )
    checks.add(
        S.LEDGER_PROOF, not unproved, count=many, detail=f"slots {', '.join(unproved[:_SHOWN])}"
    )
    checks.add(
        S.NOT_WORSE, not worse, count=len(shown), detail=f"slots {', '.join(worse[:_SHOWN])}"
    )
    trades = check_trades(parts, shown, public, context, checks)
    amounts = {slot: part.amount for slot, part in parts.items()}
    cumulative = {slot: part.cumulative for slot, part in parts.items()}
    return Recomputed(amounts, cumulative, due), trades, shown


def _same_group(part: Personal, member: dict[str, object] | None, words: TariffWords) -> bool:
    """Whether a part names the node and tariff class that the member was admitted with."""
    if part.group is None or member is None:
        return part.group is None
    node, kind = part.group
    return (
        node in words.nodes
        and kind in words.classes
        and (words.nodes.index(node), words.classes.index(kind))
        == (member["node"], member["tariffClass"])
    )


def _check_all(
    parts: Parts, shown: Shown, public: Public, context: Context, checks: Checks
) -> None:
    """What only all parts together show."""
    header, facts = context.batch.header, context.facts
    results, tariff = context.results, context.tariff
    active = {slot for slot in facts.members if facts.is_active(slot, header["period"])}
    readings = {
        slot: part.series.of_period(len(results.intervals))
        for slot, part in parts.items()
        if part.series is not None
    }
    groups = {slot: context.group_of(slot) for slot in readings}
    billed = {slot for slot in active if context.group_of(slot) is not None}
    checks.equal(S.MEMBERS_METERED, sorted(readings), sorted(billed))
    left_out = sorted(active - parts.keys())
    checks.add(S.NOBODY_LEFT_OUT, not left_out, count=len(parts), detail=f"slots {left_out}")

    fitting = {
        slot: series
        for slot, series in readings.items()
        if len(series.quality) == len(results.intervals)
    }
    demand, supply = group_totals(fitting, groups, len(results.intervals), len(tariff.groups))
    wrong = [
        f"interval {index}, group {group}"
        for index, interval in enumerate(results.intervals)
        for group, sides in enumerate(interval.groups)
        if (demand[group, index], supply[group, index]) != sides[:2]
    ]
    checks.add(
        S.TOTALS, not wrong, count=len(results.intervals) * len(tariff.groups),
        detail="; ".join(wrong[:_SHOWN]),
    )  # fmt: skip
    leaves = {}
    for slot, part in parts.items():
        commitment = ZERO
        if part.series is not None:
            commitment = readings_leaf(slot, part.series.packed, part.readings_salt)
        digest = ledger_leaf(slot, part.amount, part.cumulative, commitment, part.ledger_salt)
        leaves[slot] = (digest, part.amount, part.cumulative)
    ledger = context.batch.submission["ledger"]
    if max(leaves) >> ledger["depth"]:
        checks.add(S.LEDGER_TREE, False, detail=f"slot {max(leaves)} is outside the tree")
    else:
        checks.equal(
            S.LEDGER_TREE,
            ledger_children(leaves, ledger["depth"]),
            (
                (bytes(ledger["left"]), *split_sums(ledger["leftSums"])),
                (bytes(ledger["right"]), *split_sums(ledger["rightSums"])),
            ),
        )
    check_all_trades(shown, public, context, checks)
