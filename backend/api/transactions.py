"""Prepares what moves money or rights, for the member's own wallet to sign; the service holds no key of a member's.

What is prepared is either a text to sign (EIP-712) or a call of a contract. Calls that anybody may send are sent by the relay
(`relay.py`), so that members pay no gas; for the others the wallet sends them itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from eth_typing import ChecksumAddress
from fastapi import APIRouter, Path
from pydantic import Field
from web3.contract.contract import ContractFunction
from web3.types import Wei as Web3Wei

from backend.domain.community import FIRST_MEMBER_SLOT
from backend.domain.errors import (
    BundleUnavailable,
    MalformedInput,
    NotThere,
    OutOfRange,
    UnknownReference,
)
from backend.domain.units import SLOT_LIMIT
from backend.domain.values import Value
from backend.ledger.bundles import leaf_of
from backend.settlement.encoding import (
    DEPARTURE_TYPE,
    EMPTY,
    MEMBERSHIP_TYPE,
    BatchHeader,
)
from contracts.bindings import head_tuple, leaf_tuple

from .admissions import first_period, next_slot, registrars_delay
from .sessions import AnyCaller, AnySite
from .site import Site, Standing
from .views.values import Exact, HexText

router = APIRouter(prefix="/communities/{community}", tags=["transactions"])
Slot = Annotated[int, Path(ge=0, lt=SLOT_LIMIT, description="The member's slot on chain.")]
Number = Annotated[int, Path(ge=1, lt=2**53, description="The batch's number.")]
PositiveNano = Annotated[Exact, Field(gt=0)]
Signature = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]*$", min_length=4, max_length=16_384)]
_PERMIT_SECONDS = 3600
_PERMIT = (
    ("owner", "address"),
    ("spender", "address"),
    ("value", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
)
_DOMAIN = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


class Call(Value):
    """A call of a contract.

    Attributes:
        value: wei to send along, in hexadecimal.
    """

    to: HexText
    data: HexText
    value: HexText = "0x0"


class Prepared(Value):
    """What a wallet is to do.

    Attributes:
        kind: `signature`: sign `typed_data`, then send `body` with `signature` to `submit`. `transaction`: send `transaction`, or
            where there is a `submit`, send `body` there and the relay does it.
        what: a word for it.
        facts: what to show to people; names end in the unit.
    """

    kind: Literal["signature", "transaction"]
    what: str
    typed_data: dict[str, Any] | None = None
    transaction: Call | None = None
    submit: str | None = None
    body: dict[str, Any] = Field(default_factory=dict)
    facts: dict[str, str] = Field(default_factory=dict)


class Evidence(Value):
    """What a member needs to verify a statement without believing this site: documents as published, by the hash of their batch.

    Attributes:
        first_block: no event of the community is older.
        amount_nano: as the statement has it.
        documents: `personal` and `public`, as text, byte for byte; null where it is not there (any more).
    """

    chain_id: int
    clearing_house: HexText
    first_block: int
    slot: int
    number: int
    batch_hash: HexText
    amount_nano: str | None
    documents: dict[str, dict[str, str | None]]


class DemoWalletView(Value):
    """A wallet of the demonstration. Its key is no secret."""

    role: str
    name: str
    address: HexText
    private_key: HexText


class Amount(Value):
    """How much; without it, all there is."""

    amount_nano: PositiveNano | None = None


class Deposit(Value):
    """How much to deposit; the second time with the signed permit."""

    amount_nano: PositiveNano
    deadline: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    signature: Signature | None = None


class Departure(Value):
    """From which period on somebody is a member no longer; without it, as soon as can be."""

    until_period: Annotated[int, Field(ge=0, lt=2**32)] | None = None


class Joining(Value):
    """Where somebody wants to join, and with how much collateral."""

    node: Annotated[str, Field(min_length=1, max_length=128)]
    tariff_class: Annotated[str, Field(min_length=1, max_length=128)]
    collateral_steps: Annotated[int, Field(ge=0, lt=256)] = 1


class Consent(Value):
    """A signed consent to a membership, which the registrar submits."""

    slot: Annotated[int, Field(ge=FIRST_MEMBER_SLOT, lt=SLOT_LIMIT)]
    account: HexText
    from_period: Annotated[int, Field(ge=0, lt=2**32)]
    node: Annotated[int, Field(ge=0, lt=2**16)]
    tariff_class: Annotated[int, Field(ge=0, lt=2**8)]
    collateral_steps: Annotated[int, Field(ge=0, lt=2**8)]
    signature: Signature


# --- To verify with ----------------------------------------------------------------------------------------------------------


@router.get("/members/{slot}/batches/{number}/evidence")
def evidence(slot: Slot, number: Number, caller: AnyCaller) -> Evidence:
    """Everything to verify a statement with, as it was published."""
    caller.need_slot(slot)
    site = caller.site
    batch = site.batch(number)
    personal = _own_part(site, batch.header, slot)
    wanted = {batch.header.previous_batch, batch.header.corrected_batch, batch.header.hash()}
    documents = {
        item.batch_hash: {
            "personal": _text(site.bundles.store.personal(item.header.bundle_hash, slot)),
            "public": _text(site.bundles.store.public(item.header.bundle_hash)),
        }
        for item in site.batches()
        if item.header.hash() in wanted
    }
    return Evidence(
        chain_id=site.chain_id,
        clearing_house=site.contracts.addresses["ClearingHouse"],
        first_block=site.first_block,
        slot=slot,
        number=number,
        batch_hash=batch.batch_hash,
        amount_nano=None if personal is None else str(personal["amount_nano"]),
        documents=documents,
    )


@router.get("/demo-wallets")
def demo_wallets(site: AnySite) -> tuple[DemoWalletView, ...]:
    """The demonstration's wallets, with their keys; there are none on a real site."""
    if site.demo is None:
        raise NotThere("this is no demonstration", "sign in with your own wallet")
    return tuple(
        DemoWalletView(
            role=wallet.role,
            name=wallet.name,
            address=wallet.key.address,
            private_key="0x" + bytes(wallet.key.key).hex(),
        )
        for wallet in site.demo.wallets
    )


# --- Money -------------------------------------------------------------------------------------------------------------------


@router.post("/members/{slot}/withdrawals")
def prepare_withdrawal(slot: Slot, body: Amount, caller: AnyCaller) -> Prepared:
    """Prepares a withdrawal with a proof against the last final batch. Anybody may send it; the money goes to the slot's account."""
    caller.need_slot(slot)
    site = caller.site
    call, nano = withdrawal(site, slot, body.amount_nano)
    relay = f"/api/v1/communities/{site.name}/members/{slot}/relayed/withdrawals"
    return Prepared(
        kind="transaction",
        what="withdrawal",
        transaction=as_call(site, call),
        submit=relay if has_relay(site) else None,
        body={"amount_nano": nano},
        facts={"amount_nano": str(nano), "account": str(caller.address)},
    )


@router.post("/members/{slot}/announcements")
def prepare_announcement(slot: Slot, body: Amount, caller: AnyCaller) -> Prepared:
    """Prepares the announcement of a withdrawal, which money needs that is to leave while batches are open."""
    caller.need_slot(slot)
    site = caller.site
    arguments, limit = _proof(site, slot)
    tokens, nano = _tokens(site, body.amount_nano, limit)
    call = site.contracts.functions("Vault").announceWithdrawal(tokens, *arguments)
    return Prepared(
        kind="transaction",
        what="announcement",
        transaction=as_call(site, call),
        facts={"amount_nano": str(nano), "account": str(caller.address)},
    )


@router.post("/members/{slot}/deposits")
def prepare_deposit(slot: Slot, body: Deposit, caller: AnyCaller) -> Prepared:
    """Prepares a deposit: first the token's permit to sign (ERC-2612), then with it the transaction."""
    caller.need_slot(slot)
    site, owner = caller.site, caller.need_session()
    tokens, nano = _tokens(site, body.amount_nano, None)
    facts = {"amount_nano": str(nano), "slot": str(slot)}
    vault, token = site.contracts.addresses["Vault"], site.contracts.functions("TestToken")
    if body.signature is None:
        now = site.web3.eth.get_block("latest")["timestamp"]
        deadline = max(now, int(site.now())) + _PERMIT_SECONDS
        domain = token.eip712Domain().call()
        message = {
            "owner": owner,
            "spender": vault,
            "value": str(tokens),
            "nonce": str(token.nonces(owner).call()),
            "deadline": str(deadline),
        }
        named = {"name": domain[1], "version": domain[2]}
        return Prepared(
            kind="signature",
            what="deposit",
            typed_data=_typed(site, domain[4], "Permit", _PERMIT, message, named),
            submit=f"/api/v1/communities/{site.name}/members/{slot}/deposits",
            body={"amount_nano": nano, "deadline": deadline},
            facts=facts | {"deadline_at": str(deadline)},
        )
    if body.deadline is None:
        raise MalformedInput("deadline", None, "missing", "send the one that was signed")
    raw = signature_bytes(body.signature)
    if len(raw) != 65:
        raise MalformedInput("signature", "<not repeated>", "not 65 bytes", "sign with a key")
    signed = (raw[64], raw[:32], raw[32:64])
    call = site.contracts.deposit_with_permit(slot, tokens, body.deadline, signed)
    return Prepared(
        kind="transaction", what="deposit", transaction=as_call(site, call), facts=facts
    )


# --- Joining and leaving -----------------------------------------------------------------------------------------------------


@router.post("/members/{slot}/departures")
def prepare_departure(slot: Slot, body: Departure, caller: AnyCaller) -> Prepared:
    """Prepares leaving: a text to sign, which the relay submits."""
    caller.need_slot(slot)
    site = caller.site
    first = site.contracts.first_future_period()
    until = first if body.until_period is None else body.until_period
    if until < first:
        raise OutOfRange(
            "until_period", until, "has begun", f"give {first} ({site.day(first)}) or later"
        )
    facts = {"slot": str(slot), "until_day": site.day(until)}
    if not has_relay(site):
        call = as_call(site, site.contracts.depart(slot, until))
        return Prepared(kind="transaction", what="departure", transaction=call, facts=facts)
    message = {"slot": str(slot), "untilPeriod": until}
    return Prepared(
        kind="signature",
        what="departure",
        typed_data=_own_typed(site, "Departure", DEPARTURE_TYPE, message),
        submit=f"/api/v1/communities/{site.name}/members/{slot}/relayed/departures",
        body={"until_period": until},
        facts=facts,
    )


@router.post("/memberships")
def prepare_membership(body: Joining, caller: AnyCaller) -> Prepared:
    """Prepares joining: the consent that somebody signs who wants to become a member. The registrar submits it."""
    account, site = caller.need_session(), caller.site
    period = first_period(site, registrars_delay(site))
    market = site.rules.preparer(period).market
    key = (body.node, body.tariff_class)
    if key not in market.group_index:
        known = ", ".join(f"{node} {name}" for node, name in sorted(market.group_index))
        raise UnknownReference(
            "node, tariff_class", " ".join(key), "no such group", f"name one of: {known}"
        )
    group = market.groups[market.group_index[key]]
    slot = next_slot(site)
    message = {
        "slot": str(slot),
        "account": account,
        "fromPeriod": period,
        "node": group.node,
        "tariffClass": group.tariff_class,
        "collateralSteps": body.collateral_steps,
    }
    collateral = body.collateral_steps * site.contracts.collateral_step_nano()
    return Prepared(
        kind="signature",
        what="membership",
        typed_data=_own_typed(site, "Membership", MEMBERSHIP_TYPE, message),
        submit=f"/api/v1/communities/{site.name}/memberships/consents",
        body={
            "slot": slot,
            "account": account,
            "from_period": period,
            "node": group.node,
            "tariff_class": group.tariff_class,
            "collateral_steps": body.collateral_steps,
        },
        facts={
            "account": account,
            "slot": str(slot),
            "from_day": site.day(period),
            "node": body.node,
            "tariff_class": body.tariff_class,
            "collateral_nano": str(collateral),
        },
    )


def signature_bytes(text: str) -> bytes:
    """A signature as bytes.

    Raises:
        MalformedInput: half a byte too many.
    """
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise MalformedInput(
            "signature", "<not repeated>", "not whole bytes", "send it as the wallet gave it"
        ) from None


def has_relay(site: Site) -> bool:
    """Whether somebody pays the gas for members here; a demonstration always does."""
    return site.demo is not None or site.relay is not None


def withdrawal(site: Site, slot: int, nano: int | None) -> tuple[ContractFunction, int]:
    """A withdrawal with its proof.

    Args:
        site: the community.
        slot: whose money.
        nano: how much; None for all.

    Returns:
        The call, and how much it is.

    Raises:
        OutOfRange: more than can be withdrawn.
        NotThere: no batch is final.
        BundleUnavailable: the slot's part of the last final batch is missing.
    """
    arguments, limit = _proof(site, slot)
    tokens, taken = _tokens(site, nano, limit)
    call: ContractFunction = site.contracts.functions("Vault").withdraw(tokens, *arguments)
    return call, taken


def _proof(site: Site, slot: int) -> tuple[tuple[Any, Any, list[bytes]], int]:
    """Head, leaf and path of a slot in the last final batch, and the tokens that it could withdraw."""
    final = [item for item in site.batches() if item.standing is Standing.SETTLED]
    if not final:
        raise NotThere(
            "no batch is final yet", "wait until the first one cannot be challenged any more"
        )
    header = final[-1].header
    part = _own_part(site, header, slot)
    if part is None:
        raise BundleUnavailable(
            f"the personal part of slot {slot} in batch {header.number} is missing",
            "give the coordinator your copy of it",
        )
    leaf = leaf_of(part)
    # Bundles leave the empty end of a path out.
    path = [bytes.fromhex(word[2:]) for word in part["ledger_proof"]]
    path += [EMPTY] * (2 * header.ledger_depth - len(path))
    head = head_tuple(header)
    limit = site.contracts.functions("Vault").withdrawable(slot, leaf.cumulative_nano, head).call()
    return (head, leaf_tuple(leaf), path), int(limit)


def _tokens(site: Site, nano: int | None, limit: int | None) -> tuple[int, int]:
    """An amount in the token's smallest unit, and in nano; rounded down."""
    decimals = site.contracts.token_decimals()
    tokens = limit or 0
    if nano is not None:
        tokens = nano // 10 ** (9 - decimals) if decimals <= 9 else nano * 10 ** (decimals - 9)
    shown = tokens * 10**9 // 10**decimals
    if tokens == 0 or (limit is not None and tokens > limit):
        most = (limit or 0) * 10**9 // 10**decimals
        raise OutOfRange(
            "amount_nano", nano, "more than there is, or nothing", f"give at most {most}"
        )
    return tokens, shown


def _own_part(site: Site, header: BatchHeader, slot: int) -> dict[str, Any] | None:
    try:
        return site.bundles.personal(header, slot)
    except BundleUnavailable:
        # Whoever verifies sees what is wrong with it.
        return None


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", errors="replace")


def as_call(site: Site, call: ContractFunction) -> Call:
    """A call as a wallet sends it. Without the fields that wallets fill in, web3 would ask the node for them."""
    unused: Any = {"chainId": site.chain_id, "gas": 0, "gasPrice": Web3Wei(0), "nonce": 0}
    return Call(to=str(call.address), data=str(call.build_transaction(unused)["data"]))


def _own_typed(site: Site, name: str, signature: str, message: dict[str, Any]) -> dict[str, Any]:
    """A text for the registry of members to check."""
    inside = signature.partition("(")[2].removesuffix(")")
    fields = tuple((field.split()[1], field.split()[0]) for field in inside.split(","))
    registry = site.contracts.addresses["MemberRegistry"]
    named = {"name": "Peerwatt", "version": "1"}
    return _typed(site, registry, name, fields, message, named)


def _typed(
    site: Site,
    contract: ChecksumAddress | str,
    name: str,
    fields: tuple[tuple[str, str], ...],
    message: dict[str, Any],
    named: dict[str, str],
) -> dict[str, Any]:
    """EIP-712 data as `eth_signTypedData_v4` takes it."""
    types = {"EIP712Domain": _DOMAIN, name: fields}
    return {
        "types": {
            key: [{"name": field, "type": kind} for field, kind in given]
            for key, given in types.items()
        },
        "primaryType": name,
        "domain": named | {"chainId": site.chain_id, "verifyingContract": str(contract)},
        "message": message,
    }
