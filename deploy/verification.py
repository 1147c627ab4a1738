"""Whether what is on the chain is what was compiled."""

from __future__ import annotations

import re

from contracts.artifact import artifact
from contracts.bindings import CommunityContracts

# PUSH32 of zeros: where the constructor puts an immutable value.
_PLACEHOLDER = re.compile(rb"\x7f\x00{32}", re.DOTALL)
# Of the community's own; a token may be anybody's.
OWN_CONTRACTS = (
    "AccessManager",
    "MemberRegistry",
    "MeterRegistry",
    "TariffBook",
    "ReadingOracle",
    "Vault",
    "Challenges",
    "ClearingHouse",
    "TradeBook",
)


def is_code_of(name: str, code: bytes) -> bool:
    """Whether deployed code is a contract's, whatever its constructor put in."""
    published = bytes.fromhex(artifact(name)["deployedBytecode"].removeprefix("0x"))
    if len(code) != len(published):
        return False
    masked = bytearray(code)
    for match in _PLACEHOLDER.finditer(published):
        masked[match.start() + 1 : match.end()] = bytes(32)
    return bytes(masked) == published


def differing_contracts(contracts: CommunityContracts) -> list[str]:
    """Names of the community's contracts whose code on the chain is not the artifact's."""
    return [
        name
        for name in OWN_CONTRACTS
        if name in contracts.addresses
        and not is_code_of(name, bytes(contracts.web3.eth.get_code(contracts.addresses[name])))
    ]
