"""Sends what members have signed, and pays the gas: leaving the community, and withdrawals.

Nothing else is sent, and nothing before it was checked who asks. What is sent goes through the outbox, so it is sent once, whatever
crashes and however often somebody clicks.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Annotated, Literal

from eth_account.signers.local import LocalAccount
from eth_keys.datatypes import Signature as KeySignature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from fastapi import APIRouter, Path
from hexbytes import HexBytes
from pydantic import Field
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.types import Wei

from backend.chain.networks import Network, embedded_network
from backend.chain.sender import Sender, SendProgress, SendState
from backend.domain.errors import (
    MalformedInput,
    NotThere,
    OutOfRange,
    PeerwattError,
    TooDear,
    TooManyRequests,
)
from backend.domain.values import Value
from backend.ledger.outbox import Outbox
from backend.settlement.encoding import (
    departure_hash,
    domain_separator,
    membership_hash,
    typed_data_digest,
)
from contracts.bindings import MemberRecord
from deploy.community import REGISTRAR_ROLE

from .admissions import first_period, next_slot
from .roles import Role
from .rpc import catch_up
from .sessions import AnyCaller, Caller
from .site import Site
from .transactions import (
    Consent,
    Prepared,
    Signature,
    Slot,
    as_call,
    signature_bytes,
    withdrawal,
)
from .views.values import Exact, HexText

_LOG = logging.getLogger("peerwatt.web")
router = APIRouter(prefix="/communities/{community}", tags=["transactions"])
Key = Annotated[str, Path(pattern=r"^[a-z0-9:-]{1,100}$", description="As the relay named it.")]
_DAY_SECONDS = 86_400
# Gas costs the community money.
_PER_MEMBER_AND_DAY = 10
# More than a departure or a withdrawal needs.
_MOST_GAS = 500_000
_PUSH_SECONDS = 10
_DEMO_FUNDS_WEI = Wei(10**18)
# ERC-1271.
_MAGIC = bytes.fromhex("1626ba7e")
_SIGNATURE_BYTES = 65


class SignedDeparture(Value):
    """A signed departure (EIP-712, docs/protocol.md)."""

    until_period: Annotated[int, Field(ge=0, lt=2**32)]
    signature: Signature


class RelayedAmount(Value):
    """How much to withdraw."""

    amount_nano: Annotated[Exact, Field(gt=0)]


class Relayed(Value):
    """How far the relay is. `status` is where to ask again."""

    kind: Literal["relayed"] = "relayed"
    state: SendState
    succeeded: bool
    transaction_hash: HexText | None
    status: str


class ConsentFile(Value):
    """A consent that was checked, for the registrar."""

    kind: Literal["file"] = "file"
    name: str
    file: Consent


@dataclass
class Relay:
    """Sends for the members of one community.

    Args:
        site: the community.
        network: its chain.
        key: pays; nothing else may send with it.
    """

    site: Site
    network: Network
    key: LocalAccount = field(repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def __post_init__(self) -> None:
        site = self.site
        self._outbox = Outbox(site.ledger.engine)
        self._sender = Sender(site.web3, self.network, self.key, self._outbox, now=site.now)

    def send(self, slot: int, name: str, call: ContractFunction) -> str:
        """Sends a call for a member, once for each name; returns what to ask for it by.

        Raises:
            TooManyRequests: the member has had enough sent today.
            TooDear: gas costs more than the network's limit, or than there is on the relay's account.
            ContractRefused: the call would revert.
            NodeError: the node failed; what was decided is sent later.
        """
        prefix = f"relay:{slot}:"
        key = prefix + name
        with self._guard:
            if not self._sender.is_decided(key):
                since = int(self.site.now()) - _DAY_SECONDS
                if self._outbox.count_since(prefix, since) >= _PER_MEMBER_AND_DAY:
                    raise TooManyRequests(
                        f"{_PER_MEMBER_AND_DAY} transactions were sent for slot {slot} in a day",
                        "send this one with your own wallet, or tomorrow",
                        _DAY_SECONDS,
                    )
                self._check_price()
            self._sender.submit(key, call)
        catch_up(self.site)
        return key

    def _check_price(self) -> None:
        """Before anything is decided: what is decided must be sent, however long that takes."""
        web3, limit = self.site.web3, self.network.fee_limit_wei
        base = int(web3.eth.get_block("latest").get("baseFeePerGas", 0))
        fee = base + self.network.priority_fee_wei
        mend = "send it with your own wallet, or try again later"
        if fee > limit:
            raise TooDear(f"gas costs {fee} wei, and the relay pays {limit} at most", mend)
        balance = web3.eth.get_balance(self.key.address)
        if balance < _MOST_GAS * fee:
            raise TooDear(f"{balance} wei are on the relay's account: not enough", mend)

    def start(self) -> None:
        """Goes on with what is open, until `stop`: whoever asked for it need not come again."""
        threading.Thread(target=self._push, name="relay", daemon=True).start()

    def stop(self) -> None:
        """Ends that."""
        self._stopped.set()

    def _push(self) -> None:
        while not self._stopped.wait(_PUSH_SECONDS):
            try:
                with self._guard:
                    self._sender.push_all()
            except PeerwattError as error:
                _LOG.warning("relay waits", extra={"code": error.code})

    def progress(self, key: str) -> SendProgress:
        """How far something is.

        Raises:
            NotThere: nothing was sent under that name.
        """
        if not self._sender.is_decided(key):
            raise NotThere("nothing was sent under this name", "prepare it again")
        with self._guard:
            return self._sender.push(key)


def relay_of(site: Site) -> Relay | None:
    """The community's relay; None where nobody pays for one. A demonstration has one."""
    found: Relay | None = site.relay
    if found is None and site.demo is not None:
        key = site.demo.community.account("relay")
        payer = site.web3.eth.accounts[0]
        site.web3.eth.send_transaction({"from": payer, "to": key.address, "value": _DEMO_FUNDS_WEI})
        found = site.relay = Relay(site, embedded_network(site.chain_id), key)
    return found


def is_signed(web3: Web3, account: str, digest: bytes, signature: bytes) -> bool:
    """Whether an account signed a digest: with its key, or as a contract by its own rule (ERC-1271), as the contracts decide it."""
    if _recovered(digest, signature) == account.lower():
        return True
    if not web3.eth.get_code(Web3.to_checksum_address(account)):
        return False
    from eth_abi.abi import encode

    data = _MAGIC + encode(["bytes32", "bytes"], [digest, signature])
    try:
        found = web3.eth.call({"to": Web3.to_checksum_address(account), "data": HexBytes(data)})
    except Exception:  # a contract of a stranger's may revert in any way
        return False
    return len(found) == 32 and bytes(found[:4]) == _MAGIC


def _recovered(digest: bytes, signature: bytes) -> str | None:
    if len(signature) != _SIGNATURE_BYTES or signature[-1] not in (27, 28):
        return None
    try:
        raw = signature[:-1] + bytes([signature[-1] - 27])
        return KeySignature(raw).recover_public_key_from_msg_hash(digest).to_address()
    except (BadSignature, ValidationError):
        return None


def _check(site: Site, account: str, struct_hash: bytes, signature: str) -> bytes:
    """The signature as bytes.

    Raises:
        MalformedInput: it is not the account's.
    """
    raw = signature_bytes(signature)
    domain = domain_separator(site.chain_id, site.contracts.addresses["MemberRegistry"])
    if not is_signed(site.web3, account, typed_data_digest(domain, struct_hash), raw):
        raise MalformedInput(
            "signature", "<not repeated>", f"is not that of {account}", "sign with that wallet"
        )
    return raw


def _needed(caller: Caller) -> Relay:
    relay = relay_of(caller.site)
    if relay is None:
        raise NotThere("this site has no relay", "send the transaction with your own wallet")
    return relay


def _shown(caller: Caller, slot: int, key: str) -> Relayed:
    found = _needed(caller).progress(key)
    return Relayed(
        state=found.state,
        succeeded=found.succeeded,
        transaction_hash="0x" + found.transaction_hash.hex() if found.transaction_hash else None,
        status=f"/api/v1/communities/{caller.site.name}/members/{slot}/relayed/{key}",
    )


@router.post("/members/{slot}/relayed/departures")
def relay_departure(slot: Slot, body: SignedDeparture, caller: AnyCaller) -> Relayed:
    """Sends a signed departure. The same one twice is sent once."""
    caller.need_slot(slot)
    site = caller.site
    account = site.contracts.member_at(slot).account
    raw = _check(site, account, departure_hash(slot, body.until_period), body.signature)
    call = site.contracts.depart_with_signature(slot, body.until_period, raw)
    key = _needed(caller).send(slot, f"departure:{body.until_period}", call)
    return _shown(caller, slot, key)


@router.post("/members/{slot}/relayed/withdrawals")
def relay_withdrawal(slot: Slot, body: RelayedAmount, caller: AnyCaller) -> Relayed:
    """Sends a withdrawal to the slot's account. Until it is in a block, the same one twice is sent once."""
    caller.need_slot(slot)
    site = caller.site
    call, nano = withdrawal(site, slot, body.amount_nano)
    _, withdrawn = site.contracts.vault_balances(slot)
    key = _needed(caller).send(slot, f"withdrawal:{withdrawn}:{nano}", call)
    return _shown(caller, slot, key)


@router.get("/members/{slot}/relayed/{key}")
def relayed(slot: Slot, key: Key, caller: AnyCaller) -> Relayed:
    """How far the relay is with something."""
    caller.need_slot(slot)
    if not key.startswith(f"relay:{slot}:"):
        raise NotThere("nothing was sent under this name", "prepare it again")
    return _shown(caller, slot, key)


@router.post("/memberships/consents")
def check_consent(body: Consent, caller: AnyCaller) -> ConsentFile:
    """Checks a signed consent; what comes back is for the registrar."""
    if caller.need_session().lower() != body.account.lower():
        raise MalformedInput(
            "account", "<not repeated>", "is not the one that signed in", "sign in with that wallet"
        )
    _check(caller.site, body.account, _membership(body), body.signature)
    return ConsentFile(name=f"consent-{body.slot}.json", file=body)


@router.post("/memberships/admissions")
def prepare_admission(body: Consent, caller: AnyCaller) -> Prepared:
    """Prepares the transaction with which the registrar admits a new member; where its role has a delay, first the announcement.

    `facts.ready_at` is from when on the admission itself can be sent; ask again then.
    """
    caller.need(Role.REGISTRAR, Role.ADMINISTRATOR)
    site = caller.site
    raw = _check(site, body.account, _membership(body), body.signature)
    record = MemberRecord(
        Web3.to_checksum_address(body.account),
        body.from_period,
        0,
        body.node,
        body.tariff_class,
        body.collateral_steps,
    )
    admission = site.contracts.admit(body.slot, record, raw)
    facts = {
        "account": body.account,
        "slot": str(body.slot),
        "from_day": site.day(body.from_period),
    }
    registrar = caller.need_session()
    _, delay = site.contracts.has_role(REGISTRAR_ROLE, registrar)
    ready_at = site.contracts.scheduled_at(registrar, admission) if delay else 0
    if delay and not ready_at:
        _check_announced(site, body, delay)
        ready_at = site.web3.eth.get_block("latest")["timestamp"] + delay
        return Prepared(
            kind="transaction",
            what="announced admission",
            transaction=as_call(site, site.contracts.schedule(admission)),
            facts=facts | {"ready_at": str(ready_at)},
        )
    ready = {"ready_at": str(ready_at)} if delay else {}
    return Prepared(
        kind="transaction",
        what="admission",
        transaction=as_call(site, admission),
        facts=facts | ready,
    )


def _check_announced(site: Site, body: Consent, delay_seconds: int) -> None:
    """That an admission which is announced now can be made once the delay is over.

    Raises:
        OutOfRange: its slot is somebody else's by then, or its first period has begun.
    """
    again = "let the newcomer sign again"
    if body.slot != (free := next_slot(site)):
        raise OutOfRange("slot", body.slot, f"is not the next one, {free}", again)
    first = first_period(site, delay_seconds) - 1
    if body.from_period < first:
        raise OutOfRange(
            "from_period",
            body.from_period,
            f"has begun by then; the first that has not is {first}",
            again,
        )


def _membership(body: Consent) -> bytes:
    return membership_hash(
        body.slot,
        body.account,
        body.from_period,
        body.node,
        body.tariff_class,
        body.collateral_steps,
    )
