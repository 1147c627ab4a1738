"""Who may change what: nobody the money, everything else only by role, behind a delay once the community is handed over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from web3.contract.contract import ContractFunction

from backend.domain.community import FIRST_MEMBER_SLOT
from backend.settlement.batch import shift_money
from contracts.artifact import artifact
from contracts.bindings import MemberRecord
from contracts.compiler import DEPLOYED
from deploy.community import (
    ADMIN_ROLE,
    COORDINATOR_ROLE,
    METER_ROLE,
    ORACLE_ROLE,
    PAUSER_ROLE,
    REGISTRAR_ROLE,
    RESTRICTED,
    TARIFF_ROLE,
    hand_over,
)
from tests.support.challenges import against_amount, assert_overturned
from tests.support.community import FIRST_INTERVAL, FIRST_PERIOD, NANO, LiveCommunity, account

MEMBER = FIRST_MEMBER_SLOT
DELAY_SECONDS = 21 * 86_400


def admission(community: LiveCommunity) -> ContractFunction:
    key = account("wallet", 8)
    record = MemberRecord(key.address, FIRST_PERIOD + 1, 0, 0, 0, 0)
    return community.contracts.admit(8, record, community.consent(8, record, key))


CALLS: dict[str, tuple[int, Callable[[LiveCommunity], ContractFunction]]] = {
    "submitBatch": (COORDINATOR_ROLE, lambda c: c.submission(c.batch(0))),
    "submitCorrection": (
        COORDINATOR_ROLE,
        lambda c: c.submission(c.batch(0), c.batch(0)),
    ),
    "postBond": (COORDINATOR_ROLE, lambda c: c.contracts.post_bond()),
    "admit": (REGISTRAR_ROLE, admission),
    "endMembership": (
        REGISTRAR_ROLE,
        lambda c: c.contracts.end_membership(MEMBER, c.contracts.first_future_period() + 10_000),
    ),
    "announce": (
        TARIFF_ROLE,
        lambda c: c.contracts.announce_tariff(c.market, 1, FIRST_PERIOD + 1),
    ),
    "setSigners": (
        ORACLE_ROLE,
        lambda c: c.functions("ReadingOracle").setSigners((1, list(c.place.signers))),
    ),
    "activate": (
        METER_ROLE,
        lambda c: c.contracts.activate_meters([account("meter").address], [MEMBER], FIRST_INTERVAL),
    ),
    "revoke": (
        METER_ROLE,
        lambda c: c.contracts.revoke_meter(account("meter").address, FIRST_INTERVAL),
    ),
}
DELAYED = ("admit", "endMembership", "announce", "setSigners", "activate")


def test_these_are_all_restricted_functions() -> None:
    assert set(CALLS) == {name for _, names, _ in RESTRICTED for name in names}


@pytest.mark.parametrize("function", CALLS)
class TestRoles:
    @pytest.mark.parametrize("caller", ["outsider", "supplier"])
    def test_nobody_without_the_role_calls_it(
        self, community: LiveCommunity, function: str, caller: str
    ) -> None:
        call = CALLS[function][1](community)
        address = account(caller).address
        assert community.refused(call, caller) == ("AccessManagedUnauthorized", address.lower())

    def test_one_role_does_not_give_another(self, community: LiveCommunity, function: str) -> None:
        outsider = account("outsider").address
        for role in {REGISTRAR_ROLE, TARIFF_ROLE, ORACLE_ROLE, METER_ROLE} - {CALLS[function][0]}:
            community.send(community.contracts.grant_role(role, outsider, 0))
        refused = community.refused(CALLS[function][1](community))
        assert refused == ("AccessManagedUnauthorized", outsider.lower())


@pytest.fixture
def handed_over(community: LiveCommunity) -> LiveCommunity:
    """The community as its founders leave it."""
    hand_over(
        community.client,
        account("deployer"),
        community.contracts,
        account("administrator").address,
        DELAY_SECONDS,
    )
    return community


class TestAfterHandOver:
    def test_the_founders_have_no_role_left(self, handed_over: LiveCommunity) -> None:
        roles = range(ADMIN_ROLE, PAUSER_ROLE + 1)
        for role in roles:
            held, _ = handed_over.contracts.has_role(role, account("deployer").address)
            assert not held
        for role in set(roles) - {COORDINATOR_ROLE, PAUSER_ROLE}:
            administrator = account("administrator").address
            assert handed_over.contracts.has_role(role, administrator) == (True, DELAY_SECONDS)

    @pytest.mark.parametrize("function", DELAYED)
    def test_every_change_is_seen_before_it_comes(
        self, handed_over: LiveCommunity, function: str
    ) -> None:
        """Announced on chain, possible after the delay and not a second earlier."""
        community = handed_over
        call = CALLS[function][1](community)
        assert community.refused(call, "deployer") is not None
        refused = community.refused(call, "administrator")
        assert refused is not None and refused[0] == "AccessManagerNotScheduled"
        manager = community.functions("AccessManager")
        data = call._encode_transaction_data()
        community.send(manager.schedule(call.address, data, 0), "administrator")
        announced = community.now()
        execute = manager.execute(call.address, data)
        refused = community.refused(execute, "administrator")
        assert refused is not None and refused[0] == "AccessManagerNotReady"
        community.travel_to(announced + DELAY_SECONDS)
        community.send(execute, "administrator")

    def test_roles_as_well(self, handed_over: LiveCommunity) -> None:
        community = handed_over
        outsider = account("outsider").address
        for call in (
            community.contracts.grant_role(ORACLE_ROLE, outsider, 0),
            community.contracts.restrict("ReadingOracle", ["setSigners"], PAUSER_ROLE),
            community.functions("AccessManager").updateAuthority(
                community.contracts.addresses["MemberRegistry"], outsider
            ),
            community.functions("AccessManager").setTargetClosed(
                community.contracts.addresses["ClearingHouse"], True
            ),
        ):
            refused = community.refused(call, "administrator")
            assert refused is not None and refused[0] == "AccessManagerNotScheduled"
            refused = community.refused(call, "deployer")
            assert refused is not None and refused[0] == "AccessManagerUnauthorizedAccount"

    def test_pausing_stops_new_batches_at_once_and_nothing_else(
        self, handed_over: LiveCommunity
    ) -> None:
        """Deposits, challenges, withdrawals, departures and freezing need nobody's permission."""
        community = handed_over
        first = community.batch(0)
        community.submit_final(first)
        lie = shift_money(community.batch(1, first), MEMBER, MEMBER + 1, 1)
        community.submit(lie)
        coordinator = account("coordinator").address
        pause = community.functions("AccessManager").revokeRole(COORDINATOR_ROLE, coordinator)
        community.send(pause, "administrator")
        honest = community.batch(1, first)
        refused = community.submission_refused(honest)
        assert refused == ("AccessManagedUnauthorized", coordinator.lower())
        assert_overturned(community, against_amount(community, lie, MEMBER), "Amount", 2)
        community.deposit(MEMBER, 9 * NANO)
        tokens = community.contracts.withdrawable(MEMBER, first)
        assert tokens > 0
        community.send(community.contracts.withdraw(tokens, first, MEMBER), "outsider")
        until = community.contracts.first_future_period()
        community.send(community.contracts.depart(MEMBER, until), community.wallet(MEMBER))
        community.client.advance(community.contracts.parameters().freeze_seconds)
        community.send(community.contracts.freeze(1), "outsider")

    def test_resuming_is_giving_the_role_back(self, handed_over: LiveCommunity) -> None:
        community = handed_over
        coordinator = account("coordinator").address
        manager = community.functions("AccessManager")
        community.send(manager.revokeRole(COORDINATOR_ROLE, coordinator), "administrator")
        community.send(
            community.contracts.grant_role(COORDINATOR_ROLE, coordinator, 0), "administrator"
        )
        community.submit(community.batch(0))


class TestMoney:
    def test_no_role_has_a_function_of_the_vault_or_of_the_challenges(self) -> None:
        """Everything that moves money is open to everybody and asks for a proof; no function there knows a role."""
        restricted = {name for name, _, _ in RESTRICTED}
        assert restricted.isdisjoint({"Vault", "Challenges"})
        for name in ("Vault", "Challenges"):
            functions = {e["name"] for e in artifact(name)["abi"] if e["type"] == "function"}
            assert functions.isdisjoint({"authority", "setAuthority", "owner"})

    def test_what_changes_the_vault_is_known(self) -> None:
        changing = {
            entry["name"]
            for entry in artifact("Vault")["abi"]
            if entry["type"] == "function" and entry["stateMutability"] not in {"view", "pure"}
        }
        assert changing == {
            "deposit",
            "depositWithPermit",
            "announceWithdrawal",
            "withdraw",
            "withdrawMany",
            "withdrawUnsettled",
            "withdrawNeverSettled",
            "depositGuarantee",
            "withdrawGuarantee",
            "grantCredit",
            "revokeCredit",
            "revokeUnsettledCredit",
            "revokeNeverSettledCredit",
        }

    def test_whoever_has_every_role_takes_no_tokens_out(self, community: LiveCommunity) -> None:
        outsider = account("outsider").address
        community.send(community.contracts.grant_role(PAUSER_ROLE, account("deployer").address, 0))
        for role in range(ADMIN_ROLE, PAUSER_ROLE + 1):
            community.send(community.contracts.grant_role(role, outsider, 0))
        community.deposit(MEMBER, 9 * NANO, "dso")
        vault = community.functions("Vault")
        for call in (
            vault.withdrawNeverSettled(MEMBER, 1),
            vault.withdrawGuarantee(1),
            community.functions("AccessManager").execute(
                community.contracts.addresses["Vault"],
                vault.withdrawNeverSettled(MEMBER, 1)._encode_transaction_data(),
            ),
            community.functions("AccessManager").updateAuthority(
                community.contracts.addresses["Vault"], outsider
            ),
        ):
            assert community.refused(call) is not None
        assert community.contracts.token_balance(outsider) == 0


@pytest.mark.parametrize(
    "name", sorted(set(DEPLOYED) - {"AccessManager", "LibraryHarness", "TestWallet"})
)
def test_nothing_can_be_exchanged_or_destroyed(name: str) -> None:
    """No delegatecall, callcode or selfdestruct in the code: no proxy, no upgrade; migration is by exit."""
    code = bytes.fromhex(artifact(name)["deployedBytecode"][2:])
    # The metadata behind the code are no instructions.
    code = code[: -2 - int.from_bytes(code[-2:], "big")]
    found, position = set(), 0
    while position < len(code):
        instruction = code[position]
        found.add(instruction)
        position += 1 + (instruction - 0x5F if 0x60 <= instruction <= 0x7F else 0)
    assert found.isdisjoint({0xF2, 0xF4, 0xFF})
