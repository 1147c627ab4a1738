"""What the trade books show, where members trade before delivery: first each book by itself, then what a batch made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from .bundle_files import BundleFiles, NotShown
from .bundle_format import MISSING, Series, Unreadable
from .chain_reader import ChainReader
from .disputes import Challenge
from .facts import Commitment, CommunityFacts, SubmittedBatch, meeting
from .forward import (
    ROOT_BYTES,
    Book,
    BookTrade,
    ForwardTrade,
    Traded,
    false_side,
    proved,
    read_book,
    recovers_to,
    standing,
)
from .intervals import AuditTariff
from .statements import FORWARD_PERSONAL, S
from .verdict import Checks

if TYPE_CHECKING:
    from .bundle_checks import Context

_FIRST_MEMBER = 3
_SHOWN = 5


@dataclass(frozen=True)
class Forged:
    """A trade that a side never signed, with its place in the book.

    Attributes:
        one: the trade.
        slot: the first side that did not sign.
        proof: siblings upwards.
        is_key: whether the side's account is a key, whose answer cannot change.
    """

    one: BookTrade
    slot: int
    proof: tuple[bytes, ...]
    is_key: bool

    def strike(self, commitment: Commitment) -> Challenge:
        """The transaction that strikes it out."""
        one = self.one
        signed = (tuple(one.trade), one.seller_signature, one.buyer_signature, one.salt)
        return Challenge(
            f"trade of {one.trade.energy_wh} Wh in interval {one.trade.interval}: slot {self.slot} never signed it",
            "strike",
            (commitment.first_interval, signed, one.position, list(self.proof)),
            contract="TradeBook",
        )


@dataclass(frozen=True)
class BookFound:
    """What is known of a committed book.

    Attributes:
        commitment: on chain.
        hidden: why nobody's trades are known; empty if some are.
        fault: what is wrong with what was shown; empty if nothing is.
        slots: whose trades are all known; None for everybody's.
        trades: signed by both sides, not struck out, of the commitment's intervals, in the order of their positions.
        forged: the ones that a side never signed and nobody struck out.
        count: trades shown.
    """

    commitment: Commitment
    hidden: str = ""
    fault: str = ""
    slots: frozenset[int] | None = None
    trades: tuple[ForwardTrade, ...] = ()
    forged: tuple[Forged, ...] = ()
    count: int = 0


def commitments_of(reader: ChainReader, batches: Sequence[SubmittedBatch]) -> list[Commitment]:
    """The books that some batches settle."""
    ordered = sorted(reader.commitments(), key=lambda item: item.first_interval)
    found = {
        item.first_interval: item
        for batch in batches
        for item in meeting(ordered, batch, lambda item: item)
    }
    return list(found.values())


def find_books(
    reader: ChainReader,
    files: BundleFiles,
    commitments: Iterable[Commitment],
    only: frozenset[int] | None = None,
) -> list[BookFound]:
    """Looks at each book: the whole one, or the trades of some accounts.

    Args:
        reader: the chain.
        files: with the books.
        commitments: which.
        only: accounts to look at where the whole book is not shown; None for none.
    """
    accounts = {slot: str(member["account"]) for slot, member in reader.members.items()}

    def signs(account: str, digest: bytes, signature: bytes) -> bool:
        return recovers_to(digest, signature, account) or reader.consents(
            account, digest, signature
        )

    def is_key(slot: int) -> bool:
        return slot not in accounts or not reader.code(accounts[slot])

    found = []
    for commitment in commitments:
        try:
            books, slots = _shown(files, commitment, only)
        except NotShown as reason:
            found.append(BookFound(commitment, hidden=str(reason)))
            continue
        except Unreadable as error:
            name = f"trade book of interval {commitment.first_interval}"
            found.append(BookFound(commitment, fault=f"{name}: {error}"))
            continue
        found.append(_examine(reader, commitment, books, slots, accounts, signs, is_key))
    return found


def _shown(
    files: BundleFiles, commitment: Commitment, only: frozenset[int] | None
) -> tuple[list[Book], frozenset[int] | None]:
    """The book, or what some accounts have of it, and whose trades these are; None for everybody's."""
    first = commitment.first_interval
    try:
        return [read_book(files.book(first))], None
    except NotShown:
        if not only:
            raise
    books = [read_book(files.own_trades(first, slot)) for slot in sorted(only)]
    if [book.slot for book in books] != sorted(only):
        raise Unreadable("somebody else's trades")
    return books, only


def _examine(
    reader: ChainReader,
    commitment: Commitment,
    books: Sequence[Book],
    slots: frozenset[int] | None,
    accounts: Mapping[int, str],
    signs: Callable[[str, bytes, bytes], bool],
    is_key: Callable[[int], bool],
) -> BookFound:
    place = (reader.chain_id, reader.address("TradeBook"))
    name = f"trade book of interval {commitment.first_interval}"
    for book in books:
        if (book.place[0], book.place[1].lower()) != (place[0], place[1].lower()) or (
            (book.first_interval, book.interval_count)
            != (commitment.first_interval, commitment.interval_count)
        ):
            return BookFound(commitment, fault=f"{name}: it is another's")
        if book.slot is None and book.root()[:ROOT_BYTES] != commitment.root[:ROOT_BYTES]:
            return BookFound(
                commitment, fault=f"{name}: it has another root than the one committed"
            )
        strangers = [
            str(one.position)
            for one in book.trades
            if book.slot is not None
            and (book.slot not in one.trade[1:3] or not proved(one, commitment.root))
        ]
        if strangers:
            shown = ", ".join(strangers[:_SHOWN])
            return BookFound(commitment, fault=f"{name}: positions {shown} are not in it so")
    # Two members' trades with each other are in both their files.
    by_position = {one.position: (one, book) for book in books for one in book.trades}
    trades: list[ForwardTrade] = []
    forged: list[Forged] = []
    for position in sorted(by_position.keys() - commitment.struck):
        one, book = by_position[position]
        side = false_side(one, place, accounts, signs)
        if side is not None:
            proof = one.proof or book.proof(position)
            forged.append(Forged(one, side, proof, is_key(side)))
        elif 0 <= one.trade.interval - commitment.first_interval < commitment.interval_count:
            trades.append(one.trade)
    return BookFound(commitment, "", "", slots, tuple(trades), tuple(forged), len(by_position))


def check_fee_account(fee_slots: Sequence[int], checks: Checks) -> None:
    """Whether the fees of trades went to one account in all periods, and to which; nothing where there were none.

    Args:
        fee_slots: of the periods in which there were fees.
        checks: told the outcome.
    """
    if fee_slots:
        checks.add(
            f"the network fees of trades before delivery go to one account, slot {fee_slots[0]}",
            set(fee_slots) == {fee_slots[0]},
            count=len(fee_slots),
            detail=f"slots {sorted(set(fee_slots))}",
        )


def check_trade_book(
    reader: ChainReader, commitments: Sequence[Commitment], checks: Checks
) -> None:
    """What the chain shows of the trade book by itself.

    Args:
        reader: the chain.
        commitments: the ones that are looked at.
        checks: told every outcome; nothing where the community has no trade book.
    """
    if not reader.trade_books:
        return
    if len(reader.trade_books) > 1:
        checks.add(
            "the community has one trade book",
            None,
            detail=f"which one the oracle's signers take cannot be told: {', '.join(reader.trade_books)}",
        )
    strangers = [
        getter
        for getter, part in (
            ("clearingHouse", "ClearingHouse"),
            ("registry", "MemberRegistry"),
            ("authority", "AccessManager"),
        )
        if reader.ask("TradeBook", getter) != reader.address(part)
    ]
    checks.add(
        "the trade book is of this community", not strangers, count=3, detail=", ".join(strangers)
    )
    gate, seconds = reader.ask("TradeBook", "gateSeconds"), reader.parameters["intervalSeconds"]
    late = [
        f"interval {item.first_interval}, committed at {item.committed_at}"
        for item in commitments
        if item.committed_at + gate > item.first_interval * seconds
    ]
    checks.add(
        f"every trade book was committed {gate} s before its first interval began",
        not late,
        count=len(commitments),
        detail="; ".join(late[:_SHOWN]),
    )
    _check_records(reader, commitments, checks)
    pending = [item for item in commitments if reader.time() <= item.strike_until]
    owner, bond = reader.ask("TradeBook", "bond")
    needed = reader.ask("TradeBook", "bondWei")
    checks.add(
        "a bond stands behind every trade that can be struck out",
        not pending or bond >= needed,
        count=len(pending),
        detail=f"{bond} wei of {owner}, {needed} needed",
    )


def _check_records(reader: ChainReader, commitments: Sequence[Commitment], checks: Checks) -> None:
    """Whether the events are all there are, as far as the contract's state tells."""
    odd = []
    end = 0
    for item in reader.commitments():
        if item.first_interval < end:
            odd.append(f"interval {item.first_interval} twice")
        end = item.first_interval + item.interval_count
    if end != reader.ask("TradeBook", "nextInterval"):
        odd.append("no event of the newest")
    for item in commitments:
        root, until = reader.ask("TradeBook", "commitmentOf", item.first_interval)
        if (bytes(root)[:ROOT_BYTES], until) != (item.root[:ROOT_BYTES], item.strike_until):
            odd.append(f"interval {item.first_interval} has another root or time on record")
        odd += [
            f"interval {item.first_interval}: position {position} is not struck out on record"
            for position in item.struck
            if not reader.ask("TradeBook", "isStruck", item.first_interval, position)
        ]
    checks.add(
        "the node shows every trade book that was committed",
        not odd,
        count=len(commitments),
        detail="; ".join(odd[:_SHOWN]),
    )


def least_fee(
    facts: CommunityFacts, batch: SubmittedBatch, tariff: AuditTariff, seller: int, buyer: int
) -> int | None:
    """The tariff's fee between two slots in nano per Wh; None where one takes no part or there is no way."""
    ends = []
    for slot in (seller, buyer):
        member = facts.members.get(slot)
        if member is None or slot < _FIRST_MEMBER:
            return None
        group = tariff.group_of(member["node"], member["tariffClass"])
        if group is None or not facts.is_active(slot, batch.header["period"]):
            return None
        ends.append(tariff.groups[group])
    one, other = ends
    way = tariff.distances()[one[3]][other[3]]
    return None if way is None else one[2] + way + other[2]


def traded_in(
    facts: CommunityFacts, batch: SubmittedBatch, tariff: AuditTariff, books: Sequence[BookFound]
) -> Traded:
    """The trades of a batch's period that stand."""
    first, count = batch.header["firstInterval"], batch.header["intervalCount"]
    signed = [trade for book in books for trade in book.trades]
    fee = cache(partial(least_fee, facts, batch, tariff))
    return Traded(standing(signed, range(first, first + count), fee), first)


def traded_by_batch(
    reader: ChainReader,
    files: BundleFiles,
    batches: Sequence[SubmittedBatch],
    only: frozenset[int] | None,
) -> dict[int, Traded]:
    """By number of the batch the trades that stand, as far as the trade books are known."""
    facts, found = reader.facts(), {}
    for batch in batches:
        books = find_books(reader, files, commitments_of(reader, [batch]), only)
        hidden = any(book.hidden or book.fault for book in books)
        if books and batch.submission and not hidden:
            tariff = AuditTariff.unpack(dict(batch.submission["tariff"]))
            found[batch.number] = traded_in(facts, batch, tariff, books)
    return found


def check_forward(
    context: Context, series: Mapping[int, Series], checks: Checks, *, complete: bool
) -> int | None:
    """Whether what was settled is what the trade books say.

    Args:
        context: with the books.
        series: readings by slot, as far as they were shown.
        checks: told every outcome; nothing where nobody trades before delivery.
        complete: whether these are everybody's.

    Returns:
        The account that the trades' fees went to; None if there were none, or it is not known.
    """
    if "TradeBook" not in context.facts.addresses:
        without = [str(slot) for slot, item in series.items() if item.traded_nano]
        if without:
            detail = f"no trade book, but trades of slots {', '.join(without[:_SHOWN])}"
            checks.add(S.TRADED, False, detail=detail)
        return None
    books, submitted_at = context.books, context.batch.submitted_at
    early = [
        f"trades from interval {item.commitment.first_interval} on until {item.commitment.strike_until}"
        for item in books
        if submitted_at <= item.commitment.strike_until
    ]
    checks.add(S.BOOKS_CLOSED, not early, count=len(books), detail="; ".join(early[:_SHOWN]))
    hidden = next((item.hidden for item in books if item.hidden), "")
    faults = [item.fault for item in books if item.fault]
    forged = [
        f"slot {one.slot} did not sign position {one.one.position} of interval {item.commitment.first_interval}"
        for item in books
        for one in item.forged
        # A contract's answer may change after the fact.
        if one.is_key
    ]
    if books:
        _tell(S.BOOKS, faults, hidden, len(books), checks)
        _tell(S.BOOKS_SIGNED, forged, hidden, sum(item.count for item in books), checks)
    fee_slot = None
    if hidden or faults or not series:
        why = hidden or "; ".join(faults[:1]) or "needs the members' readings"
        checks.unknown(FORWARD_PERSONAL, why)
    else:
        fee_slot = _check_readings(context, series, checks, complete=complete)
    if complete:
        total = sum(item.traded_nano for item in series.values())
        checks.equal(S.TRADED_SUM, total, 0)
    else:
        checks.unknown((S.TRADED_SUM,), "needs every member's readings")
    return fee_slot


def _tell(what: str, wrong: Sequence[str], hidden: str, count: int, checks: Checks) -> None:
    passed = False if wrong else None if hidden else True
    checks.add(what, passed, count=count, detail="; ".join(wrong[:_SHOWN]) or hidden)


def _check_readings(
    context: Context, series: Mapping[int, Series], checks: Checks, *, complete: bool
) -> int | None:
    """What each member's trades brought, and that its readings have them in; returns the account that got the fees."""
    traded = traded_in(context.facts, context.batch, context.tariff, context.books)
    whole = all(item.slots is None for item in context.books)
    known = set(series)
    for item in context.books:
        known &= known if item.slots is None else item.slots
    wrong, unknown = [], "" if known == set(series) else "only some members' trades were shown"
    fee_slot = _fee_slot(traded, series) if complete and whole else None
    for slot in sorted(known):
        found, expected = series[slot].traded_nano, traded.brought(slot, fee_slot)
        may_get_fees = not complete and found > 0 and slot not in traded.energy_wh
        if found == expected or (may_get_fees and whole and found == traded.fees_nano):
            continue
        if may_get_fees and not whole:
            unknown = f"slot {slot} may be the account that the fees go to; only whole trade books show it"
        else:
            wrong.append(f"slot {slot}: {found}, by the books {expected} nano")
    _tell(S.TRADED, wrong, unknown, len(known), checks)
    missing = [
        f"slot {slot}, interval {index}"
        for slot in sorted(known)
        for index, (sold, bought) in traded.energy_wh.get(slot, {}).items()
        if series[slot].quality[index] == MISSING
        or series[slot].import_wh[index] < sold
        or series[slot].export_wh[index] < bought
    ]
    _tell(S.TRADED_ENERGY, missing, unknown, len(known), checks)
    return fee_slot


def _fee_slot(traded: Traded, series: Mapping[int, Series]) -> int | None:
    """The account that the fees go to, which only the signers name: it trades nothing and gets all of them."""
    for slot in sorted(series):
        if slot not in traded.energy_wh and series[slot].traded_nano == traded.fees_nano != 0:
            return slot
    return None
