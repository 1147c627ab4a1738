"""Personal parts over HTTP for their owners only: keys, and wallets that are contracts (ERC-1271), by real contracts on the embedded chain."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import uvicorn
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from backend.domain.community import FIRST_MEMBER_SLOT
from backend.operator.access import access_text
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.metrics import CoordinatorMetrics
from backend.operator.service import coordinator_app
from backend.settlement.bundle import Bundle
from contracts.bindings import CommunityContracts, MemberRecord, constructor
from contracts.wallets import consents
from tests.support.anvil import free_port
from tests.support.community import (
    FIRST_PERIOD,
    PAPER,
    Community,
    LiveCommunity,
    account,
    energy_of,
    period_number,
)

MEMBER = FIRST_MEMBER_SLOT
WALLET = FIRST_MEMBER_SLOT + 5


@dataclass
class Shown:
    """What the service asks of a community."""

    contracts: CommunityContracts
    chain_id: int
    bundles: BundleStore


@pytest.fixture
def shown(
    community: LiveCommunity, paper: Community, tmp_path: Path
) -> Iterator[tuple[str, Shown, Bundle]]:
    """A published bundle; the last slot belongs to a contract wallet."""
    owner = account("wallet", WALLET)
    client = community.client
    made = client.send(constructor(client.web3, "TestWallet", owner.address), account("deployer"))
    assert made.contract_address is not None
    record = MemberRecord(made.contract_address, FIRST_PERIOD + 1, 0, 1, 0, 3)
    community.send(
        community.contracts.admit(WALLET, record, community.consent(WALLET, record, owner))
    )
    period = period_number(0)
    bundle = paper.bundle(paper.paper_batch(period, energy_of(0)), period, PAPER)
    store = BundleStore(FolderStore(tmp_path))
    store.publish(bundle)
    service = Shown(community.contracts, client.chain_id, store)
    app = coordinator_app({"valley": cast(Any, service)}, CoordinatorMetrics(), 120, {}, time.time)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}", service, bundle
    server.should_exit = True
    thread.join()


def signed(service: Shown, slot: int, key: LocalAccount, issued_at: int) -> dict[str, str]:
    house = service.contracts.addresses["ClearingHouse"]
    text = access_text(service.chain_id, house, slot, issued_at)
    signature = bytes(key.sign_message(encode_defunct(text=text)).signature)
    return {"X-Peerwatt-Issued-At": str(issued_at), "X-Peerwatt-Signature": "0x" + signature.hex()}


def fetch(url: str, headers: dict[str, str]) -> requests.Response:
    return requests.get(url, headers=headers, timeout=30)


def test_whoever_signs_for_the_slot_sees_it(shown: tuple[str, Shown, Bundle]) -> None:
    url, service, bundle = shown
    base = f"{url}/communities/valley/bundles/{bundle.hash.hex()}/personal"
    now = int(time.time())
    stranger = Account.create()
    for slot, owner in ((MEMBER, account("wallet", MEMBER)), (WALLET, account("wallet", WALLET))):
        answer = fetch(f"{base}/{slot}", signed(service, slot, owner, now))
        # The newcomer has no part in this batch; but it is told so.
        assert answer.status_code == (404 if slot == WALLET else 200), answer.text
        other = account("wallet", MEMBER if slot == WALLET else MEMBER + 1)
        wrong = [
            {},
            signed(service, slot, stranger, now),
            signed(service, slot, other, now),
            signed(service, slot + 1, owner, now),
            signed(service, slot, owner, now - 3600),
            signed(service, slot, owner, now + 3600),
            signed(service, slot, owner, now) | {"X-Peerwatt-Issued-At": str(now - 1)},
            signed(service, slot, owner, now) | {"X-Peerwatt-Signature": "0x"},
            signed(service, slot, owner, now) | {"X-Peerwatt-Signature": "0x" + "ff" * 65},
            signed(service, slot, owner, now) | {"X-Peerwatt-Signature": "no hex"},
        ]
        for headers in wrong:
            assert fetch(f"{base}/{slot}", headers).status_code == 401, headers
    missing = fetch(f"{base}/99", signed(service, 99, stranger, now))
    assert missing.status_code == 401


def test_a_contract_that_is_no_wallet_owns_nothing(community: LiveCommunity) -> None:
    """It reverts, or answers something else."""
    house = community.contracts.addresses["ClearingHouse"]
    assert not consents(community.client.web3, house, bytes(32), bytes(65))
    assert not consents(community.client.web3, account("wallet", MEMBER).address, bytes(32), b"")
