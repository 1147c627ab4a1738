"""A small community and its honest periods, first on paper (`Community`), then on a chain (`LiveCommunity`).

Five members in three zones with two tariff classes; a period has four quarter-hours, so that a batch costs a transaction of
milliseconds. `example_community()` is the one that contract tests deploy; property tests make random ones of the same class.
Every key comes from a name, so the same test gives the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.types import Wei

from backend.chain.client import ChainClient, Sent, account_from_secret
from backend.chain.embedded import embedded_tester
from backend.domain.case import Network, NetworkEdge, NetworkNode, TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, CommunityTariff, Member
from backend.domain.errors import ContractRefused
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality, SignedReading
from backend.market.pool import ClearedInterval, Pool
from backend.market.problem import Market, build_market
from backend.settlement.batch import Batch, MemberPeriod, build_batch
from backend.settlement.bundle import Bundle, make_bundle
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import (
    OracleReport,
    derive_salt,
    domain_separator,
    genesis_hash,
    oracle_config_digest,
)
from backend.settlement.trees import PositionalTree
from contracts.artifact import artifact
from contracts.bindings import (
    CommunityContracts,
    FoundingParameters,
    MemberRecord,
    OracleConfig,
)
from deploy.community import (
    DeploymentSettings,
    admit_members,
    deploy_community,
    sign_membership,
)
from oracle.committee import OracleSettings, OracleSigner, SignedReport, assemble, group_totals
from oracle.meter import Meter
from oracle.signing import address_of, private_key
from tests.support.chain import answer, said

ETHER = 10**18
NANO = 10**9

# Over before the embedded chain's genesis in 2016, so that nothing depends on the machine's clock.
FIRST_PERIOD = 16_000
INTERVALS_PER_PERIOD = 4
INTERVAL_MINUTES = 15
FIRST_INTERVAL = FIRST_PERIOD * 96

CHALLENGE_SECONDS = 24 * 3600
# Periods lie in 2013 and can be corrected until 2053, whatever the machine's clock says.
CORRECTION_SECONDS = 40 * 365 * 86_400
FREEZE_SECONDS = 14 * 86_400
BOND_WEI = ETHER // 10 + 1  # odd, so that halving it shows
DEMAND_BOND_WEI = ETHER // 100
TOKEN_DECIMALS = 6
COLLATERAL_STEPS = 2
COLLATERAL_NANO = COLLATERAL_STEPS * NANO
SHARE_MILLIONTHS = 400_000
THRESHOLD = 2
SIGNERS = 3

# By period (in turns), member and interval: import and export in Wh. There are intervals with trade inside a zone, between
# zones, with nothing to sell, with nothing to buy, with an exact balance, and one where import and export both ran.
Energy = Mapping[int, Sequence[tuple[int, int]]]
ENERGY: tuple[dict[int, tuple[tuple[int, int], ...]], ...] = (
    {
        3: ((0, 1500), (400, 0), (0, 700), (333, 1000)),
        4: ((900, 0), (250, 0), (0, 0), (500, 0)),
        5: ((0, 301), (0, 0), (0, 120), (77, 0)),
        6: ((700, 0), (99, 0), (0, 80), (0, 13)),
        7: ((1201, 0), (1, 0), (0, 1), (103, 0)),
    },
    {
        3: ((650, 0), (0, 0), (120, 20), (0, 90)),
        4: ((0, 0), (0, 811), (310, 0), (0, 0)),
        5: ((1, 0), (0, 2), (0, 0), (60, 0)),
        6: ((0, 650), (811, 0), (0, 555), (31, 1)),
        7: ((0, 1), (2, 0), (125, 0), (0, 0)),
    },
)


def secret(role: str, index: int = 0) -> bytes:
    """32 secret bytes of a role; everybody can make them."""
    return keccak(f"peerwatt tests {role} {index}".encode())


def account(role: str, index: int = 0) -> LocalAccount:
    """The key of a role that sends transactions."""
    return account_from_secret(secret(role, index))


def period_number(offset: int) -> Period:
    """The community's period number `offset` (0 is the first): an hour, four quarter-hours."""
    return Period(
        number=FIRST_PERIOD + offset,
        first_interval=FIRST_INTERVAL + offset * INTERVALS_PER_PERIOD,
        interval_count=INTERVALS_PER_PERIOD,
        interval_minutes=INTERVAL_MINUTES,
    )


def energy_of(offset: int) -> dict[int, tuple[tuple[int, int], ...]]:
    """What the example community used and made in period number `offset`."""
    return ENERGY[offset % len(ENERGY)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where hashes and signatures are meant for: chain, contracts and oracle signers."""

    chain_id: int
    clearing_house: str
    reading_oracle: str
    signers: tuple[str, ...]
    threshold: int
    first_interval: int = FIRST_INTERVAL
    first_period: int = FIRST_PERIOD

    @property
    def domain(self) -> bytes:
        """EIP-712 domain separator of the oracle contract."""
        return domain_separator(self.chain_id, self.reading_oracle)

    @property
    def config_digest(self) -> bytes:
        """What reports must name."""
        return oracle_config_digest(
            self.chain_id, self.clearing_house, self.reading_oracle, self.threshold, self.signers
        )

    @property
    def config(self) -> OracleConfig:
        """Signers and threshold."""
        return OracleConfig(self.threshold, self.signers)

    @property
    def genesis(self) -> bytes:
        """What the first batch names as the one before."""
        return genesis_hash(
            self.chain_id, self.clearing_house, self.first_period, self.first_interval
        )


def signer_keys() -> list[PrivateKey]:
    """The oracle signers' keys in ascending order of their addresses."""
    keys = [private_key(secret("oracle signer", index)) for index in range(SIGNERS)]
    return sorted(keys, key=lambda key: int(address_of(key), 16))


PAPER = Place(
    chain_id=1,
    clearing_house="0x" + "c1" * 20,
    reading_oracle="0x" + "0a" * 20,
    signers=tuple(address_of(key) for key in signer_keys()),
    threshold=THRESHOLD,
)


@dataclass(frozen=True)
class Community:
    """A community on paper: members, tariff, and whatever follows from a period's energy without a chain."""

    network: Network
    tariff_classes: tuple[TariffClass, ...]
    members: tuple[Member, ...]
    share_millionths: int = SHARE_MILLIONTHS

    @cached_property
    def tariff(self) -> CommunityTariff:
        """The tariff in words."""
        return CommunityTariff(
            network=self.network,
            tariff_classes=self.tariff_classes,
            group_keys=tuple(sorted({(item.node, item.tariff_class) for item in self.members})),
            share_millionths=self.share_millionths,
        )

    @cached_property
    def market(self) -> Market:
        """The tariff by index."""
        return build_market(self.network, self.tariff_classes, self.tariff.group_keys)

    @cached_property
    def _pool(self) -> Pool:
        return Pool(self.market, "auto", share_millionths=self.share_millionths)

    def salt_keys(self) -> dict[int, bytes]:
        """The oracle's secret of each slot."""
        return {item.slot: secret("reading salts", item.slot) for item in self.members}

    def member(self, slot: int) -> Member:
        """The member at a slot."""
        return next(item for item in self.members if item.slot == slot)

    def member_periods(
        self, period: Period, energy: Energy, version: int = 0
    ) -> tuple[MemberPeriod, ...]:
        """What the oracle reports of the members, had all readings come in."""
        keys = self.salt_keys()
        return tuple(
            MemberPeriod(
                item,
                tuple(
                    IntervalReading(taken, given, Quality.MEASURED)
                    for taken, given in energy[item.slot]
                ),
                derive_salt(keys[item.slot], "readings", period.number, version, item.slot),
            )
            for item in self.members
        )

    def report(
        self,
        period: Period,
        member_periods: Sequence[MemberPeriod],
        place: Place = PAPER,
        version: int = 0,
    ) -> OracleReport:
        """The report on these readings; `signed_report` gets it the long way, from meters."""
        totals = pack_totals(group_totals(member_periods, self.market, period))
        return OracleReport(
            period=period.number,
            version=version,
            first_interval=period.first_interval,
            interval_count=period.interval_count,
            readings_root=PositionalTree(
                {item.member.slot: item.leaf() for item in member_periods}
            ).root,
            totals_hash=keccak(totals),
            config_digest=place.config_digest,
        )

    def meter_key(self, slot: int) -> PrivateKey:
        """The key of the meter at a slot."""
        return private_key(secret("meter", slot))

    def received(
        self, period: Period, energy: Energy, place: Place = PAPER
    ) -> dict[str, list[SignedReading]]:
        """By meter, its signed registers: at the start of the period and after each interval."""
        readings = {}
        for item in self.members:
            meter = Meter(self.meter_key(item.slot), place.domain, 100_000, 7_000)
            taken, given = zip(*energy[item.slot], strict=True)
            readings[meter.address] = [
                meter.read(period.first_interval - 1),
                *meter.run(period.first_interval, taken, given),
            ]
        return readings

    def oracle_signers(self, place: Place = PAPER) -> list[OracleSigner]:
        """The oracle's signers in ascending order of their addresses."""
        settings = OracleSettings(
            domain=place.domain,
            config_digest=place.config_digest,
            threshold=place.threshold,
            salt_keys=self.salt_keys(),
        )
        return [OracleSigner(key, settings) for key in signer_keys()]

    def signed_report(
        self,
        period: Period,
        energy: Energy,
        place: Place = PAPER,
        members: Sequence[Member] | None = None,
        version: int = 0,
    ) -> SignedReport:
        """Meters sign, every oracle signer verifies, k of n make the report; `members` are all, unless some have left."""
        received = self.received(period, energy, place)
        active = self.members if members is None else members
        confirmations = [
            signer.confirm(period, version, active, self.market, received)
            for signer in self.oracle_signers(place)
        ]
        return assemble(confirmations, place.threshold, place.domain)

    def clear(
        self, period: Period, member_periods: Sequence[MemberPeriod]
    ) -> tuple[ClearedInterval, ...]:
        """The optimal clearing of each interval."""
        groups = tuple(
            self.market.group_index[item.member.node, item.member.tariff_class]
            for item in member_periods
        )
        return tuple(
            self._pool.clear(groups, tuple(item.readings[index].net_wh for item in member_periods))
            for index in range(period.interval_count)
        )

    def batch(
        self,
        period: Period,
        report: OracleReport,
        signatures: Sequence[bytes],
        member_periods: Sequence[MemberPeriod],
        previous: Batch | None = None,
        place: Place = PAPER,
        cleared: Sequence[ClearedInterval] | None = None,
        corrected: Batch | None = None,
    ) -> Batch:
        """The honest batch, its bundle named in the header; `cleared` is for those who want it otherwise."""
        batch = build_batch(
            market=self.market,
            share_millionths=self.share_millionths,
            period=period,
            report=report,
            signatures=signatures,
            member_periods=member_periods,
            cleared=self.clear(period, member_periods) if cleared is None else cleared,
            genesis=place.genesis,
            previous=previous,
            corrected=corrected,
            salt_key=secret("coordinator salts"),
        )
        return batch.with_bundle_hash(self.bundle(batch, period, place).hash)

    def bundle(self, batch: Batch, period: Period, place: Place = PAPER) -> Bundle:
        """What the coordinator publishes of a batch."""
        return make_bundle(batch, self.tariff, period, place.chain_id, place.clearing_house)

    def paper_batch(
        self,
        period: Period,
        energy: Energy,
        previous: Batch | None = None,
        corrected: Batch | None = None,
    ) -> Batch:
        """The honest batch of a period, or its correction, without meters, signatures or chain."""
        version = corrected.header.version + 1 if corrected else 0
        member_periods = self.member_periods(period, energy, version)
        report = self.report(period, member_periods, version=version)
        return self.batch(period, report, (), member_periods, previous, corrected=corrected)


def member_at(
    slot: int, node: str, tariff_class: str, name: str = "", fuse_limit_wh: int = 10_000
) -> Member:
    """A member whose wallet and meter keys come from its slot."""
    return Member(
        slot=slot,
        name=name or f"member {slot}",
        account=account("wallet", slot).address,
        meter=address_of(private_key(secret("meter", slot))),
        node=node,
        tariff_class=tariff_class,
        fuse_limit_wh=fuse_limit_wh,
    )


def example_community() -> Community:
    """Three zones in a row, the middle one with a cheaper access; two members share a group."""
    return Community(
        network=Network(
            nodes=(
                NetworkNode(id="east", access_fee_nano_per_wh=15_000),
                NetworkNode(id="middle", access_fee_nano_per_wh=4_000),
                NetworkNode(id="west", access_fee_nano_per_wh=15_000),
            ),
            edges=(
                NetworkEdge(from_node="west", to_node="middle", fee_nano_per_wh=10_000),
                NetworkEdge(from_node="middle", to_node="east", fee_nano_per_wh=12_345),
            ),
        ),
        tariff_classes=(
            TariffClass(
                id="heat-pump", import_price_nano_per_wh=270_000, export_price_nano_per_wh=80_000
            ),
            TariffClass(
                id="household", import_price_nano_per_wh=320_000, export_price_nano_per_wh=70_000
            ),
        ),
        members=tuple(
            member_at(FIRST_MEMBER_SLOT + index, node, tariff_class, name)
            for index, (name, node, tariff_class) in enumerate(
                (
                    ("anna", "west", "household"),
                    ("bela", "west", "heat-pump"),
                    ("cleo", "middle", "household"),
                    ("dora", "east", "household"),
                    ("emil", "east", "household"),
                )
            )
        ),
    )


def period_energy(offset: int, **others: tuple[tuple[int, int], ...]) -> Energy:
    """As `energy_of` with other readings of some members (`slot_3=...`): what a corrected report says."""
    return energy_of(offset) | {
        int(name.removeprefix("slot_")): pairs for name, pairs in others.items()
    }


@dataclass
class LiveCommunity:
    """The example community on an embedded chain.

    Attributes:
        client: sends transactions; each test has its own, because it counts nonces.
        paper: the community without a chain.
        contracts: its contracts.
        place: chain and contracts for hashes and signatures.
    """

    client: ChainClient
    paper: Community
    contracts: CommunityContracts
    place: Place
    _reports: dict[Any, SignedReport] = field(default_factory=dict)
    _cleared: dict[tuple[bytes, int], tuple[ClearedInterval, ...]] = field(default_factory=dict)

    @property
    def market(self) -> Market:
        """The tariff by index."""
        return self.paper.market

    def contract(self, name: str, address: str | None = None) -> Contract:
        """A contract with its whole ABI, for calls that the bindings do not offer."""
        found: Contract = self.client.web3.eth.contract(
            address=self.client.web3.to_checksum_address(address or self.contracts.addresses[name]),
            abi=artifact(name)["abi"],
        )
        return found

    def functions(self, name: str) -> Any:
        """The functions of a contract."""
        return self.contract(name).functions

    def wallet(self, slot: int) -> LocalAccount:
        """The key of a member's wallet."""
        return account("wallet", slot)

    def reopened(self) -> LiveCommunity:
        """The same with a client of its own."""
        return replace(self, client=ChainClient(self.client.web3, embedded=True))

    # --- Honest periods ------------------------------------------------------------------------------------------------

    def period(self, offset: int) -> Period:
        """The community's period number `offset`."""
        first = self.place.first_interval + offset * INTERVALS_PER_PERIOD
        return replace(period_number(offset), first_interval=first)

    def signed_report(
        self, offset: int, energy: Energy | None = None, version: int = 0
    ) -> SignedReport:
        """The oracle's report of period number `offset`; the usual one is worked out once."""
        if energy is None:
            if offset not in self._reports:
                self._reports[offset] = self.signed_report(offset, energy_of(offset))
            return self._reports[offset]
        return self.paper.signed_report(self.period(offset), energy, self.place, version=version)

    def batch(
        self,
        offset: int,
        previous: Batch | None = None,
        cleared: Sequence[ClearedInterval] | None = None,
        signed: SignedReport | None = None,
        corrected: Batch | None = None,
    ) -> Batch:
        """The batch of period number `offset`; honest unless `cleared` is not."""
        signed = signed or self.signed_report(offset)
        return self.paper.batch(
            self.period(offset),
            signed.report,
            signed.signatures,
            signed.member_periods,
            previous,
            self.place,
            self.cleared(offset, signed) if cleared is None else cleared,
            corrected,
        )

    def cleared(self, offset: int, signed: SignedReport) -> tuple[ClearedInterval, ...]:
        """The clearing of what the oracle reported; worked out once."""
        key = signed.report.readings_root, self.paper.share_millionths
        if key not in self._cleared:
            self._cleared[key] = self.paper.clear(self.period(offset), signed.member_periods)
        return self._cleared[key]

    def batches(self, count: int) -> list[Batch]:
        """The honest batches of the first `count` periods, each on the one before."""
        found: list[Batch] = []
        for offset in range(count):
            found.append(self.batch(offset, found[-1] if found else None))
        return found

    def correction(self, corrected: Batch, previous: Batch, energy: Energy) -> Batch:
        """The honest correction of a batch to other readings, on the newest batch."""
        offset = corrected.header.period - FIRST_PERIOD
        signed = self.signed_report(offset, energy, corrected.header.version + 1)
        return self.batch(offset, previous, signed=signed, corrected=corrected)

    # --- On the chain ----------------------------------------------------------------------------------------------------

    def submission(self, batch: Batch, corrected: Batch | None = None) -> ContractFunction:
        """The call that submits a batch."""
        given = (batch, self.market, self.paper.share_millionths, self.place.config)
        if corrected is None:
            return self.contracts.submit_batch(*given)
        return self.contracts.submit_correction(*given, corrected.header)

    def submit(self, *batches: Batch, corrected: Batch | None = None) -> Sent:
        """The coordinator submits batches one after the other."""
        for batch in batches:
            sent = self.client.send(self.submission(batch, corrected), account("coordinator"))
        return sent

    def submit_final(self, *batches: Batch, corrected: Batch | None = None) -> None:
        """The coordinator submits batches and nobody finds fault with them."""
        self.submit(*batches, corrected=corrected)
        self.pass_challenge_window()

    def submission_refused(
        self, batch: Batch, corrected: Batch | None = None
    ) -> tuple[Any, ...] | None:
        """Why the batch is refused; None if it would be accepted. Nothing is sent."""
        return self.refused(self.submission(batch, corrected), "coordinator")

    def refused(
        self, call: ContractFunction, sender: str | LocalAccount = "outsider", value_wei: int = 0
    ) -> tuple[Any, ...] | None:
        """Name and arguments of the custom error a call would meet; None if there were none. Nothing is sent."""
        key = account(sender) if isinstance(sender, str) else sender
        outcome = answer(call, {"from": key.address, "value": Wei(value_wei)})
        return said(outcome) if isinstance(outcome, ContractRefused) else None

    def send(
        self, call: ContractFunction, sender: str | LocalAccount = "deployer", value_wei: int = 0
    ) -> Sent:
        """Somebody sends a call that is accepted."""
        key = account(sender) if isinstance(sender, str) else sender
        return self.client.send(call, key, value_wei)

    def pass_challenge_window(self) -> None:
        """Everything submitted so far becomes final."""
        self.client.advance(CHALLENGE_SECONDS + 1)

    def now(self) -> int:
        """Time of the newest block."""
        return int(self.client.web3.eth.get_block("latest")["timestamp"])

    def travel_to(self, timestamp: int) -> None:
        """The next block has this time."""
        embedded_tester(self.client.web3).time_travel(timestamp)

    def events(self, contract: str, name: str) -> list[dict[str, Any]]:
        """The arguments of all events of a name, oldest first."""
        event = getattr(self.contract(contract).events, name)()
        return [dict(entry["args"]) for entry in event.get_logs(from_block=0)]

    def recorded(self, number: int) -> bytes:
        """Hash of the batch with this number; zero if there is none."""
        return self.contracts.record_of(number).batch_hash

    # --- Members and money -------------------------------------------------------------------------------------------------

    def consent(self, slot: int, record: MemberRecord, key: LocalAccount) -> bytes:
        """The signature that admits a member."""
        return sign_membership(self.client, self.contracts, slot, record, key)

    def give(self, payer: str | LocalAccount, nano: int) -> int:
        """Makes tokens that the payer allows the vault to take; returns how many."""
        key = account(payer) if isinstance(payer, str) else payer
        tokens = -(-nano // 10 ** (9 - TOKEN_DECIMALS))
        self.send(self.contracts.mint(key.address, tokens), key)
        self.send(self.contracts.approve(tokens), key)
        return tokens

    def deposit(self, slot: int, nano: int, payer: str = "outsider") -> None:
        """Somebody deposits for a slot."""
        self.send(self.contracts.deposit(slot, self.give(payer, nano)), payer)

    def guarantee(self, slot: int, nano: int, guarantor: str = "guarantor") -> None:
        """A guarantor locks tokens and vouches for a slot with all of them."""
        self.send(self.contracts.deposit_guarantee(self.give(guarantor, nano)), guarantor)
        self.send(self.contracts.grant_credit(slot, nano), guarantor)


ROLES = (
    "deployer",
    "coordinator",
    "outsider",
    "supplier",
    "dso",
    "fund",
    "guarantor",
    "administrator",
)


def founding_settings(
    first_interval: int = FIRST_INTERVAL, **parameters: int
) -> DeploymentSettings:
    """What the example community is deployed with; `parameters` are those that ought to be otherwise."""
    usual = FoundingParameters(
        first_period=FIRST_PERIOD,
        first_interval=first_interval,
        interval_seconds=INTERVAL_MINUTES * 60,
        shortest_period_seconds=INTERVALS_PER_PERIOD * INTERVAL_MINUTES * 60,
        challenge_seconds=CHALLENGE_SECONDS,
        correction_seconds=CORRECTION_SECONDS,
        freeze_seconds=FREEZE_SECONDS,
        bond_wei=BOND_WEI,
        demand_bond_wei=DEMAND_BOND_WEI,
    )
    return DeploymentSettings(
        parameters=replace(usual, **parameters),
        oracle=PAPER.config,
        collateral_step_nano=NANO,
        token_decimals=TOKEN_DECIMALS,
        coordinator=account("coordinator").address,
        supplier=account("supplier").address,
        dso=account("dso").address,
        fund=account("fund").address,
    )


def deploy_example(
    client: ChainClient, first_interval: int = FIRST_INTERVAL, first_period: int = FIRST_PERIOD
) -> LiveCommunity:
    """Deploys the example community, announces its tariff, admits its members and posts the bond; nothing is submitted yet."""
    paper = example_community()
    payers = [account(role).address for role in ROLES]
    payers += [item.account for item in paper.members]
    client.fund(payers, 100 * ETHER)
    deployer = account("deployer")
    settings = founding_settings(first_interval, first_period=first_period)
    contracts = deploy_community(client, deployer, settings).contracts
    client.send(
        contracts.announce_tariff(paper.market, paper.share_millionths, first_period), deployer
    )
    admit_members(
        client,
        deployer,
        contracts,
        [(member, account("wallet", member.slot)) for member in paper.members],
        paper.market,
        first_period,
        COLLATERAL_STEPS,
        smallest_group=1,
    )
    client.send(contracts.post_bond(), account("coordinator"), BOND_WEI)
    return LiveCommunity(
        client=client,
        paper=paper,
        contracts=contracts,
        place=Place(
            chain_id=client.chain_id,
            clearing_house=contracts.addresses["ClearingHouse"],
            reading_oracle=contracts.addresses["ReadingOracle"],
            signers=PAPER.signers,
            threshold=THRESHOLD,
            first_interval=first_interval,
            first_period=first_period,
        ),
    )
