"""What a coordinator puts at stake: posted before it submits, its own, and returned while nothing is open."""

from __future__ import annotations

import pytest

from backend.domain.community import FIRST_MEMBER_SLOT
from backend.domain.errors import ContractRefused
from backend.settlement.batch import shift_money
from contracts.bindings import constructor
from deploy.community import COORDINATOR_ROLE, PAUSER_ROLE, deploy_community
from tests.support.chain import said
from tests.support.community import (
    BOND_WEI,
    CHALLENGE_SECONDS,
    ETHER,
    LiveCommunity,
    account,
    founding_settings,
)

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 2


@pytest.fixture
def successor(community: LiveCommunity) -> str:
    """Somebody else who has the coordinator's role."""
    deployer = account("deployer")
    community.send(community.contracts.grant_role(PAUSER_ROLE, deployer.address, 0))
    community.send(community.contracts.grant_role(COORDINATOR_ROLE, account("dso").address, 0))
    return "dso"


def test_it_is_posted_and_added_to(community: LiveCommunity) -> None:
    coordinator = account("coordinator").address
    assert community.contracts.bond() == (coordinator, BOND_WEI)
    community.send(community.contracts.post_bond(), "coordinator", 5)
    assert community.contracts.bond() == (coordinator, BOND_WEI + 5)
    assert community.events("ClearingHouse", "BondPosted")[-1] == {
        "owner": coordinator,
        "addedWei": 5,
        "bondWei": BOND_WEI + 5,
    }
    assert community.client.balance_wei(community.place.clearing_house) == BOND_WEI + 5


def test_without_it_nothing_is_accepted(community: LiveCommunity) -> None:
    community.send(community.contracts.withdraw_bond(), "coordinator")
    assert community.contracts.bond()[1] == 0
    batch = community.batch(0)
    assert community.submission_refused(batch) == ("BondTooLow", 0, BOND_WEI)
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI - 1)
    assert community.submission_refused(batch) == ("BondTooLow", BOND_WEI - 1, BOND_WEI)
    community.send(community.contracts.post_bond(), "coordinator", 1)
    community.submit(batch)


def test_a_lie_uses_it_up(community: LiveCommunity) -> None:
    lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
    community.submit(lie)
    call = community.contracts.challenge_amount(
        lie, MEMBER, community.market, community.paper.share_millionths
    )
    community.send(call, "outsider")
    assert community.contracts.bond() == (account("coordinator").address, 0)
    assert community.submission_refused(community.batch(0)) == ("BondTooLow", 0, BOND_WEI)


def test_it_stays_while_a_batch_is_open(community: LiveCommunity) -> None:
    first, second = community.batches(2)
    withdraw = community.contracts.withdraw_bond()
    community.submit(first)
    assert community.refused(withdraw, "coordinator") == ("BatchStillOpen", 1)
    community.pass_challenge_window()
    assert community.refused(withdraw, "coordinator") is None
    community.submit(second)
    assert community.refused(withdraw, "coordinator") == ("BatchStillOpen", 2)
    community.pass_challenge_window()
    before = community.client.balance_wei(community.place.clearing_house)
    community.send(withdraw, "coordinator")
    assert before - community.client.balance_wei(community.place.clearing_house) == BOND_WEI
    assert community.events("ClearingHouse", "BondWithdrawn") == [
        {"owner": account("coordinator").address, "bondWei": BOND_WEI}
    ]
    assert community.refused(withdraw, "coordinator") == ("BondOfAnother", "0x" + "00" * 20)


def test_nobody_takes_anothers(community: LiveCommunity) -> None:
    owner = account("coordinator").address.lower()
    for caller in ("outsider", "deployer", "supplier"):
        refused = community.refused(community.contracts.withdraw_bond(), caller)
        assert refused == ("BondOfAnother", owner)


def test_one_that_is_used_up_is_not_returned(community: LiveCommunity) -> None:
    lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
    community.submit(lie)
    call = community.contracts.challenge_amount(
        lie, MEMBER, community.market, community.paper.share_millionths
    )
    community.send(call, "outsider")
    refused = community.refused(community.contracts.withdraw_bond(), "coordinator")
    assert refused == ("NothingToReturn",)


def test_a_stranger_cannot_keep_the_coordinator_from_posting(community: LiveCommunity) -> None:
    """One wei posted first would be enough, if it were taken from anybody."""
    community.send(community.contracts.withdraw_bond(), "coordinator")
    refused = community.refused(community.contracts.post_bond(), "outsider", 1)
    assert refused == ("AccessManagedUnauthorized", account("outsider").address.lower())
    community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)


class TestSuccession:
    def test_nobody_lies_on_anothers_bond(self, community: LiveCommunity, successor: str) -> None:
        """Who grants the role could otherwise submit a lie, challenge it and win half of the coordinator's bond."""
        call = community.submission(community.batch(0))
        owner = account("coordinator").address.lower()
        assert community.refused(call, successor) == ("BondOfAnother", owner)

    def test_the_place_is_free_when_no_batch_is_open(
        self, community: LiveCommunity, successor: str
    ) -> None:
        first, second = community.batches(2)
        community.submit(first)
        post = community.contracts.post_bond()
        owner = account("coordinator").address
        refused = community.refused(post, successor, BOND_WEI)
        assert refused == ("BondOfAnother", owner.lower())
        community.pass_challenge_window()
        before = community.client.balance_wei(owner)
        community.send(post, successor, BOND_WEI)
        assert community.client.balance_wei(owner) - before == BOND_WEI
        assert community.contracts.bond() == (account(successor).address, BOND_WEI)
        community.send(community.submission(second), successor)
        assert community.recorded(2) == second.header.hash()

    def test_a_former_coordinator_that_takes_no_money_keeps_nobody_out(
        self, community: LiveCommunity, successor: str
    ) -> None:
        deployer = account("deployer")
        made = community.client.send(
            constructor(community.client.web3, "TestWallet", deployer.address), deployer
        )
        assert made.contract_address is not None
        wallet = community.contract("TestWallet", made.contract_address)
        community.send(community.contracts.grant_role(COORDINATOR_ROLE, wallet.address, 0))
        community.send(community.contracts.withdraw_bond(), "coordinator")
        post = community.contracts.post_bond()
        data = post._encode_transaction_data()
        community.send(wallet.functions.execute(post.address, data), "deployer", BOND_WEI)
        assert community.contracts.bond() == (wallet.address, BOND_WEI)
        # It cannot take the bond back itself.
        withdraw = community.contracts.withdraw_bond()
        refused = community.refused(
            wallet.functions.execute(withdraw.address, withdraw._encode_transaction_data()),
            "deployer",
        )
        assert refused == ("TransferFailed", wallet.address.lower())
        community.send(post, successor, BOND_WEI)
        assert community.contracts.bond() == (account(successor).address, BOND_WEI)
        held = community.client.balance_wei(community.place.clearing_house)
        assert held == 2 * BOND_WEI  # the one that nobody took stays, for nobody
        assert community.client.balance_wei(wallet.address) == 0 < ETHER


@pytest.mark.parametrize(
    "change",
    [
        {"first_period": 0},
        {"interval_seconds": 0},
        {"shortest_period_seconds": 0},
        {"challenge_seconds": 2},
        {"freeze_seconds": CHALLENGE_SECONDS + 3600},
    ],
    ids=lambda change: next(iter(change)),
)
def test_parameters_that_no_community_could_live_with(
    community: LiveCommunity, change: dict[str, int]
) -> None:
    """Freezing must take longer than settling a period, or anybody could freeze any community."""
    with pytest.raises(ContractRefused) as refused:
        deploy_community(community.client, account("deployer"), founding_settings(**change))
    assert said(refused.value) == ("BadParameters",)
