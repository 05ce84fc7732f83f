"""Sends what a worker counts by OTLP, from a thread of its own.

OpenTelemetry's SDK has no histogram that is read when it is exported, and recording each message costs it 7 microseconds.
So the engine's arrays are put into the SDK's own data classes, which its exporters take, under the same names, units and
resource as instruments would have.
"""

# pyright: reportMissingImports=false
# The SDK is an extra: without it the rest of the plugin works, and can be checked.
from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import attrs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from pythia_core import DURATION_BOUNDS
from pythia_metrics.instruments import labels_of, outcomes

__all__ = ["Pushing", "metrics_data", "resource"]

EVERY_SECONDS = 10.0
TIMEOUT_SECONDS = 5.0

log = logging.getLogger("pythia.monitoring")

COUNTERS = {
    "received": ("messaging.client.consumed.messages", "Messages that were delivered to a worker."),
    "outputs": ("messaging.client.sent.messages", "Outputs that a sink confirmed."),
    "retried": ("pythia.retries", "Messages parked for another attempt."),
    "failures": ("pythia.failures", "Handler calls that failed, each attempt counted."),
    "settled": ("pythia.settled.messages", "Messages that the broker was told of and confirmed."),
}


@attrs.define(eq=False)
class Pushing:
    """Sends again and again what was reported last.

    Args:
        latest: the worker's report; set once a second by the thread that the worker runs in.
    """

    latest: Mapping[str, Any]
    exporter: Any
    began: int = attrs.field(factory=time.time_ns)
    _stopped: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def start(cls, report: Mapping[str, Any]) -> Pushing:
        """Begin; where to is said by the environment variables of OpenTelemetry."""
        pushing = cls(report, OTLPMetricExporter(timeout=TIMEOUT_SECONDS))
        pushing._thread = threading.Thread(target=pushing._run, name="pythia otlp", daemon=True)
        pushing._thread.start()
        return pushing

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_SECONDS):
            self._send()

    def _send(self) -> None:
        """Send it once. The exporter itself logs and retries what fails; nothing that it does may end the thread."""
        try:
            self.exporter.export(metrics_data(self.latest, self.began, time.time_ns()))
        except Exception:
            log.exception("sending by OTLP failed")

    def stop(self, report: Mapping[str, Any]) -> None:
        """Send the last figures, by the thread, and end it; a collector that is down is not waited for."""
        self.latest = report
        self._stopped.set()
        last = threading.Thread(target=self._send, name="pythia otlp, the last", daemon=True)
        last.start()
        last.join(2.0)


def metrics_data(report: Mapping[str, Any], began: int, now: int) -> export.MetricsData:
    """Return a worker's report as the SDK would have collected it; times in nanoseconds."""
    labels = labels_of(report)
    shared = {
        "messaging.system": labels["messaging_system"],
        "messaging.destination.name": labels["messaging_destination_name"],
        "messaging.consumer.group.name": labels["messaging_consumer_group_name"],
    }
    counters = report.get("counters") or {}
    metrics = [
        _sum(name, text, [(shared, counters.get(counter, 0))], began, now)
        for counter, (name, text) in COUNTERS.items()
    ]
    by_outcome = [({**shared, "outcome": outcome}, count) for outcome, count in outcomes(counters).items()]
    metrics.append(_sum("pythia.messages", "Finished messages by outcome.", by_outcome, began, now))
    in_flight = export.NumberDataPoint(shared, began, now, counters.get("in_flight", 0))
    metrics.append(
        export.Metric("pythia.messages.in_flight", "Not finished.", "{message}", export.Gauge([in_flight]))
    )
    metrics.append(_histogram(report, shared, began, now))
    scope = export.ScopeMetrics(InstrumentationScope("pythia"), metrics, "")
    return export.MetricsData([export.ResourceMetrics(resource(report["name"]), [scope], "")])


@cache
def resource(service: str) -> Resource:
    """Return whose figures and spans these are: the environment's name for it or else ``service``, and this process.

    Without an identity of the process the sums of several would overwrite each other.
    """
    made = Resource({SERVICE_NAME: service, SERVICE_INSTANCE_ID: str(uuid.uuid4())})
    told = Resource.create()  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, over the SDK's own defaults
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return made.merge(told) if named else told.merge(made)


def _sum(
    name: str, text: str, points: Sequence[tuple[Mapping[str, str], int]], began: int, now: int
) -> export.Metric:
    made = [export.NumberDataPoint(dict(labels), began, now, value) for labels, value in points]
    data = export.Sum(made, export.AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return export.Metric(name, text, "{message}", data)


def _histogram(report: Mapping[str, Any], labels: Mapping[str, str], began: int, now: int) -> export.Metric:
    unknown: Any = (
        None  # the least and the greatest: the engine does not keep them, and OTLP may leave them out
    )
    buckets = list(report.get("durations") or [0] * (len(DURATION_BOUNDS) + 1))
    point = export.HistogramDataPoint(
        {**labels, "messaging.operation.name": "process"},
        began,
        now,
        sum(buckets),
        report.get("duration_sum", 0.0),
        buckets,
        DURATION_BOUNDS,
        unknown,
        unknown,
    )
    data = export.Histogram([point], export.AggregationTemporality.CUMULATIVE)
    return export.Metric("messaging.process.duration", "One call of a handler.", "s", data)
