"""Whether configuration and report fit the chain's registry. Money booked for somebody who is no member overturns a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from backend.domain.community import Member
from backend.domain.errors import MembersDiffer
from backend.market.problem import Market
from contracts.bindings import MemberRecord

_SHOWN_SLOTS = 10


def differences(
    on_chain: Mapping[int, MemberRecord], configured: Sequence[Member], market: Market
) -> dict[int, str]:
    """By slot, in which way configured members are not what the registry says.

    Args:
        on_chain: by slot, who is active in the period.
        configured: the members of the period.
        market: of the period's tariff.
    """
    found = dict.fromkeys(on_chain, "is a member on chain and not configured")
    for member in configured:
        record = on_chain.get(member.slot)
        group = market.group_index.get((member.node, member.tariff_class))
        if record is None:
            found[member.slot] = "is configured and no member on chain in this period"
        elif record.account.lower() != member.account.lower():
            found[member.slot] = "has another account on chain"
        elif group is None:
            found[member.slot] = (
                f"is configured in {member.tariff_class} at {member.node}, no group of the tariff"
            )
        elif (market.groups[group].node, market.groups[group].tariff_class) != (
            record.node,
            record.tariff_class,
        ):
            found[member.slot] = "has another node or tariff class on chain"
        else:
            del found[member.slot]
    return dict(sorted(found.items()))


def reported_members(
    on_chain: Mapping[int, MemberRecord],
    configured: Sequence[Member],
    market: Market,
    reported: Collection[int],
) -> list[Member]:
    """The members that were reported, in slot order.

    A member of the registry that was not reported is none of them: it is left to its own supplier, with an empty account in the
    batch. One that was reported must be the same everywhere.

    Raises:
        MembersDiffer: it is not.
    """
    wrong = differences(on_chain, configured, market)
    strangers = dict.fromkeys(set(reported) - set(on_chain), "was reported and is no member")
    odd = {slot: text for slot, text in {**wrong, **strangers}.items() if slot in reported}
    if odd:
        raise MembersDiffer(
            f"members are not what the registry says: {shown(odd)}",
            "correct `members` here, and at the oracle's signers, until they say what the registry says",
        )
    return sorted((item for item in configured if item.slot in reported), key=lambda m: m.slot)


def shown(found: Mapping[int, str]) -> str:
    """Slots and what is wrong with them, the first few."""
    told = [f"slot {slot} {text}" for slot, text in sorted(found.items())]
    more = f"; and {len(told) - _SHOWN_SLOTS} more" if len(told) > _SHOWN_SLOTS else ""
    return "; ".join(told[:_SHOWN_SLOTS]) + more
