"""OTLP: a real worker sends its figures to a collector by hand, under the names of the semantic conventions."""

import signal
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pythia_core import Stats
from pythia_metrics import MetricsCollector
from tests.metrics.collecting import collector
from tests.metrics.running import alone
from tests.servers.server import free_port
from tests.waiting import wait_until


def test_the_last_figures_are_sent_when_a_worker_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters, a histogram with the engine's buckets, and whose they are."""
    with collector() as (port, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        with alone(tmp_path, free_port()) as popen:
            wait_until((tmp_path / "events").exists, "it has begun", seconds=20)
            popen.send_signal(signal.SIGTERM)
            assert popen.wait(20) == 0
        path, request = received[-1]
    assert path == "/v1/metrics"
    (resource,) = request.resource_metrics
    named = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert named["service.name"] == "jobs"
    metrics = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    histogram = metrics["messaging.process.duration"]
    (point,) = histogram.histogram.data_points
    done = metrics["messaging.client.consumed.messages"].sum.data_points[0].as_int
    assert histogram.unit == "s" and len(point.bucket_counts) == 15
    assert point.count == sum(point.bucket_counts) <= done <= 10
    assert {label.key: label.value.string_value for label in point.attributes} == {
        "messaging.system": "memory",
        "messaging.destination.name": "jobs",
        "messaging.consumer.group.name": "jobs",
        "messaging.operation.name": "process",
    }
    outcomes = metrics["pythia.messages"].sum
    assert outcomes.is_monotonic and outcomes.aggregation_temporality == 2  # cumulative


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, and the worker and its metrics go on."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    monkeypatch.delitem(sys.modules, "pythia_metrics.otlp", raising=False)
    collector = MetricsCollector(listen="", registry=CollectorRegistry())
    collector.attach(dict)
    collector.start(Stats())
    assert "pip install './plugins/pythia_metrics[otlp]'" in caplog.text
    assert collector.report() == {"families": []}
