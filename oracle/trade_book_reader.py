"""The contract TradeBook as a node tells it: what was committed, and what was struck out.

As with the meter registry plain JSON-RPC is enough. Everything is read as of one block that others stand on already, so that
what a signer states rests on nothing the chain may take back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_hash.auto import keccak

from backend.domain.accounts import is_contract
from backend.settlement.encoding import domain_separator
from backend.settlement.forward import TradeCommitment

from .ethereum_node import CallRefused, EthereumNode

COMMITTED = "0x" + keccak(b"TradesCommitted(uint64,uint32,bytes32,uint256)").hex()
STRUCK = "0x" + keccak(b"TradeStruck(uint64,uint256,uint256,address,uint256)").hex()
# ERC-1271: the question, and how the only answer that is consent begins.
_IS_VALID_SIGNATURE = keccak(b"isValidSignature(bytes32,bytes)")[:4]


@dataclass
class TradeBookReader:
    """Reads the trade book from a node (`trade_books.TradeBookOnChain`).

    Args:
        node: of the community's chain.
        chain_id: what it must be on.
        contract: address of TradeBook.
        from_block: where the contract was deployed, or earlier.
        confirmations: blocks that must stand on the one that is believed.
    """

    node: EthereumNode
    chain_id: int
    contract: str
    from_block: int
    confirmations: int
    _block: int = field(default=0, init=False)
    _time: int = field(default=0, init=False)
    _commitments: Sequence[TradeCommitment] = field(default=(), init=False)
    _struck: frozenset[tuple[int, int]] = field(default=frozenset(), init=False)

    @property
    def domain(self) -> bytes:
        """EIP-712 domain separator of what members sign."""
        return domain_separator(self.chain_id, self.contract)

    def refresh(self) -> None:
        """Reads everything as of the newest confirmed block.

        Raises:
            NodeUnreachable: no answer, one that makes no sense, or one of another chain.
        """
        node = self.node
        if node.number(node.call("eth_chainId")) != self.chain_id:
            raise node.nonsense("is of another chain than chain_id")
        newest = node.number(node.call("eth_blockNumber")) - self.confirmations
        if newest < self.from_block:
            return
        commitments: list[TradeCommitment] = []
        struck: set[tuple[int, int]] = set()
        try:
            time = node.number(node.call("eth_getBlockByNumber", hex(newest), False)["timestamp"])
            for entry in node.logs(self.contract, (COMMITTED, STRUCK), self.from_block, newest):
                topics, words = entry["topics"], _words(entry["data"])
                if topics[0] == COMMITTED:
                    commitments.append(
                        TradeCommitment(
                            node.number(topics[1]), _number(words[0]), words[1], _number(words[2])
                        )
                    )
                else:
                    struck.add((node.number(topics[1]), _number(words[0])))
        except (TypeError, KeyError, ValueError, IndexError, AttributeError):
            raise node.nonsense("answers events that are none of it") from None
        self._block, self._time = newest, time
        self._commitments, self._struck = commitments, frozenset(struck)

    def commitments(self) -> Sequence[TradeCommitment]:
        """All of them, oldest first."""
        return self._commitments

    def struck(self) -> frozenset[tuple[int, int]]:
        """First interval of the commitment and position of every trade struck out."""
        return self._struck

    def now(self) -> int:
        """Time of the block that everything is read as of; 0 before there is one."""
        return self._time

    def consents(self, account: str, digest: bytes, signature: bytes) -> bool:
        """Whether an account that is a contract accepts a signature (ERC-1271)."""
        at = hex(self._block)
        code = str(self.node.call("eth_getCode", account, at) or "")
        if not is_contract(bytes.fromhex(code.removeprefix("0x"))):
            return False
        padded = signature + bytes(-len(signature) % 32)
        offset, length = (number.to_bytes(32, "big") for number in (64, len(signature)))
        data = (_IS_VALID_SIGNATURE + digest + offset + length + padded).hex()
        try:
            answer: Any = self.node.call("eth_call", {"to": account, "data": "0x" + data}, at)
        except CallRefused:
            return False  # it reverts: no consent
        return str(answer)[2:10] == "1626ba7e"


def _words(data: str) -> list[bytes]:
    packed = bytes.fromhex(data.removeprefix("0x"))
    return [packed[start : start + 32] for start in range(0, len(packed), 32)]


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")
