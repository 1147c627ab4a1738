"""Deploys a community's contracts and hands out the roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from backend.chain.client import ChainClient
from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT, FUND_SLOT, SUPPLIER_SLOT, Member
from backend.domain.intervals import Period
from backend.market.problem import Market
from contracts.bindings import NO_GROUP, CommunityContracts, constructor

COORDINATOR_ROLE = 1
REGISTRAR_ROLE = 2
TARIFF_ROLE = 3
ORACLE_ROLE = 4

# Contract, functions and the role that may call them.
RESTRICTED: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("ClearingHouse", ("submitBatch",), COORDINATOR_ROLE),
    ("MemberRegistry", ("admit", "endMembership"), REGISTRAR_ROLE),
    ("TariffBook", ("announce",), TARIFF_ROLE),
    ("ReadingOracle", ("setSigners",), ORACLE_ROLE),
)


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """What a community is deployed with.

    Attributes:
        first_period: the first period to be settled.
        signers: oracle signers' addresses.
        threshold: how many of them make a report.
        challenge_seconds: how long a batch can be challenged.
        bond_wei: what a batch's submitter puts at stake.
        token_decimals: of the test token that is deployed along.
        coordinator: address that submits batches.
        supplier: account of the outside supplier.
        dso: account of the network operator.
        fund: account of the community fund.
    """

    first_period: Period
    signers: Sequence[str]
    threshold: int
    challenge_seconds: int
    bond_wei: int
    token_decimals: int
    coordinator: str
    supplier: str
    dso: str
    fund: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployed community and the gas of each transaction it took."""

    contracts: CommunityContracts
    gas_used: tuple[int, ...]


def deploy_community(
    client: ChainClient,
    deployer: LocalAccount,
    settings: DeploymentSettings,
    report: Callable[[str], None] = lambda step: None,
) -> Deployment:
    """Deploys all contracts, sets the roles and registers the system accounts.

    Args:
        client: the chain.
        deployer: pays and becomes the first administrator of the AccessManager.
        settings: parameters.
        report: told the name of each step.

    Raises:
        ContractRefused: a constructor or call reverted.
    """
    gas: list[int] = []
    addresses: dict[str, str] = {}

    def put(name: str, *arguments: object) -> None:
        report(name)
        sent = client.send(constructor(client.web3, name, *arguments), deployer)
        assert sent.contract_address is not None
        addresses[name] = sent.contract_address
        gas.append(sent.gas_used)

    signers = sorted(settings.signers, key=lambda address: int(address, 16))
    put("AccessManager", deployer.address)
    authority = addresses["AccessManager"]
    put("MemberRegistry", authority)
    put("TariffBook", authority)
    put("ReadingOracle", authority, signers, settings.threshold)
    put(
        "ClearingHouse",
        authority,
        addresses["MemberRegistry"],
        addresses["TariffBook"],
        addresses["ReadingOracle"],
        settings.first_period.number,
        settings.first_period.first_interval,
        settings.first_period.interval_minutes * 60,
        settings.challenge_seconds,
        settings.bond_wei,
    )
    put("TestToken", settings.token_decimals)
    put("Vault", addresses["TestToken"], addresses["ClearingHouse"], addresses["MemberRegistry"])

    contracts = CommunityContracts(client.web3, addresses)
    calls = [contracts.restrict(*restriction) for restriction in RESTRICTED]
    calls.append(contracts.grant_role(COORDINATOR_ROLE, settings.coordinator, 0))
    calls += [
        contracts.grant_role(role, deployer.address, 0)
        for role in (REGISTRAR_ROLE, TARIFF_ROLE, ORACLE_ROLE)
    ]
    report("roles")
    for call in calls:
        gas.append(client.send(call, deployer).gas_used)
    report("system accounts")
    for slot, account in (
        (SUPPLIER_SLOT, settings.supplier),
        (DSO_SLOT, settings.dso),
        (FUND_SLOT, settings.fund),
    ):
        assert contracts.slot_count() == slot
        call = contracts.admit(account, "0x" + "00" * 20, NO_GROUP, settings.first_period.number, 0)
        gas.append(client.send(call, deployer).gas_used)
    assert contracts.slot_count() == FIRST_MEMBER_SLOT
    return Deployment(contracts, tuple(gas))


def admit_members(
    client: ChainClient,
    registrar: LocalAccount,
    contracts: CommunityContracts,
    members: Sequence[Member],
    market: Market,
    from_period: int,
    collateral_nano: int,
) -> list[int]:
    """Admits members in slot order; returns the gas of each.

    Raises:
        ContractRefused: a meter is in use already, or the registry is full.
    """
    gas = []
    for member in members:
        assert contracts.slot_count() == member.slot
        group = market.group_index[member.node, member.tariff_class]
        call = contracts.admit(member.account, member.meter, group, from_period, collateral_nano)
        gas.append(client.send(call, registrar).gas_used)
    return gas
