"""Reads from the chain what an audit needs: batches with their calldata, tariffs, signers, members, the vault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_utils.abi import (
    collapse_if_tuple,
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
)
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunctions

from contracts.artifact import artifact

from .hashing import batch_hash, ledger_head

FAULTS = (
    "amount",
    "system amount",
    "cumulative",
    "tree sum",
    "inactive slot",
    "missing slot",
    "data withheld",
    "account uncovered",
)
# Contract and the name under which the clearing house, or the vault for its token, gives its address.
_PARTS = {
    "MemberRegistry": "registry",
    "TariffBook": "tariffBook",
    "ReadingOracle": "readingOracle",
    "Vault": "vault",
    "Challenges": "challenges",
    "AccessManager": "authority",
}


def components(contract: str, entry: str, index: int) -> list[dict[str, Any]]:
    """The fields of a struct that a function or event of ours takes."""
    found = next(item for item in artifact(contract)["abi"] if item.get("name") == entry)
    parts: list[dict[str, Any]] = found["inputs"][index]["components"]
    return parts


_HEADER = components("ClearingHouse", "BatchSubmitted", 3)


def header_hash(header: dict[str, Any]) -> bytes:
    """A batch's hash, recomputed."""
    return batch_hash(head_values(header))


def head_values(header: dict[str, Any]) -> tuple[Any, ...]:
    """A header's ledger head in the contracts' order."""
    return ledger_head(header, [collapse_if_tuple(part) for part in _HEADER], header_values(header))


def header_values(header: dict[str, Any]) -> tuple[Any, ...]:
    """A header's fields in the contracts' order."""
    return tuple(header[part["name"]] for part in _HEADER)


@dataclass(frozen=True)
class SubmittedBatch:
    """A batch as submitted.

    Attributes:
        header: from the event, by Solidity name.
        submission: from the transaction's calldata, by Solidity name.
        header_hash: recomputed from `header`.
        submitted_at: block time.
        corrected: header of the batch that this one corrects, as submitted along; None if it corrects none.
    """

    header: dict[str, Any]
    submission: dict[str, Any]
    header_hash: bytes
    submitted_at: int
    corrected: dict[str, Any] | None

    @property
    def number(self) -> int:
        """Consecutive number of the batch."""
        return int(self.header["number"])


class ChainReader:
    """A community on chain, read only.

    Args:
        web3: connection.
        clearing_house: address of the community's ClearingHouse, which names the other contracts.
    """

    def __init__(self, web3: Web3, clearing_house: str) -> None:
        self.web3 = web3
        self.chain_id = web3.eth.chain_id
        self._logs: tuple[int, list[Any]] | None = None
        self.contracts: dict[str, Contract] = {
            "ClearingHouse": self.at("ClearingHouse", clearing_house)
        }
        functions = self.functions("ClearingHouse")
        for name, getter in _PARTS.items():
            self.contracts[name] = self.at(name, getattr(functions, getter)().call())
        self.contracts["TestToken"] = self.at("TestToken", self.functions("Vault").token().call())

    def at(self, name: str, address: str) -> Contract:
        """A contract of ours at an address."""
        found: Contract = self.web3.eth.contract(
            address=Web3.to_checksum_address(address), abi=artifact(name)["abi"]
        )
        return found

    def functions(self, name: str) -> ContractFunctions:
        """The functions of one of the contracts."""
        return self.contracts[name].functions

    def address(self, name: str) -> str:
        """Where one of the contracts is."""
        return str(self.contracts[name].address)

    def events(self, contract: str, name: str) -> list[dict[str, Any]]:
        """All events of a name, oldest first."""
        event = self.contracts[contract].events[name]()
        topic = event_abi_to_log_topic(event.abi)
        address = self.address(contract)
        return [
            dict(event.process_log(log))
            for log in self._all_logs()
            if log["address"] == address and log["topics"] and bytes(log["topics"][0]) == topic
        ]

    def _all_logs(self) -> list[Any]:
        """Every event of the community's contracts up to now, asked for once: nodes are slow to look through all blocks."""
        block = self.web3.eth.block_number
        if self._logs is None or self._logs[0] != block:
            addresses = [contract.address for contract in self.contracts.values()]
            found = self.web3.eth.get_logs({"fromBlock": 0, "toBlock": block, "address": addresses})
            self._logs = (block, list(found))
        return self._logs[1]

    @cached_property
    def parameters(self) -> dict[str, int]:
        """What the community was founded with, by Solidity name."""
        names = [
            part["name"]
            for part in next(
                item
                for item in artifact("ClearingHouse")["abi"]
                if item.get("name") == "parameters"
            )["outputs"][0]["components"]
        ]
        return dict(zip(names, self.functions("ClearingHouse").parameters().call(), strict=True))

    @cached_property
    def members(self) -> dict[int, dict[str, Any]]:
        """Everybody ever admitted, by slot, by Solidity name; `untilPeriod` is 0 while they stay."""
        found: dict[int, dict[str, Any]] = {}
        for entry in self.events("MemberRegistry", "MemberAdmitted"):
            found[entry["args"]["slot"]] = {**entry["args"], "untilPeriod": 0}
        for entry in self.events("MemberRegistry", "MemberLeft"):
            found[entry["args"]["slot"]]["untilPeriod"] = entry["args"]["untilPeriod"]
        return found

    def is_active(self, slot: int, period: int) -> bool:
        """Whether an account takes part in a period."""
        member = self.members.get(slot)
        return member is not None and (
            member["fromPeriod"] <= period
            and (member["untilPeriod"] == 0 or period < member["untilPeriod"])
        )

    def standing_batches(self) -> list[SubmittedBatch]:
        """The batches the chain stands by, oldest first: each submitted one whose hash is still on record."""
        found: dict[int, SubmittedBatch] = {}
        for entry in self.events("ClearingHouse", "BatchSubmitted"):
            header = dict(entry["args"]["header"])
            number = header["number"]
            recorded, submitted_at = self.functions("ClearingHouse").recordOf(number).call()
            if bytes(recorded) != bytes(entry["args"]["batchHash"]):
                continue
            transaction = self.web3.eth.get_transaction(entry["transactionHash"])
            arguments = self._call_within(bytes(transaction["input"]), "ClearingHouse")
            corrected = arguments.get("corrected")
            found[number] = SubmittedBatch(
                header=header,
                submission=dict(arguments["submission"]),
                header_hash=header_hash(header),
                submitted_at=submitted_at,
                corrected=dict(corrected) if corrected else None,
            )
        return [found[number] for number in sorted(found)]

    def revealed(self, batch: SubmittedBatch) -> list[dict[str, Any]]:
        """The ledger entries with which demands for a batch's data were answered."""
        return [
            dict(self._call_within(self._input_of(entry), "Challenges")["entry"])
            for entry in self.events("Challenges", "DemandAnswered")
            if bytes(entry["args"]["batchHash"]) == batch.header_hash
        ]

    def _input_of(self, entry: dict[str, Any]) -> bytes:
        return bytes(self.web3.eth.get_transaction(entry["transactionHash"])["input"])

    def _call_within(self, data: bytes, contract: str) -> dict[str, Any]:
        """The call of a function of ours in a transaction's data, also behind a wallet or a multicall; what it decodes to is
        held against the recorded hash later.

        Raises:
            ValueError: there is none.
        """
        for at in _selectors_in(data, contract):
            _, arguments = self.contracts[contract].decode_function_input(data[at:])
            return dict(arguments)
        raise ValueError(f"a transaction that made a {contract} event shows no call of it")

    def voided(self) -> list[str]:
        """What was voided, in words."""
        lines = []
        for entry in self.events("ClearingHouse", "BatchVoided"):
            given = entry["args"]
            after = (
                f" and all after it up to {given['lastNumber']}"
                if given["lastNumber"] > given["number"]
                else ""
            )
            lines.append(
                f"batch {given['number']} of period {given['period']} "
                f"(0x{bytes(given['batchHash']).hex()}){after} voided "
                f"({FAULTS[given['fault']]}) by {given['challenger']}"
            )
        return lines

    def equity_with_credit(self, slot: int, cumulative: int) -> int:
        """What an account has left in nano: deposit, less withdrawals, with the cumulative amount and its credit."""
        functions = self.functions("Vault")
        return int(
            functions.equityNano(slot, cumulative).call() + functions.creditNano(slot).call()
        )


def _selectors_in(data: bytes, contract: str) -> Iterator[int]:
    wanted = ("submitBatch", "submitCorrection", "answerDemand")
    for entry in artifact(contract)["abi"]:
        if entry["type"] == "function" and entry["name"] in wanted:
            at = data.find(function_abi_to_4byte_selector(entry))
            if at >= 0:
                yield at
