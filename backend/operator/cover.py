"""Cover: no batch is submitted with an account that owes more than stands behind it, since anybody could have it voided for that.

Behind an account stand its deposits and the credit that guarantors grant it (docs/protocol.md). The coordinator is a guarantor: from its own
guarantee it grants what an account lacks, up to a limit for each, so that members can take part without ever touching a token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from backend.chain.sender import Sender
from backend.domain.errors import AccountsUncovered
from backend.domain.units import format_money
from backend.ledger.tables import ChainEventRow
from contracts.bindings import CommunityContracts

# Credit is granted in so many steps up to the limit: one for each day's bill would be a transaction each.
_STEPS = 10
# A batch that must wait for a deposit is looked at so often.
_LOOK_SECONDS = 60
# Whatever is announced to leave counts as gone.
_WHENEVER = 2**64 - 1


@dataclass
class Cover:
    """Keeps the accounts of one community covered.

    Args:
        contracts: the community on its chain.
        sender: grants credit, from the guarantee of its key.
        engine: the community's database, with the chain's events.
        now: seconds since the Unix epoch.
        credit_limit_nano: the most that is granted to one account.
    """

    contracts: CommunityContracts
    sender: Sender
    engine: Engine
    now: Callable[[], float]
    credit_limit_nano: int = 0
    _refused: dict[str, tuple[float, AccountsUncovered]] = field(default_factory=dict, init=False)

    def is_covered(
        self, batch: str, cumulative_nano: Mapping[int, int], submitted_at: int = _WHENEVER
    ) -> bool:
        """Whether all of these accounts are covered; if not, credit for them is on its way, and is there when this is asked again.

        Args:
            batch: what asks.
            cumulative_nano: by slot, as the batch has it.
            submitted_at: of the batch; it is yet to be submitted without.

        Raises:
            AccountsUncovered: limit or guarantee are not enough.
            NodeError: the node failed.
        """
        looked_at, refusal = self._refused.get(batch, (float("-inf"), None))
        if refusal is not None and 0 <= self.now() - looked_at < _LOOK_SECONDS:
            raise refusal
        self._refused.pop(batch, None)
        missing = {}
        for slot, cumulative in cumulative_nano.items():
            cover = self.contracts.cover_nano(slot, cumulative, submitted_at)
            if cover < 0:
                missing[slot] = -cover
        if not missing:
            return True
        try:
            grants = self._grants(missing)
        except AccountsUncovered as error:
            self._refused = {batch: (self.now(), error)}
            raise
        for slot, nano in grants.items():
            self._grant(slot, nano)
        return False

    def demands(self) -> set[tuple[str, int]]:
        """Batch hashes and slots for which cover was demanded, as the newest block has it."""
        with Session(self.engine) as session:
            rows = session.exec(
                select(ChainEventRow.arguments).where(col(ChainEventRow.name) == "CoverDemanded")
            ).all()
        found = [json.loads(row) for row in rows]
        return {(item["batchHash"], item["slot"]) for item in found}

    def granted_nano(self, slot: int) -> int:
        """Credit that this guarantor grants a slot, as the newest block has it."""
        changes = self._changes(slot)
        return changes[-1] if changes else 0

    def _changes(self, slot: int) -> list[int]:
        """What this guarantor has granted the slot after each change, oldest first."""
        row = ChainEventRow
        with Session(self.engine) as session:
            found = session.exec(
                select(row.arguments)
                .where(row.name == "CreditChanged")
                .order_by(col(row.block_number), col(row.log_index))
            ).all()
        own = self.sender.key.address.lower()
        return [
            int(item["creditNano"])
            for item in map(json.loads, found)
            if item["slot"] == slot and item["guarantor"].lower() == own
        ]

    def _grants(self, missing: Mapping[int, int]) -> dict[int, int]:
        """What to grant each, so that it is enough for some time; just what is missing if the guarantee is short."""
        deposited, granted = self.contracts.guarantee_of(self.sender.key.address)
        free = deposited - granted
        left = {slot: self.credit_limit_nano - self.granted_nano(slot) for slot in missing}
        step = max(1, self.credit_limit_nano // _STEPS)
        generous = {
            slot: min(-(-nano // step) * step, left[slot]) for slot, nano in missing.items()
        }
        beyond = {slot: nano for slot, nano in missing.items() if nano > left[slot]}
        if beyond:
            raise _uncovered(beyond, "more credit than the coordinator grants one account")
        if sum(missing.values()) > free:
            raise _uncovered(
                missing, f"of the coordinator's guarantee {format_money(free, decimals=2)} are free"
            )
        return generous if sum(generous.values()) <= free else dict(missing)

    def _grant(self, slot: int, nano: int) -> None:
        # By what was changed before: asked again, it goes on with what was decided.
        key = self.sender.next_key(f"credit {slot} {len(self._changes(slot))}")
        self.sender.submit(key, self.contracts.grant_credit(slot, nano))


def _uncovered(missing: Mapping[int, int], why: str) -> AccountsUncovered:
    slots = ", ".join(
        f"slot {slot} lacks {format_money(nano, decimals=2)}"
        for slot, nano in sorted(missing.items())[:10]
    )
    more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
    return AccountsUncovered(
        f"accounts owe more than stands behind them: {slots}{more}; {why}",
        "let them deposit, or raise guarantee (`peerwatt coordinator guarantee`) or `credit_limit_nano`; the batch is submitted by itself then",
    )
