"""The one door from Python to the contracts; nothing else knows ABI names.

Each method returns a `ContractFunction` (a call ready to be sent or read) built from our own values, or reads and returns
our own values. Custom errors are decoded here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_typing import ChecksumAddress
from eth_utils.abi import function_abi_to_4byte_selector
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractConstructor, ContractFunction, ContractFunctions
from web3.exceptions import ContractLogicError, Web3Exception

from backend.domain.community import FIRST_MEMBER_SLOT
from backend.domain.errors import ContractRefused
from backend.market.problem import Market
from backend.settlement.batch import Batch, LedgerState
from backend.settlement.clearing_encoding import edge_order, edge_words, group_words
from backend.settlement.encoding import (
    EMPTY,
    BatchHeader,
    LedgerLeaf,
    OracleReport,
)
from backend.settlement.trees import SumNode

from .artifact import artifact

# Node of accounts without a meter; MemberRegistry.NO_NODE.
NO_NODE = 2**16 - 1
FAULTS = (
    "Amount",
    "SystemAmount",
    "Cumulative",
    "TreeSum",
    "Inactive",
    "Missing",
    "Withheld",
    "Uncovered",
)

_CONTRACTS = (
    "AccessManager",
    "MemberRegistry",
    "MeterRegistry",
    "TariffBook",
    "TradeBook",
    "ReadingOracle",
    "ClearingHouse",
    "Challenges",
    "Vault",
    "TestToken",
)


def constructor(web3: Web3, name: str, *arguments: Any) -> ContractConstructor:
    """The deployment of a contract."""
    made = artifact(name)
    return web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"]).constructor(*arguments)


@cache
def _errors() -> dict[bytes, dict[str, Any]]:
    found = {}
    for name in _CONTRACTS:
        for entry in artifact(name)["abi"]:
            if entry["type"] == "error":
                found[function_abi_to_4byte_selector(entry)] = entry
    return found


def decode_revert(data: bytes) -> ContractRefused:
    """What a revert's data says.

    Args:
        data: as the node returned it; may be empty.
    """
    entry = _errors().get(data[:4])
    if entry is not None:
        values = abi_decode([item["type"] for item in entry["inputs"]], data[4:])
        arguments = dict(zip((item["name"] for item in entry["inputs"]), values, strict=True))
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in arguments.items())
        return ContractRefused(entry["name"], arguments, f"{entry['name']}({shown})")
    if data[:4] == bytes.fromhex("08c379a0"):  # Error(string)
        text = abi_decode(["string"], data[4:])[0]
        return ContractRefused("Error", {"message": text}, f"reverted: {text}")
    if data[:4] == bytes.fromhex("4e487b71"):  # Panic(uint256)
        code = abi_decode(["uint256"], data[4:])[0]
        return ContractRefused("Panic", {"code": code}, f"panic 0x{code:02x}")
    return ContractRefused("unknown", {"data": data}, f"reverted with data 0x{data.hex()}")


def _shown(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def header_tuple(header: BatchHeader) -> tuple[Any, ...]:
    """A batch header in the order of `BatchHeader` in Batch.sol, which is that of its fields here."""
    return astuple(header)


def head_tuple(header: BatchHeader) -> tuple[Any, ...]:
    """A header's part that a proof of an account needs, in the order of `LedgerHead` in Batch.sol."""
    return (
        header.number,
        header.next_period,
        header.ledger_root,
        header.ledger_depth,
        header.contents_hash(),
    )


def report_tuple(report: OracleReport) -> tuple[Any, ...]:
    """A report in the order of `OracleReport` in OracleReport.sol."""
    return (
        report.period,
        report.version,
        report.first_interval,
        report.interval_count,
        report.readings_root,
        report.totals_hash,
        report.config_digest,
    )


def leaf_tuple(leaf: LedgerLeaf) -> tuple[Any, ...]:
    """A leaf in the order of `LedgerLeaf` in LedgerLeaf.sol."""
    return (leaf.slot, leaf.sums, leaf.readings_commitment, leaf.salt)


def tariff_tuple(market: Market, share_millionths: int) -> tuple[Any, ...]:
    """A tariff in the order of `Tariff` in Tariff.sol."""
    return (
        share_millionths,
        market.graph.node_count,
        len(edge_order(market.graph).chords),
        group_words(market),
        edge_words(market.graph),
    )


def submission_tuple(
    batch: Batch, market: Market, share_millionths: int, config: OracleConfig
) -> tuple[Any, ...]:
    """A batch in the order of `Submission` in Batch.sol."""
    left, right = batch.root_children
    return (
        report_tuple(batch.report),
        (config.threshold, list(config.signers)),
        list(batch.signatures),
        tariff_tuple(market, share_millionths),
        batch.clearing,
        (batch.header.ledger_depth, left.hash, left.sums, right.hash, right.sums),
        batch.header.trades_root,
        batch.header.bundle_hash,
        batch.header.previous_batch,
    )


def entry_tuple(batch: Batch, slot: int) -> tuple[Any, ...]:
    """What a slot holds in a batch's ledger, in the order of `LedgerEntry` in Evidence.sol."""
    leaf = batch.leaves.get(slot)
    shown = leaf or LedgerLeaf(slot, 0, 0, EMPTY, EMPTY)
    return (leaf is None, leaf_tuple(shown), ledger_proof(batch, slot))


def ledger_proof(batch: Batch | LedgerState, slot: int) -> list[bytes]:
    """The slot's path; none if the tree is too small for it."""
    return batch.ledger.proof(slot) if slot >> batch.ledger.depth == 0 else []


def evidence_tuple(batch: Batch, slot: int) -> tuple[Any, ...]:
    """A member's readings with their proof, in the order of `ReadingsEvidence` in Evidence.sol."""
    item = batch.member_periods.get(slot)
    return (
        item.packed() if item else b"",
        item.salt if item else EMPTY,
        batch.readings_tree.proof(slot),
        batch.packed_prices,
    )


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """The oracle's signers, ascending, and how many of them make a report."""

    threshold: int
    signers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundingParameters:
    """What a community is founded with; see `IClearingHouse.Parameters`."""

    first_period: int
    first_interval: int
    interval_seconds: int
    shortest_period_seconds: int
    challenge_seconds: int
    correction_seconds: int
    freeze_seconds: int
    bond_wei: int
    demand_bond_wei: int


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """An account in the registry; see `IMemberRegistry.Member`."""

    account: str
    from_period: int
    until_period: int
    node: int
    tariff_class: int
    collateral_steps: int

    def is_active(self, period: int) -> bool:
        """Whether the account takes part in a period."""
        return self.from_period <= period and (not self.until_period or period < self.until_period)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What the chain stores of a batch; `batch_hash` is zero where there is none."""

    batch_hash: bytes
    submitted_at: int


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """A `BatchSubmitted` event."""

    header: BatchHeader
    batch_hash: bytes
    block_number: int
    transaction_hash: bytes


class CommunityContracts:
    """A deployed community.

    Args:
        web3: connection to the chain.
        addresses: by contract name.
    """

    def __init__(self, web3: Web3, addresses: Mapping[str, str]) -> None:
        self.web3 = web3
        self.addresses: dict[str, ChecksumAddress] = {
            name: Web3.to_checksum_address(address) for name, address in addresses.items()
        }
        self._contracts: dict[str, Contract] = {
            name: web3.eth.contract(address=address, abi=artifact(name)["abi"])
            for name, address in self.addresses.items()
        }

    @classmethod
    def from_clearing_house(cls, web3: Web3, clearing_house: str) -> CommunityContracts:
        """A community by the address of its ClearingHouse, which names the others."""
        found = cls(web3, {"ClearingHouse": clearing_house})
        functions = found.functions("ClearingHouse")
        addresses = {
            "ClearingHouse": clearing_house,
            "MemberRegistry": functions.registry().call(),
            "TariffBook": functions.tariffBook().call(),
            "ReadingOracle": functions.readingOracle().call(),
            "Challenges": functions.challenges().call(),
            "Vault": functions.vault().call(),
            "AccessManager": functions.authority().call(),
        }
        vault = cls(web3, {"Vault": addresses["Vault"]})
        addresses["TestToken"] = vault.functions("Vault").token().call()
        return cls(web3, addresses)

    def functions(self, name: str) -> ContractFunctions:
        """The functions of one of the contracts."""
        return self._contracts[name].functions

    # --- Governance --------------------------------------------------------------------------------------------------

    def grant_role(self, role: int, account: str, delay_seconds: int) -> ContractFunction:
        """Gives `account` the role; it may act `delay_seconds` after announcing."""
        return self.functions("AccessManager").grantRole(role, account, delay_seconds)

    def restrict(self, contract: str, functions: Sequence[str], role: int) -> ContractFunction:
        """Lets only holders of `role` call the named functions of `contract`."""
        target = self._contracts[contract]
        selectors = [
            function_abi_to_4byte_selector(entry)
            for entry in artifact(contract)["abi"]
            if entry["type"] == "function" and entry["name"] in functions
        ]
        return self.functions("AccessManager").setTargetFunctionRole(
            target.address, selectors, role
        )

    def set_role_admin(self, role: int, admin: int) -> ContractFunction:
        """Who may grant and revoke a role."""
        return self.functions("AccessManager").setRoleAdmin(role, admin)

    def renounce_role(self, role: int, account: str) -> ContractFunction:
        """Gives up one's own role."""
        return self.functions("AccessManager").renounceRole(role, account)

    def has_role(self, role: int, account: str) -> tuple[bool, int]:
        """Whether an account holds a role, and after which delay in seconds it can act."""
        found, delay = self.functions("AccessManager").hasRole(role, account).call()
        return bool(found), int(delay)

    def schedule(self, call: ContractFunction) -> ContractFunction:
        """Announces a call that whoever sends this may make after its delay."""
        data = call._encode_transaction_data()
        return self.functions("AccessManager").schedule(call.address, data, 0)

    def scheduled_at(self, caller: str, call: ContractFunction) -> int:
        """From when on somebody may make a call that it has announced; 0 if it has not, or too long ago."""
        manager, data = self.functions("AccessManager"), call._encode_transaction_data()
        operation = manager.hashOperation(caller, call.address, data).call()
        return int(manager.getSchedule(operation).call())

    def admitted_slot(self, data: bytes) -> int | None:
        """The slot that a call of the registry of members admits somebody to; None for another call."""
        try:
            called, arguments = self._contracts["MemberRegistry"].decode_function_input(data)
        except (ValueError, DecodingError, Web3Exception):
            return None
        return int(arguments["slot"]) if called.fn_name == "admit" else None

    def role_admin(self, role: int) -> int:
        """Who may grant and revoke a role."""
        return int(self.functions("AccessManager").getRoleAdmin(role).call())

    def is_restricted(self, contract: str, functions: Sequence[str], role: int) -> bool:
        """Whether only holders of `role` may call the named functions of `contract`."""
        target = self._contracts[contract]
        manager = self.functions("AccessManager")
        return all(
            manager.getTargetFunctionRole(
                target.address, function_abi_to_4byte_selector(entry)
            ).call()
            == role
            for entry in artifact(contract)["abi"]
            if entry["type"] == "function" and entry["name"] in functions
        )

    # --- Members, tariffs, oracle --------------------------------------------------------------------------------------

    def admit(self, slot: int, member: MemberRecord, consent: bytes) -> ContractFunction:
        """Admits an account at the next free slot, with its signature."""
        return self.functions("MemberRegistry").admit(slot, astuple(member), consent)

    def depart(self, slot: int, until_period: int) -> ContractFunction:
        """Ends the caller's own membership."""
        return self.functions("MemberRegistry").depart(slot, until_period)

    def depart_with_signature(
        self, slot: int, until_period: int, signature: bytes
    ) -> ContractFunction:
        """Ends a membership with its account's signature; anyone may send it."""
        return self.functions("MemberRegistry").departWithSignature(slot, until_period, signature)

    def end_membership(self, slot: int, until_period: int) -> ContractFunction:
        """Ends a membership; only the registrar."""
        return self.functions("MemberRegistry").endMembership(slot, until_period)

    def exclude(self, batch: Batch, slot: int) -> ContractFunction:
        """Ends the membership of an account that has less than its collateral left."""
        return self.functions("MemberRegistry").exclude(slot, *self._head_arguments(batch, slot))

    def slot_exists(self, slot: int) -> bool:
        """Whether the slot has been given out."""
        return bool(self.functions("MemberRegistry").exists(slot).call())

    def member_at(self, slot: int) -> MemberRecord:
        """The registry's entry of a slot."""
        return MemberRecord(*self.functions("MemberRegistry").memberAt(slot).call())

    def members(self) -> dict[int, MemberRecord]:
        """By slot everybody who ever was a member; slots are given out without gaps."""
        found: dict[int, MemberRecord] = {}
        slot = FIRST_MEMBER_SLOT
        while (given := _read(self.functions("MemberRegistry").memberAt(slot))) is not None:
            found[slot] = MemberRecord(*given)
            slot += 1
        return found

    def collateral_step_nano(self) -> int:
        """Nano currency units of one collateral step."""
        return int(self.functions("MemberRegistry").collateralStepNano().call())

    def activate_meters(
        self, meters: Sequence[str], slots: Sequence[int], from_interval: int
    ) -> ContractFunction:
        """Lets meters' keys sign for slots."""
        return self.functions("MeterRegistry").activate(list(meters), list(slots), from_interval)

    def revoke_meter(self, meter: str, until_interval: int) -> ContractFunction:
        """Takes a meter's key out of use."""
        return self.functions("MeterRegistry").revoke(meter, until_interval)

    def announce_tariff(
        self, market: Market, share_millionths: int, from_period: int
    ) -> ContractFunction:
        """Announces the tariff that holds from `from_period` on."""
        return self.functions("TariffBook").announce(
            tariff_tuple(market, share_millionths), from_period
        )

    def is_meter(self, meter: str) -> bool:
        """Whether a meter was ever activated."""
        return _read(self.functions("MeterRegistry").meterAt(meter)) is not None

    def announced_tariff(self, period: int) -> bytes | None:
        """Hash of the tariff that is announced for a period; None if there is none."""
        found = _read(self.functions("TariffBook").tariffHashAt(period))
        return None if found is None else bytes(found)

    def tariff_hash_at(self, period: int) -> bytes:
        """Hash of the tariff in force."""
        return bytes(self.functions("TariffBook").tariffHashAt(period).call())

    def oracle_config_digest(self) -> bytes:
        """Digest that reports must name."""
        return bytes(self.functions("ReadingOracle").configDigest().call())

    def oracle_config(self) -> OracleConfig:
        """Signers and threshold."""
        functions = self.functions("ReadingOracle")
        return OracleConfig(int(functions.threshold().call()), tuple(functions.signers().call()))

    # --- Batches -------------------------------------------------------------------------------------------------------

    def submit_batch(
        self, batch: Batch, market: Market, share_millionths: int, config: OracleConfig
    ) -> ContractFunction:
        """Submits the batch of the next period."""
        return self.functions("ClearingHouse").submitBatch(
            submission_tuple(batch, market, share_millionths, config)
        )

    def submit_correction(
        self,
        batch: Batch,
        market: Market,
        share_millionths: int,
        config: OracleConfig,
        corrected: BatchHeader,
    ) -> ContractFunction:
        """Submits a corrected version of a settled period."""
        return self.functions("ClearingHouse").submitCorrection(
            submission_tuple(batch, market, share_millionths, config), header_tuple(corrected)
        )

    def post_bond(self) -> ContractFunction:
        """Adds to the coordinator's bond behind its batches; send it with value."""
        return self.functions("ClearingHouse").postBond()

    def withdraw_bond(self) -> ContractFunction:
        """Returns the bond to its owner while no batch is open."""
        return self.functions("ClearingHouse").withdrawBond()

    def bond(self) -> tuple[str, int]:
        """Who posted the bond, and wei."""
        owner, amount = self.functions("ClearingHouse").bond().call()
        return str(owner), int(amount)

    def freeze(self, last_final_number: int) -> ContractFunction:
        """Freezes a community in which nothing becomes final any more."""
        return self.functions("ClearingHouse").freeze(last_final_number)

    def is_frozen(self) -> bool:
        """Whether the community has been frozen."""
        return bool(self.functions("ClearingHouse").frozen().call())

    # --- Challenges ----------------------------------------------------------------------------------------------------

    def challenge_amount(
        self,
        batch: Batch,
        slot: int,
        market: Market,
        share_millionths: int,
        corrected: Batch | None = None,
    ) -> ContractFunction:
        """A member's challenge against its bill, from the data the coordinator published to it.

        Args:
            corrected: the batch that `batch` corrects, if it is a correction.
        """
        tariff = tariff_tuple(market, share_millionths)
        header, leaf, proof = self._leaf_arguments(batch, slot)
        given = (header, evidence_tuple(batch, slot), tariff, leaf, proof)
        functions = self.functions("Challenges")
        if corrected is None:
            return functions.challengeAmount(*given)
        return functions.challengeCorrectedAmount(
            *given, header_tuple(corrected.header), evidence_tuple(corrected, slot)
        )

    def challenge_system_amount(
        self, batch: Batch, slot: int, corrected: Batch | None = None
    ) -> ContractFunction:
        """Anybody's challenge against what supplier, DSO or fund is credited."""
        return self.functions("Challenges").challengeSystemAmount(
            *self._leaf_arguments(batch, slot), header_tuple((corrected or batch).header)
        )

    def challenge_inactive(self, batch: Batch, slot: int) -> ContractFunction:
        """Anybody's challenge against money booked at a slot that nobody bills in the period."""
        return self.functions("Challenges").challengeInactive(*self._leaf_arguments(batch, slot))

    def challenge_outside(
        self,
        header: BatchHeader,
        level: int,
        index: int,
        node: SumNode,
        proof: Sequence[bytes],
    ) -> ContractFunction:
        """Anybody's challenge against a tree that has something behind the last slot given out."""
        return self.functions("Challenges").challengeOutside(
            header_tuple(header), level, index, node.hash, node.sums, list(proof)
        )

    def challenge_missing(self, batch: Batch, slot: int) -> ContractFunction:
        """A member's challenge against a batch that leaves it out."""
        return self.functions("Challenges").challengeMissing(
            header_tuple(batch.header), slot, ledger_proof(batch, slot)
        )

    def challenge_cumulative(
        self, batch: Batch, slot: int, previous: Batch | None
    ) -> ContractFunction:
        """Anybody's challenge against a cumulative amount that does not continue the previous one."""
        before = previous or batch
        return self.functions("Challenges").challengeCumulative(
            header_tuple(batch.header),
            entry_tuple(batch, slot),
            header_tuple(before.header),
            entry_tuple(before, slot),
        )

    def challenge_tree_sum(
        self,
        header: BatchHeader,
        level: int,
        index: int,
        claimed_sums: bytes,
        children: Sequence[bytes],
        proof: Sequence[bytes],
    ) -> ContractFunction:
        """Anybody's challenge against a tree node whose sums are not its children's."""
        return self.functions("Challenges").challengeTreeSum(
            header_tuple(header), level, index, claimed_sums, list(children), list(proof)
        )

    def challenge_leaf_sum(
        self,
        header: BatchHeader,
        slot: int,
        leaf: LedgerLeaf,
        claimed_sums: bytes,
        proof: Sequence[bytes],
    ) -> ContractFunction:
        """Anybody's challenge against a tree that counts a leaf with other sums or at another slot than it has."""
        return self.functions("Challenges").challengeLeafSum(
            header_tuple(header), slot, leaf_tuple(leaf), claimed_sums, list(proof)
        )

    def demand_data(self, header: BatchHeader, slot: int) -> ContractFunction:
        """Demands a slot's leaf and paths; send it with the demand bond as value."""
        return self.functions("Challenges").demandData(header_tuple(header), slot)

    def answer_demand(self, batch: Batch, slot: int) -> ContractFunction:
        """Answers a demand."""
        return self.functions("Challenges").answerDemand(
            header_tuple(batch.header), entry_tuple(batch, slot), batch.readings_tree.proof(slot)
        )

    def void_unanswered(self, header: BatchHeader, slot: int) -> ContractFunction:
        """Voids a batch with a demand that nobody answered in time."""
        return self.functions("Challenges").voidUnanswered(header_tuple(header), slot)

    def return_demand(self, header: BatchHeader, submitted_at: int, slot: int) -> ContractFunction:
        """Pays a demand's bond back if its batch was voided meanwhile.

        Args:
            submitted_at: block time of the batch's submission.
        """
        return self.functions("Challenges").returnDemand(
            header.number, header.hash(), submitted_at, slot
        )

    def demand_cover(self, batch: Batch, slot: int) -> ContractFunction:
        """Demands that an account which owes more than deposit and credit be covered."""
        return self.functions("Challenges").demandCover(*self._leaf_arguments(batch, slot))

    def void_uncovered(self, batch: Batch, slot: int) -> ContractFunction:
        """Voids a batch with an account that is still uncovered."""
        return self.functions("Challenges").voidUncovered(*self._leaf_arguments(batch, slot))

    def _head_arguments(
        self, batch: Batch | LedgerState, slot: int
    ) -> tuple[Any, Any, list[bytes]]:
        return head_tuple(batch.header), leaf_tuple(batch.leaves[slot]), ledger_proof(batch, slot)

    def _leaf_arguments(self, batch: Batch, slot: int) -> tuple[Any, Any, list[bytes]]:
        return header_tuple(batch.header), leaf_tuple(batch.leaves[slot]), ledger_proof(batch, slot)

    # --- State ---------------------------------------------------------------------------------------------------------

    def parameters(self) -> FoundingParameters:
        """What the community was founded with."""
        return FoundingParameters(*self.functions("ClearingHouse").parameters().call())

    def head_number(self) -> int:
        """Number of the newest batch; 0 if there is none."""
        return int(self.functions("ClearingHouse").headNumber().call())

    def next_period(self) -> int:
        """First period without a batch."""
        return int(self.functions("ClearingHouse").nextPeriod().call())

    def first_future_period(self) -> int:
        """First period that has certainly not begun: from it on memberships can end."""
        return int(self.functions("ClearingHouse").firstFuturePeriod().call())

    def first_open_period(self) -> int:
        """First period from which members can be admitted and tariffs announced; any until a first batch was accepted."""
        return int(self.functions("ClearingHouse").firstOpenPeriod().call())

    def record_of(self, number: int) -> BatchRecord:
        """What the chain stores of a batch."""
        batch_hash, submitted_at = self.functions("ClearingHouse").recordOf(number).call()
        return BatchRecord(bytes(batch_hash), int(submitted_at))

    def is_final(self, number: int) -> bool:
        """Whether the batch can no longer be challenged."""
        return bool(self.functions("ClearingHouse").isFinal(number).call())

    def submitted_batches(self, from_block: int = 0) -> list[SubmittedBatch]:
        """All `BatchSubmitted` events, voided batches included, oldest first."""
        event = self._contracts["ClearingHouse"].events.BatchSubmitted()
        return [
            SubmittedBatch(
                header=BatchHeader(*(entry["args"]["header"][key] for key in _HEADER_FIELDS)),
                batch_hash=bytes(entry["args"]["batchHash"]),
                block_number=entry["blockNumber"],
                transaction_hash=bytes(entry["transactionHash"]),
            )
            for entry in event.get_logs(from_block=from_block)
        ]

    # --- Vault ---------------------------------------------------------------------------------------------------------

    def approve(self, tokens: int) -> ContractFunction:
        """Allows the vault to take `tokens` from the caller."""
        return self.functions("TestToken").approve(self.addresses["Vault"], tokens)

    def mint(self, account: str, tokens: int) -> ContractFunction:
        """Makes test tokens."""
        return self.functions("TestToken").mint(account, tokens)

    def token_balance(self, account: str) -> int:
        """Tokens an account holds, in the smallest unit."""
        return int(self.functions("TestToken").balanceOf(account).call())

    def token_decimals(self) -> int:
        """Decimals of the vault's token."""
        return int(self.functions("TestToken").decimals().call())

    def deposit(self, slot: int, tokens: int) -> ContractFunction:
        """Adds tokens to a slot's balance."""
        return self.functions("Vault").deposit(slot, tokens)

    def deposit_with_permit(
        self, slot: int, tokens: int, deadline: int, signature: tuple[int, bytes, bytes]
    ) -> ContractFunction:
        """Adds tokens to a slot's balance with an ERC-2612 permit (v, r, s)."""
        return self.functions("Vault").depositWithPermit(slot, tokens, deadline, *signature)

    def announce_withdrawal(self, tokens: int, batch: Batch, slot: int) -> ContractFunction:
        """Announces a withdrawal, which can follow after the time for challenges even while batches are open."""
        return self.functions("Vault").announceWithdrawal(
            tokens, *self._head_arguments(batch, slot)
        )

    def withdraw(self, tokens: int, batch: Batch, slot: int) -> ContractFunction:
        """Pays out to the slot's owner, proved by its leaf in the newest final batch."""
        return self.functions("Vault").withdraw(tokens, *self._head_arguments(batch, slot))

    def withdraw_many(
        self, tokens: Mapping[int, int], batch: Batch | LedgerState
    ) -> ContractFunction:
        """Pays out to several slots' owners at once.

        Args:
            tokens: by slot, in the token's smallest unit.
            batch: the newest final one.
        """
        withdrawals = []
        for slot, amount in tokens.items():
            _, *proof = self._head_arguments(batch, slot)
            withdrawals.append((amount, *proof))
        return self.functions("Vault").withdrawMany(head_tuple(batch.header), withdrawals)

    def withdraw_unsettled(self, slot: int, tokens: int, batch: Batch) -> ContractFunction:
        """Pays out deposits of a slot that the newest final batch has nothing of."""
        return self.functions("Vault").withdrawUnsettled(
            slot, tokens, head_tuple(batch.header), ledger_proof(batch, slot)
        )

    def withdraw_never_settled(self, slot: int, tokens: int) -> ContractFunction:
        """Pays out deposits in a community frozen before any batch became final."""
        return self.functions("Vault").withdrawNeverSettled(slot, tokens)

    def withdrawable(self, slot: int, batch: Batch | LedgerState) -> int:
        """Tokens a slot could withdraw with its leaf in the batch."""
        cumulative = batch.leaves[slot].cumulative_nano
        header = head_tuple(batch.header)
        return int(self.functions("Vault").withdrawable(slot, cumulative, header).call())

    def vault_balances(self, slot: int) -> tuple[int, int]:
        """Nano deposited and withdrawn by a slot."""
        functions = self.functions("Vault")
        return int(functions.depositedNano(slot).call()), int(functions.withdrawnNano(slot).call())

    def deposit_guarantee(self, tokens: int) -> ContractFunction:
        """Locks tokens behind the credits that the caller grants."""
        return self.functions("Vault").depositGuarantee(tokens)

    def withdraw_guarantee(self, tokens: int) -> ContractFunction:
        """Takes back tokens that stand behind no credit."""
        return self.functions("Vault").withdrawGuarantee(tokens)

    def grant_credit(self, slot: int, nano: int) -> ContractFunction:
        """Vouches for a slot."""
        return self.functions("Vault").grantCredit(slot, nano)

    def revoke_credit(self, slot: int, nano: int, batch: Batch | LedgerState) -> ContractFunction:
        """Takes back credit that the slot does not need after the last final batch."""
        return self.functions("Vault").revokeCredit(slot, nano, *self._head_arguments(batch, slot))

    def revoke_unsettled_credit(
        self, slot: int, nano: int, batch: Batch | LedgerState
    ) -> ContractFunction:
        """Takes back credit at a slot that the last final batch has nothing of."""
        return self.functions("Vault").revokeUnsettledCredit(
            slot, nano, head_tuple(batch.header), ledger_proof(batch, slot)
        )

    def revoke_never_settled_credit(self, slot: int, nano: int) -> ContractFunction:
        """Takes back credit in a community frozen before any batch became final."""
        return self.functions("Vault").revokeNeverSettledCredit(slot, nano)

    def cover_nano(self, slot: int, cumulative_nano: int, submitted_at: int) -> int:
        """What stands behind an account above what it owes; negative: so much is missing, and its batch can be voided for it.

        Args:
            slot: of the account.
            cumulative_nano: as a batch has it.
            submitted_at: when that was submitted; what was announced before to be withdrawn does not count.
        """
        call = self.functions("Vault").coverNano(slot, cumulative_nano, submitted_at)
        return int(call.call())

    def guarantee_of(self, guarantor: str) -> tuple[int, int]:
        """Nano that a guarantor has deposited, and that it has granted as credit."""
        deposited, granted = self.functions("Vault").guaranteeOf(guarantor).call()
        return int(deposited), int(granted)

    def credit_nano(self, slot: int) -> int:
        """Nano that guarantors vouch for at the slot."""
        return int(self.functions("Vault").creditNano(slot).call())


def _read(call: ContractFunction) -> Any:
    """What a call returns; None where it reverts because there is nothing."""
    from eth_tester.exceptions import TransactionFailed

    try:
        return call.call()
    except (ContractLogicError, TransactionFailed):
        return None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_HEADER_FIELDS = tuple(_camel(field.name) for field in fields(BatchHeader))
