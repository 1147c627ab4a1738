"""The outbox: transactions that were decided on, stored before they are sent, so that no crash sends one twice or forgets one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, func
from sqlmodel import Session, col, select

from backend.domain.errors import LeadershipLost

from .tables import AttemptRow, IntentRow, OutcomeRow


@dataclass(frozen=True, slots=True)
class NewIntent:
    """A transaction without nonce and fees."""

    key: str
    sender: str
    to_address: str
    data: bytes
    value_wei: int
    gas: int


class Outbox:
    """The stored intents of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def intent(self, key: str) -> IntentRow | None:
        """What was decided under a key; None if nothing was."""
        with Session(self._engine) as session:
            return session.get(IntentRow, key)

    def newest_nonce(self, sender: str) -> int:
        """The nonce that was stored last; -1 before the first."""
        with Session(self._engine) as session:
            return _newest_nonce(session, sender)

    def add_intent(
        self, new: NewIntent, least_nonce: int, newest_nonce: int | None = None
    ) -> IntentRow:
        """Stores an intent with the next nonce; a known key gets what it has already.

        Args:
            new: the intent.
            least_nonce: the sender's next nonce on chain.
            newest_nonce: the nonce after which nothing may have been stored.

        Raises:
            LeadershipLost: something was; nothing was stored.
            IntegrityError: another process took the nonce in the same moment; nothing was stored.
        """
        with Session(self._engine, expire_on_commit=False) as session:
            known = session.get(IntentRow, new.key)
            if known is not None:
                return known
            newest = _newest_nonce(session, new.sender)
            if newest_nonce is not None and newest != newest_nonce:
                raise LeadershipLost(
                    f"another coordinator decided on a transaction while {new.key} was looked at",
                    "nothing; it is looked at anew",
                )
            row = IntentRow(
                key=new.key,
                sender=new.sender,
                nonce=max(least_nonce, newest + 1),
                to_address=new.to_address,
                data=new.data,
                value_wei=str(new.value_wei),
                gas=new.gas,
            )
            session.add(row)
            session.commit()
            return row

    def count_since(self, prefix: str, signed_after: int) -> int:
        """How many intents whose keys begin with `prefix` were signed after a time."""
        with Session(self._engine) as session:
            return session.exec(
                select(func.count(func.distinct(AttemptRow.intent_key))).where(
                    col(AttemptRow.intent_key).startswith(prefix, autoescape=True),
                    AttemptRow.signed_at > signed_after,
                )
            ).one()

    def attempts(self, key: str) -> list[AttemptRow]:
        """An intent's signed transactions, oldest first."""
        with Session(self._engine) as session:
            return list(
                session.exec(
                    select(AttemptRow)
                    .where(AttemptRow.intent_key == key)
                    .order_by(col(AttemptRow.number))
                )
            )

    def add_attempt(self, row: AttemptRow) -> AttemptRow:
        """Stores a signed transaction; to be called before it is sent."""
        with Session(self._engine, expire_on_commit=False) as session:
            session.add(row)
            session.commit()
            return row

    def outcome(self, key: str) -> OutcomeRow | None:
        """What finally became of an intent; None as long as that is open."""
        with Session(self._engine) as session:
            return session.get(OutcomeRow, key)

    def add_outcome(self, row: OutcomeRow) -> None:
        """Stores an outcome once."""
        with Session(self._engine) as session:
            if session.get(OutcomeRow, row.intent_key) is None:
                session.add(row)
                session.commit()

    def open_keys(self, sender: str) -> list[str]:
        """Keys of a sender's intents without an outcome, in the order of their nonces."""
        with Session(self._engine) as session:
            decided = select(OutcomeRow.intent_key)
            return list(
                session.exec(
                    select(IntentRow.key)
                    .where(IntentRow.sender == sender, col(IntentRow.key).not_in(decided))
                    .order_by(col(IntentRow.nonce))
                )
            )


def _newest_nonce(session: Session, sender: str) -> int:
    newest = session.exec(select(func.max(IntentRow.nonce)).where(IntentRow.sender == sender)).one()
    return -1 if newest is None else newest
