"""Whose reports are believed: k of n signers, changed only by governance, and nobody under an old configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_utils.address import to_checksum_address
from web3.contract.contract import ContractFunction

from backend.settlement.encoding import EMPTY, domain_separator, oracle_config_digest
from contracts.bindings import OracleConfig, constructor, report_tuple
from oracle.signing import sign_report
from tests.support.chain import answer, said
from tests.support.community import SHARE_MILLIONTHS, LiveCommunity, account, signer_keys

ZERO_ADDRESS = "0x" + "00" * 20


def set_signers(community: LiveCommunity, threshold: int, signers: list[str]) -> ContractFunction:
    call: ContractFunction = community.functions("ReadingOracle").setSigners((threshold, signers))
    return call


class TestConfiguration:
    def test_the_deployed_one(self, community: LiveCommunity) -> None:
        assert community.contracts.oracle_config() == community.place.config
        assert community.contracts.oracle_config_digest() == community.place.config_digest

    def test_the_domain_that_python_signs_for(self, community: LiveCommunity) -> None:
        found = community.functions("ReadingOracle").eip712Domain().call()
        _, name, version, chain_id, contract, salt, extensions = found
        assert (name, version, salt, extensions) == ("Peerwatt", "1", EMPTY, [])
        assert domain_separator(chain_id, contract) == community.place.domain

    @pytest.mark.parametrize("count", [1, 2, 31])
    def test_the_digest_of_any_number_of_signers(
        self, community: LiveCommunity, count: int
    ) -> None:
        signers = [to_checksum_address(f"0x{7 * number:040x}") for number in range(1, count + 1)]
        community.send(set_signers(community, count, signers))
        expected = oracle_config_digest(
            community.client.chain_id,
            community.place.clearing_house,
            community.place.reading_oracle,
            count,
            signers,
        )
        assert community.contracts.oracle_config_digest() == expected
        assert community.events("ReadingOracle", "SignersChanged")[-1] == {
            "configDigest": expected,
            "signers": signers,
            "threshold": count,
        }

    @pytest.mark.parametrize("threshold", [0, 4, 2**255])
    def test_a_threshold_nobody_or_everybody_reaches_is_refused(
        self, community: LiveCommunity, threshold: int
    ) -> None:
        call = set_signers(community, threshold, list(community.place.signers))
        assert community.refused(call, "deployer") == ("BadThreshold", threshold, 3)

    def test_no_signers_are_refused(self, community: LiveCommunity) -> None:
        for threshold in (0, 1):
            refused = community.refused(set_signers(community, threshold, []), "deployer")
            assert refused == ("BadThreshold", threshold, 0)

    @pytest.mark.parametrize(
        ("signers", "index"),
        [
            (["0x" + "02" * 20, "0x" + "01" * 20], 1),
            (["0x" + "01" * 20, "0x" + "01" * 20], 1),
            (["0x" + "01" * 20, "0x" + "03" * 20, "0x" + "02" * 20], 2),
            ([ZERO_ADDRESS, "0x" + "01" * 20], 0),
        ],
        ids=["descending", "twice", "later", "nobody"],
    )
    def test_signers_out_of_order_are_refused(
        self, community: LiveCommunity, signers: list[str], index: int
    ) -> None:
        refused = community.refused(set_signers(community, 1, signers), "deployer")
        assert refused == ("SignersNotAscending", index)

    def test_at_most_thirty_one(self, community: LiveCommunity) -> None:
        signers = [to_checksum_address(f"0x{number:040x}") for number in range(1, 33)]
        refused = community.refused(set_signers(community, 1, signers), "deployer")
        assert refused == ("TooManySigners", 32, 31)

    def test_deployment_checks_the_same(self, community: LiveCommunity) -> None:
        call = constructor(
            community.client.web3,
            "ReadingOracle",
            community.contracts.addresses["AccessManager"],
            community.place.clearing_house,
            (2, ["0x" + "01" * 20]),
        )
        refused = community.client.refusal(call, account("deployer"))  # type: ignore[arg-type]
        assert said(refused) == ("BadThreshold", 2, 1)


class TestReports:
    def verify(self, community: LiveCommunity, report: Any, signatures: list[bytes]) -> Any:
        config = (community.place.threshold, list(community.place.signers))
        return answer(
            community.functions("ReadingOracle").verify(report_tuple(report), config, signatures)
        )

    def test_every_choice_of_enough_signers_makes_one(self, community: LiveCommunity) -> None:
        report = community.signed_report(0).report
        every = [sign_report(key, community.place.domain, report) for key in signer_keys()]
        for chosen in (every, every[:2], every[1:], [every[0], every[2]]):
            assert self.verify(community, report, chosen) == report.struct_hash()
        for one in every:
            assert said(self.verify(community, report, [one])) == ("TooFewSignatures", 1, 2)


class TestRotation:
    def test_reports_under_the_configuration_before_are_worth_nothing(
        self, community: LiveCommunity
    ) -> None:
        """Neither with the old configuration brought along nor with the new one, until the new signers sign anew."""
        batch = community.batch(0)
        before = community.place
        remaining = before.signers[1:]
        community.send(set_signers(community, 2, list(remaining)))
        changed = replace(before, signers=remaining)
        refused = community.submission_refused(batch)
        assert refused == ("WrongConfig", before.config_digest, changed.config_digest)

        def submission(given: Any) -> ContractFunction:
            return community.contracts.submit_batch(
                given, community.market, SHARE_MILLIONTHS, OracleConfig(2, remaining)
            )

        refused = community.refused(submission(batch), "coordinator")
        assert refused == ("WrongConfigDigest", before.config_digest, changed.config_digest)
        report = replace(batch.report, config_digest=changed.config_digest)
        old, new = (
            tuple(sign_report(key, before.domain, report) for key in keys)
            for keys in (signer_keys()[:2], signer_keys()[1:])
        )
        refused = community.refused(
            submission(replace(batch, report=report, signatures=old)), "coordinator"
        )
        assert refused == ("UnknownSigner", 0, before.signers[0].lower())
        call = submission(replace(batch, report=report, signatures=new))
        community.send(call, "coordinator")
        assert community.contracts.head_number() == 1

    def test_what_was_accepted_before_stays(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        community.send(set_signers(community, 2, list(community.place.signers[1:])))
        assert community.recorded(1) == batch.header.hash()
        community.pass_challenge_window()
        assert community.contracts.is_final(1)
