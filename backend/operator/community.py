"""One community in a coordinator's process, wired together."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from web3 import Web3

from backend.chain.client import account_from_secret
from backend.chain.networks import Network
from backend.chain.sender import Sender
from backend.domain.errors import LeadershipLost, MalformedInput, PeerwattError
from backend.domain.states import CycleState
from backend.domain.tracing import trace_id
from backend.domain.values import parse_json
from backend.ledger.cycle import Item
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from backend.ledger.tables import PreviewRow
from backend.settlement.encoding import genesis_hash
from contracts.bindings import CommunityContracts
from contracts.trade_book import TradeBookContract
from deploy.networks import NetworkFile
from oracle.config import read_bytes
from oracle.keystore import load_key
from oracle.peers import SignerClient

from .books import CommunityBooks
from .bundle_store import BundleStore
from .config import CommunityEntry, Configuration, ConfiguredRules
from .leader import LeaderLock
from .metrics import CoordinatorMetrics
from .oracle_reports import OracleSigners, is_healthy
from .periods import PeriodCycle
from .preview import NEWEST, Previewer
from .trade_desk import TradeDesk

_LOG = logging.getLogger("peerwatt.coordinator")
# Gas of a day's batch of a thousand members in four zones, with room.
_BATCH_GAS = 1_000_000
_PROBE_SECONDS = 3
Made = TypeVar("Made")


class CommunityService:
    """Everything of one community.

    Args:
        configuration: of the installation.
        entry: the community's part.
        metrics: where it counts.
        now: seconds since the Unix epoch.

    Raises:
        PeerwattError: the configuration is wrong, or chain or database do not answer.
    """

    def __init__(
        self,
        configuration: Configuration,
        entry: CommunityEntry,
        metrics: CoordinatorMetrics,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = entry.name
        self.entry = entry
        self.metrics = metrics
        self.now = now
        self.failures: list[PeerwattError] = []
        self.advanced_at = 0.0
        self.audited_at = 0.0
        network, self.web3 = open_chain(configuration, entry)
        self.network: Network = network.network()
        book = address_book(configuration, entry)
        self.contracts = CommunityContracts(self.web3, book["contracts"])
        self.ledger = LedgerStore(configuration.database_url(entry))
        self.lock = LeaderLock(self.ledger.engine)
        self.bundles = BundleStore(configuration.objects(entry))
        password = configuration.secret(entry.password_file)
        key = load_key(configuration.folder / entry.keystore, password)
        founded = self.contracts.parameters()
        house = self.contracts.addresses["ClearingHouse"]
        self.chain_id = self.network.chain_id
        genesis = genesis_hash(self.chain_id, house, founded.first_period, founded.first_interval)
        self.rules = ConfiguredRules(
            entry, self.chain_id, house, genesis, configuration.salt_key(entry)
        )
        self.signers = OracleSigners(
            [
                SignerClient(item.url, configuration.secret(item.token_file))
                for item in entry.signers
            ],
            self.contracts,
            self.chain_id,
        )
        self.sender = Sender(
            self.web3,
            self.network,
            account_from_secret(key.to_bytes()),
            Outbox(self.ledger.engine),
            now=now,
            about=self._about,
        )
        self.cycle = PeriodCycle(
            rules=self.rules,
            contracts=self.contracts,
            sender=self.sender,
            books=CommunityBooks(
                self.web3,
                self.network,
                self.contracts,
                self.ledger.engine,
                self.bundles.leaves,
                int(book.get("first_block", 0)),
            ),
            ledger=self.ledger,
            bundles=self.bundles,
            oracle=self.signers,
            now=now,
            settle_after_seconds=entry.settle_after_minutes * 60,
            correction_check_seconds=entry.correction_check_minutes * 60,
            observe=self._observe,
            trades=self._trade_desk(configuration, book),
            credit_limit_nano=entry.credit_limit_nano,
        )
        self.store = self.cycle.store
        self.previewer = Previewer(
            self.rules, self.signers, self.store, entry.interval_minutes, now
        )

    def _trade_desk(self, configuration: Configuration, book: dict[str, Any]) -> TradeDesk | None:
        entry = self.entry.trades
        if entry is None:
            return None
        if "TradeBook" not in book["contracts"]:
            raise MalformedInput(
                "trades",
                self.entry.address_book,
                "no TradeBook in it",
                "found the community with `trade_book`",
            )
        return TradeDesk(
            contract=TradeBookContract(
                self.web3, book["contracts"]["TradeBook"], int(book.get("first_block", 0))
            ),
            sender=self.sender,
            folder=configuration.folder / entry.folder / self.name,
            rules=self.rules,
            chain_id=self.chain_id,
            salt_key=configuration.salt_key(self.entry),
            interval_seconds=self.entry.interval_minutes * 60,
            close_before_seconds=entry.close_before_seconds,
            clients=self.signers.clients,
            now=self.now,
        )

    def take_trades(self, data: Any) -> int:
        """Takes trades that both sides signed; returns how many are new.

        Raises:
            InputError: one is not as it should be, or nobody trades here.
            LeadershipLost: another process takes them.
        """
        if self.cycle.trades is None:
            raise MalformedInput("trades", self.name, "not traded here", "configure `trades`")
        if not self.lock.hold():
            raise LeadershipLost("another process takes trades", "send them there")
        return self.cycle.trades.take(data)

    def own_trades(self, slot: int, period: int) -> list[dict[str, Any]]:
        """A member's trades of a period, with what striking one out takes."""
        desk = self.cycle.trades
        return desk.own_trades(slot, self.rules.period(period)) if desk else []

    def close(self) -> None:
        """Stands back and lets go of the database."""
        self.lock.release()
        self.ledger.close()

    def replace_entry(self, entry: CommunityEntry) -> None:
        """Takes over changed members, tariffs and times; the rest needs a restart."""
        self.entry = entry
        self.rules.replace_entry(entry)
        self.cycle.settle_after_seconds = entry.settle_after_minutes * 60
        self.cycle.correction_check_seconds = entry.correction_check_minutes * 60
        self.cycle.cover.credit_limit_nano = entry.credit_limit_nano

    # --- What the scheduler calls ------------------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Goes on with the cycle if this process leads; returns whether everything could go on. Never raises."""
        failures: list[PeerwattError] = []
        leads = self._attempt(self._lead, failures)
        if leads:
            failures += self._attempt(self.cycle.advance, failures) or []
            # Whatever cannot be measured, what could not go on before stays said.
            self._attempt(self._measure, failures)
        self.failures = failures
        for failure in failures:
            self.metrics.failures.labels(self.name, failure.code).inc()
            extra: dict[str, object] = {
                "community": self.name,
                "code": failure.code,
                "reason": failure.message,
            }
            if failure.period is not None:
                extra |= {"period": failure.period, "trace": self.trace(failure.period)}
            _LOG.warning("cannot go on", extra=extra)
        if not failures:
            self.advanced_at = self.now()
        if leads and not failures:
            self.metrics.advanced_at.labels(self.name).set(self.advanced_at)
        return not failures

    def _attempt(self, step: Callable[[], Made], failures: list[PeerwattError]) -> Made | None:
        """What a step gives; None if it failed, and then the failure is noted."""
        try:
            return step()
        except PeerwattError as error:
            failures.append(error)
        except Exception as error:
            # A fault of ours in one community must not stop the others; the next tick tries again.
            _LOG.exception("unexpected", extra={"community": self.name})
            failures.append(PeerwattError(f"{type(error).__name__}: {error}", "report this"))
        return None

    def _lead(self) -> bool:
        """Whether this process leads; if it does not, it no longer shows what it knew when it did."""
        leads = False
        try:
            leads = self.lock.hold()
        finally:
            self.metrics.leader.labels(self.name).set(leads)
        if not leads:
            self.metrics.stood_back(self.name)
            # What another one changes meanwhile it has not seen.
            self.audited_at = 0.0
        return leads

    def preview(self) -> None:
        """Clears the running period so far, if this process leads. Never raises."""
        try:
            if not self.lock.hold():
                return
            number = self.running_period()
            rows = self.previewer.keep_up(number)
        except Exception as error:
            # Whatever it is, it costs a preview and nothing else.
            code = error.code if isinstance(error, PeerwattError) else type(error).__name__
            self.metrics.failures.labels(self.name, code).inc()
            extra = {"community": self.name, "code": code}
            _LOG.warning("no preview", exc_info=not isinstance(error, PeerwattError), extra=extra)
            return
        self._show_preview(number, rows)

    def _show_preview(self, number: int, rows: Sequence[PreviewRow]) -> None:
        period, seconds = self.rules.period(number), self.entry.interval_minutes * 60
        # As long as nothing of the period is over, all of it is cleared.
        end = rows[-1].interval + 1 if rows else period.first_interval
        self.metrics.previewed_interval_end.labels(self.name).set(end * seconds)
        if not rows:
            return
        # Readings of the very newest may still be on their way.
        settled, members = rows[-NEWEST:][0], len(self.rules.members(number))
        self.metrics.missing_ratio.labels(self.name).set(settled.missing / max(1, members))
        _LOG.info(
            "interval cleared",
            extra={
                "community": self.name,
                "interval": rows[-1].interval,
                "missing": rows[-1].missing,
                "trace": self.trace(number),
            },
        )

    def audit_if_due(self) -> None:
        """Audits, if this process leads and has not since the last quiet hour. Never raises."""
        from .own_audit import due_since

        # A time to come is that of a clock that has been set right since.
        if not due_since(self.now()) <= self.audited_at <= self.now():
            self.audit()

    def audit(self) -> int | None:
        """Lets the independent auditor recompute chain and bundles (docs/adr/0048). Never raises.

        Returns:
            How many checks failed; None if there was no audit.
        """
        from .own_audit import audited, first_audited

        try:
            if not self.lock.hold():
                return None
            first = first_audited(self.store)
            with tempfile.TemporaryDirectory() as scratch:
                for _ in self.export(Path(scratch), first=first, personal=True):
                    pass
                house = self.contracts.addresses["ClearingHouse"]
                verdict = audited(self.web3, house, Path(scratch), first)
        except (PeerwattError, OSError) as error:
            # Node, database, store or disk: nothing was found, and the next hour tries again.
            code = error.code if isinstance(error, PeerwattError) else type(error).__name__
            self.metrics.failures.labels(self.name, code).inc()
            _LOG.error("audit failed", extra={"community": self.name, "error": code})
            return None
        except Exception:
            # What the auditor stumbles over is a finding.
            _LOG.exception("audit failed", extra={"community": self.name})
            self.metrics.audit_mismatches.labels(self.name).set(1)
            return 1
        outcomes = [check.passed for check in verdict.all_checks]
        wrong, unchecked = outcomes.count(False), outcomes.count(None)
        self.audited_at = self.now()
        self.metrics.audit_mismatches.labels(self.name).set(wrong)
        self.metrics.audit_unchecked.labels(self.name).set(unchecked)
        self.metrics.audited_at.labels(self.name).set(self.audited_at)
        extra = {"community": self.name, "wrong": wrong, "unchecked": unchecked}
        _LOG.info("audited", extra=extra)
        return wrong

    def export(
        self, folder: Path, *, first: int | None = None, personal: bool = False
    ) -> Iterator[Path]:
        """Writes bundles and trade books as `peerwatt audit` reads them.

        Args:
            folder: where to.
            first: of periods from this one on, with the batch before; None for all.
            personal: everybody's parts and trades too.
        """
        from .own_audit import export, headers_from

        headers = headers_from(self.store, first)
        yield from export(
            headers, self.bundles, self.cycle.trades, self.rules, folder, personal=personal
        )

    # --- Looking at it -------------------------------------------------------------------------------------------------------

    def running_period(self) -> int:
        """The number of the period that is running."""
        return self.rules.running(self.now())

    def trace(self, period: int) -> str:
        """The trace id of a period."""
        return trace_id(self.chain_id, self.contracts.addresses["ClearingHouse"], period)

    def _about(self, intent: str) -> dict[str, Any]:
        """What log lines say of a transaction besides: whose it is, and the trace of the period that it is for."""
        for item in self.store.items():
            if item.batch_hash and item.batch_hash in intent:
                trace = self.trace(item.period)
                return {"community": self.name, "batch": item.batch_hash, "trace": trace}
        return {"community": self.name}

    def _observe(self, item: Item) -> None:
        self.metrics.moves.labels(self.name, item.state.value).inc()
        _LOG.info(
            "period moved",
            extra={
                "community": self.name,
                "period": item.period,
                "version": item.version,
                "state": item.state.value,
                "batch": item.batch_hash,
                "reason": item.reason,
                "trace": self.trace(item.period),
            },
        )

    def _measure(self) -> None:
        metrics, name = self.metrics, self.name
        items = self.store.items()
        settled = (CycleState.FINAL, CycleState.STATED)
        final = [item.period for item in items if item.state in settled]
        if final:
            metrics.final_period.labels(name).set(max(final))
        pending = [
            item for item in items if item.state not in settled and not self.cycle.is_given_up(item)
        ]
        ends = [self.rules.end(item.period) for item in pending if not item.version]
        begun = [self.store.begun_at(item) for item in pending if item.version]
        metrics.oldest_open_since.labels(name).set(min(ends, default=0))
        metrics.oldest_correction_since.labels(name).set(min(begun, default=0))
        metrics.final_after.labels(name).set(
            self.cycle.settle_after_seconds + self.cycle.parameters.challenge_seconds
        )
        metrics.signers_needed.labels(name).set(self.contracts.oracle_config().threshold)
        answering = sum(
            is_healthy(SignerClient(client.url, client.token, _PROBE_SECONDS))
            for client in self.signers.clients
        )
        metrics.signers_answering.labels(name).set(answering)
        metrics.batches_affordable.labels(name).set(self.batches_affordable())

    def batches_affordable(self) -> float:
        """How many batches the key can pay for at the present fee."""
        head = self.web3.eth.get_block("latest")
        fee = int(head.get("baseFeePerGas", 0)) + self.network.priority_fee_wei
        balance = self.web3.eth.get_balance(self.sender.key.address)
        return balance / (fee * _BATCH_GAS) if fee else float("inf")


def open_chain(configuration: Configuration, entry: CommunityEntry) -> tuple[NetworkFile, Web3]:
    """The network of a community and the way to it.

    Raises:
        InputError: no such network, or no endpoint.
    """
    network = configuration.network(entry)
    return network, network.connect(configuration.endpoints(entry))


def address_book(configuration: Configuration, entry: CommunityEntry) -> dict[str, Any]:
    """Where the community's contracts are.

    Raises:
        InputError: not an address book, or of another chain, or no such network.
    """
    path = configuration.folder / entry.address_book
    book = parse_json(read_bytes(path), path)
    if not isinstance(book, dict) or not isinstance(book.get("contracts"), dict):
        raise MalformedInput(
            str(path), "<file>", "no address book", "use the one that `peerwatt deploy` wrote"
        )
    wanted = configuration.network(entry).chain_id
    if book.get("chain_id") != wanted:
        raise MalformedInput(
            f"{path}: chain_id",
            book.get("chain_id"),
            f"{entry.network} is chain {wanted}",
            "use the address book that `peerwatt deploy` wrote for this network",
        )
    return book
