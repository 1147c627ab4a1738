"""The demonstration of the grid: days that break it, fees that heal it, and the fees settled to the operator's account.

For each case: market and operator agree on some quarter-hours in turn (`backend.grid`); the operator announces each one's tariff
before any of them is settled; members keep to the schedule and their meters sign what flows; each quarter-hour is settled as a
period of its own; the supplier deposits what it took for the operator; the operator withdraws all of it; the auditor checks.

SimBench's days are long gone, so the tariffs are announced while the community is set up. A living one announces them a delay
ahead, as `tests/grid/test_settlement.py` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_keys.datatypes import PrivateKey

from backend.chain.client import ChainClient, account_from_secret
from backend.chain.networks import embedded_network
from backend.domain.community import (
    DSO_SLOT,
    FIRST_MEMBER_SLOT,
    FUND_SLOT,
    SUPPLIER_SLOT,
    CommunityTariff,
    Member,
)
from backend.domain.errors import AuditFailed, OutOfRange, PowerFlowFailed
from backend.domain.intervals import Period
from backend.domain.readings import SignedReading
from backend.durable_files import write_atomically
from backend.grid.cases import Scenario, scenario, scenario_grid, scenario_offers
from backend.grid.coordination import Coordination
from backend.grid.coordination import Coordinator as GridCoordinator
from backend.grid.model import GridModel
from backend.grid.pictures import coordination_svg
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
from backend.ledger.store import LedgerStore
from backend.market.problem import Market, build_market
from backend.operator.books import CommunityBooks
from backend.operator.cycle import Coordinator, PreparedPeriod
from backend.settlement.batch import interval_steps
from backend.settlement.encoding import domain_separator
from backend.settlement.statement import statement_amount_nano
from contracts.bindings import OracleConfig
from deploy.community import (
    TARIFF_ROLE,
    DeploymentSettings,
    admit_members,
    deploy_community,
    founding_parameters,
    hand_over,
)
from oracle.committee import OracleSettings, OracleSigner, SignedReport, assemble
from oracle.meter import Meter
from oracle.signing import address_of, private_key
from oracle.sources.simbench import Feeder, load_feeder

from .community import CURRENCY, ORACLE_SIGNERS, ORACLE_THRESHOLD, secret
from .day import Progress, audit_verified, clear_output, write_chain

GRID_DAY_FORMAT: Final = "peerwatt/grid-day/1"
GRID_CASES: Final = ("summer-noon", "winter-evening")
QUARTER_HOURS: Final = 4
CASE_FILES: Final = (
    "ledger.sqlite",
    "bundles",
    "fees",
    "coordination",
    "chain.json",
    "address-book.json",
    "feeder.svg",
)
GRID_FILES: Final = ("grid.html", "grid.json")

_SHARE_MILLIONTHS: Final = 500_000
_TOKEN_DECIMALS: Final = 6
_NANO_PER_TOKEN: Final = 1000
_ETHER: Final = 10**18
_DEPOSIT_NANO: Final = 60 * 10**9
_CHALLENGE_SECONDS: Final = 6 * 3600
# Longer than it takes to leave: a quarter-hour, its batch, and two challenge windows.
_CHANGE_DELAY_SECONDS: Final = 14 * 3600
# Three phases of 160 A: barns with their roofs are members too.
_FUSE_LIMIT_WH: Final = 3 * 160 * 230 // 4


@dataclass(frozen=True, slots=True)
class GridDemoOptions:
    """What can be chosen.

    Attributes:
        seed: for keys.
        solver: cvxpy solver of the settlement.
        output: folder for everything that is written.
        quarter_hours: settled in each case, from its peak on.
    """

    seed: int
    solver: str
    output: Path
    quarter_hours: int = QUARTER_HOURS


@dataclass(frozen=True, slots=True)
class Agreed:
    """A quarter-hour on which market and operator agree, and the tariff it is settled under."""

    outcome: Coordination
    fees: Mapping[str, int]
    period: Period
    tariff: CommunityTariff
    market: Market


def agree(
    flow: GridPowerFlow, item: Scenario, feeder: Feeder, quarter_hour: int, share_millionths: int
) -> Agreed:
    """Coordinates a quarter-hour with one fee for each zone.

    Raises:
        PowerFlowFailed: the members cannot mend the grid.
    """
    offers = scenario_offers(item, feeder, quarter_hour)
    zone_of = settlement_zones(flow.model, [member.connection_point for member in offers.members])
    outcome = GridCoordinator(flow, zone_of=zone_of).coordinate(offers)
    if outcome.status == "unsolved":
        raise PowerFlowFailed(
            f"{item.name}, quarter-hour {quarter_hour}: the members cannot mend the grid",
            "look at `peerwatt grid check --case`",
        )
    fees = zone_fees(outcome)
    tariff = interval_tariff(offers, fees, share_millionths)
    seconds = offers.interval.minutes * 60
    period = interval_period(
        int(offers.interval.start.timestamp()) // seconds, offers.interval.minutes
    )
    market = build_market(tariff.network, tariff.tariff_classes, tariff.group_keys)
    return Agreed(outcome, fees, period, tariff, market)


def run_grid_demo(
    options: GridDemoOptions, progress: Progress
) -> tuple[dict[str, Any], dict[str, str]]:
    """Runs all cases, each with a community and a chain of its own, and leaves them in a folder each.

    Returns:
        `peerwatt/grid-day/1`, and the feeders' pictures as SVG by case.

    Raises:
        InputError: an option is unsuitable.
        PeerwattError: a part failed.
        AuditFailed: the independent recomputation differs, or the operator's account has another amount.
    """
    if not 1 <= options.quarter_hours <= 16:
        raise OutOfRange(
            "quarter_hours",
            options.quarter_hours,
            "unsuitable number",
            "give a number from 1 to 16",
        )
    feeder = load_feeder()
    clear_output(options.output, GRID_FILES)
    cases, pictures = [], {}
    for name in GRID_CASES:
        folder = options.output / name
        clear_output(folder, CASE_FILES)
        store = LedgerStore(f"sqlite:///{folder / 'ledger.sqlite'}")
        try:
            case = _GridCase(options, scenario(name), feeder, store, progress)
            cases.append(case.run())
            pictures[name] = case.picture
        finally:
            store.close()
    day = {
        "format": GRID_DAY_FORMAT,
        "generated_by": f"peerwatt {version('peerwatt')}",
        "currency": CURRENCY,
        "grid": "SimBench 1-LV-rural3, scenario 2",
        "cases": cases,
    }
    return day, pictures


class _GridCase:
    """One case, step by step."""

    def __init__(
        self,
        options: GridDemoOptions,
        item: Scenario,
        feeder: Feeder,
        store: LedgerStore,
        progress: Progress,
    ) -> None:
        self.options, self.item, self.feeder = options, item, feeder
        self.store, self.progress = store, progress
        self.folder = options.output / item.name
        self.client = ChainClient.open(None)
        self.flow = GridPowerFlow(scenario_grid(item, feeder))
        self.announcing_gas: list[int] = []
        self.submission_gas: list[int] = []

    def run(self) -> dict[str, Any]:
        """All of it; returns the case's part of the summary."""
        agreed = self._agree()
        self._people(agreed[0])
        self._deploy(agreed)
        prepared = self._settle(agreed)
        owed = sum(
            supplier_owes_nano(part.cleared[0], item.fees)
            for part, item in zip(prepared, agreed, strict=True)
        )
        account = self._pay_operator(prepared, owed)
        CommunityBooks(
            self.client.web3,
            embedded_network(self.client.chain_id),
            self.contracts,
            self.store.engine,
            self.folder / "bundles",
        ).follow()
        write_chain(self.folder, self.client, self.contracts, None)
        self.progress.step(f"{self.item.name}: the auditor recomputes everything")
        verdict = audit_verified(self.client, self.contracts, self.folder)
        return self._summary(agreed, prepared, account, sum(c.count for c in verdict.all_checks))

    # --- Before delivery ---------------------------------------------------------------------------------------------

    def _agree(self) -> list[Agreed]:
        count = self.options.quarter_hours
        self.progress.step(f"{self.item.name}: market and operator agree in turn", count)
        found = []
        for quarter_hour in range(self.item.peak_interval, self.item.peak_interval + count):
            found.append(agree(self.flow, self.item, self.feeder, quarter_hour, _SHARE_MILLIONTHS))
            self._publish(found[-1])
            self.progress.part()
        first = found[0].outcome
        self.picture = coordination_svg(
            self.flow, first.values_before, first.values_after, self.item.title
        )
        write_atomically(self.folder / "feeder.svg", self.picture.encode())
        return found

    def _publish(self, item: Agreed) -> None:
        """What everybody may see, and apart from it what names members."""
        notice = fee_notice(item.outcome, self.flow)
        for folder, data in (
            ("fees", notice),
            ("coordination", statement(item.outcome, self.flow)),
        ):
            path = self.folder / folder / f"{item.period.number}.json"
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, (json.dumps(data, indent=1) + "\n").encode())

    def _key(self, role: str, index: int = 0) -> bytes:
        return secret(self.options.seed, f"{self.item.name} {role}", index)

    def _account(self, role: str, index: int = 0) -> LocalAccount:
        return account_from_secret(self._key(role, index))

    def _people(self, item: Agreed) -> None:
        zones = item.outcome.zones
        assert zones is not None
        self.meter_keys: list[PrivateKey] = []
        self.members: list[Member] = []
        for index, (member, zone) in enumerate(
            zip(item.outcome.offers.members, zones, strict=True)
        ):
            self.meter_keys.append(private_key(self._key("meter", index)))
            self.members.append(
                Member(
                    slot=FIRST_MEMBER_SLOT + index,
                    name=member.id,
                    account=self._account("wallet", index).address,
                    meter=address_of(self.meter_keys[-1]),
                    node=zone,
                    tariff_class=zone,
                    fuse_limit_wh=_FUSE_LIMIT_WH,
                )
            )
        self.signer_keys = [
            private_key(self._key("oracle signer", index)) for index in range(ORACLE_SIGNERS)
        ]

    def _deploy(self, agreed: list[Agreed]) -> None:
        first, deployer, dso = agreed[0].period, self._account("deployer"), self._account("dso")
        roles = [self._account(role) for role in ("coordinator", "supplier")]
        steps = 2 * len(self.members) + len(agreed)
        self.progress.step(f"{self.item.name}: deploy, admit, announce, deposit", steps)
        self.client.fund([key.address for key in (deployer, dso, *roles)], 20 * _ETHER)
        parameters = founding_parameters(
            first,
            challenge_seconds=_CHALLENGE_SECONDS,
            bond_wei=_ETHER // 10,
            demand_bond_wei=_ETHER // 1000,
        )
        self.contracts = deploy_community(
            self.client,
            deployer,
            DeploymentSettings(
                parameters=replace(parameters, shortest_period_seconds=first.interval_minutes * 60),
                oracle=OracleConfig(
                    ORACLE_THRESHOLD, tuple(address_of(key) for key in self.signer_keys)
                ),
                collateral_step_nano=10**9,
                token_decimals=_TOKEN_DECIMALS,
                coordinator=roles[0].address,
                supplier=roles[1].address,
                dso=dso.address,
                fund=self._account("fund").address,
            ),
        ).contracts
        admit_members(
            self.client,
            deployer,
            self.contracts,
            [(member, self._account("wallet", index)) for index, member in enumerate(self.members)],
            agreed[0].market,
            first.number,
            1,
        )
        for _ in self.members:
            self.progress.part()
        self.store.add_members(self.members, first.number)
        # The operator announces its own tariffs. From then on it has to wait as long as everybody who can change something.
        self.client.send(self.contracts.grant_role(TARIFF_ROLE, dso.address, 0), deployer)
        for item in agreed:
            call = self.contracts.announce_tariff(
                item.market, _SHARE_MILLIONTHS, item.period.number
            )
            self.announcing_gas.append(self.client.send(call, dso).gas_used)
            self.progress.part()
        self.client.send(
            self.contracts.grant_role(TARIFF_ROLE, dso.address, _CHANGE_DELAY_SECONDS), deployer
        )
        self._deposit(deployer)
        hand_over(
            self.client,
            deployer,
            self.contracts,
            self._account("administrator").address,
            _CHANGE_DELAY_SECONDS,
        )

    def _deposit(self, deployer: LocalAccount) -> None:
        """The cooperative deposits for its members, and vouches for the supplier with as much."""
        tokens = _DEPOSIT_NANO // _NANO_PER_TOKEN
        count = len(self.members)
        key = self._account("coordinator")
        self.client.send(self.contracts.mint(key.address, 2 * count * tokens), deployer)
        self.client.send(self.contracts.approve(2 * count * tokens), key)
        for member in self.members:
            self.client.send(self.contracts.deposit(member.slot, tokens), key)
            self.progress.part()
        self.client.send(self.contracts.deposit_guarantee(count * tokens), key)
        self.client.send(self.contracts.grant_credit(SUPPLIER_SLOT, count * _DEPOSIT_NANO), key)

    # --- Delivery and settlement -------------------------------------------------------------------------------------

    def _settle(self, agreed: list[Agreed]) -> list[PreparedPeriod]:
        self.progress.step(
            f"{self.item.name}: meters sign, the oracle reports, batches are proved", len(agreed)
        )
        domain = domain_separator(self.client.chain_id, self.contracts.addresses["ReadingOracle"])
        meters = [Meter(key, domain) for key in self.meter_keys]
        last = [meter.read(agreed[0].period.first_interval - 1) for meter in meters]
        prepared: list[PreparedPeriod] = []
        for item in agreed:
            received = {}
            for index, (meter, net) in enumerate(
                zip(meters, item.outcome.after.net_wh.tolist(), strict=True)
            ):
                (reading,) = meter.run(item.period.first_interval, [max(0, -net)], [max(0, net)])
                received[meter.address] = [last[index], reading]
                last[index] = reading
            signed = self._report(item, domain, received)
            coordinator = self._coordinator(item)
            coordinator.post_bond()
            part = coordinator.prepare(
                period=item.period,
                report=signed.report,
                signatures=signed.signatures,
                member_periods=signed.member_periods,
                cleared=coordinator.clear(signed.member_periods, item.period),
                previous=prepared[-1].batch if prepared else None,
            )
            self.submission_gas.append(coordinator.submit(part).gas_used)
            self._check_bills(item, part)
            prepared.append(part)
            self.progress.part()
        self.client.advance(_CHALLENGE_SECONDS + 1)
        for item, part in zip(agreed, prepared, strict=True):
            if not self._coordinator(item).finalise(part.batch):
                raise AuditFailed("a batch did not become final", "report this")
        return prepared

    def _report(
        self, item: Agreed, domain: bytes, received: Mapping[str, list[SignedReading]]
    ) -> SignedReport:
        settings = OracleSettings(
            domain=domain,
            config_digest=self.contracts.oracle_config_digest(),
            threshold=ORACLE_THRESHOLD,
            salt_keys={
                member.slot: self._key("reading salts", member.slot) for member in self.members
            },
        )
        confirmations = [
            OracleSigner(key, settings).confirm(item.period, 0, self.members, item.market, received)
            for key in self.signer_keys
        ]
        self.store.add_readings((reading, "") for pair in received.values() for reading in pair[1:])
        return assemble(confirmations, ORACLE_THRESHOLD, domain)

    def _coordinator(self, item: Agreed) -> Coordinator:
        return Coordinator(
            client=self.client,
            contracts=self.contracts,
            key=self._account("coordinator"),
            market=item.market,
            tariff=item.tariff,
            store=self.store,
            bundle_folder=self.folder / "bundles",
            salt_key=self._key("coordinator salts"),
            solver=self.options.solver,
        )

    @staticmethod
    def _check_bills(item: Agreed, part: PreparedPeriod) -> None:
        """Every member recomputes its bill from its own meter, and finds its schedule kept."""
        steps = [interval_steps(part.cleared[0], _SHARE_MILLIONTHS)]
        schedule = item.outcome.after.net_wh.tolist()
        for member_period, net in zip(part.batch.member_periods.values(), schedule, strict=True):
            member = member_period.member
            group = item.market.groups[item.market.group_index[member.node, member.tariff_class]]
            due = statement_amount_nano(member_period.readings, steps, group)
            if (
                due != part.batch.leaves[member.slot].amount_nano
                or member_period.readings[0].net_wh != net
            ):
                raise AuditFailed(f"the bill of {member.name} is wrong", "report this")

    def _pay_operator(self, prepared: list[PreparedPeriod], owed_nano: int) -> dict[str, Any]:
        """The supplier deposits at the operator's slot what it took for it; the operator withdraws everything."""
        if owed_nano < 0:
            raise AuditFailed(
                f"the operator would owe the supplier {-owed_nano} nano", "report this"
            )
        batch = prepared[-1].batch
        supplier, dso = self._account("supplier"), self._account("dso")
        deposited = -(-owed_nano // _NANO_PER_TOKEN)
        self.progress.step(f"{self.item.name}: the operator gets its fees and withdraws them", 2)
        # Its money from outside the community, where it sells and buys what members do.
        self.client.send(self.contracts.mint(supplier.address, deposited), supplier)
        self.client.send(self.contracts.approve(deposited), supplier)
        self.client.send(self.contracts.deposit(DSO_SLOT, deposited), supplier)
        self.progress.part()
        tokens = self.contracts.withdrawable(DSO_SLOT, batch)
        before = self.contracts.token_balance(dso.address)
        self.client.send(self.contracts.withdraw(tokens, batch, DSO_SLOT), dso)
        booked = batch.leaves[DSO_SLOT].cumulative_nano
        if (
            self.contracts.token_balance(dso.address) - before != tokens
            or tokens != (booked + deposited * _NANO_PER_TOKEN) // _NANO_PER_TOKEN
        ):
            raise AuditFailed("the operator's account has another amount", "report this")
        self.progress.part()
        return {
            "booked_nano": booked,
            "deposited_tokens": deposited,
            "withdrawn_tokens": tokens,
            "supplier_nano": batch.leaves[SUPPLIER_SLOT].cumulative_nano,
            "fund_nano": batch.leaves[FUND_SLOT].cumulative_nano,
        }

    # --- Summary -----------------------------------------------------------------------------------------------------

    def _summary(
        self,
        agreed: list[Agreed],
        prepared: list[PreparedPeriod],
        account: Mapping[str, int],
        checks: int,
    ) -> dict[str, Any]:
        return {
            "name": self.item.name,
            "title": self.item.title,
            "members": len(self.members),
            "folder": self.item.name,
            "clearing_house": self.contracts.addresses["ClearingHouse"],
            "quarter_hours": [
                self._quarter_hour(item, part) for item, part in zip(agreed, prepared, strict=True)
            ],
            "operator_account": dict(account),
            "gas": {
                "announce_tariff": max(self.announcing_gas),
                "submit_batch": max(self.submission_gas),
            },
            "audit": {"verdict": "verified", "checks": checks},
        }

    def _quarter_hour(self, item: Agreed, part: PreparedPeriod) -> dict[str, Any]:
        cleared = part.cleared[0]
        ordinary, extra = trades_paid_nano(cleared, item.outcome.offers.trade_fee_nano_per_wh)
        leaves = part.batch.leaves
        notice = fee_notice(item.outcome, self.flow)
        model: GridModel = self.flow.model
        count = len(model.buses)
        states = {}
        for label, values in (
            ("before", item.outcome.values_before),
            ("after", item.outcome.values_after),
        ):
            states[label] = (
                None
                if values is None
                else {
                    "lowest_voltage_per_unit": round(-float(values[count : 2 * count].max()), 4),
                    "highest_voltage_per_unit": round(float(values[:count].max()), 4),
                    "highest_loading_percent": round(100 * float(values[2 * count :].max()), 1),
                    "broken_limits": int((values > self.flow.bounds + 1e-9).sum()),
                }
            )
        return {
            "start": datetime.fromtimestamp(
                item.period.first_interval * item.period.interval_minutes * 60, UTC
            ).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "period": item.period.number,
            "status": item.outcome.status,
            "ac_checks": len(item.outcome.rounds),
            **states,
            "zones": notice["zones"],
            "demand_wh": sum(cleared.problem.demand_wh),
            "supply_wh": sum(cleared.problem.supply_wh),
            "traded_wh": sum(cleared.solution.matched_demand_wh),
            "trade_fees_nano": ordinary,
            "operator_fees_on_trades_nano": extra,
            "operator_fees_through_supplier_nano": supplier_owes_nano(cleared, item.fees),
            "members_nano": sum(
                leaf.amount_nano for slot, leaf in leaves.items() if slot >= FIRST_MEMBER_SLOT
            ),
            "batch_hash": "0x" + part.batch.header.hash().hex(),
            "tariff_hash": "0x" + part.batch.header.tariff_hash.hex(),
        }
