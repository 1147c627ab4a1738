"""`peerwatt bench audit`: a community's whole year recomputed from certificates and bundles.

The platform makes the year first, outside of what is measured: real households of the bundled SimBench feeder in four zones, a
batch for each day with its bundle on disk. What is measured is everything the auditor does with it but asking a node: certificates,
totals, prices, signatures, readings, amounts, both trees, proofs, trades. It runs in processes of its own, so that their memory is
the auditor's. Seconds are those of the processors divided by the number of processes, which other work on the machine does not
lengthen as it does the clock's.
"""

from __future__ import annotations

import pickle
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from backend.audit.batch_checks import judge
from backend.audit.bundle_files import BundleFiles
from backend.audit.facts import CommunityFacts, SubmittedBatch, header_hash
from backend.domain.case import Network, NetworkEdge, NetworkNode, TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, CommunityTariff, Member
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality
from backend.market.pool import Pool
from backend.market.problem import Market, build_market
from backend.operator.publication import publish_bundle
from backend.settlement.batch import Batch, MemberPeriod, build_batch
from backend.settlement.bundle import make_bundle
from backend.settlement.clearing_encoding import pack_totals, tariff_hash
from backend.settlement.encoding import (
    OracleReport,
    derive_salt,
    domain_separator,
    genesis_hash,
    oracle_config_digest,
)
from backend.settlement.trees import PositionalTree
from contracts.artifact import artifact
from contracts.bindings import OracleConfig, header_tuple, submission_tuple
from oracle.committee import group_totals
from oracle.signing import address_of, private_key, sign_report

from .feeders import simbench_year
from .table import row

_FIRST, _CHAIN, _SHARE, _ZONES = 17_000, 1, 500_000, 4
_INTERVALS, _MINUTES = 96, 15
_HOUSE, _ORACLE = "0x" + "c1" * 20, "0x" + "0a" * 20
_HOUSEHOLDS = 100
_LONG_AGO = _FIRST * 86_400
YEAR_DAYS = 365
_TARGET_SECONDS, _TARGET_MIB = 60, 1024


@dataclass(frozen=True)
class Measured:
    """What recomputing took: seconds by the clock and of the processors, MiB at the peak of all processes together, checks, and how
    many passed.
    """

    seconds: float
    processor_seconds: float
    mebibytes: float
    checks: int
    passed: int


def bench_audit(
    *, days: int, sizes: tuple[int, ...], workers: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Makes and recomputes years.

    Args:
        days: of the year with the first size; larger communities get as many fewer.
        sizes: members.
        workers: processes that recompute.
        progress: told what is being done.

    Returns:
        Rows as `table.row` makes them; theirs is what the platform took to clear, build and bundle the same days.
    """
    return [
        _measure(members, max(days * sizes[0] // members, 1), workers, progress, sizes[0])
        for members in sizes
    ]


def _measure(
    members: int, days: int, workers: int, progress: Callable[[str], None], smallest: int
) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="peerwatt-bench-"))
    try:
        started = process_time()
        community = _PaperCommunity(members)
        batches = []
        for number, batch in enumerate(community.settle(days, folder)):
            batches.append(batch)
            if number % 10 == 0:
                progress(f"{members} members: the platform makes day {number + 1} of {days}")
        platform = process_time() - started
        (folder / "chain.pickle").write_bytes(pickle.dumps((community.facts(), batches)))
        progress(f"{members} members: recomputing {days} days with {workers} process(es)")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(_recompute, folder, workers).result()
    finally:
        shutil.rmtree(folder)
    is_year = days == YEAR_DAYS and members == smallest
    each = found.processor_seconds / (days * _INTERVALS * members) * 1e6
    seconds = found.processor_seconds / workers
    met = seconds < _TARGET_SECONDS and found.mebibytes < _TARGET_MIB
    return row(
        f"{days} days x {_INTERVALS} intervals, {members:,} members, recomputed in full with {workers} process(es), "
        "against the platform making them with one",
        seconds,
        platform,
        f"a year under {_TARGET_SECONDS} s and {_TARGET_MIB} MiB" if members == smallest else "",
        met if is_year else None,
        f"{each:.2f} us a member and interval; {found.seconds:,.0f} s by the clock; {found.mebibytes:,.0f} MiB; {found.passed:,} of {found.checks:,} checks "
        f"passed; {community.trades:,} trades",
    )


def _recompute(folder: Path, workers: int) -> Measured:
    """Runs in a process of its own."""
    facts, batches = pickle.loads((folder / "chain.pickle").read_bytes())
    started, processor = perf_counter(), _processor()
    total = passed = 0
    for _, _, _, checks in judge(facts, batches, batches, BundleFiles(folder), workers=workers):
        total += len(checks.items)
        passed += sum(check.passed is True for check in checks.items)
    seconds = perf_counter() - started
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The largest child counts for each of them.
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (
        workers if workers > 1 else 0
    )
    return Measured(seconds, _processor() - processor, (own + children) / 1024, total, passed)


def _processor() -> float:
    """Seconds of the processors that this process and its ended children took."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in used)


class _PaperCommunity:
    """A community without a chain: batches as a chain would have them, bundles as a coordinator publishes them."""

    def __init__(self, members: int) -> None:
        zones = [f"zone-{number}" for number in range(_ZONES)]
        self.network = Network(
            nodes=tuple(NetworkNode(id=zone, access_fee_nano_per_wh=5_000) for zone in zones),
            edges=tuple(
                NetworkEdge(from_node=zones[0], to_node=zone, fee_nano_per_wh=10_000)
                for zone in zones[1:]
            ),
        )
        self.classes = (
            TariffClass(
                id="home", import_price_nano_per_wh=300_000, export_price_nano_per_wh=80_000
            ),
        )
        self.members = [
            Member(
                slot=FIRST_MEMBER_SLOT + number,
                name=f"member {number}",
                account="0x" + number.to_bytes(20, "big").hex(),
                meter="0x" + number.to_bytes(20, "big").hex(),
                node=zones[number % _ZONES],
                tariff_class="home",
                fuse_limit_wh=10**6,
            )
            for number in range(members)
        ]
        keys = tuple((zone, "home") for zone in zones)
        self.tariff = CommunityTariff(self.network, self.classes, keys, _SHARE)
        self.market: Market = build_market(self.network, self.classes, keys)
        self.signers: list[PrivateKey] = sorted(
            (private_key(keccak(b"bench signer %d" % number)) for number in range(3)),
            key=lambda key: int(address_of(key), 16),
        )
        self.config = OracleConfig(2, tuple(address_of(key) for key in self.signers))
        self.digest = oracle_config_digest(_CHAIN, _HOUSE, _ORACLE, 2, self.config.signers)
        self.trades = 0

    def facts(self) -> CommunityFacts:
        """What a chain would say of it."""
        nodes = {name: number for number, name in enumerate(self.market.node_names)}
        members = {
            slot: {"node": 65_535, "tariffClass": 0, "fromPeriod": _FIRST, "untilPeriod": 0}
            for slot in range(FIRST_MEMBER_SLOT)
        }
        for item in self.members:
            members[item.slot] = members[0] | {"node": nodes[item.node]}
        return CommunityFacts(
            chain_id=_CHAIN,
            addresses={"ClearingHouse": _HOUSE, "ReadingOracle": _ORACLE},
            parameters={
                "firstPeriod": _FIRST,
                "firstInterval": _FIRST * _INTERVALS,
                "intervalSeconds": _MINUTES * 60,
                "challengeSeconds": 86_400,
                "correctionSeconds": 30 * 86_400,
            },
            members=members,
            config_digests=frozenset({self.digest}),
            time=2 * _LONG_AGO,
            frozen=False,
        )

    def settle(self, days: int, folder: Path) -> Iterator[SubmittedBatch]:
        """Each day's batch; its bundle is in the folder then."""
        nets = _nets(len(self.members), days)
        groups = tuple(
            self.market.group_index[item.node, item.tariff_class] for item in self.members
        )
        pool = Pool(self.market, "auto", share_millionths=_SHARE)
        previous = None
        for day in range(days):
            previous = self._day(day, nets[day], groups, pool, previous)
            period = self._period(day)
            bundle = make_bundle(previous, self.tariff, period, _CHAIN, _HOUSE)
            previous = previous.with_bundle_hash(bundle.hash)
            publish_bundle(folder / str(previous.header.number), bundle)
            self.trades += len(previous.trades)
            yield self._submitted(previous)

    @staticmethod
    def _period(day: int) -> Period:
        return Period(_FIRST + day, (_FIRST + day) * _INTERVALS, _INTERVALS, _MINUTES)

    def _day(
        self, day: int, nets: Any, groups: tuple[int, ...], pool: Pool, previous: Batch | None
    ) -> Batch:
        period = self._period(day)
        items = [
            MemberPeriod(
                member,
                tuple(
                    IntervalReading(max(0, -net), max(0, net), Quality.MEASURED)
                    for net in nets[:, column].tolist()
                ),
                derive_salt(keccak(b"oracle"), "readings", period.number, 0, member.slot),
            )
            for column, member in enumerate(self.members)
        ]
        report = OracleReport(
            period=period.number,
            version=0,
            first_interval=period.first_interval,
            interval_count=_INTERVALS,
            readings_root=PositionalTree({item.member.slot: item.leaf() for item in items}).root,
            totals_hash=keccak(pack_totals(group_totals(items, self.market, period))),
            config_digest=self.digest,
        )
        domain = domain_separator(_CHAIN, _ORACLE)
        return build_batch(
            market=self.market,
            share_millionths=_SHARE,
            period=period,
            report=report,
            signatures=[sign_report(key, domain, report) for key in self.signers[:2]],
            member_periods=items,
            cleared=list(pool.clear_many(groups, [tuple(row) for row in nets.tolist()])),
            genesis=genesis_hash(_CHAIN, _HOUSE, _FIRST, _FIRST * _INTERVALS),
            previous=previous,
            salt_key=keccak(b"coordinator"),
        )

    def _submitted(self, batch: Batch) -> SubmittedBatch:
        entry = next(e for e in artifact("ClearingHouse")["abi"] if e.get("name") == "submitBatch")
        event = next(
            e for e in artifact("ClearingHouse")["abi"] if e.get("name") == "BatchSubmitted"
        )
        submission = _named(
            entry["inputs"][0], submission_tuple(batch, self.market, _SHARE, self.config)
        )
        header = _named(event["inputs"][3], header_tuple(batch.header))
        return SubmittedBatch(
            header=header,
            submission=submission,
            header_hash=header_hash(header),
            submitted_at=(batch.header.period + 2) * 86_400,
            corrected=None,
            recorded_hash=batch.header.hash(),
            tariff_in_force=tariff_hash(self.market, _SHARE),
            final=True,
        )


def _named(part: dict[str, Any], value: Any) -> Any:
    """A value in the contracts' order by the contracts' names."""
    if part["type"] == "tuple":
        return {
            one["name"]: _named(one, item)
            for one, item in zip(part["components"], value, strict=True)
        }
    return value


def _nets(members: int, days: int) -> Any:
    """Net positions in Wh, (days, intervals, members): the feeder's households, repeated on other days where there are more."""
    _, _, nets = simbench_year(min(members, _HOUSEHOLDS), days * _INTERVALS)
    table = np.asarray(nets).reshape(days, _INTERVALS, -1)
    copies = [np.roll(table, shift, axis=0) for shift in range(-(-members // table.shape[2]))]
    return np.concatenate(copies, axis=2)[:, :, :members]
