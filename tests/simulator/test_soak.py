"""A month for a hundred members in accelerated time: memory stays flat, and the database grows by what a day needs.

Five days by default; `PEERWATT_SOAK_DAYS=30 pytest tests/simulator/test_soak.py -rP` for the month.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

from eth_hash.auto import keccak
from web3 import HTTPProvider, Web3

from backend.bench.scale import _PERIOD, _members, _preparer, member_periods
from backend.chain.client import ChainClient
from backend.chain.networks import Network
from backend.chain.sender import Sender
from backend.domain.community import Member
from backend.domain.intervals import EPOCH_DATE, Period, local_day
from backend.domain.states import CycleState
from backend.ledger.check import check
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from backend.operator.books import CommunityBooks
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.periods import PeriodCycle
from backend.operator.preparation import Preparer
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import (
    OracleReport,
    domain_separator,
    genesis_hash,
    pack_readings,
)
from backend.settlement.trees import PositionalTree
from contracts.bindings import CommunityContracts, OracleConfig
from deploy.community import (
    DeploymentSettings,
    admit_members,
    deploy_community,
    founding_parameters,
)
from oracle.assembly import AssembledReport, ReportedSlot
from oracle.committee import group_totals
from oracle.signing import address_of, sign_report
from tests.support.anvil import ask, running_anvil
from tests.support.community import account, secret, signer_keys

DAYS = int(os.environ.get("PEERWATT_SOAK_DAYS", "5"))
MEMBERS = 100
# Nobody deposits: the coordinator stands behind everybody.
GUARANTEE_NANO = 10**15
CHALLENGE_SECONDS = 3600


def day(number: int) -> Period:
    offset = number - _PERIOD.number
    return Period(number, _PERIOD.first_interval + offset * 96, 96, 15)


def clock_change_day(number: int) -> Period:
    """Days of Vienna in five minutes, among them the longest and the shortest there are."""
    return local_day(EPOCH_DATE + timedelta(days=number), "Europe/Vienna", 5)


@dataclass
class Rules:
    """What a configuration says: days, one tariff, members with wallets."""

    contracts: CommunityContracts
    chain_id: int
    count: int
    first: Period
    period: Callable[[int], Period]

    @cached_property
    def _preparer(self) -> Preparer:
        house = self.contracts.addresses["ClearingHouse"]
        genesis = genesis_hash(self.chain_id, house, self.first.number, self.first.first_interval)
        return Preparer(_preparer(self.count).tariff, self.chain_id, house, genesis, secret("soak"))

    def preparer(self, number: int) -> Preparer:
        return self._preparer

    def members(self, number: int) -> Sequence[Member]:
        return self._members

    @cached_property
    def _members(self) -> tuple[Member, ...]:
        return tuple(
            replace(item, account=account("soak", item.slot).address)
            for item in _members(self.count)
        )


class Reports:
    """Reports of made-up households, signed by the committee's keys."""

    def __init__(self, rules: Rules) -> None:
        self._digest = rules.contracts.oracle_config_digest()
        self._domain = domain_separator(rules.chain_id, rules.contracts.addresses["ReadingOracle"])
        self._rules = rules

    def report(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        period = self._rules.period(number)
        count = period.interval_count
        found = [
            # A day of as many intervals as this one has.
            replace(item, readings=(item.readings * 4)[:count])
            for item in member_periods(number, self._rules.count)
        ]
        totals = pack_totals(group_totals(found, self._rules.preparer(number).market, period))
        root = PositionalTree({item.member.slot: item.leaf() for item in found}).root
        report = OracleReport(
            number, version, period.first_interval, count, root, keccak(totals), self._digest
        )
        signatures = tuple(sign_report(key, self._domain, report) for key in signer_keys()[:2])
        slots = {
            item.member.slot: ReportedSlot(
                item.member.slot, item.salt, pack_readings(item.readings)
            )
            for item in found
        }
        return AssembledReport(report, signatures, (), slots, (), {})

    def readings_digest(self, number: int) -> str | None:
        return "same"

    def readings(self, number: int, meters: Sequence[str]) -> bytes:
        return b""


def resident_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Clock(list[float]):
    """The coordinator's and the chain's time."""

    def __call__(self) -> float:
        return self[0]

    def set(self, web3: Web3, seconds: float) -> None:
        self[0] = seconds
        ask(web3, "evm_setNextBlockTimestamp", int(seconds))
        ask(web3, "evm_mine")


@contextmanager
def coordinated(
    folder: Path, count: int, first: Period, period: Callable[[int], Period]
) -> Iterator[tuple[PeriodCycle, Web3, Clock]]:
    """A community founded on a node of its own, and its coordinator's cycle."""
    begins = first.first_interval * first.interval_minutes * 60
    with running_anvil("--timestamp", str(begins - 3600)) as url:
        web3 = Web3(HTTPProvider(url))
        client = ChainClient(web3, embedded=False)
        deployer, coordinator = account("deployer"), account("coordinator")
        client.fund([deployer.address, coordinator.address], 1000 * 10**18)
        contracts = deploy_community(
            client,
            deployer,
            DeploymentSettings(
                founding_parameters(
                    first,
                    challenge_seconds=CHALLENGE_SECONDS,
                    bond_wei=10**17,
                    demand_bond_wei=10**15,
                ),
                OracleConfig(2, tuple(address_of(key) for key in signer_keys())),
                10**9,
                6,
                coordinator.address,
                account("supplier").address,
                account("dso").address,
                account("fund").address,
            ),
        ).contracts
        rules = Rules(contracts, client.chain_id, count, first, period)
        tariff = rules.preparer(0)
        share = tariff.tariff.share_millionths
        client.send(contracts.announce_tariff(tariff.market, share, first.number), deployer)
        pairs = [(member, account("soak", member.slot)) for member in rules.members(0)]
        admit_members(client, deployer, contracts, pairs, tariff.market, first.number, 1, 1)
        for call in (
            contracts.mint(coordinator.address, GUARANTEE_NANO // 1000),
            contracts.approve(GUARANTEE_NANO // 1000),
            contracts.deposit_guarantee(GUARANTEE_NANO // 1000),
        ):
            client.send(call, coordinator)
        network = Network("soak", client.chain_id, 2)
        store = LedgerStore(f"sqlite:///{folder}/ledger.sqlite")
        bundles = BundleStore(FolderStore(folder / "bundles"))
        now = Clock([float(begins)])
        yield (
            PeriodCycle(
                rules=rules,
                contracts=contracts,
                sender=Sender(web3, network, coordinator, Outbox(store.engine), now=now),
                books=CommunityBooks(web3, network, contracts, store.engine, bundles.leaves),
                ledger=store,
                bundles=bundles,
                oracle=Reports(rules),
                now=now,
                credit_limit_nano=GUARANTEE_NANO // 1000,
            ),
            web3,
            now,
        )
        store.close()


def test_days_of_23_and_25_hours(tmp_path: Path) -> None:
    """The contract takes them as they are, one after the other without a gap, each as soon as it is over."""
    for first_day, counts in (
        (date(2026, 3, 28), [288, 276, 288]),
        (date(2026, 10, 24), [288, 300, 288]),
    ):
        first = clock_change_day((first_day - EPOCH_DATE).days)
        folder = tmp_path / str(first_day)
        folder.mkdir()
        with coordinated(folder, 8, first, clock_change_day) as (cycle, web3, now):
            for number in range(first.number, first.number + 3):
                end = clock_change_day(number).end_interval * 300
                now.set(web3, end - 1)
                assert cycle.advance() == []
                assert number not in [item.period for item in cycle.store.items()]
                now.set(web3, end + 5)
                for _ in range(4):
                    assert cycle.advance() == []
                    ask(web3, "evm_mine")
            for _ in range(3):
                now.set(web3, now() + CHALLENGE_SECONDS)
                ask(web3, "anvil_mine", hex(3))
                assert cycle.advance() == []
            headers = [header for _, header in cycle.store.live(final_only=True).values()]
            assert [header.interval_count for header in headers] == counts
            assert [item.state for item in cycle.store.items()] == [CycleState.STATED] * 3


def test_memory_is_flat_and_the_database_grows_by_the_day(tmp_path: Path) -> None:
    begins = _PERIOD.first_interval * 900
    with coordinated(tmp_path, MEMBERS, _PERIOD, day) as (cycle, web3, now):
        memory, sizes = [], []
        for number in range(DAYS):
            now.set(web3, begins + (number + 1) * 86_400 + 60)
            for _ in range(4):
                assert cycle.advance() == []
                ask(web3, "evm_mine")
            memory.append(resident_mib())
            sizes.append(sum(p.stat().st_size for p in tmp_path.glob("ledger.sqlite*")) / 2**20)
        # The last day becomes final.
        for _ in range(3):
            now.set(web3, now() + CHALLENGE_SECONDS)
            ask(web3, "anvil_mine", hex(3))
            assert cycle.advance() == []
        items = cycle.store.items()
        assert [item.state for item in items[:DAYS]] == [CycleState.STATED] * DAYS
        assert check(cycle.ledger.engine) == []
    kept = sum(path.stat().st_size for path in (tmp_path / "bundles").rglob("*.json")) / 2**20
    grown = memory[-1] - memory[DAYS // 2]
    print(
        f"{DAYS} days, {MEMBERS} members: memory {memory[0]:.0f} MiB after the first day, {memory[-1]:.0f} MiB after the last "
        f"({grown:+.1f} MiB in the second half); database {(sizes[-1] - sizes[0]) / (DAYS - 1):.2f} MiB a day, bundles {kept / DAYS:.2f} MiB a day"
    )
    # A leak of a day's data would show: its readings and proofs are some MiB in memory.
    assert grown < 1.0 * max(DAYS // 2, 8)
    assert (sizes[-1] - sizes[0]) / (DAYS - 1) < 4
