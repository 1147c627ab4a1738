"""Who is a member, which tariff holds, who may sign: the three contracts that governance writes to, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_tester import EthereumTester, PyEVMBackend
from eth_utils.address import to_canonical_address, to_checksum_address
from web3 import EthereumTesterProvider, Web3
from web3.contract.contract import ContractFunction

from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT, FUND_SLOT, SUPPLIER_SLOT
from backend.settlement.encoding import tariff_hash
from backend.settlement.trees import ACCOUNT_DEPTH
from contracts.bindings import NO_GROUP, CommunityContracts, constructor, tariff_tuple
from deploy.community import ORACLE_ROLE, REGISTRAR_ROLE, TARIFF_ROLE
from oracle.signing import sign_report
from tests.support.chain import answer, said
from tests.support.community import (
    COLLATERAL_NANO,
    ETHER,
    FIRST_PERIOD,
    SHARE_MILLIONTHS,
    LiveCommunity,
    account,
    signer_keys,
)

ZERO_ADDRESS = "0x" + "00" * 20
NEW_SLOT = FIRST_MEMBER_SLOT + 5
PRICE_LIMIT = 2**40
MINUS = 2**64  # two's complement of eight bytes


def refusal(
    community: LiveCommunity, call: ContractFunction, sender: str = "deployer"
) -> tuple[Any, ...] | None:
    return said(community.client.refusal(call, account(sender)))


def send(community: LiveCommunity, call: ContractFunction) -> None:
    community.client.send(call, account("deployer"))


class TestMembers:
    def test_system_accounts_come_first_and_have_no_meter(self, community: LiveCommunity) -> None:
        for slot, role in ((SUPPLIER_SLOT, "supplier"), (DSO_SLOT, "dso"), (FUND_SLOT, "fund")):
            entry = community.contracts.member_at(slot)
            assert entry["account"] == account(role).address
            assert entry["group"] == NO_GROUP
            assert entry["meter"] == ZERO_ADDRESS

    def test_members_follow_by_slot(self, community: LiveCommunity) -> None:
        for member in community.paper.members:
            group = community.market.group_index[member.node, member.tariff_class]
            assert community.contracts.member_at(member.slot) == {
                "account": member.account,
                "group": group,
                "from_period": FIRST_PERIOD,
                "until_period": 0,
                "meter": member.meter,
                "collateral_nano": COLLATERAL_NANO,
            }
        assert community.contracts.slot_count() == NEW_SLOT

    def test_an_admission_is_announced(self, community: LiveCommunity) -> None:
        wallet, meter = account("wallet", 8).address, account("meter", 8).address
        send(community, community.contracts.admit(wallet, meter, 2, FIRST_PERIOD + 9, 5))
        assert community.events("MemberRegistry", "MemberAdmitted")[-1] == {
            "slot": NEW_SLOT,
            "account": wallet,
            "meter": meter,
            "group": 2,
            "fromPeriod": FIRST_PERIOD + 9,
        }

    def test_an_account_without_an_address_is_refused(self, community: LiveCommunity) -> None:
        call = community.contracts.admit(ZERO_ADDRESS, ZERO_ADDRESS, 0, FIRST_PERIOD, 0)
        assert refusal(community, call) == ("ZeroAccount",)

    def test_a_meter_serves_one_slot(self, community: LiveCommunity) -> None:
        taken = community.paper.members[2]
        call = community.contracts.admit(
            account("wallet", 8).address, taken.meter, 0, FIRST_PERIOD, 0
        )
        assert refusal(community, call) == ("MeterInUse", taken.meter.lower(), taken.slot)

    def test_any_number_of_accounts_have_none(self, community: LiveCommunity) -> None:
        for _ in range(2):
            send(
                community,
                community.contracts.admit(
                    account("fund").address, ZERO_ADDRESS, NO_GROUP, FIRST_PERIOD, 0
                ),
            )
        assert community.contracts.slot_count() == NEW_SLOT + 2

    def test_nobody_is_admitted_as_having_left(self, community: LiveCommunity) -> None:
        admit = community.contract("MemberRegistry").functions.admit
        entry = (account("wallet", 8).address, 0, FIRST_PERIOD, FIRST_PERIOD + 1, ZERO_ADDRESS, 0)
        outcome = refusal(community, admit(entry))
        assert outcome == ("LeavesBeforeJoining", FIRST_PERIOD, FIRST_PERIOD + 1)

    def test_a_slot_that_nobody_has_is_refused(self, community: LiveCommunity) -> None:
        functions = community.contract("MemberRegistry").functions
        assert said(answer(functions.memberAt(NEW_SLOT))) == ("UnknownSlot", NEW_SLOT)
        call = functions.endMembership(NEW_SLOT, FIRST_PERIOD + 1)
        assert refusal(community, call) == ("UnknownSlot", NEW_SLOT)
        assert functions.isActive(NEW_SLOT, FIRST_PERIOD).call() is False

    def test_a_full_registry_admits_nobody(self, community: LiveCommunity) -> None:
        """Nobody waits for a million admissions: a chain that begins with a registry whose counter is there already."""
        web3 = community.client.web3
        registry = community.contract("MemberRegistry")
        stored = {
            place: int.from_bytes(web3.eth.get_storage_at(registry.address, place))
            for place in range(4)
        }
        counter = next(place for place, value in stored.items() if value == NEW_SLOT)
        authority = next(
            place
            for place, value in stored.items()
            if value == int(community.contracts.addresses["AccessManager"], 16)
        )
        full, allows = "0x" + "f1" * 20, "0x" + "a1" * 20
        almost = (1 << ACCOUNT_DEPTH) - 1
        state = PyEVMBackend.generate_genesis_state(num_accounts=1)
        empty = {"balance": 0, "nonce": 1, "storage": {}}
        # Returns (true, 0): everybody may call everything at once.
        state[to_canonical_address(allows)] = empty | {
            "code": bytes.fromhex("600160005260406000f3")
        }
        state[to_canonical_address(full)] = empty | {
            "code": bytes(web3.eth.get_code(registry.address)),
            "storage": {authority: int(allows, 16), counter: almost},
        }
        chain = Web3(EthereumTesterProvider(EthereumTester(PyEVMBackend(genesis_state=state))))
        functions = chain.eth.contract(
            address=chain.to_checksum_address(full), abi=registry.abi
        ).functions
        call = functions.admit((account("wallet", 8).address, 0, FIRST_PERIOD, 0, ZERO_ADDRESS, 0))
        assert answer(call) == almost
        call.transact({"from": chain.eth.accounts[0]})
        assert functions.slotCount().call() == 1 << ACCOUNT_DEPTH
        assert said(answer(call)) == ("RegistryFull", 1 << ACCOUNT_DEPTH)


class TestLeaving:
    def end(self, community: LiveCommunity, slot: int, until: int) -> ContractFunction:
        return community.contract("MemberRegistry").functions.endMembership(slot, until)

    def test_a_membership_ends_at_a_period(self, community: LiveCommunity) -> None:
        slot = FIRST_MEMBER_SLOT
        send(community, self.end(community, slot, FIRST_PERIOD + 2))
        active = community.contract("MemberRegistry").functions.isActive
        assert [active(slot, FIRST_PERIOD + offset).call() for offset in (-1, 0, 1, 2, 3)] == [
            False,
            True,
            True,
            False,
            False,
        ]
        assert community.contracts.member_at(slot)["until_period"] == FIRST_PERIOD + 2
        (event,) = community.events("MemberRegistry", "MemberLeft")
        assert event == {"slot": slot, "untilPeriod": FIRST_PERIOD + 2}

    def test_a_membership_has_no_end_until_it_is_ended(self, community: LiveCommunity) -> None:
        active = community.contract("MemberRegistry").functions.isActive
        assert active(FIRST_MEMBER_SLOT, 2**32 + 5).call() is True
        assert active(FIRST_MEMBER_SLOT, FIRST_PERIOD - 1).call() is False

    @pytest.mark.parametrize("until", [0, FIRST_PERIOD - 1, FIRST_PERIOD])
    def test_nobody_leaves_before_having_joined(self, community: LiveCommunity, until: int) -> None:
        call = self.end(community, FIRST_MEMBER_SLOT, until)
        assert refusal(community, call) == ("LeavesBeforeJoining", FIRST_PERIOD, until)

    def test_nobody_leaves_twice(self, community: LiveCommunity) -> None:
        send(community, self.end(community, FIRST_MEMBER_SLOT, FIRST_PERIOD + 2))
        again = self.end(community, FIRST_MEMBER_SLOT, FIRST_PERIOD + 9)
        assert refusal(community, again) == ("AlreadyLeft", FIRST_MEMBER_SLOT, FIRST_PERIOD + 2)

    def test_a_slot_is_never_given_out_again(self, community: LiveCommunity) -> None:
        send(community, self.end(community, FIRST_MEMBER_SLOT, FIRST_PERIOD + 1))
        send(
            community,
            community.contracts.admit(
                account("wallet", 8).address, ZERO_ADDRESS, 0, FIRST_PERIOD + 1, 0
            ),
        )
        assert community.contracts.member_at(NEW_SLOT)["account"] == account("wallet", 8).address

    @pytest.mark.xfail(
        strict=True, reason="the meter of a membership that has ended stays in use for ever"
    )
    def test_who_moves_to_another_tariff_class_takes_the_meter_along(
        self, community: LiveCommunity
    ) -> None:
        member = community.paper.members[0]
        send(community, self.end(community, member.slot, FIRST_PERIOD + 1))
        call = community.contracts.admit(member.account, member.meter, 2, FIRST_PERIOD + 1, 0)
        assert refusal(community, call) is None


def group_word(
    node: int = 0,
    tariff_class: int = 0,
    import_price: int = 300_000,
    export_price: int = 80_000,
    access_fee: int = 0,
) -> bytes:
    return b"".join(
        value.to_bytes(size, "big", signed=signed)
        for value, size, signed in (
            (import_price, 8, True),
            (export_price, 8, True),
            (access_fee, 8, False),
            (node, 4, False),
            (tariff_class, 4, False),
        )
    )


def edge_word(tail: int = 0, head: int = 1, fee: int = 10_000) -> bytes:
    return tail.to_bytes(4, "big") + head.to_bytes(4, "big") + fee.to_bytes(8, "big") + bytes(16)


class TestTariffs:
    def announce(
        self, community: LiveCommunity, tariff: tuple[Any, ...], from_period: int
    ) -> ContractFunction:
        return community.contract("TariffBook").functions.announce(tariff, from_period)

    def test_the_announced_tariff_is_public_in_full(self, community: LiveCommunity) -> None:
        (event,) = community.events("TariffBook", "TariffAnnounced")
        expected = tariff_tuple(community.market, SHARE_MILLIONTHS)
        assert event["tariffHash"] == tariff_hash(community.market, SHARE_MILLIONTHS)
        assert event["fromPeriod"] == FIRST_PERIOD
        tariff = event["tariff"]
        assert (
            tariff["shareMillionths"],
            tariff["nodeCount"],
            tariff["groups"],
            tariff["edges"],
        ) == expected

    def test_each_period_has_the_newest_tariff_announced_for_it(
        self, community: LiveCommunity
    ) -> None:
        hashes = {}
        for offset, share in ((0, SHARE_MILLIONTHS), (5, 1), (6, 2), (90, 3)):
            hashes[offset] = tariff_hash(community.market, share)
            if offset:
                send(
                    community,
                    community.contracts.announce_tariff(
                        community.market, share, FIRST_PERIOD + offset
                    ),
                )
        for offset, holds in ((0, 0), (4, 0), (5, 5), (6, 6), (89, 6), (90, 90), (10**6, 90)):
            found = community.contracts.tariff_hash_at(FIRST_PERIOD + offset)
            assert found == hashes[holds], offset

    def test_before_the_first_there_is_none(self, community: LiveCommunity) -> None:
        call = community.contract("TariffBook").functions.tariffHashAt(FIRST_PERIOD - 1)
        assert said(answer(call)) == ("NoTariffYet", FIRST_PERIOD - 1)

    @pytest.mark.parametrize("offset", [-1, 0])
    def test_what_was_announced_is_not_announced_otherwise(
        self, community: LiveCommunity, offset: int
    ) -> None:
        call = community.contracts.announce_tariff(community.market, 7, FIRST_PERIOD + offset)
        outcome = refusal(community, call)
        assert outcome == ("NotAfterLast", FIRST_PERIOD + offset, FIRST_PERIOD)

    def test_the_largest_prices_and_fees_are_taken(self, community: LiveCommunity) -> None:
        limit = PRICE_LIMIT - 1
        groups = [
            group_word(0, 0, limit, limit, limit),
            group_word(0, 1, -limit, -limit, 0),
            group_word(1, 0, limit, -limit, limit),
        ]
        tariff = (1_000_000, 2, groups, [edge_word(0, 1, limit)])
        assert refusal(community, self.announce(community, tariff, FIRST_PERIOD + 1)) is None

    def test_a_community_without_groups_or_edges_may_announce(
        self, community: LiveCommunity
    ) -> None:
        outcome = refusal(community, self.announce(community, (0, 0, [], []), FIRST_PERIOD + 1))
        assert outcome is None

    @pytest.mark.parametrize(
        ("tariff", "error"),
        [
            ((1_000_001, 1, [], []), ("ShareAboveOne", 1_000_001)),
            ((0, 4097, [], []), ("TooManyNodes", 4097, 4096)),
            ((0, 1, [bytes(32)] * 4097, []), ("TooManyGroups", 4097, 4096)),
            ((0, 1, [], [bytes(32)] * 8193), ("TooManyEdges", 8193, 8192)),
            ((0, 0, [group_word(0)], []), ("UnknownNode", 0, 0)),
            ((0, 2, [group_word(2)], []), ("UnknownNode", 2, 2)),
            ((0, 2, [group_word(0), group_word(0)], []), ("GroupsOutOfOrder", 1)),
            ((0, 2, [group_word(1), group_word(0, 5)], []), ("GroupsOutOfOrder", 1)),
            (
                (0, 2, [group_word(0, 1), group_word(1, 0), group_word(1, 0)], []),
                ("GroupsOutOfOrder", 2),
            ),
            ((0, 1, [group_word(0, 1), group_word(0, 0)], []), ("GroupsOutOfOrder", 1)),
            (
                (0, 1, [group_word(import_price=5, export_price=6)], []),
                ("ExportAboveImport", 0, 6, 5),
            ),
            (
                (0, 1, [group_word(import_price=PRICE_LIMIT)], []),
                ("PriceOutOfRange", 0, PRICE_LIMIT),
            ),
            (
                (0, 1, [group_word(), group_word(tariff_class=1, export_price=-PRICE_LIMIT)], []),
                ("PriceOutOfRange", 1, -PRICE_LIMIT),
            ),
            (
                (0, 1, [group_word(access_fee=PRICE_LIMIT)], []),
                ("PriceOutOfRange", 0, PRICE_LIMIT),
            ),
            (
                (0, 1, [group_word(access_fee=MINUS - 1)], []),
                ("PriceOutOfRange", 0, MINUS - 1),
            ),
            ((0, 2, [], [edge_word(2, 1)]), ("UnknownNode", 2, 2)),
            ((0, 2, [], [edge_word(0, 1), edge_word(1, 2)]), ("UnknownNode", 2, 2)),
            (
                (0, 2, [], [edge_word(), edge_word(fee=PRICE_LIMIT)]),
                ("PriceOutOfRange", 1, PRICE_LIMIT),
            ),
        ],
        ids=lambda value: value[0] if isinstance(value[0], str) else "",
    )
    def test_a_tariff_that_breaks_a_rule_is_refused(
        self, community: LiveCommunity, tariff: tuple[Any, ...], error: tuple[Any, ...]
    ) -> None:
        outcome = refusal(community, self.announce(community, tariff, FIRST_PERIOD + 1))
        assert outcome == error


class TestSigners:
    def test_the_deployed_ones(self, community: LiveCommunity) -> None:
        signers, threshold = community.contracts.oracle_signers()
        assert tuple(signers) == community.place.signers
        assert threshold == community.place.threshold
        assert community.contracts.oracle_config_digest() == community.place.config_digest

    @pytest.mark.parametrize("threshold", [0, 4, 2**255])
    def test_a_threshold_nobody_or_everybody_reaches_is_refused(
        self, community: LiveCommunity, threshold: int
    ) -> None:
        set_signers = community.contract("ReadingOracle").functions.setSigners
        signers = list(community.place.signers)
        outcome = refusal(community, set_signers(signers, threshold))
        assert outcome == ("BadThreshold", threshold, 3)

    def test_no_signers_are_refused(self, community: LiveCommunity) -> None:
        set_signers = community.contract("ReadingOracle").functions.setSigners
        assert refusal(community, set_signers([], 0)) == ("BadThreshold", 0, 0)
        assert refusal(community, set_signers([], 1)) == ("BadThreshold", 1, 0)

    @pytest.mark.parametrize(
        ("signers", "index"),
        [
            (["0x" + "02" * 20, "0x" + "01" * 20], 1),
            (["0x" + "01" * 20, "0x" + "01" * 20], 1),
            (["0x" + "01" * 20, "0x" + "03" * 20, "0x" + "02" * 20], 2),
            ([ZERO_ADDRESS, "0x" + "01" * 20], 0),
        ],
        ids=["descending", "twice", "later", "nobody"],
    )
    def test_signers_out_of_order_are_refused(
        self, community: LiveCommunity, signers: list[str], index: int
    ) -> None:
        set_signers = community.contract("ReadingOracle").functions.setSigners
        outcome = refusal(community, set_signers(signers, 1))
        assert outcome == ("SignersNotAscending", index)

    def test_at_most_thirty_one(self, community: LiveCommunity) -> None:
        set_signers = community.contract("ReadingOracle").functions.setSigners
        signers = [to_checksum_address(f"0x{number:040x}") for number in range(1, 33)]
        assert refusal(community, set_signers(signers, 1)) == ("TooManySigners", 32, 31)
        assert refusal(community, set_signers(signers[:31], 31)) is None

    def test_a_change_is_announced_with_its_digest(self, community: LiveCommunity) -> None:
        signers = community.place.signers[:2]
        call = community.contract("ReadingOracle").functions.setSigners(list(signers), 1)
        send(community, call)
        digest = replace(community.place, signers=signers, threshold=1).config_digest
        assert community.contracts.oracle_config_digest() == digest
        assert community.events("ReadingOracle", "SignersChanged")[-1] == {
            "configDigest": digest,
            "signers": list(signers),
            "threshold": 1,
        }

    @pytest.mark.parametrize(
        ("signers", "threshold", "error"),
        [
            (["0x" + "01" * 20], 2, ("BadThreshold", 2, 1)),
            (["0x" + "02" * 20, "0x" + "01" * 20], 1, ("SignersNotAscending", 1)),
        ],
    )
    def test_deployment_checks_the_same(
        self,
        community: LiveCommunity,
        signers: list[str],
        threshold: int,
        error: tuple[Any, ...],
    ) -> None:
        call = constructor(
            community.client.web3,
            "ReadingOracle",
            community.contracts.addresses["AccessManager"],
            signers,
            threshold,
        )
        assert said(community.client.refusal(call, account("deployer"))) == error  # type: ignore[arg-type]

    def test_a_report_is_verified_for_anyone(self, community: LiveCommunity) -> None:
        signed = community.signed_report(0)
        report = signed.report
        verify = community.contract("ReadingOracle").functions.verify
        values = (
            report.period,
            report.version,
            report.first_interval,
            report.interval_count,
            report.readings_root,
            report.totals_hash,
            report.config_digest,
        )
        assert answer(verify(values, list(signed.signatures))) == report.struct_hash()
        one_of_three = [sign_report(signer_keys()[1], community.place.domain, report)]
        assert said(answer(verify(values, one_of_three))) == ("TooFewSignatures", 1, 2)


RESTRICTED = {
    "admit": (
        REGISTRAR_ROLE,
        lambda contracts, community: contracts.admit(
            account("wallet", 8).address, ZERO_ADDRESS, 0, FIRST_PERIOD, 0
        ),
    ),
    "endMembership": (
        REGISTRAR_ROLE,
        lambda contracts, community: community.contract("MemberRegistry").functions.endMembership(
            FIRST_MEMBER_SLOT, FIRST_PERIOD + 1
        ),
    ),
    "announce": (
        TARIFF_ROLE,
        lambda contracts, community: contracts.announce_tariff(
            community.market, 1, FIRST_PERIOD + 1
        ),
    ),
    "setSigners": (
        ORACLE_ROLE,
        lambda contracts, community: community.contract("ReadingOracle").functions.setSigners(
            list(community.place.signers), 1
        ),
    ),
}


@pytest.mark.parametrize("function", RESTRICTED)
class TestRoles:
    def call(self, community: LiveCommunity, function: str) -> ContractFunction:
        contracts: CommunityContracts = community.contracts
        made: ContractFunction = RESTRICTED[function][1](contracts, community)
        return made

    @pytest.mark.parametrize("caller", ["outsider", "coordinator", "supplier"])
    def test_nobody_without_the_role_calls_it(
        self, community: LiveCommunity, function: str, caller: str
    ) -> None:
        outcome = refusal(community, self.call(community, function), caller)
        assert outcome == ("AccessManagedUnauthorized", account(caller).address.lower())

    def test_who_is_given_the_role_calls_it(self, community: LiveCommunity, function: str) -> None:
        role = RESTRICTED[function][0]
        send(community, community.contracts.grant_role(role, account("outsider").address, 0))
        assert refusal(community, self.call(community, function), "outsider") is None

    def test_one_role_does_not_give_another(self, community: LiveCommunity, function: str) -> None:
        for role in {REGISTRAR_ROLE, TARIFF_ROLE, ORACLE_ROLE} - {RESTRICTED[function][0]}:
            send(community, community.contracts.grant_role(role, account("outsider").address, 0))
        outcome = refusal(community, self.call(community, function), "outsider")
        assert outcome == ("AccessManagedUnauthorized", account("outsider").address.lower())

    def test_a_role_with_a_delay_acts_only_after_announcing(
        self, community: LiveCommunity, function: str
    ) -> None:
        role, outsider = RESTRICTED[function][0], account("outsider")
        week = 7 * 24 * 3600
        send(community, community.contracts.grant_role(role, outsider.address, week))
        call = self.call(community, function)
        outcome = refusal(community, call, "outsider")
        assert outcome is not None
        assert outcome[0] == "AccessManagerNotScheduled"
        manager = community.contract("AccessManager").functions
        data = call._encode_transaction_data()
        community.client.send(manager.schedule(call.address, data, 0), outsider)
        outcome = refusal(community, manager.execute(call.address, data), "outsider")
        assert outcome is not None
        assert outcome[0] == "AccessManagerNotReady"
        community.client.advance(week)
        assert refusal(community, manager.execute(call.address, data), "outsider") is None


def test_only_the_administrator_gives_roles(community: LiveCommunity) -> None:
    call = community.contracts.grant_role(REGISTRAR_ROLE, account("outsider").address, 0)
    outcome = refusal(community, call, "outsider")
    assert outcome is not None
    assert outcome[0] == "AccessManagerUnauthorizedAccount"


@pytest.mark.xfail(strict=True, reason="a community is deployed with no delay on any role")
def test_signers_change_only_after_a_delay(community: LiveCommunity) -> None:
    """Who could change the signers at once could report any readings before anybody has left (mechanism, section 8)."""
    mine = [account("deployer").address]
    call = community.contract("ReadingOracle").functions.setSigners(mine, 1)
    assert refusal(community, call) is not None


def test_no_administrator_moves_balances(community: LiveCommunity) -> None:
    """The vault has no function that anyone is privileged to call."""
    vault = community.contract("Vault")
    changing = {
        entry["name"]
        for entry in vault.abi
        if entry["type"] == "function" and entry.get("stateMutability") not in {"view", "pure"}
    }
    assert changing == {"deposit", "withdraw"}
    assert community.client.balance_wei(vault.address) < ETHER
