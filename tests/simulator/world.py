"""A community of an hour's periods on a real node, in which everything can go wrong at a time that follows from a seed.

One node for all runs: each starts from the same snapshot. Clocks, mining, readings, the broker and faults are the world's; the
coordinator, its database, the signers and the contracts are the real ones.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlmodel import Session, select
from web3 import HTTPProvider, Web3

from backend.chain.client import ChainClient
from backend.chain.networks import Network
from backend.chain.sender import Sender
from backend.demo.community import ORACLE_THRESHOLD
from backend.domain.community import SUPPLIER_SLOT, Member
from backend.domain.errors import LeadershipLost, PeerwattError
from backend.domain.intervals import Period
from backend.domain.states import CycleState
from backend.ledger.check import check
from backend.ledger.journal import balances_nano, export
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from backend.ledger.tables import IntentRow
from backend.operator.books import CommunityBooks
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.oracle_reports import OracleSigners
from backend.operator.periods import PeriodCycle
from backend.operator.preparation import Preparer
from backend.settlement.batch import MemberPeriod
from backend.settlement.encoding import domain_separator, genesis_hash
from contracts.bindings import CommunityContracts
from oracle.config import ConfigFile
from oracle.meter import Meter
from oracle.signing import address_of, private_key
from oracle.sources.simbench import interval_energy_wh
from oracle.wire import pack
from tests.simulator.broker import Broker
from tests.simulator.faults import Faults, FaultyProvider, Killed
from tests.simulator.signers import LocalSigner, make_node, signer_config
from tests.support.anvil import ask, running_anvil
from tests.support.town import (
    DAY,
    FIRST_PERIOD,
    INTERVALS,
    NANO_PER_TOKEN,
    NOON,
    Town,
    build_town,
    period_at,
)

FINALITY_DEPTH = 4
PERIODS = 2
TICK_SECONDS = 900
FAULTY_TICKS = 4 * PERIODS + 8
CALM_TICKS = 80
DEPOSIT_TOKENS = 50_000_000
# By so many seconds a coordinator's clock goes wrong.
CLOCK_STEPS = (-7200.0, -600.0, 45.0, 1800.0, 10_000.0)


def period_by_number(number: int) -> Period:
    """The periods of a run; those after it never end."""
    offset = number - FIRST_PERIOD.number
    return period_at(offset if offset < PERIODS else offset + 10**6)


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class TownRules:
    """The community's configuration."""

    town: Town
    salt_key: bytes

    def period(self, number: int) -> Period:
        return period_by_number(number)

    @cached_property
    def _preparer(self) -> Preparer:
        town = self.town
        house = town.contracts.addresses["ClearingHouse"]
        genesis = genesis_hash(
            town.client.chain_id, house, FIRST_PERIOD.number, FIRST_PERIOD.first_interval
        )
        tariff = town.people.tariff
        return Preparer(tariff, town.client.chain_id, house, genesis, self.salt_key)

    def preparer(self, number: int) -> Preparer:
        return self._preparer

    def members(self, number: int) -> tuple[Member, ...]:
        return self.town.people.members


class FullDiskStore(FolderStore):
    """A folder whose disk may be full, and a process that may be killed around each file."""

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(folder)
        self._world = world

    def put(self, name: str, data: bytes) -> None:
        self._world.faults.point(f"before {name.split('/', maxsplit=1)[0]}")
        if self._world.disk_is_full:
            from backend.operator.bundle_store import _failed

            raise _failed(OSError(28, "simulated"))
        super().put(name, data)
        self._world.faults.point(f"after {name.split('/', maxsplit=1)[0]}")


class Process:
    """A coordinator's process: everything it has in memory.

    Args:
        world: where it runs.
        index: which of two, each with a clock of its own.
    """

    def __init__(self, world: World, index: int = 0) -> None:
        self.world = world
        self.store = LedgerStore(world.database)
        event.listen(self.store.engine, "commit", self._committing)
        self._commit = self.store.engine.dialect.do_commit
        self.store.engine.dialect.do_commit = self._committed  # type: ignore[method-assign]
        event.listen(self.store.engine.pool, "checkout", self._checkout)
        web3 = Web3(FaultyProvider(world.url, lambda: world.faults))
        town = world.town
        contracts = CommunityContracts(web3, town.contracts.addresses)
        # Parameters never change; read where nothing goes wrong.
        # One after the other, so that the seed decides.
        bundles = BundleStore(FullDiskStore(world.folder / "bundles", world), writers=1)
        sender = Sender(
            web3,
            world.network,
            town.coordinator_key,
            Outbox(self.store.engine),
            now=lambda: world.clock(index),
        )
        signers = OracleSigners(world.signers, contracts, town.client.chain_id)
        self.cycle = PeriodCycle(
            rules=world.rules,
            contracts=contracts,
            sender=sender,
            books=CommunityBooks(web3, world.network, contracts, self.store.engine, bundles.leaves),
            ledger=self.store,
            bundles=bundles,
            oracle=signers,
            now=lambda: world.clock(index),
            settle_after_seconds=600,
            correction_check_seconds=1200,
        )

    def is_idle(self) -> bool:
        """Whether it is in no transaction, so that another process could write."""
        return self.store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    def end(self) -> None:
        """What the operating system does with a killed process."""
        self.store.engine.dispose()

    def _committing(self, connection: Any) -> None:
        if self.world.faults.strikes("kill"):
            self.world.faults.told[-1] += " before commit"
            raise Killed("before commit")

    def _committed(self, connection: Any) -> None:
        """Commits; the answer may be lost on its way, as a server's may."""
        self._commit(connection)
        if self.world.faults.strikes("commit_answer_lost"):
            raise sqlite3.OperationalError("simulated: the connection was lost after the commit")

    def _checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        most = pages if self.world.disk_is_full else 2**30
        connection.execute(f"PRAGMA max_page_count = {max(most, 1)}")


class World:
    """One node with the community on it; `run` plays one seed."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.base = folder
        self.web3 = Web3(HTTPProvider(url))
        client = ChainClient(self.web3, embedded=False)
        ask(self.web3, "anvil_setBlockTimestampInterval", 1)
        self.network = Network("simulator", client.chain_id, FINALITY_DEPTH)
        self.town = build_town(client, folder, self.network)
        for item in self.town.people.members:
            self.town.deposit(item.slot, DEPOSIT_TOKENS)
        self._guarantee()
        self.rules = TownRules(self.town, self.town.people.key("coordinator salts"))
        self.faults = Faults(0, active=False)
        self._make_readings()
        self._make_signer_files()
        ask(self.web3, "evm_setAutomine", False)
        self._snapshot = ask(self.web3, "evm_snapshot")
        self.folder = folder
        self.now = 0.0
        self.disk_is_full = False
        self._clock_errors = [0.0, 0.0]

    def clock(self, index: int) -> float:
        """What a process takes for the time."""
        return self.now + self._clock_errors[index]

    def _guarantee(self) -> None:
        town, key = self.town, self.town.coordinator_key
        tokens = 6 * DEPOSIT_TOKENS
        for call in (
            town.contracts.mint(key.address, tokens),
            town.contracts.approve(tokens),
            town.contracts.deposit_guarantee(tokens),
            town.contracts.grant_credit(SUPPLIER_SLOT, tokens * NANO_PER_TOKEN),
        ):
            town.client.send(call, key)

    # --- Made once ---------------------------------------------------------------------------------------------------------

    def _make_readings(self) -> None:
        """Every meter's registers over all periods, signed; and the honest amounts, worked out without any fault."""
        town = self.town
        domain = domain_separator(town.client.chain_id, town.contracts.addresses["ReadingOracle"])
        self.readings: list[tuple[int, bytes]] = []
        energies: dict[int, tuple[list[int], list[int]]] = {}
        for item in town.people.participants:
            taken, given = interval_energy_wh(item.household, DAY, town.people.feeder)
            chosen = slice(NOON, NOON + PERIODS * INTERVALS)
            energies[item.member.slot] = (taken[chosen].tolist(), given[chosen].tolist())
            meter = Meter(item.meter_key, domain, 10_000, 10_000)
            signed = [
                meter.read(FIRST_PERIOD.first_interval - 1),
                *meter.run(FIRST_PERIOD.first_interval, *energies[item.member.slot]),
            ]
            self.readings += [(reading.reading.interval, pack(reading)) for reading in signed]
        self.honest_nano = [self._honest(offset, energies) for offset in range(PERIODS)]

    def _honest(
        self, offset: int, energies: dict[int, tuple[list[int], list[int]]]
    ) -> dict[int, int]:
        from backend.domain.readings import IntervalReading, Quality
        from backend.settlement.batch import build_batch
        from backend.settlement.encoding import EMPTY, OracleReport

        preparer, period = self.rules.preparer(0), period_at(offset)
        chosen = slice(offset * INTERVALS, (offset + 1) * INTERVALS)
        periods = [
            MemberPeriod(
                member,
                tuple(
                    IntervalReading(taken, given, Quality.MEASURED)
                    for taken, given in zip(
                        energies[member.slot][0][chosen],
                        energies[member.slot][1][chosen],
                        strict=True,
                    )
                ),
                bytes(32),
            )
            for member in self.town.people.members
        ]
        report = OracleReport(
            period.number, 0, period.first_interval, INTERVALS, EMPTY, EMPTY, EMPTY
        )
        batch = build_batch(
            market=preparer.market,
            share_millionths=preparer.tariff.share_millionths,
            period=period,
            report=report,
            signatures=(),
            member_periods=periods,
            cleared=preparer.clear(periods, INTERVALS),
            genesis=EMPTY,
            previous=None,
            salt_key=b"",
        )
        return {slot: amount for slot, amount in batch.due_nano.items() if amount}

    def _make_signer_files(self) -> None:
        town = self.town
        keys = [private_key(town.people.key("oracle signer", index)) for index in range(3)]
        self._signer_keys = {address_of(key): key for key in keys}
        meters = [
            {"meter": m.meter, "signers": [{"signer": m.meter, "kind": "meter"}]}
            for m in town.people.members
        ]
        (self.base / "meters.json").write_text(json.dumps({"meters": meters}))
        self._signer_file = ConfigFile.from_data(
            {
                "chain_id": town.client.chain_id,
                "clearing_house": town.contracts.addresses["ClearingHouse"],
                "oracle_contract": town.contracts.addresses["ReadingOracle"],
                "store": "",
                "meters_file": "meters.json",
                "salts_file": "",
                "keystores": "",
                "password_file": "",
                "token_file": "",
                "correction_days": 20,
                "committees": [{"threshold": ORACLE_THRESHOLD, "signers": list(self._signer_keys)}],
                "substitution": {"rules": []},
                "network": town.people.tariff.network.model_dump(mode="json", by_alias=True),
                "tariff_classes": [
                    item.model_dump(mode="json") for item in town.people.tariff.tariff_classes
                ],
                "members": [
                    {
                        "slot": m.slot,
                        "meter": m.meter,
                        "node": m.node,
                        "tariff_class": m.tariff_class,
                        "fuse_limit_wh": m.fuse_limit_wh,
                    }
                    for m in town.people.members
                ],
            }
        )

    # --- One run -----------------------------------------------------------------------------------------------------------

    def run(self, seed: int, two: bool = False) -> Faults:
        """Plays a seed and checks what has come of it.

        Raises:
            Broken: an invariant does not hold.
        """
        self.begin(seed, two)
        try:
            for _ in range(FAULTY_TICKS):
                self._tick()
            self.finish()
        except Broken as error:
            raise Broken(f"seed {seed}: {error}; faults: {self.faults.told}") from None
        finally:
            self.end()
        return self.faults

    def begin(self, seed: int, two: bool = False) -> None:
        """Everything as it was founded, on the morning of the first period."""
        self.folder = self.base / "run"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.database = f"sqlite:///{self.folder}/ledger.sqlite"
        assert ask(self.web3, "evm_revert", self._snapshot)
        self._snapshot = ask(self.web3, "evm_snapshot")
        self.now = float(FIRST_PERIOD.first_interval * 900)
        self.disk_is_full = False
        self._clock_errors = [0.0, 0.0]
        self._before_blocks: list[Any] = []
        self.faults = Faults(seed, active=False)
        self.broker = Broker(seed, lambda: self.faults)
        self._open_signers(seed)
        # Whoever watches, in memory that no kill takes.
        self._plan = self._plan_deliveries(seed)
        self.processes = [Process(self, index) for index in range(2 if two else 1)]
        self.faults.pause = self._overtake
        self.faults.active = True

    def finish(self) -> None:
        """Nothing goes wrong any more; after a while everything must be as it should.

        Raises:
            Broken: it is not.
        """
        self.faults.active = False
        self.disk_is_full = self.broker.is_down = False
        self._clock_errors = [0.0, 0.0]
        for signer in self.signers:
            signer.down[0] = False
        for _ in range(CALM_TICKS):
            if self._is_done():
                break
            self._tick()
        self._check()

    def end(self) -> None:
        """Closes what is open."""
        for process in self.processes:
            process.end()
        for signer in self.signers:
            assert signer.node is not None
            signer.node.store.close()

    def _open_signers(self, seed: int) -> None:
        salts = {
            m.slot: self.town.people.key("reading salts", m.slot) for m in self.town.people.members
        }
        config = signer_config(self._signer_file, self.base, period_by_number)
        self.signers = [
            LocalSigner(
                url=f"signer {index}",
                token="",
                node=make_node(
                    config,
                    f"sqlite:///{self.folder}/readings-{index}.sqlite",
                    item,
                    salts,
                    lambda: self.now,
                ),
                faults=lambda: self.faults,
                stream=random.Random(f"{seed} {index}"),
            )
            for index, item in enumerate(self._signer_keys.items())
        ]

    def _plan_deliveries(self, seed: int) -> list[tuple[float, int, bytes]]:
        """When which reading reaches which signer; a reading may be late, come twice, or reach one signer only."""
        draw = random.Random(f"deliveries {seed}")
        late, plan = self.faults.late_reading, []
        for interval, data in self.readings:
            at = (interval + 1) * 900.0
            if draw.random() < late:
                at += draw.choice((600, 3600, 3 * 3600, 5 * 3600))
            reached = [0, 1, 2] if draw.random() > late else [draw.randrange(3)]
            for signer in reached:
                plan.append((at + draw.choice((0, 0, 0, 60)), signer, data))
                if draw.random() < late:
                    plan.append((at + 1000, signer, data))
        return sorted(plan, key=lambda item: item[:2])

    def _tick(self) -> None:
        faults = self.faults
        self.now += TICK_SECONDS
        self._deliver()
        self._trouble()
        for _ in range(2):
            if not faults.strikes("outage"):
                for index in range(len(self.processes)):
                    self._advance(index)
            for _ in range(faults.random.choice((1, 1, 2))):
                self._mine()
        self._demand()

    def _deliver(self) -> None:
        waiting = self._plan
        due = [item for item in waiting if item[0] <= self.now]
        self._plan = [item for item in waiting if item[0] > self.now]
        for _, index, data in due:
            self.broker.publish(index, data)
        self.broker.weather()
        for index, signer in enumerate(self.signers):
            if signer.down[0]:
                self.broker.leave(index)
                continue
            assert signer.node is not None
            self.broker.deliver(index, partial(signer.node.intake.take, source="mqtt"))

    def _trouble(self) -> None:
        faults = self.faults
        self.disk_is_full = faults.strikes("disk_full")
        for signer in self.signers:
            signer.down[0] = faults.strikes("signer_down")
        for index in range(len(self.processes)):
            if faults.strikes("clock_step"):
                # Every second step sets it right again.
                right = self._clock_errors[index] != 0
                self._clock_errors[index] = 0.0 if right else faults.random.choice(CLOCK_STEPS)
        if faults.strikes("reorg"):
            self._reorg(faults.random.randint(1, FINALITY_DEPTH))

    def _advance(self, index: int) -> None:
        self._running = index
        try:
            self.processes[index].cycle.advance()
        except LeadershipLost:
            pass
        except Killed:
            self._restart(index)

    def _restart(self, index: int) -> None:
        self.processes[index].end()
        while True:
            try:
                self.processes[index] = Process(self, index)
                return
            except Killed:
                continue
            except PeerwattError:
                self.disk_is_full = False  # whoever looks after it makes room

    def _overtake(self) -> None:
        """The other process does all it can while one is between two steps."""
        if len(self.processes) < 2 or not all(item.is_idle() for item in self.processes):
            return
        pause, self.faults.pause = self.faults.pause, lambda: None
        running = self._running
        try:
            self._advance(1 - running)
        finally:
            self.faults.pause, self._running = pause, running

    def _reorg(self, depth: int) -> None:
        """The newest blocks never happened; others take their place, without the transactions."""
        depth = min(depth, len(self._before_blocks))
        if depth:
            # Later than those they replace: empty ones with the same times would be the same blocks.
            newest = self.web3.eth.get_block("latest")["timestamp"]
            self.now = max(self.now, newest) + 1
            assert ask(self.web3, "evm_revert", self._before_blocks[-depth])
            del self._before_blocks[-depth:]
            for _ in range(depth):
                self._mine()

    def _mine(self) -> None:
        self._before_blocks.append(ask(self.web3, "evm_snapshot"))
        head = self.web3.eth.get_block("latest")["timestamp"]
        ask(self.web3, "evm_setNextBlockTimestamp", max(int(self.now), head + 1))
        ask(self.web3, "evm_mine")

    def _demand(self) -> None:
        """A member wants to see an account; if nobody answers in time the batch falls, which costs the coordinator half its bond."""
        if not self.faults.strikes("demand"):
            return
        contracts = self.town.contracts
        number = contracts.head_number()
        if number == 0 or contracts.is_final(number):
            return
        header = contracts.submitted_batches()[-1].header
        slot = self.faults.random.choice(self.town.people.members).slot
        wallet = self.town.wallet(slot)
        call = contracts.demand_data(header, slot)
        try:
            built = call.build_transaction(
                {
                    "from": wallet.address,
                    "value": 10**15,
                    "nonce": self.web3.eth.get_transaction_count(wallet.address),
                }
            )
            raw = wallet.sign_transaction(built).raw_transaction
            self.web3.eth.send_raw_transaction(raw)
        except Exception:
            return

    # --- What must be true -----------------------------------------------------------------------------------------------------

    def _is_done(self) -> bool:
        items = self.processes[0].cycle.store.items()
        return (
            not self._plan
            and self.broker.is_empty()
            and len([item for item in items if item.version == 0]) >= PERIODS
            and all(item.state is CycleState.STATED for item in items)
            and self._settled() == self._owed()
        )

    def _owed(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for honest in self.honest_nano:
            for slot, amount in honest.items():
                total[f"slot:{slot}"] = total.get(f"slot:{slot}", 0) + amount
        return {account: amount for account, amount in total.items() if amount}

    def _settled(self) -> dict[str, int]:
        """By account what the journal's batches of the periods come to."""
        from backend.ledger.journal import entries

        total: dict[str, int] = {}
        with Session(self.processes[0].store.engine) as session:
            for _, entry in entries(session):
                if entry.kind in ("batch", "correction"):
                    for account, amount in entry.postings.items():
                        total[account] = total.get(account, 0) + amount
        return {account: amount for account, amount in total.items() if amount}

    def _check(self) -> None:
        process = self.processes[0]
        items = process.cycle.store.items()
        states = [(item.name, str(item.state), item.reason) for item in items]
        if not self._is_done():
            raise Broken(f"does not come to an end: {states}, {self._settled()}, {self._owed()}")
        faults = check(process.store.engine)
        if faults:
            raise Broken(f"ledger: {faults}")
        contracts, coordinator = self.town.contracts, self.town.coordinator_key
        live = process.cycle.store.live(final_only=False)
        versions = [(header.period, header.version) for _, header in live.values()]
        if len(set(versions)) != len(versions):
            raise Broken(f"settled twice: {versions}")
        if sorted(versions) != sorted((item.period, item.version) for item in items):
            raise Broken(f"chain and cycle differ: {versions}, {states}")
        if contracts.bond()[1] != contracts.parameters().bond_wei:
            raise Broken(f"bond of {contracts.bond()[1]} wei")
        with Session(process.store.engine) as session:
            intents = session.exec(select(IntentRow)).all()
            found = balances_nano(session)
            journal = export(session)
        sent = self.web3.eth.get_transaction_count(coordinator.address)
        base = min((row.nonce for row in intents), default=sent)
        if sent - base != len(intents):
            raise Broken(f"{sent - base} transactions for {len(intents)} intents")
        held = contracts.token_balance(contracts.addresses["Vault"])
        if -found["vault"] != held * NANO_PER_TOKEN:
            raise Broken("the journal's vault is not the chain's")
        newest = process.cycle.store.settled(list(live.values())[-1][0])
        for slot, cumulative in newest.cumulative_nano.items():
            deposited, withdrawn = contracts.vault_balances(slot)
            if found.get(f"slot:{slot}", 0) != deposited - withdrawn + cumulative:
                raise Broken(f"balance of slot {slot}")
        for _, header in live.values():
            for member in self.town.people.members:
                if process.cycle.bundles.statement(header.bundle_hash, member.slot) is None:
                    raise Broken(f"no statement of batch {header.number} for slot {member.slot}")
        if self._rebuilt() != journal:
            raise Broken("chain and bundles give another journal")

    def _rebuilt(self) -> bytes:
        """The journal from chain and bundles alone."""
        store = LedgerStore(f"sqlite:///{self.folder}/rebuilt.sqlite")
        bundles = BundleStore(FolderStore(self.folder / "bundles"))
        try:
            CommunityBooks(
                self.web3, self.network, self.town.contracts, store.engine, bundles.leaves
            ).follow()
            with Session(store.engine) as session:
                return export(session)
        finally:
            store.close()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A node with the community on it."""
    genesis = FIRST_PERIOD.first_interval * 900 - 86_400
    with running_anvil("--timestamp", str(genesis), "--no-request-size-limit") as url:
        yield World(url, folder)
