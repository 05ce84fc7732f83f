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
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import attrs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from pythia_core import DURATION_BOUNDS, QueueObservation
from pythia_metrics.conventions import ATTRIBUTES, INSTRUMENTS
from pythia_metrics.families import Family, Labels
from pythia_metrics.instruments import of_process, of_queues

__all__ = ["Pushing", "metrics_data", "resource"]

EVERY_SECONDS = 10.0
TIMEOUT_SECONDS = 5.0
STALE_SECONDS = 15.0  # after which an answer of a broker is no longer known, as for scaling
CUMULATIVE = export.AggregationTemporality.CUMULATIVE

log = logging.getLogger("pythia.monitoring")


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
    """Return a worker's report as the SDK would have collected it; times in nanoseconds.

    They are the families that Prometheus is shown of the process, under the names and units of ``conventions``.
    """
    families = [*of_process({"workers": [report], **report}), *of_queues(_queue(report))]
    metrics = [_metric(family, began, now) for family in families if family.samples]
    scope = export.ScopeMetrics(InstrumentationScope("pythia"), metrics, "")
    return export.MetricsData([export.ResourceMetrics(resource(report["name"]), [scope], "")])


def _queue(report: Mapping[str, Any]) -> list[QueueObservation]:
    """Return what the one process that asks its source for it knows of what is left, unless that is long ago."""
    said = report.get("queue")
    if said is None or said["age"] > STALE_SECONDS:
        return []
    return [
        QueueObservation(
            system=report["system"],
            destination=report["destination"],
            group=report["group"],
            backlog=said["waiting"],
            in_flight=said["in_flight"],
            oldest_age_s=said["oldest"],
            partitions=said["partitions"],
            partitions_with_lag=said["partitions_with_lag"],
            max_partition_lag=said["max_partition_lag"],
        )
    ]


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


def _metric(family: Family, began: int, now: int) -> export.Metric:
    name, unit = INSTRUMENTS[family.name]
    number = int if unit.startswith("{") or unit == "By" else float  # what is counted is whole
    data: Any
    if family.kind == "histogram":
        data = export.Histogram(list(_histograms(family, began, now)), CUMULATIVE)
    else:
        points = [
            export.NumberDataPoint(_attributes(labels), began, now, number(value))
            for (_, labels), value in family.samples.items()
        ]
        if family.kind == "counter":
            data = export.Sum(points, CUMULATIVE, is_monotonic=True)
        else:
            data = export.Gauge(points)
    return export.Metric(name, family.help, unit, data)


def _attributes(labels: Labels) -> dict[str, str]:
    """Return labels under OpenTelemetry's names; the worker's is the service's."""
    return {ATTRIBUTES.get(name, name): value for name, value in labels if name not in ("worker", "le")}


def _histograms(family: Family, began: int, now: int) -> Iterator[export.HistogramDataPoint]:
    """Yield a point for each set of labels. Prometheus adds its buckets up, from the least bound on; OTLP does not."""
    unknown: Any = (
        None  # the least and the greatest: the engine does not keep them, and OTLP may leave them out
    )
    added: dict[Labels, list[float]] = {}
    for (name, labels), value in family.samples.items():
        if name.endswith("_bucket"):
            key = tuple(pair for pair in labels if pair[0] != "le")
            added.setdefault(key, []).append(value)
    for labels, sums in added.items():
        buckets = [int(after - before) for before, after in pairwise((0.0, *sums))]
        total = family.samples[family.name + "_sum", labels]
        yield export.HistogramDataPoint(
            _attributes(labels), began, now, sum(buckets), total, buckets, DURATION_BOUNDS, unknown, unknown
        )
