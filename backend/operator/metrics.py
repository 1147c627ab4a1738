"""The coordinator's metrics in Prometheus' format: counts, ages and states by community; no member, no key."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

_PREFIX = "peerwatt_coordinator"


class CoordinatorMetrics:
    """What is counted and shown; `deploy/prometheus/alerts.yml` refers to these names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.leader = self._gauge("leader", "1 while this process leads.")
        self.failures = Counter(
            f"{_PREFIX}_failures",
            "Times something could not go on, by error code.",
            ["community", "code"],
            registry=self.registry,
        )
        self.moves = Counter(
            f"{_PREFIX}_moves",
            "States reached by periods.",
            ["community", "state"],
            registry=self.registry,
        )
        self.advanced_at = self._gauge(
            "advanced_timestamp_seconds", "When the cycle last went through without a failure."
        )
        self.previewed_interval_end = self._gauge(
            "cleared_interval_end_timestamp_seconds", "End of the newest interval that is cleared."
        )
        self.oldest_open_since = self._gauge(
            "oldest_open_period_end_timestamp_seconds",
            "End of the oldest period that is not final; 0 if there is none.",
        )
        self.final_period = self._gauge("final_period", "Newest period that is final.")
        self.signers_answering = self._gauge("signers_answering", "Oracle signers that answer.")
        self.signers_needed = self._gauge("signers_needed", "Oracle signers that must agree.")
        self.batches_affordable = self._gauge(
            "batches_affordable", "Batches that the key's balance pays for at the present fee."
        )
        self.audit_mismatches = self._gauge(
            "audit_mismatches", "What the last audit of chain and bundles found wrong."
        )
        self.audited_at = self._gauge("audited_timestamp_seconds", "When the last audit ended.")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, ["community"], registry=self.registry)

    def text(self) -> bytes:
        """What Prometheus scrapes."""
        return generate_latest(self.registry)
