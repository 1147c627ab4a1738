"""What the ClearingHouse takes and what it refuses: a batch is on record only with its proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import Any

import pytest

from backend.market.certificate import duality_gap_nano, network_fees_nano, primal_cost_nano
from backend.market.pool import ClearedInterval
from backend.settlement.batch import Batch, with_ledger
from backend.settlement.clearing_encoding import pack_clearing, tariff_hash
from backend.settlement.encoding import OracleReport, genesis_hash
from contracts.bindings import CommunityContracts, OracleConfig, constructor, header_tuple
from oracle.signing import address_of, private_key, sign_report
from tests.support.community import (
    BOND_WEI,
    FIRST_INTERVAL,
    FIRST_PERIOD,
    INTERVALS_PER_PERIOD,
    SHARE_MILLIONTHS,
    THRESHOLD,
    LiveCommunity,
    account,
    energy_of,
    period_number,
    secret,
    signer_keys,
)

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def resigned(community: LiveCommunity, batch: Batch, **fields: Any) -> Batch:
    """The batch with another report that the oracle did sign."""
    report = replace(batch.report, **fields)
    keys = signer_keys()[:THRESHOLD]
    signatures = tuple(sign_report(key, community.place.domain, report) for key in keys)
    return replace(batch, report=report, signatures=signatures)


def with_solution(
    batch: Batch, cleared: Sequence[ClearedInterval], index: int, **fields: tuple[int, ...]
) -> Batch:
    """The batch with one interval's certificate altered, everything else as it was."""
    pairs = [(item.problem, item.solution) for item in cleared]
    pairs[index] = (pairs[index][0], replace(pairs[index][1], **fields))
    return replace(batch, clearing=pack_clearing(pairs))


def less(values: tuple[int, ...], index: int, amount: int) -> tuple[int, ...]:
    """One of the values made smaller."""
    return (*values[:index], values[index] - amount, *values[index + 1 :])


class TestAccepted:
    def test_an_honest_batch_is_on_record_under_the_hash_python_computes(
        self, community: LiveCommunity
    ) -> None:
        batch = community.batch(0)
        sent = community.submit(batch)
        record = community.contracts.record_of(1)
        assert record.batch_hash == batch.header.hash()
        assert record.submitted_at == community.now()
        assert community.contracts.head_number() == 1
        assert community.contracts.next_period() == FIRST_PERIOD + 1
        assert not community.contracts.is_final(1)
        (event,) = community.contracts.submitted_batches()
        assert header_tuple(event.header) == header_tuple(batch.header)
        assert event.batch_hash == batch.header.hash()
        assert event.transaction_hash == sent.transaction_hash

    def test_before_the_first_batch_there_is_none(self, community: LiveCommunity) -> None:
        assert community.contracts.head_number() == 0
        assert community.recorded(0) == community.recorded(1) == bytes(32)
        assert not community.contracts.is_final(0)
        assert not community.contracts.is_final(1)

    def test_the_first_batch_stands_on_the_genesis_of_this_chain_and_contract(
        self, community: LiveCommunity
    ) -> None:
        on_chain = community.functions("ClearingHouse").genesisHash().call()
        assert on_chain == genesis_hash(
            community.client.chain_id, community.place.clearing_house, FIRST_PERIOD, FIRST_INTERVAL
        )
        assert community.batch(0).header.previous_batch == on_chain

    def test_each_batch_stands_on_the_one_before_and_one_bond_behind_all(
        self, community: LiveCommunity
    ) -> None:
        batches = community.batches(3)
        community.submit(*batches)
        headers = [event.header for event in community.contracts.submitted_batches()]
        assert [header.previous_batch for header in headers[1:]] == [
            header.hash() for header in headers[:-1]
        ]
        assert community.contracts.head_number() == 3
        assert community.client.balance_wei(community.place.clearing_house) == BOND_WEI

    def test_more_signatures_than_needed_are_fine(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        signatures = [sign_report(k, community.place.domain, batch.report) for k in signer_keys()]
        assert community.submission_refused(replace(batch, signatures=tuple(signatures))) is None

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
        assert community.submit(batch).gas_used < 16_777_216
        assert community.recorded(1) == batch.header.hash()


class TestFrame:
    """Caller, period, version, intervals; test_bond.py tells what the bond has to do with it."""

    @pytest.mark.parametrize("caller", ["outsider", "deployer"])
    def test_a_caller_without_the_role_is_refused(
        self, community: LiveCommunity, caller: str
    ) -> None:
        refused = community.refused(community.submission(community.batch(0)), caller)
        assert refused == ("AccessManagedUnauthorized", account(caller).address.lower())

    @pytest.mark.parametrize("offset", [-1, 1, 2])
    def test_a_period_out_of_turn_is_refused(self, community: LiveCommunity, offset: int) -> None:
        batch = resigned(community, community.batch(0), period=FIRST_PERIOD + offset)
        refused = community.submission_refused(batch)
        assert refused == ("WrongPeriod", FIRST_PERIOD + offset, FIRST_PERIOD)

    def test_the_same_period_twice_is_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        community.submit(batch)
        refused = community.submission_refused(batch)
        assert refused == ("WrongPeriod", FIRST_PERIOD, FIRST_PERIOD + 1)

    def test_a_correction_is_not_taken_for_the_first_report(self, community: LiveCommunity) -> None:
        batch = resigned(community, community.batch(0), version=1)
        assert community.submission_refused(batch) == ("WrongVersion", 1, 0)

    @pytest.mark.parametrize("shift", [-1, 1])
    def test_intervals_neither_overlap_nor_leave_a_gap(
        self, community: LiveCommunity, shift: int
    ) -> None:
        batch = resigned(community, community.batch(0), first_interval=FIRST_INTERVAL + shift)
        refused = community.submission_refused(batch)
        assert refused == ("WrongFirstInterval", FIRST_INTERVAL + shift, FIRST_INTERVAL)

    def test_the_second_period_begins_where_the_first_ended(self, community: LiveCommunity) -> None:
        first, second = community.batches(2)
        community.submit(first)
        refused = community.submission_refused(
            resigned(community, second, first_interval=FIRST_INTERVAL)
        )
        expected = FIRST_INTERVAL + INTERVALS_PER_PERIOD
        assert refused == ("WrongFirstInterval", FIRST_INTERVAL, expected)

    @pytest.mark.parametrize("count", [0, 301, 2**32 - 1])
    def test_no_intervals_or_too_many_are_refused(
        self, community: LiveCommunity, count: int
    ) -> None:
        batch = resigned(community, community.batch(0), interval_count=count)
        assert community.submission_refused(batch) == ("WrongIntervalCount", count, 300)

    def test_a_period_is_submitted_only_when_it_is_over(self, ahead: LiveCommunity) -> None:
        batch = ahead.batch(0)
        ends_at = (ahead.place.first_interval + INTERVALS_PER_PERIOD) * 900
        refused = ahead.submission_refused(batch)
        assert refused is not None
        assert refused[:2] == ("PeriodNotOver", ends_at)
        assert refused[2] < ends_at
        ahead.travel_to(ends_at)
        ahead.submit(batch)
        assert ahead.recorded(1) == batch.header.hash()


class TestSignatures:
    def test_too_few_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        for given in range(THRESHOLD):
            refused = community.submission_refused(
                replace(batch, signatures=batch.signatures[:given])
            )
            assert refused == ("TooFewSignatures", given, THRESHOLD)

    def test_one_signer_counts_once_and_order_matters(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        first = community.place.signers[0].lower()
        for signatures in ((batch.signatures[0],) * 2, batch.signatures[::-1]):
            refused = community.submission_refused(replace(batch, signatures=signatures))
            assert refused == ("SignaturesNotAscending", 1, first)

    @pytest.mark.parametrize("beside", [1, 3])
    def test_a_stranger_is_no_signer(self, community: LiveCommunity, beside: int) -> None:
        batch = community.batch(0)
        stranger = private_key(secret("stranger"))
        keys = [*signer_keys()[:beside], stranger]
        keys.sort(key=lambda key: int(address_of(key), 16))
        signatures = tuple(sign_report(key, community.place.domain, batch.report) for key in keys)
        refused = community.submission_refused(replace(batch, signatures=signatures))
        assert refused == ("UnknownSigner", keys.index(stranger), address_of(stranger).lower())

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
        refused = community.submission_refused(replace(batch, report=change(batch.report)))
        assert refused is not None
        assert refused[0] in {"UnknownSigner", "SignaturesNotAscending"}

    @pytest.mark.parametrize(
        "place", [{"chain_id": 5}, {"reading_oracle": "0x" + "22" * 20}], ids=["chain", "oracle"]
    )
    def test_signatures_for_elsewhere_are_worthless(
        self, community: LiveCommunity, place: dict[str, Any]
    ) -> None:
        batch = community.batch(0)
        domain = replace(community.place, **place).domain
        signatures = tuple(sign_report(key, domain, batch.report) for key in signer_keys())
        refused = community.submission_refused(replace(batch, signatures=signatures))
        assert refused is not None
        assert refused[0] in {"UnknownSigner", "SignaturesNotAscending"}

    @pytest.mark.parametrize(
        "place",
        [
            {"chain_id": 5},
            {"clearing_house": "0x" + "44" * 20},
            {"reading_oracle": "0x" + "22" * 20},
            {"threshold": 1},
            {"signers": ("0x" + "33" * 20,)},
        ],
        ids=["chain", "community", "oracle", "threshold", "signers"],
    )
    def test_a_report_for_another_configuration_is_refused(
        self, community: LiveCommunity, place: dict[str, Any]
    ) -> None:
        digest = replace(community.place, **place).config_digest
        batch = resigned(community, community.batch(0), config_digest=digest)
        refused = community.submission_refused(batch)
        assert refused == ("WrongConfigDigest", digest, community.place.config_digest)

    def test_so_is_another_configuration_brought_along(self, community: LiveCommunity) -> None:
        """A threshold of one, say."""
        batch = community.batch(0)
        changed = replace(community.place, threshold=1)
        call = community.contracts.submit_batch(
            batch, community.market, SHARE_MILLIONTHS, OracleConfig(1, changed.signers)
        )
        refused = community.refused(call, "coordinator")
        assert refused == ("WrongConfig", changed.config_digest, community.place.config_digest)

    def test_a_signature_in_its_other_form_is_refused(self, community: LiveCommunity) -> None:
        """(r, n - s) verifies as well as (r, s); only the lower s is taken."""
        batch = community.batch(0)
        first, second = batch.signatures
        s = CURVE_ORDER - int.from_bytes(first[32:64], "big")
        mirrored = first[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - first[64]])
        refused = community.submission_refused(replace(batch, signatures=(mirrored, second)))
        assert refused == ("ECDSAInvalidSignatureS", s.to_bytes(32, "big"))

    @pytest.mark.parametrize(
        ("signature", "name"),
        [
            (b"", "ECDSAInvalidSignatureLength"),
            (b"\x01" * 64, "ECDSAInvalidSignatureLength"),
            (bytes(65), "ECDSAInvalidSignature"),
        ],
    )
    def test_what_is_no_signature_is_refused(
        self, community: LiveCommunity, signature: bytes, name: str
    ) -> None:
        batch = replace(community.batch(0), signatures=(signature, signature))
        refused = community.submission_refused(batch)
        assert refused is not None
        assert refused[0] == name


class TestTariff:
    def test_another_share_of_the_savings_is_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        config = community.place.config
        call = community.contracts.submit_batch(
            batch, community.market, SHARE_MILLIONTHS + 1, config
        )
        given = tariff_hash(community.market, SHARE_MILLIONTHS + 1)
        refused = community.refused(call, "coordinator")
        assert refused == ("WrongTariff", given, batch.header.tariff_hash)

    def test_each_period_is_cleared_with_the_tariff_announced_for_it(
        self, community: LiveCommunity
    ) -> None:
        share = 900_000
        new = replace(community.paper, share_millionths=share)
        community.send(community.contracts.announce_tariff(new.market, share, FIRST_PERIOD + 1))
        first, second = community.batches(2)
        changed = replace(community, paper=new)
        refused = changed.submission_refused(first)
        assert refused is not None and refused[0] == "WrongTariff"
        community.submit(first)
        assert community.submission_refused(second) == (
            "WrongTariff",
            tariff_hash(community.market, SHARE_MILLIONTHS),
            tariff_hash(new.market, share),
        )
        right = changed.batch(1, first)
        changed.submit(right)
        assert community.recorded(2) == right.header.hash()


class TestCertificates:
    """The proof of optimality, as part of a submission; test_certificate.py tries thousands of others."""

    def test_a_clearing_that_is_not_the_cheapest_is_refused_with_what_it_wastes(
        self, community: LiveCommunity
    ) -> None:
        """Energy kept from a neighbour at the same node."""
        first, second = community.batches(2)
        cleared = community.cleared(1, community.signed_report(1))
        groups = community.market.groups
        index, seller, buyer, amount = next(
            (index, seller, buyer, min(sold, bought))
            for index, interval in enumerate(cleared)
            for seller, sold in enumerate(interval.solution.matched_supply_wh)
            for buyer, bought in enumerate(interval.solution.matched_demand_wh)
            if groups[seller].node == groups[buyer].node and sold and bought
        )
        honest = cleared[index].solution
        fields = {
            "matched_demand_wh": less(honest.matched_demand_wh, buyer, amount),
            "matched_supply_wh": less(honest.matched_supply_wh, seller, amount),
        }
        gap = duality_gap_nano(cleared[index].problem, replace(honest, **fields))
        assert gap > 0
        community.submit(first)
        refused = community.submission_refused(with_solution(second, cleared, index, **fields))
        assert refused == ("NotOptimal", index, gap)

    def test_so_is_one_whose_books_are_straight_in_every_other_way(
        self, community: LiveCommunity
    ) -> None:
        """No trade at all in the last interval; supplier, fees, fund and ledger all agree with that."""
        cleared = list(community.cleared(0, community.signed_report(0)))
        honest = cleared[3]
        nothing = (0,) * len(community.market.groups)
        lie = replace(
            honest.solution,
            matched_demand_wh=nothing,
            matched_supply_wh=nothing,
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
        refused = community.submission_refused(community.batch(0, cleared=cleared))
        assert refused == ("NotOptimal", 3, duality_gap_nano(honest.problem, lie))

    def test_more_supplied_than_used_is_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        cleared = community.cleared(0, community.signed_report(0))
        demand = cleared[3].solution.matched_demand_wh
        worse = less(demand, demand.index(max(demand)), 5)
        refused = community.submission_refused(
            with_solution(batch, cleared, 3, matched_demand_wh=worse)
        )
        assert refused == ("NodeOutOfBalance", 3)

    @pytest.mark.parametrize("side", ["matched_demand_wh", "matched_supply_wh"])
    def test_more_matched_than_metered_is_refused(
        self, community: LiveCommunity, side: str
    ) -> None:
        batch = community.batch(0)
        cleared = community.cleared(0, community.signed_report(0))
        problem = cleared[0].problem
        metered = problem.demand_wh if side == "matched_demand_wh" else problem.supply_wh
        group = len(metered) - 1
        too_much = (*getattr(cleared[0].solution, side)[:group], metered[group] + 1)
        refused = community.submission_refused(with_solution(batch, cleared, 0, **{side: too_much}))
        assert refused == ("MatchedAboveMetered", 0)

    def test_prices_further_apart_than_the_fee_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        graph = community.market.graph
        cleared = community.cleared(0, community.signed_report(0))
        prices = list(cleared[0].solution.price_nano_per_wh)
        prices[graph.edge_to[1]] = prices[graph.edge_from[1]] + graph.edge_fee_nano_per_wh[1] + 1
        refused = community.submission_refused(
            with_solution(batch, cleared, 0, price_nano_per_wh=tuple(prices))
        )
        assert refused == ("PriceGapAboveFee", 0)

    @pytest.mark.parametrize("extra", [-1, 1, 32])
    def test_data_of_another_length_are_refused(self, community: LiveCommunity, extra: int) -> None:
        batch = community.batch(0)
        expected = len(batch.clearing)
        data = (batch.clearing + bytes(32))[: expected + extra]
        refused = community.submission_refused(replace(batch, clearing=data))
        assert refused is not None
        # Cut short, the last record reads as zeros, and may break another rule first.
        assert extra < 0 or refused == ("WrongClearingLength", expected + extra, expected)

    def test_energies_of_another_width_are_refused(self, community: LiveCommunity) -> None:
        batch = community.batch(0)
        for width in (0, 1, 9):
            data = bytes([width]) + batch.clearing[1:]
            refused = community.submission_refused(replace(batch, clearing=data))
            assert refused == ("WrongEnergyWidth", width)

    def test_other_totals_than_the_oracle_signed_are_refused(
        self, community: LiveCommunity
    ) -> None:
        """The other period's intervals: proved optimal, but of energy that nobody metered."""
        batch, other = community.batches(2)
        refused = community.submission_refused(replace(batch, clearing=other.clearing))
        assert refused == ("WrongTotals", other.report.totals_hash, batch.report.totals_hash)


class TestLedger:
    @pytest.mark.parametrize(("amount", "cumulative"), [(1, 0), (0, 1), (1, 1), (-7, 7)])
    def test_money_from_nowhere_is_refused(
        self, community: LiveCommunity, amount: int, cumulative: int
    ) -> None:
        batch = community.batch(0)
        leaf = batch.leaves[4]
        false = replace(
            leaf,
            amount_nano=leaf.amount_nano + amount,
            cumulative_nano=leaf.cumulative_nano + cumulative,
        )
        refused = community.submission_refused(with_ledger(batch, dict(batch.leaves) | {4: false}))
        assert refused == ("LedgerNotZero", amount, cumulative)

    def with_root(self, community: LiveCommunity, batch: Batch, root: tuple[Any, ...]) -> Any:
        submission = list(community.submission(batch).args[0])
        submission[5] = root
        return community.refused(
            community.functions("ClearingHouse").submitBatch(tuple(submission)), "coordinator"
        )

    def test_sums_that_cancel_only_by_overflow_are_refused(self, community: LiveCommunity) -> None:
        smallest = (-(2**127)).to_bytes(16, "big", signed=True) + bytes(16)
        root = (3, b"\x01" * 32, smallest, b"\x02" * 32, smallest)
        refused = self.with_root(community, community.batch(0), root)
        assert refused == ("LedgerNotZero", -(2**128), 0)

    @pytest.mark.parametrize("depth", [0, 21, 255])
    def test_a_tree_of_no_or_too_many_levels_is_refused(
        self, community: LiveCommunity, depth: int
    ) -> None:
        root = (depth, b"\x01" * 32, bytes(32), b"\x02" * 32, bytes(32))
        refused = self.with_root(community, community.batch(0), root)
        assert refused == ("WrongDepth", depth, 20)


def test_a_refused_batch_leaves_no_trace(community: LiveCommunity) -> None:
    batch = community.batch(0)
    call = community.submission(replace(batch, signatures=()))
    assert community.client.refusal(call, account("coordinator")) is not None
    assert community.recorded(1) == bytes(32)
    assert community.contracts.submitted_batches() == []
    community.submit(batch)


def test_the_parts_of_a_community_are_bound_to_it(community: LiveCommunity) -> None:
    """A clearing house over another community's vault, registry or oracle cannot be deployed."""
    names = ("MemberRegistry", "TariffBook", "ReadingOracle", "Vault", "Challenges")
    addresses = community.contracts.addresses
    found = CommunityContracts.from_clearing_house(
        community.client.web3, addresses["ClearingHouse"]
    )
    assert found.addresses == {k: v for k, v in addresses.items() if k != "MeterRegistry"}
    call = constructor(
        community.client.web3,
        "ClearingHouse",
        addresses["AccessManager"],
        *(addresses[name] for name in names),
        astuple(community.contracts.parameters()),
    )
    refused = community.client.refusal(call, account("deployer"))  # type: ignore[arg-type]
    assert refused is not None
    assert refused.error_name == "NotOfThisCommunity"
