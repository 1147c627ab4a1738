"""One trace id for all that happens to a community's period, from reading to settlement.

It follows from chain, contract and period, so that signers, coordinator and whoever reads their logs find the same without telling
each other (32 hexadecimal digits, as in W3C Trace Context).
"""

from __future__ import annotations

import hashlib


def trace_id(chain_id: int, clearing_house: str, period: int) -> str:
    """The trace id of a period."""
    text = f"peerwatt {chain_id} {clearing_house.lower()} {period}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
