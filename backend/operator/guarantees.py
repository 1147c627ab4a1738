"""The coordinator as guarantor: how much it locks, and how much of that stands behind each account."""

from __future__ import annotations

from dataclasses import dataclass

from web3.contract.contract import ContractFunction

from backend.chain.sender import Sender
from backend.domain.errors import ContractRefused, MalformedInput
from backend.settlement.batch import LedgerState
from contracts.bindings import CommunityContracts

from .cover import Cover

_KEY = "guarantee"


@dataclass(frozen=True, slots=True)
class Guarantees:
    """What the coordinator's key vouches for in one community.

    Args:
        contracts: the community on its chain.
        sender: sends and pays.
        cover: knows what was granted.
    """

    contracts: CommunityContracts
    sender: Sender
    cover: Cover

    def finish(self) -> None:
        """Waits for what an earlier run decided and did not see in a block.

        Raises:
            NotMined: it takes too long; it goes on by itself, or when this is called again.
        """
        for key in self.sender.open_keys(f"{_KEY} "):
            self.sender.wait(key)

    def status(self) -> tuple[int, int]:
        """Nano that are locked, and that stand behind accounts."""
        return self.contracts.guarantee_of(self.sender.key.address)

    def lock(self, target_nano: int) -> None:
        """Deposits or takes back until so much is locked.

        Args:
            target_nano: a whole number of the token's smallest unit.

        Raises:
            MalformedInput: it is not.
            ContractRefused: more is granted, or the key does not have the tokens.
        """
        locked, _ = self.status()
        tokens = self._tokens(target_nano - locked)
        if tokens > 0:
            self._send(f"approve {locked} {tokens}", self.contracts.approve(tokens))
            self._send(f"deposit {locked} {tokens}", self.contracts.deposit_guarantee(tokens))
        elif tokens < 0:
            call = self.contracts.withdraw_guarantee(-tokens)
            self._send(f"withdraw {locked} {tokens}", call)

    def vouch(self, slot: int, target_nano: int, state: LedgerState | None) -> None:
        """Grants or takes back credit until the slot has so much from here.

        Args:
            slot: of the account.
            target_nano: what it is to have.
            state: accounts of the newest final batch, which taking back has to prove; None where only granting is meant.

        Raises:
            ContractRefused: there is no such slot, the guarantee is not enough, or the account needs what is to be taken back.
        """
        more = target_nano - self.cover.granted_nano(slot)
        name = f"{slot} {self.cover.granted_nano(slot)} {more}"
        if more > 0:
            self._send(f"grant {name}", self.contracts.grant_credit(slot, more))
        elif more < 0:
            assert state is not None
            call = (
                self.contracts.revoke_credit(slot, -more, state)
                if slot in state.leaves
                else self.contracts.revoke_unsettled_credit(slot, -more, state)
            )
            self._send(f"revoke {name} {state.header.number}", call)

    def _send(self, name: str, call: ContractFunction) -> None:
        mark = self.sender.mark()
        # The newest nonce is part of the name: the same may be wanted again later.
        key = f"{_KEY} {name} after {mark}"
        self.sender.submit(key, call, since=mark)
        done = self.sender.wait(key)
        if not done.succeeded:
            raise self.sender.refusal(key, done.block_number) or ContractRefused(
                "unknown", {}, f"the transaction reverted in block {done.block_number}"
            )

    def _tokens(self, nano: int) -> int:
        decimals = self.contracts.token_decimals()
        tokens, rest = divmod(nano * int(10**decimals), 10**9)
        if rest:
            raise MalformedInput(
                "target_nano",
                nano,
                "not a whole number of tokens",
                f"the token has {decimals} decimals",
            )
        return tokens
