"""Reads from the chain what an audit needs, all of it as of one block: batches with their calldata, tariffs, signers, members,
the vault.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from eth_abi.exceptions import DecodingError
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunctions
from web3.exceptions import Web3Exception

from backend.domain.errors import NodeAnswerUnusable
from contracts.artifact import artifact

from .facts import CommunityFacts, SubmittedBatch, header_hash, is_active

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


# Fewest blocks that a node must be able to look through at once.
_FEWEST_BLOCKS = 16


class ChainReader:
    """A community on chain, read only, as of one block.

    Args:
        web3: connection.
        clearing_house: address of the community's ClearingHouse, which names the other contracts.

    Raises:
        NodeAnswerUnusable: there is no such contract there, or the node contradicts itself.
    """

    def __init__(self, web3: Web3, clearing_house: str) -> None:
        self.web3 = web3
        self.chain_id = web3.eth.chain_id
        self.block: int = web3.eth.block_number
        self._hash = self.block_hash(self.block)
        self._logs: list[Any] = []
        # Decoded once: whoever follows a chain looks at them again and again.
        self._events: dict[tuple[int, bytes, int], dict[str, Any]] = {}
        self._calls: dict[bytes, dict[str, Any]] = {}
        self._logs_until = -1
        self.contracts: dict[str, Contract] = {
            "ClearingHouse": self.at("ClearingHouse", clearing_house)
        }
        for name, getter in _PARTS.items():
            self.contracts[name] = self.at(name, self.ask("ClearingHouse", getter))
        self.contracts["TestToken"] = self.at("TestToken", self.ask("Vault", "token"))

    def at(self, name: str, address: str) -> Contract:
        """A contract of ours at an address."""
        found: Contract = self.web3.eth.contract(
            address=Web3.to_checksum_address(address), abi=artifact(name)["abi"]
        )
        return found

    def functions(self, name: str) -> ContractFunctions:
        """The functions of one of the contracts."""
        return self.contracts[name].functions

    def ask(self, contract: str, function: str, *arguments: Any) -> Any:
        """What a view returns, as of the block the audit looks at.

        Raises:
            NodeAnswerUnusable: nothing that the contract could have answered.
        """
        call = getattr(self.functions(contract), function)(*arguments)
        try:
            return call.call(block_identifier=self.block)
        except (Web3Exception, DecodingError) as error:
            raise NodeAnswerUnusable(
                f"asked for {contract}.{function} as of block {self.block}, the node gives no such answer: {error}",
                "see that the address is a ClearingHouse, and the node on its chain and not behind; or ask another",
            ) from None

    def address(self, name: str) -> str:
        """Where one of the contracts is."""
        return str(self.contracts[name].address)

    def refresh(self) -> None:
        """Looks at the newest block from now on."""
        newest = self.web3.eth.block_number
        if newest < self.block or self.block_hash(self.block) != self._hash:
            # The chain took blocks back.
            self._logs, self._logs_until = [], -1
        self.block, self._hash = newest, self.block_hash(newest)
        for name in ("members", "parameters"):
            self.__dict__.pop(name, None)

    def time(self) -> int:
        """Time of the block that is looked at, in seconds since the epoch."""
        return int(self.web3.eth.get_block(self.block)["timestamp"])

    def block_hash(self, number: int) -> bytes:
        """Hash of a block."""
        return bytes(self.web3.eth.get_block(number)["hash"])

    def events(self, contract: str, name: str) -> list[dict[str, Any]]:
        """All events of a name, oldest first."""
        event = self.contracts[contract].events[name]()
        topic = event_abi_to_log_topic(event.abi)
        address = self.address(contract)
        found = []
        for log in self.logs():
            if log["address"] == address and log["topics"] and bytes(log["topics"][0]) == topic:
                place = (log["blockNumber"], bytes(log["blockHash"]), log["logIndex"])
                if place not in self._events:
                    self._events[place] = dict(event.process_log(log))
                found.append(self._events[place])
        return found

    def logs(self) -> list[Any]:
        """Every event of the community's contracts, asked for once, in the chain's order."""
        if self._logs_until < self.block:
            found = self._logs + list(self._logs_between(self._logs_until + 1, self.block))
            found.sort(key=lambda log: (log["blockNumber"], log["logIndex"]))
            places = [(log["blockNumber"], log["logIndex"]) for log in found]
            if len(set(places)) != len(places):
                raise NodeAnswerUnusable(
                    "the node gives two different events for one place in a block", "ask another"
                )
            self._logs, self._logs_until = found, self.block
        return self._logs

    def _logs_between(self, first: int, last: int) -> Iterator[Any]:
        """In pieces as small as the node needs them."""
        addresses = [contract.address for contract in self.contracts.values()]
        pending = [(first, last)]
        while pending:
            start, end = pending.pop()
            try:
                found = self.web3.eth.get_logs(
                    {"fromBlock": start, "toBlock": end, "address": addresses}
                )
            except (Web3Exception, ValueError):
                if end - start < _FEWEST_BLOCKS:
                    raise
                middle = (start + end) // 2
                pending += [(middle + 1, end), (start, middle)]
                continue
            for log in found:
                if not start <= log["blockNumber"] <= end or log["address"] not in addresses:
                    raise NodeAnswerUnusable(
                        f"asked for events of blocks {start} to {end}, the node gives one of block "
                        f"{log['blockNumber']} by {log['address']}",
                        "ask another node",
                    )
                yield log

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
        return dict(zip(names, self.ask("ClearingHouse", "parameters"), strict=True))

    @cached_property
    def members(self) -> dict[int, dict[str, Any]]:
        """Everybody ever admitted, by slot, by Solidity name; `untilPeriod` is 0 while they stay."""
        found: dict[int, dict[str, Any]] = {}
        for entry in self.events("MemberRegistry", "MemberAdmitted"):
            found[entry["args"]["slot"]] = {**entry["args"], "untilPeriod": 0}
        for entry in self.events("MemberRegistry", "MemberLeft"):
            if entry["args"]["slot"] in found:
                found[entry["args"]["slot"]]["untilPeriod"] = entry["args"]["untilPeriod"]
        return found

    def is_active(self, slot: int, period: int) -> bool:
        """Whether an account takes part in a period."""
        return is_active(self.members.get(slot), period)

    def facts(self) -> CommunityFacts:
        """What holds for all batches."""
        return CommunityFacts(
            chain_id=self.chain_id,
            addresses={name: self.address(name) for name in self.contracts},
            parameters=self.parameters,
            members=self.members,
            config_digests=frozenset(
                bytes(entry["args"]["configDigest"])
                for entry in self.events("ReadingOracle", "SignersChanged")
            ),
            time=self.time(),
            frozen=bool(self.ask("ClearingHouse", "frozen")),
        )

    def standing_batches(self) -> list[SubmittedBatch]:
        """The batches the chain stands by, oldest first: each submitted one whose hash is still on record."""
        found: dict[int, SubmittedBatch] = {}
        head = self.ask("ClearingHouse", "headNumber")
        for entry in self.events("ClearingHouse", "BatchSubmitted"):
            header = dict(entry["args"]["header"])
            number = header["number"]
            recorded, submitted_at = self.ask("ClearingHouse", "recordOf", number)
            # Records above the head count for nothing; neither does an event whose batch was voided.
            if number > head or bytes(recorded) != bytes(entry["args"]["batchHash"]):
                continue
            arguments = self._call(entry, "ClearingHouse")
            corrected = arguments.get("corrected")
            found[number] = SubmittedBatch(
                header=header,
                submission=dict(arguments.get("submission", {})),
                header_hash=header_hash(header),
                submitted_at=submitted_at,
                corrected=dict(corrected) if corrected else None,
                recorded_hash=bytes(recorded),
                tariff_in_force=bytes(self.ask("TariffBook", "tariffHashAt", header["period"])),
                final=bool(self.ask("ClearingHouse", "isFinal", number)),
            )
        return [found[number] for number in sorted(found)]

    def revealed(self, batch: SubmittedBatch) -> list[dict[str, Any]]:
        """The ledger entries with which demands for a batch's data were answered."""
        answers = [
            self._call(entry, "Challenges")
            for entry in self.events("Challenges", "DemandAnswered")
            if bytes(entry["args"]["batchHash"]) == batch.header_hash
        ]
        return [dict(answer["entry"]) for answer in answers if answer]

    def _call(self, entry: dict[str, Any], contract: str) -> dict[str, Any]:
        """The arguments of the call that made an event."""
        name = bytes(entry["transactionHash"])
        if name not in self._calls:
            data = bytes(self.web3.eth.get_transaction(entry["transactionHash"])["input"])
            self._calls[name] = self._call_within(data, contract)
        return self._calls[name]

    def _call_within(self, data: bytes, contract: str) -> dict[str, Any]:
        """The call of a function of ours in a transaction's data, also behind a wallet or a multicall; what it decodes to is
        held against the recorded hash later.

        Returns:
            Its arguments by name; empty if the transaction shows none.
        """
        for at in _selectors_in(data, contract):
            try:
                _, arguments = self.contracts[contract].decode_function_input(data[at:])
            except (ValueError, DecodingError, Web3Exception):
                continue  # four bytes that look like it by chance
            return dict(arguments)
        return {}

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

    def cover(self, slot: int, cumulative: int, batch: SubmittedBatch) -> int:
        """What stands behind an account in nano: deposit, less what was taken out or announced to leave before the batch was
        submitted, with the cumulative amount and its credit.
        """
        return int(self.ask("Vault", "coverNano", slot, cumulative, batch.submitted_at))


def _selectors_in(data: bytes, contract: str) -> Iterator[int]:
    wanted = ("submitBatch", "submitCorrection", "answerDemand")
    for entry in artifact(contract)["abi"]:
        if entry["type"] == "function" and entry["name"] in wanted:
            selector = function_abi_to_4byte_selector(entry)
            at = data.find(selector)
            while at >= 0:
                yield at
                at = data.find(selector, at + 1)
