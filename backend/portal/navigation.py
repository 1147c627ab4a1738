"""Which pages there are for whom."""

from __future__ import annotations

from dataclasses import dataclass

from backend.api.roles import Role
from backend.api.sessions import Caller

from .languages import marked

# Whoever works for the community, or on its keys.
OFFICERS = (
    Role.COORDINATOR,
    Role.ADMINISTRATOR,
    Role.REGISTRAR,
    Role.TARIFF,
    Role.ORACLE,
    Role.METER,
    Role.PAUSER,
)


@dataclass(frozen=True)
class Item:
    """A page: path below the community's, label to translate, icon of the sprite."""

    path: str
    label: str
    icon: str


@dataclass(frozen=True)
class Section:
    """Pages for one kind of user."""

    label: str
    items: tuple[Item, ...]


MEMBER = Section(
    marked("My electricity"),
    (
        Item("/today", marked("Today"), "sun"),
        Item("/savings", marked("Savings"), "coins"),
        Item("/trades", marked("Trades"), "swap"),
        Item("/wishes", marked("Wishes"), "heart"),
        Item("/statements", marked("Statements"), "paper"),
    ),
)
COMMUNITY = Section(
    marked("Community"),
    (
        Item("/community", marked("Balance"), "chart"),
        Item("/community/network", marked("Who with whom"), "network"),
        Item("/community/participants", marked("Participants"), "people"),
    ),
)
COORDINATOR = Section(
    marked("Coordinator"),
    (
        Item("/coordinator", marked("Readings"), "grid"),
        Item("/coordinator/periods", marked("Periods"), "calendar"),
        Item("/coordinator/exceptions", marked("Exceptions"), "alert"),
        Item("/coordinator/members", marked("Members"), "people"),
        Item("/coordinator/roles", marked("Keys and roles"), "key"),
    ),
)
DSO = Section(
    marked("Network operator"),
    (Item("/dso", marked("Fees and flows"), "pylon"),),
)
AUDITOR = Section(
    marked("Audit"),
    (Item("/audit", marked("Periods"), "shield"),),
)


def sections(caller: Caller) -> tuple[Section, ...]:
    """The sections that the caller's rights open, in the order of the menu."""
    if not caller.signed_in:
        return ()
    found = [MEMBER] if caller.has(Role.MEMBER) else []
    if caller.has(Role.MEMBER, Role.AUDITOR, Role.DSO, *OFFICERS):
        found.append(COMMUNITY)
    if caller.has(*OFFICERS):
        found.append(COORDINATOR)
    if caller.has(Role.DSO):
        found.append(DSO)
    # What auditors see is public; everybody may be one.
    return (*found, AUDITOR)


@dataclass(frozen=True)
class Current:
    """Where in the menu a page stands."""

    section: Section | None = None
    item: Item | None = None


def current(among: tuple[Section, ...], path: str) -> Current:
    """The menu's item of a page, the closest above it.

    Args:
        among: the caller's sections.
        path: below the community's.
    """
    found = Current()
    for section in among:
        for item in section.items:
            within = path == item.path or path.startswith(item.path + "/")
            if within and (found.item is None or len(item.path) > len(found.item.path)):
                found = Current(section, item)
    return found
