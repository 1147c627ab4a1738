"""Events of a community's contracts, decoded to plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from eth_utils.abi import event_abi_to_log_topic
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.base_contract import BaseContractEvent
from web3.types import LogReceipt

from backend.settlement.encoding import BatchHeader

from .artifact import artifact

# Contracts whose events tell a community's history.
EVENTFUL = (
    "MemberRegistry",
    "MeterRegistry",
    "TariffBook",
    "ReadingOracle",
    "ClearingHouse",
    "Challenges",
    "Vault",
)


@dataclass(frozen=True, slots=True)
class CommunityEvent:
    """An event.

    Attributes:
        contract: name of the contract.
        name: name of the event.
        arguments: JSON with sorted keys; bytes as 0x and hexadecimal digits.
    """

    contract: str
    name: str
    arguments: str


class EventDecoder:
    """Decodes logs.

    Args:
        web3: for its codec; nothing is asked of the chain.
        addresses: by contract name.
    """

    def __init__(self, web3: Web3, addresses: Mapping[str, str]) -> None:
        self.addresses = [
            Web3.to_checksum_address(addresses[name]) for name in EVENTFUL if name in addresses
        ]
        self._events: dict[tuple[str, bytes], tuple[str, BaseContractEvent]] = {}
        for name in EVENTFUL:
            if name not in addresses:
                continue
            address = Web3.to_checksum_address(addresses[name])
            # Without the functions, which take most of the time to set up.
            events = [entry for entry in artifact(name)["abi"] if entry["type"] == "event"]
            contract = web3.eth.contract(address=address, abi=events)
            for entry in events:
                event = contract.events[entry["name"]]()
                self._events[address, event_abi_to_log_topic(entry)] = (name, event)

    def decode(self, log: LogReceipt) -> CommunityEvent | None:
        """The event of a log; None for one that no contract here declares."""
        known = self._events.get((log["address"], bytes(log["topics"][0])))
        if known is None:
            return None
        contract, event = known
        decoded = event.process_log(log)
        arguments = json.dumps(_plain(decoded["args"]), sort_keys=True, separators=(",", ":"))
        return CommunityEvent(contract, decoded["event"], arguments)


def header_of(arguments: Mapping[str, Any]) -> BatchHeader:
    """The header in the arguments of a `BatchSubmitted` event."""
    given = arguments["header"]
    values: dict[str, Any] = {}
    for field in fields(BatchHeader):
        first, *rest = field.name.split("_")
        value = given[first + "".join(part.capitalize() for part in rest)]
        values[field.name] = bytes.fromhex(value[2:]) if isinstance(value, str) else value
    return BatchHeader(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytes | HexBytes):
        return "0x" + bytes(value).hex()
    return value
