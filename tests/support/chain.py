"""The embedded chain as tests use it: calls that answer with the contract's refusal, and going back to a snapshot."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eth_tester.exceptions import TransactionFailed
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError

from backend.domain.errors import ContractRefused
from contracts.bindings import decode_revert


@contextmanager
def restored(web3: Web3) -> Iterator[None]:
    """Whatever happens on the chain inside the block has not happened after it."""
    tester = web3.provider.ethereum_tester  # type: ignore[attr-defined]
    snapshot = tester.take_snapshot()
    try:
        yield
    finally:
        tester.revert_to_snapshot(snapshot)


def answer(call: ContractFunction) -> Any:
    """What a call returns, or the decoded refusal if it reverts; nothing is sent.

    Returns:
        The return value, or a `ContractRefused` (returned, not raised).
    """
    try:
        return call.call()
    except (ContractLogicError, TransactionFailed) as error:
        return decode_revert(_revert_data(error))


def said(refused: ContractRefused | None) -> tuple[Any, ...] | None:
    """A refusal as (name of the custom error, its arguments in order); None if there was none."""
    if refused is None:
        return None
    return (refused.error_name, *refused.arguments.values())


def _revert_data(error: Exception) -> bytes:
    data = getattr(error, "data", None)
    if isinstance(data, str):
        return bytes.fromhex(data.removeprefix("0x"))
    found = ast.literal_eval(str(error).removeprefix("execution reverted: "))
    assert isinstance(found, bytes)
    return found
