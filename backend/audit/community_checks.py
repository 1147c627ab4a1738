"""What holds for a community as a whole: its contracts, who can change what and how soon, its bond and its vault."""

from __future__ import annotations

from typing import Any

from eth_utils.abi import function_abi_to_4byte_selector

from contracts.artifact import artifact

from .chain_reader import ChainReader, function_selector
from .facts import SubmittedBatch, head_values
from .verdict import Checks

_ADMIN_ROLE = 0
_PARTS = ("MemberRegistry", "TariffBook", "ReadingOracle", "Vault", "Challenges")

# From the end of a day until its batch is submitted, in a community that works; a quarter of a shorter period.
_SUBMISSION_SECONDS = 6 * 3600

VAULT = "the vault holds at least what can be withdrawn"
COVER = "deposit and credit cover every account"
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
    _check_completeness(reader, batches, checks)
    _check_demands(reader, batches, checks)
    _check_deposits(reader, checks)
    owner, bond = reader.ask("ClearingHouse", "bond")
    needed = reader.parameters["bondWei"]
    still_open = [item.number for item in batches if not item.final]
    checks.add(
        "a bond stands behind every batch that can be challenged",
        not still_open or bond >= needed,
        count=len(still_open),
        detail=f"{bond} wei of {owner}, {needed} needed; open: {still_open}",
    )


def _check_contracts(reader: ChainReader, checks: Checks) -> None:
    house = reader.address("ClearingHouse")
    strangers = [name for name in _PARTS if reader.ask(name, "clearingHouse") != house]
    for name, getter, target in (
        ("Challenges", "registry", "MemberRegistry"),
        ("Challenges", "vault", "Vault"),
        ("Vault", "registry", "MemberRegistry"),
        ("MemberRegistry", "authority", "AccessManager"),
        ("TariffBook", "authority", "AccessManager"),
        ("ReadingOracle", "authority", "AccessManager"),
    ):
        if reader.ask(name, getter) != reader.address(target):
            strangers.append(f"{name}.{getter}")
    checks.add(
        "all contracts are of this community",
        not strangers,
        count=len(_PARTS),
        detail=f"of another: {', '.join(strangers)}",
    )
    altered = [name for name in ("ClearingHouse", *_PARTS) if reader.constants(name) is None]
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
        sorted(reader.constants("Challenges") or ()),
        sorted(expected),
    )


def _check_roles(reader: ChainReader, batches: list[SubmittedBatch], checks: Checks) -> None:
    """Every role that can change anything but the coordinator must act more slowly than members can leave."""
    given = reader.parameters
    # Until the last period is settled and final; then what is free is announced, and waits once more while batches are open.
    longest = max(
        (item.header["intervalCount"] * given["intervalSeconds"] for item in batches),
        default=given["shortestPeriodSeconds"],
    )
    submission = min(_SUBMISSION_SECONDS, longest // 4)
    exit_seconds = longest + submission + 2 * given["challengeSeconds"]
    roles = _ruling_roles(reader)
    granted = {
        (entry["args"]["roleId"], entry["args"]["account"])
        for entry in reader.events("AccessManager", "RoleGranted")
    }
    slow: list[str] = []
    fast: list[str] = []
    for role, account in sorted(granted):
        holds, delay = reader.ask("AccessManager", "hasRole", role, account)
        if holds and role in roles:
            (slow if delay >= exit_seconds else fast).append(
                f"{roles[role]}: {account} ({delay} s)"
            )
    checks.add(
        f"whoever can change members, tariffs, signers, meters or roles waits as long as it takes to leave ({exit_seconds} s)",
        not fast,
        count=len(slow) + len(fast),
        detail="; ".join(fast),
    )


def _ruling_roles(reader: ChainReader) -> dict[int, str]:
    """Roles that can do more than submit or stop batches, with what they can do in words."""
    names = {
        (reader.address(contract), bytes(function_abi_to_4byte_selector(entry))): (
            f"{contract}.{entry['name']}"
        )
        for contract in ("ClearingHouse", "MemberRegistry", "TariffBook", "ReadingOracle")
        for entry in artifact(contract)["abi"]
        if entry["type"] == "function"
    }
    roles: dict[int, str] = {_ADMIN_ROLE: "administrator"}
    committing = {function_selector("TradeBook", name) for name in ("commit", "postBond")}
    for entry in reader.events("AccessManager", "TargetFunctionRoleUpdated"):
        target, selector = entry["args"]["target"], bytes(entry["args"]["selector"])
        role = reader.ask("AccessManager", "getTargetFunctionRole", target, selector)
        name = names.get((target, selector), f"a function of {target}")
        # What the coordinator commits there moves no money by itself.
        if target in reader.trade_books and selector in committing:
            continue
        if name not in _COORDINATION:
            roles.setdefault(role, name)
    pending = list(roles)
    while pending:
        admin = reader.ask("AccessManager", "getRoleAdmin", pending.pop())
        if admin not in roles:
            roles[admin] = "grants roles"
            pending.append(admin)
    return roles


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
    held = reader.ask("TestToken", "balanceOf", reader.address("Vault"))
    accounts = dict.fromkeys(reader.members, 0) | cumulative
    head = head_values(last_final.header)
    owed = sum(
        reader.ask("Vault", "withdrawable", slot, amount, head) for slot, amount in accounts.items()
    )
    guarantors = _guarantors(reader)
    free = _tokens(reader, sum(deposited - used for deposited, used in guarantors.values()))
    checks.add(
        VAULT,
        held >= owed + free,
        count=len(accounts) + len(guarantors),
        detail=f"{held} tokens held, {owed} withdrawable by accounts and {free} by guarantors",
    )


def check_cover(
    reader: ChainReader, batch: SubmittedBatch, cumulative: dict[int, int], checks: Checks
) -> None:
    """Whether every account's debt in a batch is covered by its deposit and credit."""
    short: list[Any] = []
    for slot, amount in cumulative.items():
        left = reader.cover(slot, amount, batch)
        if left < 0:
            short.append(f"slot {slot} lacks {-left} nano")
    checks.add(COVER, not short, count=len(cumulative), detail="; ".join(short))


def _guarantors(reader: ChainReader) -> dict[str, tuple[int, int]]:
    """By address what guarantors have deposited, and how much of it vouches for accounts, in nano."""
    addresses = {
        entry["args"]["guarantor"] for entry in reader.events("Vault", "GuaranteeDeposited")
    }
    return {item: tuple(reader.ask("Vault", "guaranteeOf", item)) for item in sorted(addresses)}


def _tokens(reader: ChainReader, nano: int) -> int:
    per_nano = reader.ask("Vault", "tokensPerNano")
    return int(nano * per_nano // reader.ask("Vault", "nanoPerToken"))


def _check_completeness(reader: ChainReader, batches: list[SubmittedBatch], checks: Checks) -> None:
    """Whether the node's events are all there are, as far as the contracts' state tells."""
    head = reader.ask("ClearingHouse", "headNumber")
    missing = sorted(set(range(1, head + 1)) - {batch.number for batch in batches})
    checks.add(
        "the node shows the submission of every batch on record",
        not missing,
        count=head,
        detail=f"no event of batch {', '.join(map(str, missing[:5]))}",
    )
    members = reader.members
    odd = [str(slot) for slot in range(max(members, default=0) + 1) if slot not in members]
    if reader.ask("MemberRegistry", "exists", max(members, default=-1) + 1):
        odd.append(str(max(members, default=-1) + 1))
    names = ("account", "fromPeriod", "untilPeriod", "node", "tariffClass", "collateralSteps")
    for slot, member in members.items():
        if tuple(reader.ask("MemberRegistry", "memberAt", slot)) != tuple(
            member[name] for name in names
        ):
            odd.append(str(slot))
    checks.add(
        "the node shows the admission and departure of every member on record",
        not odd,
        count=len(members),
        detail=f"events and record differ for slots {', '.join(odd[:5])}",
    )
    digest = bytes(reader.ask("ReadingOracle", "configDigest"))
    checks.add(
        "the node shows the announcement of the oracle's signers",
        digest in reader.facts().config_digests,
        detail=f"no event announces 0x{digest.hex()}",
    )


def _check_demands(reader: ChainReader, batches: list[SubmittedBatch], checks: Checks) -> None:
    """Whether every demand for a standing batch's data was answered, where its time is over."""
    entries = [
        *reader.events("ClearingHouse", "BatchSubmitted"),
        *reader.events("Challenges", "DataDemanded"),
        *reader.events("Challenges", "DemandAnswered"),
    ]
    met: dict[bytes, dict[int, bool]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["blockNumber"], entry["logIndex"])):
        given = entry["args"]
        # Demands and answers are of one submission: a batch that was voided and is submitted again begins without them.
        asked = met.setdefault(bytes(given["batchHash"]), {})
        if entry["event"] == "BatchSubmitted":
            asked.clear()
        else:
            asked[given["slot"]] = entry["event"] == "DemandAnswered"
    stood = [
        (batch.number, slot, answered)
        for batch in batches
        if batch.final
        for slot, answered in met[batch.header_hash].items()
    ]
    ignored = [f"slot {slot} of batch {number}" for number, slot, answered in stood if not answered]
    checks.add(
        "every demand for data of a final batch was answered",
        not ignored,
        count=len(stood),
        detail="; ".join(ignored[:5]),
    )


def _check_deposits(reader: ChainReader, checks: Checks) -> None:
    """Cumulative amounts cancel, so what was paid in and not taken out must all be there."""
    nano = sum(
        reader.ask("Vault", "depositedNano", slot) - reader.ask("Vault", "withdrawnNano", slot)
        for slot in reader.members
    )
    nano += sum(deposited for deposited, _ in _guarantors(reader).values())
    held = reader.ask("TestToken", "balanceOf", reader.address("Vault"))
    checks.add(
        "the vault holds what was paid in and not taken out",
        held >= _tokens(reader, nano),
        count=len(reader.members),
        detail=f"{held} tokens held, {nano} nano paid in and not taken out",
    )
