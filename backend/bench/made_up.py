"""Made-up communities of any size: members, a tariff of four zones, a day's energy, and a committee that reports it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from backend.chain.client import ChainClient, account_from_secret
from backend.chain.networks import Network
from backend.chain.sender import Sender
from backend.domain.case import TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, CommunityTariff, Member
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from backend.market.network import zonal_network
from backend.operator.books import CommunityBooks
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.periods import PeriodCycle
from backend.operator.preparation import Preparer
from backend.settlement.batch import MemberPeriod
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import (
    EMPTY,
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
from oracle.signing import address_of, private_key, sign_report

PERIOD = Period(20_000, 20_000 * 96, 96, 15)
CHALLENGE_SECONDS = 3600
# Nobody deposits: the coordinator stands behind everybody.
GUARANTEE_NANO = 10**15
_NANO_PER_TOKEN = 1000
_ZONES = ("north", "east", "south", "west")
_CLASSES = (
    TariffClass(id="heat-pump", import_price_nano_per_wh=270_000, export_price_nano_per_wh=80_000),
    TariffClass(id="household", import_price_nano_per_wh=320_000, export_price_nano_per_wh=80_000),
)
_ETHER = 10**18


def key_of(role: str) -> LocalAccount:
    """The same key for the same role."""
    return account_from_secret(keccak(f"peerwatt bench {role}".encode()))


@lru_cache(maxsize=4)
def preparer(members: int, compiled: bool = False) -> Preparer:
    """Settles days of communities of so many members, on no chain."""
    keys = {(item.node, item.tariff_class) for item in members_of(members)}
    tariff = CommunityTariff(
        zonal_network(_ZONES, list(pairwise(_ZONES)), 10_000, 15_000),
        _CLASSES,
        tuple(sorted(keys)),
        500_000,
    )
    return Preparer(tariff, 1, "0x" + "c1" * 20, EMPTY, bytes(32), compiled=compiled)


@lru_cache(maxsize=4)
def members_of(count: int) -> tuple[Member, ...]:
    """So many members, a third of them with heat pumps."""
    return tuple(
        Member(
            FIRST_MEMBER_SLOT + index,
            f"member {index}",
            "0x" + f"{index:040x}",
            "0x" + f"{index:040x}",
            _ZONES[index % 4],
            _CLASSES[index % 3 == 0].id,
            10_000,
        )
        for index in range(count)
    )


def member_periods(community: int, members: int) -> tuple[MemberPeriod, ...]:
    """A day of made-up households, half of them with sun on the roof; the same for the same number."""
    random = np.random.default_rng(community)
    hours = np.arange(96) / 4
    load = random.integers(20, 400, (members, 96))
    sun = np.clip(np.sin((hours - 6) / 12 * np.pi), 0, None) * random.integers(0, 900, (members, 1))
    given = np.where(np.arange(members)[:, None] % 2 == 0, sun, 0).astype(int)
    net = given - load
    return tuple(
        MemberPeriod(
            member,
            tuple(
                IntervalReading(max(-int(value), 0), max(int(value), 0), Quality.MEASURED)
                for value in net[index]
            ),
            keccak(community.to_bytes(4, "big") + index.to_bytes(4, "big")),
        )
        for index, member in enumerate(members_of(members))
    )


def day(number: int) -> Period:
    """Days of 24 hours, from `PERIOD` on."""
    return Period(number, PERIOD.first_interval + (number - PERIOD.number) * 96, 96, 15)


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
        return Preparer(
            preparer(self.count).tariff, self.chain_id, house, genesis, keccak(b"bench salts")
        )

    def preparer(self, number: int) -> Preparer:
        """See `CommunityRules`."""
        return self._preparer

    def members(self, number: int) -> Sequence[Member]:
        """See `CommunityRules`."""
        return self._members

    @cached_property
    def _members(self) -> tuple[Member, ...]:
        return tuple(
            replace(item, account=key_of(f"wallet {item.slot}").address)
            for item in members_of(self.count)
        )


class Reports:
    """Reports of made-up households, signed by the committee's keys."""

    def __init__(self, rules: Rules) -> None:
        self._digest = rules.contracts.oracle_config_digest()
        self._domain = domain_separator(rules.chain_id, rules.contracts.addresses["ReadingOracle"])
        self._rules = rules

    def report(self, number: int, version: int, members: Collection[int]) -> AssembledReport:
        """See `ReportSource`."""
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
        signatures = tuple(sign_report(key, self._domain, report) for key in _signers()[:2])
        slots = {
            item.member.slot: ReportedSlot(
                item.member.slot, item.salt, pack_readings(item.readings)
            )
            for item in found
        }
        return AssembledReport(report, signatures, (), slots, (), {})

    def readings_digest(self, number: int) -> str | None:
        """See `ReportSource`; nothing is ever late."""
        return "same"

    def readings(self, number: int, meters: Sequence[str]) -> bytes:
        """See `ReportSource`; nobody looks at the running day."""
        return b""


@contextmanager
def coordinated(
    client: ChainClient,
    network: Network,
    folder: Path,
    members: int,
    first: Period,
    period: Callable[[int], Period],
    now: Callable[[], float],
) -> Iterator[PeriodCycle]:
    """The cycle of a community that is founded on a chain.

    Args:
        client: the chain.
        network: its finality.
        folder: for database and bundles.
        members: how many.
        first: the first day.
        period: days by number.
        now: the coordinator's time.
    """
    deployer, coordinator = key_of("deployer"), key_of("coordinator")
    client.fund([deployer.address, coordinator.address], 100 * _ETHER)
    signers = tuple(address_of(key) for key in _signers())
    contracts = deploy_community(
        client,
        deployer,
        DeploymentSettings(
            founding_parameters(
                first,
                challenge_seconds=CHALLENGE_SECONDS,
                bond_wei=_ETHER // 10,
                demand_bond_wei=_ETHER // 1000,
            ),
            OracleConfig(2, signers),
            10**9,
            6,
            coordinator.address,
            key_of("supplier").address,
            key_of("dso").address,
            key_of("fund").address,
        ),
    ).contracts
    rules = Rules(contracts, client.chain_id, members, first, period)
    tariff = rules.preparer(0)
    share = tariff.tariff.share_millionths
    client.send(contracts.announce_tariff(tariff.market, share, first.number), deployer)
    pairs = [(member, key_of(f"wallet {member.slot}")) for member in rules.members(0)]
    admit_members(client, deployer, contracts, pairs, tariff.market, first.number, 1, 1)
    tokens = GUARANTEE_NANO // _NANO_PER_TOKEN
    for call in (
        contracts.mint(coordinator.address, tokens),
        contracts.approve(tokens),
        contracts.deposit_guarantee(tokens),
    ):
        client.send(call, coordinator)
    store = LedgerStore(f"sqlite:///{folder}/ledger.sqlite")
    bundles = BundleStore(FolderStore(folder / "bundles"))
    yield PeriodCycle(
        rules=rules,
        contracts=contracts,
        sender=Sender(client.web3, network, coordinator, Outbox(store.engine), now=now),
        books=CommunityBooks(client.web3, network, contracts, store.engine, bundles.leaves),
        ledger=store,
        bundles=bundles,
        oracle=Reports(rules),
        now=now,
        credit_limit_nano=GUARANTEE_NANO // 1000,
    )
    store.close()


@lru_cache(maxsize=1)
def _signers() -> list[PrivateKey]:
    keys = [private_key(keccak(b"peerwatt bench signer %d" % index)) for index in range(3)]
    return sorted(keys, key=lambda key: int(address_of(key), 16))
