"""The trade book: committed before the gate closes, and struck out by whoever never signed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import given
from hypothesis import strategies as st

from backend.settlement.encoding import typed_data_digest
from backend.settlement.forward import ForwardTrade, SignedTrade, trade_book
from backend.settlement.trees import PositionalTree
from contracts.bindings import MemberRecord, constructor
from deploy.community import COORDINATOR_ROLE, PAUSER_ROLE
from deploy.trade_book import deploy_trade_book
from tests.support.chain import restored
from tests.support.community import (
    FIRST_PERIOD,
    INTERVAL_MINUTES,
    LiveCommunity,
    account,
    secret,
)

GATE_SECONDS = 300
STRIKE_SECONDS = 7200
BOND_WEI = 10**17 + 1  # odd, so that halving it shows
SELLER, BUYER = 3, 4


class Traders:
    """A trade book with a bond behind it, and members who sign."""

    def __init__(self, community: LiveCommunity) -> None:
        self.community = community
        community.contracts, self.book, _ = deploy_trade_book(
            community.client,
            account("deployer"),
            community.contracts,
            gate_seconds=GATE_SECONDS,
            strike_seconds=STRIKE_SECONDS,
            bond_wei=BOND_WEI,
        )
        community.send(self.book.post_bond(), "coordinator", 3 * BOND_WEI)
        seconds = INTERVAL_MINUTES * 60
        self.first = (community.now() + GATE_SECONDS) // seconds + 2

    def trade(self, **changes: int) -> ForwardTrade:
        return replace(
            ForwardTrade(self.first, SELLER, BUYER, 500, 200_000, 30_001),
            **changes,  # type: ignore[arg-type]
        )

    def signature(self, trade: ForwardTrade, key: LocalAccount) -> bytes:
        digest = typed_data_digest(self.book.domain, trade.struct_hash())
        return bytes(key.unsafe_sign_hash(digest).signature)

    def signed(self, trade: ForwardTrade, seller: Any = None, buyer: Any = None) -> SignedTrade:
        wallet = self.community.wallet
        return SignedTrade(
            trade,
            self.signature(trade, seller or wallet(trade.seller_slot)),
            self.signature(trade, buyer or wallet(trade.buyer_slot)),
            secret("trade salt", trade.energy_wh),
        )

    def commit(self, *trades: SignedTrade, count: int = 1) -> PositionalTree:
        tree = trade_book(trades)
        self.community.send(self.book.commit(self.first, count, tree.root), "coordinator")
        return tree

    def strike_refused(
        self, tree: PositionalTree, signed: SignedTrade, place: int = 0
    ) -> tuple[Any, ...] | None:
        return self.community.refused(
            self.book.strike(self.first, signed, place, tree.proof(place))
        )


@pytest.fixture
def traders(community: LiveCommunity) -> Traders:
    return Traders(community)


def test_a_commitment_is_on_record_with_its_deadline(traders: Traders) -> None:
    tree = traders.commit(traders.signed(traders.trade()), count=3)
    ends = (traders.first + 3) * INTERVAL_MINUTES * 60
    root, until = traders.book.functions.commitmentOf(traders.first).call()
    assert root == tree.root[:-5] + bytes(5)
    assert until == ends + STRIKE_SECONDS
    (found,) = traders.book.commitments()
    assert (found.first_interval, found.interval_count) == (traders.first, 3)
    assert (found.root, found.strike_until) == (tree.root, until)
    assert traders.book.functions.nextInterval().call() == traders.first + 3


def test_the_gate_closes(traders: Traders) -> None:
    community = traders.community
    closes = traders.first * INTERVAL_MINUTES * 60 - GATE_SECONDS
    call = traders.book.commit(traders.first, 1, bytes(32))
    community.travel_to(closes)
    # Whatever is sent next has this time, and what follows a later one.
    community.send(call, "coordinator")
    late = community.client.refusal(
        traders.book.commit(traders.first + 1, 1, bytes(32)), account("coordinator")
    )
    assert late is None
    community.travel_to(closes + 2 * INTERVAL_MINUTES * 60 + 1)
    late = community.client.refusal(
        traders.book.commit(traders.first + 2, 1, bytes(32)), account("coordinator")
    )
    assert late is not None
    assert late.error_name == "GateClosed"
    assert late.arguments["closedAt"] == closes + 2 * INTERVAL_MINUTES * 60
    assert late.arguments["time"] == closes + 2 * INTERVAL_MINUTES * 60 + 1


def test_nothing_is_added_to_what_was_committed(traders: Traders) -> None:
    traders.commit(traders.signed(traders.trade()), count=3)
    first = traders.first
    for start, count in ((first, 1), (first + 2, 9), (first + 3, 0), (first + 3, 301)):
        refused = traders.community.refused(
            traders.book.commit(start, count, bytes(32)), "coordinator"
        )
        assert refused == ("WrongIntervals", start, count, first + 3)
    assert (
        traders.community.refused(traders.book.commit(first + 3, 300, bytes(32)), "coordinator")
        is None
    )


def test_one_commitment_does_not_close_the_market_for_good(traders: Traders) -> None:
    """All before its end is closed, so none begins more than eight days ahead."""
    seconds, ahead = INTERVAL_MINUTES * 60, 8 * 86_400
    last = (traders.community.now() + ahead) // seconds
    refused = traders.community.refused(traders.book.commit(last, 1, bytes(32)), "coordinator")
    assert refused is None
    for far in (last + 2, 2**41 // seconds, 2**64 - 1):
        call = traders.book.commit(far, 1, bytes(32))
        refused = traders.community.refused(call, "coordinator")
        assert refused is not None
        assert refused[:2] == ("TradesTooFarAhead", far * seconds)
        assert last * seconds <= refused[2] < (last + 2) * seconds


def test_only_the_coordinator_commits(traders: Traders) -> None:
    for call, value in (
        (traders.book.commit(traders.first, 1, bytes(32)), 0),
        (traders.book.post_bond(), 1),
    ):
        refused = traders.community.refused(call, "outsider", value)
        assert refused == ("AccessManagedUnauthorized", account("outsider").address.lower())


@pytest.mark.parametrize("liar", ["seller", "buyer"])
def test_a_trade_one_side_never_signed_is_struck_out_by_one_challenge(
    traders: Traders, liar: str
) -> None:
    community = traders.community
    honest = traders.signed(traders.trade(energy_wh=40))
    forged = traders.signed(
        traders.trade(seller_slot=5, buyer_slot=6),
        account("coordinator") if liar == "seller" else None,
        account("coordinator") if liar == "buyer" else None,
    )
    tree = traders.commit(honest, forged)
    before = community.client.balance_wei(community.wallet(6).address)
    burnt = community.client.balance_wei("0x" + "00" * 20)
    sent = community.client.send(
        traders.book.strike(traders.first, forged, 1, tree.proof(1)), community.wallet(6)
    )
    assert sent.gas_used < 150_000
    won = community.client.balance_wei(community.wallet(6).address) - before
    assert BOND_WEI // 2 - 10**16 < won < BOND_WEI // 2
    lost = community.client.balance_wei("0x" + "00" * 20) - burnt
    assert lost >= BOND_WEI - BOND_WEI // 2
    (event,) = community.events("TradeBook", "TradeStruck")
    assert event["slot"] == (5 if liar == "seller" else 6)
    assert (event["position"], event["lostWei"]) == (1, BOND_WEI)
    assert traders.book.bond() == (account("coordinator").address, 2 * BOND_WEI)
    assert traders.book.struck() == {(traders.first, 1)}
    assert traders.book.functions.isStruck(traders.first, 1).call()
    assert not traders.book.functions.isStruck(traders.first, 0).call()
    assert traders.strike_refused(tree, forged, 1) == ("AlreadyStruck", traders.first, 1)
    assert traders.strike_refused(tree, honest) == ("BothSigned",)


@given(
    tampered=st.sampled_from(
        ["energy_wh", "price_nano_per_wh", "fee_nano_per_wh", "interval", "buyer_slot"]
    ),
    side=st.sampled_from(["seller_signature", "buyer_signature"]),
    cut=st.integers(0, 66),
)
def test_signatures_of_other_terms_or_of_any_length_are_none(
    readonly_traders: Traders, tampered: str, side: str, cut: int
) -> None:
    """Nothing is sent: the answer to a call is enough."""
    traders = readonly_traders
    base = traders.trade()
    other = traders.signed(replace(base, **{tampered: getattr(base, tampered) + 1}))  # type: ignore[arg-type]
    true = traders.signed(base)
    found = getattr(other, side)
    forged = replace(true, **{side: found[:cut] + bytes(max(0, cut - len(found)))})
    tree = trade_book([forged])
    with restored(traders.community.client.web3):
        client = traders.community.reopened().client
        client.send(traders.book.commit(traders.first, 1, tree.root), account("coordinator"))
        assert traders.strike_refused(tree, forged) is None


@pytest.fixture(scope="module")
def readonly_traders(deployed: LiveCommunity) -> Any:
    with restored(deployed.client.web3):
        yield Traders(deployed.reopened())


def test_somebody_whose_slot_was_never_given_out_has_not_signed(traders: Traders) -> None:
    trade = traders.trade(buyer_slot=77)
    forged = traders.signed(trade, buyer=account("coordinator"))
    tree = traders.commit(forged)
    traders.community.send(traders.book.strike(traders.first, forged, 0, tree.proof(0)), "outsider")
    (event,) = traders.community.events("TradeBook", "TradeStruck")
    assert (event["slot"], event["lostWei"]) == (77, BOND_WEI)


def test_only_what_is_in_the_book_is_struck_out(traders: Traders) -> None:
    forged = traders.signed(traders.trade(), buyer=account("coordinator"))
    tree = traders.commit(forged)
    nothing = traders.book.strike(traders.first + 1, forged, 0, tree.proof(0))
    assert traders.community.refused(nothing) == ("NothingCommitted", traders.first + 1)
    for other in (
        replace(forged, salt=bytes(32)),
        replace(forged, seller_signature=bytes(65)),
        replace(forged, trade=traders.trade(energy_wh=501)),
    ):
        refused = traders.strike_refused(tree, other)
        assert refused is not None
        assert refused[0] == "NotInBook"
    moved = traders.community.refused(traders.book.strike(traders.first, forged, 1, tree.proof(0)))
    assert moved is not None
    assert moved[0] == "NotInBook"
    for place, proof in ((2**32, tree.proof(0)), (0, tree.proof(0)[:-1])):
        call = traders.book.strike(traders.first, forged, place, proof)
        assert traders.community.refused(call) == ("WrongPosition", place, len(proof))


def test_striking_ends(traders: Traders) -> None:
    forged = traders.signed(traders.trade(), seller=account("coordinator"))
    tree = traders.commit(forged)
    _, until = traders.book.functions.commitmentOf(traders.first).call()
    client, outsider = traders.community.client, account("outsider")
    call = traders.book.strike(traders.first, forged, 0, tree.proof(0))
    traders.community.travel_to(until + 1)
    late = client.refusal(call, outsider)
    assert late is not None
    assert late.error_name == "TooLateToStrike"
    assert late.arguments == {"deadline": until, "time": until + 1}


def test_at_the_last_moment_a_trade_is_still_struck_out(traders: Traders) -> None:
    forged = traders.signed(traders.trade(), seller=account("coordinator"))
    tree = traders.commit(forged)
    _, until = traders.book.functions.commitmentOf(traders.first).call()
    traders.community.travel_to(until)
    traders.community.send(traders.book.strike(traders.first, forged, 0, tree.proof(0)))
    assert traders.book.struck() == {(traders.first, 0)}


def test_a_contract_signs_by_erc_1271_and_nobody_pays_for_its_change_of_mind(
    traders: Traders,
) -> None:
    community = traders.community
    owner = account("outsider")
    sent = community.client.send(
        constructor(community.client.web3, "TestWallet", owner.address), owner
    )
    assert sent.contract_address is not None
    slot = 8
    record = MemberRecord(sent.contract_address, FIRST_PERIOD, 0, 0, 0, 0)
    community.send(community.contracts.admit(slot, record, community.consent(slot, record, owner)))
    trade = traders.trade(buyer_slot=slot)
    true = traders.signed(trade, buyer=owner)
    forged = traders.signed(
        replace(trade, interval=traders.first + 1), buyer=account("coordinator")
    )
    tree = traders.commit(true, forged)
    assert traders.strike_refused(tree, true) == ("BothSigned",)
    community.send(traders.book.strike(traders.first, forged, 1, tree.proof(1)), "outsider")
    (event,) = community.events("TradeBook", "TradeStruck")
    assert (event["slot"], event["lostWei"]) == (slot, 0)
    digest = typed_data_digest(traders.book.domain, trade.struct_hash())
    assert traders.book.consents(sent.contract_address, digest, true.buyer_signature)
    assert not traders.book.consents(sent.contract_address, digest, forged.buyer_signature)
    assert not traders.book.consents(owner.address, digest, true.buyer_signature)
    vault = community.contracts.addresses["Vault"]
    assert not traders.book.consents(vault, digest, true.buyer_signature)


def test_a_bond_stands_behind_every_commitment_and_comes_back_after_it(traders: Traders) -> None:
    community, book = traders.community, traders.book
    coordinator = account("coordinator").address
    forged = [
        traders.signed(traders.trade(buyer_slot=energy + 3), seller=account("coordinator"))
        for energy in range(1, 5)
    ]
    tree = traders.commit(*forged)
    for place in range(4):
        community.send(book.strike(traders.first, forged[place], place, tree.proof(place)))
    # The fourth falls though the bond is gone.
    lost = [event["lostWei"] for event in community.events("TradeBook", "TradeStruck")]
    assert lost == [BOND_WEI, BOND_WEI, BOND_WEI, 0]
    more = book.commit(traders.first + 1, 1, bytes(32))
    assert community.refused(more, "coordinator") == ("TradeBondTooLow", 0, BOND_WEI)
    community.send(book.post_bond(), "coordinator", BOND_WEI)
    assert community.refused(more, "coordinator") is None
    _, until = book.functions.commitmentOf(traders.first).call()
    assert community.refused(book.withdraw_bond(), "outsider") == (
        "TradeBondOfAnother",
        coordinator.lower(),
    )
    assert community.refused(book.withdraw_bond(), "coordinator") == ("NoTradeBondFree", until)
    community.travel_to(until + 1)
    community.send(book.withdraw_bond(), "coordinator")
    assert book.bond() == ("0x" + "00" * 20, 0)
    (event,) = community.events("TradeBook", "TradeBondWithdrawn")
    assert event == {"owner": coordinator, "amountWei": BOND_WEI}


def test_a_new_coordinator_takes_over_when_nothing_is_open(traders: Traders) -> None:
    community, book = traders.community, traders.book
    former, successor = account("coordinator").address, account("guarantor")
    traders.commit(traders.signed(traders.trade()))
    deployer = account("deployer").address
    community.send(community.contracts.grant_role(PAUSER_ROLE, deployer, 0))
    community.send(community.contracts.grant_role(COORDINATOR_ROLE, successor.address, 0))
    refused = community.refused(book.post_bond(), "guarantor", BOND_WEI)
    assert refused == ("TradeBondOfAnother", former.lower())
    later = book.commit(traders.first + 1, 1, bytes(32))
    assert community.refused(later, "guarantor") == ("TradeBondOfAnother", former.lower())
    _, until = book.functions.commitmentOf(traders.first).call()
    community.travel_to(until + 1)
    before = community.client.balance_wei(former)
    community.send(book.post_bond(), "guarantor", BOND_WEI)
    assert book.bond() == (successor.address, BOND_WEI)
    assert community.client.balance_wei(former) - before == 3 * BOND_WEI
