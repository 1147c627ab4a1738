"""A month for a hundred members in accelerated time: memory stays flat, and the database grows by what a day needs.

Five days by default; `PEERWATT_SOAK_DAYS=30 pytest tests/simulator/test_soak.py -rP` for the month.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from eth_hash.auto import keccak
from web3 import HTTPProvider, Web3

from backend.bench.scale import _PERIOD, _members, _preparer, member_periods
from backend.chain.client import ChainClient
from backend.chain.networks import Network
from backend.chain.sender import Sender
from backend.domain.community import Member
from backend.domain.intervals import Period
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
CHALLENGE_SECONDS = 3600


def day(number: int) -> Period:
    offset = number - _PERIOD.number
    return Period(number, _PERIOD.first_interval + offset * 96, 96, 15)


@cache
def members() -> tuple[Member, ...]:
    return tuple(
        replace(item, account=account("soak", item.slot).address) for item in _members(MEMBERS)
    )


class Rules:
    def __init__(self, contracts: CommunityContracts, chain_id: int) -> None:
        house = contracts.addresses["ClearingHouse"]
        genesis = genesis_hash(chain_id, house, _PERIOD.number, _PERIOD.first_interval)
        tariff = _preparer(MEMBERS).tariff
        self._preparer = Preparer(tariff, chain_id, house, genesis, secret("soak"))

    def period(self, number: int) -> Period:
        return day(number)

    def preparer(self, number: int) -> Preparer:
        return self._preparer

    def members(self, number: int) -> Sequence[Member]:
        return members()


class Reports:
    """Reports of made-up households, signed by the committee's keys."""

    def __init__(self, contracts: CommunityContracts, rules: Rules, chain_id: int) -> None:
        self._digest = contracts.oracle_config_digest()
        self._domain = domain_separator(chain_id, contracts.addresses["ReadingOracle"])
        self._rules = rules

    def report(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        period, found = day(number), member_periods(number, MEMBERS)
        totals = pack_totals(group_totals(found, self._rules.preparer(number).market, period))
        root = PositionalTree({item.member.slot: item.leaf() for item in found}).root
        report = OracleReport(
            number, version, period.first_interval, 96, root, keccak(totals), self._digest
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


def test_memory_is_flat_and_the_database_grows_by_the_day(tmp_path: Path) -> None:
    begins = _PERIOD.first_interval * 900
    with running_anvil("--timestamp", str(begins - 3600)) as url:
        web3 = Web3(HTTPProvider(url))
        client = ChainClient(web3, embedded=False)
        deployer, coordinator = account("deployer"), account("coordinator")
        client.fund([deployer.address, coordinator.address], 1000 * 10**18)
        signers = tuple(address_of(key) for key in signer_keys())
        contracts = deploy_community(
            client,
            deployer,
            DeploymentSettings(
                founding_parameters(
                    _PERIOD,
                    challenge_seconds=CHALLENGE_SECONDS,
                    bond_wei=10**17,
                    demand_bond_wei=10**15,
                ),
                OracleConfig(2, signers),
                10**9,
                6,
                coordinator.address,
                account("supplier").address,
                account("dso").address,
                account("fund").address,
            ),
        ).contracts
        rules = Rules(contracts, client.chain_id)
        tariff = rules.preparer(0)
        client.send(
            contracts.announce_tariff(
                tariff.market, tariff.tariff.share_millionths, _PERIOD.number
            ),
            deployer,
        )
        pairs = [(member, account("soak", member.slot)) for member in members()]
        admit_members(client, deployer, contracts, pairs, tariff.market, _PERIOD.number, 1)
        network = Network("soak", client.chain_id, 2)
        store = LedgerStore(f"sqlite:///{tmp_path}/ledger.sqlite")
        bundles = BundleStore(FolderStore(tmp_path / "bundles"))
        now = [float(begins)]
        cycle = PeriodCycle(
            rules=rules,
            contracts=contracts,
            sender=Sender(web3, network, coordinator, Outbox(store.engine), now=lambda: now[0]),
            books=CommunityBooks(web3, network, contracts, store.engine, bundles.leaves),
            ledger=store,
            bundles=bundles,
            oracle=Reports(contracts, rules, client.chain_id),
            now=lambda: now[0],
        )
        memory, sizes = [], []
        for number in range(DAYS):
            now[0] = begins + (number + 1) * 86_400 + 60
            ask(web3, "evm_setNextBlockTimestamp", int(now[0]))
            ask(web3, "evm_mine")
            for _ in range(4):
                assert cycle.advance() == []
                ask(web3, "evm_mine")
            memory.append(resident_mib())
            sizes.append(sum(p.stat().st_size for p in tmp_path.glob("ledger.sqlite*")) / 2**20)
        # The last day becomes final.
        for _ in range(3):
            now[0] += CHALLENGE_SECONDS
            ask(web3, "evm_setNextBlockTimestamp", int(now[0]))
            ask(web3, "anvil_mine", hex(3))
            assert cycle.advance() == []
        items = cycle.store.items()
        assert [item.state for item in items[:DAYS]] == [CycleState.STATED] * DAYS
        assert check(store.engine) == []
        store.close()
    kept = sum(path.stat().st_size for path in (tmp_path / "bundles").rglob("*.json")) / 2**20
    grown = memory[-1] - memory[DAYS // 2]
    print(
        f"{DAYS} days, {MEMBERS} members: memory {memory[0]:.0f} MiB after the first day, {memory[-1]:.0f} MiB after the last "
        f"({grown:+.1f} MiB in the second half); database {(sizes[-1] - sizes[0]) / (DAYS - 1):.2f} MiB a day, bundles {kept / DAYS:.2f} MiB a day"
    )
    # A leak of a day's data would show: its readings and proofs are some MiB in memory.
    assert grown < 1.0 * max(DAYS // 2, 8)
    assert (sizes[-1] - sizes[0]) / (DAYS - 1) < 4
