"""Runs the watchtower: node, bundles, key and memory from what the command was given."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from backend.chain.networks import Network
from backend.chain.sender import Sender
from backend.domain.errors import MalformedInput
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore

from .bundle_files import BundleFiles, fetch_bundles
from .chain_reader import ChainReader
from .facts import SubmittedBatch
from .node import open_nodes
from .watch import Bundles, WatchEvent, WatchState, Watchtower

_MOST_FETCH_SECONDS = 600
# Bundles of so many batches are kept.
_KEPT_BATCHES = 32


@dataclass(frozen=True)
class WatchOptions:
    """What can be chosen; the fields are the command's options."""

    rpc: tuple[str, ...]
    community: str
    bundle: str | None
    receipts: Path | None
    keystore: Path | None
    password_file: Path | None
    state: Path
    grace_seconds: int | None
    finality_depth: int | None
    poll_seconds: float
    once: bool
    timeout_seconds: float
    fetch_seconds: float | None = None
    slots: tuple[int, ...] = ()
    demand_all: bool = False


def run_watch(options: WatchOptions, tell: Callable[[WatchEvent], None]) -> str:
    """Watches until it is stopped, or once.

    Args:
        options: the command's.
        tell: told every event.

    Returns:
        The worst verdict among the standing batches.

    Raises:
        MalformedInput: an option is unusable.
        NodeError: the node does not answer at the start; later the watchtower waits for it.
    """
    if not Web3.is_address(options.community):
        raise MalformedInput(
            "community", options.community, "not an address", "give 0x and 40 hexadecimal digits"
        )
    key = _key(options)
    web3 = open_nodes(options.rpc, options.timeout_seconds)
    reader = ChainReader(web3, options.community)
    grace = options.grace_seconds
    if grace is None:
        grace = reader.parameters["challengeSeconds"] // 12
    fetch_seconds = options.fetch_seconds
    if fetch_seconds is None:
        # Far below the time after which data is demanded: whoever sends a byte now and then must not hold it up.
        fetch_seconds = min(_MOST_FETCH_SECONDS, reader.parameters["challengeSeconds"] / 48)
    options.state.mkdir(parents=True, exist_ok=True)
    state = WatchState.load(options.state / "watch.json")
    with _sender(options, web3, key) as sends:
        tower = Watchtower(
            reader,
            _bundles(options),
            state,
            sends,
            grace_seconds=grace,
            receipts=options.receipts,
            fetch_seconds=fetch_seconds,
            demands=None if options.demand_all else frozenset(options.slots),
        )
        while True:
            for event in tower.look():
                tell(event)
            if options.once:
                break
            time.sleep(options.poll_seconds)
    found = {state.verdicts.get(record, "incomplete") for record in state.standing}
    return next((worst for worst in ("failed", "incomplete") if worst in found), "verified")


def _key(options: WatchOptions) -> LocalAccount | None:
    if options.keystore is None:
        return None
    if options.password_file is None:
        raise MalformedInput(
            "password-file", None, "missing", "give the file with the keystore's password"
        )
    try:
        password = options.password_file.read_text().rstrip("\r\n")
        secret = Account.decrypt(json.loads(options.keystore.read_text()), password)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MalformedInput(
            "keystore",
            str(options.keystore),
            f"cannot be opened: {error}",
            "give a Web3 Secret Storage file and its password",
        ) from None
    account: LocalAccount = Account.from_key(secret)
    return account


@contextmanager
def _sender(options: WatchOptions, web3: Web3, key: LocalAccount | None) -> Iterator[Sender | None]:
    if key is None:
        yield None
        return
    store = LedgerStore(f"sqlite:///{options.state / 'outbox.sqlite'}")
    try:
        network = Network("watched", web3.eth.chain_id, options.finality_depth)
        yield Sender(web3, network, key, Outbox(store.engine))
    finally:
        store.close()


def _bundles(options: WatchOptions) -> Bundles:
    given = options.bundle
    if given is None:
        return lambda batches, books, deadline: BundleFiles(None)
    if not given.startswith(("http://", "https://")):
        return lambda batches, books, deadline: BundleFiles(Path(given))
    # Kept also for whoever needs its own part of the last final batch once nobody shows it any more: to withdraw.
    folder = options.state / "bundles"

    def fetch(batches: list[SubmittedBatch], books: list[int], deadline: float) -> BundleFiles:
        found = fetch_bundles(
            given, batches, None, folder, options.timeout_seconds, books=books, deadline=deadline
        )
        _forget(folder, max((batch.number for batch in batches), default=0) - _KEPT_BATCHES)
        return found

    return fetch


def _forget(folder: Path, last: int) -> None:
    """Removes the bundles of batches up to a number."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.isdecimal() and int(path.name) <= last:
            shutil.rmtree(path)
