"""Trade books on a chain: what an audit says of honest ones, of books that are hidden or altered, and of a settlement that ignores them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.audit.auditor import Scope, audit
from backend.audit.bundle_checks import Context
from backend.audit.bundle_files import BundleFiles
from backend.audit.bundle_format import unpack_readings
from backend.audit.chain_reader import ChainReader
from backend.audit.community_checks import COVER
from backend.audit.forward_checks import BookFound, check_forward, find_books
from backend.audit.intervals import AuditTariff
from backend.audit.statements import FORWARD, FORWARD_FULL, FORWARD_PERSONAL, S
from backend.audit.verdict import AuditVerdict, Checks
from backend.audit.watch import WatchEvent, WatchState, Watchtower
from backend.chain.embedded import embedded_tester
from backend.operator.publication import publish_bundle
from backend.settlement.bundle import canonical_json
from backend.settlement.encoding import pack_readings
from backend.settlement.forward import SignedTrade, trade_book
from contracts.artifact import artifact
from contracts.bindings import constructor
from deploy.trade_book import deploy_trade_book
from oracle.trade_books import TradedPeriod
from tests.support.community import (
    BOND_WEI,
    INTERVALS_PER_PERIOD,
    LiveCommunity,
    account,
    energy_of,
)
from tests.support.forward_market import FEE_SLOT, Market

from .settled import outcomes

EVERY = {*FORWARD, *FORWARD_PERSONAL, *FORWARD_FULL}
SELLER, BUYER, IDLE = 3, 6, 4


@pytest.fixture
def market(ahead: LiveCommunity, tmp_path: Path) -> Market:
    folder = tmp_path / "bundles" / "trade-books"
    folder.mkdir(parents=True)
    return Market(ahead, folder)


def honest(market: Market) -> list[SignedTrade]:
    return [market.trade(0, SELLER, BUYER, 600, 250_000), market.trade(1, 5, SELLER, 40, 150_000)]


def settle(market: Market, traded: TradedPeriod | None = None) -> None:
    """Everything that follows from the books, or from other trades than theirs."""
    market.close()
    community = market.community
    signed = market.report(energy_of(0), traded or market.standing())
    batch = community.batch(0, signed=signed)
    community.submit(batch)
    bundle = community.paper.bundle(batch, market.period, community.place)
    publish_bundle(market.folder.parent / "1", bundle)


def verdict_on(market: Market, only: frozenset[int] | None = None) -> AuditVerdict:
    community = market.community
    files = BundleFiles(market.folder.parent)
    house = community.place.clearing_house
    return audit(community.client.web3, house, files, Scope(only=only))


def watched(market: Market) -> list[WatchEvent]:
    reader = ChainReader(market.community.client.web3, market.community.place.clearing_house)
    files = BundleFiles(market.folder.parent)
    return list(Watchtower(reader, lambda batches, books, deadline: files, WatchState()).look())


def book_file(market: Market) -> Path:
    return market.folder / f"{market.period.first_interval}.json"


def test_honest_trades_are_verified_from_whole_books_and_from_own_trades(market: Market) -> None:
    market.commit(0, honest(market), count=INTERVALS_PER_PERIOD)
    settle(market)
    verdict = verdict_on(market)
    assert outcomes(verdict, True) >= EVERY
    assert any(check.what.endswith(f"slot {FEE_SLOT}") for check in verdict.checks)
    # Roles were not handed over here, and nobody paid in; nothing else is wrong.
    (roles,) = (one.what for one in verdict.checks if one.what.startswith("whoever can change"))
    assert outcomes(verdict, False) == {roles, COVER}
    book_file(market).unlink()
    hidden = verdict_on(market)
    assert outcomes(hidden, None) >= EVERY - {S.BOOKS_CLOSED, S.TRADED_SUM}
    assert outcomes(hidden, False) == {roles, COVER}
    for slot in (SELLER, IDLE):
        own = verdict_on(market, frozenset({slot}))
        assert outcomes(own, True) >= EVERY - set(FORWARD_FULL)
    # Of an account that has money from others' trades only whole books can tell why.
    assert S.TRADED in outcomes(verdict_on(market, frozenset({FEE_SLOT})), None)


def test_a_settlement_that_ignores_a_committed_book_is_found(market: Market) -> None:
    market.commit(0, honest(market), count=INTERVALS_PER_PERIOD)
    settle(market, TradedPeriod((), FEE_SLOT))
    verdict = verdict_on(market)
    assert S.TRADED in outcomes(verdict, False)
    assert S.TRADED in outcomes(verdict_on(market, frozenset({SELLER})), False)
    event = watched(market)[0]
    assert event.kind == "verdict" and event.text.startswith("failed") and S.TRADED in event.text
    # Also where the coordinator shows nothing but what the seller has.
    book_file(market).unlink()
    assert S.TRADED in outcomes(verdict_on(market, frozenset({SELLER})), False)


def test_energy_that_was_traded_and_is_not_in_the_readings_is_found(market: Market) -> None:
    """Money as agreed, energy settled by the pool once more: the sums of money alone would not show it."""
    market.commit(0, honest(market), count=INTERVALS_PER_PERIOD)
    market.close()
    traded = market.standing()
    signed = market.report(energy_of(0), traded)
    metered = market.report(energy_of(0), TradedPeriod((), FEE_SLOT))
    reader = ChainReader(market.community.client.web3, market.community.place.clearing_house)
    batch = market.community.batch(0, signed=signed)
    market.community.submit(batch)
    reader.refresh()
    (submitted,) = reader.standing_batches()
    books = find_books(reader, BundleFiles(market.folder.parent), reader.commitments())
    tariff = AuditTariff.unpack(dict(submitted.submission["tariff"]))
    context = Context(reader.facts(), submitted, None, tariff, None, tuple(books))  # type: ignore[arg-type]
    for items, expected in ((signed, True), (metered, False)):
        series = {
            item.member.slot: unpack_readings(
                pack_readings(item.readings, right.traded_nano)
            ).of_period(INTERVALS_PER_PERIOD)
            for item, right in zip(items.member_periods, signed.member_periods, strict=True)
        }
        checks = Checks()
        assert check_forward(context, series, checks, complete=True) == FEE_SLOT
        found = {check.what: check.passed for check in checks.items}
        assert (found[S.TRADED], found[S.TRADED_ENERGY]) == (True, expected)


def test_books_that_are_not_the_committed_ones_are_named(market: Market) -> None:
    market.commit(0, honest(market), count=INTERVALS_PER_PERIOD)
    settle(market)
    reader = ChainReader(market.community.client.web3, market.community.place.clearing_house)
    files, commitments = BundleFiles(market.folder.parent), reader.commitments()

    def found(only: frozenset[int] | None = None) -> BookFound:
        return find_books(reader, files, commitments, only)[0]

    path, right = book_file(market), json.loads(book_file(market).read_text())
    first, *others = right["trades"]
    for spoiled in (
        {**right, "trades": [first]},
        {**right, "trades": [*others, first]},
        {**right, "trade_book": "0x" + "11" * 20},
        {**right, "interval_count": INTERVALS_PER_PERIOD - 1},
        {**right, "trades": [{**first, "energy_wh": 601}, *others]},
        {**right, "trades": [{**first, "price_nano_per_wh": 1 << 63}, *others]},
        {**right, "trades": [{**first, "salt": "0x00"}, *others]},
        {**right, "trades": {}},
        {**right, "format": "peerwatt/trade-book/9"},
        "[" * 10_000,
    ):
        path.write_bytes(canonical_json(spoiled))
        assert found().fault.startswith(f"trade book of interval {path.stem}: "), spoiled
    verdict = verdict_on(market)
    assert S.BOOKS in outcomes(verdict, False)
    assert {S.TRADED, S.TRADED_ENERGY} <= outcomes(verdict, None)
    path.write_text(json.dumps(right, indent=1))
    assert "canonical" in found().fault
    path.unlink()
    own, only = market.folder / path.stem / f"{SELLER}.json", frozenset({SELLER})
    assert not found(only).fault and found(only).count == 2
    mine = json.loads(own.read_text())
    for key, value in (("position", 1), ("proof", []), ("energy_wh", 1)):
        own.write_bytes(canonical_json({**mine, "trades": [{**mine["trades"][0], key: value}]}))
        assert found(only).fault
    own.write_bytes(canonical_json({**mine, "slot": BUYER}))
    assert found(only).fault


def test_a_trade_never_signed_is_told_of_until_it_is_struck_out(market: Market) -> None:
    """It counts for nobody either way; but who put it there lied."""
    good = market.trade(0, SELLER, BUYER, 600, 250_000)
    forged = market.signed(
        good.trade.__class__(good.trade.interval + 1, SELLER, IDLE, 10, 1, 60_000),
        buyer=account("coordinator"),
    )
    market.commit(0, [good, forged], count=2)
    (verdict, lie) = watched(market)
    assert verdict.text.startswith("failed: trade book of interval")
    assert (lie.kind, lie.function) == ("lie", "strike") and f"slot {IDLE} never signed" in lie.text
    tree = trade_book([good, forged])
    strike = market.book.strike(market.period.first_interval, forged, 1, tree.proof(1))
    tester = embedded_tester(market.community.client.web3)
    snapshot = tester.take_snapshot()
    settle(market)
    found = verdict_on(market)
    assert S.BOOKS_SIGNED in outcomes(found, False)
    assert {S.TRADED, S.TRADED_ENERGY} <= outcomes(found, True)
    tester.revert_to_snapshot(snapshot)
    market.community = market.community.reopened()
    market.community.send(strike)
    settle(market)
    assert outcomes(verdict_on(market), True) >= EVERY
    assert not [event for event in watched(market) if event.function == "strike"]


def test_a_wallet_that_is_a_contract_is_asked(market: Market) -> None:
    """Its signature is whatever it accepts, as of the block that is looked at."""
    community = market.community
    client = community.client
    made = client.send(
        constructor(client.web3, "TestWallet", account("wallet", 3).address), account("deployer")
    )
    assert made.contract_address is not None
    reader = ChainReader(client.web3, community.place.clearing_house)
    digest = bytes(range(32))
    signature = bytes(account("wallet", 3).unsafe_sign_hash(digest).signature)  # type: ignore[arg-type]
    assert reader.consents(made.contract_address, digest, signature)
    assert not reader.consents(made.contract_address, digest, bytes(65))
    assert not reader.consents(account("wallet", 3).address, digest, signature)
    assert not reader.consents(community.place.clearing_house, digest, signature)


def test_of_two_trade_books_nobody_knows_which_one_counts(market: Market) -> None:
    market.commit(0, honest(market), count=INTERVALS_PER_PERIOD)
    community = market.community
    deploy_trade_book(
        community.client, account("deployer"), community.contracts,
        gate_seconds=60, strike_seconds=60, bond_wei=BOND_WEI,
    )  # fmt: skip
    settle(market)
    assert "the community has one trade book" in outcomes(verdict_on(market), None)


def test_what_only_looks_like_a_trade_book_is_none(ahead: LiveCommunity, tmp_path: Path) -> None:
    """A contract of another code may do anything: its role counts as one that can change something."""
    call = ahead.contracts.functions("AccessManager").setTargetFunctionRole(
        ahead.place.reading_oracle, [_commit_selector()], 0
    )
    ahead.send(call)
    reader = ChainReader(ahead.client.web3, ahead.place.clearing_house)
    assert reader.commitments() == [] and reader.trade_books == ()


def _commit_selector() -> bytes:
    from eth_utils.abi import function_abi_to_4byte_selector

    (entry,) = (item for item in artifact("TradeBook")["abi"] if item.get("name") == "commit")
    return bytes(function_abi_to_4byte_selector(entry))


def test_money_of_trades_that_no_book_has_is_found(market: Market) -> None:
    market.commit(0, [], count=INTERVALS_PER_PERIOD)
    invented = market.trade(0, SELLER, BUYER, 600, 250_000).trade
    settle(market, TradedPeriod((invented,), FEE_SLOT))
    assert S.TRADED in outcomes(verdict_on(market), False)
