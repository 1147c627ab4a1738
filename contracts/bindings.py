"""The one door from Python to the contracts; nothing else knows ABI names.

Each method returns a `ContractFunction` (a call ready to be sent or read) built from our own values, or reads and returns
our own values. Custom errors are decoded here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_typing import ChecksumAddress
from eth_utils.abi import function_abi_to_4byte_selector
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractConstructor, ContractFunction

from backend.domain.errors import ContractRefused
from backend.market.problem import Market
from backend.settlement.batch import Batch
from backend.settlement.encoding import (
    BatchHeader,
    LedgerLeaf,
    OracleReport,
    edge_words,
    group_words,
    pack_readings,
)

from .artifact import artifact

# `group` of accounts without a meter; MemberRegistry.NO_GROUP.
NO_GROUP = 2**16 - 1
FAULTS = ("Amount", "SystemAmount", "Cumulative", "TreeSum", "Inactive")

_CONTRACTS = (
    "AccessManager",
    "MemberRegistry",
    "TariffBook",
    "ReadingOracle",
    "ClearingHouse",
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
    """A batch header in the order of `BatchHeader` in Batch.sol."""
    return (
        header.period,
        header.version,
        header.first_interval,
        header.interval_count,
        header.previous_batch,
        header.report_hash,
        header.readings_root,
        header.tariff_hash,
        header.prices_hash,
        header.ledger_root,
        header.trades_root,
        header.bundle_hash,
        header.supplier_nano,
        header.network_fees_nano,
        header.fund_nano,
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
    return (share_millionths, market.graph.node_count, group_words(market), edge_words(market))


def submission_tuple(batch: Batch, market: Market, share_millionths: int) -> tuple[Any, ...]:
    """A batch in the order of `Submission` in Batch.sol."""
    left, right = batch.root_children
    return (
        report_tuple(batch.report),
        list(batch.signatures),
        tariff_tuple(market, share_millionths),
        batch.interval_records,
        (left.hash, left.sums, right.hash, right.sums),
        batch.header.trades_root,
        batch.header.bundle_hash,
    )


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What the chain stores of a batch; `header_hash` is zero where there is none."""

    header_hash: bytes
    submitted_at: int
    submitter: str


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
    def from_clearing_house(
        cls, web3: Web3, clearing_house: str, vault: str | None = None
    ) -> CommunityContracts:
        """A community by the address of its ClearingHouse, which names the others."""
        found = cls(web3, {"ClearingHouse": clearing_house})
        functions = found._contracts["ClearingHouse"].functions
        addresses = {
            "ClearingHouse": clearing_house,
            "MemberRegistry": functions.registry().call(),
            "TariffBook": functions.tariffBook().call(),
            "ReadingOracle": functions.readingOracle().call(),
            "AccessManager": functions.authority().call(),
        }
        if vault is not None:
            addresses["Vault"] = vault
            addresses["TestToken"] = (
                cls(web3, addresses)._contracts["Vault"].functions.token().call()
            )
        return cls(web3, addresses)

    # --- Governance --------------------------------------------------------------------------------------------------

    def grant_role(self, role: int, account: str, delay_seconds: int) -> ContractFunction:
        """Gives `account` the role; it may act `delay_seconds` after announcing."""
        return self._contracts["AccessManager"].functions.grantRole(role, account, delay_seconds)

    def restrict(self, contract: str, functions: Sequence[str], role: int) -> ContractFunction:
        """Lets only holders of `role` call the named functions of `contract`."""
        target = self._contracts[contract]
        selectors = [
            function_abi_to_4byte_selector(entry)
            for entry in artifact(contract)["abi"]
            if entry["type"] == "function" and entry["name"] in functions
        ]
        return self._contracts["AccessManager"].functions.setTargetFunctionRole(
            target.address, selectors, role
        )

    # --- Members, tariffs, oracle --------------------------------------------------------------------------------------

    def admit(
        self, account: str, meter: str, group: int, from_period: int, collateral_nano: int
    ) -> ContractFunction:
        """Admits an account; it gets the next slot."""
        return self._contracts["MemberRegistry"].functions.admit(
            (account, group, from_period, 0, meter, collateral_nano)
        )

    def slot_count(self) -> int:
        """Number of slots given out."""
        return int(self._contracts["MemberRegistry"].functions.slotCount().call())

    def member_at(self, slot: int) -> dict[str, Any]:
        """The registry's entry of a slot."""
        names = ("account", "group", "from_period", "until_period", "meter", "collateral_nano")
        values = self._contracts["MemberRegistry"].functions.memberAt(slot).call()
        return dict(zip(names, values, strict=True))

    def announce_tariff(
        self, market: Market, share_millionths: int, from_period: int
    ) -> ContractFunction:
        """Announces the tariff that holds from `from_period` on."""
        return self._contracts["TariffBook"].functions.announce(
            tariff_tuple(market, share_millionths), from_period
        )

    def tariff_hash_at(self, period: int) -> bytes:
        """Hash of the tariff in force."""
        return bytes(self._contracts["TariffBook"].functions.tariffHashAt(period).call())

    def oracle_config_digest(self) -> bytes:
        """Digest that reports must name."""
        return bytes(self._contracts["ReadingOracle"].functions.configDigest().call())

    def oracle_signers(self) -> tuple[list[str], int]:
        """Signers and threshold."""
        functions = self._contracts["ReadingOracle"].functions
        return list(functions.signers().call()), int(functions.threshold().call())

    # --- Batches -------------------------------------------------------------------------------------------------------

    def submit_batch(self, batch: Batch, market: Market, share_millionths: int) -> ContractFunction:
        """Submits a batch; send it with the bond as value."""
        return self._contracts["ClearingHouse"].functions.submitBatch(
            submission_tuple(batch, market, share_millionths)
        )

    def challenge_amount(
        self, batch: Batch, slot: int, market: Market, share_millionths: int
    ) -> ContractFunction:
        """A member's challenge against its bill, from the data the coordinator published to it."""
        item = batch.member_periods[slot]
        return self._contracts["ClearingHouse"].functions.challengeAmount(
            header_tuple(batch.header),
            pack_readings(item.readings),
            item.salt,
            batch.readings_tree.proof(slot),
            batch.packed_prices,
            tariff_tuple(market, share_millionths),
            leaf_tuple(batch.leaves[slot]),
            batch.ledger.proof(slot),
        )

    def challenge_system_amount(self, batch: Batch, slot: int) -> ContractFunction:
        """Anybody's challenge against what supplier, DSO or fund is credited."""
        return self._contracts["ClearingHouse"].functions.challengeSystemAmount(
            header_tuple(batch.header), leaf_tuple(batch.leaves[slot]), batch.ledger.proof(slot)
        )

    def challenge_inactive(self, batch: Batch, slot: int) -> ContractFunction:
        """Anybody's challenge against money booked at a slot that nobody bills in the period."""
        return self._contracts["ClearingHouse"].functions.challengeInactive(
            header_tuple(batch.header), leaf_tuple(batch.leaves[slot]), batch.ledger.proof(slot)
        )

    def challenge_cumulative(
        self, batch: Batch, slot: int, previous: Batch | None
    ) -> ContractFunction:
        """Anybody's challenge against a cumulative amount that does not continue the previous one."""
        before = previous.leaves.get(slot) if previous else None
        return self._contracts["ClearingHouse"].functions.challengeCumulative(
            header_tuple(batch.header),
            leaf_tuple(batch.leaves[slot]),
            batch.ledger.proof(slot),
            header_tuple((previous or batch).header),
            before is None,
            leaf_tuple(before or batch.leaves[slot]),
            previous.ledger.proof(slot) if previous else [],
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
        return self._contracts["ClearingHouse"].functions.challengeTreeSum(
            header_tuple(header), level, index, claimed_sums, list(children), list(proof)
        )

    def challenge_leaf_sum(
        self, header: BatchHeader, leaf: LedgerLeaf, claimed_sums: bytes, proof: Sequence[bytes]
    ) -> ContractFunction:
        """Anybody's challenge against a tree that counts a leaf with other sums than it has."""
        return self._contracts["ClearingHouse"].functions.challengeLeafSum(
            header_tuple(header), leaf_tuple(leaf), claimed_sums, list(proof)
        )

    def return_bond(self, period: int) -> ContractFunction:
        """Returns the bond of a final batch."""
        return self._contracts["ClearingHouse"].functions.returnBond(period)

    def parameters(self) -> dict[str, int]:
        """The ClearingHouse's immutable parameters."""
        functions = self._contracts["ClearingHouse"].functions
        return {
            "first_period": int(functions.firstPeriod().call()),
            "first_interval": int(functions.firstInterval().call()),
            "interval_seconds": int(functions.intervalSeconds().call()),
            "challenge_seconds": int(functions.challengeSeconds().call()),
            "bond_wei": int(functions.bondWei().call()),
        }

    def head_period(self) -> int:
        """Period of the newest batch."""
        return int(self._contracts["ClearingHouse"].functions.headPeriod().call())

    def record_of(self, period: int) -> BatchRecord:
        """What the chain stores of a period's batch."""
        values = self._contracts["ClearingHouse"].functions.recordOf(period).call()
        return BatchRecord(bytes(values[0]), int(values[1]), str(values[2]))

    def is_final(self, period: int) -> bool:
        """Whether the period's batch can no longer be challenged."""
        return bool(self._contracts["ClearingHouse"].functions.isFinal(period).call())

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
        return self._contracts["TestToken"].functions.approve(self.addresses["Vault"], tokens)

    def mint(self, account: str, tokens: int) -> ContractFunction:
        """Makes test tokens."""
        return self._contracts["TestToken"].functions.mint(account, tokens)

    def token_balance(self, account: str) -> int:
        """Tokens an account holds, in the smallest unit."""
        return int(self._contracts["TestToken"].functions.balanceOf(account).call())

    def token_decimals(self) -> int:
        """Decimals of the vault's token."""
        return int(self._contracts["TestToken"].functions.decimals().call())

    def deposit(self, slot: int, tokens: int) -> ContractFunction:
        """Adds tokens to a slot's balance."""
        return self._contracts["Vault"].functions.deposit(slot, tokens)

    def withdraw(self, tokens: int, batch: Batch, slot: int) -> ContractFunction:
        """Pays out to the slot's owner, proved by its leaf in the newest final batch."""
        return self._contracts["Vault"].functions.withdraw(
            tokens,
            header_tuple(batch.header),
            leaf_tuple(batch.leaves[slot]),
            batch.ledger.proof(slot),
        )

    def withdrawable(self, slot: int, cumulative_nano: int) -> int:
        """Tokens a slot could withdraw with a leaf of that cumulative amount."""
        return int(self._contracts["Vault"].functions.withdrawable(slot, cumulative_nano).call())

    def vault_balances(self, slot: int) -> tuple[int, int]:
        """Nano deposited and withdrawn by a slot."""
        functions = self._contracts["Vault"].functions
        return int(functions.depositedNano(slot).call()), int(functions.withdrawnNano(slot).call())


_HEADER_FIELDS = (
    "period",
    "version",
    "firstInterval",
    "intervalCount",
    "previousBatch",
    "reportHash",
    "readingsRoot",
    "tariffHash",
    "pricesHash",
    "ledgerRoot",
    "tradesRoot",
    "bundleHash",
    "supplierNano",
    "networkFeesNano",
    "fundNano",
)
