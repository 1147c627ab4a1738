"""Whoever is owed money takes it out with a proof, without anyone's permission, and nobody takes out more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_hash.auto import keccak
from eth_typing import Hash32
from web3.contract import Contract
from web3.contract.contract import ContractFunction

from backend.domain.community import FIRST_MEMBER_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch
from backend.settlement.encoding import address_word, tag, typed_data_digest, word
from contracts.bindings import MemberRecord, constructor, head_tuple, leaf_tuple
from tests.support.community import (
    COLLATERAL_NANO,
    FIRST_PERIOD,
    NANO,
    LiveCommunity,
    account,
    energy_of,
)
from tests.support.lies import with_forged_tree

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 1
NOBODY = 99
DEPOSIT_NANO = 50 * NANO
WITHDRAW_GAS = 90_000


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

    def fund(self, tokens: int, allowed: int | None = None, payer: str = "outsider") -> None:
        """Makes tokens and allows the vault to take them."""
        allowed = tokens if allowed is None else allowed
        for call in (
            self.token.functions.mint(account(payer).address, tokens),
            self.token.functions.approve(self.vault.address, allowed),
        ):
            self.community.send(call, payer)

    def deposit(self, slot: int, tokens: int) -> None:
        self.fund(tokens)
        self.community.send(self.functions.deposit(slot, tokens), "outsider")

    def withdrawal(self, tokens: int, batch: Batch, slot: int) -> ContractFunction:
        call: ContractFunction = self.functions.withdraw(
            tokens,
            head_tuple(batch.header),
            leaf_tuple(batch.leaves[slot]),
            batch.ledger.proof(slot),
        )
        return call

    def withdrawable(self, slot: int, batch: Batch) -> int:
        cumulative = batch.leaves[slot].cumulative_nano
        return int(self.functions.withdrawable(slot, cumulative, head_tuple(batch.header)).call())


def open_bank(community: LiveCommunity, decimals: int, token_name: str = "TestToken") -> Bank:
    """A token and a vault of their own for the community."""
    deployer, web3 = account("deployer"), community.client.web3
    token = community.client.send(constructor(web3, token_name, decimals), deployer)
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
        community.contract(token_name, token.contract_address),
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
    community.submit_final(batch)
    return batch


class TestDeposit:
    def test_anyone_pays_for_anyone(self, bank: Bank) -> None:
        bank.deposit(MEMBER, 7_000_000)
        bank.deposit(MEMBER, 1)
        assert bank.functions.depositedNano(MEMBER).call() == 7 * NANO + 1000
        assert bank.held(bank.vault.address) == 7_000_001
        payer = account("outsider").address
        owner = bank.community.paper.member(MEMBER).account
        assert bank.community.events("Vault", "Deposited") == [
            {"slot": MEMBER, "account": owner, "payer": payer, "tokens": 7_000_000},
            {"slot": MEMBER, "account": owner, "payer": payer, "tokens": 1},
        ]

    def test_nothing_for_nobody_and_without_allowance_are_refused(self, bank: Bank) -> None:
        refused = bank.community.refused
        assert refused(bank.functions.deposit(MEMBER, 0)) == ("NoTokens",)
        assert refused(bank.functions.deposit(NOBODY, 1)) == ("UnknownSlot", NOBODY)
        outcome = refused(bank.functions.deposit(MEMBER, 1))
        assert outcome is not None and outcome[0] == "ERC20InsufficientAllowance"

    def test_a_token_that_keeps_a_fee_is_refused(self, community: LiveCommunity) -> None:
        """It would leave the vault short of what it owes."""
        bank = open_bank(community, 6, "TestFeeToken")
        bank.fund(1000)
        call = bank.functions.deposit(MEMBER, 1000)
        assert community.refused(call) == ("ShortTransfer", 990, 1000)
        call = bank.functions.depositGuarantee(1000)
        assert community.refused(call) == ("ShortTransfer", 990, 1000)

    @pytest.mark.parametrize(
        ("decimals", "nano_per_token", "tokens_per_nano"),
        [(0, 10**9, 1), (6, 1000, 1), (9, 1, 1), (18, 1, 10**9), (36, 1, 10**27)],
    )
    def test_the_ratio_to_nano_is_a_whole_number_one_way_or_the_other(
        self, community: LiveCommunity, decimals: int, nano_per_token: int, tokens_per_nano: int
    ) -> None:
        bank = open_bank(community, decimals)
        assert bank.functions.nanoPerToken().call() == nano_per_token
        assert bank.functions.tokensPerNano().call() == tokens_per_nano
        if tokens_per_nano > 1:
            call = bank.functions.deposit(MEMBER, tokens_per_nano + 1)
            expected = ("NotWholeNano", tokens_per_nano + 1, tokens_per_nano)
            assert community.refused(call) == expected

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
        # web3 gives constructor and function calls no type in common; what is used of them is the same.
        refused = community.client.refusal(call, deployer)  # type: ignore[arg-type]
        assert refused is not None
        assert (refused.error_name, refused.arguments) == ("UnsupportedDecimals", {"decimals": 37})

    def test_more_than_a_balance_holds_is_refused(self, community: LiveCommunity) -> None:
        bank = open_bank(community, 0)
        tokens = 2**128 // NANO + 1
        bank.fund(tokens)
        assert community.refused(bank.functions.deposit(MEMBER, tokens)) is not None


class TestPermit:
    def permit(self, bank: Bank, tokens: int, deadline: int = 2**40) -> tuple[int, bytes, bytes]:
        """The outsider's ERC-2612 permit for the vault."""
        owner = account("outsider")
        kind = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
        nonce = bank.token.functions.nonces(owner.address).call()
        struct = keccak(
            tag(kind)
            + address_word(owner.address)
            + address_word(bank.vault.address)
            + word(tokens)
            + word(nonce)
            + word(deadline)
        )
        domain = bank.token.functions.DOMAIN_SEPARATOR().call()
        signed = owner.unsafe_sign_hash(Hash32(typed_data_digest(domain, struct)))
        return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")

    def test_a_permit_takes_the_place_of_an_approval(self, bank: Bank) -> None:
        bank.fund(500, allowed=0)
        signature = self.permit(bank, 500)
        call = bank.functions.depositWithPermit(MEMBER, 500, 2**40, *signature)
        bank.community.send(call, "outsider")
        assert bank.held(bank.vault.address) == 500

    def test_one_that_somebody_used_before_does_no_harm(self, bank: Bank) -> None:
        """Who sees it on its way can send it to the token first; its allowance is there then."""
        bank.fund(500, allowed=0)
        signature = self.permit(bank, 500)
        owner = account("outsider").address
        use = bank.token.functions.permit(owner, bank.vault.address, 500, 2**40, *signature)
        bank.community.send(use, "dso")
        call = bank.functions.depositWithPermit(MEMBER, 500, 2**40, *signature)
        bank.community.send(call, "outsider")
        assert bank.functions.depositedNano(MEMBER).call() == 500_000

    def test_anybody_elses_is_worthless(self, bank: Bank) -> None:
        bank.fund(500, allowed=0)
        signature = self.permit(bank, 500)
        call = bank.functions.depositWithPermit(MEMBER, 500, 2**40, *signature)
        outcome = bank.community.refused(call, "dso")
        assert outcome is not None and outcome[0] == "ERC20InsufficientAllowance"
        more = bank.functions.depositWithPermit(MEMBER, 501, 2**40, *signature)
        outcome = bank.community.refused(more)
        assert outcome is not None and outcome[0] == "ERC20InsufficientAllowance"


class TestWithdrawal:
    @pytest.mark.parametrize("decimals", [0, 6, 9, 18])
    def test_pays_deposit_and_balance_above_the_collateral_rounded_down(
        self, community: LiveCommunity, final: Batch, decimals: int
    ) -> None:
        bank = open_bank(community, decimals)
        for slot in (MEMBER, OTHER):
            bank.deposit(slot, bank.tokens(DEPOSIT_NANO))
        cumulative = final.leaves[MEMBER].cumulative_nano
        assert cumulative > 0 > final.leaves[OTHER].cumulative_nano
        free_nano = DEPOSIT_NANO + cumulative - COLLATERAL_NANO
        limit = bank.tokens(free_nano)
        assert bank.withdrawable(MEMBER, final) == limit
        over = community.refused(bank.withdrawal(limit + 1, final, MEMBER))
        assert over == ("AboveWithdrawable", limit + 1, limit)
        community.send(bank.withdrawal(limit, final, MEMBER), "outsider")
        assert bank.held(community.paper.member(MEMBER).account) == limit
        per_token = bank.functions.nanoPerToken().call()
        paid_nano = limit * per_token // bank.functions.tokensPerNano().call()
        assert bank.functions.withdrawnNano(MEMBER).call() == paid_nano
        # The remainder is less than a smallest unit and stays on the ledger.
        assert 0 <= free_nano - paid_nano < per_token
        assert bank.withdrawable(MEMBER, final) == 0

    def withdrawal_gas(self, bank: Bank, final: Batch) -> list[int]:
        """Of the first withdrawal, to an owner without tokens, and of the second."""
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        call = bank.withdrawal(1_000_000, final, MEMBER)
        return [bank.community.send(call, "outsider").gas_used for _ in range(2)]

    def test_costs_little(self, bank: Bank, final: Batch) -> None:
        assert self.withdrawal_gas(bank, final)[1] <= WITHDRAW_GAS

    @pytest.mark.xfail(
        strict=True,
        # 17 100 more than the second one: the token's own word for the balance of who never had any (20 000 instead of 2900), which no
        # vault can spare its member. From the second withdrawal on it is 74 760.
        reason="91 860 gas to an owner who holds no tokens yet: the token writes a new storage word",
    )
    def test_costs_little_the_first_time_as_well(self, bank: Bank, final: Batch) -> None:
        assert self.withdrawal_gas(bank, final)[0] <= WITHDRAW_GAS

    def test_a_debtor_gets_back_its_deposit_less_what_it_owes(
        self, bank: Bank, final: Batch
    ) -> None:
        bank.deposit(OTHER, bank.tokens(DEPOSIT_NANO))
        limit = bank.tokens(DEPOSIT_NANO + final.leaves[OTHER].cumulative_nano - COLLATERAL_NANO)
        assert bank.withdrawable(OTHER, final) == limit

    def test_anyone_may_ask_but_the_money_goes_to_the_owner_once(
        self, bank: Bank, final: Batch
    ) -> None:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        limit = bank.withdrawable(MEMBER, final)
        call = bank.withdrawal(limit - 5, final, MEMBER)
        bank.community.send(call, "outsider")
        owner = bank.community.paper.member(MEMBER).account
        assert bank.held(owner) == limit - 5
        assert bank.held(account("outsider").address) == 0
        (event,) = bank.community.events("Vault", "Withdrawn")
        assert event == {"slot": MEMBER, "account": owner, "tokens": limit - 5}
        assert bank.community.refused(call) == ("AboveWithdrawable", limit - 5, 5)

    def test_an_account_without_collateral_takes_out_all_it_has(
        self, bank: Bank, final: Batch
    ) -> None:
        """The supplier is paid by what the members put in."""
        bank.deposit(OTHER, bank.tokens(DEPOSIT_NANO))
        limit = final.leaves[SUPPLIER_SLOT].cumulative_nano // 1000
        assert limit > 0
        bank.community.send(bank.withdrawal(limit, final, SUPPLIER_SLOT), "outsider")
        assert bank.held(account("supplier").address) == limit

    def test_a_balance_below_the_collateral_pays_nothing(self, bank: Bank, final: Batch) -> None:
        bank.deposit(OTHER, bank.tokens(COLLATERAL_NANO // 2))
        refused = bank.community.refused(bank.withdrawal(1, final, OTHER))
        assert refused == ("AboveWithdrawable", 1, 0)

    def test_a_deposit_that_no_batch_knows_is_taken_back(
        self, community: LiveCommunity, final: Batch
    ) -> None:
        """An account without a meter, admitted after the last final batch; at a slot behind the tree."""
        key = account("wallet", 8)
        record = MemberRecord(key.address, community.contracts.first_future_period(), 0, 0, 0, 0)
        community.send(community.contracts.admit(8, record, community.consent(8, record, key)))
        community.deposit(8, NANO)
        tokens = NANO // 1000
        call = community.contracts.withdraw_unsettled(8, tokens + 1, final)
        assert community.refused(call) == ("AboveWithdrawable", tokens + 1, tokens)
        community.send(community.contracts.withdraw_unsettled(8, tokens, final), "outsider")
        assert community.contracts.token_balance(key.address) == tokens
        refused = community.refused(community.contracts.withdraw_unsettled(9, 1, final))
        assert refused == ("UnknownSlot", 9)

    def test_also_at_an_empty_slot_within_the_tree(self, community: LiveCommunity) -> None:
        """A larger tree than needed has room for the newcomer already."""
        batch = with_forged_tree(community.batch(0), depth=4)
        community.submit_final(batch)
        key = account("wallet", 8)
        record = MemberRecord(key.address, community.contracts.first_future_period(), 0, 0, 0, 0)
        community.send(community.contracts.admit(8, record, community.consent(8, record, key)))
        community.deposit(8, NANO)
        call = community.contracts.withdraw_unsettled(8, NANO // 1000, batch)
        assert community.refused(call) is None
        # Whoever has a leaf cannot pretend to have none.
        community.deposit(OTHER, NANO)
        refused = community.refused(community.contracts.withdraw_unsettled(OTHER, 1, batch))
        assert refused is not None and refused[0] == "NotInTree"


class TestWithdrawingTogether:
    SLOTS = (MEMBER, OTHER, SUPPLIER_SLOT)

    @pytest.fixture
    def limits(self, bank: Bank, final: Batch) -> dict[int, int]:
        for slot in (MEMBER, OTHER):
            bank.deposit(slot, bank.tokens(DEPOSIT_NANO))
        return {slot: bank.withdrawable(slot, final) for slot in self.SLOTS}

    def test_pays_what_each_could_take_out_alone(
        self, bank: Bank, final: Batch, limits: dict[int, int]
    ) -> None:
        bank.community.send(bank.community.contracts.withdraw_many(limits, final), "outsider")
        owners = {slot: bank.community.contracts.member_at(slot).account for slot in self.SLOTS}
        assert {slot: bank.held(owner) for slot, owner in owners.items()} == limits
        assert bank.community.events("Vault", "Withdrawn") == [
            {"slot": slot, "account": owners[slot], "tokens": limits[slot]} for slot in self.SLOTS
        ]

    def test_costs_little_the_first_time_as_well(
        self, bank: Bank, final: Batch, limits: dict[int, int]
    ) -> None:
        """To wallets that have never held the token, the supplier's without a deposit."""
        call = bank.community.contracts.withdraw_many(limits, final)
        used = bank.community.send(call, "outsider").gas_used
        assert used <= len(limits) * WITHDRAW_GAS

    @pytest.mark.parametrize("wrong", SLOTS)
    def test_pays_nobody_if_one_asks_for_too_much(
        self, bank: Bank, final: Batch, limits: dict[int, int], wrong: int
    ) -> None:
        asked = limits | {wrong: limits[wrong] + 1}
        call = bank.community.contracts.withdraw_many(asked, final)
        assert bank.community.refused(call) == (
            "AboveWithdrawable",
            limits[wrong] + 1,
            limits[wrong],
        )

    def test_pays_nobody_twice(self, bank: Bank, final: Batch, limits: dict[int, int]) -> None:
        item = (
            limits[MEMBER],
            leaf_tuple(final.leaves[MEMBER]),
            final.ledger.proof(MEMBER),
        )
        twice = bank.functions.withdrawMany(head_tuple(final.header), [item, item])
        assert bank.community.refused(twice) == ("AboveWithdrawable", limits[MEMBER], 0)

    def test_needs_every_proof(self, bank: Bank, final: Batch, limits: dict[int, int]) -> None:
        forged = replace(
            final,
            leaves=dict(final.leaves)
            | {OTHER: replace(final.leaves[OTHER], cumulative_nano=10**15)},
        )
        refused = bank.community.refused(bank.community.contracts.withdraw_many(limits, forged))
        assert refused is not None and refused[0] == "NotInTree"

    def test_only_the_last_final_batch_pays(self, bank: Bank) -> None:
        first, second = bank.community.batches(2)
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        call = bank.community.contracts.withdraw_many({MEMBER: 1}, first)
        assert bank.community.refused(call) == ("NoSuchBatch", 1)
        bank.community.submit_final(first)
        assert bank.community.refused(call) is None
        bank.community.submit(second)
        assert bank.community.refused(call) == ("NotAnnounced", MEMBER, 0)


class TestProof:
    @pytest.fixture
    def funded(self, bank: Bank) -> Bank:
        bank.deposit(MEMBER, bank.tokens(DEPOSIT_NANO))
        return bank

    def test_only_the_last_final_batch_pays(self, funded: Bank) -> None:
        community = funded.community
        first, second = community.batches(2)
        call = funded.withdrawal(1, first, MEMBER)
        assert community.refused(call) == ("NoSuchBatch", 1)
        community.submit(first)
        assert community.refused(call) == ("NotFinal", 1)
        community.pass_challenge_window()
        assert community.refused(call) is None
        announced = community.contracts.announce_withdrawal(1, first, MEMBER)
        community.send(announced, community.wallet(MEMBER))
        community.submit(second)
        # While the newer one can be challenged, only what was announced before it leaves, and not at once.
        refused = community.refused(call)
        assert refused is not None and refused[0] == "StillTime"
        more = community.refused(funded.withdrawal(2, first, MEMBER))
        assert more is not None and more[0] == "NotAnnounced"
        later = funded.withdrawal(1, second, MEMBER)
        assert community.refused(later) == ("NotFinal", 2)
        community.pass_challenge_window()
        assert community.refused(call) == ("NotLastFinal", 1)
        assert community.refused(later) is None

    def test_another_header_proves_nothing(self, funded: Bank, final: Batch) -> None:
        other = final.with_bundle_hash(b"\x11" * 32)
        refused = funded.community.refused(funded.withdrawal(1, other, MEMBER))
        assert refused == ("WrongHeader", other.header.hash(), final.header.hash())

    @pytest.mark.parametrize(
        "change",
        [
            {"cumulative_nano": 10**15},
            {"amount_nano": 10**15},
            {"slot": OTHER},
            {"salt": bytes(32)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_another_leaf_proves_nothing(
        self, funded: Bank, final: Batch, change: dict[str, Any]
    ) -> None:
        leaf = replace(final.leaves[MEMBER], **change)
        forged = replace(final, leaves=dict(final.leaves) | {MEMBER: leaf})
        refused = funded.community.refused(funded.withdrawal(1, forged, MEMBER))
        assert refused is not None
        assert (refused[0], refused[2]) == ("NotInTree", final.header.ledger_root)


class TestCollateral:
    def test_stays_until_all_that_the_member_took_part_in_is_final(
        self, ahead: LiveCommunity
    ) -> None:
        community = ahead
        bank = Bank(community, community.contract("TestToken"), community.contract("Vault"))
        for slot in (MEMBER, OTHER):
            bank.deposit(slot, bank.tokens(DEPOSIT_NANO))
        community.send(
            community.contracts.depart(MEMBER, FIRST_PERIOD + 2), community.wallet(MEMBER)
        )
        first, second = community.batches(2)
        third_readings = community.paper.signed_report(
            community.period(2),
            energy_of(2),
            community.place,
            community.paper.members[1:],
        )
        third = community.batch(2, second, signed=third_readings)
        community.travel_to(community.place.first_interval * 900 + 3 * 3600)
        community.submit_final(first)
        cumulative = first.leaves[MEMBER].cumulative_nano
        locked = bank.tokens(DEPOSIT_NANO + cumulative - COLLATERAL_NANO)
        assert bank.withdrawable(MEMBER, first) == locked
        community.submit_final(second)
        cumulative = second.leaves[MEMBER].cumulative_nano
        everything = bank.tokens(DEPOSIT_NANO + cumulative)
        assert bank.withdrawable(MEMBER, second) == everything
        # Its leaf carries the balance on, and it may leave with it any time.
        community.submit_final(third)
        assert third.leaves[MEMBER].cumulative_nano == cumulative
        community.send(bank.withdrawal(everything, third, MEMBER), "outsider")
        assert bank.held(community.paper.member(MEMBER).account) == everything


class TestGuarantee:
    def test_is_locked_granted_and_released(self, community: LiveCommunity, final: Batch) -> None:
        contracts, guarantor = community.contracts, account("guarantor").address
        community.send(
            contracts.deposit_guarantee(community.give("guarantor", 5 * NANO)), "guarantor"
        )
        grant = contracts.grant_credit(OTHER, 3 * NANO)
        community.send(grant, "guarantor")
        assert contracts.credit_nano(OTHER) == 3 * NANO
        found = community.functions("Vault").guaranteeOf(guarantor).call()
        assert tuple(found) == (5 * NANO, 3 * NANO)
        assert community.refused(grant, "guarantor") == ("AboveGuarantee", 6 * NANO, 5 * NANO)
        take = contracts.withdraw_guarantee(2 * NANO // 1000 + 1)
        refused = community.refused(take, "guarantor")
        assert refused == ("AboveWithdrawable", 2 * NANO // 1000 + 1, 2 * NANO // 1000)
        community.send(contracts.withdraw_guarantee(2 * NANO // 1000), "guarantor")
        assert contracts.token_balance(guarantor) == 2 * NANO // 1000

    def test_credit_is_for_members(self, community: LiveCommunity) -> None:
        call = community.contracts.grant_credit(NOBODY, 0)
        assert community.refused(call, "guarantor") == ("UnknownSlot", NOBODY)

    def test_is_not_the_members_to_withdraw(self, bank: Bank, final: Batch) -> None:
        bank.community.guarantee(OTHER, DEPOSIT_NANO)
        refused = bank.community.refused(bank.withdrawal(1, final, OTHER))
        assert refused == ("AboveWithdrawable", 1, 0)

    def test_is_revoked_only_as_far_as_it_is_not_needed(
        self, community: LiveCommunity, final: Batch
    ) -> None:
        """A member without tokens: credit covers what it owes and its collateral."""
        contracts = community.contracts
        needed = COLLATERAL_NANO - final.leaves[OTHER].cumulative_nano
        community.guarantee(OTHER, needed + 7000)
        one_too_many = contracts.revoke_credit(OTHER, 7001, final)
        assert community.refused(one_too_many, "guarantor") == ("CreditInUse", OTHER, -1)
        community.send(contracts.revoke_credit(OTHER, 7000, final), "guarantor")
        assert contracts.credit_nano(OTHER) == needed
        community.send(contracts.withdraw_guarantee(7), "guarantor")
        community.deposit(OTHER, needed)
        community.send(contracts.revoke_credit(OTHER, needed, final), "guarantor")
        assert contracts.credit_nano(OTHER) == 0

    def test_nobody_revokes_anothers(self, community: LiveCommunity, final: Batch) -> None:
        community.guarantee(OTHER, DEPOSIT_NANO)
        call = community.contracts.revoke_credit(OTHER, 1, final)
        assert community.refused(call, "dso") == ("AboveCredit", 1, 0)

    def test_a_proof_of_another_slot_is_none(self, community: LiveCommunity, final: Batch) -> None:
        community.guarantee(OTHER, DEPOSIT_NANO)
        call = community.functions("Vault").revokeCredit(
            OTHER,
            1,
            head_tuple(final.header),
            leaf_tuple(final.leaves[MEMBER]),
            final.ledger.proof(MEMBER),
        )
        assert community.refused(call, "guarantor") == ("WrongSlot", MEMBER, OTHER)


def test_the_vault_can_pay_everything_withdrawable(community: LiveCommunity) -> None:
    """Debtors are covered in part by deposits and in part by a guarantor; creditors have put in nothing."""
    batch = community.batch(0)
    community.submit(batch)
    for slot, leaf in batch.leaves.items():
        owed = max(0, -leaf.cumulative_nano)
        if owed:
            community.deposit(slot, owed // 2)
            community.guarantee(slot, owed - owed // 2)
    for slot in batch.leaves:
        refused = community.refused(community.contracts.demand_cover(batch, slot))
        assert refused == ("NothingIsWrong",)
    community.pass_challenge_window()
    for slot in batch.leaves:
        tokens = community.contracts.withdrawable(slot, batch)
        if tokens:
            community.send(community.contracts.withdraw(tokens, batch, slot), "outsider")
    paid = sum(community.contracts.vault_balances(slot)[1] for slot in batch.leaves)
    assert paid > 0


def test_what_was_announced_leaves_while_a_batch_is_open(community: LiveCommunity) -> None:
    """Every open batch was judged without it; the late withdrawal that would leave the vault short is refused."""
    first, second = community.batches(2)
    community.submit_final(first)
    community.deposit(MEMBER, DEPOSIT_NANO)
    wallet, tokens = community.wallet(MEMBER), 1_000_000
    contracts = community.contracts
    stranger = community.refused(contracts.announce_withdrawal(tokens, first, MEMBER))
    assert stranger == ("NotTheOwner", MEMBER, account("outsider").address.lower())
    too_much = contracts.announce_withdrawal(10**12, first, MEMBER)
    refused = community.refused(too_much, wallet)
    assert refused is not None and refused[0] == "AboveWithdrawable"
    vault = community.functions("Vault")
    cover = vault.coverNano(MEMBER, 0, 2**64 - 1)
    earlier = vault.coverNano(MEMBER, 0, 1)
    before = cover.call()
    community.send(contracts.announce_withdrawal(tokens, first, MEMBER), wallet)
    assert before - cover.call() == tokens * 1000
    # A batch from before the announcement is judged without it.
    assert earlier.call() == before
    community.submit_final(second)
    third = community.batch(2, second)
    community.submit(third)
    community.send(contracts.withdraw(tokens, second, MEMBER), "outsider")
    assert contracts.token_balance(community.paper.member(MEMBER).account) == tokens
    again = community.refused(contracts.withdraw(1, second, MEMBER))
    assert again == ("NotAnnounced", MEMBER, 0)
    assert cover.call() == before - tokens * 1000
