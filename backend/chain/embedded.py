"""The embedded chain: eth-tester on py-evm, with transactions found by index."""

from __future__ import annotations

from typing import Any

from eth.abc import BlockAPI, SignedTransactionAPI
from eth.exceptions import HeaderNotFound, TransactionNotFound
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.backends.pyevm.serializers import (
    serialize_transaction,
    serialize_transaction_receipt,
)
from web3 import EthereumTesterProvider, Web3

# Fixed, so that replaying a journal starts from the same chain; blocks carry the present time.
_GENESIS_SECONDS = 1_451_606_400
_Found = tuple[BlockAPI, SignedTransactionAPI, int]


# eth-tester has no types.
class IndexedBackend(PyEVMBackend):  # type: ignore[misc]
    """py-evm's backend, which looks up a transaction in the chain's own index.

    The original searches all blocks from the newest on, at each receipt; and for the logs of a range of blocks eth-tester asks for the
    receipts of all transactions in it. Reading the events of a chain took time in the square of its length.
    """

    def get_transaction_by_hash(self, transaction_hash: bytes) -> Any:
        """As the original."""
        found = self._mined(transaction_hash)
        if found is None:
            return super().get_transaction_by_hash(transaction_hash)
        block, transaction, index = found
        return serialize_transaction(block, transaction, index, False)

    def get_transaction_receipt(self, transaction_hash: bytes) -> Any:
        """As the original."""
        found = self._mined(transaction_hash)
        if found is None:
            return super().get_transaction_receipt(transaction_hash)
        block, transaction, index = found
        receipts = block.get_receipts(self.chain.chaindb)
        vm = self.chain.get_vm()
        return serialize_transaction_receipt(block, receipts, transaction, index, False, vm)

    def _mined(self, transaction_hash: bytes) -> _Found | None:
        """Where a transaction is; None for a pending one, and for one that a snapshot's restoring took back: the index keeps it."""
        try:
            number, index = self.chain.get_canonical_transaction_index(transaction_hash)
            if number >= self.chain.get_block().number:
                return None
            block = self.chain.get_canonical_block_by_number(number)
        except (HeaderNotFound, TransactionNotFound):
            return None
        if index >= len(block.transactions) or block.transactions[index].hash != transaction_hash:
            return None
        return block, block.transactions[index], index


def open_embedded() -> Web3:
    """A fresh in-process chain (eth-tester on py-evm, Prague rules)."""
    genesis = PyEVMBackend.generate_genesis_params({"timestamp": _GENESIS_SECONDS})
    return Web3(EthereumTesterProvider(EthereumTester(IndexedBackend(genesis_parameters=genesis))))


def embedded_tester(web3: Web3) -> EthereumTester:
    """The embedded chain behind a `Web3`: its snapshots, its clock, when it mines."""
    assert isinstance(web3.provider, EthereumTesterProvider), web3.provider
    return web3.provider.ethereum_tester
