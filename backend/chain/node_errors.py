"""What a node's refusal means.

Clients word their errors differently and most share one code, so the words decide: those of Geth, Nethermind, Erigon, Besu, Reth,
anvil and py-evm.
"""

from __future__ import annotations

import re
from typing import Any

from backend.domain.errors import (
    AlreadyKnown,
    FeeTooLow,
    InsufficientFunds,
    NodeError,
    NonceTooLow,
)

_MEANINGS: tuple[tuple[re.Pattern[str], type[NodeError], str], ...] = (
    (
        re.compile(r"already known|alreadyknown|known transaction|already.?imported", re.I),
        AlreadyKnown,
        "nothing; the transaction is on its way",
    ),
    (
        re.compile(
            r"underpriced|fee ?too ?low|gas.?price.?too.?low|less than block base fee|"
            r"fee cap less|replacement.*not allowed|below.*minimum",
            re.I,
        ),
        FeeTooLow,
        "offer a higher fee; the sender does so by itself up to the network's fee_limit_gwei",
    ),
    (
        re.compile(r"nonce.?too.?low|old.?nonce|nonce is too low|invalid transaction nonce", re.I),
        NonceTooLow,
        "let no other program send with this key",
    ),
    (
        re.compile(
            r"insufficient.?(funds|balance)|upfront.?cost|not enough|cannot afford|balance too low",
            re.I,
        ),
        InsufficientFunds,
        "send native coins to the address that pays for gas",
    ),
)
# What executing a call came to, which any other node would say too; JSON-RPC has no one code for it.
_EXECUTED = re.compile(
    r"revert|out of gas|gas required exceeds|invalid opcode|invalid jump|stack (under|over)flow|"
    r"vm (execution error|exception)",
    re.I,
)
_REVERT_CODE = 3


def node_error(error: Exception | str) -> NodeError:
    """The narrow error for what a node said, or its library raised."""
    text = " ".join(str(error).split())[:300]
    for pattern, kind, remedy in _MEANINGS:
        if pattern.search(text):
            return kind(f"the node refused: {text}", remedy)
    return NodeError(f"the node refused: {text}", "read the node's own log")


def is_revert(error: dict[str, Any]) -> bool:
    """Whether the `error` of a JSON-RPC answer says what a call came to, and not that the node failed."""
    return error.get("code") == _REVERT_CODE or bool(_EXECUTED.search(str(error.get("message"))))
