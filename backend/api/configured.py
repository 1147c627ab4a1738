"""Sites from a coordinator's configuration (`peerwatt/coordinator/1`): beside the coordinator's process, on the same database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from web3 import Web3

from backend.chain.client import account_from_secret
from backend.domain.errors import LeadershipLost, PeerwattError, QuorumNotReached
from backend.domain.states import CycleState
from backend.ledger.store import LedgerStore
from backend.market.electrical_distance_fees import network_pair_fees
from backend.operator.bundle_store import BundleStore
from backend.operator.community import CommunityService, address_book, open_chain
from backend.operator.config import CommunityEntry, Configuration, ConfiguredRules
from backend.operator.finality import final_item
from backend.operator.metrics import CoordinatorMetrics
from backend.operator.oracle_reports import is_healthy
from backend.operator.trade_desk import BOOKS_FOLDER
from backend.settlement.encoding import genesis_hash
from backend.settlement.forward import ForwardTrade
from contracts.bindings import CommunityContracts
from contracts.trade_book import TradeBookContract
from oracle.keystore import load_key
from oracle.peers import SignerClient
from oracle.trade_books import traded_period

from .bundles import Bundles
from .relay import Relay
from .site import ParticipantFacts, Site

_PROBE_SECONDS = 3
_NO_SALTS = bytes(32)
# Only the signers know the account that receives the fees; it trades nothing.
_NO_FEE_SLOT = -1


def open_configured_site(configuration: Configuration, entry: CommunityEntry) -> Site:
    """A community of an installation.

    Args:
        configuration: of the installation.
        entry: the community's part.

    Raises:
        PeerwattError: the configuration is wrong, or chain or database do not answer.
    """
    network, web3 = open_chain(configuration, entry)
    book = address_book(configuration, entry)
    contracts = CommunityContracts(web3, book["contracts"])
    founded = contracts.parameters()
    house = contracts.addresses["ClearingHouse"]
    chain_id = network.network().chain_id
    genesis = genesis_hash(chain_id, house, founded.first_period, founded.first_interval)
    facts = tuple(
        ParticipantFacts(
            slot=item.slot,
            name=item.name,
            account=item.account,
            meter=item.meter,
            node=item.node,
            tariff_class=item.tariff_class,
            generation_peak_w=item.generation_peak_w,
            heat_pump=item.heat_pump,
            ev=item.ev,
            from_period=item.from_period,
            until_period=item.until_period,
        )
        for item in sorted(entry.members, key=lambda item: item.slot)
    )
    coordinator = RunningCoordinator(configuration, entry)
    # Batches are prepared by the coordinator; here its salts are not needed.
    rules = ConfiguredRules(entry, chain_id, house, genesis, _NO_SALTS)
    site = Site(
        name=entry.name,
        title=entry.title or entry.name,
        currency=entry.currency,
        time_zone=entry.time_zone,
        interval_minutes=entry.interval_minutes,
        web3=web3,
        chain_id=chain_id,
        contracts=contracts,
        ledger=LedgerStore(configuration.database_url(entry)),
        bundles=Bundles(BundleStore(configuration.objects(entry))),
        rules=rules,
        participants=lambda: facts,
        connect=lambda: open_chain(configuration, entry)[1],
        first_block=int(book.get("first_block", 0)),
        failures=coordinator.failures,
        services=coordinator.services,
        forward_trades=_forward_trades(configuration, entry, book, web3, rules),
        actions=coordinator,
        grid_notices=configuration.folder / entry.grid_notices if entry.grid_notices else None,
    )
    if entry.relay_keystore is not None:
        password = configuration.secret(entry.password_file)
        key = load_key(configuration.folder / entry.relay_keystore, password)
        payer = account_from_secret(key.to_bytes())
        site.relay = Relay(site, network.network(), payer)
        site.relay.start()
    return site


def _forward_trades(
    configuration: Configuration,
    entry: CommunityEntry,
    book: dict[str, Any],
    web3: Web3,
    rules: ConfiguredRules,
) -> Callable[[int], Sequence[ForwardTrade]] | None:
    """Standing trades before delivery of a day, by the books that the coordinator keeps."""
    if entry.trades is None or "TradeBook" not in book["contracts"]:
        return None
    folder = configuration.folder / entry.trades.folder / entry.name / BOOKS_FOLDER
    contract = TradeBookContract(
        web3, book["contracts"]["TradeBook"], int(book.get("first_block", 0))
    )

    def standing(number: int) -> Sequence[ForwardTrade]:
        members = {member.slot: member for member in rules.members(number)}
        fees = network_pair_fees(rules.preparer(number).tariff.network)
        period = rules.period(number)
        return traded_period(contract, folder, period, members, fees.between, _NO_FEE_SLOT).trades

    return standing


@dataclass
class RunningCoordinator:
    """The coordinator's process, as seen from here: asked how it is, and stood in for where it does not run (`CoordinatorActions`).

    Args:
        configuration: of the installation.
        entry: the community's part.
    """

    configuration: Configuration
    entry: CommunityEntry

    def run(self) -> list[PeerwattError]:
        """See `CoordinatorActions`: the same stored states, and only where no coordinator leads."""
        with self._leading() as service:
            return service.cycle.advance()

    def finalise(self, period: int) -> None:
        """See `CoordinatorActions`. Whether a period is final is told also while a coordinator leads."""
        with self._opened() as service:
            if service.lock.hold():
                service.cycle.finalise(period)
                return
            challenge_seconds = service.cycle.parameters.challenge_seconds
            if final_item(service.store, period, challenge_seconds).state is CycleState.FINAL:
                raise _led(self.entry.name)

    def preview(self, period: int) -> int:
        """See `CoordinatorActions`."""
        with self._leading() as service:
            return len(service.previewer.refresh(period))

    def failures(self) -> Sequence[PeerwattError]:
        """What the running coordinator says could not go on."""
        waiting = self._ready().get("waiting", {}).get(self.entry.name, [])
        found = []
        for item in waiting:
            error = PeerwattError(str(item.get("message", "")), str(item.get("remedy", "")))
            error.code = str(item.get("code", "peerwatt"))  # type: ignore[misc]  # told by another process
            found.append(error)
        return found

    def services(self) -> Sequence[tuple[str, PeerwattError | None]]:
        """Coordinator and signers."""
        absent = PeerwattError("does not answer", "start `peerwatt coordinator run`")
        found: list[tuple[str, PeerwattError | None]] = [
            ("the coordinator", None if self._ready() else absent)
        ]
        for number, item in enumerate(self.entry.signers, start=1):
            token = self.configuration.secret(item.token_file)
            healthy = is_healthy(SignerClient(item.url, token, _PROBE_SECONDS))
            silent = QuorumNotReached("does not answer", "look after the signer")
            found.append((f"oracle signer {number}", None if healthy else silent))
        return found

    def _ready(self) -> dict[str, dict[str, list[dict[str, object]]]]:
        file = self.configuration.file
        try:
            answer = requests.get(f"http://{file.host}:{file.port}/ready", timeout=_PROBE_SECONDS)
            found = answer.json()
        except (requests.RequestException, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @contextmanager
    def _opened(self) -> Iterator[CommunityService]:
        service = CommunityService(self.configuration, self.entry, CoordinatorMetrics())
        try:
            yield service
        finally:
            service.close()

    @contextmanager
    def _leading(self) -> Iterator[CommunityService]:
        with self._opened() as service:
            if not service.lock.hold():
                raise _led(self.entry.name)
            yield service


def _led(name: str) -> LeadershipLost:
    return LeadershipLost(
        f"a coordinator is running for {name}",
        "leave it to that one: it goes on by itself every few seconds",
    )
