"""Who may what: read from the chain, and from nowhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT, SUPPLIER_SLOT
from deploy.community import (
    ADMIN_ROLE,
    AUDITOR_ROLE,
    COORDINATOR_ROLE,
    METER_ROLE,
    ORACLE_ROLE,
    PAUSER_ROLE,
    REGISTRAR_ROLE,
    TARIFF_ROLE,
)

from .site import Site

_FRESH_SECONDS = 15.0


class Role(StrEnum):
    """What somebody is in a community."""

    MEMBER = "member"
    COORDINATOR = "coordinator"
    ADMINISTRATOR = "administrator"
    REGISTRAR = "registrar"
    TARIFF = "tariff"
    ORACLE = "oracle"
    METER = "meter"
    PAUSER = "pauser"
    AUDITOR = "auditor"
    DSO = "dso"
    SUPPLIER = "supplier"


ROLE_NUMBERS: Mapping[Role, int] = {
    Role.ADMINISTRATOR: ADMIN_ROLE,
    Role.COORDINATOR: COORDINATOR_ROLE,
    Role.REGISTRAR: REGISTRAR_ROLE,
    Role.TARIFF: TARIFF_ROLE,
    Role.ORACLE: ORACLE_ROLE,
    Role.METER: METER_ROLE,
    Role.PAUSER: PAUSER_ROLE,
    Role.AUDITOR: AUDITOR_ROLE,
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What an address may in a community.

    Attributes:
        slots: whose owner it is, members' ones only.
        roles: everything else follows from them.
    """

    slots: tuple[int, ...] = ()
    roles: frozenset[Role] = frozenset()


class ChainRoles:
    """What addresses are in a community, as the chain has it; asked again after a quarter of a minute.

    Args:
        site: the community.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[str, tuple[float, Rights]] = {}
        self._owners: tuple[float, dict[str, tuple[int, ...]]] = (float("-inf"), {})

    def known(self, address: str) -> Rights | None:
        """What an address may, if that was asked a moment ago."""
        asked, found = self._known.get(address, (float("-inf"), Rights()))
        return found if time.monotonic() - asked < _FRESH_SECONDS else None

    def of(self, address: str) -> Rights:
        """What an address is.

        Raises:
            NodeError: the chain does not answer.
        """
        known = self.known(address)
        if known is not None:
            return known
        now = time.monotonic()
        found = self._ask(address, now)
        self._known[address] = (now, found)
        return found

    def forget(self) -> None:
        """After something was written to the chain."""
        self._known.clear()
        self._owners = (float("-inf"), {})

    def _ask(self, address: str, now: float) -> Rights:
        contracts = self._site.contracts
        owned = self._slots(now).get(address.lower(), ())
        roles = {
            role for role, number in ROLE_NUMBERS.items() if contracts.has_role(number, address)[0]
        }
        members = tuple(slot for slot in owned if slot >= FIRST_MEMBER_SLOT)
        if members:
            roles.add(Role.MEMBER)
        if DSO_SLOT in owned:
            roles.add(Role.DSO)
        if SUPPLIER_SLOT in owned:
            roles.add(Role.SUPPLIER)
        return Rights(members, frozenset(roles))

    def _slots(self, now: float) -> dict[str, tuple[int, ...]]:
        """Slots by account; the registry has no way to ask for them by account."""
        asked, found = self._owners
        if now - asked < _FRESH_SECONDS:
            return found
        slots: dict[str, tuple[int, ...]] = {}
        for event in self._site.events("MemberAdmitted"):
            account = str(event["account"]).lower()
            slots[account] = (*slots.get(account, ()), int(event["slot"]))
        self._owners = (now, slots)
        return slots
