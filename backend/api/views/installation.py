"""What the coordinator sees of keys, roles and health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Literal

from web3 import Web3

from backend.audit.chain_reader import ChainReader
from backend.domain.errors import NodeError
from backend.domain.values import Value

from ..roles import ROLE_NUMBERS
from ..site import Site
from .values import HexText, Wei

# A coordinator with less than this many batches' worth of gas money is warned.
_FEW_BATCHES = 20
_BATCH_GAS = 1_000_000
# Reading all grants anew takes a node a while; whether they still hold is asked every time.
_GRANTS_SECONDS = 600


class RoleEntry(Value):
    """A role on chain and who holds it; `delay_seconds` passes between announcing and doing."""

    role: str
    number: int | None
    account: HexText
    delay_seconds: int


class Keys(Value):
    """Roles, oracle signers and the bond."""

    contracts: dict[str, HexText]
    roles: tuple[RoleEntry, ...]
    signers: tuple[HexText, ...]
    threshold: int
    bond_owner: HexText
    bond_wei: Wei
    bond_needed_wei: Wei
    coordinator_balance_wei: Wei


class HealthCheck(Value):
    """One thing that was looked after."""

    what: str
    level: Literal["ok", "warning", "wrong"]
    found: str
    mend: str


class Health(Value):
    """How the community's services are."""

    level: Literal["ok", "warning", "wrong"]
    now: datetime
    chain_block: int
    chain_time: datetime
    checks: tuple[HealthCheck, ...]


def keys(site: Site) -> Keys:
    """Roles as the chain has them, the oracle's signers, the bond."""
    return site.made_once("keys", lambda: _keys(site))


def _keys(site: Site) -> Keys:
    oracle = site.contracts.oracle_config()
    owner, amount = site.contracts.bond()
    roles = tuple(_roles(site))
    coordinator = next((item.account for item in roles if item.role == "coordinator"), owner)
    return Keys(
        contracts=dict(site.contracts.addresses),
        roles=roles,
        signers=oracle.signers,
        threshold=oracle.threshold,
        bond_owner=owner,
        bond_wei=str(amount),
        bond_needed_wei=str(site.parameters.bond_wei),
        coordinator_balance_wei=str(
            site.web3.eth.get_balance(Web3.to_checksum_address(coordinator))
        ),
    )


def _roles(site: Site) -> Iterator[RoleEntry]:
    """Who was ever granted a role and still has it."""
    numbers = {number: role for role, number in ROLE_NUMBERS.items()}
    known = site.extras.get("role grants", (float("-inf"), ()))
    if time.monotonic() - known[0] > _GRANTS_SECONDS:
        reader = ChainReader(site.web3, site.contracts.addresses["ClearingHouse"])
        events = reader.events("AccessManager", "RoleGranted")
        granted = {(int(item["args"]["roleId"]), str(item["args"]["account"])) for item in events}
        known = site.extras["role grants"] = (time.monotonic(), tuple(sorted(granted)))
    for number, account in known[1]:
        address = Web3.to_checksum_address(account)
        holds, delay = site.contracts.has_role(number, address)
        if holds:
            yield RoleEntry(
                role=str(numbers.get(number, f"role {number}")),
                number=number,
                account=address,
                delay_seconds=delay,
            )


def health(site: Site) -> Health:
    """How chain, database, oracle and coordinator are."""
    checks = list(_checks(site))
    levels = {check.level for check in checks}
    level: Literal["ok", "warning", "wrong"] = "ok"
    if "wrong" in levels:
        level = "wrong"
    elif "warning" in levels:
        level = "warning"
    return Health(
        level=level,
        now=site.moment(site.now()),
        chain_block=site.cycle.booked_block(),
        chain_time=site.moment(site.chain_time()),
        checks=tuple(checks),
    )


def _checks(site: Site) -> Iterator[HealthCheck]:
    booked = site.cycle.booked_block()
    try:
        head = site.web3.eth.block_number
    except NodeError as error:
        yield _check("the chain's node", "wrong", error.message, error.remedy)
        return
    behind = head - booked
    yield _check(
        "the chain's node", "ok" if behind < 500 else "warning",
        f"block {head}, books {behind} behind", "see that the coordinator runs",
    )  # fmt: skip
    if site.contracts.is_frozen():
        yield _check("the community", "wrong", "frozen", "everybody leaves on the last final batch")
    found = keys(site)
    lacking = int(found.bond_wei) < int(found.bond_needed_wei)
    yield _check(
        "the bond", "warning" if lacking else "ok",
        f"{_coins(found.bond_wei)} of {_coins(found.bond_needed_wei)} coins",
        "the cycle adds what it lacks before it submits" if lacking else "",
    )  # fmt: skip
    fee = int(site.web3.eth.get_block("latest").get("baseFeePerGas", 0)) + 10**9
    batches = int(found.coordinator_balance_wei) // (fee * _BATCH_GAS)
    yield _check(
        "the coordinator's gas money", "ok" if batches >= _FEW_BATCHES else "warning",
        f"enough for {batches} batches", "send its key some native coins",
    )  # fmt: skip
    for what, fault in site.services():
        yield _check(
            what,
            "ok" if fault is None else "wrong",
            "answers" if fault is None else fault.message,
            "" if fault is None else fault.remedy,
        )
    for failure in site.failures():
        yield _check("the cycle", "wrong", failure.message, failure.remedy)


def _check(
    what: str, level: Literal["ok", "warning", "wrong"], found: str, mend: str
) -> HealthCheck:
    return HealthCheck(what=what, level=level, found=found, mend="" if level == "ok" else mend)


def _coins(wei: str) -> str:
    """Native coins, without needless zeros."""
    return f"{(Decimal(wei) / 10**18).normalize():f}"
