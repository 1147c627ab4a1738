"""Two roads for trades before delivery: whatever books there are, platform and auditor agree on which trades stand and what they bring.

The books are as odd as a coordinator could make them: trades that a side never signed, struck out, twice, too cheap, of other intervals,
with strangers, with signatures that are almost one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

from eth_typing import Hash32
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.audit.batch_checks import judge
from backend.audit.bundle_files import BundleFiles
from backend.audit.facts import Commitment, CommunityFacts
from backend.audit.forward import (
    Traded,
    false_side,
    proved,
    read_book,
    recovers_to,
    standing,
)
from backend.audit.forward_checks import BookFound, find_books, traded_in
from backend.audit.intervals import AuditTariff
from backend.audit.statements import FORWARD_PERSONAL, S
from backend.domain.errors import ReadingRejected
from backend.domain.intervals import Period
from backend.market.electrical_distance_fees import network_pair_fees
from backend.operator.publication import publish_bundle
from backend.settlement.bundle import canonical_json
from backend.settlement.encoding import domain_separator, typed_data_digest
from backend.settlement.forward import (
    CommittedBook,
    ForwardTrade,
    SignedTrade,
    book_data,
    own_trades_data,
    standing_trades,
    with_trades,
)
from backend.settlement.trees import TRADES_DEPTH, PositionalTree
from oracle.signing import recover, sign_report
from tests.support.community import (
    FIRST_INTERVAL,
    FIRST_PERIOD,
    PAPER,
    Community,
    Energy,
    account,
    signer_keys,
)
from tests.support.strategies import communities

from .test_two_roads import LONG, facts_of, submitted

TRADE_BOOK = "0x" + "7B" * 20
DOMAIN = domain_separator(PAPER.chain_id, TRADE_BOOK)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
COMMITTED_AT = FIRST_INTERVAL * 900 - 3600
STRANGER = 40
VECTORS = Path(__file__).parents[1] / "vectors"


class OnPaper:
    """What `find_books` asks a chain, for a community on paper whose accounts are all keys."""

    def __init__(self, community: Community, facts: CommunityFacts) -> None:
        self.chain_id = PAPER.chain_id
        accounts = {item.slot: item.account for item in community.members}
        self.members = {
            slot: member | {"account": accounts.get(slot, "0x" + "00" * 20)}
            for slot, member in facts.members.items()
        }

    def address(self, name: str) -> str:
        assert name == "TradeBook"
        return TRADE_BOOK

    def code(self, address: str) -> bytes:
        return b""

    def consents(self, address: str, digest: bytes, signature: bytes) -> bool:
        return False


@dataclass(frozen=True)
class Books:
    """A period's books, as committed, and who gets the fees."""

    committed: tuple[CommittedBook, ...]
    fee_slot: int

    def commitments(self) -> list[Commitment]:
        return [
            Commitment(
                item.first_interval,
                item.interval_count,
                item.root[:27] + bytes(5),
                (item.first_interval + item.interval_count) * 900 + 1800,
                COMMITTED_AT,
                item.struck,
            )
            for item in self.committed
        ]

    def write(self, folder: Path, slots: tuple[int, ...] = ()) -> None:
        """The books into a folder of bundles; with `slots` only their own trades."""
        for item in self.committed:
            given_ = (
                item.trades,
                item.first_interval,
                item.interval_count,
                PAPER.chain_id,
                TRADE_BOOK,
            )
            path = folder / "trade-books" / f"{item.first_interval}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            for slot in slots:
                own = path.with_suffix("") / f"{slot}.json"
                own.parent.mkdir(exist_ok=True)
                own.write_bytes(canonical_json(own_trades_data(*given_, slot)))
            if not slots:
                path.write_bytes(canonical_json(book_data(*given_)))


def spoiled(signature: bytes, how: str) -> bytes:
    """A signature that is almost one."""
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    match how:
        case "high s":
            return r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])
        case "short":
            return signature[:-1]
        case "v":
            return signature[:-1] + bytes([v - 27])
        case "none":
            return b""
        case "long":
            return signature + b"\0"
        case "zero":
            return bytes(64) + b"\x1b"
    return signature


SPOILS = ("high s", "short", "v", "none", "long", "zero", "other")
FAULTS = st.sampled_from([""] * 12 + [*SPOILS, "stranger", "itself", "cheap", "early", "late"])
SEVERAL = communities(most_members=5, most_intervals=3).filter(lambda one: len(one[0].members) > 2)


@st.composite
def books(draw: st.DrawFn, community: Community, period: Period) -> Books:
    """One or two books for a period, which may begin before and end after it; the last member gets the fees and trades nothing."""
    fees = network_pair_fees(community.network).between
    *slots, fee_slot = (item.slot for item in community.members)
    node = {item.slot: item.node for item in community.members}
    first = period.first_interval - draw(st.integers(0, 1))
    committed = []
    for count in draw(st.sampled_from([[2], [1, 2], [4], [1], []])):
        trades = []
        for _ in range(draw(st.integers(1, 5))):
            seller, buyer = draw(st.sampled_from(list(permutations(slots, 2))))
            fault = draw(FAULTS)
            fee = fees(node[seller], node[buyer]) + draw(st.sampled_from([0, 1, 10**6]))
            earliest = max(0, period.first_interval - first)
            terms = ForwardTrade(
                first + draw(st.integers(earliest, max(earliest, count - 1))),
                seller,
                buyer,
                draw(st.sampled_from([1, 7, 1000, 2**34])),
                draw(st.integers(-(10**6), 10**6)),
                fee,
            )
            match fault:
                case "stranger":
                    terms = replace(terms, buyer_slot=STRANGER)
                case "itself":
                    terms = replace(terms, buyer_slot=seller)
                case "cheap":
                    terms = replace(
                        terms, fee_nano_per_wh=max(0, fees(node[seller], node[buyer]) - 1)
                    )
                case "early":
                    terms = replace(terms, interval=first - 1)
                case "late":
                    terms = replace(terms, interval=first + count)
            digest = Hash32(typed_data_digest(DOMAIN, terms.struct_hash()))
            wrong_side = draw(st.integers(0, 1))
            signatures: list[bytes] = []
            for side, slot in enumerate((terms.seller_slot, terms.buyer_slot)):
                how = fault if side == wrong_side else ""
                key = account("wallet", 99 if how == "other" else slot)
                signatures.append(spoiled(bytes(key.unsafe_sign_hash(digest).signature), how))
            salt = draw(st.binary(min_size=32, max_size=32))
            trades.append(SignedTrade(terms, signatures[0], signatures[1], salt))
        trades += draw(st.sampled_from([[], trades[:1]]))
        if draw(st.booleans()):
            trades.sort(key=lambda one: one.trade)
        tree = PositionalTree({place: one.leaf() for place, one in enumerate(trades)}, TRADES_DEPTH)
        struck = draw(st.sampled_from([frozenset[int](), frozenset({0}), frozenset({3})]))
        committed.append(CommittedBook(first, count, tree.root, tuple(trades), struck))
        first += count
    return Books(tuple(committed), fee_slot)


def platform_trades(community: Community, given_: Books, period: Period) -> list[ForwardTrade]:
    """Those that count in the period, on the platform's road."""
    fees = network_pair_fees(community.network).between
    member = {item.slot: item for item in community.members}

    def signed(slot: int, digest: bytes, signature: bytes) -> bool:
        try:
            return recover(digest, signature) == member[slot].account
        except ReadingRejected:
            return False

    def least_fee(seller: int, buyer: int) -> int | None:
        if seller not in member or buyer not in member or given_.fee_slot in (seller, buyer):
            return None
        return fees(member[seller].node, member[buyer].node)

    inside = range(period.first_interval, period.end_interval)
    return [
        trade
        for book in given_.committed
        for trade in standing_trades(book, DOMAIN, signed, least_fee)
        if trade.interval in inside
    ]


@dataclass(frozen=True)
class Settled:
    """A period on paper that was settled with its books."""

    community: Community
    period: Period
    books: Books
    folder: Path
    facts: CommunityFacts

    def found(self, only: frozenset[int] | None = None) -> list[BookFound]:
        reader: Any = OnPaper(self.community, self.facts)
        return find_books(reader, BundleFiles(self.folder), self.books.commitments(), only)


def settle(
    community: Community, energy: Energy, given_: Books, period: Period, folder: Path, **lie: Any
) -> tuple[Settled, Any]:
    """The period's batch, its bundle and books in the folder; `lie` are other trades than those that stand."""
    trades = lie.get("trades", platform_trades(community, given_, period))
    items = with_trades(community.member_periods(period, energy), period, trades, given_.fee_slot)
    report = community.report(period, items)
    signatures = [sign_report(key, PAPER.domain, report) for key in signer_keys()[:2]]
    batch = community.batch(period, report, signatures, items)
    publish_bundle(folder / "1", community.bundle(batch, period))
    given_.write(folder)
    facts = facts_of(community)
    facts = replace(facts, addresses=facts.addresses | {"TradeBook": TRADE_BOOK})
    found = Settled(community, period, given_, folder, facts)
    # Long after the trades could be struck out.
    return found, replace(
        submitted(community, batch, None), submitted_at=(FIRST_INTERVAL + LONG) * 900
    )


def period_of(energies: list[Energy]) -> Period:
    return Period(FIRST_PERIOD, FIRST_INTERVAL, len(next(iter(energies[0].values()))), 15)


def outcomes(done: Settled, batch: Any, only: frozenset[int] | None = None) -> Mapping[str, Any]:
    """By statement whether it is right; None for not checked."""
    ((_, _, _, checks),) = judge(
        done.facts, [batch], [batch], BundleFiles(done.folder), only, books=done.found(only)
    )
    return {check.what: (check.passed, check.detail) for check in checks.items}


@given(drawn=SEVERAL, data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_platform_and_auditor_agree_on_any_books(
    drawn: tuple[Community, list[Energy]], data: st.DataObject
) -> None:
    community, energies = drawn
    period = period_of(energies)
    given_ = data.draw(books(community, period))
    with tempfile.TemporaryDirectory() as scratch:
        done, batch = settle(community, energies[0], given_, period, Path(scratch))
        tariff = AuditTariff.unpack(dict(batch.submission["tariff"]))
        traded = traded_in(done.facts, batch, tariff, done.found())
        theirs = platform_trades(community, given_, period)
        assert [tuple(trade) for trade in traded.trades] == [
            (t.interval, t.seller_slot, t.buyer_slot, t.energy_wh, t.price_nano_per_wh, t.fee_nano_per_wh)
            for t in theirs
        ]  # fmt: skip
        found = outcomes(done, batch)
        wrong = {what: seen for what, seen in found.items() if seen[0] is not True}
        # A trade that a side never signed is told of, whether or not it counts.
        assert wrong.keys() <= {S.BOOKS_SIGNED}, wrong
        span = period.first_interval, period.interval_count
        forged = [book for book in done.found() if book.forged and book.commitment.meets(*span)]
        assert bool(forged) == bool(wrong)


@given(drawn=SEVERAL, data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_member_finds_the_same_from_its_own_trades(
    drawn: tuple[Community, list[Energy]], data: st.DataObject
) -> None:
    community, energies = drawn
    period = period_of(energies)
    given_ = data.draw(books(community, period))
    slots = tuple(item.slot for item in community.members)
    with tempfile.TemporaryDirectory() as scratch:
        done, batch = settle(community, energies[0], given_, period, Path(scratch))
        for path in (Path(scratch) / "trade-books").glob("*.json"):
            path.unlink()
        given_.write(done.folder, slots)
        for slot in slots:
            trades = {end for book in given_.committed for one in book.trades
                      for end in (one.trade.seller_slot, one.trade.buyer_slot)
                      if slot in (one.trade.seller_slot, one.trade.buyer_slot)}  # fmt: skip
            if given_.fee_slot in trades | {slot}:
                continue  # only whole books tell whose the fees are
            found = outcomes(done, batch, frozenset({slot}))
            for what in FORWARD_PERSONAL:
                assert found[what][0] is True, (slot, found[what])


@given(drawn=SEVERAL, data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_settlement_that_ignores_or_alters_a_trade_is_found(
    drawn: tuple[Community, list[Energy]], data: st.DataObject
) -> None:
    community, energies = drawn
    period = period_of(energies)
    given_ = data.draw(books(community, period))
    stand = platform_trades(community, given_, period)
    if not stand:
        return
    chosen = data.draw(st.sampled_from(stand))
    others = [one for one in stand if one is not chosen]
    changed = replace(chosen, energy_wh=chosen.energy_wh + 1)
    lie = data.draw(st.sampled_from([[], others, [*others, changed], [*stand, chosen]]))
    if not chosen.earned_nano_per_wh or not chosen.paid_nano_per_wh:
        return  # in which case energy alone may differ, and deviations can hide it
    with tempfile.TemporaryDirectory() as scratch:
        done, batch = settle(community, energies[0], given_, period, Path(scratch), trades=lie)
        honest = _brought(stand, given_.fee_slot)
        found = outcomes(done, batch)
        assert found[S.TRADED][0] is (_brought(lie, given_.fee_slot) == honest)
        assert found[S.TRADED_SUM][0] is True


def _brought(trades: list[ForwardTrade], fee_slot: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for one in trades:
        for slot, nano in (
            (one.seller_slot, one.energy_wh * one.earned_nano_per_wh),
            (one.buyer_slot, -one.energy_wh * one.paid_nano_per_wh),
            (fee_slot, one.energy_wh * one.fee_nano_per_wh),
        ):
            found[slot] = found.get(slot, 0) + nano
    return {slot: nano for slot, nano in found.items() if nano}


def test_the_auditor_s_own_code_agrees_with_the_vector() -> None:
    """The same file that holds everybody else to the protocol."""
    (case,) = json.loads((VECTORS / "forward-trades.json").read_text())["cases"]
    given_ = case["standing"]
    book = read_book(canonical_json(given_["book"]))
    assert book.root()[:27].hex() == given_["committed_root"][2:]
    accounts = {int(slot): account for slot, account in given_["accounts"].items()}

    def signs(account: str, digest: bytes, signature: bytes) -> bool:
        return recovers_to(digest, signature, account)

    def least_fee(seller: int, buyer: int) -> int | None:
        return (
            given_["least_fee_nano_per_wh"] if given_["fee_slot"] not in (seller, buyer) else None
        )

    whole = [
        one.trade
        for one in book.trades
        if one.position not in given_["struck"]
        and false_side(one, book.place, accounts, signs) is None
    ]
    inside = range(book.first_interval, book.first_interval + book.interval_count)
    found = standing(whole, inside, least_fee)
    assert found == [book.trades[position].trade for position in given_["standing"]]
    traded = Traded(found, book.first_interval)
    for slot, nano in given_["brought_nano"].items():
        assert traded.brought(int(slot), given_["fee_slot"]) == nano
    # Every path leads to the root, at its own place and no other.
    for position in range(len(book.trades)):
        one = replace(book.trades[position], proof=book.proof(position))
        assert proved(one, book.root())
        assert not proved(replace(one, position=position ^ 1), book.root())
