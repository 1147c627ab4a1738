"""What the ClearingHouse takes and what it refuses: a batch is on record only with its proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from backend.market.certificate import duality_gap_nano, network_fees_nano, primal_cost_nano
from backend.market.pool import ClearedInterval
from backend.settlement.batch import Batch, with_ledger
from backend.settlement.encoding import OracleReport, genesis_hash, interval_record, tariff_hash
from contracts.bindings import constructor, header_tuple
from deploy.community import COORDINATOR_ROLE
from oracle.signing import address_of, private_key, sign_report
from tests.support.chain import said
from tests.support.community import (
    BOND_WEI,
    FIRST_INTERVAL,
    FIRST_PERIOD,
    INTERVALS_PER_PERIOD,
    SHARE_MILLIONTHS,
    THRESHOLD,
    LiveCommunity,
    Place,
    account,
    energy_of,
    period_number,
    secret,
    signer_keys,
)

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def resigned(community: LiveCommunity, batch: Batch, report: OracleReport) -> Batch:
    """The batch with another report that the oracle did sign."""
    keys = signer_keys()[:THRESHOLD]
    signatures = tuple(sign_report(key, community.place.domain, report) for key in keys)
    return replace(batch, report=report, signatures=signatures)


def altered(
    cleared: Sequence[ClearedInterval], index: int, **fields: tuple[int, ...]
) -> list[ClearedInterval]:
    """The period with one interval's solution altered."""
    changed = list(cleared)
    changed[index] = replace(cleared[index], solution=replace(cleared[index].solution, **fields))
    return changed


def with_records(batch: Batch, cleared: Sequence[ClearedInterval]) -> Batch:
    """The batch with other certificates, everything else as it was."""
    return replace(
        batch,
        interval_records=b"".join(interval_record(item.problem, item.solution) for item in cleared),
    )


def less(values: tuple[int, ...], index: int, amount: int) -> tuple[int, ...]:
    """One of the values made smaller."""
    return (*values[:index], values[index] - amount, *values[index + 1 :])


class TestAccepted:
    def test_an_honest_batch_is_on_record_under_the_hash_python_computes(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        community.submit(batch)
        record = community.contracts.record_of(FIRST_PERIOD)
        assert record.header_hash == batch.header.hash()
        assert record.submitter == account("coordinator").address
        assert record.submitted_at == community.client.web3.eth.get_block("latest")["timestamp"]
        assert community.contracts.head_period() == FIRST_PERIOD
        assert not community.contracts.is_final(FIRST_PERIOD)

    def test_its_event_carries_the_whole_header(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        sent = community.submit(batch)
        (event,) = community.contracts.submitted_batches()
        assert header_tuple(event.header) == header_tuple(batch.header)
        assert event.batch_hash == batch.header.hash()
        assert event.transaction_hash == sent.transaction_hash

    def test_the_bond_stays_with_the_contract(self, community: LiveCommunity) -> None:
        community.submit_all(community.batches(2))
        held = community.client.balance_wei(community.place.clearing_house)
        assert held == 2 * BOND_WEI

    def test_before_the_first_batch_there_is_none(self, community: LiveCommunity) -> None:
        assert community.contracts.head_period() == FIRST_PERIOD - 1
        assert community.contracts.record_of(FIRST_PERIOD).header_hash == bytes(32)
        assert not community.contracts.is_final(FIRST_PERIOD)

    def test_the_first_batch_stands_on_the_genesis_of_this_chain_and_contract(
        self, community: LiveCommunity
    ) -> None:
        on_chain = community.contract("ClearingHouse").functions.genesisHash().call()
        assert on_chain == community.place.genesis
        assert on_chain == genesis_hash(
            community.client.chain_id, community.place.clearing_house, FIRST_PERIOD, FIRST_INTERVAL
        )
        assert community.batch(0).header.previous_batch == on_chain

    def test_each_batch_stands_on_the_one_before(self, community: LiveCommunity) -> None:
        batches = community.batches(3)
        community.submit_all(batches)
        headers = [event.header for event in community.contracts.submitted_batches()]
        assert [header.previous_batch for header in headers[1:]] == [
            header.hash() for header in headers[:-1]
        ]
        assert community.contracts.head_period() == FIRST_PERIOD + 2

    def test_more_signatures_than_needed_are_fine(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        signatures = [sign_report(k, community.place.domain, batch.report) for k in signer_keys()]
        community.submit(replace(batch, signatures=tuple(signatures)))

    def test_the_longest_local_day_of_five_minutes_fits(self, community: LiveCommunity) -> None:
        """25 hours of 5 minutes."""
        period = replace(period_number(0), interval_count=300)
        energy = {
            slot: [pair for _ in range(75) for pair in pairs]
            for slot, pairs in energy_of(0).items()
        }
        signed = community.paper.signed_report(period, energy, community.place)
        batch = community.paper.batch(
            period,
            signed.report,
            signed.signatures,
            signed.member_periods,
            place=community.place,
        )
        community.submit(batch)
        assert community.contracts.record_of(FIRST_PERIOD).header_hash == batch.header.hash()


class TestFrame:
    """Bond, caller, period, version, intervals."""

    @pytest.mark.parametrize("sent_wei", [0, BOND_WEI - 1, BOND_WEI + 1, 2 * BOND_WEI])
    def test_any_other_bond_is_refused(self, community: LiveCommunity, sent_wei: int) -> None:
        call = community.contracts.submit_batch(
            community.batch(0), community.market, SHARE_MILLIONTHS
        )
        refused = community.client.refusal(call, account("coordinator"), sent_wei)
        assert said(refused) == ("WrongBond", sent_wei, BOND_WEI)

    @pytest.mark.parametrize("caller", ["outsider", "deployer"])
    def test_a_caller_without_the_role_is_refused(
        self, community: LiveCommunity, caller: str
    ) -> None:
        call = community.contracts.submit_batch(
            community.batch(0), community.market, SHARE_MILLIONTHS
        )
        refused = community.client.refusal(call, account(caller), BOND_WEI)
        assert said(refused) == ("AccessManagedUnauthorized", account(caller).address.lower())

    def test_a_coordinator_whose_role_was_taken_away_is_refused(
        self, community: LiveCommunity
    ) -> None:
        manager = community.contract("AccessManager")
        coordinator = account("coordinator").address
        community.client.send(
            manager.functions.revokeRole(COORDINATOR_ROLE, coordinator), account("deployer")
        )
        refused = community.refusal_of(community.batch(0))
        assert said(refused) == ("AccessManagedUnauthorized", coordinator.lower())

    @pytest.mark.parametrize("offset", [-1, 1, 2])
    def test_a_period_out_of_turn_is_refused(self, community: LiveCommunity, offset: int) -> None:
        batch = community.batch(0)
        report = replace(batch.report, period=FIRST_PERIOD + offset)
        refused = community.refusal_of(resigned(community, batch, report))
        assert said(refused) == ("WrongPeriod", FIRST_PERIOD + offset, FIRST_PERIOD)

    def test_the_same_period_twice_is_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        refused = community.refusal_of(batch)
        assert said(refused) == ("WrongPeriod", FIRST_PERIOD, FIRST_PERIOD + 1)

    def test_a_correction_is_not_taken_for_the_first_report(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        refused = community.refusal_of(resigned(community, batch, replace(batch.report, version=1)))
        assert said(refused) == ("WrongVersion", 1, 0)

    @pytest.mark.parametrize("shift", [-1, 1])
    def test_intervals_neither_overlap_nor_leave_a_gap(
        self, community: LiveCommunity, shift: int
    ) -> None:
        batch = community.batch(0)
        report = replace(batch.report, first_interval=FIRST_INTERVAL + shift)
        refused = community.refusal_of(resigned(community, batch, report))
        assert said(refused) == ("WrongFirstInterval", FIRST_INTERVAL + shift, FIRST_INTERVAL)

    def test_the_second_period_begins_where_the_first_ended(self, community: LiveCommunity) -> None:
        first, second = community.batches(2)
        community.submit(first)
        report = replace(second.report, first_interval=FIRST_INTERVAL)
        refused = community.refusal_of(resigned(community, second, report))
        expected = FIRST_INTERVAL + INTERVALS_PER_PERIOD
        assert said(refused) == ("WrongFirstInterval", FIRST_INTERVAL, expected)

    @pytest.mark.parametrize("count", [0, 301, 2**32 - 1])
    def test_no_intervals_or_too_many_are_refused(
        self, community: LiveCommunity, count: int
    ) -> None:
        batch = community.batch(0)
        report = replace(batch.report, interval_count=count)
        refused = community.refusal_of(resigned(community, batch, report))
        assert said(refused) == ("WrongIntervalCount", count, 300)

    def test_a_period_is_submitted_only_when_it_is_over(self, community: LiveCommunity) -> None:
        """A second ClearingHouse whose first period lies ahead of the chain's clock."""
        now = community.client.web3.eth.get_block("latest")["timestamp"]
        ahead = replace(period_number(0), first_interval=now // 900 + 1000)
        sent = community.client.send(
            constructor(
                community.client.web3,
                "ClearingHouse",
                community.contracts.addresses["AccessManager"],
                community.contracts.addresses["MemberRegistry"],
                community.contracts.addresses["TariffBook"],
                community.contracts.addresses["ReadingOracle"],
                ahead.number,
                ahead.first_interval,
                900,
                1,
                BOND_WEI,
            ),
            account("deployer"),
        )
        assert sent.contract_address is not None
        addresses = community.contracts.addresses | {"ClearingHouse": sent.contract_address}
        later = replace(
            community,
            contracts=type(community.contracts)(community.client.web3, addresses),
            place=replace(
                community.place,
                clearing_house=sent.contract_address,
                first_interval=ahead.first_interval,
            ),
        )
        community.client.send(
            later.contracts.restrict("ClearingHouse", ("submitBatch",), COORDINATOR_ROLE),
            account("deployer"),
        )
        signed = community.paper.signed_report(ahead, energy_of(0), later.place)
        batch = community.paper.batch(
            ahead, signed.report, signed.signatures, signed.member_periods, place=later.place
        )
        ends_at = (ahead.first_interval + ahead.interval_count) * 900
        refused = later.refusal_of(batch)
        assert refused is not None
        assert refused.error_name == "PeriodNotOver"
        assert refused.arguments["endsAt"] == ends_at
        assert refused.arguments["blockTime"] < ends_at
        latest = community.client.web3.eth.get_block("latest")["timestamp"]
        community.client.advance(ends_at - latest)
        later.submit(batch)
        assert later.contracts.record_of(ahead.number).header_hash == batch.header.hash()


class TestSignatures:
    def test_too_few_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        for given in range(THRESHOLD):
            refused = community.refusal_of(replace(batch, signatures=batch.signatures[:given]))
            assert said(refused) == ("TooFewSignatures", given, THRESHOLD)

    def test_one_signer_counts_once(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        refused = community.refusal_of(replace(batch, signatures=(batch.signatures[0],) * 2))
        first = community.place.signers[0]
        assert said(refused) == ("SignaturesNotAscending", 1, first.lower())

    def test_signatures_out_of_order_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        refused = community.refusal_of(replace(batch, signatures=batch.signatures[::-1]))
        first = community.place.signers[0]
        assert said(refused) == ("SignaturesNotAscending", 1, first.lower())

    def test_a_stranger_is_no_signer(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        stranger = private_key(secret("stranger"))
        keys = sorted((signer_keys()[0], stranger), key=lambda key: int(address_of(key), 16))
        signatures = tuple(sign_report(key, community.place.domain, batch.report) for key in keys)
        refused = community.refusal_of(replace(batch, signatures=signatures))
        position = keys.index(stranger)
        assert said(refused) == ("UnknownSigner", position, address_of(stranger).lower())

    def test_a_stranger_beside_enough_signers_is_refused_too(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        stranger = private_key(secret("stranger"))
        keys = sorted((*signer_keys(), stranger), key=lambda key: int(address_of(key), 16))
        signatures = tuple(sign_report(key, community.place.domain, batch.report) for key in keys)
        refused = community.refusal_of(replace(batch, signatures=signatures))
        position = keys.index(stranger)
        assert said(refused) == ("UnknownSigner", position, address_of(stranger).lower())

    @pytest.mark.parametrize(
        "change",
        [
            lambda report: replace(report, readings_root=b"\x11" * 32),
            lambda report: replace(report, totals_hash=b"\x11" * 32),
        ],
        ids=["readings root", "totals"],
    )
    def test_signatures_bind_what_was_signed(
        self, community: LiveCommunity, change: Callable[[OracleReport], OracleReport]
    ) -> None:
        batch = community.batch(0)
        refused = community.refusal_of(replace(batch, report=change(batch.report)))
        assert refused is not None
        assert refused.error_name in {"UnknownSigner", "SignaturesNotAscending"}

    @pytest.mark.parametrize(
        ("domain", "place"),
        [
            ("another chain", {"chain_id": 5}),
            ("another oracle", {"reading_oracle": "0x" + "22" * 20}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_signatures_for_elsewhere_are_worthless(
        self, community: LiveCommunity, domain: str, place: dict[str, Any]
    ) -> None:
        batch = community.batch(0)
        elsewhere: Place = replace(community.place, **place)
        signatures = tuple(
            sign_report(key, elsewhere.domain, batch.report) for key in signer_keys()
        )
        refused = community.refusal_of(replace(batch, signatures=signatures))
        assert refused is not None, domain
        assert refused.error_name in {"UnknownSigner", "SignaturesNotAscending"}

    @pytest.mark.parametrize(
        "place",
        [
            {"chain_id": 5},
            {"reading_oracle": "0x" + "22" * 20},
            {"threshold": 1},
            {"signers": ("0x" + "33" * 20,)},
        ],
        ids=["chain", "oracle", "threshold", "signers"],
    )
    def test_a_report_for_another_configuration_is_refused(
        self, community: LiveCommunity, place: dict[str, Any]
    ) -> None:
        batch = community.batch(0)
        digest = replace(community.place, **place).config_digest
        refused = community.refusal_of(
            resigned(community, batch, replace(batch.report, config_digest=digest))
        )
        assert said(refused) == ("WrongConfigDigest", digest, community.place.config_digest)

    def test_a_signature_in_its_other_form_is_refused(self, community: LiveCommunity) -> None:
        """(r, n - s) verifies as well as (r, s); only the lower s is taken."""
        batch = community.batch(0)
        first, second = batch.signatures
        s = CURVE_ORDER - int.from_bytes(first[32:64], "big")
        mirrored = first[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - first[64]])
        refused = community.refusal_of(replace(batch, signatures=(mirrored, second)))
        assert said(refused) == ("ECDSAInvalidSignatureS", s.to_bytes(32, "big"))

    @pytest.mark.parametrize(
        ("signature", "name"),
        [
            (b"", "ECDSAInvalidSignatureLength"),
            (b"\x01" * 64, "ECDSAInvalidSignatureLength"),
            (b"\x01" * 66, "ECDSAInvalidSignatureLength"),
            (bytes(65), "ECDSAInvalidSignature"),
            (b"\x01" * 64 + b"\x00", "ECDSAInvalidSignature"),
        ],
    )
    def test_what_is_no_signature_is_refused(
        self, community: LiveCommunity, signature: bytes, name: str
    ) -> None:
        batch = community.batch(0)
        refused = community.refusal_of(replace(batch, signatures=(signature, signature)))
        assert refused is not None
        assert refused.error_name == name

    def test_after_the_signers_changed_the_old_ones_do_not_count(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        oracle = community.contract("ReadingOracle")
        remaining = list(community.place.signers[1:])
        community.client.send(oracle.functions.setSigners(remaining, 2), account("deployer"))
        changed = replace(community.place, signers=tuple(remaining))
        refused = community.refusal_of(batch)
        assert said(refused) == (
            "WrongConfigDigest",
            community.place.config_digest,
            changed.config_digest,
        )
        report = replace(batch.report, config_digest=changed.config_digest)
        refused = community.refusal_of(resigned(community, batch, report))
        assert said(refused) == ("UnknownSigner", 0, community.place.signers[0].lower())


class TestTariff:
    def test_another_share_of_the_savings_is_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        call = community.contracts.submit_batch(batch, community.market, SHARE_MILLIONTHS + 1)
        refused = community.client.refusal(call, account("coordinator"), BOND_WEI)
        given = tariff_hash(community.market, SHARE_MILLIONTHS + 1)
        assert said(refused) == ("WrongTariff", given, batch.header.tariff_hash)

    def test_other_prices_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        groups = list(community.market.groups)
        groups[0] = replace(groups[0], import_price_nano_per_wh=320_001)
        market = replace(community.market, groups=tuple(groups))
        call = community.contracts.submit_batch(batch, market, SHARE_MILLIONTHS)
        refused = community.client.refusal(call, account("coordinator"), BOND_WEI)
        given = tariff_hash(market, SHARE_MILLIONTHS)
        assert said(refused) == ("WrongTariff", given, batch.header.tariff_hash)

    def test_each_period_is_cleared_with_the_tariff_announced_for_it(
        self, community: LiveCommunity
    ) -> None:
        new = replace(community.paper, share_millionths=900_000)
        community.client.send(
            community.contracts.announce_tariff(new.market, 900_000, FIRST_PERIOD + 1),
            account("deployer"),
        )
        first, second = community.batches(2)
        early = community.contracts.submit_batch(first, new.market, 900_000)
        refused = community.client.refusal(early, account("coordinator"), BOND_WEI)
        assert refused is not None
        assert refused.error_name == "WrongTariff"
        community.submit(first)
        refused = community.refusal_of(second)
        assert said(refused) == (
            "WrongTariff",
            tariff_hash(community.market, SHARE_MILLIONTHS),
            tariff_hash(new.market, 900_000),
        )
        signed = community.signed_report(1)
        right = new.batch(
            period_number(1),
            signed.report,
            signed.signatures,
            signed.member_periods,
            first,
            community.place,
        )
        call = community.contracts.submit_batch(right, new.market, 900_000)
        community.client.send(call, account("coordinator"), BOND_WEI)
        recorded = community.contracts.record_of(FIRST_PERIOD + 1).header_hash
        assert recorded == right.header.hash()


class TestCertificates:
    """The proof of optimality, as part of a submission; `test_differential.py` tries thousands of others."""

    def test_a_clearing_that_is_not_the_cheapest_is_refused_with_what_it_wastes(
        self, community: LiveCommunity
    ) -> None:
        """Energy kept from a neighbour at the same node."""
        cleared = community.cleared(1)
        groups = community.market.groups
        index, seller, buyer, amount = next(
            (index, seller, buyer, min(sold, bought))
            for index, interval in enumerate(cleared)
            for seller, sold in enumerate(interval.solution.matched_supply_wh)
            for buyer, bought in enumerate(interval.solution.matched_demand_wh)
            if groups[seller].node == groups[buyer].node and sold and bought
        )
        honest = cleared[index].solution
        worse = altered(
            cleared,
            index,
            matched_demand_wh=less(honest.matched_demand_wh, buyer, amount),
            matched_supply_wh=less(honest.matched_supply_wh, seller, amount),
        )
        gap = duality_gap_nano(worse[index].problem, worse[index].solution)
        assert gap > 0
        first, second = community.batches(2)
        community.submit(first)
        refused = community.refusal_of(with_records(second, worse))
        assert said(refused) == ("NotOptimal", index, gap)

    def test_so_is_one_whose_books_are_straight_in_every_other_way(
        self, community: LiveCommunity
    ) -> None:
        """No trade at all in the last interval; supplier, fees, fund and ledger all agree with that."""
        cleared = list(community.cleared(0))
        honest = cleared[3]
        lie = replace(
            honest.solution,
            matched_demand_wh=(0,) * len(community.market.groups),
            matched_supply_wh=(0,) * len(community.market.groups),
            flow_wh=(0,) * len(honest.solution.flow_wh),
        )
        cost = primal_cost_nano(honest.problem, lie)
        cleared[3] = replace(
            honest,
            solution=lie,
            supplier_nano=cost,
            fees_nano=network_fees_nano(honest.problem, lie),
            dust_nano=0,
        )
        gap = duality_gap_nano(honest.problem, lie)
        refused = community.refusal_of(community.batch(0, cleared=cleared))
        assert said(refused) == ("NotOptimal", 3, gap)

    def test_more_supplied_than_used_is_refused(self, community: LiveCommunity) -> None:
        cleared = community.cleared(0)
        demand = cleared[3].solution.matched_demand_wh
        group = demand.index(max(demand))
        worse = altered(cleared, 3, matched_demand_wh=less(demand, group, 5))
        node = community.market.groups[group].node
        refused = community.refusal_of(with_records(community.batch(0), worse))
        assert said(refused) == ("NodeOutOfBalance", 3, node, 5)

    def test_energy_lost_on_an_edge_is_refused(self, community: LiveCommunity) -> None:
        cleared = community.cleared(0)
        flow = cleared[0].solution.flow_wh
        worse = altered(cleared, 0, flow_wh=less(flow, 0, 1))
        refused = community.refusal_of(with_records(community.batch(0), worse))
        tail = community.market.graph.edge_from[0]
        head = community.market.graph.edge_to[0]
        node, excess = min((tail, 1), (head, -1))
        assert said(refused) == ("NodeOutOfBalance", 0, node, excess)

    @pytest.mark.parametrize("side", ["matched_demand_wh", "matched_supply_wh"])
    def test_more_matched_than_metered_is_refused(
        self, community: LiveCommunity, side: str
    ) -> None:
        cleared = community.cleared(0)
        metered = cleared[0].problem.demand_wh
        if side == "matched_supply_wh":
            metered = cleared[0].problem.supply_wh
        group = len(metered) - 1
        too_much = (*getattr(cleared[0].solution, side)[:group], metered[group] + 1)
        worse = altered(cleared, 0, **{side: too_much})
        refused = community.refusal_of(with_records(community.batch(0), worse))
        assert said(refused) == ("MatchedAboveMetered", 0, group)

    def test_prices_further_apart_than_the_fee_are_refused(self, community: LiveCommunity) -> None:
        graph = community.market.graph
        cleared = community.cleared(0)
        prices = list(cleared[1].solution.price_nano_per_wh)
        fee = graph.edge_fee_nano_per_wh[1]
        prices[graph.edge_to[1]] = prices[graph.edge_from[1]] + fee + 1
        worse = altered(cleared, 1, price_nano_per_wh=tuple(prices))
        refused = community.refusal_of(with_records(community.batch(0), worse))
        assert refused is not None
        assert refused.error_name == "PriceGapAboveFee"
        edge = refused.arguments["edge"]
        tail, head = graph.edge_from[edge], graph.edge_to[edge]
        assert refused.arguments["gap"] == abs(prices[tail] - prices[head])
        assert refused.arguments["fee"] == graph.edge_fee_nano_per_wh[edge]

    @pytest.mark.parametrize("extra", [-1, 1, 32])
    def test_records_of_another_length_are_refused(
        self, community: LiveCommunity, extra: int
    ) -> None:
        batch = community.batch(0)
        records = (batch.interval_records + bytes(32))[: len(batch.interval_records) + extra]
        refused = community.refusal_of(replace(batch, interval_records=records))
        expected = len(batch.interval_records)
        assert said(refused) == ("WrongRecordLength", expected + extra, expected)

    def test_other_totals_than_the_oracle_signed_are_refused(
        self, community: LiveCommunity
    ) -> None:
        """The other period's intervals: proved optimal, but of energy that nobody metered."""
        batch, other = community.batch(0), community.batch(1)
        lie = replace(batch, interval_records=other.interval_records)
        refused = community.refusal_of(lie)
        assert said(refused) == ("WrongTotals", other.report.totals_hash, batch.report.totals_hash)

    def test_intervals_in_another_order_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        cleared = community.cleared(0)
        refused = community.refusal_of(with_records(batch, [cleared[1], cleared[0], *cleared[2:]]))
        assert refused is not None
        assert refused.error_name == "WrongTotals"


class TestLedger:
    @pytest.mark.parametrize(("amount", "cumulative"), [(1, 0), (0, 1), (1, 1), (-7, 7)])
    def test_money_from_nowhere_is_refused(
        self, community: LiveCommunity, amount: int, cumulative: int
    ) -> None:
        batch = community.batch(0)
        leaves = dict(batch.leaves)
        leaf = leaves[4]
        leaves[4] = replace(
            leaf,
            amount_nano=leaf.amount_nano + amount,
            cumulative_nano=leaf.cumulative_nano + cumulative,
        )
        refused = community.refusal_of(with_ledger(batch, leaves))
        assert said(refused) == ("LedgerNotZero", amount, cumulative)

    def test_sums_that_cancel_only_by_overflow_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        call = community.contract("ClearingHouse").functions.submitBatch
        submission = list(
            community.contracts.submit_batch(batch, community.market, SHARE_MILLIONTHS).args[0]
        )
        smallest = (-(2**127)).to_bytes(16, "big", signed=True) + bytes(16)
        submission[4] = (b"\x01" * 32, smallest, b"\x02" * 32, smallest)
        refused = community.client.refusal(
            call(tuple(submission)), account("coordinator"), BOND_WEI
        )
        assert said(refused) == ("LedgerNotZero", -(2**128), 0)


def test_a_refused_batch_leaves_no_trace(community: LiveCommunity) -> None:
    batch = community.batch(0)
    held = community.client.balance_wei(community.place.clearing_house)
    assert community.refusal_of(replace(batch, signatures=())) is not None
    assert community.contracts.record_of(FIRST_PERIOD).header_hash == bytes(32)
    assert community.contracts.submitted_batches() == []
    assert community.client.balance_wei(community.place.clearing_house) == held
    community.submit(batch)
