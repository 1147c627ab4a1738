"""How a member shows that data is its own: it signs a text that names chain, contract, slot and time."""

from __future__ import annotations

from eth_account import Account
from eth_account.messages import defunct_hash_message

from contracts.bindings import CommunityContracts
from contracts.wallets import consents

TOKEN_SECONDS = 600
CLOCK_TOLERANCE_SECONDS = 60


def access_text(chain_id: int, clearing_house: str, slot: int, issued_at: int) -> str:
    """What a member signs to see its own data, for ten minutes."""
    return (
        "Peerwatt: show me my own data.\n"
        f"chain {chain_id}\ncommunity {clearing_house.lower()}\nslot {slot}\nissued at {issued_at}"
    )


def is_owner(
    contracts: CommunityContracts, chain_id: int, slot: int, issued_at: int, signature: bytes
) -> bool:
    """Whether the account of a slot signed (EIP-191); its key, or, if it is a contract, whoever the contract says (ERC-1271).

    Raises:
        NodeError: the chain cannot be asked.
    """
    if not contracts.slot_exists(slot):
        return False
    owner = contracts.member_at(slot).account
    text = access_text(chain_id, contracts.addresses["ClearingHouse"], slot, issued_at)
    digest = defunct_hash_message(text=text)
    try:
        signer: str = Account._recover_hash(digest, signature=signature)
    except Exception:  # whatever a stranger's bytes make the library raise
        signer = ""
    return signer.lower() == owner.lower() or consents(
        contracts.web3, owner, bytes(digest), signature
    )
