"""Reads from the chain what an audit needs, all of it as of one block: batches with their calldata, tariffs, signers, members,
the vault.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

from eth_abi.abi import encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from hexbytes import HexBytes
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunctions
from web3.exceptions import Web3Exception
from web3.types import TxParams

from backend.domain.accounts import is_contract
from backend.domain.errors import NodeAnswerUnusable
from contracts.artifact import artifact

from .calls import CallFinder
from .chain_checks import gives_header
from .facts import Commitment, CommunityFacts, SubmittedBatch, header_hash, is_active
from .hashing import keccak
from .ledger_view import answers_demand

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


# The compiler leaves 32 zero bytes behind PUSH32 where the constructor puts a value.
_PLACEHOLDER = re.compile(b"\x7f" + b"\0" * 32)
# ERC-1271: the question, and the only answer that is consent.
_IS_VALID_SIGNATURE = "isValidSignature(bytes32,bytes)"
_CONSENT = bytes.fromhex("1626ba7e")

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
        self._calls: dict[tuple[bytes, int], dict[str, Any]] = {}
        self._finder = CallFinder(web3)
        self._logs_until = -1
        self._times: dict[tuple[int, bytes], int] = {}
        self._code: dict[str, bytes] = {}
        self.trade_books: tuple[str, ...] = ()
        self._commitments: tuple[bytes, list[Commitment]] | None = None
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
        self._code = {}
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
            self._fetch_logs()
            if self._find_trade_books():
                # Its own events were not asked for.
                self._logs, self._logs_until = [], -1
                self._fetch_logs()
        return self._logs

    def _fetch_logs(self) -> None:
        found = self._logs + list(self._logs_between(self._logs_until + 1, self.block))
        found.sort(key=lambda log: (log["blockNumber"], log["logIndex"]))
        places = [(log["blockNumber"], log["logIndex"]) for log in found]
        if len(set(places)) != len(places):
            raise NodeAnswerUnusable(
                "the node gives two different events for one place in a block", "ask another"
            )
        self._logs, self._logs_until = found, self.block

    def _find_trade_books(self) -> bool:
        """Whether the access manager has given somebody the right to commit trades to a trade book that was not known: none of the
        other contracts knows it.
        """
        event = self.contracts["AccessManager"].events.TargetFunctionRoleUpdated()
        topic = event_abi_to_log_topic(event.abi)
        commit = function_selector("TradeBook", "commit")
        found = list(self.trade_books)
        for log in self._logs:
            if log["address"] == self.address("AccessManager") and bytes(log["topics"][0]) == topic:
                given = event.process_log(log)["args"]
                target = str(given["target"])
                if bytes(given["selector"]) == commit and target not in found:
                    contract = self.at("TradeBook", target)
                    if self.constants("TradeBook", contract) is not None:
                        found.append(target)
                        self.contracts.setdefault("TradeBook", contract)
        grown = len(found) > len(self.trade_books)
        self.trade_books = tuple(found)
        return grown

    def code(self, address: str) -> bytes:
        """The code at an address as of the block; none for a key's account."""
        if address not in self._code:
            at = Web3.to_checksum_address(address)
            self._code[address] = bytes(self.web3.eth.get_code(at, self.block))
        return self._code[address]

    def constants(self, name: str, contract: Contract | None = None) -> set[int] | None:
        """What the constructor put into a contract's code; None if the rest is not the published code.

        Args:
            name: whose code is expected.
            contract: another one than the community's of that name.
        """
        published = bytes.fromhex(artifact(name)["deployedBytecode"].removeprefix("0x"))
        code = bytearray(self.code((contract or self.contracts[name]).address))
        if len(code) != len(published):
            return None
        found = set()
        for match in _PLACEHOLDER.finditer(published):
            place = slice(match.start() + 1, match.end())
            found.add(int.from_bytes(code[place], "big"))
            code[place] = bytes(32)
        return found if bytes(code) == published else None

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
        self.logs()  # names the trade book, if there is one
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

    def commitments(self) -> list[Commitment]:
        """The community's trade books, oldest first; none where nobody trades before delivery."""
        if not self.logs() or not self.trade_books:
            return []
        if self._commitments and self._commitments[0] == self._hash:
            return self._commitments[1]
        struck: dict[int, set[int]] = defaultdict(set)
        for entry in self.events("TradeBook", "TradeStruck"):
            struck[entry["args"]["firstInterval"]].add(entry["args"]["position"])
        found = [
            Commitment(
                given["firstInterval"],
                given["intervalCount"],
                bytes(given["root"]),
                given["strikeUntil"],
                self._time_of(entry),
                frozenset(struck[given["firstInterval"]]),
            )
            for entry in self.events("TradeBook", "TradesCommitted")
            for given in [entry["args"]]
        ]
        self._commitments = self._hash, found
        return found

    def _time_of(self, entry: dict[str, Any]) -> int:
        """Time of an event's block."""
        place = (entry["blockNumber"], bytes(entry["blockHash"]))
        if place not in self._times:
            self._times[place] = int(self.web3.eth.get_block(place[0])["timestamp"])
        return self._times[place]

    def consents(self, account: str, digest: bytes, signature: bytes) -> bool:
        """Whether an account that is a contract accepts a signature (ERC-1271)."""
        if not is_contract(self.code(account)):
            return False
        data = keccak(_IS_VALID_SIGNATURE.encode())[:4] + encode(
            ["bytes32", "bytes"], [digest, signature]
        )
        call: TxParams = {"to": Web3.to_checksum_address(account), "data": HexBytes(data)}
        # Only the embedded chain raises it.
        from eth_tester.exceptions import TransactionFailed

        try:
            found = self.web3.eth.call(call, self.block)
        except (Web3Exception, TransactionFailed):
            return False  # it reverts: no consent
        return bytes(found) == _CONSENT + bytes(28)

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
            arguments = self._call(entry, "ClearingHouse", partial(gives_header, header))
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
            self._call(
                entry, "Challenges", partial(answers_demand, batch.header, entry["args"]["slot"])
            )
            for entry in self.events("Challenges", "DemandAnswered")
            if bytes(entry["args"]["batchHash"]) == batch.header_hash
        ]
        return [dict(answer["entry"]) for answer in answers if answer]

    def _call(
        self, entry: dict[str, Any], contract: str, fits: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The arguments of the call that made an event; empty if no call that fits can be found."""
        place = (bytes(entry["transactionHash"]), entry["logIndex"])
        if not self._calls.get(place):
            self._calls[place] = self._finder.find(self.contracts[contract], place[0], fits)
        return self._calls[place]

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


def function_selector(contract: str, name: str) -> bytes:
    """The four bytes that call a function of ours."""
    (entry,) = (
        item
        for item in artifact(contract)["abi"]
        if item["type"] == "function" and item["name"] == name
    )
    return bytes(function_abi_to_4byte_selector(entry))
