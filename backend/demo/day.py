"""Runs the demonstration: deploy, deposit, meter, report, clear, prove, lie, challenge, settle, withdraw, audit."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from eth_account.signers.local import LocalAccount

from backend.audit.auditor import audit
from backend.audit.bundle_files import BundleFiles
from backend.audit.verdict import AuditVerdict
from backend.chain.client import ChainClient, replay
from backend.chain.networks import embedded_network
from backend.domain.community import SUPPLIER_SLOT, Member
from backend.domain.errors import AuditFailed, ContractRefused, MalformedInput
from backend.domain.intervals import Period, local_day
from backend.domain.readings import SignedReading
from backend.domain.states import BatchState
from backend.durable_files import write_atomically
from backend.ledger.store import LedgerStore
from backend.market.pool import ClearedInterval
from backend.operator.books import CommunityBooks
from backend.operator.cycle import Coordinator, PreparedPeriod
from backend.settlement.batch import interval_steps
from backend.settlement.encoding import domain_separator
from contracts.bindings import CommunityContracts, FoundingParameters, OracleConfig
from deploy.community import (
    AUDITOR_ROLE,
    DeploymentSettings,
    admit_members,
    deploy_community,
    founding_parameters,
    hand_over,
)
from oracle.committee import OracleSettings, OracleSigner, SignedReport, assemble
from oracle.meter import Meter
from oracle.signing import address_of, private_key
from oracle.sources.simbench import interval_energy_wh
from oracle.trade_books import TradedPeriod

from .community import (
    ORACLE_SIGNERS,
    ORACLE_THRESHOLD,
    DemoCommunity,
    Participant,
    build_community,
    days_from,
)
from .lies import OVERCHARGE_NANO, overcharge, worse_clearing, wrong_bills

_TOKEN_DECIMALS = 6
_NANO_PER_TOKEN = 1000
_ETHER = 10**18
_BOND_WEI = _ETHER // 10
_DEMAND_BOND_WEI = _ETHER // 1000
_COLLATERAL_STEP_NANO = 10 * 10**9
_COLLATERAL_STEPS = 2
_DEPOSIT_NANO = 50 * 10**9
_DEPOSIT_PER_DAY_NANO = 10 * 10**9
_CHALLENGE_SECONDS = 24 * 3600
# On a node whose clock cannot be moved the demonstration has to wait for it.
_SHORT_CHALLENGE_SECONDS = 30
_WITHDRAWING = 3
# Changes wait longer than it takes to leave: to the next day, through it, and until its batch is final.
_CHANGE_DELAY_SECONDS = 4 * 86_400

_MARK = ".peerwatt-demo"
OUTPUT_FILES = (
    "ledger.sqlite",
    "bundles",
    "day.html",
    "day.json",
    "collective.json",
    "collective.html",
    "chain.json",
    "address-book.json",
    "demo.json",
)
DEMO_FORMAT = "peerwatt/demo/1"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What can be chosen.

    Attributes:
        members: number of households.
        days: number of days.
        first_day: the first of them.
        seed: for keys and the choice of households.
        chain_url: JSON-RPC URL, or None for the embedded chain.
        solver: cvxpy solver.
        output: folder for everything that is written.
    """

    members: int
    days: int
    first_day: datetime.date
    seed: int
    chain_url: str | None
    solver: str
    output: Path


@dataclass(slots=True)
class GasBook:
    """Gas by kind of transaction."""

    used: dict[str, list[int]] = field(default_factory=dict)

    def add(self, kind: str, gas: int) -> None:
        """Notes a transaction."""
        self.used.setdefault(kind, []).append(gas)

    def typical(self, kind: str) -> int:
        """The largest of a kind; zero if there was none."""
        return max(self.used.get(kind, [0]))


@dataclass(frozen=True, slots=True)
class Lie:
    """A lie told on purpose, and what became of it."""

    what: str
    outcome: str
    by: str
    detail: str


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Money taken out with a proof."""

    slot: int
    tokens: int


@dataclass(slots=True)
class DemoRun:
    """What happened, for the summary."""

    options: DemoOptions
    community: DemoCommunity
    contracts: CommunityContracts
    chain_id: int
    gas: GasBook
    prepared: list[PreparedPeriod] = field(default_factory=list)
    signatures_verified: int = 0
    bills_recomputed: int = 0
    gas_used: int = 0
    transactions: int = 0
    lies: list[Lie] = field(default_factory=list)
    withdrawals: list[Withdrawal] = field(default_factory=list)
    verdict: AuditVerdict | None = None


class Progress:
    """What the run tells whoever watches: a step begins with a number of parts, parts get done."""

    def step(self, title: str, parts: int = 1) -> None:
        """A step begins."""

    def part(self) -> None:
        """One part of it is done."""


def run_demo(options: DemoOptions, progress: Progress) -> DemoRun:
    """Runs everything and leaves ledger, bundles and the chain's journal in the output folder.

    Raises:
        InputError: an option is unsuitable.
        PeerwattError: a part failed.
        AuditFailed: the independent recomputation differs.
    """
    progress.step("read the community's data")
    community = build_community(options.members, options.seed)
    days = days_from(options.first_day, options.days, community.feeder)
    client = ChainClient.open(options.chain_url)
    clear_output(options.output, OUTPUT_FILES)
    store = LedgerStore(f"sqlite:///{options.output / 'ledger.sqlite'}")
    try:
        demo = Demonstration(options, community, client, store, progress)
        return demo.run([local_day(day) for day in days])
    finally:
        store.close()


def clear_output(folder: Path, names: Sequence[str]) -> None:
    """Removes what an earlier run wrote under these names, and nothing else.

    Raises:
        MalformedInput: the folder holds files of these names that no run of ours has marked as its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    foreign = [name for name in names if (folder / name).exists()]
    if foreign and not (folder / _MARK).exists():
        raise MalformedInput(
            "output",
            str(folder),
            f"has a {foreign[0]} that no earlier run wrote",
            "name a folder of its own",
        )
    (folder / _MARK).touch()
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_chain(
    folder: Path, client: ChainClient, contracts: CommunityContracts, url: str | None
) -> None:
    """What `peerwatt audit` needs to find the community again, and the embedded chain itself."""
    book = {"chain_id": client.chain_id, "rpc": url, "contracts": dict(contracts.addresses)}
    write_atomically(folder / "address-book.json", (json.dumps(book, indent=2) + "\n").encode())
    if client.embedded:
        write_atomically(folder / "chain.json", (json.dumps(client.journal) + "\n").encode())


def write_options(options: DemoOptions) -> None:
    """What the run was asked for, so that its community can be made again."""
    data = {
        "format": DEMO_FORMAT,
        "members": options.members,
        "days": options.days,
        "first_day": options.first_day.isoformat(),
        "seed": options.seed,
    }
    write_atomically(options.output / "demo.json", (json.dumps(data, indent=2) + "\n").encode())


def audit_verified(
    client: ChainClient, contracts: CommunityContracts, folder: Path
) -> AuditVerdict:
    """The auditor's verdict on everything that was settled.

    Raises:
        AuditFailed: it is not `verified`.
    """
    verdict = audit(
        client.web3, contracts.addresses["ClearingHouse"], BundleFiles(folder / "bundles")
    )
    if verdict.verdict != "verified":
        raise AuditFailed(
            "; ".join(
                f"{check.what}: {check.detail}" for check in verdict.all_checks if not check.passed
            ),
            "report this with the output folder",
        )
    return verdict


class Demonstration:
    """The run, step by step."""

    def __init__(
        self,
        options: DemoOptions,
        community: DemoCommunity,
        client: ChainClient,
        store: LedgerStore,
        progress: Progress,
    ) -> None:
        self.options = options
        self.community = community
        self.client = client
        self.store = store
        self.progress = progress
        self.gas = GasBook()
        self.last_reading: dict[str, SignedReading] = {}
        self.deployer = community.account("deployer")
        self.coordinator_key = community.account("coordinator")
        self.signer_keys = [
            private_key(community.key("oracle signer", index)) for index in range(ORACLE_SIGNERS)
        ]
        self.challenge_seconds = (
            _CHALLENGE_SECONDS if client.can_travel else _SHORT_CHALLENGE_SECONDS
        )

    def run(self, periods: list[Period]) -> DemoRun:
        """All of it."""
        self._deploy(periods[0])
        run = DemoRun(self.options, self.community, self.contracts, self.client.chain_id, self.gas)
        self._deposit()
        coordinator = self._coordinator()
        coordinator.post_bond()
        meters = self._meters()
        for number, period in enumerate(periods):
            self._before(period)
            signed = self._report(run, meters, period)
            self._settle(run, coordinator, period, signed, with_lies=number == 0)
        self._finalise(run, coordinator)
        run.gas_used, run.transactions = self.client.gas_used, self.client.transactions
        write_chain(self.options.output, self.client, self.contracts, self.options.chain_url)
        write_options(self.options)
        self.progress.step("the auditor recomputes everything from chain and bundle")
        run.verdict = audit_verified(self.client, self.contracts, self.options.output)
        return run

    # --- Before the first day ------------------------------------------------------------------------------------------

    def _deploy(self, first_period: Period) -> None:
        wallets = [item.wallet.address for item in self.community.participants]
        payers = [self.deployer.address, self.coordinator_key.address, *wallets]
        self.progress.step("fund keys and deploy the contracts", len(payers) + 10)
        self.client.fund(payers[:2], 20 * _ETHER)
        self.client.fund(payers[2:], _ETHER // 10)
        for _ in payers:
            self.progress.part()
        deployment = deploy_community(
            self.client,
            self.deployer,
            DeploymentSettings(
                parameters=self._parameters(first_period),
                oracle=OracleConfig(
                    ORACLE_THRESHOLD, tuple(address_of(key) for key in self.signer_keys)
                ),
                collateral_step_nano=_COLLATERAL_STEP_NANO,
                token_decimals=_TOKEN_DECIMALS,
                coordinator=self.coordinator_key.address,
                supplier=self.community.account("supplier").address,
                dso=self.community.account("dso").address,
                fund=self.community.account("fund").address,
            ),
            lambda step: self.progress.part(),
        )
        self.contracts = deployment.contracts
        for gas in deployment.gas_used:
            self.gas.add("deploy", gas)
        self.progress.step("admit the members, announce the tariff")
        announced = self.client.send(
            self.contracts.announce_tariff(
                self.community.market,
                self.community.tariff.share_millionths,
                first_period.number,
            ),
            self.deployer,
        )
        self.gas.add("announce tariff", announced.gas_used)
        admissions = admit_members(
            self.client,
            self.deployer,
            self.contracts,
            [(item.member, item.wallet) for item in self.community.participants],
            self.community.market,
            first_period.number,
            _COLLATERAL_STEPS,
        )
        for gas in admissions:
            self.gas.add("admit", gas)
        members = self.community.members
        activated = self.client.send(
            self.contracts.activate_meters(
                [member.meter for member in members],
                [member.slot for member in members],
                # The register at the start of the first interval is read at the end of the one before.
                first_period.first_interval - 1,
            ),
            self.deployer,
        )
        self.gas.add("activate meters", activated.gas_used)
        self.client.send(
            self.contracts.grant_role(AUDITOR_ROLE, self.community.account("auditor").address, 0),
            self.deployer,
        )
        self._extend(first_period)
        for gas in hand_over(
            self.client,
            self.deployer,
            self.contracts,
            self.community.account("administrator").address,
            _CHANGE_DELAY_SECONDS,
        ):
            self.gas.add("hand over", gas)
        self.store.add_members(self.community.members, first_period.number)

    def _parameters(self, first_period: Period) -> FoundingParameters:
        """What the community is founded with."""
        return founding_parameters(
            first_period,
            challenge_seconds=self.challenge_seconds,
            bond_wei=_BOND_WEI,
            demand_bond_wei=_DEMAND_BOND_WEI,
        )

    def _extend(self, first_period: Period) -> None:
        """What else is set up before the founder lets go of its roles."""

    def _before(self, period: Period) -> None:
        """What happens before a period is metered."""

    def _deposit(self) -> None:
        participants = self.community.participants
        nano = _DEPOSIT_NANO + _DEPOSIT_PER_DAY_NANO * self.options.days
        tokens = nano // _NANO_PER_TOKEN
        self.progress.step("members deposit test tokens", len(participants) + 1)
        for item in participants:
            self.client.send(self.contracts.mint(item.wallet.address, tokens), self.deployer)
            self.client.send(self.contracts.approve(tokens), item.wallet)
            sent = self.client.send(self.contracts.deposit(item.member.slot, tokens), item.wallet)
            self.gas.add("deposit", sent.gas_used)
            self.progress.part()
        # On sunny days the outside supplier owes for what it takes; the coordinator vouches for it.
        guarantee = len(participants) * tokens
        key = self.coordinator_key
        self.client.send(self.contracts.mint(key.address, guarantee), self.deployer)
        for call in (
            self.contracts.approve(guarantee),
            self.contracts.deposit_guarantee(guarantee),
            self.contracts.grant_credit(SUPPLIER_SLOT, len(participants) * nano),
        ):
            self.client.send(call, key)
        self.progress.part()

    def _coordinator(self) -> Coordinator:
        return Coordinator(
            client=self.client,
            contracts=self.contracts,
            key=self.coordinator_key,
            market=self.community.market,
            tariff=self.community.tariff,
            store=self.store,
            bundle_folder=self.options.output / "bundles",
            salt_key=self.community.key("coordinator salts"),
            solver=self.options.solver,
        )

    # --- Oracle --------------------------------------------------------------------------------------------------------

    def _meters(self) -> list[Meter]:
        domain = domain_separator(self.client.chain_id, self.contracts.addresses["ReadingOracle"])
        return [Meter(item.meter_key, domain) for item in self.community.participants]

    def _report(self, run: DemoRun, meters: list[Meter], period: Period) -> SignedReport:
        participants = self.community.participants
        self.progress.step(f"{period.day}: meters sign their registers", len(participants))
        received: dict[str, list[SignedReading]] = {}
        for meter, item in zip(meters, participants, strict=True):
            imported, exported = self._metered(item, period)
            # The register at the end of the day before: read once, then carried over.
            before = self.last_reading.get(meter.address) or meter.read(period.first_interval - 1)
            received[meter.address] = [
                before,
                *meter.run(period.first_interval, imported, exported),
            ]
            self.last_reading[meter.address] = received[meter.address][-1]
            self.progress.part()
        domain = domain_separator(self.client.chain_id, self.contracts.addresses["ReadingOracle"])
        settings = OracleSettings(
            domain=domain,
            config_digest=self.contracts.oracle_config_digest(),
            threshold=ORACLE_THRESHOLD,
            salt_keys={
                member.slot: self.community.key("reading salts", member.slot)
                for member in self._accounts()
            },
        )
        self.progress.step(
            f"{period.day}: each of {ORACLE_SIGNERS} oracle signers verifies every signature",
            ORACLE_SIGNERS,
        )
        confirmations = []
        for key in self.signer_keys:
            signer = OracleSigner(key, settings)
            confirmations.append(
                signer.confirm(
                    period,
                    0,
                    self._accounts(),
                    self.community.market,
                    received,
                    self._traded(period),
                )
            )
            self.progress.part()
        signed = assemble(confirmations, ORACLE_THRESHOLD, domain)
        rejected = {id(item.signed): item.reason for item in signed.rejections}
        self.store.add_readings(
            (reading, rejected.get(id(reading), ""))
            for readings in received.values()
            for reading in readings
        )
        run.signatures_verified += sum(len(readings) for readings in received.values())
        return signed

    def _metered(self, item: Participant, period: Period) -> tuple[list[int], list[int]]:
        """What a household imports and exports in each interval."""
        imported, exported = interval_energy_wh(item.household, period.day, self.community.feeder)
        return imported.tolist(), exported.tolist()

    def _accounts(self) -> Sequence[Member]:
        """Whom the oracle reports on, in slot order."""
        return self.community.members

    def _traded(self, period: Period) -> TradedPeriod | None:
        """What a signer finds in the trade books, where members trade before delivery."""
        return None

    # --- Clearing, lies, settlement --------------------------------------------------------------------------------------

    def _settle(
        self,
        run: DemoRun,
        coordinator: Coordinator,
        period: Period,
        signed: SignedReport,
        *,
        with_lies: bool,
    ) -> None:
        self.progress.step(
            f"{period.day}: clear {period.interval_count} intervals at least cost",
            period.interval_count,
        )
        cleared = coordinator.clear(
            signed.member_periods, period, lambda index: self.progress.part()
        )
        previous = run.prepared[-1].batch if run.prepared else None

        def prepare(intervals: tuple[ClearedInterval, ...]) -> PreparedPeriod:
            return coordinator.prepare(
                period=period,
                report=signed.report,
                signatures=signed.signatures,
                member_periods=signed.member_periods,
                cleared=intervals,
                previous=previous,
            )

        if with_lies:
            self.progress.step(f"{period.day}: a lie about the optimum is submitted")
            self._lie_about_optimum(run, coordinator, prepare, cleared)
            self.progress.step(f"{period.day}: a lie about a bill is submitted and challenged")
            run.lies.append(self._lie_about_bill(run, coordinator, prepare(cleared)))
        self.progress.step(f"{period.day}: the honest batch is submitted and proved on chain")
        prepared = prepare(cleared)
        sent = coordinator.submit(prepared)
        self.gas.add("submit batch", sent.gas_used)
        if self._wrong_bills(run, prepared):
            raise AuditFailed("a member finds its bill wrong in an honest batch", "report this")
        run.prepared.append(prepared)

    def _wrong_bills(self, run: DemoRun, prepared: PreparedPeriod) -> list[int]:
        """Every member recomputes its own bill."""
        run.bills_recomputed += len(prepared.batch.member_periods)
        share = self.community.tariff.share_millionths
        steps = [interval_steps(interval, share) for interval in prepared.cleared]
        return wrong_bills(prepared.batch, self.community, steps)

    def _lie_about_optimum(
        self,
        run: DemoRun,
        coordinator: Coordinator,
        prepare: Callable[[tuple[ClearedInterval, ...]], PreparedPeriod],
        cleared: tuple[ClearedInterval, ...],
    ) -> None:
        found = worse_clearing(cleared, self.community.tariff.share_millionths)
        if found is None:  # nobody traded all day, so there is nothing to keep from anybody
            return
        index, worse = found
        withheld = sum(cleared[index].solution.matched_demand_wh)
        try:
            coordinator.submit(prepare(worse))
        except ContractRefused as refused:
            run.lies.append(
                Lie(
                    what=f"{withheld} Wh kept from the neighbours in interval {index}",
                    outcome="refused",
                    by="ClearingHouse contract",
                    detail=refused.message,
                )
            )
            return
        raise AuditFailed("the contract accepted a clearing that is not optimal", "report this")

    def _lie_about_bill(
        self, run: DemoRun, coordinator: Coordinator, honest: PreparedPeriod
    ) -> Lie:
        victim = self._victim(honest)
        lie = coordinator.seal(
            replace(honest, batch=overcharge(honest.batch, victim, SUPPLIER_SLOT))
        )
        coordinator.submit(lie)
        wrong = self._wrong_bills(run, lie)
        if not wrong:
            raise AuditFailed("no member noticed a wrong bill", "report this")
        slot = wrong[0]
        participant = self._participant(slot)
        before = self.client.balance_wei(participant.address)
        sent = self.client.send(
            self.contracts.challenge_amount(
                lie.batch, slot, self.community.market, self.community.tariff.share_millionths
            ),
            participant,
        )
        self.gas.add("challenge", sent.gas_used)
        self.store.set_batch_state(
            lie.batch.header.hash(),
            BatchState.VOIDED,
            reason=f"amount of slot {slot} challenged by its member",
        )
        won = self.client.balance_wei(participant.address) - before
        if won <= 0 or self.contracts.head_number() >= lie.batch.header.number:
            raise AuditFailed("the challenge did not overturn the batch", "report this")
        # Half the bond is gone; no batch is accepted until it is whole again.
        coordinator.post_bond()
        name = lie.batch.member_periods[slot].member.name
        return Lie(
            what=f"{name} billed {OVERCHARGE_NANO / 10**9:.2f} EUR too much",
            outcome="overturned",
            by=f"{name}, in one transaction",
            detail=f"challengeAmount, {sent.gas_used} gas; half the bond paid to {name}, half burned",
        )

    @staticmethod
    def _victim(prepared: PreparedPeriod) -> int:
        """Who pays the most: the bill where a few euros more are noticed least."""
        leaves = prepared.batch.leaves
        return min(prepared.batch.member_periods, key=lambda slot: leaves[slot].amount_nano)

    def _participant(self, slot: int) -> LocalAccount:
        return next(item.wallet for item in self.community.participants if item.member.slot == slot)

    # --- After the last day ----------------------------------------------------------------------------------------------

    def _finalise(self, run: DemoRun, coordinator: Coordinator) -> None:
        self.progress.step("the challenge window passes; batches become final")
        self.client.advance(self.challenge_seconds + 1)
        for prepared in run.prepared:
            if not coordinator.finalise(prepared.batch):
                raise AuditFailed("a batch did not become final", "report this")
        batch = run.prepared[-1].batch
        richest = sorted(
            batch.member_periods, key=lambda slot: -batch.leaves[slot].cumulative_nano
        )[:_WITHDRAWING]
        self.progress.step("members withdraw with a Merkle proof", len(richest))
        for slot in richest:
            key = self._participant(slot)
            tokens = self.contracts.withdrawable(slot, batch)
            before = self.contracts.token_balance(key.address)
            sent = self.client.send(self.contracts.withdraw(tokens, batch, slot), key)
            if self.contracts.token_balance(key.address) - before != tokens:
                raise AuditFailed(f"withdrawal of slot {slot} paid another amount", "report this")
            self.gas.add("withdraw", sent.gas_used)
            run.withdrawals.append(Withdrawal(slot, tokens))
            self.progress.part()
        CommunityBooks(
            self.client.web3,
            embedded_network(self.client.chain_id),
            self.contracts,
            self.store.engine,
            self.options.output / "bundles",
        ).follow()


__all__ = ["DemoOptions", "DemoRun", "Progress", "replay", "run_demo"]
