"""Two roads to one result: whatever community the platform settles, the auditor, on code of its own, comes to the same.

A disagreement is a fault in one of the two. Everything is compared through hashes and amounts that the platform states: totals, prices,
supplier, fees, fund, readings root, every amount and balance, the ledger's and the trades' roots, every trade's fee.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.audit.amounts import Steps, due_nano, group_totals
from backend.audit.batch_checks import judge
from backend.audit.bundle_files import BundleFiles
from backend.audit.bundle_format import read_public, unpack_readings
from backend.audit.facts import CommunityFacts, SubmittedBatch, components, header_hash
from backend.audit.tariff_words import tariff_words
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality
from backend.market.problem import Group
from backend.operator.publication import publish_bundle
from backend.settlement.batch import Batch
from backend.settlement.clearing_encoding import tariff_hash
from backend.settlement.encoding import pack_readings
from backend.settlement.statement import statement_amount_nano
from contracts.bindings import header_tuple, submission_tuple
from oracle.signing import sign_report
from tests.support.community import (
    FIRST_INTERVAL,
    FIRST_PERIOD,
    PAPER,
    Community,
    Energy,
    signer_keys,
)
from tests.support.strategies import communities, readings

from .court import function_abi
from .honest import named

LONG = 10**6


def facts_of(community: Community) -> CommunityFacts:
    """What a chain would say of a community on paper."""
    market = community.market
    nobody = {"node": 65_535, "tariffClass": 0, "fromPeriod": FIRST_PERIOD, "untilPeriod": 0}
    members = dict.fromkeys(range(3), nobody)
    for item in community.members:
        members[item.slot] = nobody | {
            "node": market.node_names.index(item.node),
            "tariffClass": market.class_names.index(item.tariff_class),
        }
    return CommunityFacts(
        chain_id=PAPER.chain_id,
        addresses={"ClearingHouse": PAPER.clearing_house, "ReadingOracle": PAPER.reading_oracle},
        parameters={
            "firstPeriod": FIRST_PERIOD,
            "firstInterval": FIRST_INTERVAL,
            "intervalSeconds": 900,
            "challengeSeconds": 1,
            "correctionSeconds": 10**10,
        },
        members=members,
        config_digests=frozenset({PAPER.config_digest}),
        time=10**10,
        frozen=False,
    )


def submitted(
    community: Community, batch: Batch, corrected: SubmittedBatch | None
) -> SubmittedBatch:
    """As a chain would show it."""
    given_ = (batch, community.market, community.share_millionths, PAPER.config)
    parts = {"type": "tuple", "components": components("ClearingHouse", "BatchSubmitted", 3)}
    header = named(parts, header_tuple(batch.header))
    return SubmittedBatch(
        header=header,
        submission=named(function_abi("ClearingHouse", "submitBatch")["inputs"][0], submission_tuple(*given_)),
        header_hash=header_hash(header),
        submitted_at=(FIRST_INTERVAL + LONG) * 900 + batch.header.number * 10,
        corrected=corrected.header if corrected else None,
        recorded_hash=batch.header.hash(),
        tariff_in_force=tariff_hash(community.market, community.share_millionths),
        final=True,
    )  # fmt: skip


def settle(community: Community, energies: list[Energy], folder: Path) -> list[SubmittedBatch]:
    """Two periods and a correction of the first, with their bundles in the folder."""
    found: list[SubmittedBatch] = []
    batches: list[Batch] = []
    count = len(next(iter(energies[0].values())))
    for place, offset in ((0, 0), (1, 1), (1, 0)):
        corrected = batches[0] if len(batches) == 2 else None
        period = Period(FIRST_PERIOD + offset, FIRST_INTERVAL + offset * count, count, 15)
        version = 1 if corrected else 0
        items = community.member_periods(period, energies[place], version)
        report = community.report(period, items, version=version)
        signatures = [sign_report(key, PAPER.domain, report) for key in signer_keys()[:2]]
        previous = batches[-1] if batches else None
        batch = community.batch(period, report, signatures, items, previous, corrected=corrected)
        publish_bundle(folder / str(batch.header.number), community.bundle(batch, period))
        batches.append(batch)
        found.append(submitted(community, batch, found[0] if corrected else None))
    return found


@given(drawn=communities(most_members=6, most_intervals=3))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_platform_and_auditor_agree_on_any_community(drawn: tuple[Community, list[Energy]]) -> None:
    community, energies = drawn
    folder = Path(tempfile.mkdtemp())
    try:
        batches = settle(community, energies, folder)
        for batch, found, recomputed, checks in judge(
            facts_of(community), batches, batches, BundleFiles(folder)
        ):
            wrong = [(c.what, c.detail) for c in checks.items if c.passed is not True]
            assert wrong == [], (batch.number, wrong)
            assert found.level == "full"
            assert recomputed is not None
            assert sum(recomputed.amounts.values()) == 0
        public = read_public(BundleFiles(folder).public(1))
        words = tariff_words(public.data["tariff"])
        raw = batches[0].submission["tariff"]
        assert words.submitted == {name: _lists(raw[name]) for name in words.submitted}
    finally:
        shutil.rmtree(folder)


def _lists(value: Any) -> Any:
    return [bytes(item) for item in value] if isinstance(value, list | tuple) else value


STEPS = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
PRICES = st.tuples(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40))


@given(
    rows=st.lists(
        st.tuples(
            readings(), st.one_of(STEPS, st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))
        ),
        min_size=1,
        max_size=6,
    ),
    prices=PRICES,
)
@settings(max_examples=200, deadline=None)
def test_amounts_of_any_size_are_exact(
    rows: list[tuple[IntervalReading, tuple[int, int]]], prices: tuple[int, int]
) -> None:
    """Also where NumPy's 64 bits are too few."""
    series = unpack_readings(pack_readings([reading for reading, _ in rows]))
    steps = [step for _, step in rows]
    expected = 0
    for reading, (discount, premium) in rows:
        if reading.quality is not Quality.MISSING:
            net = reading.export_wh - reading.import_wh
            expected += net * (prices[0] - discount if net < 0 else prices[1] + premium)
    assert due_nano(series, Steps(steps), prices) == expected
    assert (
        statement_amount_nano([reading for reading, _ in rows], steps, Group(0, 0, *prices))
        == expected
    )


@given(parts=st.lists(st.lists(readings(), min_size=2, max_size=2), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_totals_of_any_size_are_exact(parts: list[list[IntervalReading]]) -> None:
    series = {slot: unpack_readings(pack_readings(part)) for slot, part in enumerate(parts)}
    demand, supply = group_totals(series, dict.fromkeys(series, 0), 2, 1)
    for index in range(2):
        nets = [int(item.net_wh[index]) for item in series.values()]
        assert demand[0, index] == -sum(min(net, 0) for net in nets)
        assert supply[0, index] == sum(max(net, 0) for net in nets)
    assert isinstance(np.asarray(demand), np.ndarray)
