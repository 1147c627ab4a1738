"""What differs between chains: when a block counts as final, and what gas may cost."""

from __future__ import annotations

from dataclasses import dataclass

from web3 import Web3
from web3.exceptions import BlockNotFound
from web3.types import BlockData, BlockIdentifier

from backend.domain.errors import NodeError

GWEI = 10**9


@dataclass(frozen=True, slots=True)
class Network:
    """A chain as the coordinator uses it.

    Attributes:
        name: in words.
        chain_id: EIP-155.
        finality_depth: how many blocks on top make a block final; None where the chain itself says (`finalized`).
        priority_fee_wei: tip per gas offered first (EIP-1559).
        fee_limit_wei: most per gas that is ever offered.
        replace_after_seconds: how long a transaction may wait before it is offered with a higher fee.
        replace_percent: by how much; nodes ask for 10 to 12.5 at least.
    """

    name: str
    chain_id: int
    finality_depth: int | None
    priority_fee_wei: int = GWEI
    fee_limit_wei: int = 500 * GWEI
    replace_after_seconds: int = 60
    replace_percent: int = 15

    def final_block(self, web3: Web3) -> BlockData:
        """The newest block that counts as final; the first one of all where none does yet.

        Raises:
            NodeError: the node does not have it, or failed.
        """
        if self.finality_depth is None:
            return block_at(web3, "finalized")
        head = block_at(web3, "latest")
        if self.finality_depth == 0:
            return head
        return block_at(web3, max(0, int(head["number"]) - self.finality_depth))


def block_at(web3: Web3, which: BlockIdentifier) -> BlockData:
    """A block.

    Raises:
        NodeError: the node does not have it, or failed.
    """
    try:
        return web3.eth.get_block(which)
    except BlockNotFound:
        raise NodeError(
            f"the node has no block {which!r}: it is behind",
            "wait until it has caught up, or ask another one",
        ) from None


def embedded_network(chain_id: int) -> Network:
    """The in-process chain: nothing is ever taken back."""
    return Network("eth-tester", chain_id, finality_depth=0, priority_fee_wei=GWEI)
