"""A small real community on any chain: deployed, with members who deposit, meters that sign, an oracle and a coordinator.

Households and keys are the demonstration's; periods are an hour of a summer noon, so that a batch takes a second.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from eth_account.signers.local import LocalAccount

from backend.chain.client import ChainClient
from backend.chain.networks import Network, embedded_network
from backend.demo.community import ORACLE_THRESHOLD, DemoCommunity, build_community
from backend.domain.community import SUPPLIER_SLOT
from backend.domain.intervals import Period
from backend.ledger.store import LedgerStore
from backend.operator.books import CommunityBooks
from backend.operator.cycle import Coordinator, PreparedPeriod
from backend.settlement.batch import Batch, shift_money
from backend.settlement.encoding import domain_separator
from contracts.bindings import CommunityContracts, OracleConfig
from deploy.community import (
    DeploymentSettings,
    admit_members,
    deploy_community,
    founding_parameters,
)
from oracle.committee import OracleSettings, OracleSigner, SignedReport, assemble
from oracle.meter import Meter
from oracle.signing import address_of, private_key
from oracle.sources.simbench import interval_energy_wh

DAY = datetime.date(2016, 6, 29)
NOON = 48
INTERVALS = 4
FIRST_PERIOD = Period(16_981, 16_981 * 96 + NOON, INTERVALS, 15)
CHALLENGE_SECONDS = 3600
ETHER = 10**18
NANO_PER_TOKEN = 1000


def period_at(offset: int) -> Period:
    """The period number `offset`, counted from 0."""
    first = FIRST_PERIOD
    return replace(
        first,
        number=first.number + offset,
        first_interval=first.first_interval + offset * INTERVALS,
    )


@dataclass
class Town:
    """The community with everybody in it."""

    client: ChainClient
    network: Network
    people: DemoCommunity
    contracts: CommunityContracts
    folder: Path

    @property
    def coordinator_key(self) -> LocalAccount:
        """Submits batches."""
        return self.people.account("coordinator")

    def wallet(self, slot: int) -> LocalAccount:
        """The key of a member."""
        return next(i.wallet for i in self.people.participants if i.member.slot == slot)

    def deposit(self, slot: int, tokens: int) -> None:
        """A member pays in."""
        key = self.wallet(slot)
        self.client.send(self.contracts.mint(key.address, tokens), key)
        self.client.send(self.contracts.approve(tokens), key)
        self.client.send(self.contracts.deposit(slot, tokens), key)

    def coordinator(self, store: LedgerStore) -> Coordinator:
        """Clears and submits; `store` is its ledger."""
        return Coordinator(
            client=self.client,
            contracts=self.contracts,
            key=self.coordinator_key,
            market=self.people.market,
            tariff=self.people.tariff,
            store=store,
            bundle_folder=self.folder / "bundles",
            salt_key=self.people.key("coordinator salts"),
            solver="auto",
        )

    def books(self, store: LedgerStore) -> CommunityBooks:
        """Follows this community into a ledger."""
        return CommunityBooks(
            self.client.web3, self.network, self.contracts, store.engine, self.folder / "bundles"
        )

    @cached_property
    def _domain(self) -> bytes:
        return domain_separator(self.client.chain_id, self.contracts.addresses["ReadingOracle"])

    def report(self, offset: int, version: int = 0, missing: Sequence[int] = ()) -> SignedReport:
        """What the oracle signs of a period; the meters at the slots `missing` are silent."""
        period = period_at(offset)
        received = {}
        for item in self.people.participants:
            if item.member.slot in missing:
                continue
            imported, exported = interval_energy_wh(item.household, DAY, self.people.feeder)
            start = NOON + offset * INTERVALS
            meter = Meter(item.meter_key, self._domain, 10_000, 10_000)
            received[meter.address] = [
                meter.read(period.first_interval - 1),
                *meter.run(
                    period.first_interval,
                    imported[start : start + INTERVALS].tolist(),
                    exported[start : start + INTERVALS].tolist(),
                ),
            ]
        settings = OracleSettings(
            domain=self._domain,
            config_digest=self.contracts.oracle_config_digest(),
            threshold=ORACLE_THRESHOLD,
            salt_keys={
                item.member.slot: self.people.key("reading salts", item.member.slot)
                for item in self.people.participants
            },
        )
        members, market = self.people.members, self.people.market
        confirmations = [
            OracleSigner(private_key(self.people.key("oracle signer", index)), settings).confirm(
                period, version, members, market, received
            )
            for index in range(ORACLE_THRESHOLD)
        ]
        return assemble(confirmations, ORACLE_THRESHOLD, self._domain)

    def prepare(
        self, coordinator: Coordinator, offset: int, previous: Batch | None
    ) -> PreparedPeriod:
        """An honest batch, published and stored."""
        signed, period = self.report(offset), period_at(offset)
        return coordinator.prepare(
            period=period,
            report=signed.report,
            signatures=signed.signatures,
            member_periods=signed.member_periods,
            cleared=coordinator.clear(signed.member_periods, period),
            previous=previous,
        )

    def submit_lie(self, coordinator: Coordinator, honest: PreparedPeriod) -> PreparedPeriod:
        """A batch with a wrong bill is published and submitted."""
        victim = min(honest.batch.member_periods)
        false = shift_money(honest.batch, victim, SUPPLIER_SLOT, 1_000_000_000)
        lie = coordinator.seal(replace(honest, batch=false))
        coordinator.submit(lie)
        return lie

    def challenge(self, lie: PreparedPeriod) -> None:
        """Its victim overturns it."""
        victim = min(lie.batch.member_periods)
        share = self.people.tariff.share_millionths
        call = self.contracts.challenge_amount(lie.batch, victim, self.people.market, share)
        self.client.send(call, self.wallet(victim))

    def withdraw(self, batch: Batch, slot: int) -> int:
        """A member takes out what it can; returns tokens."""
        tokens = self.contracts.withdrawable(slot, batch)
        self.client.send(self.contracts.withdraw(tokens, batch, slot), self.wallet(slot))
        return tokens


def build_town(
    client: ChainClient, folder: Path, network: Network | None = None, members: int = 6
) -> Town:
    """Deploys everything and admits the members; nobody has deposited yet."""
    people = build_community(members, 3)
    deployer, coordinator = people.account("deployer"), people.account("coordinator")
    client.fund([deployer.address, coordinator.address], 50 * ETHER)
    client.fund([item.wallet.address for item in people.participants], ETHER)
    signers = [address_of(private_key(people.key("oracle signer", i))) for i in range(3)]
    contracts = deploy_community(
        client,
        deployer,
        DeploymentSettings(
            parameters=founding_parameters(
                FIRST_PERIOD,
                challenge_seconds=CHALLENGE_SECONDS,
                bond_wei=ETHER // 10,
                demand_bond_wei=ETHER // 1000,
                shortest_period_seconds=INTERVALS * 900,
            ),
            oracle=OracleConfig(ORACLE_THRESHOLD, tuple(signers)),
            collateral_step_nano=10**9,
            token_decimals=6,
            coordinator=coordinator.address,
            supplier=people.account("supplier").address,
            dso=people.account("dso").address,
            fund=people.account("fund").address,
        ),
    ).contracts
    first = FIRST_PERIOD
    share = people.tariff.share_millionths
    client.send(contracts.announce_tariff(people.market, share, first.number), deployer)
    pairs = [(item.member, item.wallet) for item in people.participants]
    admit_members(client, deployer, contracts, pairs, people.market, first.number, 1)
    meters = [item.member.meter for item in people.participants]
    slots = [item.member.slot for item in people.participants]
    client.send(contracts.activate_meters(meters, slots, first.first_interval - 1), deployer)
    return Town(client, network or embedded_network(client.chain_id), people, contracts, folder)
