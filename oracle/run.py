"""The process of a signer: HTTP service, sources, and a watch over the files that can change while it runs."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

import uvicorn

from backend.domain.errors import PeerwattError
from backend.domain.tracing import trace_id

from .collector import Collector
from .config import OracleConfig, load_config
from .intake import Acknowledgement
from .keystore import load_key
from .metrics import OracleMetrics, log, start_logging
from .node import OracleNode
from .peers import Forwarder, SignerClient
from .service import Push, oracle_app
from .sources.base import Source
from .sources.http import secret
from .sources.registry import open_source
from .sources.smart_me import decode_push

_LONGEST_PAUSE_SECONDS = 60
_SIGN_SECONDS = 5
_WATCH_SECONDS = 2
_PRUNE_SECONDS = 3600
_FORWARD_SECONDS = 5


class SignerProcess:
    """Everything that runs, wired together.

    Args:
        path: of the configuration.

    Raises:
        PeerwattError: something in the configuration is wrong, or the store cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        config = load_config(path)
        self._stop = threading.Event()
        self._workers: Executor | None = None
        if config.file.workers:
            # Not by fork: other threads may hold locks at that moment.
            self._workers = ProcessPoolExecutor(config.file.workers, get_context("spawn"))
        self.node = OracleNode.open(config, workers=self._workers)
        self.metrics = OracleMetrics(self.node)
        self.node.intake.observe = self._taken
        self.node.intake.observe_rejection = self.metrics.observe_rejection
        self._token = secret(config.folder, config.file.token_file) or ""
        self._collecting = threading.Lock()
        self._collector = self._open_collector(config)
        self._sources = open_sources(config)
        self._server: uvicorn.Server | None = None
        self._registry_due = 0.0
        self._prune_due = 0.0
        self._seen: list[tuple[str, int]] = []
        self._faults: dict[str, str] = {}
        self._threads: list[threading.Thread] = []
        self._traced: set[int] = set()

    def _taken(self, done: Acknowledgement) -> None:
        self.metrics.observe(done)
        config = self.node.config
        for number in sorted({config.number_of(item) for item in done.intervals} - self._traced):
            self._traced.add(number)
            trace = trace_id(config.file.chain_id, config.file.clearing_house, number)
            log("first readings", period=number, trace=trace)

    def _open_collector(self, config: OracleConfig) -> Collector | None:
        entry = config.file.collector
        if entry is None:
            return None
        password = secret(config.folder, config.file.password_file) or ""
        self._forwarder = Forwarder(
            [SignerClient(peer.url, self._token, _FORWARD_SECONDS) for peer in config.file.peers]
        )
        collector = Collector(
            load_key(config.path(entry.keystore), password),
            self.node.intake,
            config.devices(),
            entry.tolerance_seconds,
            config.file.correction_days,
            forward=self._forwarder,
        )
        collector.resume()
        return collector

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT; what was acknowledged is on disk in any case."""
        start_logging()
        config = self.node.config
        app = oracle_app(
            self.node, self.metrics, lambda: self._token, self._pushes(), self._what_fails
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, config.file.host, config.file.port, log_config=None, access_log=False
            )
        )
        self._seen = self._stamps()
        threads = [self._repeating("watch", self._watch, _WATCH_SECONDS)]
        if self._collector is not None:
            threads += [
                threading.Thread(
                    target=self._collect, args=(source,), name=source.name, daemon=True
                )
                for source in self._sources
            ]
            threads.append(self._repeating("sign", self._sign, _SIGN_SECONDS))
        self._threads = [thread for thread in threads if thread.name in ("watch", "sign")]
        for thread in threads:
            thread.start()
        log("started", signers=len(self.node.keys), sources=len(self._sources))
        try:
            with stopping(self._halt):
                self._server.run()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(5)
            self.node.store.close()
            if self._workers is not None:
                self._workers.shutdown(cancel_futures=True)
            log("stopped")

    def _halt(self) -> None:
        self._stop.set()
        if self._server is not None:
            self._server.should_exit = True

    # --- Sources -------------------------------------------------------------------------------------------------------

    def _collect(self, source: Source) -> None:
        """Takes what a source delivers; a source or store that fails is tried again, ever more slowly."""
        pause = 1.0
        while not self._stop.is_set():
            try:
                for delivery in source.deliveries(self._stop):
                    with self._collecting:
                        assert self._collector is not None
                        self._collector.accept(source.name, delivery.items)
                    delivery.acknowledge()
                    pause = 1.0
                log("source has no more", source=source.name)
                return
            except Exception as error:
                # Whatever a source or its library raises must not end it; only its kind is told, the text may hold readings.
                self.metrics.source_failures.labels(source.name).inc()
                code = getattr(error, "code", type(error).__name__)
                log("source failed", logging.WARNING, source=source.name, code=str(code))
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _pushes(self) -> dict[str, Push]:
        """Where sources of kind smart-me take pushed messages."""
        if self._collector is None:
            return {}
        collector = self._collector

        def taker(name: str) -> Push:
            def take(data: bytes) -> int:
                items = decode_push(data)
                with self._collecting:
                    return collector.accept(name, items)

            return take

        return {
            str(entry.get("name", "smart-me")): taker(str(entry.get("name", "smart-me")))
            for entry in self.node.config.file.sources
            if entry.get("kind") == "smart-me"
        }

    def _sign(self) -> None:
        assert self._collector is not None
        with self._collecting:
            signed = self._collector.sign_due()
        if signed:
            log("readings signed", count=signed)

    # --- What is done again and again ----------------------------------------------------------------------------------

    def _repeating(self, name: str, step: Callable[[], None], pause: float) -> threading.Thread:
        """A thread that does a step until the process stops; a step that fails shows in `/health` until one succeeds."""

        def repeat() -> None:
            while not self._stop.wait(pause):
                try:
                    step()
                    self._faults.pop(name, None)
                except Exception as error:
                    code = str(getattr(error, "code", type(error).__name__))
                    # Not every few seconds while it stays as it is.
                    if self._faults.get(name) != code:
                        log("failed", logging.ERROR, what=name, code=code)
                    self._faults[name] = code

        return threading.Thread(target=repeat, name=name, daemon=True)

    def _what_fails(self) -> dict[str, str]:
        dead = {thread.name: "ended" for thread in self._threads if not thread.is_alive()}
        return dict(self._faults) | dead

    def _watch(self) -> None:
        """Takes over changed files: a rotation is a new keystore and a new entry of `committees`."""
        self._watch_registry()
        self._prune()
        stamps = self._stamps()
        if stamps == self._seen:
            return
        try:
            self._reload()
        except PeerwattError:
            # Tried again next time: what was wrong may be gone without any of these files changing.
            if self._faults.get("watch") is None:
                log("configuration not taken over", logging.ERROR)
            raise
        self._seen = stamps
        log("configuration taken over", signers=len(self.node.keys))

    def _reload(self) -> None:
        config = load_config(self._path)
        token = secret(config.folder, config.file.token_file) or ""
        entry, key = config.file.collector, None
        if entry is not None and self._collector is not None:
            password = secret(config.folder, config.file.password_file) or ""
            key = load_key(config.path(entry.keystore), password)
        self.node.reload(config)
        # Nothing can fail from here on: all of it is taken over, or nothing.
        self._token = token
        if key is not None and self._collector is not None:
            with self._collecting:
                self._collector.key = key
            self._forwarder.token = token

    def _prune(self) -> None:
        """Deletes what the correction window has passed; energies by time look back a day further."""
        if time.monotonic() < self._prune_due:
            return
        self._prune_due = time.monotonic() + _PRUNE_SECONDS
        before = int(self.node.clock()) - (self.node.config.file.correction_days + 2) * 86_400
        self.node.store.prune_observations(before * 1000)
        self.node.store.prune_rejections(before)

    def _watch_registry(self) -> None:
        entry = self.node.config.file.meter_registry
        if entry is None or time.monotonic() < self._registry_due:
            return
        self._registry_due = time.monotonic() + entry.poll_seconds
        try:
            if self.node.refresh_meters():
                log("meter registry changed")
        except PeerwattError as error:
            log("meter registry not usable", logging.ERROR, code=error.code)
            return
        known = self.node.directory.freshness()
        if known is not None and known.failure:
            log(
                "meter registry not reached, going on with what is known",
                logging.WARNING,
                block=known.block,
                age_seconds=round(known.age_seconds),
            )

    def _stamps(self) -> list[tuple[str, int]]:
        config = self.node.config
        collector = config.file.collector
        paths = [
            self._path,
            config.path(config.file.meters_file),
            config.path(config.file.salts_file),
            config.path(config.file.password_file),
            config.path(config.file.token_file),
            *([config.path(collector.keystore)] if collector else []),
            *config.path(config.file.keystores).glob("*.json"),
        ]
        stamps = []
        for path in paths:
            with contextlib.suppress(OSError):
                stamps.append((str(path), path.stat().st_mtime_ns))
        return sorted(stamps)


def open_sources(config: OracleConfig) -> list[Source]:
    """The configured sources.

    Raises:
        InputError: one is configured wrongly.
    """
    return [
        open_source(entry, config.folder, f"sources[{index}]")
        for index, entry in enumerate(config.file.sources)
    ]


@contextlib.contextmanager
def stopping(halt: Callable[[], None]) -> Iterator[None]:
    """Ends the process in order on the usual signals."""

    def handle(number: int, frame: FrameType | None) -> None:
        halt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
