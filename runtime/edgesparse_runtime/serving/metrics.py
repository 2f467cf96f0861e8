"""Prometheus metrics of one server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.process_collector import ProcessCollector

from edgesparse_runtime.serving.admission import Admission
from edgesparse_runtime.serving.monitoring import Monitors
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.serving.shadow.shadows import Shadows
from edgesparse_runtime.stream.monitor.alarm import Alarm

__all__ = ["CONTENT_TYPE", "Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)
# By the names of `Shadow.facts`.
_SHADOW = {
    "windows": ("windows", "Windows that the shadow has run on."),
    "equal": ("equal_windows", "Windows on which the shadow decides as the current bundle does."),
    "failed": ("failed_windows", "Windows that the shadow did not answer."),
    "late": ("late_windows", "Windows that the shadow would have answered too late."),
    "dropped": ("dropped_windows", "Windows left out because the shadow did not keep up."),
    "queued_runs": ("queued_runs", "Model runs that wait for the shadow."),
    "current_ms": ("current_milliseconds", "Mean processor time per window of the current bundle."),
    "trial_ms": ("trial_milliseconds", "Mean processor time per window of the shadow."),
    "difference": ("score_difference", "Mean absolute difference between the scores."),
}


class Metrics:
    """The metrics of `/metrics`. Label values come from what is served, never from a client."""

    def __init__(self, admission: Admission) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ["model", "version"]
        self._requests = Counter(
            "edgesparse_requests",
            "Requests answered.",
            ["operation", *labels, "code"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "edgesparse_request_seconds",
            "Seconds from the head of a request to its answer.",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Histogram(
            "edgesparse_run_windows", "Windows per model run.", labels, buckets=_ROWS, registry=self.registry
        )
        self._waited = Histogram(
            "edgesparse_wait_seconds",
            "Seconds that the oldest window of a run waited for its start.",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._reloads = Counter(
            "edgesparse_reloads", "New bundles found on disk.", [*labels, "outcome"], registry=self.registry
        )
        self._info = Gauge(
            "edgesparse_model_info",
            "1 for the bundle being served.",
            [*labels, "bundle_sha256", "precision", "engine"],
            registry=self.registry,
        )
        self._cut = Counter(
            "edgesparse_connections_cut",
            "Connections cut off: past the deadline, or to make room on a crowded server.",
            ["reason"],
            registry=self.registry,
        )
        self._faulty = Counter(
            "edgesparse_faulty_requests",
            "Requests with a window of a dead sensor.",
            labels,
            registry=self.registry,
        )
        self._add_monitor(labels)
        self._add_shadows(labels)
        taken = Gauge(
            "edgesparse_requests_in_flight", "Requests accepted and not yet answered.", registry=self.registry
        )
        taken.set_function(lambda: admission.taken)
        size = Gauge(
            "edgesparse_bytes_in_flight", "Bytes of requests and answers in flight.", registry=self.registry
        )
        size.set_function(lambda: admission.bytes)

    def _add_monitor(self, labels: list[str]) -> None:
        """Figures of the monitors."""
        self._alarms = Counter(
            "edgesparse_monitor_alarms", "Alarms of the monitor.", [*labels, "kind"], registry=self.registry
        )
        self._evidence = Gauge(
            "edgesparse_monitor_evidence",
            "Evidence that the line has changed, over that of an alarm.",
            labels,
            registry=self.registry,
        )
        self._watched = Gauge(
            "edgesparse_monitor_windows", "Windows that the monitor has seen.", labels, registry=self.registry
        )

    def _add_shadows(self, labels: list[str]) -> None:
        """Figures of the shadows."""
        self._shadows: Shadows | None = None
        self._compared = {
            fact: Gauge(f"edgesparse_shadow_{name}", text, [*labels, "bundle_sha256"], registry=self.registry)
            for fact, (name, text) in _SHADOW.items()
        }

    def watch(self, shadows: Shadows) -> None:
        """Show these from now on."""
        self._shadows = shadows

    def answered(
        self, operation: str, model: ServedModel | None, status: int, seconds: float | None = None
    ) -> None:
        """Count an answer; `seconds` when a model computed it."""
        name, version = (model.address.name, model.address.version) if model else ("", "")
        self._requests.labels(operation, name, version, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(name, version).observe(seconds)

    def faulty(self, model: ServedModel) -> None:
        """Count a request whose windows show a dead sensor."""
        self._faulty.labels(model.address.name, model.address.version).inc()

    def alarm(self, model: ServedModel, alarm: Alarm) -> None:
        """Count an alarm of the monitor."""
        self._alarms.labels(model.address.name, model.address.version, alarm.kind).inc()

    def refused(self, status: int) -> None:
        """Count a request that never reached a route."""
        self.answered("other", None, status)

    def cut(self, reason: str) -> None:
        """Count a connection that was cut off."""
        self._cut.labels(reason).inc()

    def ran(self, model: ServedModel, rows: int, waited: float) -> None:
        """Count a model run."""
        address = model.address
        self._rows.labels(address.name, address.version).observe(rows)
        self._waited.labels(address.name, address.version).observe(waited)

    def reloaded(self, outcome: str, model: ServedModel) -> None:
        """Count an attempt to reload."""
        self._reloads.labels(model.address.name, model.address.version, outcome).inc()

    def show(self, models: list[ServedModel], monitors: Monitors | None = None) -> bytes:
        """All metrics, in Prometheus' text format."""
        for model in models:
            monitor = None if monitors is None else monitors.find(model)
            if monitor is not None:
                labels = model.address.name, model.address.version
                self._evidence.labels(*labels).set(monitor.evidence / monitor.threshold)
                self._watched.labels(*labels).set(sum(w.windows for w in monitor.watches.values()))
        self._show_shadows()
        self._info.clear()
        for model in models:
            self._info.labels(
                model.address.name,
                model.address.version,
                model.bundle_hash,
                model.session.precision,
                model.session.engine,
            ).set(1)
        return generate_latest(self.registry)

    def _show_shadows(self) -> None:
        for gauge in self._compared.values():
            gauge.clear()
        for (name, version), shadow in self._shadows.all() if self._shadows is not None else ():
            for fact, value in shadow.facts().items():
                self._compared[fact].labels(name, version, shadow.sha256).set(value)
