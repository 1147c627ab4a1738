"""The coordinator's metrics in Prometheus' format: counts, ages and states by community; no member, no key."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

_PREFIX = "peerwatt_coordinator"


class CoordinatorMetrics:
    """What is counted and shown; `deploy/prometheus/alerts.yml` refers to these names.

    An alert cannot compare what is not there. So whatever a community is to do is shown as of 1970 from its configuration on, and
    what only its leader knows is shown by its leader alone.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.leader = self._gauge("leader", "1 while this process leads.")
        self.waiting = self._gauge("waiting", "1 while this process cannot open the community.")
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
            "advanced_timestamp_seconds",
            "When the cycle last went through without a failure; 0 before.",
        )
        self.previewed_interval_end = self._gauge(
            "cleared_interval_end_timestamp_seconds",
            "End of the newest interval that is cleared; 0 before.",
        )
        self.audited_at = self._gauge(
            "audited_timestamp_seconds", "When the last audit ended; 0 before."
        )
        self.missing_ratio = self._gauge(
            "missing_members_ratio",
            "Share of members without a reading of the last interval but three, which had time to come.",
        )
        self.oldest_open_since = self._gauge(
            "oldest_open_period_end_timestamp_seconds",
            "End of the oldest period that is not final; 0 if there is none. Corrections are counted apart.",
        )
        self.oldest_correction_since = self._gauge(
            "oldest_open_correction_timestamp_seconds",
            "When the oldest correction that is not final was begun; 0 if there is none.",
        )
        self.final_after = self._gauge(
            "final_after_seconds", "How long after its end a period is final if all goes well."
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
        self.audit_unchecked = self._gauge(
            "audit_unchecked",
            "What the last audit could not check, such as what rests on a member's data that were erased.",
        )
        self._times = (self.advanced_at, self.previewed_interval_end, self.audited_at)
        self._of_leader = (
            self.missing_ratio,
            self.oldest_open_since,
            self.oldest_correction_since,
            self.final_after,
            self.final_period,
            self.signers_answering,
            self.signers_needed,
            self.batches_affordable,
            self.audit_mismatches,
            self.audit_unchecked,
        )

    def configured(self, community: str) -> None:
        """Shows a community that nothing has been done for yet."""
        self.waiting.labels(community).set(1)
        self.stood_back(community)

    def stood_back(self, community: str) -> None:
        """Takes back what only the leader knows: it would stay as it was, and alerts would go off by it."""
        self.leader.labels(community).set(0)
        for gauge in self._times:
            gauge.labels(community).set(0)
        for gauge in self._of_leader:
            gauge.remove(community)

    def forget(self, community: str) -> None:
        """Shows a community no longer."""
        for gauge in (self.leader, self.waiting, *self._times, *self._of_leader):
            gauge.remove(community)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, ["community"], registry=self.registry)

    def text(self) -> bytes:
        """What Prometheus scrapes."""
        return generate_latest(self.registry)
