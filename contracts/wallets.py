"""Accounts that are contracts, and what they say of signatures (ERC-1271)."""

from __future__ import annotations

from web3 import Web3
from web3.exceptions import Web3Exception

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
# What stands as the code of a key's account that has delegated itself (EIP-7702).
_DELEGATED = bytes.fromhex("ef0100")


def consents(web3: Web3, account: str, digest: bytes, signature: bytes) -> bool:
    """Whether an account that is a contract accepts a signature; False for one that is none.

    A key's account that has delegated itself to a contract (EIP-7702) is none: the key can end that at any time, and what the
    contract accepted would be signed by nobody. The key's own signature counts for it.

    Args:
        web3: the chain it is on.
        account: its address.
        digest: what was signed, 32 bytes.
        signature: in whatever form the contract knows.
    """
    address = Web3.to_checksum_address(account)
    code = bytes(web3.eth.get_code(address))
    if not code or code.startswith(_DELEGATED):
        return False
    # Only the embedded chain raises it, and only who has one has the package.
    from eth_tester.exceptions import TransactionFailed

    asked = web3.eth.contract(address=address, abi=_IS_VALID_SIGNATURE)
    try:
        return bytes(asked.functions.isValidSignature(digest, signature).call()) == _CONSENT
    except (Web3Exception, TransactionFailed):
        # It reverts, or answers with something else: no consent.
        return False
