"""A bill other than readings and prices say, or a share of supplier, DSO or fund other than the certificates: overturned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_hash.auto import keccak

from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import shift_money, with_ledger
from backend.settlement.encoding import LedgerLeaf
from contracts.bindings import leaf_tuple, tariff_tuple
from tests.support.challenges import against_amount, assert_overturned, claim, spoiled
from tests.support.community import (
    BOND_WEI,
    FIRST_PERIOD,
    SHARE_MILLIONTHS,
    THRESHOLD,
    LiveCommunity,
    energy_of,
)
from tests.support.lies import with_leaf

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 2


class TestMembers:
    @pytest.mark.parametrize("slot", range(FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 5))
    def test_one_nano_too_much_on_any_members_bill_is_enough(
        self, community: LiveCommunity, slot: int
    ) -> None:
        lie = shift_money(community.batch(0), slot, FUND_SLOT, 1)
        community.submit(lie)
        assert_overturned(community, against_amount(community, lie, slot), "Amount")

    def test_a_bill_too_low_in_a_later_period_is_as_false(self, community: LiveCommunity) -> None:
        first = community.batch(0)
        lie = shift_money(community.batch(1, first), MEMBER, OTHER, -(10**12))
        community.submit(first, lie)
        assert_overturned(community, against_amount(community, lie, OTHER), "Amount", 2)
        assert community.recorded(1) == first.header.hash()

    def test_a_leaf_that_commits_to_other_readings_than_the_oracles(
        self, community: LiveCommunity
    ) -> None:
        lie = with_leaf(community.batch(0), MEMBER, readings_commitment=b"\x11" * 32)
        community.submit(lie)
        assert_overturned(community, against_amount(community, lie, MEMBER), "Amount")

    def test_an_account_that_the_oracle_reports_nothing_of_is_billed_nothing(
        self, community: LiveCommunity
    ) -> None:
        """Its readings leaf is empty, and so is its bill; anything else is overturned without readings."""
        reported = community.paper.members[1:]
        signed = community.paper.signed_report(
            community.period(0), energy_of(0), community.place, reported
        )
        batch = community.batch(0, signed=signed)
        assert MEMBER not in batch.leaves
        settled = LedgerLeaf(MEMBER, 0, 0, bytes(32), b"\x01" * 32)
        honest = with_ledger(batch, dict(batch.leaves) | {MEMBER: settled})
        lie = shift_money(honest, MEMBER, OTHER, 7)
        community.submit(lie)
        assert_overturned(community, against_amount(community, lie, MEMBER), "Amount")
        community.send(community.contracts.post_bond(), "coordinator", BOND_WEI)
        community.submit(honest)
        refused = community.refused(against_amount(community, honest, MEMBER))
        assert refused == ("NothingIsWrong",)

    def test_a_reading_that_is_missing_is_not_billed(self, community: LiveCommunity) -> None:
        """One member's second register is lost; its bill leaves out two intervals and stands."""
        period = community.period(0)
        energy = {slot: [(40, 900)] * 4 for slot in range(MEMBER, MEMBER + 5)}
        received = community.paper.received(period, energy, community.place)
        del received[community.paper.member(MEMBER).meter][2]
        confirmations = [
            signer.confirm(period, 0, community.paper.members, community.market, received)
            for signer in community.paper.oracle_signers(community.place)
        ]
        batch = community.paper.batch(
            period,
            confirmations[0].report,
            tuple(item.signature for item in confirmations[:THRESHOLD]),
            confirmations[0].member_periods,
            place=community.place,
        )
        qualities = [reading.quality.name for reading in batch.member_periods[MEMBER].readings]
        assert qualities == ["MEASURED", "MISSING", "MISSING", "MEASURED"]
        community.submit(batch)
        refused = community.refused(against_amount(community, batch, MEMBER))
        assert refused == ("NothingIsWrong",)


class TestProofs:
    """What proves nothing against an honest bill."""

    def test_other_readings(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        honest = claim(community, batch, MEMBER)
        false = bytes([honest.readings[0] ^ 1]) + honest.readings[1:]
        for fields in ({"readings": false}, {"readings": b""}, {"readings_salt": bytes(32)}):
            refused = community.refused(spoiled(honest, **fields).call(community))
            assert refused is not None
            assert (refused[0], refused[2]) == ("NotInTree", batch.header.readings_root)

    def test_other_prices(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        false = bytes(len(batch.packed_prices))
        call = spoiled(claim(community, batch, MEMBER), prices=false).call(community)
        assert community.refused(call) == ("WrongPrices", keccak(false), batch.header.prices_hash)

    def test_another_tariff(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        tariff = tariff_tuple(community.market, SHARE_MILLIONTHS + 1)
        refused = community.refused(
            spoiled(claim(community, batch, MEMBER), tariff=tariff).call(community)
        )
        assert refused is not None
        assert (refused[0], refused[2]) == ("WrongTariffGiven", batch.header.tariff_hash)

    def test_another_members_leaf_or_one_that_is_not_there(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        honest, other = claim(community, batch, MEMBER), claim(community, batch, OTHER)
        absent = leaf_tuple(with_leaf(batch, MEMBER, amount_nano=0).leaves[MEMBER])
        for leaf in (other.leaf, absent):
            refused = community.refused(spoiled(honest, leaf=leaf).call(community))
            assert refused is not None and refused[0] == "NotInTree"

    def test_a_proof_of_another_length(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        honest = claim(community, batch, MEMBER)
        depth = batch.header.ledger_depth
        for extra in (-1, 1):
            proof = [*honest.readings_proof, bytes(32)][: 20 + extra]
            refused = community.refused(spoiled(honest, readings_proof=proof).call(community))
            assert refused == ("WrongProofLength", 20 + extra, 20)
            proof = [*honest.ledger_proof, bytes(32)][: 2 * depth + extra]
            refused = community.refused(spoiled(honest, ledger_proof=proof).call(community))
            assert refused == ("WrongProofLength", 2 * depth + extra, 2 * depth)

    @pytest.mark.parametrize("slot", [SUPPLIER_SLOT, FUND_SLOT, 99])
    def test_an_account_that_is_no_member(self, community: LiveCommunity, slot: int) -> None:
        batch = community.batch(0)
        community.submit(batch)
        leaf = (slot, bytes(32), bytes(32), bytes(32))
        refused = community.refused(
            spoiled(claim(community, batch, MEMBER), leaf=leaf).call(community)
        )
        nobody = ("UnknownSlot", slot) if slot == 99 else ("NotActive", slot, FIRST_PERIOD)
        assert refused == nobody

    def test_the_challenge_that_is_meant_for_a_correction(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = against_amount(community, batch, MEMBER, corrected=batch)
        refused = community.refused(call)
        assert refused == ("WrongCorrectedBatch", batch.header.hash(), bytes(32))


class TestSystemAccounts:
    @pytest.mark.parametrize("slot", [SUPPLIER_SLOT, DSO_SLOT, FUND_SLOT])
    @pytest.mark.parametrize("shift_nano", [1, -1])
    def test_get_what_the_certificates_add_up_to(
        self, community: LiveCommunity, slot: int, shift_nano: int
    ) -> None:
        lie = shift_money(community.batch(0), MEMBER, slot, shift_nano)
        community.submit(lie)
        call = community.contracts.challenge_system_amount(lie, slot)
        assert_overturned(community, call, "SystemAmount")

    def test_a_member_is_none(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        call = community.contracts.challenge_system_amount(batch, MEMBER)
        assert community.refused(call) == ("NotSystemAccount", MEMBER)

    def test_the_header_on_record_counts(self, community: LiveCommunity) -> None:
        """The contract has computed the amounts itself; a header that says otherwise is not the batch's."""
        batch = community.batch(0)
        community.submit(batch)
        header = replace(batch.header, supplier_nano=batch.header.supplier_nano + 1)
        call = community.contracts.challenge_system_amount(
            replace(batch, header=header), SUPPLIER_SLOT
        )
        refused = community.refused(call)
        assert refused == ("WrongHeader", header.hash(), batch.header.hash())
