"""A member's wishes for the negotiated market."""

from __future__ import annotations

from fastapi import APIRouter

from backend.domain.errors import MalformedInput

from ..relay import is_signed
from ..sessions import AnyCaller
from ..transactions import Prepared
from ..wishes import (
    SignedWishes,
    StoredWishes,
    Wishes,
    check_wishes,
    newest_wishes,
    store_wishes,
    wishes_digest,
    wishes_typed_data,
)
from .member import Slot

router = APIRouter(prefix="/communities/{community}/members/{slot}", tags=["wishes"])


@router.get("/wishes")
def wishes(slot: Slot, caller: AnyCaller) -> StoredWishes:
    """What the member wishes now."""
    caller.need_slot(slot)
    return newest_wishes(caller.site, slot)


@router.post("/wishes/text")
def prepare(slot: Slot, body: Wishes, caller: AnyCaller) -> Prepared:
    """What the wallet is to sign so that these wishes hold."""
    caller.need_slot(slot)
    site = caller.site
    check_wishes(site, slot, body)
    number = newest_wishes(site, slot).number + 1
    return Prepared(
        kind="signature",
        what="wishes",
        typed_data=wishes_typed_data(site, slot, number, body),
        submit=f"/api/v1/communities/{site.name}/members/{slot}/wishes",
        body={"number": number, "wishes": body.model_dump(mode="json")},
    )


@router.post("/wishes")
def keep(slot: Slot, body: SignedWishes, caller: AnyCaller) -> StoredWishes:
    """Keeps signed wishes; the same ones again change nothing."""
    caller.need_slot(slot)
    site = caller.site
    check_wishes(site, slot, body.wishes)
    account = caller.need_session()
    try:
        signature = bytes.fromhex(body.signature[2:])
    except ValueError:
        signature = b""
    digest = wishes_digest(site, slot, body.number, body.wishes)
    if not is_signed(site.web3, account, digest, signature):
        raise MalformedInput(
            "signature", "<not repeated>", f"is not that of {account}", "sign with that wallet"
        )
    return store_wishes(site, slot, account, body, signature)
