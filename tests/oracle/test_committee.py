"""k of n: a report stands when enough signers found the same, and says who differed when they did not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.errors import QuorumNotReached
from backend.domain.readings import SignedReading
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import derive_salt, typed_data_digest
from backend.settlement.trees import PositionalTree
from oracle.committee import Confirmation, assemble, group_totals
from oracle.signing import recover
from tests.support.community import (
    PAPER,
    THRESHOLD,
    Community,
    energy_of,
    period_number,
)

PERIOD = period_number(0)


@pytest.fixture
def received(paper: Community) -> dict[str, list[SignedReading]]:
    """By meter, everything."""
    return paper.received(PERIOD, energy_of(0))


def confirmations(
    paper: Community, *received: dict[str, list[SignedReading]]
) -> list[Confirmation]:
    """What each signer states of what it received."""
    return [
        signer.confirm(PERIOD, 0, paper.members, paper.market, readings)
        for signer, readings in zip(paper.oracle_signers(), received, strict=True)
    ]


def without(
    received: dict[str, list[SignedReading]], paper: Community, slot: int, place: int
) -> dict[str, list[SignedReading]]:
    """The readings less one."""
    meter = paper.member(slot).meter
    fewer = [reading for number, reading in enumerate(received[meter]) if number != place]
    return received | {meter: fewer}


class TestOneSigner:
    def test_states_what_the_readings_say(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        stated = confirmations(paper, received, received, received)[0]
        member_periods = paper.member_periods(PERIOD, energy_of(0))
        assert stated.member_periods == member_periods
        assert stated.report == paper.report(PERIOD, member_periods)
        assert stated.rejections == ()

    def test_signs_what_it_states(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        for stated in confirmations(paper, received, received, received):
            digest = typed_data_digest(PAPER.domain, stated.report.struct_hash())
            assert recover(digest, stated.signature) == stated.signer

    def test_names_root_totals_and_configuration(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        stated = confirmations(paper, received, received, received)[0]
        leaves = {item.member.slot: item.leaf() for item in stated.member_periods}
        assert stated.report.readings_root == PositionalTree(leaves).root
        totals = pack_totals(group_totals(stated.member_periods, paper.market, PERIOD))
        assert len(totals) == 1 + 2 * totals[0] * len(paper.market.groups) * PERIOD.interval_count
        assert stated.report.totals_hash == keccak(totals)
        assert stated.report.config_digest == PAPER.config_digest
        assert (stated.report.period, stated.report.version) == (PERIOD.number, 0)

    def test_salts_each_leaf_with_the_members_own_secret(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        for item in confirmations(paper, received, received, received)[0].member_periods:
            slot = item.member.slot
            key = paper.salt_keys()[slot]
            assert item.salt == derive_salt(key, "readings", PERIOD.number, 0, slot)

    def test_a_correction_has_other_salts(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        signer = paper.oracle_signers()[0]
        first = signer.confirm(PERIOD, 0, paper.members, paper.market, received)
        second = signer.confirm(PERIOD, 1, paper.members, paper.market, received)
        assert second.report.version == 1
        assert second.report.readings_root != first.report.readings_root
        assert second.report.totals_hash == first.report.totals_hash

    def test_a_meter_that_nobody_has_is_ignored(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        more = received | {"0x" + "99" * 20: received[paper.members[0].meter]}
        stated = confirmations(paper, received, more, received)
        assert stated[0].report == stated[1].report

    def test_a_member_without_readings_is_missing_in_every_interval(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        silent = dict(received)
        del silent[paper.member(5).meter]
        stated = confirmations(paper, silent, silent, silent)[0]
        item = next(item for item in stated.member_periods if item.member.slot == 5)
        assert {reading.quality.name for reading in item.readings} == {"MISSING"}
        assert {reading.net_wh for reading in item.readings} == {0}

    def test_what_it_rejects_it_says(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        meter = paper.member(4).meter
        spoiled = replace(received[meter][1], signature=b"")
        received[meter][1] = spoiled
        (rejection,) = confirmations(paper, received, received, received)[0].rejections
        assert rejection.signed is spoiled
        assert "0 bytes" in rejection.reason


class TestQuorum:
    def test_enough_that_agree_make_a_report(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        stated = confirmations(paper, received, received, received)
        signed = assemble(stated, THRESHOLD, PAPER.domain)
        assert signed.report == stated[0].report
        assert len(signed.signatures) == THRESHOLD
        assert signed.signers == PAPER.signers[:THRESHOLD]

    def test_one_that_lacks_readings_does_not_stop_the_others(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        for behind in range(3):
            views = [received] * 3
            views[behind] = without(received, paper, 6, 2)
            stated = confirmations(paper, *views)
            signed = assemble(stated, THRESHOLD, PAPER.domain)
            assert stated[behind].signer not in signed.signers
            assert signed.report == stated[behind - 1].report
            digest = typed_data_digest(PAPER.domain, signed.report.struct_hash())
            recovered = [recover(digest, signature) for signature in signed.signatures]
            assert tuple(recovered) == signed.signers

    @given(order=st.permutations(range(3)))
    def test_the_order_of_answers_does_not_matter(self, paper: Community, order: list[int]) -> None:
        received = paper.received(PERIOD, energy_of(0))
        stated = confirmations(paper, received, received, received)
        shuffled = [stated[number] for number in order]
        assert assemble(shuffled, THRESHOLD, PAPER.domain) == assemble(
            stated, THRESHOLD, PAPER.domain
        )
        numbers = [int(signer, 16) for signer in assemble(shuffled, 3, PAPER.domain).signers]
        assert numbers == sorted(numbers)

    def test_a_signer_that_answers_twice_counts_once(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        stated = confirmations(paper, received, received, received)[0]
        with pytest.raises(QuorumNotReached, match="1 of the 2"):
            assemble([stated, stated], THRESHOLD, PAPER.domain)

    def test_without_agreement_the_error_names_who_said_what(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        stated = confirmations(
            paper,
            received,
            without(received, paper, 6, 2),
            without(received, paper, 3, 1),
        )
        with pytest.raises(QuorumNotReached) as raised:
            assemble(stated, THRESHOLD, PAPER.domain)
        for confirmation in stated:
            assert confirmation.signer in raised.value.message
        assert "1 of the 2 signatures" in raised.value.message
        assert raised.value.remedy
        assert raised.value.code == "oracle.quorum_not_reached"

    def test_nobody_answered(self) -> None:
        with pytest.raises(QuorumNotReached, match="no signer answered"):
            assemble([], THRESHOLD, PAPER.domain)


class TestTotals:
    def test_by_hand(self, paper: Community) -> None:
        """First interval: anna's surplus in the west, bela's deficit there, two deficits in one group in the east."""
        totals = group_totals(paper.member_periods(PERIOD, energy_of(0)), paper.market, PERIOD)
        groups = paper.market.group_index
        demand, supply = totals[0]
        assert demand[groups["west", "heat-pump"]] == 900
        assert supply[groups["west", "household"]] == 1500
        assert supply[groups["middle", "household"]] == 301
        assert demand[groups["east", "household"]] == 700 + 1201
        assert sum(demand) == 2801
        assert sum(supply) == 1801

    def test_import_and_export_are_netted_within_the_interval_and_member_only(
        self, paper: Community
    ) -> None:
        """In the last interval anna gives 667 net; in the third two members of one group, one gives and one takes."""
        totals = group_totals(paper.member_periods(PERIOD, energy_of(0)), paper.market, PERIOD)
        groups = paper.market.group_index
        assert totals[3][1][groups["west", "household"]] == 667
        east = groups["east", "household"]
        assert (totals[3][0][east], totals[3][1][east]) == (103, 13)


class TestWhoSaysWhat:
    """A confirmation counts for whoever signed it."""

    def test_a_forged_confirmation_does_not_spoil_the_report(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        """Somebody answers in a signer's name with a signature of his own; the contract would refuse the whole report."""
        stated = confirmations(paper, received, received, received)
        forged = replace(stated[0], signature=stated[2].signature)
        signed = assemble([*stated, forged], THRESHOLD, PAPER.domain)
        digest = typed_data_digest(PAPER.domain, signed.report.struct_hash())
        recovered = tuple(recover(digest, signature) for signature in signed.signatures)
        assert recovered == signed.signers

    def test_without_agreement_the_readings_roots_are_shown(
        self, paper: Community, received: dict[str, list[SignedReading]]
    ) -> None:
        other = without(received, paper, 6, 2)
        stated = confirmations(paper, received, other, without(other, paper, 3, 1))
        with pytest.raises(QuorumNotReached) as raised:
            assemble(stated, THRESHOLD, PAPER.domain)
        for confirmation in stated:
            assert confirmation.report.readings_root.hex()[:16] in raised.value.message
