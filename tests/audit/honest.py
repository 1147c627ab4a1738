"""Two small honest communities, settled batch by batch, with a halt before each batch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from backend.audit.chain_reader import ChainReader
from backend.audit.disputes import Published
from backend.audit.facts import SubmittedBatch, header_hash
from backend.chain.client import ChainClient, account_from_secret
from backend.domain.case import Network, NetworkEdge, NetworkNode, TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, CommunityTariff, Member
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality
from backend.market.pool import Pool
from backend.market.problem import Market, build_market
from backend.settlement.batch import Batch, MemberPeriod, build_batch
from backend.settlement.bundle import Bundle, make_bundle
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import OracleReport, derive_salt, domain_separator, genesis_hash
from backend.settlement.trees import PositionalTree
from contracts.bindings import (
    CommunityContracts,
    FoundingParameters,
    OracleConfig,
    submission_tuple,
)
from deploy.community import (
    DeploymentSettings,
    deploy_community,
    member_record,
    sign_membership,
)
from oracle.committee import group_totals
from oracle.signing import address_of, private_key, sign_report

from .court import Court, function_abi

_ETHER = 10**18
_FIRST_PERIOD = 16_000
_DEPOSIT_NANO = 10**12
CHALLENGE_SECONDS = 86_400
DEMAND_BOND_WEI = _ETHER // 1000


def key_of(role: str) -> LocalAccount:
    """The key of a role; everybody can make it."""
    return account_from_secret(keccak(f"peerwatt audit tests {role}".encode()))


def named(part: dict[str, Any], value: Any) -> Any:
    """A value in the contracts' order as a structure with the contracts' names."""
    if part["type"].endswith("[]") and part["type"] != "bytes[]":
        inner = {**part, "type": part["type"].removesuffix("[]")}
        return [named(inner, item) for item in value]
    if part["type"] == "tuple":
        return {
            one["name"]: named(one, item)
            for one, item in zip(part["components"], value, strict=True)
        }
    return list(value) if part["type"] == "bytes[]" else value


def unnamed(part: dict[str, Any], value: Any) -> Any:
    """The other way round."""
    if part["type"] == "tuple":
        return tuple(unnamed(one, value[one["name"]]) for one in part["components"])
    return value


SUBMISSION = function_abi("ClearingHouse", "submitBatch")["inputs"][0]
HEADER = function_abi("ClearingHouse", "submitCorrection")["inputs"][1]


@dataclass(frozen=True)
class Plan:
    """What a community is made of.

    Attributes:
        network: nodes and edges.
        classes: outside tariffs.
        members: node, tariff class, first and last-but-one period (0 for ever) counted from the community's first.
        batches: per batch the period that it settles; one seen before is corrected.
        interval_count: intervals of a period.
        largest_wh: most energy of a reading.
        share_millionths: the buyers' share.
        idle: slots that neither use nor make energy.
    """

    network: Network
    classes: tuple[TariffClass, ...]
    members: tuple[tuple[str, str, int, int], ...]
    batches: tuple[int, ...]
    interval_count: int
    largest_wh: int
    share_millionths: int
    idle: tuple[int, ...] = ()


# A ring of three nodes, so that a chord's flow is stated; somebody who leaves after the first period, somebody who comes in
# the second, somebody who has not begun yet; a correction of the first period.
RING = Plan(
    network=Network(
        nodes=(
            NetworkNode(id="a", access_fee_nano_per_wh=15_000),
            NetworkNode(id="b", access_fee_nano_per_wh=4_000),
            NetworkNode(id="c", access_fee_nano_per_wh=0),
        ),
        edges=(
            NetworkEdge(from_node="a", to_node="b", fee_nano_per_wh=10_000),
            NetworkEdge(from_node="b", to_node="c", fee_nano_per_wh=12_345),
            NetworkEdge(from_node="a", to_node="c", fee_nano_per_wh=9_999),
        ),
    ),
    classes=(
        TariffClass(id="heat", import_price_nano_per_wh=270_000, export_price_nano_per_wh=80_000),
        TariffClass(id="home", import_price_nano_per_wh=320_000, export_price_nano_per_wh=70_000),
    ),
    members=(
        ("a", "home", 0, 0),
        ("a", "heat", 0, 0),
        ("b", "home", 0, 1),
        ("c", "home", 0, 0),
        ("c", "home", 1, 0),
        ("b", "home", 9, 0),
    ),
    batches=(0, 1, 0, 2),
    interval_count=3,
    largest_wh=4000,
    share_millionths=400_000,
)
# One node, wide energies, a negative export price, everything to the buyers.
HAMLET = Plan(
    network=Network(nodes=(NetworkNode(id="x", access_fee_nano_per_wh=7),), edges=()),
    classes=(
        TariffClass(id="home", import_price_nano_per_wh=300_001, export_price_nano_per_wh=-9_999),
    ),
    members=(("x", "home", 0, 0), ("x", "home", 0, 2)),
    batches=(0, 1, 2),
    interval_count=2,
    largest_wh=90_000,
    share_millionths=1_000_000,
)


@dataclass
class Target:
    """An honest batch on the state just before its submission.

    Attributes:
        town: whose it is.
        court: that state.
        batch: the batch, as the coordinator knows it.
        submission: what the coordinator submits, by Solidity name.
        corrected_header: header of the batch that it corrects, by Solidity name.
        previous: the batch before.
        corrected: the corrected batch.
    """

    town: Town
    court: Court
    batch: Batch
    submission: dict[str, Any]
    corrected_header: dict[str, Any] | None
    previous: Published | None
    corrected: Published | None
    _equity: dict[int, int] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)

    # What `disputes.Facts` asks for.

    @property
    def members(self) -> dict[int, dict[str, Any]]:
        """Everybody ever admitted."""
        return self.town.reader.members

    @property
    def parameters(self) -> dict[str, int]:
        """What the community was founded with."""
        return self.town.reader.parameters

    def is_active(self, slot: int, period: int) -> bool:
        """Whether an account takes part in a period."""
        return self.town.reader.is_active(slot, period)

    def cover(self, slot: int, cumulative: int, batch: SubmittedBatch) -> int:
        """Read from the vault once for each slot; nobody here announces a withdrawal."""
        if slot not in self._equity:
            self._equity[slot] = self.court.read("Vault", "equityNano", slot, 0)
            self._equity[slot] += self.court.read("Vault", "creditNano", slot)
        return self._equity[slot] + cumulative

    def revealed(self, batch: SubmittedBatch) -> Sequence[dict[str, Any]]:
        """What the liar has had to show."""
        return self.answers if batch.number == self.batch.header.number else ()


class Town:
    """A community on a node.

    Args:
        url: of the node.
        plan: what the community is made of.
        seed: of its energy.
    """

    def __init__(self, url: str, plan: Plan, seed: int) -> None:
        self.plan, self.random = plan, random.Random(seed)
        self.client = ChainClient.open(url)
        self.url = url
        self.coordinator = key_of("coordinator")
        self.signers = sorted(
            (private_key(keccak(b"audit signer %d" % index)) for index in range(3)),
            key=lambda key: int(address_of(key), 16),
        )
        self.members = [
            Member(
                slot=FIRST_MEMBER_SLOT + index,
                name=f"member {index}",
                account=key_of(f"wallet {index}").address,
                meter=key_of(f"meter {index}").address,
                node=node,
                tariff_class=tariff_class,
                fuse_limit_wh=10**6,
            )
            for index, (node, tariff_class, _, _) in enumerate(plan.members)
        ]
        keys = tuple(sorted({(item.node, item.tariff_class) for item in self.members}))
        self.tariff = CommunityTariff(plan.network, plan.classes, keys, plan.share_millionths)
        self.market: Market = build_market(plan.network, plan.classes, keys)
        self.contracts = self._found()
        self.oracle: OracleConfig = self.contracts.oracle_config()
        self.batches: list[Batch] = []
        self.published: list[Published] = []
        self.reader = ChainReader(self.client.web3, self.contracts.addresses["ClearingHouse"])

    def targets(self) -> Iterator[Target]:
        """Each batch while it is about to be submitted; it is submitted when the next one is asked for."""
        for offset in self.plan.batches:
            yield from self._settle(offset)

    def _found(self) -> CommunityContracts:
        deployer = key_of("deployer")
        self.client.fund(
            [deployer.address, self.coordinator.address, key_of("outsider").address], 10 * _ETHER
        )
        # Members can only leave with a period that has not begun.
        self.first_interval = self.client.web3.eth.get_block("latest")["timestamp"] // 900 + 8
        parameters = FoundingParameters(
            first_period=_FIRST_PERIOD,
            first_interval=self.first_interval,
            interval_seconds=900,
            shortest_period_seconds=60,
            challenge_seconds=CHALLENGE_SECONDS,
            correction_seconds=4 * 10**9,
            freeze_seconds=30 * 86_400,
            bond_wei=_ETHER // 10,
            demand_bond_wei=DEMAND_BOND_WEI,
        )
        settings = DeploymentSettings(
            parameters=parameters,
            oracle=OracleConfig(2, tuple(address_of(key) for key in self.signers)),
            collateral_step_nano=10**9,
            token_decimals=9,
            coordinator=self.coordinator.address,
            supplier=key_of("supplier").address,
            dso=key_of("dso").address,
            fund=key_of("fund").address,
        )
        contracts = deploy_community(self.client, deployer, settings).contracts
        given = [contracts.announce_tariff(self.market, self.plan.share_millionths, _FIRST_PERIOD)]
        for index, member in enumerate(self.members):
            _, _, begins, ends = self.plan.members[index]
            record = member_record(member, self.market, _FIRST_PERIOD + begins, 0)
            key = key_of(f"wallet {index}")
            consent = sign_membership(self.client, contracts, member.slot, record, key)
            given.append(contracts.admit(member.slot, record, consent))
            if ends:
                given.append(
                    contracts.functions("MemberRegistry").endMembership(
                        member.slot, _FIRST_PERIOD + ends
                    )
                )
        slots = FIRST_MEMBER_SLOT + len(self.members)
        given += [
            contracts.mint(deployer.address, slots * _DEPOSIT_NANO),
            contracts.approve(slots * _DEPOSIT_NANO),
            *(contracts.deposit(slot, _DEPOSIT_NANO) for slot in range(slots)),
        ]
        for call in given:
            self.client.send(call, deployer)
        self.client.send(contracts.post_bond(), self.coordinator, parameters.bond_wei)
        # All that will be settled is over.
        self.client.advance(900 * (10 + (1 + max(self.plan.batches)) * self.plan.interval_count))
        return contracts

    def _energy(self, member: Member) -> tuple[IntervalReading, ...]:
        most = self.plan.largest_wh
        if member.slot in self.plan.idle:
            nothing = IntervalReading(0, 0, Quality.MEASURED)
            return (nothing,) * self.plan.interval_count
        return tuple(
            IntervalReading(
                self.random.choice((0, self.random.randrange(most))),
                self.random.choice((0, 0, self.random.randrange(most))),
                self.random.choice((Quality.MEASURED,) * 7 + (Quality.MISSING,)),
            )
            for _ in range(self.plan.interval_count)
        )

    def _settle(self, offset: int) -> Iterator[Target]:
        before = [item for item in self.batches if item.header.period == _FIRST_PERIOD + offset]
        corrected = before[-1] if before else None
        version = len(before)
        if corrected:
            self.client.advance(CHALLENGE_SECONDS + 1)
        count = self.plan.interval_count
        first = self.first_interval + offset * count
        period = Period(_FIRST_PERIOD + offset, first, count, 15)
        items = [
            MemberPeriod(
                member,
                self._energy(member),
                derive_salt(keccak(b"oracle"), "readings", period.number, version, member.slot),
            )
            for member, (_, _, begins, ends) in zip(self.members, self.plan.members, strict=True)
            if begins <= offset and (ends == 0 or offset < ends)
        ]
        report = OracleReport(
            period=period.number,
            version=version,
            first_interval=first,
            interval_count=count,
            readings_root=PositionalTree({item.member.slot: item.leaf() for item in items}).root,
            totals_hash=keccak(pack_totals(group_totals(items, self.market, period))),
            config_digest=self.contracts.oracle_config_digest(),
        )
        addresses = self.contracts.addresses
        domain = domain_separator(self.client.chain_id, addresses["ReadingOracle"])
        groups = tuple(
            self.market.group_index[item.member.node, item.member.tariff_class] for item in items
        )
        nets = [tuple(item.readings[index].net_wh for item in items) for index in range(count)]
        pool = Pool(self.market, "auto", share_millionths=self.plan.share_millionths)
        batch = build_batch(
            market=self.market,
            share_millionths=self.plan.share_millionths,
            period=period,
            report=report,
            signatures=[sign_report(key, domain, report) for key in self.signers[:2]],
            member_periods=items,
            cleared=list(pool.clear_many(groups, nets)),
            genesis=genesis_hash(
                self.client.chain_id,
                addresses["ClearingHouse"],
                _FIRST_PERIOD,
                self.first_interval,
            ),
            previous=self.batches[-1] if self.batches else None,
            corrected=corrected,
            salt_key=keccak(b"coordinator"),
        )
        batch = batch.with_bundle_hash(self.bundle(batch).hash)
        yield from self._submit(batch, corrected)

    def bundle(self, batch: Batch) -> Bundle:
        """What a coordinator publishes of a batch."""
        header = batch.header
        period = Period(header.period, header.first_interval, header.interval_count, 15)
        house = self.contracts.addresses["ClearingHouse"]
        return make_bundle(batch, self.tariff, period, self.client.chain_id, house)

    def parts(self, batch: Batch) -> dict[int, dict[str, Any]]:
        """The personal parts of it, by slot."""
        return {slot: json.loads(part) for slot, part in self.bundle(batch).personal.items()}

    def _submit(self, batch: Batch, corrected: Batch | None) -> Iterator[Target]:
        given = (batch, self.market, self.plan.share_millionths, self.oracle)
        submission = named(SUBMISSION, submission_tuple(*given))
        published_before = next(
            (
                item
                for item in self.published
                if corrected and item.batch.number == corrected.header.number
            ),
            None,
        )
        yield Target(
            town=self,
            court=Court(self.url, dict(self.contracts.addresses)),
            batch=batch,
            submission=submission,
            corrected_header=published_before.batch.header if published_before else None,
            previous=self.published[-1] if self.published else None,
            corrected=published_before,
        )
        call = (
            self.contracts.submit_correction(*given, corrected.header)
            if corrected
            else self.contracts.submit_batch(*given)
        )
        self.client.send(call, self.coordinator)
        self.batches.append(batch)
        self.reader.refresh()
        header = self.reader.events("ClearingHouse", "BatchSubmitted")[-1]["args"]["header"]
        standing = SubmittedBatch(
            header=dict(header),
            submission=submission,
            header_hash=header_hash(dict(header)),
            submitted_at=0,
            corrected=published_before.batch.header if published_before else None,
        )
        self.published.append(Published(standing, self.parts(batch)))


__all__ = ["HAMLET", "HEADER", "RING", "SUBMISSION", "Target", "Town", "unnamed"]
