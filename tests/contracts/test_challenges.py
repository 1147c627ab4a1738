"""Every lie that submission cannot see is overturned by one transaction, and no honest batch ever is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_hash.auto import keccak
from web3.contract.contract import ContractFunction

from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch, MemberPeriod, shift_money, with_ledger
from backend.settlement.encoding import LedgerLeaf, pack_readings, pack_sums
from backend.settlement.trees import ACCOUNT_DEPTH, PositionalTree
from contracts.bindings import (
    FAULTS,
    NO_GROUP,
    CommunityContracts,
    header_tuple,
    leaf_tuple,
    tariff_tuple,
)
from deploy.community import COORDINATOR_ROLE, admit_members
from oracle.signing import sign_report
from tests.support.chain import deploy_code, restored, said
from tests.support.community import (
    BOND_WEI,
    CHALLENGE_SECONDS,
    ETHER,
    FIRST_PERIOD,
    SHARE_MILLIONTHS,
    THRESHOLD,
    LiveCommunity,
    account,
    energy_of,
    member_at,
    period_number,
    secret,
    signer_keys,
)
from tests.support.lies import (
    Forgery,
    shift_cumulative,
    with_forged_tree,
    with_leaf,
)

MEMBER = FIRST_MEMBER_SLOT
OTHER = FIRST_MEMBER_SLOT + 2
NOBODY = 77
ZERO_ADDRESS = "0x" + "00" * 20


@dataclass(frozen=True)
class Claim:
    """The arguments of `challengeAmount`, to be spoiled one at a time."""

    header: Any
    readings: bytes
    readings_salt: bytes
    readings_proof: list[bytes]
    prices: bytes
    tariff: Any
    leaf: Any
    ledger_proof: list[bytes]

    def call(self, community: LiveCommunity) -> ContractFunction:
        functions = community.contract("ClearingHouse").functions
        return functions.challengeAmount(
            self.header,
            self.readings,
            self.readings_salt,
            self.readings_proof,
            self.prices,
            self.tariff,
            self.leaf,
            self.ledger_proof,
        )


def claim(community: LiveCommunity, batch: Batch, slot: int) -> Claim:
    """What a member brings against its bill."""
    item = batch.member_periods[slot]
    return Claim(
        header=header_tuple(batch.header),
        readings=pack_readings(item.readings),
        readings_salt=item.salt,
        readings_proof=batch.readings_tree.proof(slot),
        prices=batch.packed_prices,
        tariff=tariff_tuple(community.market, SHARE_MILLIONTHS),
        leaf=leaf_tuple(batch.leaves[slot]),
        ledger_proof=batch.ledger.proof(slot),
    )


def challenge_amount(community: LiveCommunity, batch: Batch, slot: int) -> ContractFunction:
    return community.contracts.challenge_amount(batch, slot, community.market, SHARE_MILLIONTHS)


def challenge_tree_sum(
    community: LiveCommunity, batch: Batch, level: int, index: int
) -> ContractFunction:
    """The challenge against one inner node of the batch's tree as it is."""
    tree = batch.ledger
    left, right = tree.node(level - 1, 2 * index), tree.node(level - 1, 2 * index + 1)
    return community.contracts.challenge_tree_sum(
        batch.header,
        level,
        index,
        tree.node(level, index).sums,
        (left.hash, left.sums, right.hash, right.sums),
        tree.proof(index, level),
    )


def challenge_leaf_sum(community: LiveCommunity, batch: Batch, slot: int) -> ContractFunction:
    """The challenge against what the tree counts for one leaf."""
    return community.contracts.challenge_leaf_sum(
        batch.header, batch.leaves[slot], batch.ledger.node(0, slot).sums, batch.ledger.proof(slot)
    )


def assert_overturned(
    community: LiveCommunity, call: ContractFunction, fault: str, period: int = FIRST_PERIOD
) -> None:
    """A passer-by sends the challenge and the batch is gone."""
    recorded = community.contracts.record_of(period).header_hash
    community.client.send(call, account("outsider"))
    assert community.contracts.record_of(period).header_hash == bytes(32)
    assert community.contracts.head_period() == period - 1
    event = community.events("ClearingHouse", "BatchVoided")[0]
    assert event["period"] == period
    assert event["batchHash"] == recorded
    assert FAULTS[event["fault"]] == fault
    assert event["challenger"] == account("outsider").address


def refusal(community: LiveCommunity, call: ContractFunction) -> tuple[Any, ...] | None:
    """Why a challenge is refused."""
    return said(community.client.refusal(call, account("outsider")))


class TestAmount:
    @pytest.mark.parametrize("slot", range(FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 5))
    def test_one_nano_too_much_on_any_members_bill_is_enough(
        self, community: LiveCommunity, slot: int
    ) -> None:
        lie = shift_money(community.batch(0), slot, FUND_SLOT, 1)
        community.submit(lie)
        assert_overturned(community, challenge_amount(community, lie, slot), "Amount")

    def test_a_bill_too_low_is_as_false_as_one_too_high(self, community: LiveCommunity) -> None:
        lie = shift_money(community.batch(0), MEMBER, OTHER, -(10**12))
        community.submit(lie)
        assert_overturned(community, challenge_amount(community, lie, OTHER), "Amount")

    def test_a_bill_in_a_later_period(self, community: LiveCommunity) -> None:
        first = community.batch(0)
        lie = shift_money(community.batch(1, first), MEMBER, OTHER, 5)
        community.submit_all([first, lie])
        call = challenge_amount(community, lie, MEMBER)
        assert_overturned(community, call, "Amount", FIRST_PERIOD + 1)

    def test_a_leaf_that_commits_to_other_readings_than_the_oracles(
        self, community: LiveCommunity
    ) -> None:
        lie = with_leaf(community.batch(0), MEMBER, readings_commitment=b"\x11" * 32)
        community.submit(lie)
        assert_overturned(community, challenge_amount(community, lie, MEMBER), "Amount")

    def test_a_reading_that_is_missing_is_not_billed(self, community: LiveCommunity) -> None:
        """One member's second register is lost; its bill leaves out two intervals and stands."""
        period = period_number(0)
        received = community.paper.received(
            period,
            {slot: [(40, 900)] * 4 for slot in range(MEMBER, MEMBER + 5)},
            community.place,
        )
        meter = community.paper.member(MEMBER).meter
        del received[meter][2]
        confirmations = [
            signer.confirm(period, 0, community.paper.members, community.market, received)
            for signer in community.paper.oracle_signers(community.place)
        ]
        signatures = tuple(item.signature for item in confirmations[:THRESHOLD])
        batch = community.paper.batch(
            period,
            confirmations[0].report,
            signatures,
            confirmations[0].member_periods,
            place=community.place,
        )
        readings = batch.member_periods[MEMBER].readings
        assert [reading.quality.name for reading in readings] == [
            "MEASURED",
            "MISSING",
            "MISSING",
            "MEASURED",
        ]
        community.submit(batch)
        call = challenge_amount(community, batch, MEMBER)
        assert refusal(community, call) == ("LeafIsHonest",)

    def test_other_readings_than_the_oracles_prove_nothing(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        false = bytearray(claim(community, batch, MEMBER).readings)
        false[6] ^= 1
        call = replace(claim(community, batch, MEMBER), readings=bytes(false)).call(community)
        outcome = refusal(community, call)
        assert outcome is not None
        assert outcome[0] == "NotInTree"
        assert outcome[2] == batch.header.readings_root

    def test_other_prices_prove_nothing(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        false = bytes(len(batch.packed_prices))
        call = replace(claim(community, batch, MEMBER), prices=false).call(community)
        assert refusal(community, call) == ("WrongPrices", keccak(false), batch.header.prices_hash)

    def test_another_tariff_proves_nothing(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        tariff = tariff_tuple(community.market, SHARE_MILLIONTHS + 1)
        outcome = refusal(
            community, replace(claim(community, batch, MEMBER), tariff=tariff).call(community)
        )
        assert outcome is not None
        assert outcome[0] == "WrongTariff"
        assert outcome[2] == batch.header.tariff_hash

    def test_another_members_leaf_proves_nothing(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        other = claim(community, batch, OTHER)
        mixed = replace(claim(community, batch, MEMBER), leaf=other.leaf)
        outcome = refusal(community, mixed.call(community))
        assert outcome is not None
        assert outcome[0] == "NotInTree"
        mixed = replace(mixed, readings_proof=other.readings_proof)
        outcome = refusal(community, mixed.call(community))
        assert outcome is not None
        assert outcome[0] == "NotInTree"

    def test_a_leaf_that_is_not_in_the_ledger_proves_nothing(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        community.submit(batch)
        leaf = replace(batch.leaves[MEMBER], amount_nano=0)
        call = replace(claim(community, batch, MEMBER), leaf=leaf_tuple(leaf)).call(community)
        outcome = refusal(community, call)
        assert outcome is not None
        assert outcome[0] == "NotInTree"
        assert outcome[2] == batch.header.ledger_root

    @pytest.mark.parametrize("spare", [-1, 1])
    def test_a_proof_of_another_length_proves_nothing(
        self, community: LiveCommunity, spare: int
    ) -> None:
        batch = community.batch(0)
        community.submit(batch)
        honest = claim(community, batch, MEMBER)
        proof = [*honest.readings_proof, bytes(32)][: ACCOUNT_DEPTH + spare]
        outcome = refusal(community, replace(honest, readings_proof=proof).call(community))
        assert outcome == ("WrongProofLength", ACCOUNT_DEPTH + spare, ACCOUNT_DEPTH)
        proof = [*honest.ledger_proof, bytes(32)][: 2 * ACCOUNT_DEPTH + spare]
        outcome = refusal(community, replace(honest, ledger_proof=proof).call(community))
        assert outcome == ("WrongProofLength", 2 * ACCOUNT_DEPTH + spare, 2 * ACCOUNT_DEPTH)

    def test_a_member_that_has_not_joined_yet_has_no_bill(self, community: LiveCommunity) -> None:
        community.client.send(
            community.contracts.admit(
                account("wallet", 8).address, ZERO_ADDRESS, 0, FIRST_PERIOD + 1, 0
            ),
            account("deployer"),
        )
        batch = community.batch(0)
        community.submit(batch)
        leaf = (8, bytes(32), bytes(32), bytes(32))
        call = replace(claim(community, batch, MEMBER), leaf=leaf).call(community)
        assert refusal(community, call) == ("NotActive", 8, FIRST_PERIOD)

    def test_an_account_without_a_meter_has_no_readings(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        leaf = leaf_tuple(batch.leaves[SUPPLIER_SLOT])
        call = replace(claim(community, batch, MEMBER), leaf=leaf).call(community)
        assert refusal(community, call) == ("HasNoMeter", SUPPLIER_SLOT)

    @pytest.mark.parametrize("field", ["readings", "prices"])
    def test_a_vector_of_another_length_is_refused(
        self, community: LiveCommunity, field: str
    ) -> None:
        """Lengths are checked where hashes cannot: an oracle that signs a leaf of three intervals bills nobody."""
        batch = community.batch(0)
        item = batch.member_periods[MEMBER]
        short = MemberPeriod(item.member, item.readings[:-1], item.salt)
        leaves = {slot: member.leaf() for slot, member in batch.member_periods.items()}
        tree = PositionalTree(leaves | {MEMBER: short.leaf()})
        report = replace(batch.report, readings_root=tree.root)
        signatures = tuple(
            sign_report(key, community.place.domain, report) for key in signer_keys()[:THRESHOLD]
        )
        header = replace(
            batch.header, report_hash=report.struct_hash(), readings_root=report.readings_root
        )
        batch = replace(
            batch,
            report=report,
            signatures=signatures,
            header=header,
            readings_tree=tree,
            member_periods=dict(batch.member_periods) | {MEMBER: short},
        )
        community.submit(batch)
        honest = claim(community, batch, MEMBER)
        if field == "readings":
            assert refusal(community, honest.call(community)) == ("WrongLength", 48, 64)
        else:
            outcome = refusal(community, replace(honest, prices=b"").call(community))
            assert outcome is not None
            assert outcome[0] == "WrongPrices"


class TestSystemAmount:
    @pytest.mark.parametrize("slot", [SUPPLIER_SLOT, DSO_SLOT, FUND_SLOT])
    @pytest.mark.parametrize("shift_nano", [1, -1])
    def test_what_supplier_dso_and_fund_get_is_what_the_certificates_add_up_to(
        self, community: LiveCommunity, slot: int, shift_nano: int
    ) -> None:
        lie = shift_money(community.batch(0), MEMBER, slot, shift_nano)
        community.submit(lie)
        call = community.contracts.challenge_system_amount(lie, slot)
        assert_overturned(community, call, "SystemAmount")

    def test_the_contract_computes_the_three_amounts_itself(self, community: LiveCommunity) -> None:
        """A coordinator's header that says otherwise is not the one on record."""
        batch = community.batch(0)
        community.submit(batch)
        header = replace(batch.header, supplier_nano=batch.header.supplier_nano + 1)
        lie = replace(batch, header=header)
        call = community.contracts.challenge_system_amount(lie, SUPPLIER_SLOT)
        assert refusal(community, call) == (
            "WrongHeader",
            header.hash(),
            batch.header.hash(),
        )

    def test_a_member_is_no_system_account(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.challenge_system_amount(batch, MEMBER)
        assert refusal(community, call) == ("NotSystemAccount", MEMBER)

    def test_a_leaf_that_is_not_in_the_ledger_proves_nothing(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        community.submit(batch)
        leaf = replace(batch.leaves[FUND_SLOT], amount_nano=0)
        lie = replace(batch, leaves=dict(batch.leaves) | {FUND_SLOT: leaf})
        outcome = refusal(community, community.contracts.challenge_system_amount(lie, FUND_SLOT))
        assert outcome is not None
        assert outcome[0] == "NotInTree"


class TestCumulative:
    def test_in_the_first_period_it_is_the_amount(self, community: LiveCommunity) -> None:
        lie = shift_cumulative(community.batch(0), MEMBER, OTHER, 1)
        community.submit(lie)
        call = community.contracts.challenge_cumulative(lie, OTHER, None)
        assert_overturned(community, call, "Cumulative")

    @pytest.mark.parametrize("slot", [MEMBER, OTHER])
    def test_later_it_continues_the_one_before(self, community: LiveCommunity, slot: int) -> None:
        first = community.batch(0)
        lie = shift_cumulative(community.batch(1, first), MEMBER, OTHER, 10**9)
        community.submit_all([first, lie])
        call = community.contracts.challenge_cumulative(lie, slot, first)
        assert_overturned(community, call, "Cumulative", FIRST_PERIOD + 1)

    def test_a_slot_that_was_empty_before_begins_at_zero(self, community: LiveCommunity) -> None:
        first = community.batch(0)
        second = community.batch(1, first)
        newcomers = {
            8: LedgerLeaf(8, 0, 9, bytes(32), b"\x08" * 32),
            9: LedgerLeaf(9, 0, -9, bytes(32), b"\x09" * 32),
        }
        lie = with_ledger(second, dict(second.leaves) | newcomers)
        community.submit_all([first, lie])
        call = community.contracts.challenge_cumulative(lie, 8, first)
        assert_overturned(community, call, "Cumulative", FIRST_PERIOD + 1)

    def test_a_slot_that_was_taken_cannot_be_passed_off_as_empty(
        self, community: LiveCommunity
    ) -> None:
        first, second = community.batches(2)
        community.submit_all([first, second])
        forged = replace(first, leaves={})
        call = community.contracts.challenge_cumulative(second, MEMBER, forged)
        outcome = refusal(community, call)
        assert outcome is not None
        assert outcome[0] == "NotInTree"
        assert outcome[2] == first.header.ledger_root

    def test_another_slots_leaf_before_proves_nothing(self, community: LiveCommunity) -> None:
        first, second = community.batches(2)
        community.submit_all([first, second])
        functions = community.contract("ClearingHouse").functions
        call = functions.challengeCumulative(
            header_tuple(second.header),
            leaf_tuple(second.leaves[MEMBER]),
            second.ledger.proof(MEMBER),
            header_tuple(first.header),
            False,
            leaf_tuple(first.leaves[OTHER]),
            first.ledger.proof(OTHER),
        )
        assert refusal(community, call) == ("NotActive", OTHER, FIRST_PERIOD)

    def test_the_batch_before_is_the_one_on_record(self, community: LiveCommunity) -> None:
        first, second, third = community.batches(3)
        community.submit_all([first, second, third])
        call = community.contracts.challenge_cumulative(third, MEMBER, first)
        assert refusal(community, call) == (
            "WrongHeader",
            first.header.hash(),
            second.header.hash(),
        )

    def test_a_leaf_before_that_is_not_in_its_ledger_proves_nothing(
        self, community: LiveCommunity
    ) -> None:
        first, second = community.batches(2)
        community.submit_all([first, second])
        leaf = replace(first.leaves[MEMBER], cumulative_nano=0)
        forged = replace(first, leaves=dict(first.leaves) | {MEMBER: leaf})
        outcome = refusal(
            community, community.contracts.challenge_cumulative(second, MEMBER, forged)
        )
        assert outcome is not None
        assert outcome[0] == "NotInTree"


class TestTreeSum:
    @pytest.mark.parametrize("level", range(1, ACCOUNT_DEPTH))
    def test_a_node_at_any_level_that_hides_money(
        self, community: LiveCommunity, level: int
    ) -> None:
        """The member side's sum is short by what an empty node beside it makes up for."""
        batch = community.batch(0)
        lie = with_forged_tree(batch, Forgery(level, 0, -1, 0), Forgery(ACCOUNT_DEPTH - 1, 1, 1, 0))
        community.submit(lie)
        call = challenge_tree_sum(community, lie, level, 0)
        assert_overturned(community, call, "TreeSum")

    def test_cumulative_sums_count_as_well(self, community: LiveCommunity) -> None:
        lie = with_forged_tree(
            community.batch(0), Forgery(2, 1, 0, 3), Forgery(ACCOUNT_DEPTH - 1, 1, 0, -3)
        )
        community.submit(lie)
        assert_overturned(community, challenge_tree_sum(community, lie, 2, 1), "TreeSum")

    def test_nothing_with_money_at_the_top(self, community: LiveCommunity) -> None:
        """The empty half of the tree owns what the members' half lost."""
        lie = with_forged_tree(
            community.batch(0),
            Forgery(ACCOUNT_DEPTH - 1, 0, -5, -5),
            Forgery(ACCOUNT_DEPTH - 1, 1, 5, 5),
        )
        community.submit(lie)
        top = ACCOUNT_DEPTH - 1
        assert_overturned(community, challenge_tree_sum(community, lie, top, 1), "TreeSum")

    @pytest.mark.parametrize("position", [9, 8])
    def test_nothing_with_money_at_the_bottom(
        self, community: LiveCommunity, position: int
    ) -> None:
        """An empty slot owns money: its parent's sums do add up, but nothing owns nothing."""
        batch = community.batch(0)
        leaves = dict(batch.leaves)
        leaves[MEMBER] = replace(leaves[MEMBER], amount_nano=leaves[MEMBER].amount_nano - 5)
        lie = with_forged_tree(with_ledger(batch, leaves), Forgery(0, position, 5, 0))
        assert lie.ledger.root.amount_nano == 0
        community.submit(lie)
        call = challenge_tree_sum(community, lie, 1, position // 2)
        assert_overturned(community, call, "TreeSum")

    def test_sums_that_no_longer_fit_are_found_where_they_begin(
        self, community: LiveCommunity
    ) -> None:
        """2^127-1 twice below one node: every path through it overflows, but the node itself is open to challenge."""
        largest = 2**127 - 1
        lie = with_forged_tree(
            community.batch(0),
            Forgery(3, 2, largest, 0),
            Forgery(3, 3, largest, 0),
            Forgery(4, 1, -2 * largest, 0),
        )
        assert lie.ledger.node(4, 1).amount_nano == 0
        community.submit(lie)
        assert_overturned(community, challenge_tree_sum(community, lie, 4, 1), "TreeSum")

    def test_of_two_false_nodes_on_one_path_the_upper_one_is_proved(
        self, community: LiveCommunity
    ) -> None:
        lie = with_forged_tree(
            community.batch(0),
            Forgery(2, 0, 11, 0),
            Forgery(7, 0, -3, 0),
            Forgery(ACCOUNT_DEPTH - 1, 1, -8, 0),
        )
        community.submit(lie)
        outcome = refusal(community, challenge_tree_sum(community, lie, 2, 0))
        assert outcome is not None
        assert outcome[0] == "NotInTree"
        assert_overturned(community, challenge_tree_sum(community, lie, 7, 0), "TreeSum")

    @pytest.mark.parametrize("level", [0, ACCOUNT_DEPTH, ACCOUNT_DEPTH + 1, 2**255])
    def test_leaves_and_root_are_no_inner_nodes(self, community: LiveCommunity, level: int) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.challenge_tree_sum(
            batch.header, level, 0, bytes(32), (bytes(32),) * 4, []
        )
        assert refusal(community, call) == ("LevelOutsideTree", level)

    def test_an_index_outside_its_level_proves_nothing(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        level, index = 15, 1 << 5
        call = community.contracts.challenge_tree_sum(
            batch.header, level, index, bytes(32), (bytes(32),) * 4, batch.ledger.proof(0, level)
        )
        assert refusal(community, call) == ("SlotOutsideTree", index)

    def test_children_that_are_not_the_nodes_prove_nothing(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.challenge_tree_sum(
            batch.header,
            1,
            2,
            batch.ledger.node(1, 2).sums,
            (b"\x01" * 32, bytes(32), b"\x02" * 32, bytes(32)),
            batch.ledger.proof(2, 1),
        )
        outcome = refusal(community, call)
        assert outcome is not None
        assert outcome[0] == "NotInTree"

    def test_sums_that_the_tree_does_not_claim_prove_nothing(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        community.submit(batch)
        tree = batch.ledger
        left, right = tree.node(0, 4), tree.node(0, 5)
        call = community.contracts.challenge_tree_sum(
            batch.header,
            1,
            2,
            pack_sums(1, 1),
            (left.hash, left.sums, right.hash, right.sums),
            tree.proof(2, 1),
        )
        outcome = refusal(community, call)
        assert outcome is not None
        assert outcome[0] == "NotInTree"


class TestLeafSum:
    def test_a_leaf_counted_with_other_sums_than_it_has(self, community: LiveCommunity) -> None:
        """The member's leaf shows it the right bill while the tree counts another one."""
        lie = with_forged_tree(
            community.batch(0), Forgery(0, MEMBER, -1, -1), Forgery(0, OTHER, 1, 1)
        )
        community.submit(lie)
        assert_overturned(community, challenge_leaf_sum(community, lie, OTHER), "TreeSum")

    def test_claimed_sums_are_those_in_the_tree(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.challenge_leaf_sum(
            batch.header, batch.leaves[MEMBER], pack_sums(1, 1), batch.ledger.proof(MEMBER)
        )
        outcome = refusal(community, call)
        assert outcome is not None
        assert outcome[0] == "NotInTree"


class TestHonestBatches:
    """No honest batch can be voided: every challenge that can be made is made, against every account and node."""

    @pytest.fixture
    def honest(self, community: LiveCommunity) -> list[Batch]:
        batches = community.batches(2)
        community.submit_all(batches)
        return batches

    def test_amounts(self, community: LiveCommunity, honest: list[Batch]) -> None:
        for batch in honest:
            for slot in batch.member_periods:
                outcome = refusal(community, challenge_amount(community, batch, slot))
                assert outcome == ("LeafIsHonest",)

    def test_system_amounts(self, community: LiveCommunity, honest: list[Batch]) -> None:
        for batch in honest:
            for slot in (SUPPLIER_SLOT, DSO_SLOT, FUND_SLOT):
                call = community.contracts.challenge_system_amount(batch, slot)
                assert refusal(community, call) == ("LeafIsHonest",)

    def test_cumulative_amounts(self, community: LiveCommunity, honest: list[Batch]) -> None:
        for batch, previous in zip(honest, (None, honest[0]), strict=True):
            for slot in batch.leaves:
                call = community.contracts.challenge_cumulative(batch, slot, previous)
                assert refusal(community, call) == ("LeafIsHonest",)

    def test_inner_nodes(self, community: LiveCommunity, honest: list[Batch]) -> None:
        batch = honest[0]
        for level in range(1, ACCOUNT_DEPTH):
            for index in {0, 1, (1 << (ACCOUNT_DEPTH - level)) - 1}:
                call = challenge_tree_sum(community, batch, level, index)
                assert refusal(community, call) == ("LeafIsHonest",)

    def test_leaf_sums(self, community: LiveCommunity, honest: list[Batch]) -> None:
        for slot in honest[1].leaves:
            call = challenge_leaf_sum(community, honest[1], slot)
            assert refusal(community, call) == ("LeafIsHonest",)

    def test_and_they_still_stand(self, community: LiveCommunity, honest: list[Batch]) -> None:
        for batch in honest:
            recorded = community.contracts.record_of(batch.header.period).header_hash
            assert recorded == batch.header.hash()


CHALLENGES: dict[str, Callable[[LiveCommunity, Batch], ContractFunction]] = {
    "amount": lambda community, batch: challenge_amount(community, batch, MEMBER),
    "system amount": lambda community, batch: community.contracts.challenge_system_amount(
        batch, FUND_SLOT
    ),
    "cumulative": lambda community, batch: community.contracts.challenge_cumulative(
        batch, MEMBER, None
    ),
    "tree sum": lambda community, batch: challenge_tree_sum(community, batch, 3, 0),
    "leaf sum": lambda community, batch: challenge_leaf_sum(community, batch, MEMBER),
}


@pytest.mark.parametrize("kind", CHALLENGES)
class TestEveryChallenge:
    """What all five have in common."""

    def test_needs_a_batch_on_record(self, community: LiveCommunity, kind: str) -> None:
        outcome = refusal(community, CHALLENGES[kind](community, community.batch(0)))
        assert outcome == ("NoSuchBatch", FIRST_PERIOD)

    def test_needs_the_header_on_record(self, community: LiveCommunity, kind: str) -> None:
        batch = community.batch(0)
        community.submit(batch)
        other = batch.with_bundle_hash(b"\x11" * 32)
        outcome = refusal(community, CHALLENGES[kind](community, other))
        assert outcome == ("WrongHeader", other.header.hash(), batch.header.hash())

    def test_comes_too_late_against_a_final_batch(
        self, community: LiveCommunity, kind: str
    ) -> None:
        lie = shift_money(community.batch(0), MEMBER, FUND_SLOT, 1)
        lie = shift_cumulative(lie, MEMBER, FUND_SLOT, 1)
        community.submit(lie)
        community.let_challenge_window_pass()
        assert community.contracts.is_final(FIRST_PERIOD)
        outcome = refusal(community, CHALLENGES[kind](community, lie))
        assert outcome == ("AlreadyFinal", FIRST_PERIOD)


class TestConsequences:
    def test_half_the_bond_is_paid_and_half_is_burned(self, community: LiveCommunity) -> None:
        web3 = community.client.web3
        lie = shift_money(community.batch(0), MEMBER, FUND_SLOT, 1)
        community.submit(lie)
        challenger = account("outsider").address
        before = {
            name: community.client.balance_wei(address)
            for name, address in (("challenger", challenger), ("nobody", ZERO_ADDRESS))
        }
        sent = community.client.send(challenge_amount(community, lie, MEMBER), account("outsider"))
        receipt = web3.eth.get_transaction_receipt(web3.to_hex(sent.transaction_hash))
        block = web3.eth.get_block(receipt["blockNumber"])
        paid_for_gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
        # The embedded chain's blocks have no miner but the zero address, which so gets the tip.
        assert block["miner"] == ZERO_ADDRESS
        tip = receipt["gasUsed"] * (receipt["effectiveGasPrice"] - block["baseFeePerGas"])
        reward = BOND_WEI // 2
        won = community.client.balance_wei(challenger) - before["challenger"]
        assert won == reward - paid_for_gas
        burned = community.client.balance_wei(ZERO_ADDRESS) - before["nobody"]
        assert burned == BOND_WEI - reward + tip
        assert community.client.balance_wei(community.place.clearing_house) == 0

    def test_a_coordinator_who_challenges_himself_loses_half(
        self, community: LiveCommunity
    ) -> None:
        coordinator = account("coordinator")
        before = community.client.balance_wei(coordinator.address)
        lie = shift_money(community.batch(0), MEMBER, FUND_SLOT, 1)
        community.submit(lie)
        community.client.send(challenge_amount(community, lie, MEMBER), coordinator)
        lost = before - community.client.balance_wei(coordinator.address)
        assert lost > BOND_WEI // 2

    def test_batches_that_stood_on_the_lie_fall_with_it_and_get_their_bonds_back(
        self, community: LiveCommunity
    ) -> None:
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        second = community.batch(1, lie)
        third = community.batch(2, second)
        community.submit_all([lie, second, third])
        coordinator = account("coordinator").address
        before = community.client.balance_wei(coordinator)
        community.client.send(challenge_amount(community, lie, MEMBER), account("outsider"))
        assert community.client.balance_wei(coordinator) - before == 2 * BOND_WEI
        assert community.client.balance_wei(community.place.clearing_house) == 0
        assert community.contracts.head_period() == FIRST_PERIOD - 1
        voided = community.events("ClearingHouse", "BatchVoided")
        hashes = [batch.header.hash() for batch in (lie, second, third)]
        assert [event["period"] for event in voided] == [FIRST_PERIOD + n for n in range(3)]
        assert [event["batchHash"] for event in voided] == hashes
        returned = community.events("ClearingHouse", "BondReturned")
        assert [(event["period"], event["submitter"]) for event in returned] == [
            (FIRST_PERIOD + 1, coordinator),
            (FIRST_PERIOD + 2, coordinator),
        ]
        for offset in range(3):
            record = community.contracts.record_of(FIRST_PERIOD + offset)
            assert record.header_hash == bytes(32)

    def test_batches_before_the_lie_stay(self, community: LiveCommunity) -> None:
        first = community.batch(0)
        lie = shift_money(community.batch(1, first), MEMBER, OTHER, 1)
        community.submit_all([first, lie])
        community.client.send(challenge_amount(community, lie, MEMBER), account("outsider"))
        assert community.contracts.head_period() == FIRST_PERIOD
        assert community.contracts.record_of(FIRST_PERIOD).header_hash == first.header.hash()

    def test_the_period_is_submitted_again_and_everything_after_it(
        self, community: LiveCommunity
    ) -> None:
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        community.submit_all([lie, community.batch(1, lie)])
        community.client.send(challenge_amount(community, lie, MEMBER), account("outsider"))
        honest = community.batches(2)
        community.submit_all(honest)
        community.let_challenge_window_pass()
        for batch in honest:
            assert community.contracts.is_final(batch.header.period)
            recorded = community.contracts.record_of(batch.header.period).header_hash
            assert recorded == batch.header.hash()

    def test_a_voided_batch_cannot_be_challenged_again(self, community: LiveCommunity) -> None:
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        community.submit(lie)
        call = challenge_amount(community, lie, MEMBER)
        community.client.send(call, account("outsider"))
        assert refusal(community, call) == ("NoSuchBatch", FIRST_PERIOD)

    def test_the_challenge_window_of_a_resubmission_is_whole_again(
        self, community: LiveCommunity
    ) -> None:
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        community.submit(lie)
        community.client.advance(20 * 3600)
        community.client.send(challenge_amount(community, lie, MEMBER), account("outsider"))
        community.submit(community.batch(0))
        community.client.advance(20 * 3600)
        assert not community.contracts.is_final(FIRST_PERIOD)
        community.client.advance(5 * 3600)
        assert community.contracts.is_final(FIRST_PERIOD)


class TestFinality:
    def test_a_batch_is_final_when_the_window_has_passed_and_not_a_second_before(
        self, community: LiveCommunity
    ) -> None:
        community.submit(community.batch(0))
        submitted = community.contracts.record_of(FIRST_PERIOD).submitted_at
        web3 = community.client.web3
        tester = web3.provider.ethereum_tester  # type: ignore[attr-defined]
        call = community.contracts.return_bond(FIRST_PERIOD)
        too_early = ("NotFinal", FIRST_PERIOD)
        for second, expected in ((CHALLENGE_SECONDS - 1, too_early), (CHALLENGE_SECONDS, None)):
            with restored(web3):
                tester.time_travel(submitted + second)
                outcome = refusal(community.reopened(), call)
                asked_at = web3.eth.get_block("latest")["timestamp"]
                assert asked_at == submitted + second
                assert outcome == expected


class TestRefusingSubmitters:
    """A coordinator that is a contract and takes no money back."""

    @pytest.fixture
    def relay(self, community: LiveCommunity) -> LiveCommunity:
        """The community seen through a contract that passes calls on to the ClearingHouse and refuses plain payments."""
        house = community.place.clearing_house[2:].lower()
        refuse = "5b60006000fd"  # JUMPDEST, revert
        pass_on = f"3660006000376000600036600034 73{house}5af115".replace(" ", "")
        length = 5 + len(pass_on) // 2 + 4
        code = f"361560{length:02x}57{pass_on}60{length:02x}5700{refuse}"
        address = deploy_code(community.client, code, account("outsider"))
        community.client.send(
            community.contracts.grant_role(COORDINATOR_ROLE, address, 0), account("deployer")
        )
        addresses = community.contracts.addresses | {"ClearingHouse": address}
        return replace(community, contracts=CommunityContracts(community.client.web3, addresses))

    def test_they_cannot_block_a_challenge(
        self, community: LiveCommunity, relay: LiveCommunity
    ) -> None:
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        second = community.batch(1, lie)
        community.submit(lie)
        relay.submit(second)
        submitter = community.contracts.record_of(FIRST_PERIOD + 1).submitter
        assert submitter == relay.contracts.addresses["ClearingHouse"]
        assert_overturned(community, challenge_amount(community, lie, MEMBER), "Amount")
        assert community.contracts.record_of(FIRST_PERIOD + 1).header_hash == bytes(32)
        assert community.events("ClearingHouse", "BondReturned") == []
        # The bond that could not be returned stays in the contract.
        held = community.client.balance_wei(community.place.clearing_house)
        assert held == BOND_WEI

    def test_they_do_not_get_the_bond_of_a_final_batch(
        self, community: LiveCommunity, relay: LiveCommunity
    ) -> None:
        relay.submit(community.batch(0))
        community.let_challenge_window_pass()
        call = community.contracts.return_bond(FIRST_PERIOD)
        submitter = relay.contracts.addresses["ClearingHouse"]
        assert refusal(community, call) == ("TransferFailed", submitter.lower())


class TestBonds:
    def test_a_final_batch_gives_its_bond_back_once_to_its_submitter(
        self, community: LiveCommunity
    ) -> None:
        community.submit(community.batch(0))
        community.let_challenge_window_pass()
        coordinator = account("coordinator").address
        before = community.client.balance_wei(coordinator)
        call = community.contracts.return_bond(FIRST_PERIOD)
        community.client.send(call, account("outsider"))
        assert community.client.balance_wei(coordinator) - before == BOND_WEI
        (event,) = community.events("ClearingHouse", "BondReturned")
        assert event == {
            "period": FIRST_PERIOD,
            "submitter": coordinator,
            "amountWei": BOND_WEI,
        }
        assert refusal(community, call) == ("NothingToReturn", FIRST_PERIOD)

    def test_until_then_it_stays(self, community: LiveCommunity) -> None:
        call = community.contracts.return_bond(FIRST_PERIOD)
        assert refusal(community, call) == ("NotFinal", FIRST_PERIOD)
        community.submit(community.batch(0))
        assert refusal(community, call) == ("NotFinal", FIRST_PERIOD)

    def test_a_final_batch_never_changes(self, community: LiveCommunity) -> None:
        """A later lie falls; what was final before stays."""
        first = community.batch(0)
        community.submit(first)
        community.let_challenge_window_pass()
        lie = shift_money(community.batch(1, first), MEMBER, OTHER, 1)
        community.submit(lie)
        community.client.send(challenge_amount(community, lie, MEMBER), account("outsider"))
        assert community.contracts.is_final(FIRST_PERIOD)
        assert community.contracts.head_period() == FIRST_PERIOD


def every_challenge(
    community: LiveCommunity, batch: Batch, previous: Batch | None = None
) -> list[ContractFunction]:
    """All challenges that a batch's data allow to somebody who knows all of them."""
    calls = [challenge_leaf_sum(community, batch, slot) for slot in batch.leaves]
    calls += [
        community.contracts.challenge_cumulative(batch, slot, previous) for slot in batch.leaves
    ]
    calls += [community.contracts.challenge_system_amount(batch, slot) for slot in batch.leaves]
    calls += [challenge_amount(community, batch, slot) for slot in batch.member_periods]
    calls += [community.contracts.challenge_inactive(batch, slot) for slot in batch.leaves]
    calls += [
        replace(
            claim(community, batch, MEMBER),
            leaf=leaf_tuple(leaf),
            ledger_proof=batch.ledger.proof(slot),
        ).call(community)
        for slot, leaf in batch.leaves.items()
    ]
    calls += [
        challenge_tree_sum(community, batch, level, index)
        for level in range(1, ACCOUNT_DEPTH)
        for index in {slot >> level for slot in batch.leaves}
    ]
    return calls


def can_be_overturned(
    community: LiveCommunity, batch: Batch, previous: Batch | None = None
) -> bool:
    """Whether submission refuses the batch or some challenge overturns it."""
    if community.refusal_of(batch) is not None:
        return True
    return any(
        refusal(community, call) is None for call in every_challenge(community, batch, previous)
    )


class TestInactive:
    """Money at slots that nobody bills."""

    def test_money_at_a_slot_that_nobody_bills_is_overturned(
        self, community: LiveCommunity
    ) -> None:
        """An account without a meter is paid by a slot that does not exist, and takes out what members deposited."""
        deployer, thief = account("deployer"), account("wallet", 8)
        community.client.fund([thief.address], ETHER)
        community.client.send(
            community.contracts.admit(thief.address, ZERO_ADDRESS, NO_GROUP, FIRST_PERIOD, 0),
            deployer,
        )
        tokens = 5_000_000
        for call in (
            community.contracts.mint(deployer.address, tokens),
            community.contracts.approve(tokens),
            community.contracts.deposit(MEMBER, tokens),
        ):
            community.client.send(call, deployer)
        stolen = tokens * 1000
        batch = community.batch(0)
        lie = with_ledger(
            batch,
            dict(batch.leaves)
            | {
                8: LedgerLeaf(8, stolen, stolen, bytes(32), secret("salt", 8)),
                NOBODY: LedgerLeaf(NOBODY, -stolen, -stolen, bytes(32), secret("salt", NOBODY)),
            },
        )
        overturned = can_be_overturned(community, lie)
        if not overturned:
            community.let_challenge_window_pass()
            community.client.send(community.contracts.withdraw(tokens, lie, 8), thief)
        assert community.contracts.token_balance(thief.address) == 0
        assert overturned

    def test_an_honest_batch_has_none(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        for slot in batch.leaves:
            refused = refusal(community, community.contracts.challenge_inactive(batch, slot))
            assert refused is not None
            assert refused[0] == "LeafIsHonest"


class TestHoles:
    """Known not to hold yet; each of these tests says what should be true."""

    @pytest.mark.parametrize("instead", ["nothing", "a leaf with another slot", "any hash"])
    @pytest.mark.xfail(
        strict=True,
        reason="a challenge needs the slot's leaf, and the coordinator need not give one",
    )
    def test_a_ledger_without_one_of_its_accounts_is_overturned(
        self, community: LiveCommunity, instead: str
    ) -> None:
        """Who is owed money has no leaf at all; another member, who will not complain, has the money."""
        batch = community.batch(0)
        leaves = dict(batch.leaves)
        victim = max(batch.member_periods, key=lambda slot: leaves[slot].amount_nano)
        friend = next(slot for slot in batch.member_periods if slot != victim)
        stolen = leaves.pop(victim)
        assert stolen.amount_nano > 0
        leaves[friend] = replace(
            leaves[friend],
            amount_nano=leaves[friend].amount_nano + stolen.amount_nano,
            cumulative_nano=leaves[friend].cumulative_nano + stolen.cumulative_nano,
        )
        if instead == "a leaf with another slot":
            leaves[victim] = LedgerLeaf(NOBODY, 0, 0, bytes(32), secret("salt", NOBODY))
        lie = with_ledger(batch, leaves)
        if instead == "any hash":
            lie = with_forged_tree(lie, Forgery(0, victim, hash=secret("nobody's leaf")))
        community.submit(lie)
        # What the victim can send: its readings with the leaf it ought to have. The friend's readings it does not know.
        shown = replace(lie, leaves=leaves | {victim: stolen})
        calls = [
            challenge_amount(community, shown, victim),
            challenge_leaf_sum(community, shown, victim),
            community.contracts.challenge_cumulative(shown, victim, None),
            challenge_tree_sum(community, lie, 1, victim // 2),
        ]
        assert any(refusal(community, call) is None for call in calls)

    @pytest.mark.xfail(
        strict=True,
        reason="a challenge voids all later batches in one loop, and a transaction has at most 2^24 gas",
    )
    def test_a_challenge_costs_the_same_however_many_batches_came_after_the_lie(
        self, community: LiveCommunity
    ) -> None:
        """A coordinator with a backlog could put so many batches on a lie that no challenge fits into a block."""
        lie = shift_money(community.batch(0), MEMBER, OTHER, 1)
        second = community.batch(1, lie)
        third = community.batch(2, second)
        gas = []
        for batches in ([lie, second], [lie, second, third]):
            with restored(community.client.web3):
                now = community.reopened()
                now.submit_all(batches)
                call = challenge_amount(now, lie, MEMBER)
                gas.append(now.client.send(call, account("outsider")).gas_used)
        assert gas[1] - gas[0] < 5_000

    @pytest.mark.xfail(
        strict=True,
        reason="the registry keeps a member's group as an index, which a tariff with one group more shifts",
    )
    def test_an_honest_batch_survives_when_the_community_has_a_new_group(
        self, community: LiveCommunity
    ) -> None:
        """A heat pump comes to the middle zone: its group is inserted before others, whose members' index stays as it was."""
        first = community.batch(0)
        community.submit(first)
        deployer = account("deployer")
        newcomer = member_at(8, "middle", "heat-pump")
        grown = replace(community.paper, members=(*community.paper.members, newcomer))
        community.client.send(
            community.contracts.announce_tariff(grown.market, SHARE_MILLIONTHS, FIRST_PERIOD + 1),
            deployer,
        )
        admit_members(
            community.client,
            deployer,
            community.contracts,
            [newcomer],
            grown.market,
            FIRST_PERIOD + 1,
            0,
        )
        period = period_number(1)
        energy = energy_of(1) | {8: ((100, 0),) * 4}
        signed = grown.signed_report(period, energy, community.place)
        honest = grown.batch(
            period,
            signed.report,
            signed.signatures,
            signed.member_periods,
            first,
            community.place,
        )
        larger = replace(community, paper=grown)
        larger.submit(honest)
        outcomes = [
            refusal(
                community,
                community.contracts.challenge_amount(honest, slot, grown.market, SHARE_MILLIONTHS),
            )
            for slot in honest.member_periods
        ]
        assert outcomes == [("LeafIsHonest",)] * 6

    @pytest.mark.xfail(
        strict=True, reason="a membership can be ended in a period that is already billed"
    )
    def test_a_billed_member_can_challenge_whatever_becomes_of_its_membership(
        self, community: LiveCommunity
    ) -> None:
        """A false bill for the second period; then the membership is ended as if it had been over before."""
        first = community.batch(0)
        lie = shift_money(community.batch(1, first), MEMBER, OTHER, 10**9)
        community.submit_all([first, lie])
        call = community.contract("MemberRegistry").functions.endMembership(
            MEMBER, FIRST_PERIOD + 1
        )
        community.client.refusal(call, account("deployer"))
        assert refusal(community, challenge_amount(community, lie, MEMBER)) is None

    @pytest.mark.xfail(
        strict=True,
        reason="a member whose group no tariff has can be admitted, and then has no bill",
    )
    def test_a_member_of_a_group_that_does_not_exist_can_challenge_its_bill(
        self, community: LiveCommunity
    ) -> None:
        newcomer = member_at(8, "west", "household")
        admitted = community.client.refusal(
            community.contracts.admit(newcomer.account, newcomer.meter, 4, FIRST_PERIOD, 0),
            account("deployer"),
        )
        if admitted is not None:
            return
        grown = replace(community.paper, members=(*community.paper.members, newcomer))
        period = period_number(0)
        energy = energy_of(0) | {8: ((100, 0),) * 4}
        signed = grown.signed_report(period, energy, community.place)
        honest = grown.batch(
            period,
            signed.report,
            signed.signatures,
            signed.member_periods,
            place=community.place,
        )
        lie = shift_money(honest, 8, OTHER, 10**9)
        community.submit(lie)
        assert refusal(community, challenge_amount(community, lie, 8)) is None
