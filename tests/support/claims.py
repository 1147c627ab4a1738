"""What a site says of a member's statement, as the browser gets it; to be spoiled one thing at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from backend.settlement.batch import Batch
from tests.support.community import FIRST_PERIOD, LiveCommunity

Claim = dict[str, Any]


def claim_of(community: LiveCommunity, slot: int, batch: Batch, *others: Batch) -> Claim:
    """The honest claim.

    Args:
        community: on its chain.
        slot: whose statement.
        batch: the batch it belongs to.
        others: the batch before it, the one it corrects.
    """
    return {
        "chainId": community.client.chain_id,
        "clearingHouse": community.place.clearing_house,
        "slot": slot,
        "number": batch.header.number,
        "batchHash": shown(batch.header.hash()),
        "amountNano": str(batch.leaves[slot].amount_nano),
        "documents": {
            shown(item.header.hash()): documents(community, slot, item) for item in (batch, *others)
        },
    }


def documents(community: LiveCommunity, slot: int, batch: Batch) -> dict[str, str | None]:
    """What the coordinator shows the member of a batch."""
    period = community.period(batch.header.period - FIRST_PERIOD)
    bundle = community.paper.bundle(batch, period, community.place)
    return {"public": bundle.public.decode(), "personal": bundle.personal[slot].decode()}


def renamed(community: LiveCommunity, batch: Batch) -> Batch:
    """A batch that was altered, naming the bundle that belongs to it."""
    period = community.period(batch.header.period - FIRST_PERIOD)
    return batch.with_bundle_hash(community.paper.bundle(batch, period, community.place).hash)


def tampered(
    claim: Claim, part: str, change: Callable[[dict[str, Any]], object], batch: Batch | None = None
) -> Claim:
    """The claim with a document altered on its way."""
    wanted = shown(batch.header.hash()) if batch else claim["batchHash"]
    data = json.loads(claim["documents"][wanted][part])
    change(data)
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    altered = claim["documents"][wanted] | {part: text}
    return claim | {"documents": claim["documents"] | {wanted: altered}}


def shown(data: bytes) -> str:
    """Bytes as JSON has them."""
    return "0x" + data.hex()
