"""Accounts on the chain: keys and contracts."""

from __future__ import annotations

# What stands as the code of a key's account that has delegated itself (EIP-7702).
_DELEGATED = bytes.fromhex("ef0100")


def is_contract(code: bytes) -> bool:
    """Whether an account is a contract, by the code at its address.

    A key's account that has delegated itself to a contract is none: the key can end that at any time, and what the contract accepted
    would be signed by nobody. The key's own signature counts for it.
    """
    return bool(code) and not code.startswith(_DELEGATED)
