"""The coordinator's process: communities, scheduler and HTTP service, wired together."""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from apscheduler.schedulers.background import BackgroundScheduler

from backend.domain.errors import PeerwattError
from backend.structured_log import start_logging
from oracle.run import stopping

from .community import CommunityService
from .config import Configuration, load_configuration
from .metrics import CoordinatorMetrics
from .service import coordinator_app

_LOG = logging.getLogger("peerwatt.coordinator")
_RETRY_SECONDS = 5


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
        self.communities: dict[str, CommunityService] = {}
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            # A run that is late is run once, whenever there is time for it.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._server: uvicorn.Server | None = None
        self._stopped = False

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT; a step that has begun is ended first."""
        start_logging("peerwatt")
        file = self.configuration.file
        app = coordinator_app(self.communities, self.metrics, max(120, 8 * file.poll_seconds))
        self._server = uvicorn.Server(
            uvicorn.Config(app, file.host, file.port, log_config=None, access_log=False)
        )
        with stopping(self._halt):
            try:
                self._open(self.configuration)
                self._schedule()
                if not self._stopped:
                    self._server.run()
            finally:
                # Waits for the steps that are under way; killed instead, they are gone on with at the next start.
                if self._scheduler.running:
                    self._scheduler.shutdown(wait=True)
                for service in self.communities.values():
                    service.close()
                _LOG.info("stopped")

    def _open(self, configuration: Configuration) -> None:
        """Opens every community; waits for chain and database where they are not up yet."""
        for entry in configuration.file.communities:
            while not self._stopped:
                try:
                    self.communities[entry.name] = CommunityService(
                        configuration, entry, self.metrics
                    )
                    break
                except PeerwattError as error:
                    if error.exit_code == 2:
                        raise
                    _LOG.warning("waits", extra={"community": entry.name, "code": error.code})
                    time.sleep(_RETRY_SECONDS)
        _LOG.info("started", extra={"communities": len(self.communities)})

    def _schedule(self) -> None:
        poll = self.configuration.file.poll_seconds
        for service in self.communities.values():
            entry = service.entry
            self._scheduler.add_job(
                service.tick, "interval", seconds=poll, id=f"cycle {entry.name}"
            )
            minutes = ",".join(str(minute) for minute in range(0, 60, entry.interval_minutes))
            self._scheduler.add_job(
                self._preview_later,
                "cron",
                args=[service, entry.preview_after_seconds],
                minute=minutes,
                id=f"preview {entry.name}",
            )
            self._scheduler.add_job(service.audit, "cron", hour=4, id=f"audit {entry.name}")
            self._scheduler.add_job(service.tick, id=f"first cycle {entry.name}")
        self._scheduler.add_job(self._take_over, "interval", seconds=poll, id="configuration")
        self._scheduler.start()

    def _preview_later(self, service: CommunityService, seconds: int) -> None:
        """Lets the meters' readings of the interval that has just ended come in first."""
        self._scheduler.add_job(
            service.preview,
            "date",
            run_date=datetime.now(UTC) + timedelta(seconds=seconds),
            id=f"preview now {service.name}",
            replace_existing=True,
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
                for name, service in self.communities.items():
                    service.replace_entry(changed.community(name))
                _LOG.info("configuration taken over")
            except PeerwattError as error:
                _LOG.error("configuration not taken over", extra={"code": error.code})

    def _halt(self) -> None:
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True
