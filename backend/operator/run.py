"""The coordinator's process: communities, scheduler and HTTP service, wired together."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from backend.domain.errors import PeerwattError
from backend.structured_log import start_logging
from oracle.run import stopping

from .community import CommunityService
from .config import CommunityEntry, load_configuration
from .metrics import CoordinatorMetrics
from .service import coordinator_app

_LOG = logging.getLogger("peerwatt.coordinator")
_RETRY_SECONDS = 5
_FIRST_AUDIT_AFTER = timedelta(minutes=5)
# A clock set back by less changes nothing that matters.
_CLOCK_SECONDS = 5


class CoordinatorProcess:
    """Everything that runs.

    Args:
        path: of the configuration.

    Raises:
        PeerwattError: the configuration is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = path.stat().st_mtime_ns if path.exists() else 0
        self.configuration = load_configuration(path)
        self.metrics = CoordinatorMetrics()
        for entry in self.configuration.file.communities:
            self.metrics.configured(entry.name)
        self.communities: dict[str, CommunityService] = {}
        # Those that cannot be opened yet, and why.
        self.waiting: dict[str, PeerwattError] = {}
        count = len(self.configuration.file.communities)
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            # Room for all jobs of every community: one that hangs must not take the others' threads.
            executors={"default": {"type": "threadpool", "max_workers": 3 * count + 4}},
            # A run that is late is run once, whenever there is time for it.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._server: uvicorn.Server | None = None
        # Whether all have been tried to be opened, and what is wrong if none can ever be.
        self._looked = False
        self._fault: PeerwattError | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT; a step that has begun is ended first.

        Raises:
            PeerwattError: no community's configuration is right.
        """
        start_logging("peerwatt")
        # A step that takes longer than until the next one is no news.
        start_logging("apscheduler", logging.ERROR)
        file = self.configuration.file
        app = coordinator_app(
            self.communities, self.metrics, max(120, 8 * file.poll_seconds), self.waiting
        )
        self._server = uvicorn.Server(
            uvicorn.Config(app, file.host, file.port, log_config=None, access_log=False)
        )
        with stopping(self._halt):
            try:
                # One whose node is slow to answer must not keep people from asking how the others are.
                opening = PeerwattError("is being opened", "wait a moment")
                self.waiting.update({entry.name: opening for entry in file.communities})
                self._start()
                if not self._ended.is_set():
                    self._server.run()
            finally:
                self._ended.set()
                # Waits for the steps that are under way; killed instead, they are gone on with at the next start.
                if self._scheduler.running:
                    self._scheduler.shutdown(wait=True)
                for service in self.communities.values():
                    service.close()
                _LOG.info("stopped")
        if self._fault is not None:
            raise self._fault

    def _start(self) -> None:
        poll = self.configuration.file.poll_seconds
        self._scheduler.add_job(self._take_over, "interval", seconds=poll, id="configuration")
        self._scheduler.add_job(
            self._open_again,
            "interval",
            seconds=_RETRY_SECONDS,
            id="communities that wait",
            next_run_time=datetime.now(UTC),
        )
        self._scheduler.start()
        threading.Thread(target=self._watch_clock, name="clock", daemon=True).start()
        _LOG.info("started", extra={"communities": len(self.configuration.file.communities)})

    # --- Communities -------------------------------------------------------------------------------------------------------

    def _open_again(self) -> None:
        configured = self.configuration.file.communities
        # What is no longer configured is waited for no longer.
        for name in self.waiting.keys() - {entry.name for entry in configured}:
            del self.waiting[name]
            self.metrics.forget(name)
        self._open_waiting([entry for entry in configured if entry.name in self.waiting])
        if not self._looked:
            self._looked = True
            wrong = [error for error in self.waiting.values() if error.exit_code == 2]
            if len(wrong) == len(configured):
                self._fault = wrong[0]
                self._halt()

    def _open_waiting(self, entries: Sequence[CommunityEntry]) -> None:
        """Opens communities; one whose chain or database is not up yet, or that is configured wrongly, holds no other up."""
        for entry in entries:
            if self._ended.is_set():
                return
            try:
                service = CommunityService(self.configuration, entry, self.metrics)
            except PeerwattError as error:
                self._wait(entry.name, error)
            except Exception as error:
                # A fault of ours in one community must not stop the others.
                _LOG.exception("unexpected", extra={"community": entry.name})
                fault = PeerwattError(f"{type(error).__name__}: {error}", "report this")
                self._wait(entry.name, fault)
            else:
                self.waiting.pop(entry.name, None)
                self.metrics.waiting.labels(entry.name).set(0)
                self.communities[entry.name] = service
                self._schedule(service)

    def _wait(self, name: str, error: PeerwattError) -> None:
        self.waiting[name] = error
        self.metrics.failures.labels(name, error.code).inc()
        _LOG.warning(
            "waits", extra={"community": name, "code": error.code, "reason": error.message}
        )

    def _schedule(self, service: CommunityService) -> None:
        entry, add = service.entry, self._scheduler.add_job
        poll = self.configuration.file.poll_seconds
        add(
            service.tick,
            "interval",
            seconds=poll,
            id=f"cycle {entry.name}",
            next_run_time=datetime.now(UTC),
        )
        add(
            service.preview,
            interval_ends(entry.interval_minutes, entry.preview_after_seconds),
            id=f"preview {entry.name}",
            next_run_time=datetime.now(UTC),
        )
        add(
            service.audit_if_due,
            "interval",
            hours=1,
            id=f"audit {entry.name}",
            # Soon, because nobody else knows what the last one found; not at once, while a backlog is worked off.
            next_run_time=datetime.now(UTC) + _FIRST_AUDIT_AFTER,
        )

    def _take_over(self) -> None:
        """Takes over changed members and tariffs while running."""
        with contextlib.suppress(OSError):
            stamp = self._path.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                changed = load_configuration(self._path)
            except PeerwattError as error:
                _LOG.error(
                    "configuration not taken over",
                    extra={"code": error.code, "reason": error.message},
                )
                return
            self.configuration = changed
            for entry in changed.file.communities:
                if entry.name in self.communities:
                    self.communities[entry.name].replace_entry(entry)
            _LOG.info("configuration taken over")

    # --- Clock -------------------------------------------------------------------------------------------------------------

    def _watch_clock(self) -> None:
        """Sees when the machine's clock is set back: the scheduler would wait until it is again as late as it was."""
        offset = time.time() - time.monotonic()
        while not self._ended.wait(self.configuration.file.poll_seconds):
            before, offset = offset, time.time() - time.monotonic()
            if offset < before - _CLOCK_SECONDS:
                _LOG.warning("clock set back", extra={"seconds": round(before - offset)})
                self._reschedule()

    def _reschedule(self) -> None:
        for job in self._scheduler.get_jobs():
            job.reschedule(job.trigger)

    def _halt(self) -> None:
        self._ended.set()
        if self._server is not None:
            self._server.should_exit = True


def interval_ends(minutes: int, seconds_after: int) -> IntervalTrigger:
    """The end of every interval, and as much later as readings of it need."""
    start = datetime.fromtimestamp(seconds_after, UTC)
    return IntervalTrigger(minutes=minutes, start_date=start, timezone="UTC")
