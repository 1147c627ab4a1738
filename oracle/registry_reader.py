"""The contract MeterRegistry as a node tells it: which key may sign for which slot, from which interval to which.

Five calls of plain JSON-RPC, so that a signer needs no more of Ethereum than the URL of a node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from eth_hash.backends.pysha3 import keccak256

from backend.domain.errors import MalformedInput, NodeUnreachable

from .ethereum_node import EthereumNode
from .signing import ADDRESS_BYTES

ACTIVATED = "0x" + keccak256(b"MeterActivated(address,uint256,uint64)").hex()
REVOKED = "0x" + keccak256(b"MeterRevoked(address,uint256,uint64)").hex()
_REMEDY = "start the node, or correct meter_registry.rpc_url"


class RegisteredKey(NamedTuple):
    """A key in the registry.

    Attributes:
        slot: whose energy it measures.
        from_interval: the first interval it signs for.
        until_interval: the first one it does not any more; None while it is not revoked.
    """

    slot: int
    from_interval: int
    until_interval: int | None = None


@dataclass(frozen=True)
class RegistryState:
    """The registry as of a block.

    Attributes:
        block: its number; one below the contract's first while the chain is younger.
        block_hash: empty in that case.
        keys: by address.
    """

    block: int
    block_hash: str = ""
    keys: Mapping[bytes, RegisteredKey] = field(default_factory=dict)

    @cached_property
    def by_slot(self) -> Mapping[int, tuple[bytes, ...]]:
        """The keys of each slot, in ascending order."""
        found: dict[int, list[bytes]] = defaultdict(list)
        for address in sorted(self.keys):
            found[self.keys[address].slot].append(address)
        return {slot: tuple(addresses) for slot, addresses in found.items()}


@dataclass(frozen=True, slots=True)
class RegistryReader:
    """Reads the registry from a node.

    Args:
        url: of the node.
        token: for it, if it needs one.
        chain_id: what it must be on.
        contract: address of MeterRegistry.
        from_block: where the contract was deployed, or earlier.
        confirmations: blocks that must stand on the one that is believed.
    """

    url: str
    token: str | None
    chain_id: int
    contract: str
    from_block: int
    confirmations: int

    def check(self) -> None:
        """Looks whether there is such a contract.

        Raises:
            MalformedInput: another chain, or no contract at the address.
            NodeUnreachable: no answer.
        """
        chain_id = self._node.number(self._node.call("eth_chainId"))
        if chain_id != self.chain_id:
            raise MalformedInput(
                "meter_registry.rpc_url",
                chain_id,
                f"a node of another chain than chain_id {self.chain_id}",
                "name a node of the community's chain",
            )
        if self._node.call("eth_getCode", self.contract, "latest") in ("0x", "", None):
            raise MalformedInput(
                "meter_registry.contract",
                self.contract,
                "there is no contract",
                "give the address of MeterRegistry",
            )

    def follow(self, known: RegistryState | None) -> RegistryState:
        """The registry as of the newest confirmed block.

        Args:
            known: as of an earlier one; what it says is read anew if its block is not on the chain any more.

        Raises:
            NodeUnreachable: no answer, or one that makes no sense.
        """
        newest = self._node.number(self._node.call("eth_blockNumber")) - self.confirmations
        if known is not None and known.block_hash:
            found = self._block_hash(known.block)
            # A node that has not got so far yet says nothing against it.
            if found and found != known.block_hash:
                known = None
        known = known or RegistryState(self.from_block - 1)
        if newest <= known.block:
            return known
        # Before the events: should the chain change in between, the next look sees it.
        block_hash = self._block_hash(newest)
        keys = dict(known.keys)
        for entry in self._node.logs(self.contract, (ACTIVATED, REVOKED), known.block + 1, newest):
            _apply(keys, entry)
        if block_hash is None:
            raise NodeUnreachable("the node does not know its newest block", _REMEDY)
        return RegistryState(newest, block_hash, keys)

    def _block_hash(self, number: int) -> str | None:
        block = self._node.call("eth_getBlockByNumber", hex(number), False)
        try:
            return None if block is None else str(block["hash"])
        except (TypeError, KeyError):
            raise NodeUnreachable("the node answers no block", _REMEDY) from None

    @property
    def _node(self) -> EthereumNode:
        return EthereumNode(self.url, self.token, "meter registry", _REMEDY)


def _apply(keys: dict[bytes, RegisteredKey], entry: Any) -> None:
    try:
        kind, meter, slot = entry["topics"]
        address, interval = bytes.fromhex(meter.removeprefix("0x"))[12:], int(entry["data"], 16)
        if len(address) != ADDRESS_BYTES:
            raise ValueError(meter)
        known = RegisteredKey(int(slot, 16), interval)
        if kind == REVOKED:
            known = keys[address]._replace(until_interval=interval)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise NodeUnreachable(
            "the node answers events that are none of the meter registry", _REMEDY
        ) from None
    keys[address] = known
