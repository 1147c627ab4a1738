"""From signed trades to withdrawn money, on real contracts: book, strike, oracle's deviations, batch, bill, correction, audit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backend.audit.auditor import audit
from backend.audit.bundle_files import BundleFiles
from backend.domain.errors import QuorumNotReached, TradeBookOpen
from backend.domain.readings import MISSING_READING, Quality
from backend.operator.publication import publish_bundle
from backend.settlement.batch import shift_money
from backend.settlement.forward import SignedTrade, trade_book, with_trades
from contracts.trade_book import TradeBookContract
from oracle.committee import assemble
from oracle.trade_books import TradedPeriod
from tests.support.community import (
    BOND_WEI,
    INTERVALS_PER_PERIOD,
    LiveCommunity,
    account,
    energy_of,
)
from tests.support.forward_market import FEE_SLOT, Market


@pytest.fixture
def market(ahead: LiveCommunity, tmp_path: Path) -> Market:
    return Market(ahead, tmp_path)


def honest(market: Market) -> list[SignedTrade]:
    """Anna sells dear to dora in the first interval, bela sells what it does not have in the second."""
    return [market.trade(0, 3, 6, 600, 250_000), market.trade(1, 4, 5, 100, 150_000)]


def test_trades_are_paid_at_their_price_and_deviations_by_the_pool(
    market: Market, tmp_path: Path
) -> None:
    community = market.community
    market.commit(0, honest(market), count=INTERVALS_PER_PERIOD)
    with pytest.raises(TradeBookOpen):
        market.standing()
    market.close()
    traded = market.standing()
    assert len(traded.trades) == 2
    signed = market.report(energy_of(0), traded)
    by_slot = {item.member.slot: item for item in signed.member_periods}
    assert sum(item.traded_nano or 0 for item in signed.member_periods) == 0
    assert by_slot[6].traded_nano == -600 * traded.trades[0].paid_nano_per_wh
    assert by_slot[FEE_SLOT].traded_nano == sum(
        one.energy_wh * one.fee_nano_per_wh for one in traded.trades
    )
    # Anna exported 1500 and sold 600 of them: 900 are left to the pool. Bela delivered nothing of what it sold.
    assert by_slot[3].readings[0].net_wh == 900
    assert by_slot[6].readings[0].net_wh == -700 + 600
    assert by_slot[4].readings[1].net_wh == -250 - 100

    batch = community.batch(0, signed=signed)
    assert {slot: market.bill(batch, slot) for slot in by_slot} == {
        slot: batch.leaves[slot].amount_nano for slot in by_slot
    }
    # A bill without what the trades brought is overturned by the one who is owed it, with the challenge that there always was.
    earned = by_slot[3].traded_nano
    assert earned is not None
    lie = shift_money(batch, 3, 0, earned)
    lie = lie.with_bundle_hash(community.paper.bundle(lie, market.period, community.place).hash)
    community.submit(lie)
    challenge = community.contracts.challenge_amount(
        lie, 3, community.market, community.paper.share_millionths
    )
    community.send(challenge, community.wallet(3))
    assert community.contracts.head_number() == 0
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)

    community.submit(batch)
    for slot in by_slot:
        call = community.contracts.challenge_amount(
            batch, slot, community.market, community.paper.share_millionths
        )
        assert community.refused(call) == ("NothingIsWrong",)
    bundle = community.paper.bundle(batch, market.period, community.place)
    publish_bundle(tmp_path / "bundles" / "1", bundle)
    community.pass_challenge_window()
    community.client.fund([account("outsider").address], 1)
    verdict = audit(
        community.client.web3, community.place.clearing_house, BundleFiles(tmp_path / "bundles")
    )
    bad = [check for check in verdict.all_checks if check.passed is False]
    assert not [check for check in bad if "amount" in check.what or "readings" in check.what], bad

    # A late meter value corrects the deviation; the trade stays as it is.
    later = dict(energy_of(0)) | {4: ((900, 0), (0, 100), (0, 0), (500, 0))}
    corrected = market.report(later, traded, version=1)
    correction = community.batch(0, batch, signed=corrected, corrected=batch)
    community.submit(correction, corrected=batch)
    assert correction.due_nano[4] > batch.due_nano[4]
    call = community.contracts.challenge_amount(
        correction, 4, community.market, community.paper.share_millionths, batch
    )
    assert community.refused(call) == ("NothingIsWrong",)


def test_what_does_not_stand_is_settled_by_the_pool(market: Market) -> None:
    """One struck out, one that only the oracle sees, one below the tariff's fee, one outside, one twice: none counts."""
    community = market.community
    good = market.trade(0, 3, 6, 600, 250_000)
    forged = market.signed(
        good.trade.__class__(good.trade.interval, 3, 4, 10, 1, 60_000), buyer=account("coordinator")
    )
    unseen = market.signed(
        replace(forged.trade, interval=good.trade.interval + 1), seller=account("coordinator")
    )
    cheap = market.signed(replace(good.trade, interval=good.trade.interval + 2, fee_nano_per_wh=0))
    outside = market.signed(replace(good.trade, interval=good.trade.interval + 3))
    book = sorted([good, forged, unseen, cheap, outside], key=lambda one: one.trade)
    market.commit(0, book, count=3)
    place = book.index(forged)
    tree = trade_book(book)
    community.send(
        market.book.strike(market.period.first_interval, forged, place, tree.proof(place))
    )
    market.close()
    assert market.standing().trades == (good.trade,)
    # Signers who looked before and after a strike would not agree; without a quorum there is no report.
    paper, place_ = community.paper, community.place
    received = paper.received(market.period, energy_of(0), place_)
    signers = paper.oracle_signers(place_)
    views = [market.standing(), TradedPeriod((), FEE_SLOT), None]
    confirmations = [
        signer.confirm(market.period, 0, paper.members, paper.market, received, view)
        for signer, view in zip(signers, views, strict=True)
    ]
    with pytest.raises(QuorumNotReached):
        assemble(confirmations, place_.threshold, place_.domain)


def test_a_book_that_is_withheld_or_altered_has_no_trades(market: Market) -> None:
    market.commit(0, honest(market), count=2)
    market.close()
    path = market.folder / f"{market.period.first_interval}.json"
    assert len(market.standing().trades) == 2
    data = json.loads(path.read_text())
    data["trades"][0]["energy_wh"] += 1
    path.write_text(json.dumps(data))
    assert market.standing().trades == ()
    path.write_text("{")
    assert market.standing().trades == ()
    path.unlink()
    assert market.standing().trades == ()


def test_who_is_not_metered_owes_what_it_sold(market: Market) -> None:
    """Otherwise selling and losing the reading would pay."""
    paper = market.community.paper
    (trade,) = [market.trade(0, 3, 6, 600, 250_000).trade]
    metered = paper.member_periods(market.period, energy_of(0))
    metered = tuple(
        replace(item, readings=(MISSING_READING, *item.readings[1:]))
        if item.member.slot == 3
        else item
        for item in metered
    )
    found = {
        item.member.slot: item for item in with_trades(metered, market.period, [trade], FEE_SLOT)
    }
    assert found[3].readings[0].net_wh == -600
    assert found[3].readings[0].quality is Quality.SUBSTITUTED
    untouched = [item.readings[0] for item in metered if item.member.slot == 4]
    assert [found[4].readings[0]] == untouched


def test_a_trade_book_contract_is_found_again(market: Market) -> None:
    again = TradeBookContract(market.community.client.web3, market.book.address)
    assert (again.bond_wei(), again.gate_seconds()) == (BOND_WEI, 300)
