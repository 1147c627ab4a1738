"""What holds for a community as a whole: its contracts, who can change what and how soon, its bond and its vault."""

from __future__ import annotations

import re
from typing import Any

from eth_utils.abi import function_abi_to_4byte_selector

from contracts.artifact import artifact

from .chain_reader import ChainReader, SubmittedBatch, head_values
from .verdict import Checks

_ADMIN_ROLE = 0
_PARTS = ("MemberRegistry", "TariffBook", "ReadingOracle", "Vault", "Challenges")
# The compiler leaves 32 zero bytes behind PUSH32 where the constructor puts a value.
_PLACEHOLDER = re.compile(b"\x7f" + b"\0" * 32)


# What the coordinator does every day; a batch is proved, so who may submit one needs no delay.
_COORDINATION = (
    "ClearingHouse.submitBatch",
    "ClearingHouse.submitCorrection",
    "ClearingHouse.postBond",
)


def check_community(reader: ChainReader, batches: list[SubmittedBatch], checks: Checks) -> None:
    """Contracts, roles and bond.

    Args:
        reader: the chain.
        batches: the standing ones.
        checks: told every outcome.
    """
    _check_contracts(reader, checks)
    _check_roles(reader, batches, checks)
    functions = reader.functions("ClearingHouse")
    owner, bond = functions.bond().call()
    needed = reader.parameters["bondWei"]
    still_open = [item.number for item in batches if not functions.isFinal(item.number).call()]
    checks.add(
        "a bond stands behind every batch that can be challenged",
        not still_open or bond >= needed,
        count=len(still_open),
        detail=f"{bond} wei of {owner}, {needed} needed; open: {still_open}",
    )


def _check_contracts(reader: ChainReader, checks: Checks) -> None:
    house = reader.address("ClearingHouse")
    strangers = [name for name in _PARTS if reader.functions(name).clearingHouse().call() != house]
    for name, getter, target in (
        ("Challenges", "registry", "MemberRegistry"),
        ("Challenges", "vault", "Vault"),
        ("Vault", "registry", "MemberRegistry"),
        ("MemberRegistry", "authority", "AccessManager"),
        ("TariffBook", "authority", "AccessManager"),
        ("ReadingOracle", "authority", "AccessManager"),
    ):
        if getattr(reader.functions(name), getter)().call() != reader.address(target):
            strangers.append(f"{name}.{getter}")
    checks.add(
        "all contracts are of this community",
        not strangers,
        count=len(_PARTS),
        detail=f"of another: {', '.join(strangers)}",
    )
    altered = [name for name in ("ClearingHouse", *_PARTS) if _constants(reader, name) is None]
    checks.add(
        "the contracts run the published code",
        not altered,
        count=len(_PARTS) + 1,
        detail=f"other code: {', '.join(altered)}",
    )
    expected = {
        *(int(reader.address(name), 16) for name in ("ClearingHouse", "MemberRegistry", "Vault")),
        reader.parameters["challengeSeconds"],
        reader.parameters["demandBondWei"],
    }
    checks.equal(
        "challenges have the community's times and bonds",
        sorted(_constants(reader, "Challenges") or ()),
        sorted(expected),
    )


def _constants(reader: ChainReader, name: str) -> set[int] | None:
    """What the constructor put into a contract's code; None if the rest is not the published code."""
    published = bytes.fromhex(artifact(name)["deployedBytecode"].removeprefix("0x"))
    code = bytearray(reader.web3.eth.get_code(reader.contracts[name].address))
    if len(code) != len(published):
        return None
    found = set()
    for match in _PLACEHOLDER.finditer(published):
        place = slice(match.start() + 1, match.end())
        found.add(int.from_bytes(code[place], "big"))
        code[place] = bytes(32)
    return found if bytes(code) == published else None


def _check_roles(reader: ChainReader, batches: list[SubmittedBatch], checks: Checks) -> None:
    """Every role that can change anything but the coordinator must act more slowly than members can leave."""
    given = reader.parameters
    longest = max(
        (item.header["intervalCount"] * given["intervalSeconds"] for item in batches),
        default=given["shortestPeriodSeconds"],
    )
    exit_seconds = given["challengeSeconds"] + longest
    manager = reader.functions("AccessManager")
    roles = _ruling_roles(reader)
    granted = {
        (entry["args"]["roleId"], entry["args"]["account"])
        for entry in reader.events("AccessManager", "RoleGranted")
    }
    slow: list[str] = []
    fast: list[str] = []
    for role, account in sorted(granted):
        holds, delay = manager.hasRole(role, account).call()
        if holds and role in roles:
            (slow if delay > exit_seconds else fast).append(f"{roles[role]}: {account} ({delay} s)")
    checks.add(
        f"whoever can change members, tariffs, signers, meters or roles waits longer than it takes to leave ({exit_seconds} s)",
        not fast,
        count=len(slow) + len(fast),
        detail="; ".join(fast),
    )


def _ruling_roles(reader: ChainReader) -> dict[int, str]:
    """Roles that can do more than submit or stop batches, with what they can do in words."""
    manager = reader.functions("AccessManager")
    names = {
        (reader.address(contract), bytes(function_abi_to_4byte_selector(entry))): (
            f"{contract}.{entry['name']}"
        )
        for contract in ("ClearingHouse", "MemberRegistry", "TariffBook", "ReadingOracle")
        for entry in artifact(contract)["abi"]
        if entry["type"] == "function"
    }
    roles: dict[int, str] = {_ADMIN_ROLE: "administrator"}
    for entry in reader.events("AccessManager", "TargetFunctionRoleUpdated"):
        target, selector = entry["args"]["target"], bytes(entry["args"]["selector"])
        role = manager.getTargetFunctionRole(target, selector).call()
        name = names.get((target, selector), f"a function of {target}")
        # None of the parts knows a trade book: what the coordinator commits there moves no money by itself.
        if (target, selector) not in names and selector in _trade_book_selectors():
            continue
        if name not in _COORDINATION:
            roles.setdefault(role, name)
    pending = list(roles)
    while pending:
        admin = manager.getRoleAdmin(pending.pop()).call()
        if admin not in roles:
            roles[admin] = "grants roles"
            pending.append(admin)
    return roles


def _trade_book_selectors() -> set[bytes]:
    return {
        bytes(function_abi_to_4byte_selector(entry))
        for entry in artifact("TradeBook")["abi"]
        if entry["type"] == "function" and entry["name"] in ("commit", "postBond")
    }


def check_vault(
    reader: ChainReader, last_final: SubmittedBatch, cumulative: dict[int, int], checks: Checks
) -> None:
    """Whether the vault could pay everything that can be withdrawn, all at once, and what guarantors may take back.

    Args:
        reader: the chain.
        last_final: the newest final batch.
        cumulative: its cumulative amounts by slot.
        checks: told every outcome.
    """
    vault = reader.functions("Vault")
    held = reader.functions("TestToken").balanceOf(reader.address("Vault")).call()
    accounts = dict.fromkeys(reader.members, 0) | cumulative
    head = head_values(last_final.header)
    owed = sum(vault.withdrawable(slot, amount, head).call() for slot, amount in accounts.items())
    guarantors = {
        entry["args"]["guarantor"] for entry in reader.events("Vault", "GuaranteeDeposited")
    }
    free_nano = 0
    for guarantor in guarantors:
        deposited, used = vault.guaranteeOf(guarantor).call()
        free_nano += deposited - used
    free = free_nano * vault.tokensPerNano().call() // vault.nanoPerToken().call()
    checks.add(
        "the vault holds at least what can be withdrawn",
        held >= owed + free,
        count=len(accounts) + len(guarantors),
        detail=f"{held} tokens held, {owed} withdrawable by accounts and {free} by guarantors",
    )


def check_cover(reader: ChainReader, cumulative: dict[int, int], checks: Checks) -> None:
    """Whether every account's debt is covered by its deposit and credit."""
    short: list[Any] = []
    for slot, amount in cumulative.items():
        left = reader.equity_with_credit(slot, amount)
        if left < 0:
            short.append(f"slot {slot} lacks {-left} nano")
    checks.add(
        "deposit and credit cover every account",
        not short,
        count=len(cumulative),
        detail="; ".join(short),
    )
