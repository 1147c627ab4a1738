"""When nothing becomes final any more: anyone freezes, and everybody leaves with everything on the last final batch."""

from __future__ import annotations

import pytest

from backend.domain.community import FIRST_MEMBER_SLOT, SUPPLIER_SLOT
from backend.settlement.batch import Batch, shift_money
from contracts.bindings import MemberRecord, header_tuple
from tests.support.challenges import against_amount
from tests.support.community import (
    COLLATERAL_NANO,
    DEMAND_BOND_WEI,
    FREEZE_SECONDS,
    NANO,
    LiveCommunity,
    account,
    period_energy,
)

MEMBER, OTHER = FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 2
TOKEN = 1000  # nano in a smallest unit


@pytest.fixture
def settled(community: LiveCommunity) -> Batch:
    """A final batch in which everybody is covered."""
    batch = community.batch(0)
    community.submit_final(batch)
    for slot, leaf in batch.leaves.items():
        community.deposit(slot, 3 * NANO + max(0, -leaf.cumulative_nano))
    return batch


def freeze(community: LiveCommunity, number: int) -> None:
    community.client.advance(FREEZE_SECONDS + 1)
    community.send(community.contracts.freeze(number), "outsider")


class TestWhen:
    def test_a_community_that_never_settled(self, community: LiveCommunity) -> None:
        call = community.contracts.freeze(0)
        refused = community.refused(call)
        assert refused is not None and refused[0] == "NotYetFrozen"
        freezable = refused[1]
        community.travel_to(freezable)
        late = community.client.refusal(call, account("outsider"))
        assert late is not None
        assert late.arguments == {"freezableAt": freezable, "blockTime": freezable}
        community.send(call, "outsider")
        assert community.contracts.is_frozen()
        assert community.events("ClearingHouse", "CommunityFrozen") == [
            {"lastNumber": 0, "caller": account("outsider").address}
        ]

    def test_counted_from_the_last_final_batch(
        self, community: LiveCommunity, settled: Batch
    ) -> None:
        final_at = community.functions("ClearingHouse").finalAt(1).call()
        refused = community.refused(community.contracts.freeze(1))
        assert refused is not None
        assert refused[:2] == ("NotYetFrozen", final_at + FREEZE_SECONDS)
        freeze(community, 1)
        assert community.contracts.is_frozen()

    def test_only_on_the_last_final_batch(self, community: LiveCommunity) -> None:
        first, second = community.batches(2)
        community.submit_final(first, second)
        community.client.advance(FREEZE_SECONDS + 1)
        assert community.refused(community.contracts.freeze(0)) == ("NotLastFinal", 0)
        assert community.refused(community.contracts.freeze(1)) == ("NotLastFinal", 1)
        assert community.refused(community.contracts.freeze(3)) == ("NotFinal", 3)
        community.send(community.contracts.freeze(2), "outsider")
        assert community.refused(community.contracts.freeze(2)) == ("AlreadyFrozen",)

    def test_not_before_the_first_period_has_been_over_for_long(self, ahead: LiveCommunity) -> None:
        refused = ahead.refused(ahead.contracts.freeze(0))
        begins = ahead.place.first_interval * 900
        assert refused is not None
        assert refused[:2] == ("NotYetFrozen", begins + FREEZE_SECONDS)


class TestAfter:
    def test_nothing_is_accepted_any_more(self, community: LiveCommunity, settled: Batch) -> None:
        freeze(community, 1)
        following = community.batch(1, settled)
        assert community.submission_refused(following) == ("AlreadyFrozen",)
        correction = community.correction(settled, settled, period_energy(0, slot_3=((1, 0),) * 4))
        refused = community.submission_refused(correction, corrected=settled)
        assert refused == ("AlreadyFrozen",)

    def test_open_batches_are_frozen_out(self, community: LiveCommunity, settled: Batch) -> None:
        following = shift_money(community.batch(1, settled), MEMBER, OTHER, 1)
        community.client.advance(FREEZE_SECONDS)
        community.submit(following)
        community.send(
            community.contracts.demand_data(following.header, MEMBER), "dso", DEMAND_BOND_WEI
        )
        at = community.contracts.record_of(2).submitted_at
        community.send(community.contracts.freeze(1), "outsider")
        assert community.contracts.head_number() == 1
        assert community.recorded(2) == bytes(32)
        call = against_amount(community, following, MEMBER)
        assert community.refused(call) == ("NoSuchBatch", 2)
        community.client.advance(3 * 86_400)
        assert not community.contracts.is_final(2)
        give_back = community.contracts.return_demand(following.header, at, MEMBER)
        community.send(give_back, "outsider")
        community.send(community.contracts.withdraw_bond(), "coordinator")

    def test_everybody_leaves_with_everything(
        self, community: LiveCommunity, settled: Batch
    ) -> None:
        """Collateral included; nobody's withdrawal depends on another's, and the vault is empty but for rounding."""
        vault = community.contracts.addresses["Vault"]
        freeze(community, 1)
        for slot, leaf in settled.leaves.items():
            deposited = community.contracts.vault_balances(slot)[0]
            tokens = community.contracts.withdrawable(slot, settled)
            assert tokens == (deposited + leaf.cumulative_nano) // TOKEN
            owner = community.contracts.member_at(slot).account
            before = community.contracts.token_balance(owner)
            community.send(community.contracts.withdraw(tokens, settled, slot), "outsider")
            assert community.contracts.token_balance(owner) - before == tokens
        assert 0 <= community.contracts.token_balance(vault) <= len(settled.leaves)

    def test_also_who_was_never_settled(self, community: LiveCommunity, settled: Batch) -> None:
        key = account("wallet", 8)
        first_future = community.contracts.first_future_period()
        record = MemberRecord(key.address, first_future, 0, 0, 0, 2)
        community.send(community.contracts.admit(8, record, community.consent(8, record, key)))
        community.deposit(8, COLLATERAL_NANO)
        community.guarantee(8, NANO)
        tokens = COLLATERAL_NANO // TOKEN
        call = community.contracts.withdraw_unsettled(8, tokens, settled)
        assert community.refused(call) == ("AboveWithdrawable", tokens, 0)
        revoke = community.contracts.revoke_unsettled_credit(8, NANO, settled)
        freeze(community, 1)
        community.send(call, "outsider")
        assert community.contracts.token_balance(key.address) == tokens
        community.send(revoke, "guarantor")
        community.send(community.contracts.withdraw_guarantee(NANO // TOKEN), "guarantor")

    def test_and_everybody_in_a_community_that_never_settled(
        self, community: LiveCommunity
    ) -> None:
        community.deposit(MEMBER, 5 * NANO)
        community.deposit(SUPPLIER_SLOT, NANO)
        community.guarantee(OTHER, 2 * NANO)
        call = community.contracts.withdraw_never_settled(MEMBER, 5 * NANO // TOKEN)
        revoke = community.contracts.revoke_never_settled_credit(OTHER, 2 * NANO)
        assert community.refused(call) == ("HasFinalBatch",)
        assert community.refused(revoke, "guarantor") == ("HasFinalBatch",)
        freeze(community, 0)
        community.send(call, "outsider")
        community.send(community.contracts.withdraw_never_settled(0, NANO // TOKEN), "outsider")
        community.send(revoke, "guarantor")
        community.send(community.contracts.withdraw_guarantee(2 * NANO // TOKEN), "guarantor")
        vault = community.contracts.addresses["Vault"]
        assert community.contracts.token_balance(vault) == 0

    def test_that_way_is_closed_where_there_is_a_final_batch(
        self, community: LiveCommunity, settled: Batch
    ) -> None:
        """Deposits alone are not what a debtor may take."""
        freeze(community, 1)
        call = community.contracts.withdraw_never_settled(MEMBER, 1)
        assert community.refused(call) == ("HasFinalBatch",)
        refused = community.refused(community.contracts.withdraw_unsettled(OTHER, 1, settled))
        assert refused is not None and refused[0] == "NotInTree"

    def test_credit_in_use_still_covers_a_debt(
        self, community: LiveCommunity, settled: Batch
    ) -> None:
        """A guarantor does not leave before those it vouched for have paid."""
        debtor = FIRST_MEMBER_SLOT + 1
        equity = community.functions("Vault").equityNano(
            debtor, settled.leaves[debtor].cumulative_nano
        )
        assert equity.call() > 0
        community.guarantee(debtor, NANO)
        freeze(community, 1)
        tokens = community.contracts.withdrawable(debtor, settled)
        community.send(community.contracts.withdraw(tokens, settled, debtor), "outsider")
        community.send(community.contracts.revoke_credit(debtor, NANO, settled), "guarantor")

    def test_the_state_cannot_be_left(self, community: LiveCommunity, settled: Batch) -> None:
        freeze(community, 1)
        call = community.functions("ClearingHouse").voidBatch(
            header_tuple(settled.header), 0, account("outsider").address
        )
        assert community.refused(call) is not None
        assert community.contracts.is_final(1)
        assert community.contracts.is_frozen()
