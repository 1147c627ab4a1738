"""The embedded chain as tests use it: calls that answer with the contract's refusal, and going back to a snapshot."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_tester.exceptions import TransactionFailed
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError
from web3.types import TxParams, Wei

from backend.chain.client import ChainClient
from backend.chain.embedded import embedded_tester
from backend.domain.errors import ContractRefused
from contracts.bindings import decode_revert


@contextmanager
def restored(web3: Web3) -> Iterator[None]:
    """Whatever happens on the chain inside the block has not happened after it."""
    tester = embedded_tester(web3)
    snapshot = tester.take_snapshot()
    try:
        yield
    finally:
        tester.revert_to_snapshot(snapshot)


def answer(call: ContractFunction, transaction: TxParams | None = None) -> Any:
    """What a call returns, or the decoded refusal if it reverts; nothing is sent.

    Args:
        transaction: sender and value, if they matter.

    Returns:
        The return value, or a `ContractRefused` (returned, not raised).
    """
    try:
        return call.call(transaction or {})
    except (ContractLogicError, TransactionFailed) as error:
        return decode_revert(_revert_data(error))


def said(refused: ContractRefused | None) -> tuple[Any, ...] | None:
    """A refusal as (name of the custom error, its arguments in order); None if there was none."""
    if refused is None:
        return None
    return (refused.error_name, *refused.arguments.values())


def deploy_code(client: ChainClient, runtime: str, key: LocalAccount) -> ChecksumAddress:
    """Puts hand-written bytecode on the chain: contracts so small that compiling them would say less.

    Args:
        client: the chain.
        runtime: the contract's code in hex, at most 255 bytes.
        key: who pays.

    Returns:
        Its address.
    """
    size = len(runtime) // 2
    # PUSH1 size, DUP1, PUSH1 11, PUSH1 0, CODECOPY, PUSH1 0, RETURN
    initcode = f"60{size:02x}80600b6000396000f3" + runtime
    web3 = client.web3
    transaction: TxParams = {
        "from": key.address,
        "nonce": web3.eth.get_transaction_count(key.address),
        "value": Wei(0),
        "gas": 1_000_000,
        "maxFeePerGas": Wei(10**10),
        "maxPriorityFeePerGas": Wei(10**9),
        "chainId": client.chain_id,
        "data": HexBytes(initcode),
    }
    signed = key.sign_transaction(transaction)  # type: ignore[arg-type]
    sent = web3.eth.send_raw_transaction(signed.raw_transaction)
    address = web3.eth.wait_for_transaction_receipt(sent)["contractAddress"]
    assert address is not None
    assert web3.eth.get_code(address).hex().removeprefix("0x") == runtime
    return address


def _revert_data(error: Exception) -> bytes:
    data = getattr(error, "data", None)
    if isinstance(data, str):
        return bytes.fromhex(data.removeprefix("0x"))
    found = ast.literal_eval(str(error).removeprefix("execution reverted: "))
    assert isinstance(found, bytes)
    return found
