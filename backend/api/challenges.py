"""The challenges that a member's own data allow, prepared for programs. Browsers make theirs themselves (docs/verify.md): a site
that lies about a bill could prepare a challenge that fails.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter

from backend.audit.chain_reader import ChainReader
from backend.audit.disputes import Challenge, Published, find_challenges
from backend.audit.facts import SubmittedBatch
from backend.domain.errors import UnknownReference

from .sessions import AnyCaller
from .site import Site
from .transactions import Number, Prepared, Slot, as_call

router = APIRouter(prefix="/communities/{community}", tags=["transactions"])


@router.get("/members/{slot}/batches/{number}/challenges")
def challenges(slot: Slot, number: Number, caller: AnyCaller) -> tuple[Prepared, ...]:
    """The transactions that overturn a batch by what it says of this member; none for an honest one.

    Where there are two steps, the first; after the contract's time for an answer the second is `voidUnanswered`.
    """
    caller.need_slot(slot)
    site = caller.site
    reader = ChainReader(site.web3, site.contracts.addresses["ClearingHouse"])
    batches = reader.standing_batches()
    by_number = {item.number: item for item in batches}
    by_hash = {item.header_hash: item for item in batches}
    if number not in by_number:
        raise UnknownReference("batch", number, "no such batch", "see the list of batches")
    batch = by_number[number]
    if batch.final:
        return ()

    def published(other: SubmittedBatch | None) -> Published | None:
        return None if other is None else Published(other, _own(site, other, slot))

    target = published(batch)
    assert target is not None
    found = find_challenges(
        reader,
        target,
        published(by_number.get(number - 1)),
        published(by_hash.get(bytes(batch.header["correctedBatch"]))),
    )
    # Of the others nothing was shown here; that is their business.
    own = [item for item in found if item.what.startswith(f"slot {slot}:")]
    return tuple(_prepared(site, item) for item in own)


def _own(site: Site, batch: SubmittedBatch, slot: int) -> dict[int, Any]:
    data = site.bundles.store.personal(bytes(batch.header["bundleHash"]), slot)
    return {} if data is None else {slot: json.loads(data)}


def _prepared(site: Site, challenge: Challenge) -> Prepared:
    function = getattr(site.contracts.functions("Challenges"), challenge.function)
    call = as_call(site, function(*challenge.arguments))
    sent = call.model_copy(update={"value": hex(challenge.value_wei)})
    facts = {"reason": challenge.what}
    if challenge.value_wei:
        facts["bond_wei"] = str(challenge.value_wei)
    return Prepared(kind="transaction", what=challenge.function, transaction=sent, facts=facts)
