"""`peerwatt deploy`: a community from its founding file to an address book, which can be stopped and run again anywhere.

Before the first transaction the deployer's nonce is written down; from it follow all addresses. Each step then asks the chain
whether it has been done: a contract by its code, a role by who holds it. So nothing is done twice, and nothing is taken for done that
is not. What was sent and is in no block when the program ends is stored, and gone on with first (`sending.py`).
"""

from __future__ import annotations

import glob
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import Web3Exception

from backend.chain.client import ChainClient
from backend.chain.networks import Network
from backend.chain.node_errors import node_error
from backend.domain.errors import DeploymentDiffers
from backend.durable_files import write_atomically
from backend.settlement.clearing_encoding import tariff_hash
from contracts.bindings import CommunityContracts, constructor

from .community import (
    ADMIN_ROLE,
    COORDINATOR_ROLE,
    DELAYED_ROLES,
    PAUSER_ROLE,
    Plan,
    plan_deployment,
    restrictions,
)
from .founding import FoundingFile
from .sending import EmbeddedSending, Sending, StoredSending
from .verification import differing_contracts, is_code_of

# Roles take effect in the block after; the delay of a role that nobody has had counts at once.
Report = Callable[[str, bool], None]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to be done on chain, once.

    Attributes:
        what: for people.
        is_done: asks the chain.
        call: does it.
    """

    what: str
    is_done: Callable[[], bool]
    call: Callable[[], ContractFunction]


def deploy(
    client: ChainClient,
    deployer: LocalAccount,
    founding: FoundingFile,
    address_book: Path,
    report: Report = lambda what, done: None,
    network: Network | None = None,
    *,
    timeout_seconds: float = 600,
    sleep: Callable[[float], None] = time.sleep,
) -> CommunityContracts:
    """Deploys a community, or goes on where an earlier run stopped, or finds that everything is done.

    Args:
        client: the chain.
        deployer: pays; has no rights any more at the end.
        founding: what the community is founded with.
        address_book: file to write; progress is kept beside it.
        report: told each step, and whether it had been done before.
        network: fees and finality; None for the embedded chain.
        timeout_seconds: how long each transaction may wait for its block.
        sleep: waits for seconds.

    Raises:
        DeploymentDiffers: what is on the chain is not what this file founds.
        ContractRefused: a call reverted.
        NotMined: a transaction waits too long; run it again.
        NodeError: the node failed; run it again.
    """
    plan, first_block = _begun(client, deployer, founding, address_book)
    sending: Sending
    if network is None:
        sending = EmbeddedSending(client, deployer)
    else:
        sending = StoredSending(
            client.web3,
            network,
            deployer,
            _outbox_path(address_book),
            timeout_seconds=timeout_seconds,
            sleep=sleep,
        )
    with closing(sending):
        try:
            sending.go_on()
            contracts = _deployed(client, sending, plan, plan_nonce(address_book), report)
            _set_up(contracts, sending, deployer.address, founding, report)
        except Web3Exception as error:
            # A node that is behind, say, and does not have a contract yet.
            raise node_error(error) from error
    book = {
        "chain_id": client.chain_id,
        "first_block": first_block,
        "contracts": dict(contracts.addresses),
    }
    write_atomically(address_book, (json.dumps(book, indent=2) + "\n").encode())
    return contracts


def _deployed(
    client: ChainClient, sending: Sending, plan: Plan, first_nonce: int, report: Report
) -> CommunityContracts:
    for index, name in enumerate(plan.constructors):
        report(name, _put(client, sending, plan, name, first_nonce + index))
    contracts = CommunityContracts(client.web3, plan.addresses)
    different = differing_contracts(contracts)
    if different:
        raise DeploymentDiffers(
            f"the code on the chain is not that of this version: {', '.join(different)}",
            "deploy with the version that began it, or begin anew with another address book",
        )
    return contracts


def _set_up(
    contracts: CommunityContracts,
    sending: Sending,
    deployer: str,
    founding: FoundingFile,
    report: Report,
) -> None:
    handed_over = not contracts.has_role(ADMIN_ROLE, deployer)[0]
    for step in _steps(contracts, deployer, founding):
        done = step.is_done()
        if not done and handed_over:
            raise DeploymentDiffers(
                f"{step.what}: is not so, and the deployer has handed over",
                "let the administrator mend it, or begin anew with another address book",
            )
        if not done:
            sending.send(step.what, step.call())
        report(step.what, done)


def planned(
    client: ChainClient, deployer: LocalAccount, founding: FoundingFile, address_book: Path
) -> dict[str, str]:
    """Where the contracts will be, for members to sign their consent to; nothing is sent."""
    return _begun(client, deployer, founding, address_book)[0].addresses


def _progress_path(address_book: Path) -> Path:
    return address_book.with_name(address_book.name + ".progress")


def _outbox_path(address_book: Path) -> Path:
    return address_book.with_name(address_book.name + ".outbox.sqlite")


def plan_nonce(address_book: Path) -> int:
    """The nonce that a deployment began with."""
    return int(json.loads(_progress_path(address_book).read_text())["first_nonce"])


def _begun(
    client: ChainClient, deployer: LocalAccount, founding: FoundingFile, address_book: Path
) -> tuple[Plan, int]:
    path = _progress_path(address_book)
    # Members may be admitted later with a longer list; what contracts are founded with must stay.
    # A field that came later says nothing where it is not given: what was begun before goes on.
    later = set() if founding.trade_book else {"trade_book"}
    given = founding.model_dump_json(exclude={"members", "collateral_steps"} | later)
    mine: dict[str, Any] = {
        "chain_id": client.chain_id,
        "deployer": deployer.address,
        "founding_sha256": hashlib.sha256(given.encode()).hexdigest(),
    }
    if not path.exists():
        begun = mine | {
            "first_nonce": client.web3.eth.get_transaction_count(deployer.address),
            "first_block": client.web3.eth.block_number,
        }
        address_book.parent.mkdir(parents=True, exist_ok=True)
        # Of a deployment that was given up.
        outbox = _outbox_path(address_book)
        for left in outbox.parent.glob(f"{glob.escape(outbox.name)}*"):
            left.unlink()
        write_atomically(path, (json.dumps(begun, indent=2) + "\n").encode())
    begun = json.loads(path.read_text())
    odd = [name for name, value in mine.items() if begun[name] != value]
    if odd:
        raise DeploymentDiffers(
            f"{path} was begun with another {', '.join(odd)}",
            "give what it was begun with, or another address book to begin anew",
        )
    plan = plan_deployment(founding.settings(), deployer.address, begun["first_nonce"])
    return plan, int(begun["first_block"])


def _put(client: ChainClient, sending: Sending, plan: Plan, name: str, nonce: int) -> bool:
    """Deploys one contract unless it is there; returns whether it was."""
    address = Web3.to_checksum_address(plan.addresses[name])
    code = bytes(client.web3.eth.get_code(address))
    if code:
        if not is_code_of(name, code):
            raise DeploymentDiffers(
                f"{address} has other code than {name}",
                "deploy with the version that began it, or begin anew with another address book",
            )
        return True
    found = sending.next_nonce()
    if found != nonce:
        raise DeploymentDiffers(
            f"{name} needs nonce {nonce} of the deployer, whose next one is {found}",
            "use a key that nothing else sends with, and another address book to begin anew",
        )
    sending.send(name, constructor(client.web3, name, *plan.constructors[name]))
    return False


def _steps(contracts: CommunityContracts, deployer: str, founding: FoundingFile) -> Iterator[Step]:
    def grant(what: str, role: int, account: str, delay: int) -> Step:
        return Step(
            what,
            lambda: contracts.has_role(role, account) == (True, delay),
            lambda: contracts.grant_role(role, account, delay),
        )

    for contract, functions, role in restrictions(contracts):
        yield Step(
            f"only role {role} may call {contract}.{'/'.join(functions)}",
            lambda c=contract, f=functions, r=role: contracts.is_restricted(c, f, r),  # type: ignore[misc]
            lambda c=contract, f=functions, r=role: contracts.restrict(c, f, r),  # type: ignore[misc]
        )
    yield grant("the coordinator may submit", COORDINATOR_ROLE, founding.coordinator, 0)
    yield Step(
        "the pauser grants the coordinator's role",
        lambda: contracts.role_admin(COORDINATOR_ROLE) == PAUSER_ROLE,
        lambda: contracts.set_role_admin(COORDINATOR_ROLE, PAUSER_ROLE),
    )
    administrator, delay = founding.administrator, founding.change_delay_seconds
    setup = list(_setup(contracts, founding))
    # Once everything is set up the deployer needs these roles no more, and may have given some up already.
    if not all(step.is_done() for step in setup):
        for role in DELAYED_ROLES:
            yield grant(f"the deployer sets up with role {role}", role, deployer, 0)
    yield from setup
    yield grant("the administrator is pauser", PAUSER_ROLE, administrator, 0)
    for role in (*DELAYED_ROLES, ADMIN_ROLE):
        yield grant(f"the administrator has role {role} after a delay", role, administrator, delay)
    for role in (*DELAYED_ROLES, ADMIN_ROLE):
        yield Step(
            f"the deployer gives up role {role}",
            lambda r=role: not contracts.has_role(r, deployer)[0],  # type: ignore[misc]
            lambda r=role: contracts.renounce_role(r, deployer),  # type: ignore[misc]
        )


def _setup(contracts: CommunityContracts, founding: FoundingFile) -> Iterator[Step]:
    """Tariff, founding members and their meters."""
    market, share = founding.market, founding.tariff.share_millionths
    first = founding.first_period
    yield Step(
        "the tariff is announced",
        lambda: contracts.announced_tariff(first.number) == tariff_hash(market, share),
        lambda: contracts.announce_tariff(market, share, first.number),
    )
    for slot, (record, item) in founding.records().items():
        consent = bytes.fromhex(item.consent[2:])
        yield Step(
            f"slot {slot} is admitted",
            lambda s=slot: contracts.slot_exists(s),  # type: ignore[misc]
            lambda s=slot, r=record, c=consent: contracts.admit(s, r, c),  # type: ignore[misc]
        )
        yield Step(
            f"the meter of slot {slot} may sign",
            lambda i=item: contracts.is_meter(i.meter),  # type: ignore[misc]
            # The register at the start of the first interval is read at the end of the one before.
            lambda i=item, s=slot: contracts.activate_meters(  # type: ignore[misc]
                [i.meter], [s], first.first_interval - 1
            ),
        )
