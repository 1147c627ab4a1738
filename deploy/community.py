"""Deploys a community's contracts, hands out the roles and lets go of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from eth_account.signers.local import LocalAccount
from eth_typing import Hash32, HexAddress, HexStr
from web3.contract.contract import ContractFunction
from web3.types import Nonce
from web3.utils.address import get_create_address

from backend.chain.client import ChainClient
from backend.domain.community import SMALLEST_GROUP, Member, small_groups
from backend.domain.errors import OutOfRange
from backend.domain.intervals import Period
from backend.market.problem import Market
from backend.settlement.encoding import domain_separator, membership_hash, typed_data_digest
from contracts.bindings import (
    CommunityContracts,
    FoundingParameters,
    MemberRecord,
    OracleConfig,
    constructor,
)

ADMIN_ROLE = 0
COORDINATOR_ROLE = 1
REGISTRAR_ROLE = 2
TARIFF_ROLE = 3
ORACLE_ROLE = 4
METER_ROLE = 5
# May take the coordinator's role away, and give it: that stops new batches and nothing else.
PAUSER_ROLE = 6
# No contract asks for it: whoever holds it is shown members' data by the coordinator's web site, in order to audit them.
AUDITOR_ROLE = 7

# Contract, functions and the role that may call them. Everything else is open to everybody, or to nobody.
RESTRICTED: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("ClearingHouse", ("submitBatch", "submitCorrection", "postBond"), COORDINATOR_ROLE),
    ("MemberRegistry", ("admit", "endMembership"), REGISTRAR_ROLE),
    ("TariffBook", ("announce",), TARIFF_ROLE),
    ("ReadingOracle", ("setSigners",), ORACLE_ROLE),
    ("MeterRegistry", ("activate", "revoke"), METER_ROLE),
)
# Where members trade before delivery.
TRADE_BOOK_RESTRICTED = ("TradeBook", ("commit", "postBond"), COORDINATOR_ROLE)
# What founders set up and later changes only after a delay longer than it takes to leave.
DELAYED_ROLES = (REGISTRAR_ROLE, TARIFF_ROLE, ORACLE_ROLE, METER_ROLE)


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """What a community is deployed with.

    Attributes:
        parameters: see `IClearingHouse.Parameters`.
        oracle: the oracle's first signers.
        collateral_step_nano: nano currency units of one collateral step.
        token_decimals: of the test token that is deployed along.
        coordinator: address that submits batches.
        supplier: account of the outside supplier.
        dso: account of the network operator, or the coordinator's where it pays the operator itself.
        fund: account of the community fund.
        token: the ERC-20 token of the vault; without, a test token is deployed along.
        trade_book: gate seconds, strike seconds and bond of the trade book, where members trade before delivery.
    """

    parameters: FoundingParameters
    oracle: OracleConfig
    collateral_step_nano: int
    token_decimals: int
    coordinator: str
    supplier: str
    dso: str
    fund: str
    token: str | None = None
    trade_book: tuple[int, int, int] | None = None


def founding_parameters(
    first_period: Period,
    *,
    challenge_seconds: int,
    bond_wei: int,
    demand_bond_wei: int,
    shortest_period_seconds: int = 23 * 3600,
    correction_seconds: int = 30 * 86_400,
    freeze_seconds: int = 14 * 86_400,
) -> FoundingParameters:
    """Parameters of a community; by default its periods are local days.

    Args:
        first_period: the first period to be settled.
        challenge_seconds: how long a batch can be challenged.
        bond_wei: what a batch puts at stake.
        demand_bond_wei: what a demand for data puts at stake.
        shortest_period_seconds: of the shortest period; by default the day on which clocks go forward.
        correction_seconds: how long after its end a day can be corrected.
        freeze_seconds: how long no batch may become final before anyone can freeze.
    """
    return FoundingParameters(
        first_period=first_period.number,
        first_interval=first_period.first_interval,
        interval_seconds=first_period.interval_minutes * 60,
        shortest_period_seconds=shortest_period_seconds,
        challenge_seconds=challenge_seconds,
        correction_seconds=correction_seconds,
        freeze_seconds=freeze_seconds,
        bond_wei=bond_wei,
        demand_bond_wei=demand_bond_wei,
    )


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
    """Deploys all contracts and sets the roles; the deployer can set up until `hand_over`.

    Args:
        client: the chain.
        deployer: pays and becomes the first administrator of the AccessManager.
        settings: parameters.
        report: told the name of each step.

    Raises:
        ContractRefused: a constructor or call reverted.
    """
    plan = plan_deployment(
        settings,
        deployer.address,
        client.web3.eth.get_transaction_count(deployer.address),
    )
    gas: list[int] = []
    for name, arguments in plan.constructors.items():
        report(name)
        sent = client.send(constructor(client.web3, name, *arguments), deployer)
        assert sent.contract_address == plan.addresses[name]
        gas.append(sent.gas_used)
    contracts = CommunityContracts(client.web3, plan.addresses)
    report("roles")
    for call in founding_calls(contracts, deployer.address, settings.coordinator):
        gas.append(client.send(call, deployer).gas_used)
    return Deployment(contracts, tuple(gas))


@dataclass(frozen=True, slots=True)
class Plan:
    """The contracts of a deployment: all their addresses are known before the first is there.

    Attributes:
        addresses: by name.
        constructors: arguments by name, in the order of the deployer's nonces.
    """

    addresses: dict[str, str]
    constructors: dict[str, tuple[object, ...]]


def plan_deployment(settings: DeploymentSettings, deployer: str, first_nonce: int) -> Plan:
    """What is deployed where.

    Args:
        settings: parameters.
        deployer: address that deploys.
        first_nonce: its next nonce; contracts take this one and those after it.
    """
    names = [
        "AccessManager",
        "MemberRegistry",
        "MeterRegistry",
        "TariffBook",
        "ReadingOracle",
        *(["TestToken"] if settings.token is None else []),
        "Vault",
        "Challenges",
        "ClearingHouse",
        *(["TradeBook"] if settings.trade_book else []),
    ]
    # The parts name the clearing house, which comes after them and refuses parts that name another.
    sender = HexAddress(HexStr(deployer))
    at = {
        name: str(get_create_address(sender, Nonce(first_nonce + index)))
        for index, name in enumerate(names)
    }
    house = at["ClearingHouse"]
    authority = at["AccessManager"]
    token = settings.token or at["TestToken"]
    given = settings.parameters
    signers = sorted(settings.oracle.signers, key=lambda address: int(address, 16))
    arguments: dict[str, tuple[object, ...]] = {
        "AccessManager": (deployer,),
        "MemberRegistry": (
            authority,
            house,
            [settings.supplier, settings.dso, settings.fund],
            given.first_period,
            settings.collateral_step_nano,
        ),
        "MeterRegistry": (authority, house),
        "TariffBook": (authority, house),
        "ReadingOracle": (authority, house, (settings.oracle.threshold, signers)),
        "TestToken": (settings.token_decimals,),
        "Vault": (token, house, at["MemberRegistry"]),
        "Challenges": (
            house,
            at["MemberRegistry"],
            at["Vault"],
            given.challenge_seconds,
            given.demand_bond_wei,
        ),
        "ClearingHouse": (
            authority,
            *(
                at[name]
                for name in ("MemberRegistry", "TariffBook", "ReadingOracle", "Vault", "Challenges")
            ),
            astuple(given),
        ),
        "TradeBook": (authority, house, at["MemberRegistry"], *(settings.trade_book or ())),
    }
    return Plan(at | {"TestToken": token}, {name: arguments[name] for name in names})


def restrictions(contracts: CommunityContracts) -> list[tuple[str, tuple[str, ...], int]]:
    """Contract, functions and the role that may call them."""
    book = [TRADE_BOOK_RESTRICTED] if "TradeBook" in contracts.addresses else []
    return [*RESTRICTED, *book]


def founding_calls(
    contracts: CommunityContracts, deployer: str, coordinator: str
) -> list[ContractFunction]:
    """The calls that set the roles; the deployer can set up until `hand_over`."""
    calls = [contracts.restrict(*restriction) for restriction in restrictions(contracts)]
    calls.append(contracts.grant_role(COORDINATOR_ROLE, coordinator, 0))
    calls += [contracts.grant_role(role, deployer, 0) for role in DELAYED_ROLES]
    calls.append(contracts.set_role_admin(COORDINATOR_ROLE, PAUSER_ROLE))
    return calls


def hand_over(
    client: ChainClient,
    deployer: LocalAccount,
    contracts: CommunityContracts,
    administrator: str,
    delay_seconds: int,
) -> list[int]:
    """Gives every role to the administrator, each behind a delay, and takes them from the deployer for good.

    Args:
        client: the chain.
        deployer: who has set the community up.
        contracts: the community.
        administrator: who may change members, tariffs, oracle signers, meters and roles from now on.
        delay_seconds: how long everybody can see a change coming; longer than it takes to leave.

    Returns:
        Gas of each transaction.
    """
    calls = [contracts.grant_role(PAUSER_ROLE, administrator, 0)]
    calls += [
        contracts.grant_role(role, administrator, delay_seconds)
        for role in (*DELAYED_ROLES, ADMIN_ROLE)
    ]
    calls += [
        contracts.renounce_role(role, deployer.address) for role in (*DELAYED_ROLES, ADMIN_ROLE)
    ]
    return [client.send(call, deployer).gas_used for call in calls]


def sign_membership(
    client: ChainClient,
    contracts: CommunityContracts,
    slot: int,
    record: MemberRecord,
    key: LocalAccount,
) -> bytes:
    """A member's consent to be admitted: its EIP-712 signature."""
    domain = domain_separator(client.chain_id, contracts.addresses["MemberRegistry"])
    struct = membership_hash(
        slot,
        record.account,
        record.from_period,
        record.node,
        record.tariff_class,
        record.collateral_steps,
    )
    digest = Hash32(typed_data_digest(domain, struct))
    return bytes(key.unsafe_sign_hash(digest).signature)


def member_record(
    member: Member, market: Market, from_period: int, collateral_steps: int
) -> MemberRecord:
    """What the registry keeps of a member."""
    group = market.groups[market.group_index[member.node, member.tariff_class]]
    return MemberRecord(
        member.account, from_period, 0, group.node, group.tariff_class, collateral_steps
    )


def admit_members(
    client: ChainClient,
    registrar: LocalAccount,
    contracts: CommunityContracts,
    members: Sequence[tuple[Member, LocalAccount]],
    market: Market,
    from_period: int,
    collateral_steps: int,
    smallest_group: int = SMALLEST_GROUP,
) -> list[int]:
    """Admits members with their signatures; returns the gas of each.

    Raises:
        OutOfRange: a group would be so small that its totals on chain show a member's load.
        ContractRefused: a slot is taken, or the period has begun.
    """
    for (node, tariff_class), size in small_groups(
        (member for member, _ in members), smallest_group
    ).items():
        raise OutOfRange(
            "members",
            f"{size} at {node} in {tariff_class}",
            f"fewer than {smallest_group}: their load profile would be visible on chain",
            "merge nodes or tariff classes until every group is large enough",
        )
    gas = []
    for member, key in members:
        record = member_record(member, market, from_period, collateral_steps)
        consent = sign_membership(client, contracts, member.slot, record, key)
        gas.append(client.send(contracts.admit(member.slot, record, consent), registrar).gas_used)
    return gas
