"""Members' wishes: limits and partners, signed by the member's wallet (EIP-712), kept as they were signed.

They act on the negotiated market before delivery (`backend/negotiation`), whose household agents read them as `Wishes`. The pool
that clears after the fact knows no wishes: nobody is worse off in it than outside, whoever trades with whom.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from backend.domain.community import FIRST_MEMBER_SLOT
from backend.domain.errors import ChangedMeanwhile, MalformedInput, UnknownReference
from backend.domain.units import PRICE_LIMIT_NANO_PER_WH, SLOT_LIMIT
from backend.domain.values import Value
from backend.ledger.tables import WishRow
from backend.negotiation.households import Wishes as HouseholdWishes

from .site import Site

_PARTNERS = 256
Price = Annotated[int, Field(gt=-PRICE_LIMIT_NANO_PER_WH, lt=PRICE_LIMIT_NANO_PER_WH)]
PartnerSlot = Annotated[int, Field(ge=FIRST_MEMBER_SLOT, lt=SLOT_LIMIT)]

WISHES_FIELDS = (
    ("slot", "uint256"),
    ("number", "uint64"),
    ("automatic", "bool"),
    ("buyLimitNanoPerWh", "int64"),
    ("sellLimitNanoPerWh", "int64"),
    ("preferred", "Partner[]"),
    ("refused", "uint256[]"),
    ("greenPremiumNanoPerWh", "int64"),
    ("localPremiumNanoPerWh", "int64"),
)
PARTNER_FIELDS = (("slot", "uint256"), ("premiumNanoPerWh", "int64"))
_DOMAIN_FIELDS = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


class PreferredPartner(Value):
    """A partner, and what a Wh with it is worth beyond its price."""

    slot: PartnerSlot
    premium_nano_per_wh: Price


class Wishes(Value):
    """What a member wants of the negotiated market. Prices include its own share of the network fees.

    Attributes:
        automatic: the agent chooses limits and partners by itself; the rest then says nothing.
        buy_limit_nano_per_wh: most it pays.
        sell_limit_nano_per_wh: least it takes.
        preferred, refused: partners by slot.
        green_premium_nano_per_wh: what a Wh from a generator is worth beyond its price.
        local_premium_nano_per_wh: what a Wh from or to its own node is worth beyond its price.
    """

    automatic: bool = True
    buy_limit_nano_per_wh: Price = 0
    sell_limit_nano_per_wh: Price = 0
    preferred: Annotated[
        tuple[PreferredPartner, ...], Field(max_length=_PARTNERS, strict=False)
    ] = ()
    refused: Annotated[tuple[PartnerSlot, ...], Field(max_length=_PARTNERS, strict=False)] = ()
    green_premium_nano_per_wh: Price = 0
    local_premium_nano_per_wh: Price = 0


class SignedWishes(Value):
    """Wishes with their number and the signature over both."""

    number: Annotated[int, Field(ge=1, lt=2**31)]
    wishes: Wishes
    signature: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]*$", min_length=4, max_length=16_384)]


class StoredWishes(Value):
    """A member's wishes; number 0 where it never said anything, and so is automatic."""

    slot: int
    number: int
    wishes: Wishes
    signed_at: datetime | None


def newest_wishes(site: Site, slot: int) -> StoredWishes:
    """What a member wishes now."""
    with Session(site.ledger.engine) as session:
        row = _newest(session, slot)
    if row is None:
        return StoredWishes(slot=slot, number=0, wishes=Wishes(), signed_at=None)
    return _stored(site, row)


def _newest(session: Session, slot: int) -> WishRow | None:
    return session.exec(
        select(WishRow).where(WishRow.slot == slot).order_by(col(WishRow.number).desc()).limit(1)
    ).first()


def _stored(site: Site, row: WishRow) -> StoredWishes:
    return StoredWishes(
        slot=row.slot,
        number=row.number,
        wishes=Wishes.from_data(json.loads(row.wishes)),
        signed_at=site.moment(row.at),
    )


def all_wishes(site: Site, slot: int) -> list[dict[str, Any]]:
    """Everything a member ever wished, oldest first."""
    with Session(site.ledger.engine) as session:
        rows = session.exec(
            select(WishRow).where(WishRow.slot == slot).order_by(col(WishRow.number))
        ).all()
    return [
        {
            "number": row.number,
            "wishes": json.loads(row.wishes),
            "account": row.account,
            "signature": "0x" + row.signature.hex(),
            "at": row.at,
        }
        for row in rows
    ]


def check_wishes(site: Site, slot: int, wishes: Wishes) -> None:
    """Checks wishes against the community.

    Raises:
        UnknownReference: a partner is no member.
        MalformedInput: a partner is the member itself, both preferred and refused, or named twice.
    """
    preferred = [item.slot for item in wishes.preferred]
    named = [*preferred, *wishes.refused]
    for partner in named:
        if site.known(partner) is None:
            raise UnknownReference("partner", partner, "no such member", "see the list of members")
        if partner == slot:
            raise MalformedInput("partner", partner, "is yourself", "leave it out")
        if named.count(partner) > 1:
            raise MalformedInput("partner", partner, "is named twice", "name it once")


def wishes_typed_data(site: Site, slot: int, number: int, wishes: Wishes) -> dict[str, Any]:
    """What the member's wallet signs, for `eth_signTypedData_v4`."""
    return {
        "types": {
            "EIP712Domain": _fields(_DOMAIN_FIELDS),
            "Wishes": _fields(WISHES_FIELDS),
            "Partner": _fields(PARTNER_FIELDS),
        },
        "primaryType": "Wishes",
        "domain": {
            "name": "Peerwatt",
            "version": "1",
            "chainId": site.chain_id,
            "verifyingContract": site.contracts.addresses["MemberRegistry"],
        },
        "message": {
            "slot": slot,
            "number": number,
            "automatic": wishes.automatic,
            "buyLimitNanoPerWh": wishes.buy_limit_nano_per_wh,
            "sellLimitNanoPerWh": wishes.sell_limit_nano_per_wh,
            "preferred": [
                {"slot": item.slot, "premiumNanoPerWh": item.premium_nano_per_wh}
                for item in wishes.preferred
            ],
            "refused": list(wishes.refused),
            "greenPremiumNanoPerWh": wishes.green_premium_nano_per_wh,
            "localPremiumNanoPerWh": wishes.local_premium_nano_per_wh,
        },
    }


def wishes_digest(site: Site, slot: int, number: int, wishes: Wishes) -> bytes:
    """EIP-712 digest of the same."""
    from eth_account.messages import _hash_eip191_message, encode_typed_data

    data = wishes_typed_data(site, slot, number, wishes)
    return bytes(_hash_eip191_message(encode_typed_data(full_message=data)))


def store_wishes(
    site: Site, slot: int, account: str, signed: SignedWishes, signature: bytes
) -> StoredWishes:
    """Keeps wishes whose signature was checked; the same ones again change nothing.

    Raises:
        ChangedMeanwhile: others were signed under that number, or it is not the next one.
    """
    text = json.dumps(signed.wishes.model_dump(mode="json"), sort_keys=True)
    with Session(site.ledger.engine) as session:
        known = session.get(WishRow, (slot, signed.number))
        if known is not None and known.wishes == text:
            return _stored(site, known)
        newest = _newest(session, slot)
        number = newest.number if newest else 0
        if known is not None or signed.number != number + 1:
            raise _outdated(signed.number, number)
        row = WishRow(
            slot=slot,
            number=signed.number,
            wishes=text,
            account=account,
            signature=signature,
            at=int(site.now()),
        )
        found = _stored(site, row)
        session.add(row)
        try:
            session.commit()
        except IntegrityError:
            raise _outdated(signed.number, number) from None
    return found


def household_wishes(site: Site, slot: int) -> HouseholdWishes | None:
    """A member's wishes as its household's agent takes them; None where it chooses by itself."""
    found = newest_wishes(site, slot).wishes
    if found.automatic:
        return None
    names = {item.slot: item.name for item in site.participants()}
    return HouseholdWishes(
        buy_limit=found.buy_limit_nano_per_wh,
        sell_limit=found.sell_limit_nano_per_wh,
        preferred={
            names[item.slot]: item.premium_nano_per_wh
            for item in found.preferred
            if item.slot in names
        },
        refused=frozenset(names[item] for item in found.refused if item in names),
        green_premium=found.green_premium_nano_per_wh,
        local_premium=found.local_premium_nano_per_wh,
    )


def _outdated(number: int, newest: int) -> ChangedMeanwhile:
    return ChangedMeanwhile(
        f"wishes number {number} cannot be kept: the newest have number {newest}",
        "read them again, and sign the next number",
    )


def _fields(fields: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in fields]
