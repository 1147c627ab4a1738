"""Who is a member, from when until when: nobody without its own signature, nobody longer than it wants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from web3.contract.contract import ContractFunction

from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.settlement.encoding import (
    departure_hash,
    domain_separator,
    membership_hash,
    typed_data_digest,
)
from contracts.bindings import NO_NODE, MemberRecord, constructor
from tests.support.chain import answer, restored, said
from tests.support.community import (
    COLLATERAL_NANO,
    COLLATERAL_STEPS,
    ETHER,
    FIRST_PERIOD,
    LiveCommunity,
    account,
)
from tests.support.lies import with_leaf

ZERO_ADDRESS = "0x" + "00" * 20
MEMBER = FIRST_MEMBER_SLOT
NEW_SLOT = FIRST_MEMBER_SLOT + 5
JOIN_GAS = LEAVE_GAS = 80_000
NANO_TOKEN = 1000  # one smallest unit of the token


def newcomer(**fields: Any) -> MemberRecord:
    """What a newcomer signs."""
    record = MemberRecord(account("wallet", NEW_SLOT).address, FIRST_PERIOD + 1, 0, 1, 0, 3)
    return replace(record, **fields)


def admission(
    community: LiveCommunity,
    record: MemberRecord | None = None,
    slot: int = NEW_SLOT,
    key: LocalAccount | None = None,
) -> ContractFunction:
    """An admission signed by the newcomer, or by somebody else."""
    record = record or newcomer()
    consent = community.consent(slot, record, key or account("wallet", NEW_SLOT))
    return community.contracts.admit(slot, record, consent)


def departure_signature(
    community: LiveCommunity, slot: int, until: int, key: LocalAccount
) -> bytes:
    domain = domain_separator(
        community.client.chain_id, community.contracts.addresses["MemberRegistry"]
    )
    digest = Hash32(typed_data_digest(domain, departure_hash(slot, until)))
    return bytes(key.unsafe_sign_hash(digest).signature)


def deploy_wallet(community: LiveCommunity, owner: LocalAccount) -> str:
    """A contract wallet of an owner's."""
    made = community.client.send(
        constructor(community.client.web3, "TestWallet", owner.address), account("deployer")
    )
    assert made.contract_address is not None
    return made.contract_address


class TestAccounts:
    def test_system_accounts_come_first_and_have_no_node(self, community: LiveCommunity) -> None:
        for slot, role in ((SUPPLIER_SLOT, "supplier"), (DSO_SLOT, "dso"), (FUND_SLOT, "fund")):
            assert community.contracts.member_at(slot) == MemberRecord(
                account(role).address, FIRST_PERIOD, 0, NO_NODE, 0, 0
            )

    def test_members_follow_by_slot(self, community: LiveCommunity) -> None:
        for member in community.paper.members:
            group = community.market.groups[
                community.market.group_index[member.node, member.tariff_class]
            ]
            assert community.contracts.member_at(member.slot) == MemberRecord(
                member.account,
                FIRST_PERIOD,
                0,
                group.node,
                group.tariff_class,
                COLLATERAL_STEPS,
            )
        assert not community.contracts.slot_exists(NEW_SLOT)

    def test_a_slot_that_nobody_has(self, community: LiveCommunity) -> None:
        functions = community.functions("MemberRegistry")
        assert said(answer(functions.memberAt(NEW_SLOT))) == ("UnknownSlot", NEW_SLOT)
        assert functions.isActive(NEW_SLOT, FIRST_PERIOD).call() is False
        assert community.contracts.slot_exists(NEW_SLOT) is False
        assert community.contracts.slot_exists(MEMBER) is True


class TestAdmission:
    def test_with_consent_it_is_on_record_and_announced(self, community: LiveCommunity) -> None:
        sent = community.send(admission(community))
        assert sent.gas_used <= JOIN_GAS
        assert community.contracts.member_at(NEW_SLOT) == newcomer()
        assert community.events("MemberRegistry", "MemberAdmitted")[-1] == {
            "slot": NEW_SLOT,
            "account": account("wallet", NEW_SLOT).address,
            "fromPeriod": FIRST_PERIOD + 1,
            "node": 1,
            "tariffClass": 0,
            "collateralSteps": 3,
        }

    def test_nobody_signs_for_another(self, community: LiveCommunity) -> None:
        refused = community.refused(admission(community, key=account("outsider")), "deployer")
        assert refused == ("NoConsent", NEW_SLOT, newcomer().account.lower())

    @pytest.mark.parametrize(
        "change",
        [
            {"from_period": FIRST_PERIOD + 2},
            {"node": 2},
            {"tariff_class": 1},
            {"collateral_steps": 4},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_consent_binds_every_field(
        self, community: LiveCommunity, change: dict[str, int]
    ) -> None:
        consent = community.consent(NEW_SLOT, newcomer(), account("wallet", NEW_SLOT))
        call = community.contracts.admit(NEW_SLOT, newcomer(**change), consent)
        assert community.refused(call, "deployer") == (
            "NoConsent",
            NEW_SLOT,
            newcomer().account.lower(),
        )

    def test_consent_for_another_registry_or_chain_is_none(self, community: LiveCommunity) -> None:
        key, record = account("wallet", NEW_SLOT), newcomer()
        registry = community.contracts.addresses["MemberRegistry"]
        for chain, contract in ((5, registry), (community.client.chain_id, "0x" + "22" * 20)):
            struct = membership_hash(
                NEW_SLOT,
                record.account,
                record.from_period,
                record.node,
                record.tariff_class,
                record.collateral_steps,
            )
            digest = Hash32(typed_data_digest(domain_separator(chain, contract), struct))
            consent = bytes(key.unsafe_sign_hash(digest).signature)
            call = community.contracts.admit(NEW_SLOT, record, consent)
            refused = community.refused(call, "deployer")
            assert refused is not None and refused[0] == "NoConsent"

    def test_a_contract_wallet_consents_by_erc_1271(self, community: LiveCommunity) -> None:
        owner = account("wallet", NEW_SLOT)
        record = newcomer(account=deploy_wallet(community, owner))
        stranger = admission(community, record, key=account("outsider"))
        assert community.refused(stranger, "deployer") == (
            "NoConsent",
            NEW_SLOT,
            record.account.lower(),
        )
        community.send(admission(community, record, key=owner))
        assert community.contracts.member_at(NEW_SLOT) == record

    def test_and_leaves_by_its_own_call(self, community: LiveCommunity) -> None:
        owner = account("wallet", NEW_SLOT)
        community.client.fund([owner.address], ETHER)
        record = newcomer(account=deploy_wallet(community, owner))
        community.send(admission(community, record, key=owner))
        wallet = community.contract("TestWallet", record.account)
        until = community.contracts.first_future_period() + 5
        leave = community.contracts.depart(NEW_SLOT, until)
        call = wallet.functions.execute(leave.address, leave._encode_transaction_data())
        community.send(call, owner)
        assert community.contracts.member_at(NEW_SLOT).until_period == until

    def test_nobody_is_admitted_twice_with_one_consent(self, community: LiveCommunity) -> None:
        """The slot is part of what is signed, and is never given out again."""
        call = admission(community)
        community.send(call)
        assert community.refused(call, "deployer") == ("SlotTaken", NEW_SLOT)
        other = community.contracts.admit(NEW_SLOT + 1, newcomer(), call.args[2])
        refused = community.refused(other, "deployer")
        assert refused == ("NoConsent", NEW_SLOT + 1, newcomer().account.lower())

    def test_a_slot_is_not_reused_after_its_member_left(self, community: LiveCommunity) -> None:
        until = community.contracts.first_future_period() + 1
        community.send(community.contracts.depart(MEMBER, until), community.wallet(3))
        refused = community.refused(admission(community, slot=MEMBER), "deployer")
        assert refused == ("SlotTaken", MEMBER)

    @pytest.mark.parametrize("slot", [NEW_SLOT + 1, 2**20 - 1])
    def test_slots_are_given_out_in_order(self, community: LiveCommunity, slot: int) -> None:
        refused = community.refused(admission(community, slot=slot), "deployer")
        assert refused == ("SlotSkipped", slot - 1)

    @pytest.mark.parametrize("slot", [2**20, 2**255])
    def test_a_slot_that_no_tree_has_room_for(self, community: LiveCommunity, slot: int) -> None:
        refused = community.refused(admission(community, slot=slot), "deployer")
        assert refused == ("SlotOutsideTree", slot)

    def test_nobody_is_admitted_as_having_left(self, community: LiveCommunity) -> None:
        record = newcomer(until_period=FIRST_PERIOD + 9)
        refused = community.refused(admission(community, record), "deployer")
        assert refused == ("AlreadyLeft", NEW_SLOT, FIRST_PERIOD + 9)

    def test_the_zero_address_signs_nothing(self, community: LiveCommunity) -> None:
        record = newcomer(account=ZERO_ADDRESS)
        refused = community.refused(admission(community, record), "deployer")
        assert refused == ("NoConsent", NEW_SLOT, ZERO_ADDRESS)

    def test_a_system_account_needs_an_address(self, community: LiveCommunity) -> None:
        call = constructor(
            community.client.web3,
            "MemberRegistry",
            community.contracts.addresses["AccessManager"],
            community.place.clearing_house,
            [ZERO_ADDRESS] * 3,
            FIRST_PERIOD,
            1,
        )
        refused = community.client.refusal(call, account("deployer"))  # type: ignore[arg-type]
        assert said(refused) == ("ZeroAccount",)

    def test_the_period_has_not_begun(self, community: LiveCommunity) -> None:
        """The founders may set up what has begun; from the first batch on, nobody can."""
        early = newcomer(from_period=FIRST_PERIOD - 1)
        refused = community.refused(admission(community, early), "deployer")
        assert refused == ("PeriodBegun", FIRST_PERIOD - 1, FIRST_PERIOD)
        community.submit(community.batch(0))
        first_future = community.contracts.first_future_period()
        assert first_future > FIRST_PERIOD + 1000
        record = newcomer(from_period=first_future - 1)
        refused = community.refused(admission(community, record), "deployer")
        assert refused == ("PeriodBegun", first_future - 1, first_future)
        community.send(admission(community, newcomer(from_period=first_future)))


class TestDeparture:
    @pytest.fixture
    def community(self, ahead: LiveCommunity) -> LiveCommunity:
        """Memberships end with periods that have not begun; here the first has not."""
        return ahead

    def test_by_the_owners_call(self, community: LiveCommunity) -> None:
        until = FIRST_PERIOD + 2
        sent = community.send(community.contracts.depart(MEMBER, until), community.wallet(MEMBER))
        assert sent.gas_used <= LEAVE_GAS
        active = community.functions("MemberRegistry").isActive
        found = [active(MEMBER, FIRST_PERIOD + offset).call() for offset in (-1, 0, 1, 2, 3)]
        assert found == [False, True, True, False, False]
        (event,) = community.events("MemberRegistry", "MemberLeft")
        owner = community.paper.member(MEMBER).account
        assert event == {"slot": MEMBER, "account": owner, "untilPeriod": until}

    def test_by_nobody_elses(self, community: LiveCommunity) -> None:
        for caller in ("outsider", "deployer", "coordinator"):
            call = community.contracts.depart(MEMBER, FIRST_PERIOD + 2)
            refused = community.refused(call, caller)
            assert refused == ("NoConsent", MEMBER, account(caller).address.lower())

    def test_by_the_owners_signature_sent_by_anyone(self, community: LiveCommunity) -> None:
        until = FIRST_PERIOD + 2
        signature = departure_signature(community, MEMBER, until, community.wallet(MEMBER))
        call = community.contracts.depart_with_signature(MEMBER, until, signature)
        assert community.send(call, "outsider").gas_used <= LEAVE_GAS
        assert community.contracts.member_at(MEMBER).until_period == until
        assert community.refused(call) == ("AlreadyLeft", MEMBER, until)

    def test_a_signature_is_good_for_one_slot_and_period(self, community: LiveCommunity) -> None:
        signature = departure_signature(
            community, MEMBER, FIRST_PERIOD + 2, community.wallet(MEMBER)
        )
        for slot, until in ((MEMBER, FIRST_PERIOD + 1), (MEMBER + 1, FIRST_PERIOD + 2)):
            refused = community.refused(
                community.contracts.depart_with_signature(slot, until, signature)
            )
            owner = community.paper.member(slot).account
            assert refused == ("NoConsent", slot, owner.lower())

    def test_by_the_registrar_and_no_other_official(self, community: LiveCommunity) -> None:
        call = community.contracts.end_membership(MEMBER, FIRST_PERIOD + 2)
        coordinator = account("coordinator").address.lower()
        refused = community.refused(call, "coordinator")
        assert refused == ("AccessManagedUnauthorized", coordinator)
        community.send(call)
        assert community.contracts.member_at(MEMBER).until_period == FIRST_PERIOD + 2

    def test_is_brought_forward_and_never_put_off(self, community: LiveCommunity) -> None:
        owner = community.wallet(MEMBER)
        community.send(community.contracts.depart(MEMBER, FIRST_PERIOD + 5), owner)
        for until in (FIRST_PERIOD + 5, FIRST_PERIOD + 6):
            refused = community.refused(community.contracts.depart(MEMBER, until), owner)
            assert refused == ("AlreadyLeft", MEMBER, FIRST_PERIOD + 5)
            refused = community.refused(
                community.contracts.end_membership(MEMBER, until), "deployer"
            )
            assert refused == ("AlreadyLeft", MEMBER, FIRST_PERIOD + 5)
        community.send(community.contracts.depart(MEMBER, FIRST_PERIOD + 4), owner)
        assert community.contracts.member_at(MEMBER).until_period == FIRST_PERIOD + 4

    def test_a_period_that_has_begun_is_settled_to_its_end(self, community: LiveCommunity) -> None:
        """Nobody takes a member's right to challenge a bill away by ending the membership before it."""
        community.travel_to(community.place.first_interval * 900 + 3600)
        community.submit(community.batch(0))
        first_future = community.contracts.first_future_period()
        for until in (FIRST_PERIOD, FIRST_PERIOD + 1, first_future - 1):
            call = community.contracts.end_membership(MEMBER, until)
            refused = community.refused(call, "deployer")
            assert refused == ("PeriodBegun", until, first_future)
            refused = community.refused(
                community.contracts.depart(MEMBER, until), community.wallet(MEMBER)
            )
            assert refused == ("PeriodBegun", until, first_future)
        community.send(community.contracts.depart(MEMBER, first_future), community.wallet(MEMBER))

    def test_not_even_before_the_first_batch(self, deployed: LiveCommunity) -> None:
        """Its report is signed, once and for all: whoever could leave now would make an honest batch false and end the community."""
        with restored(deployed.client.web3):
            community = deployed.reopened()
            batch = community.batch(0)
            first_future = community.contracts.first_future_period()
            assert first_future > community.contracts.first_open_period() == FIRST_PERIOD
            owner = community.wallet(MEMBER)
            for until in (FIRST_PERIOD, first_future - 1):
                refused = ("PeriodBegun", until, first_future)
                call = community.contracts.depart(MEMBER, until)
                assert community.refused(call, owner) == refused
                signature = departure_signature(community, MEMBER, until, owner)
                call = community.contracts.depart_with_signature(MEMBER, until, signature)
                assert community.refused(call) == refused
                call = community.contracts.end_membership(MEMBER, until)
                assert community.refused(call, "deployer") == refused
            community.send(community.contracts.depart(MEMBER, first_future), owner)
            community.submit(batch)
            call = community.contracts.challenge_inactive(batch, MEMBER)
            assert community.refused(call) == ("NothingIsWrong",)

    def test_system_accounts_stay(self, community: LiveCommunity) -> None:
        call = community.contracts.depart(SUPPLIER_SLOT, FIRST_PERIOD + 2)
        assert community.refused(call, "supplier") == ("SystemAccount", SUPPLIER_SLOT)
        call = community.contracts.end_membership(FUND_SLOT, FIRST_PERIOD + 2)
        assert community.refused(call, "deployer") == ("SystemAccount", FUND_SLOT)

    def test_nobody_leaves_a_slot_that_nobody_has(self, community: LiveCommunity) -> None:
        call = community.contracts.end_membership(NEW_SLOT, FIRST_PERIOD + 2)
        assert community.refused(call, "deployer") == ("UnknownSlot", NEW_SLOT)


class TestFirstFuturePeriod:
    def test_counts_on_with_the_clock(self, ahead: LiveCommunity) -> None:
        """Shortest periods only: no period that may have begun is taken for a future one."""
        batch = ahead.batch(0)
        begins = ahead.place.first_interval * 900
        assert ahead.contracts.first_future_period() == FIRST_PERIOD
        ahead.travel_to(begins + 3600)
        ahead.submit(batch)
        assert ahead.now() == begins + 3600
        # The second period begins this very second.
        assert ahead.contracts.first_future_period() == FIRST_PERIOD + 2
        assert ahead.contracts.first_open_period() == FIRST_PERIOD + 2
        for seconds, periods in ((7199, 2), (7200, 3), (3600 * 50, 51)):
            ahead.travel_to(begins + seconds)
            ahead.client.fund([account("outsider").address], 1)
            assert ahead.contracts.first_future_period() == FIRST_PERIOD + periods


class TestExclusion:
    def test_who_has_less_than_half_the_collateral_left_is_excluded_by_anyone(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        community.submit_final(batch)
        leaf = batch.leaves[MEMBER + 1]
        assert leaf.cumulative_nano < 0
        community.deposit(MEMBER + 1, COLLATERAL_NANO // 2)
        community.send(community.contracts.exclude(batch, MEMBER + 1), "outsider")
        until = community.contracts.member_at(MEMBER + 1).until_period
        assert until == community.contracts.first_future_period()

    def test_deposit_or_credit_keeps_a_member(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit_final(batch)
        slot = MEMBER + 1
        # Half, because anyone may have paid out the rest to its owner.
        needed = COLLATERAL_NANO // 2 - batch.leaves[slot].cumulative_nano
        community.deposit(slot, needed - NANO_TOKEN)
        call = community.contracts.exclude(batch, slot)
        assert community.refused(call) is None
        community.guarantee(slot, NANO_TOKEN)
        margin = community.functions("Vault").equityNano(slot, batch.leaves[slot].cumulative_nano)
        margin = margin.call() + NANO_TOKEN - COLLATERAL_NANO // 2
        assert community.refused(call) == ("StillCovered", slot, margin)

    def test_only_by_its_leaf_in_the_last_final_batch(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.exclude(batch, MEMBER)
        assert community.refused(call) == ("NotFinal", 1)
        community.pass_challenge_window()
        false = with_leaf(batch, MEMBER, cumulative_nano=-(10**15))
        forged = replace(batch, leaves=false.leaves)
        refused = community.refused(community.contracts.exclude(forged, MEMBER))
        assert refused is not None and refused[0] == "NotInTree"

    def test_not_a_system_account(self, community: LiveCommunity) -> None:
        """The fund owes nothing; a supplier that owes is covered or the batch falls, but it is never left out."""
        batch = community.batch(0)
        community.submit_final(batch)
        refused = community.refused(community.contracts.exclude(batch, FUND_SLOT))
        assert refused is not None and refused[0] == "StillCovered"
