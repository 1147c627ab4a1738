"""Whether a node's events are in its blocks: block hashes and receipts roots are computed again from what they are made of.

Which blocks are the chain's the node says; a second node, asked for the same, is the remedy against one that makes up blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rlp
from eth_utils.conversions import to_bytes
from trie.hexary import HexaryTrie
from web3 import EthereumTesterProvider
from web3.exceptions import Web3Exception

from .chain_reader import ChainReader
from .hashing import keccak
from .verdict import Checks

EVENTS = "the events are in the blocks that the node names, all of them, and the blocks have their hashes"
# In the order of the yellow paper and the EIPs that added the last ones: 1559, 4895, 4844, 4788, 7685.
_HEADER = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom",
    "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce",
)  # fmt: skip
_LATER = (
    "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot",
    "requestsHash",
)  # fmt: skip
_NUMBERS = {
    "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed",
    "excessBlobGas",
}  # fmt: skip
_KNOWN_TYPES = range(5)
_SHOWN = 5


def check_blocks(reader: ChainReader, checks: Checks) -> None:
    """Checks every block that the node says has an event of the community.

    Not for a chain that was executed again in this process: its events are this machine's own.
    """
    if isinstance(reader.web3.provider, EthereumTesterProvider):
        return
    by_block: dict[int, list[Any]] = {}
    for log in reader.logs():
        by_block.setdefault(log["blockNumber"], []).append(log)
    wrong: list[str] = []
    unknown: list[str] = []
    for number, logs in by_block.items():
        try:
            fault = _fault(reader, number, logs)
        except (Web3Exception, _Unknown) as error:
            unknown.append(f"block {number}: {error}")
            continue
        if fault:
            wrong.append(f"block {number}: {fault}")
    passed = False if wrong else None if unknown else True
    detail = "; ".join((wrong or unknown)[:_SHOWN])
    checks.add(EVENTS, passed, count=len(by_block), detail=detail)


class _Unknown(Exception):
    """Something that another kind of chain has and this check does not know."""


def _fault(reader: ChainReader, number: int, logs: Sequence[Any]) -> str:
    """What is wrong with a block; empty if nothing is."""
    web3 = reader.web3
    block: dict[str, Any] = dict(web3.eth.get_block(number))
    if any(bytes(log["blockHash"]) != bytes(block["hash"]) for log in logs):
        return "an event names another block hash than the block has"
    if header_hash(block) != bytes(block["hash"]):
        return "its hash is not that of its header"
    receipts: list[dict[str, Any]] = [dict(item) for item in web3.eth.get_block_receipts(number)]
    if any(int(item.get("type", 0)) not in _KNOWN_TYPES for item in receipts):
        raise _Unknown("it has transactions of a kind that is not Ethereum's")
    if receipts_root(receipts) != bytes(block["receiptsRoot"]):
        return "its receipts do not lead to its receipts root"
    addresses = {contract.address for contract in reader.contracts.values()}
    there = [
        _content(log) for item in receipts for log in item["logs"] if log["address"] in addresses
    ]
    given = [_content(log) for log in logs]
    if there != given:
        return f"the node gives {len(given)} event(s), its receipts have {len(there)}, or others"
    return ""


def header_hash(block: dict[str, Any]) -> bytes:
    """A block's hash from its fields."""
    names = _HEADER + tuple(name for name in _LATER if block.get(name) is not None)
    return keccak(rlp.encode([_field(name, block[name]) for name in names]))


def _field(name: str, value: Any) -> bytes:
    if name in _NUMBERS:
        return _number(int(value, 16) if isinstance(value, str) else int(value))
    return to_bytes(hexstr=value) if isinstance(value, str) else bytes(value)


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def receipts_root(receipts: Sequence[dict[str, Any]]) -> bytes:
    """Root of the trie of a block's receipts."""
    trie = HexaryTrie({})
    for index, receipt in enumerate(receipts):
        body = rlp.encode(
            [
                _number(int(receipt["status"])),
                _number(int(receipt["cumulativeGasUsed"])),
                bytes(receipt["logsBloom"]),
                [
                    [
                        to_bytes(hexstr=log["address"]),
                        [bytes(topic) for topic in log["topics"]],
                        bytes(log["data"]),
                    ]
                    for log in receipt["logs"]
                ],
            ]
        )
        kind = int(receipt.get("type", 0))
        trie[rlp.encode(_number(index))] = (bytes([kind]) if kind else b"") + body
    return bytes(trie.root_hash)


def _content(log: Any) -> tuple[Any, ...]:
    return (
        log["logIndex"],
        log["address"],
        tuple(bytes(topic) for topic in log["topics"]),
        bytes(log["data"]),
    )
