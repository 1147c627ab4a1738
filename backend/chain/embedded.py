"""The in-process chain with a faster way to a transaction's receipt: eth-tester looks for it through all blocks, py-evm knows where it is."""

from __future__ import annotations

from typing import Any

from eth.exceptions import TransactionNotFound
from eth_tester import PyEVMBackend
from eth_tester.backends.pyevm.serializers import serialize_transaction_receipt


class IndexedBackend(PyEVMBackend):  # type: ignore[misc]  # eth-tester has no types
    """As eth-tester's, but for the time that events of a long chain take."""

    def get_transaction_receipt(self, transaction_hash: bytes) -> Any:
        """As eth-tester's."""
        chain = self.chain
        try:
            number, index = chain.get_canonical_transaction_index(transaction_hash)
        except TransactionNotFound:
            return super().get_transaction_receipt(transaction_hash)
        block = chain.get_canonical_block_by_number(number)
        return serialize_transaction_receipt(
            block,
            block.get_receipts(chain.chaindb),
            block.transactions[index],
            index,
            False,  # not pending
            chain.get_vm(),
        )
