"""Whoever is owed money takes it out with a proof, without anyone's permission, and nobody takes out more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from web3.contract import Contract
from web3.contract.contract import ContractFunction

from backend.domain.community import FIRST_MEMBER_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch
from contracts.bindings import constructor, header_tuple, leaf_tuple
from tests.support.chain import answer, deploy_code, said
from tests.support.community import (
    COLLATERAL_NANO,
    FIRST_PERIOD,
    NANO,
    LiveCommunity,
    account,
    energy_of,
    period_number,
)

MEMBER = FIRST_MEMBER_SLOT
OTHER = FIRST_MEMBER_SLOT + 3
DEPOSIT_NANO = 50 * NANO


@dataclass(frozen=True)
class Bank:
    """A vault for a token of some decimals."""

    community: LiveCommunity
    token: Contract
    vault: Contract

    @property
    def functions(self) -> Any:
        return self.vault.functions

    def tokens(self, nano: int) -> int:
        """An amount in the token's smallest unit, rounded down."""
        tokens: int = nano * self.functions.tokensPerNano().call()
        return int(tokens // self.functions.nanoPerToken().call())

    def held(self, address: str) -> int:
        return int(self.token.functions.balanceOf(address).call())

    def deposit(self, slot: int, tokens: int, payer: str = "outsider") -> None:
        """Makes tokens, allows the vault to take them and deposits them for a slot."""
        key = account(payer)
        for call in (
            self.token.functions.mint(key.address, tokens),
            self.token.functions.approve(self.vault.address, tokens),
            self.functions.deposit(slot, tokens),
        ):
            self.community.client.send(call, key)

    def withdrawal(self, tokens: int, batch: Batch, slot: int) -> ContractFunction:
        return self.functions.withdraw(
            tokens,
            header_tuple(batch.header),
            leaf_tuple(batch.leaves[slot]),
            batch.ledger.proof(slot),
        )

    def withdraw(self, tokens: int, batch: Batch, slot: int, sender: str = "outsider") -> None:
        self.community.client.send(self.withdrawal(tokens, batch, slot), account(sender))

    def refusal(self, call: ContractFunction) -> tuple[Any, ...] | None:
        return said(self.community.client.refusal(call, account("outsider")))

    def withdrawable(self, slot: int, cumulative_nano: int) -> int:
        return int(self.functions.withdrawable(slot, cumulative_nano).call())


def open_bank(community: LiveCommunity, decimals: int) -> Bank:
    """A token and a vault of their own for the community."""
    deployer = account("deployer")
    web3 = community.client.web3
    token = community.client.send(constructor(web3, "TestToken", decimals), deployer)
    assert token.contract_address is not None
    vault = community.client.send(
        constructor(
            web3,
            "Vault",
            token.contract_address,
            community.contracts.addresses["ClearingHouse"],
            community.contracts.addresses["MemberRegistry"],
        ),
        deployer,
    )
    return Bank(
        community,
        community.contract("TestToken", token.contract_address),
        community.contract("Vault", vault.contract_address),
    )


@pytest.fixture
def bank(community: LiveCommunity) -> Bank:
    """The vault that the community was deployed with; its token has six decimals."""
    return Bank(community, community.contract("TestToken"), community.contract("Vault"))


@pytest.fixture
def final(community: LiveCommunity) -> Batch:
    """The first period's batch, final."""
    batch = community.batch(0)
    community.submit(batch)
    community.let_challenge_window_pass()
    return batch


class TestDeposit:
    def test_anyone_pays_for_anyone(self, bank: Bank) -> None:
        bank.deposit(MEMBER, 7_000_000)
        bank.deposit(MEMBER, 1)
        assert bank.functions.depositedNano(MEMBER).call() == 7 * NANO + 1000
        assert bank.held(bank.vault.address) == 7_000_001
        events = bank.community.events("Vault", "Deposited")
        payer = account("outsider").address
        assert events == [
            {"slot": MEMBER, "payer": payer, "tokens": 7_000_000},
            {"slot": MEMBER, "payer": payer, "tokens": 1},
        ]

    def test_a_deposit_of_nothing_is_refused(self, bank: Bank) -> None:
        assert bank.refusal(bank.functions.deposit(MEMBER, 0)) == ("NothingToDeposit",)

    def test_a_slot_that_nobody_has_is_refused(self, bank: Bank) -> None:
        slots = bank.community.contracts.slot_count()
        assert bank.refusal(bank.functions.deposit(slots, 1)) == ("UnknownSlot", slots)

    def test_tokens_that_were_not_allowed_are_not_taken(self, bank: Bank) -> None:
        outcome = bank.refusal(bank.functions.deposit(MEMBER, 1))
        assert outcome is not None
        assert outcome[0] == "ERC20InsufficientAllowance"

    @pytest.mark.parametrize(("decimals", "per_nano"), [(10, 10), (18, 10**9), (36, 10**27)])
    def test_a_fraction_of_a_nano_is_refused(
        self, community: LiveCommunity, decimals: int, per_nano: int
    ) -> None:
        bank = open_bank(community, decimals)
        refused = bank.refusal(bank.functions.deposit(MEMBER, per_nano + 1))
        assert refused == ("NotWholeNano", per_nano + 1, per_nano)
        bank.deposit(MEMBER, 3 * per_nano)
        assert bank.functions.depositedNano(MEMBER).call() == 3

    def test_more_than_a_balance_holds_is_refused(self, community: LiveCommunity) -> None:
        bank = open_bank(community, 0)
        tokens = 2**128 // NANO + 1
        deployer = account("outsider")
        for call in (
            bank.token.functions.mint(deployer.address, tokens),
            bank.token.functions.approve(bank.vault.address, tokens),
        ):
            community.client.send(call, deployer)
        assert bank.refusal(bank.functions.deposit(MEMBER, tokens)) is not None
        assert bank.held(bank.vault.address) == 0


# Answers every call with the same word: `decimals` is that number, `balanceOf` never changes, `transferFrom` succeeds if it is not 0.
SAYS_ONE = "600160005260206000f3"
SAYS_ZERO = "600060005260206000f3"


class TestTokens:
    @pytest.mark.parametrize(
        ("code", "error"),
        [(SAYS_ONE, ("ShortTransfer", 0, 5)), (SAYS_ZERO, ("SafeERC20FailedOperation",))],
        ids=["takes nothing", "says no"],
    )
    def test_a_token_that_does_not_transfer_what_it_was_told_is_refused(
        self, community: LiveCommunity, code: str, error: tuple[Any, ...]
    ) -> None:
        token = deploy_code(community.client, code, account("outsider"))
        vault = community.client.send(
            constructor(
                community.client.web3,
                "Vault",
                token,
                community.contracts.addresses["ClearingHouse"],
                community.contracts.addresses["MemberRegistry"],
            ),
            account("deployer"),
        )
        call = community.contract("Vault", vault.contract_address).functions.deposit(MEMBER, 5)
        outcome = said(community.client.refusal(call, account("deployer")))
        assert outcome is not None
        assert outcome[: len(error)] == error

    def test_a_token_of_too_many_decimals_is_refused(self, community: LiveCommunity) -> None:
        web3, deployer = community.client.web3, account("deployer")
        token = community.client.send(constructor(web3, "TestToken", 37), deployer)
        call = constructor(
            web3,
            "Vault",
            token.contract_address,
            community.contracts.addresses["ClearingHouse"],
            community.contracts.addresses["MemberRegistry"],
        )
        refused = community.client.refusal(call, deployer)  # type: ignore[arg-type]
        assert said(refused) == ("UnsupportedDecimals", 37)

    @pytest.mark.parametrize(
        ("decimals", "nano_per_token", "tokens_per_nano"),
        [(0, 10**9, 1), (6, 1000, 1), (8, 10, 1), (9, 1, 1), (18, 1, 10**9), (36, 1, 10**27)],
    )
    def test_the_ratio_to_nano_is_a_whole_number_one_way_or_the_other(
        self, community: LiveCommunity, decimals: int, nano_per_token: int, tokens_per_nano: int
    ) -> None:
        bank = open_bank(community, decimals)
        assert bank.functions.nanoPerToken().call() == nano_per_token
        assert bank.functions.tokensPerNano().call() == tokens_per_nano


class TestWithdrawal:
    @pytest.mark.parametrize("decimals", [0, 6, 9, 18])
    def test_pays_deposit_and_balance_above_the_collateral_rounded_down(
        self, community: LiveCommunity, final: Batch, decimals: int
    ) -> None:
        bank = open_bank(community, decimals)
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        # What a creditor is paid above its own deposit comes from what debtors put in.
        bank.deposit(OTHER, bank.tokens(DEPOSIT_NANO))
        cumulative = final.leaves[MEMBER].cumulative_nano
        assert cumulative > 0
        free_nano = DEPOSIT_NANO + cumulative - COLLATERAL_NANO
        limit = bank.tokens(free_nano)
        assert bank.withdrawable(MEMBER, cumulative) == limit
        owner = community.paper.member(MEMBER).account
        bank.withdraw(limit, final, MEMBER)
        assert bank.held(owner) == limit
        per_token = bank.functions.nanoPerToken().call()
        paid_nano = limit * per_token // bank.functions.tokensPerNano().call()
        assert bank.functions.withdrawnNano(MEMBER).call() == paid_nano
        # The remainder is less than a smallest unit and stays on the ledger.
        assert 0 <= free_nano - paid_nano < per_token
        assert bank.withdrawable(MEMBER, cumulative) == 0

    def test_a_debtor_gets_back_its_deposit_less_what_it_owes(
        self, bank: Bank, final: Batch
    ) -> None:
        bank.deposit(OTHER, bank.tokens(DEPOSIT_NANO))
        cumulative = final.leaves[OTHER].cumulative_nano
        assert cumulative < 0
        limit = bank.tokens(DEPOSIT_NANO + cumulative - COLLATERAL_NANO)
        bank.withdraw(limit, final, OTHER)
        assert bank.held(bank.community.paper.member(OTHER).account) == limit

    def test_anyone_may_ask_but_the_money_goes_to_the_owner(self, bank: Bank, final: Batch) -> None:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        before = bank.held(account("outsider").address)
        bank.withdraw(1_000_000, final, MEMBER, sender="outsider")
        owner = bank.community.paper.member(MEMBER).account
        assert bank.held(owner) == 1_000_000
        assert bank.held(account("outsider").address) == before
        (event,) = bank.community.events("Vault", "Withdrawn")
        assert event == {"slot": MEMBER, "account": owner, "tokens": 1_000_000}

    def test_one_smallest_unit_too_many_is_refused(self, bank: Bank, final: Batch) -> None:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        limit = bank.withdrawable(MEMBER, final.leaves[MEMBER].cumulative_nano)
        refused = bank.refusal(bank.withdrawal(limit + 1, final, MEMBER))
        assert refused == ("AboveWithdrawable", limit + 1, limit)

    def test_the_same_withdrawal_twice_is_refused(self, bank: Bank, final: Batch) -> None:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        limit = bank.withdrawable(MEMBER, final.leaves[MEMBER].cumulative_nano)
        first = limit - 5
        bank.withdraw(first, final, MEMBER)
        assert bank.refusal(bank.withdrawal(first, final, MEMBER)) == (
            "AboveWithdrawable",
            first,
            5,
        )
        bank.withdraw(5, final, MEMBER)
        assert bank.refusal(bank.withdrawal(1, final, MEMBER)) == ("AboveWithdrawable", 1, 0)

    def test_a_fraction_of_a_nano_is_refused(self, community: LiveCommunity, final: Batch) -> None:
        bank = open_bank(community, 18)
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        refused = bank.refusal(bank.withdrawal(10**9 + 1, final, MEMBER))
        assert refused == ("NotWholeNano", 10**9 + 1, 10**9)

    def test_an_account_without_collateral_takes_out_all_it_has(
        self, bank: Bank, final: Batch
    ) -> None:
        """The supplier is paid by what the members put in."""
        bank.deposit(OTHER, bank.tokens(DEPOSIT_NANO))
        cumulative = final.leaves[SUPPLIER_SLOT].cumulative_nano
        assert cumulative > 0
        limit = cumulative // 1000
        assert bank.withdrawable(SUPPLIER_SLOT, cumulative) == limit
        bank.withdraw(limit, final, SUPPLIER_SLOT)
        assert bank.held(account("supplier").address) == limit

    def test_a_balance_below_the_collateral_pays_nothing(self, bank: Bank, final: Batch) -> None:
        bank.deposit(MEMBER, bank.tokens(COLLATERAL_NANO // 2))
        refused = bank.refusal(bank.withdrawal(1, final, MEMBER))
        assert refused == ("AboveWithdrawable", 1, 0)


class TestProof:
    @pytest.fixture
    def funded(self, bank: Bank) -> Bank:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        return bank

    def test_a_batch_that_is_not_final_pays_nothing(self, funded: Bank) -> None:
        batch = funded.community.batch(0)
        funded.community.submit(batch)
        refused = funded.refusal(funded.withdrawal(1, batch, MEMBER))
        assert refused == ("NotFinal", FIRST_PERIOD)

    def test_a_batch_that_was_never_submitted_pays_nothing(self, funded: Bank) -> None:
        refused = funded.refusal(funded.withdrawal(1, funded.community.batch(0), MEMBER))
        assert refused == ("NoSuchBatch", FIRST_PERIOD)

    def test_only_the_last_final_batch_pays(self, funded: Bank) -> None:
        first, second = funded.community.batches(2)
        funded.community.submit_all([first, second])
        funded.community.let_challenge_window_pass()
        refused = funded.refusal(funded.withdrawal(1, first, MEMBER))
        assert refused == ("NotLastFinal", FIRST_PERIOD)
        funded.withdraw(1, second, MEMBER)

    def test_the_last_final_batch_pays_while_a_newer_one_waits(self, funded: Bank) -> None:
        first, second = funded.community.batches(2)
        funded.community.submit(first)
        funded.community.let_challenge_window_pass()
        funded.community.submit(second)
        funded.withdraw(1, first, MEMBER)
        refused = funded.refusal(funded.withdrawal(1, second, MEMBER))
        assert refused == ("NotFinal", FIRST_PERIOD + 1)

    def test_another_header_proves_nothing(self, funded: Bank, final: Batch) -> None:
        other = final.with_bundle_hash(b"\x11" * 32)
        refused = funded.refusal(funded.withdrawal(1, other, MEMBER))
        assert refused == ("WrongHeader", other.header.hash(), final.header.hash())

    @pytest.mark.parametrize(
        "change",
        [
            {"cumulative_nano": 10**15},
            {"amount_nano": 10**15},
            {"slot": OTHER},
            {"salt": bytes(32)},
        ],
        ids=["cumulative", "amount", "slot", "salt"],
    )
    def test_another_leaf_proves_nothing(
        self, funded: Bank, final: Batch, change: dict[str, Any]
    ) -> None:
        leaf = replace(final.leaves[MEMBER], **change)
        forged = replace(final, leaves=dict(final.leaves) | {MEMBER: leaf})
        outcome = funded.refusal(funded.withdrawal(1, forged, MEMBER))
        assert outcome is not None
        assert outcome[0] == "NotInTree"
        assert outcome[2] == final.header.ledger_root

    def test_another_accounts_proof_proves_nothing(self, funded: Bank, final: Batch) -> None:
        call = funded.functions.withdraw(
            1,
            header_tuple(final.header),
            leaf_tuple(final.leaves[MEMBER]),
            final.ledger.proof(OTHER),
        )
        outcome = funded.refusal(call)
        assert outcome is not None
        assert outcome[0] == "NotInTree"

    def test_the_clearing_house_tells_the_proved_balance(self, funded: Bank, final: Batch) -> None:
        function = funded.community.contract("ClearingHouse").functions.finalCumulative
        for slot, leaf in final.leaves.items():
            call = function(header_tuple(final.header), leaf_tuple(leaf), final.ledger.proof(slot))
            assert answer(call) == leaf.cumulative_nano


class TestCollateral:
    def leave(self, community: LiveCommunity, slot: int, until_period: int) -> None:
        call = community.contract("MemberRegistry").functions.endMembership(slot, until_period)
        community.client.send(call, account("deployer"))

    def test_stays_until_the_membership_has_ended_and_its_last_period_is_final(
        self, bank: Bank
    ) -> None:
        community = bank.community
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        locked = bank.tokens(DEPOSIT_NANO - COLLATERAL_NANO)
        everything = bank.tokens(DEPOSIT_NANO)
        assert bank.withdrawable(MEMBER, 0) == locked
        self.leave(community, MEMBER, FIRST_PERIOD + 1)
        assert bank.withdrawable(MEMBER, 0) == locked
        batch = community.batch(0)
        community.submit(batch)
        assert bank.withdrawable(MEMBER, 0) == locked
        community.let_challenge_window_pass()
        assert bank.withdrawable(MEMBER, 0) == everything
        limit = bank.tokens(DEPOSIT_NANO + batch.leaves[MEMBER].cumulative_nano)
        bank.deposit(OTHER, bank.tokens(DEPOSIT_NANO))
        bank.withdraw(limit, batch, MEMBER)
        assert bank.held(community.paper.member(MEMBER).account) == limit

    def test_a_membership_that_ends_later_keeps_it(self, bank: Bank, final: Batch) -> None:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        self.leave(bank.community, MEMBER, FIRST_PERIOD + 2)
        locked = bank.tokens(DEPOSIT_NANO - COLLATERAL_NANO)
        assert bank.withdrawable(MEMBER, 0) == locked
        assert final.header.period == FIRST_PERIOD

    def test_who_has_left_keeps_its_balance_in_later_batches(self, bank: Bank) -> None:
        """The second period is settled without the member; its leaf carries the balance on."""
        community = bank.community
        paper = community.paper
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        bank.deposit(OTHER, bank.tokens(DEPOSIT_NANO))
        self.leave(community, MEMBER, FIRST_PERIOD + 1)
        first = community.batch(0)
        staying = [member for member in paper.members if member.slot != MEMBER]
        period = period_number(1)
        signed = paper.signed_report(period, energy_of(1), community.place, staying)
        second = paper.batch(
            period,
            signed.report,
            signed.signatures,
            signed.member_periods,
            first,
            community.place,
        )
        balance = first.leaves[MEMBER].cumulative_nano
        assert second.leaves[MEMBER].amount_nano == 0
        assert second.leaves[MEMBER].cumulative_nano == balance
        community.submit_all([first, second])
        community.let_challenge_window_pass()
        limit = bank.tokens(DEPOSIT_NANO + balance)
        bank.withdraw(limit, second, MEMBER)
        assert bank.held(paper.member(MEMBER).account) == limit


class TestHoles:
    """Known not to hold yet; each of these tests says what should be true."""

    @pytest.mark.xfail(
        strict=True,
        reason="a deposit can be withdrawn only with a leaf, and a slot that was never in a batch has none",
    )
    def test_a_deposit_can_be_taken_back_when_the_coordinator_never_settles(
        self, bank: Bank
    ) -> None:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        bank.community.client.advance(365 * 24 * 3600)
        batch = bank.community.batch(0)
        bank.withdraw(1, batch, MEMBER)

    @pytest.mark.xfail(
        strict=True,
        reason="nothing keeps an account from owing more than it has deposited",
    )
    def test_the_vault_can_pay_everything_withdrawable(self, bank: Bank, final: Batch) -> None:
        """Nobody has deposited anything, so whoever is owed money waits for those who owe it."""
        due = sum(
            bank.withdrawable(slot, leaf.cumulative_nano) for slot, leaf in final.leaves.items()
        )
        assert due <= bank.held(bank.vault.address)
        assert final.leaves[FUND_SLOT].cumulative_nano >= 0

    @pytest.mark.xfail(
        strict=True,
        reason="collateral is freed by the last period's batch, and a period before the first one has none",
    )
    def test_who_left_before_the_first_period_gets_the_collateral_back(
        self, bank: Bank, final: Batch
    ) -> None:
        community = bank.community
        deployer = account("deployer")
        slot = community.contracts.slot_count()
        community.client.send(
            community.contracts.admit(
                account("wallet", slot).address,
                account("meter", slot).address,
                0,
                FIRST_PERIOD - 5,
                COLLATERAL_NANO,
            ),
            deployer,
        )
        end = community.contract("MemberRegistry").functions.endMembership(slot, FIRST_PERIOD - 2)
        community.client.send(end, deployer)
        bank.deposit(slot, bank.tokens(COLLATERAL_NANO))
        assert final.header.period == FIRST_PERIOD
        assert bank.withdrawable(slot, 0) == bank.tokens(COLLATERAL_NANO)
