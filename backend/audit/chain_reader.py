"""Reads from the chain what an audit needs: batches with their calldata, tariffs, signers, members, the vault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract import Contract

from contracts.artifact import artifact


@dataclass(frozen=True)
class SubmittedBatch:
    """A batch as submitted.

    Attributes:
        header: from the event, by Solidity name.
        submission: from the transaction's calldata, by Solidity name.
        header_hash: recomputed from `header`.
    """

    header: dict[str, Any]
    submission: dict[str, Any]
    header_hash: bytes


class ChainReader:
    """A community on chain, read only.

    Args:
        web3: connection.
        clearing_house: address of the community's ClearingHouse.
        vault: address of its vault, if known.
    """

    def __init__(self, web3: Web3, clearing_house: str, vault: str | None) -> None:
        self.web3 = web3
        self.chain_id = web3.eth.chain_id
        self.clearing_house = self.at("ClearingHouse", clearing_house)
        functions = self.clearing_house.functions
        self.registry = self.at("MemberRegistry", functions.registry().call())
        self.tariff_book = self.at("TariffBook", functions.tariffBook().call())
        self.oracle = self.at("ReadingOracle", functions.readingOracle().call())
        self.vault = self.at("Vault", vault) if vault else None

    def at(self, name: str, address: str) -> Contract:
        """A contract of ours at an address."""
        return self.web3.eth.contract(
            address=Web3.to_checksum_address(address), abi=artifact(name)["abi"]
        )

    def standing_batches(self) -> list[SubmittedBatch]:
        """The batches the chain stands by, oldest first: each submitted one whose hash is still on record."""
        found: dict[int, SubmittedBatch] = {}
        for entry in self.clearing_house.events.BatchSubmitted().get_logs(from_block=0):
            header = dict(entry["args"]["header"])
            record = self.clearing_house.functions.recordOf(header["period"]).call()
            if bytes(record[0]) != bytes(entry["args"]["batchHash"]):
                continue
            transaction = self.web3.eth.get_transaction(entry["transactionHash"])
            _, arguments = self.clearing_house.decode_function_input(transaction["input"])
            found[header["period"]] = SubmittedBatch(
                header=header,
                submission=dict(arguments["submission"]),
                header_hash=self._header_hash(header),
            )
        return [found[period] for period in sorted(found)]

    def _header_hash(self, header: dict[str, Any]) -> bytes:
        event = next(
            item
            for item in artifact("ClearingHouse")["abi"]
            if item.get("name") == "BatchSubmitted"
        )
        struct = event["inputs"][2]
        values = tuple(header[part["name"]] for part in struct["components"])
        return keccak(
            encode(
                ["bytes32", collapse_if_tuple(struct)], [keccak(text="peerwatt.batch.v1"), values]
            )
        )

    def voided(self) -> list[str]:
        """What was voided, in words."""
        faults = ("amount", "system amount", "cumulative", "tree sum", "inactive slot")
        return [
            f"period {entry['args']['period']}: batch 0x{bytes(entry['args']['batchHash']).hex()} voided "
            f"({faults[entry['args']['fault']]}) by {entry['args']['challenger']}"
            for entry in self.clearing_house.events.BatchVoided().get_logs(from_block=0)
        ]

    def members(self) -> dict[int, dict[str, Any]]:
        """The registry's entries by slot."""
        names = ("account", "group", "fromPeriod", "untilPeriod", "meter", "collateralNano")
        functions = self.registry.functions
        return {
            slot: dict(zip(names, functions.memberAt(slot).call(), strict=True))
            for slot in range(functions.slotCount().call())
        }
