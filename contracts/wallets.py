"""Accounts that are contracts, and what they say of signatures (ERC-1271)."""

from __future__ import annotations

from web3 import Web3
from web3.exceptions import Web3Exception

from backend.domain.accounts import is_contract

_IS_VALID_SIGNATURE = [
    {
        "type": "function",
        "name": "isValidSignature",
        "stateMutability": "view",
        "inputs": [{"name": "hash", "type": "bytes32"}, {"name": "signature", "type": "bytes"}],
        "outputs": [{"name": "", "type": "bytes4"}],
    }
]
_CONSENT = bytes.fromhex("1626ba7e")


def consents(web3: Web3, account: str, digest: bytes, signature: bytes) -> bool:
    """Whether an account that is a contract accepts a signature; False for one that is none.

    Args:
        web3: the chain it is on.
        account: its address.
        digest: what was signed, 32 bytes.
        signature: in whatever form the contract knows.
    """
    address = Web3.to_checksum_address(account)
    if not is_contract(bytes(web3.eth.get_code(address))):
        return False
    # Only the embedded chain raises it, and only who has one has the package.
    from eth_tester.exceptions import TransactionFailed

    asked = web3.eth.contract(address=address, abi=_IS_VALID_SIGNATURE)
    try:
        return bytes(asked.functions.isValidSignature(digest, signature).call()) == _CONSENT
    except (Web3Exception, TransactionFailed):
        # It reverts, or answers with something else: no consent.
        return False
