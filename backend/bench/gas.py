"""What a day costs on chain, by number of members and zones, on the embedded chain: `peerwatt bench gas`.

Every figure is the gas of a transaction that the real contracts executed. Members are SimBench households, more of them than
there are made by scaling and shifting; their meters' signatures are left out, because the chain never sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from rich.console import Console
from rich.table import Table
from web3.contract.contract import ContractFunction

from backend.chain.client import ChainClient, account_from_secret
from backend.demo.community import DEFAULT_DAY
from backend.domain.case import TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, SUPPLIER_SLOT, Member
from backend.domain.intervals import Period, local_day
from backend.domain.readings import IntervalReading, Quality
from backend.market.network import zonal_network
from backend.market.pool import Pool
from backend.market.problem import build_market
from backend.settlement.batch import Batch, MemberPeriod, build_batch
from backend.settlement.clearing_encoding import pack_totals
from backend.settlement.encoding import (
    OracleReport,
    derive_salt,
    domain_separator,
    genesis_hash,
)
from backend.settlement.trees import PositionalTree
from contracts.bindings import CommunityContracts, MemberRecord, OracleConfig
from deploy.community import (
    REGISTRAR_ROLE,
    DeploymentSettings,
    deploy_community,
    founding_parameters,
    member_record,
    sign_membership,
)
from oracle.committee import group_totals
from oracle.signing import address_of, private_key, sign_report
from oracle.sources.simbench import interval_energy_wh, load_feeder, select_households

from .challenge_gas import challenge_gas

SIZES = (20, 100, 1000)
FULL_SIZES = (*SIZES, 10_000)
ZONES = (1, 4)
# EIP-7825: no transaction may take more.
TRANSACTION_LIMIT = 16_777_216
# EIP-2929 and EIP-2200: each of what a transaction touches for the first time.
_TRANSACTION_GAS, _RECOVERY_GAS, _CALL_GAS = 21_000, 3_000, 2_600
_READ_GAS, _CHANGED_WORD_GAS, _NEW_WORD_GAS = 2_100, 5_000, 22_100
_SHARE_MILLIONTHS = 500_000
_CLASS = TariffClass(
    id="household", import_price_nano_per_wh=320_000, export_price_nano_per_wh=80_000
)
_ETHER = 10**18
_DAY_SECONDS = 86_400
_TOKENS = 10**9
# So many of the smallest community have a surplus and never paid in.
_TOGETHER = 6
# What others take for one member and quarter-hour; run or published, as docs/benchmarks.md says.
PEERS = (
    ("Hypha", 105_000),
    ("TRANSAX", 133_000),
    ("BloGPV, without proving", 221_000),
    ("lemlab fork", 342_000),
)


@dataclass(frozen=True, slots=True)
class DayCost:
    """One size's gas.

    Attributes:
        submit: the day's batch; nothing more is sent until it is final.
        calldata_bytes: of that transaction.
        calldata_gas: what it pays for them.
        floor_7623: least that EIP-7623 lets a transaction with this calldata pay.
        least: what nobody can do without who brings these bytes on chain and has them signed: see `_least`.
        challenges: of every challenge and demand, by its function's name.
        reveals: what a member's readings and the prices take of those that show them, as calldata.
        withdraw_first: withdrawal by an account that never paid in, to a wallet that has never held the token.
        withdraw_first_least: what nobody can do without who proves that in a transaction of its own and pays in such a token.
        withdraw_first_shared: the same where `_TOGETHER` accounts go in one transaction, for one of them.
        withdraw: to one that has.
        announce: a withdrawal announced, as it has to be where batches are always open.
        withdraw_open: then withdrawn, while a batch is open, to a wallet that has held the token.
        admit: a member joins, with its signature, through a registrar without delay as founders are.
        admit_delayed: through one with a delay: announced (`schedule`) and then done.
        depart: it leaves.
    """

    members: int
    zones: int
    two_sided: int
    submit: int
    calldata_bytes: int
    calldata_gas: int
    floor_7623: int
    least: int
    challenges: dict[str, int]
    reveals: dict[str, int]
    withdraw_first: int
    withdraw_first_least: int
    withdraw_first_shared: int
    withdraw: int
    announce: int
    withdraw_open: int
    admit: int
    admit_delayed: int
    depart: int

    @property
    def per_member_interval(self) -> float:
        """Gas for one member and quarter-hour."""
        return self.submit / (self.members * 96)

    @property
    def dearest(self) -> tuple[str, int]:
        """The challenge that takes most besides what readings and prices take to show, and how much that is."""
        beside = {name: gas - self.reveals.get(name, 0) for name, gas in self.challenges.items()}
        return max(beside.items(), key=lambda item: item[1])


def bench_gas(
    sizes: Sequence[int], progress: Callable[[str], None] = lambda line: None
) -> list[DayCost]:
    """Measures every size with every number of zones.

    Args:
        sizes: numbers of members.
        progress: told what comes next.
    """
    found = []
    for size in sizes:
        for zones in ZONES:
            progress(f"{size:,} members, {zones} zone{'s' if zones > 1 else ''}")
            found.append(Day(size, zones).cost())
    return found


class Day:
    """One community's day, from readings to withdrawals."""

    def __init__(self, size: int, zones: int) -> None:
        self.size, self.zones = size, zones
        self.client = ChainClient.open(None)
        self.founder = account_from_secret(keccak(b"peerwatt bench founder"))
        self.signer_keys = [private_key(keccak(b"peerwatt bench signer %d" % i)) for i in range(3)]
        self.period = local_day(DEFAULT_DAY)
        names = [f"zone-{index}" for index in range(zones)]
        network = zonal_network(names, pairwise(names), 10_000, access_fee_nano_per_wh=15_000)
        self.wallets: dict[int, LocalAccount] = {}
        self.members = [self._member(index, names[index % zones]) for index in range(size)]
        keys = sorted({(member.node, member.tariff_class) for member in self.members})
        self.market = build_market(network, (_CLASS,), keys)
        self.share_millionths = _SHARE_MILLIONTHS
        # Slot that is given out, and takes part from the day after.
        self.newcomer = FIRST_MEMBER_SLOT + 2 + _TOGETHER
        self.contracts = self._deploy(self.period)

    def _member(self, index: int, zone: str) -> Member:
        slot = FIRST_MEMBER_SLOT + index
        self.wallets[slot] = account_from_secret(keccak(b"peerwatt bench wallet %d" % slot))
        account = self.wallets[slot].address
        return Member(slot, f"member-{index}", account, account, zone, _CLASS.id, 11_000)

    def _deploy(self, period: Period) -> CommunityContracts:
        # On every public chain the zero address holds something; making an account for the burned half would cost 25 000 more.
        self.client.fund([self.founder.address, "0x" + "00" * 20], 100 * _ETHER)
        account = self.founder.address
        settings = DeploymentSettings(
            parameters=founding_parameters(
                period,
                challenge_seconds=_DAY_SECONDS,
                bond_wei=_ETHER,
                demand_bond_wei=_ETHER // 1000,
                # The day is long over.
                correction_seconds=2**32 - 1,
            ),
            oracle=OracleConfig(2, tuple(address_of(key) for key in self.signer_keys)),
            collateral_step_nano=10**9,
            token_decimals=6,
            coordinator=account,
            supplier=account,
            dso=account,
            fund=account,
        )
        contracts = deploy_community(self.client, self.founder, settings).contracts
        self.send(contracts.announce_tariff(self.market, _SHARE_MILLIONTHS, period.number))
        self.send(contracts.post_bond(), value_wei=2 * _ETHER)
        return contracts

    def send(self, call: ContractFunction, value_wei: int = 0) -> int:
        """Sends a call as founder and coordinator; returns its gas."""
        return self.client.send(call, self.founder, value_wei).gas_used

    def submit(self, batch: Batch, corrected: Batch | None = None) -> int:
        """Submits a batch, or a correction; returns its gas."""
        return self.send(self._submission(batch, corrected))

    def _submission(self, batch: Batch, corrected: Batch | None = None) -> ContractFunction:
        given = (batch, self.market, _SHARE_MILLIONTHS, self.contracts.oracle_config())
        if corrected is None:
            return self.contracts.submit_batch(*given)
        return self.contracts.submit_correction(*given, corrected.header)

    def cost(self) -> DayCost:
        """Runs the day and reads the bills."""
        batch, two_sided = self._batch()
        correction, _ = self._batch(batch)
        slots = [FIRST_MEMBER_SLOT + index for index in range(2 + _TOGETHER)]
        admit = max(self._admit(slot) for slot in slots)
        admit_delayed = self._admit_delayed(self.newcomer)
        challenges = challenge_gas(self, batch, correction)
        data = _data(self._submission(batch))
        submit = self.submit(batch)
        self.client.advance(_DAY_SECONDS + 1)
        self._deposit(SUPPLIER_SLOT)
        least_first = _least_first_withdrawal(self.contracts.withdraw(_TOKENS, batch, slots[0]))
        first = [self._withdraw(batch, slot) for slot in slots[:2]]
        together = {slot: self.contracts.withdrawable(slot, batch) for slot in slots[2:]}
        shared = self.send(self.contracts.withdraw_many(together, batch)) // _TOGETHER
        withdraw = self._withdraw(batch, slots[1], half=True)
        announce, withdraw_open = self._withdraw_while_open(batch, slots[0], correction)
        depart = self.send(
            self.contracts.end_membership(slots[0], self.contracts.first_future_period())
        )
        tokens = 10 * sum(4 if byte else 1 for byte in data)
        shown = [_reveal(item, slots[0]) for item in (batch, correction)]
        return DayCost(
            members=self.size,
            zones=self.zones,
            two_sided=two_sided,
            submit=submit,
            calldata_bytes=len(data),
            calldata_gas=_calldata_gas(data),
            floor_7623=21_000 + tokens,
            least=_least(batch),
            challenges=challenges,
            reveals={"challengeAmount": shown[0], "challengeCorrectedAmount": sum(shown)},
            withdraw_first=first[0],
            withdraw_first_least=least_first,
            withdraw_first_shared=shared,
            withdraw=withdraw,
            announce=announce,
            withdraw_open=withdraw_open,
            admit=admit,
            admit_delayed=admit_delayed,
            depart=depart,
        )

    def _batch(self, corrected: Batch | None = None) -> tuple[Batch, int]:
        """The day's batch, or a correction of it to slightly other readings of everybody, and intervals with both sides."""
        version = corrected.header.version + 1 if corrected else 0
        feeder = load_feeder()
        # The largest roofs first: slots are given out in order, and these are the ones that withdraw.
        households = sorted(
            select_households(feeder, self.size, 0), key=lambda household: -household.pv_peak_w
        )
        items = []
        for member, household in zip(self.members, households, strict=True):
            imported, exported = interval_energy_wh(household, DEFAULT_DAY, feeder)
            readings = tuple(
                IntervalReading(int(one) + version, int(other), Quality.MEASURED)
                for one, other in zip(imported, exported, strict=True)
            )
            salt = derive_salt(
                keccak(b"bench"), "readings", self.period.number, version, member.slot
            )
            items.append(MemberPeriod(member, readings, salt))
        totals = group_totals(items, self.market, self.period)
        report = OracleReport(
            period=self.period.number,
            version=version,
            first_interval=self.period.first_interval,
            interval_count=self.period.interval_count,
            readings_root=PositionalTree({item.member.slot: item.leaf() for item in items}).root,
            totals_hash=keccak(pack_totals(totals)),
            config_digest=self.contracts.oracle_config_digest(),
        )
        addresses = self.contracts.addresses
        domain = domain_separator(self.client.chain_id, addresses["ReadingOracle"])
        keys = sorted(self.signer_keys, key=lambda key: int(address_of(key), 16))[:2]
        parameters = self.contracts.parameters()
        groups = tuple(
            self.market.group_index[member.node, member.tariff_class] for member in self.members
        )
        nets = [
            tuple(item.readings[index].net_wh for item in items)
            for index in range(self.period.interval_count)
        ]
        cleared = list(Pool(self.market, "auto").clear_many(groups, nets))
        batch = build_batch(
            market=self.market,
            share_millionths=_SHARE_MILLIONTHS,
            period=self.period,
            report=report,
            signatures=[sign_report(key, domain, report) for key in keys],
            member_periods=items,
            cleared=cleared,
            genesis=genesis_hash(
                self.client.chain_id,
                addresses["ClearingHouse"],
                parameters.first_period,
                parameters.first_interval,
            ),
            previous=corrected,
            corrected=corrected,
            salt_key=keccak(b"bench"),
        )
        return batch, sum(any(demand) and any(supply) for demand, supply in totals)

    def _admit(self, slot: int) -> int:
        return self.send(self._admission(slot, self.period.number))

    def _admission(self, slot: int, from_period: int) -> ContractFunction:
        member = self.members[slot - FIRST_MEMBER_SLOT]
        record: MemberRecord = member_record(member, self.market, from_period, 0)
        consent = sign_membership(self.client, self.contracts, slot, record, self.wallets[slot])
        return self.contracts.admit(slot, record, consent)

    def _admit_delayed(self, slot: int) -> int:
        role, founder = REGISTRAR_ROLE, self.founder.address
        self.send(self.contracts.grant_role(role, founder, _DAY_SECONDS))
        admission = self._admission(slot, self.period.number + 1)
        gas = self.send(self.contracts.schedule(admission))
        self.client.advance(_DAY_SECONDS)
        gas += self.send(admission)
        self.send(self.contracts.grant_role(role, founder, 0))
        self.client.advance(_DAY_SECONDS)
        return gas

    def _deposit(self, slot: int) -> None:
        self.send(self.contracts.mint(self.founder.address, _TOKENS))
        self.send(self.contracts.approve(_TOKENS))
        self.send(self.contracts.deposit(slot, _TOKENS))

    def _withdraw_while_open(self, batch: Batch, slot: int, later: Batch) -> tuple[int, int]:
        wallet = self.wallets[slot]
        self.client.fund([wallet.address], _ETHER)
        tokens = self.contracts.withdrawable(slot, batch) // 2
        call = self.contracts.announce_withdrawal(tokens, batch, slot)
        announce = self.client.send(call, wallet).gas_used
        self.client.advance(_DAY_SECONDS // 2)
        self.submit(later, batch)
        self.client.advance(_DAY_SECONDS // 2 + 1)
        return announce, self.send(self.contracts.withdraw(tokens, batch, slot))

    def _withdraw(self, batch: Batch, slot: int, *, half: bool = False) -> int:
        left = self.contracts.withdrawable(slot, batch)
        return self.send(self.contracts.withdraw(left if half else left // 2, batch, slot))


def _reveal(batch: Batch, slot: int) -> int:
    """What a member's readings and the prices take as they are shown in a challenge."""
    readings = batch.member_periods[slot].packed()
    return _calldata_gas(readings) + _calldata_gas(batch.packed_prices)


def _calldata_gas(data: bytes) -> int:
    return sum(16 if byte else 4 for byte in data)


def _data(call: ContractFunction) -> bytes:
    return bytes.fromhex(call._encode_transaction_data()[2:])


def _least(batch: Batch) -> int:
    """A transaction, the bytes of the clearing, two signatures, the read of the tariff and one new word of storage."""
    signed = 2 * _RECOVERY_GAS
    return _TRANSACTION_GAS + _calldata_gas(batch.clearing) + signed + 2 * _READ_GAS + _NEW_WORD_GAS


def _least_first_withdrawal(call: ContractFunction) -> int:
    """A transaction, the proof's bytes, the record that the batch is final, the owner's address, a call of the token, the vault's tokens
    changed, and two new words of storage: the owner's tokens, and that so much has left.
    """
    return (
        _TRANSACTION_GAS
        + _calldata_gas(_data(call))
        + 2 * _READ_GAS
        + _CALL_GAS
        + _CHANGED_WORD_GAS
        + 2 * _NEW_WORD_GAS
    )


def cost_rows(costs: Sequence[DayCost]) -> Iterator[dict[str, Any]]:
    """As JSON data, with what the targets say."""
    base = {cost.zones: cost.submit for cost in costs if cost.members == 100}
    for cost in costs:
        data: dict[str, Any] = {name: getattr(cost, name) for name in DayCost.__dataclass_fields__}
        data["dearest_challenge"], data["dearest_challenge_gas"] = cost.dearest
        data["per_member_interval"] = round(cost.per_member_interval, 3)
        data["growth_against_100_members"] = (
            round(cost.submit / base[cost.zones] - 1, 4) if cost.zones in base else None
        )
        data["under_transaction_limit"] = cost.submit < TRANSACTION_LIMIT
        yield data


def show_costs(costs: Sequence[DayCost], console: Console) -> None:
    """Prints the tables."""
    table = Table(show_edge=False, title="a day of 96 quarter-hours, gas")
    for name in (
        "members",
        "zones",
        "batch",
        "per member and interval",
        "calldata bytes",
        "least possible",
        "EIP-7623 floor",
        "withdraw, first",
        "least possible for it",
        f"of {_TOGETHER} at once",
        "withdraw",
        "announced",
        "while open",
        "join",
        "behind a delay",
        "leave",
    ):
        table.add_column(name, justify="right")
    for cost in costs:
        table.add_row(
            f"{cost.members:,}",
            str(cost.zones),
            f"{cost.submit:,}",
            f"{cost.per_member_interval:,.2f}",
            f"{cost.calldata_bytes:,}",
            f"{cost.least:,}",
            f"{cost.floor_7623:,}",
            f"{cost.withdraw_first:,}",
            f"{cost.withdraw_first_least:,}",
            f"{cost.withdraw_first_shared:,}",
            f"{cost.withdraw:,}",
            f"{cost.announce:,}",
            f"{cost.withdraw_open:,}",
            f"{cost.admit:,}",
            f"{cost.admit_delayed:,}",
            f"{cost.depart:,}",
        )
    console.print(table)
    console.print()
    _show_challenges(costs, console)
    peers = ", ".join(f"{name} {gas:,}" for name, gas in PEERS)
    console.print(f"Others, per member and quarter-hour: {peers}.")


def _show_challenges(costs: Sequence[DayCost], console: Console) -> None:
    table = Table(
        show_edge=False, title="a challenge, gas; in brackets without readings and prices"
    )
    table.add_column("function")
    for cost in costs:
        table.add_column(f"{cost.members:,} members, {cost.zones} z.", justify="right")
    for name in sorted(costs[0].challenges if costs else ()):
        cells = []
        for cost in costs:
            gas, shown = cost.challenges[name], cost.reveals.get(name)
            cells.append(f"{gas:,}" if shown is None else f"{gas:,} ({gas - shown:,})")
        table.add_row(name, *cells)
    console.print(table)
    for cost in costs:
        name, gas = cost.dearest
        console.print(
            f"{cost.members:,} members, {cost.zones} zones: dearest {name}, {gas:,} and what is shown"
        )
