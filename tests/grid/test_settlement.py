"""The operator's fees on the ledger: what the tariff of an interval does to everybody, and a live community that settles one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.audit.auditor import audit
from backend.audit.bundle_files import BundleFiles
from backend.audit.chain_reader import ChainReader
from backend.audit.intervals import AuditTariff, unpack_clearing
from backend.chain.client import ChainClient
from backend.domain.case import CaseInterval
from backend.domain.community import DSO_SLOT, FUND_SLOT, SUPPLIER_SLOT, CommunityTariff, Member
from backend.domain.errors import OutOfRange
from backend.domain.intervals import Period
from backend.grid.coordination import Coordination, Coordinator
from backend.grid.model import Bus, GridModel, Line, Source, Transformer
from backend.grid.offers import GridMember, GridOffers, Offer
from backend.grid.power_flow import GridPowerFlow
from backend.grid.settlement import (
    interval_period,
    interval_tariff,
    settlement_zones,
    supplier_owes_nano,
    trades_paid_nano,
    zone_fees,
)
from backend.grid.statement import fee_notice, statement
from backend.market.pool import ClearedInterval, Pool
from backend.market.problem import build_market
from backend.operator.publication import publish_bundle
from backend.settlement.batch import Batch, interval_steps
from contracts.bindings import CommunityContracts
from deploy.community import TARIFF_ROLE, admit_members, deploy_community, hand_over
from tests.support.community import (
    ETHER,
    FIRST_PERIOD,
    INTERVAL_MINUTES,
    NANO,
    THRESHOLD,
    TOKEN_DECIMALS,
    Community,
    Place,
    account,
    founding_settings,
    member_at,
)
from tests.support.community import PAPER as PAPER_PLACE
from tests.support.grid_cases import village

SECONDS = INTERVAL_MINUTES * 60
SHARE = 500_000
NANO_PER_TOKEN = 1000
CHALLENGE_SECONDS = 1800
# A quarter-hour, as much again as its batch needs, and two challenge windows, as the auditor demands.
DELAY_SECONDS = 4800
COORDINATED = 8
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def offers_of(members: tuple[GridMember, ...], start: datetime = EPOCH) -> GridOffers:
    return GridOffers(
        interval=CaseInterval(start=start, minutes=15),
        import_price_nano_per_wh=300_000,
        export_price_nano_per_wh=60_000,
        trade_fee_nano_per_wh=20_000,
        members=members,
    )


# --- Any fees, any energy --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-400_000, 100_000), min_size=1, max_size=4),
    st.data(),
)
def test_the_tariff_charges_the_fee_and_nothing_else(fees: list[int], data: st.DataObject) -> None:
    by_zone = {f"z{number}": fee for number, fee in enumerate(fees)}
    nets = data.draw(st.lists(st.integers(-5000, 5000), min_size=1, max_size=8))
    zones = [data.draw(st.sampled_from(sorted(by_zone))) for _ in nets]
    offers = offers_of((GridMember(id="m", connection_point="c", fixed_wh=0),))
    tariff = interval_tariff(offers, by_zone, SHARE)
    cleared, dues = settled(tariff, zones, nets)
    ordinary, extra = trades_paid_nano(cleared, offers.trade_fee_nano_per_wh)
    owed = supplier_owes_nano(cleared, by_zone)
    assert sum(dues) + cleared.supplier_nano + cleared.fees_nano + cleared.dust_nano == 0
    assert ordinary >= 0
    assert extra >= 0
    # The supplier is left with its own prices and nothing of the fee.
    solution = cleared.solution
    bought = sum(cleared.problem.demand_wh) - sum(solution.matched_demand_wh)
    sold = sum(cleared.problem.supply_wh) - sum(solution.matched_supply_wh)
    assert cleared.supplier_nano - owed == (
        offers.import_price_nano_per_wh * bought - offers.export_price_nano_per_wh * sold
    )
    # The operator gets every member's fee, and more only where a trade goes against it: nobody is paid for those.
    charged = sum(by_zone[zone] * net for zone, net in zip(zones, nets, strict=True))
    assert extra + owed >= charged
    flows = zip(cleared.problem.market.graph.edge_fee_nano_per_wh, solution.flow_wh, strict=True)
    assert extra == sum(fee * abs(flow) for fee, flow in flows)
    # One price in the community: what differs between two members of one sign is their fee.
    discount, premium = interval_steps(cleared, SHARE)
    for zone, net, due in zip(zones, nets, dues, strict=True):
        price = offers.export_price_nano_per_wh + premium
        if net < 0:
            price = offers.import_price_nano_per_wh - discount
        assert due == net * (price - by_zone[zone])


def settled(
    tariff: CommunityTariff, zones: list[str], nets: list[int]
) -> tuple[ClearedInterval, list[int]]:
    """An interval's clearing and what it comes to for each member."""
    market = build_market(tariff.network, tariff.tariff_classes, tariff.group_keys)
    groups = tuple(market.group_index[zone, zone] for zone in zones)
    cleared = Pool(market, "auto", share_millionths=SHARE).clear(groups, tuple(nets))
    discount, premium = interval_steps(cleared, SHARE)
    dues = []
    for group, net in zip(groups, nets, strict=True):
        item = market.groups[group]
        dues.append(
            net * (item.import_price_nano_per_wh - discount)
            if net < 0
            else net * (item.export_price_nano_per_wh + premium)
        )
    return cleared, dues


def test_zones_hide_single_members() -> None:
    points = list(village().connection_points)
    zone_of = settlement_zones(village(), points)
    sizes = [list(zone_of.values()).count(zone) for zone in set(zone_of.values())]
    assert min(sizes) >= 3
    assert sum(sizes) == 118
    assert "feeder-8+feeder-9" in zone_of.values()
    assert len(set(settlement_zones(village(), points, smallest=100).values())) == 1
    with pytest.raises(OutOfRange, match="fewer than 3"):
        settlement_zones(village(), points[:2])


# --- A live community ------------------------------------------------------------------------------------------------


def two_feeders() -> GridModel:
    """Roofs at the end of a long cable, and a short one where nobody has any."""
    buses = ("mv", "lv", "roofs", "street")
    return GridModel(
        name="two feeders",
        buses=tuple(Bus(name, 20_000.0 if name == "mv" else 400.0) for name in buses),
        lines=(
            Line("long", "lv", "roofs", 0.24, 0.06, 50.0, 270.0),
            Line("short", "lv", "street", 0.02, 0.005, 10.0, 270.0),
        ),
        transformers=(
            Transformer("t", "mv", "lv", 250_000.0, 20_000.0, 400.0, 4.0, 1.2, 300.0, 0.4, 150.0),
        ),
        source=Source("mv", 1.03),
        connection_points={f"c{n}": "roofs" if n < 3 else "street" for n in range(6)},
    )


def noon(start: datetime) -> GridOffers:
    """More sun than the long cable takes, and neighbours who could use some of it."""
    return offers_of(
        tuple(
            GridMember(
                id=f"m{n}",
                connection_point=f"c{n}",
                fixed_wh=-200 if n < 3 else -2500,
                offers=(Offer(kind="sell", limit_wh=7000, price_nano_per_wh=5000 * n),)
                if n < 3
                else (),
            )
            for n in range(6)
        ),
        start,
    )


class Live:
    """Six members whose operator announces fees while the community runs."""

    def __init__(self) -> None:
        self.client = ChainClient.open(None)
        roles = ("deployer", "coordinator", "supplier", "dso", "administrator")
        # The embedded chain's genesis is old; its first block brings it to the present.
        self.client.fund([account(role).address for role in roles], 100 * ETHER)
        now = int(self.client.web3.eth.get_block("latest")["timestamp"])
        self.first_interval = now // SECONDS + 2
        self.flow = GridPowerFlow(two_feeders())
        points = list(self.flow.model.connection_points)
        self.zones = settlement_zones(self.flow.model, points)
        self.members = tuple(
            member_at(3 + n, self.zones[point], self.zones[point]) for n, point in enumerate(points)
        )
        self.offers = noon(self.period(COORDINATED).interval_start(0))
        self.ordinary = self.community(dict.fromkeys(self.zones.values(), 0))
        self.contracts = self._deployed()
        self.place = Place(
            chain_id=self.client.chain_id,
            clearing_house=self.contracts.addresses["ClearingHouse"],
            reading_oracle=self.contracts.addresses["ReadingOracle"],
            signers=PAPER_PLACE.signers,
            threshold=THRESHOLD,
            first_interval=self.first_interval,
        )
        self.batches: list[Batch] = []
        self.cleared: list[tuple[ClearedInterval, ...]] = []

    def period(self, offset: int) -> Period:
        one = interval_period(self.first_interval + offset, INTERVAL_MINUTES)
        return replace(one, number=FIRST_PERIOD + offset)

    def community(self, fees: Mapping[str, int]) -> Community:
        """The members under the tariff with these fees."""
        tariff = interval_tariff(self.offers, fees, SHARE)
        return Community(tariff.network, tariff.tariff_classes, self.members, SHARE)

    def _deployed(self) -> CommunityContracts:
        deployer = account("deployer")
        chosen = founding_settings(
            self.first_interval,
            shortest_period_seconds=SECONDS,
            challenge_seconds=CHALLENGE_SECONDS,
        )
        contracts = deploy_community(self.client, deployer, chosen).contracts
        self.client.send(
            contracts.announce_tariff(self.ordinary.market, SHARE, FIRST_PERIOD), deployer
        )
        wallets: list[tuple[Member, Any]] = [
            (item, account("wallet", item.slot)) for item in self.members
        ]
        admit_members(
            self.client, deployer, contracts, wallets, self.ordinary.market, FIRST_PERIOD, 0
        )
        self.client.send(
            contracts.grant_role(TARIFF_ROLE, account("dso").address, DELAY_SECONDS), deployer
        )
        administrator = account("administrator").address
        hand_over(self.client, deployer, contracts, administrator, DELAY_SECONDS)
        coordinator = account("coordinator")
        self.client.send(
            contracts.post_bond(), coordinator, founding_settings().parameters.bond_wei
        )
        self.give("coordinator", contracts, 8 * 100 * NANO)
        for item in self.members:
            self.client.send(contracts.deposit(item.slot, 100 * 10**TOKEN_DECIMALS), coordinator)
        self.client.send(contracts.deposit(SUPPLIER_SLOT, 100 * 10**TOKEN_DECIMALS), coordinator)
        return contracts

    def give(self, role: str, contracts: CommunityContracts, nano: int) -> int:
        """Test tokens for a role, which lets the vault take them; rounded up."""
        tokens = -(-nano // NANO_PER_TOKEN)
        self.client.send(contracts.mint(account(role).address, tokens), account(role))
        self.client.send(contracts.approve(tokens), account(role))
        return tokens

    def until(self, moment: int) -> None:
        now = int(self.client.web3.eth.get_block("latest")["timestamp"])
        if now < moment:
            self.client.advance(moment - now)

    def settle(self, offset: int, community: Community, nets: list[int], folder: Path) -> None:
        """A period from meters to its batch on chain, its bundle published."""
        period = self.period(offset)
        self.until(period.end_interval * SECONDS)
        energy = {
            item.slot: ((max(0, -net), max(0, net)),)
            for item, net in zip(self.members, nets, strict=True)
        }
        signed = community.signed_report(period, energy, self.place)
        cleared = community.clear(period, signed.member_periods)
        given = replace(self.place, first_interval=self.first_interval)
        batch = community.batch(
            period,
            signed.report,
            signed.signatures,
            signed.member_periods,
            self.batches[-1] if self.batches else None,
            given,
            cleared,
        )
        publish_bundle(
            folder / str(batch.header.number), community.bundle(batch, period, self.place)
        )
        call = self.contracts.submit_batch(batch, community.market, SHARE, self.place.config)
        self.client.send(call, account("coordinator"))
        self.batches.append(batch)
        self.cleared.append(cleared)

    def announce(self, community: Community, offset: int) -> Any:
        """The operator says what it is going to announce; the call that does it later."""
        call = self.contracts.announce_tariff(community.market, SHARE, FIRST_PERIOD + offset)
        data = bytes.fromhex(call._encode_transaction_data().removeprefix("0x"))
        manager = self.contracts.functions("AccessManager")
        self.client.send(manager.schedule(call.address, data, 0), account("dso"))
        return manager.execute(call.address, data)


def agreed(live: Live) -> Coordination:
    """What market and operator find for the coordinated interval: healed, and A sells to B over the limit."""
    outcome = Coordinator(live.flow, zone_of=live.zones).coordinate(live.offers)
    assert outcome.status == "healed"
    assert outcome.rounds[0].broken
    return outcome


def test_an_operators_fees_are_announced_settled_and_paid(tmp_path: Path) -> None:
    live = Live()
    bundles = tmp_path / "bundles"
    outcome = agreed(live)
    fees = zone_fees(outcome)
    roofs, street = sorted(set(live.zones.values()))
    assert fees[roofs] > fees[street] >= 0
    coordinated = live.community(fees)
    quiet = [-200] * 6

    live.settle(0, live.ordinary, quiet, bundles)
    # Agreed ahead of delivery. The operator waits like everybody who can change something, and no begun period is touched.
    execute = live.announce(coordinated, COORDINATED)
    assert live.client.refusal(execute, account("dso")) is not None
    late = live.announce(coordinated, COORDINATED - 2)
    live.client.advance(DELAY_SECONDS)
    refused = live.client.refusal(late, account("dso"))
    assert refused is not None
    assert refused.error_name == "PeriodBegun"
    live.client.send(execute, account("dso"))

    for offset in range(1, COORDINATED):
        live.settle(offset, live.ordinary, quiet, bundles)
    live.settle(COORDINATED, coordinated, outcome.after.net_wh.tolist(), bundles)
    live.client.advance(CHALLENGE_SECONDS + 1)

    # The DSO's account: energy times ordinary and extra fee of what was traded, by the batch.
    batch, (cleared,) = live.batches[-1], live.cleared[-1]
    traded = sum(cleared.solution.matched_demand_wh)
    across = sum(abs(flow) for flow in cleared.solution.flow_wh)
    assert traded >= across > 0
    extra = fees[roofs] - fees[street]
    assert batch.leaves[DSO_SLOT].amount_nano == 20_000 * traded + extra * across
    # The rest through the supplier, by anybody's reckoning from the chain alone.
    owed = supplier_owes_nano(cleared, fees)
    assert owed == owed_by_the_chain(live, len(live.batches))
    assert owed > 0
    tokens = live.give("supplier", live.contracts, owed)
    live.client.send(live.contracts.deposit(DSO_SLOT, tokens), account("supplier"))
    found = statement(outcome, live.flow)
    assert extra * across + owed == found["dso_account_nano"]
    withdrawable = live.contracts.withdrawable(DSO_SLOT, batch)
    assert withdrawable * NANO_PER_TOKEN == pytest.approx(
        batch.leaves[DSO_SLOT].cumulative_nano + owed, abs=2000
    )
    live.client.send(live.contracts.withdraw(withdrawable, batch, DSO_SLOT), account("dso"))
    assert live.contracts.token_balance(account("dso").address) == withdrawable

    # Each member's bill carries exactly the fee that its notice gives a reason for.
    discount, premium = interval_steps(cleared, SHARE)
    notice = {zone["zone"]: zone for zone in fee_notice(outcome, live.flow)["zones"]}
    for item, net in zip(live.members, outcome.after.net_wh.tolist(), strict=True):
        price = live.offers.export_price_nano_per_wh + premium
        if net < 0:
            price = live.offers.import_price_nano_per_wh - discount
        zone = notice[item.node]
        assert batch.leaves[item.slot].amount_nano == net * (price - zone["fee_nano_per_wh"])
        assert zone["reasons"]
        assert any("voltage at roofs" in reason["text"] for reason in zone["reasons"])
    assert sum(leaf.amount_nano for leaf in batch.leaves.values()) == 0
    assert batch.leaves[FUND_SLOT].amount_nano >= 0
    verdict = audit(
        live.client.web3, live.contracts.addresses["ClearingHouse"], BundleFiles(bundles)
    )
    assert verdict.verdict == "verified", [c.detail for c in verdict.all_checks if not c.passed]


def owed_by_the_chain(live: Live, number: int) -> int:
    """What the supplier owes the operator, from the submission's calldata, read with the auditor's code."""
    reader = ChainReader(live.client.web3, live.contracts.addresses["ClearingHouse"])
    (submitted,) = [item for item in reader.standing_batches() if item.header["number"] == number]
    tariff = AuditTariff.unpack(dict(submitted.submission["tariff"]))
    _, intervals = unpack_clearing(bytes(submitted.submission["clearing"]), tariff, 1)
    (interval,) = intervals
    owed = 0
    for group, (demand, supply, bought, sold) in zip(tariff.groups, interval.groups, strict=True):
        # The ordinary price less the tariff's is the fee.
        fee = live.offers.import_price_nano_per_wh - group[0]
        owed += fee * ((supply - sold) - (demand - bought))
    return owed
