"""Metrics in Prometheus' format, and structured logs. Neither names a meter, a member or a key: counts, codes and ages only."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as MetricsCollector

from .intake import Acknowledgement, count_codes
from .node import OracleNode

# Completeness is shown for as many intervals that are over.
_SHOWN_INTERVALS = 8
_LOGGER = logging.getLogger("peerwatt.oracle")


class OracleMetrics(MetricsCollector):
    """Counts what comes in, and looks at the store when it is scraped.

    Args:
        node: the signer.
    """

    def __init__(self, node: OracleNode) -> None:
        self._node = node
        self.registry = CollectorRegistry(auto_describe=False)
        name = "peerwatt_oracle"
        self._received = Counter(
            f"{name}_readings_received", "Readings that came in.", registry=self.registry
        )
        self._stored = Counter(
            f"{name}_readings_stored", "Readings that were new.", registry=self.registry
        )
        self._rejected = Counter(
            f"{name}_readings_rejected",
            "Readings refused, by reason.",
            ["code"],
            registry=self.registry,
        )
        self.source_failures = Counter(
            f"{name}_source_failures", "Times a source failed.", ["source"], registry=self.registry
        )
        self.registry.register(self)

    def observe(self, done: Acknowledgement) -> None:
        """Counts an acknowledgement."""
        self._received.inc(done.taken + done.known + len(done.refused))
        self._stored.inc(done.taken)
        for code, count in count_codes(done.refused).items():
            self._rejected.labels(code).inc(count)

    def observe_rejection(self, code: str) -> None:
        """Counts a reading that was taken and turned out not to fit the ones beside it."""
        self._rejected.labels(code).inc()

    def collect(self) -> Iterator[Metric]:
        """Age of the newest reading, and completeness of the newest intervals that are over."""
        node, seconds = self._node, self._node.config.file.interval_minutes * 60
        now = node.clock()
        newest = node.store.newest_interval()
        if newest is not None:
            yield GaugeMetricFamily(
                "peerwatt_oracle_newest_reading_age_seconds",
                "Time since the end of the newest interval there is a reading of.",
                value=now - (newest + 1) * seconds,
            )
        known = node.directory.freshness()
        if known is not None:
            yield GaugeMetricFamily(
                "peerwatt_oracle_meter_registry_age_seconds",
                "Time since a node last confirmed what is known of the meter registry.",
                value=known.age_seconds,
            )
            yield GaugeMetricFamily(
                "peerwatt_oracle_meter_registry_block",
                "Block that the meter registry is known of.",
                value=known.block,
            )
        last = int(now // seconds) - 1
        config = node.config
        period = config.number_of(last)
        counts = node.store.counts(
            last - _SHOWN_INTERVALS + 1, last, without=config.other_meters(period)
        )
        # Not by the number of the interval, which would be a new series every quarter of an hour.
        complete = GaugeMetricFamily(
            "peerwatt_oracle_completeness_ratio",
            "Members' meters with a reading, of all; by how many intervals ago it ended.",
            labels=["intervals_ago"],
        )
        expected = max(1, len(config.members(period)))
        for ago in range(_SHOWN_INTERVALS):
            complete.add_metric([str(ago)], counts.get(last - ago, 0) / expected)
        yield complete

    def text(self) -> bytes:
        """What Prometheus scrapes."""
        return generate_latest(self.registry)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        return json.dumps(
            {
                "time": stamp,
                "level": record.levelname.lower(),
                "event": record.getMessage(),
                **fields,
            }
        )


def log(event: str, level: int = logging.INFO, **fields: int | float | str) -> None:
    """Writes a line.

    Args:
        event: what happened, a fixed phrase.
        level: of `logging`.
        fields: counts, codes, names from the configuration; never a meter, a member, a key or a message that came in.
    """
    _LOGGER.log(level, event, extra={"fields": fields})


def start_logging() -> None:
    """Sends the lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    # The server's own lines in the same form; a traceback could hold readings, and the form leaves it out.
    server = logging.getLogger("uvicorn.error")
    server.handlers = [handler]
    server.setLevel(logging.WARNING)
    server.propagate = False
