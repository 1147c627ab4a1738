"""The embedded chain finds transactions as the original does: mined, unknown, and taken back by a snapshot."""

from __future__ import annotations

from typing import Any

import pytest
from eth_tester import PyEVMBackend
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound
from web3.types import Wei

from backend.chain.embedded import embedded_tester, open_embedded


def pay(web3: Web3, wei: int) -> HexBytes:
    first, second = web3.eth.accounts[:2]
    return web3.eth.send_transaction({"from": first, "to": second, "value": Wei(wei)})


def test_what_is_mined_is_told_as_the_original_tells_it() -> None:
    web3 = open_embedded()
    backend: Any = embedded_tester(web3).backend
    for sent in [pay(web3, wei) for wei in (1, 2, 3)]:
        assert web3.eth.get_transaction_receipt(sent)["status"] == 1
        for name in ("get_transaction_by_hash", "get_transaction_receipt"):
            found = getattr(backend, name)(bytes(sent))
            assert found == getattr(PyEVMBackend, name)(backend, bytes(sent))


def test_an_unknown_transaction_is_not_found() -> None:
    with pytest.raises(TransactionNotFound):
        open_embedded().eth.get_transaction_receipt(HexBytes(b"\1" * 32))


def test_a_pending_transaction_is_known() -> None:
    web3 = open_embedded()
    tester = embedded_tester(web3)
    tester.disable_auto_mine_transactions()
    sent = pay(web3, 1)
    assert web3.eth.get_transaction(sent)["value"] == 1
    tester.enable_auto_mine_transactions()
    assert web3.eth.get_transaction_receipt(sent)["blockNumber"] == 1


def test_what_a_snapshot_took_back_is_gone() -> None:
    """Its hash stays in the index, where another transaction is by then."""
    web3 = open_embedded()
    tester = embedded_tester(web3)
    pay(web3, 1)
    snapshot = tester.take_snapshot()
    gone = [pay(web3, 2), pay(web3, 3)]
    tester.revert_to_snapshot(snapshot)
    for sent in gone:
        with pytest.raises(TransactionNotFound):
            web3.eth.get_transaction_receipt(sent)
    kept = pay(web3, 4)
    assert web3.eth.get_transaction_receipt(kept)["blockNumber"] == 2
    for sent in gone:
        with pytest.raises(TransactionNotFound):
            web3.eth.get_transaction_receipt(sent)
