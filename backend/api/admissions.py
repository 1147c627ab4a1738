"""Admissions that must be announced before they can be made: which period and which slot are left for somebody who signs now."""

from __future__ import annotations

import threading
from typing import Any

from backend.audit.chain_reader import ChainReader
from backend.domain.community import FIRST_MEMBER_SLOT
from deploy.community import REGISTRAR_ROLE

from .site import Site

_READING = threading.Lock()


def registrars_delay(site: Site) -> int:
    """Seconds between the announcement of an admission and the admission; the slowest registrar's, 0 if there is none."""
    granted = _access_events(site, "RoleGranted")
    accounts = {
        str(given["account"]) for given in granted if int(given["roleId"]) == REGISTRAR_ROLE
    }
    found = [site.contracts.has_role(REGISTRAR_ROLE, account) for account in sorted(accounts)]
    return max((delay for holds, delay in found if holds), default=0)


def first_period(site: Site, delay_seconds: int) -> int:
    """The first period from which on somebody can be a member whose admission has still to be announced."""
    first = site.contracts.first_future_period()
    if delay_seconds == 0:
        return first
    # One more, so that there is time to bring the consent to the registrar.
    return first + -(-delay_seconds // site.parameters.shortest_period_seconds) + 1


def next_slot(site: Site) -> int:
    """The first slot that was not given out, nor will be by an admission that the registrar has announced."""
    given = {int(event["slot"]) for event in site.events("MemberAdmitted")} | announced_slots(site)
    return max(given, default=FIRST_MEMBER_SLOT - 1) + 1


def announced_slots(site: Site) -> set[int]:
    """Slots of admissions that were announced and can still be made."""
    manager = site.contracts.functions("AccessManager")
    registry = site.contracts.addresses["MemberRegistry"]
    found = set()
    for given in _access_events(site, "OperationScheduled"):
        # 0 once it was done, cancelled, or left lying for a week.
        if given["target"] == registry and manager.getSchedule(given["operationId"]).call():
            slot = site.contracts.admitted_slot(bytes(given["data"]))
            found |= set() if slot is None else {slot}
    return found


def _access_events(site: Site, name: str) -> list[dict[str, Any]]:
    """Arguments of the events of who may do what, oldest first; each is asked for once."""
    house = site.contracts.addresses["ClearingHouse"]
    with _READING:
        reader = site.kept("access events", lambda: ChainReader(site.web3, house))
        reader.refresh()
        return [dict(entry["args"]) for entry in reader.events("AccessManager", name)]
