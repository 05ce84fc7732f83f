"""Prometheus and OTLP say the same of a process, each in its own spelling, and in a bounded number of series."""

from __future__ import annotations

from typing import Any

import pytest

from pythia_core import DURATION_BOUNDS, Stats, process_figures
from pythia_metrics.conventions import ATTRIBUTES, INSTRUMENTS, prometheus_name
from pythia_metrics.families import Family
from pythia_metrics.instruments import of_process, of_queues
from pythia_metrics.otlp import STALE_SECONDS, metrics_data

Series = tuple[str, tuple[tuple[str, str], ...]]


def report(**more: Any) -> dict[str, Any]:
    """A worker's report with every figure, and its process's."""
    stats = Stats()
    for number, name in enumerate(stats.counters()):
        setattr(stats, name, 3 + number)
    stats.finished = 1000
    for seconds in (0.001, 0.003, 0.2, 60.0):
        stats.count_duration(seconds)
        for operation in stats.operations.values():
            operation.count(seconds / 2)
    return {
        **process_figures(),
        "name": "jobs",
        "system": "kafka",
        "destination": "orders",
        "group": "billing",
        "counters": {**stats.counters(), "in_flight": 7},
        "durations": stats.durations,
        "duration_sum": stats.duration_sum,
        "operations": {name: [done.buckets, done.total] for name, done in stats.operations.items()},
        "parked": 2,
        "held": 1.5,
        "partitions": 4,
        "ready": True,
        "slots": 20,
        "busy": 0.25,
        "stuck": ["one"],
        "paused": ["the brake is engaged", "memory"],
        "observer_errors": 1,
        "queue": {
            "age": 1.0,
            "waiting": 50,
            "in_flight": 3,
            "oldest": 2.5,
            "partitions": 4,
            "partitions_with_lag": 2,
            "max_partition_lag": 30,
        },
        **more,
    }


def families(said: dict[str, Any]) -> list[Family]:
    """What Prometheus is shown of a process, and of a queue that it alone observes."""
    from pythia_metrics.otlp import _queue

    return [*of_process({"workers": [said], **said}), *of_queues(_queue(said))]


def shown(said: dict[str, Any]) -> dict[Series, float]:
    """Every series that Prometheus is shown, but for the worker's label, which is OTLP's service."""
    return {
        (name, tuple(sorted(pair for pair in labels if pair[0] != "worker"))): value
        for family in families(said)
        for (name, labels), value in family.samples.items()
    }


def sent(said: dict[str, Any]) -> dict[Series, float]:
    """Every series that is sent by OTLP, as an exporter for Prometheus would spell it."""
    found: dict[Series, float] = {}
    back = {name: label for label, name in ATTRIBUTES.items()}
    (resource,) = metrics_data(said, 1, 2).resource_metrics
    for metric in resource.scope_metrics[0].metrics:
        kind: Any = {"Sum": "counter", "Gauge": "gauge", "Histogram": "histogram"}[type(metric.data).__name__]
        name = prometheus_name(metric.name, metric.unit or "", kind)
        for point in metric.data.data_points:
            attributes = {back.get(key, key): str(value) for key, value in (point.attributes or {}).items()}
            found |= _series(name, attributes, point, kind)
    return found


def _series(name: str, labels: dict[str, str], point: Any, kind: str) -> dict[Series, float]:
    if kind != "histogram":
        return {(name, tuple(sorted(labels.items()))): point.value}
    key = tuple(sorted(labels.items()))
    found: dict[Series, float] = {(name + "_sum", key): point.sum, (name + "_count", key): point.count}
    added = 0
    for bound, count in zip((*map("{:g}".format, DURATION_BOUNDS), "+Inf"), point.bucket_counts, strict=True):
        added += count
        found[name + "_bucket", tuple(sorted({**labels, "le": bound}.items()))] = added
    return found


def test_both_exports_have_the_same_series_with_the_same_values() -> None:
    """Names, units, labels and figures: who compares a dashboard of one with that of the other sees one truth."""
    said = report()
    assert sent(said) == shown(said)
    assert len(shown(said)) > 100


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_prometheus_name_follows_from_opentelemetrys(name: str) -> None:
    """By the rules of its exporters: dots, the unit and a counter's `_total`; and each is really shown."""
    kinds = {family.name: family.kind for family in families(report()) if family.samples}
    assert prometheus_name(*INSTRUMENTS[name], kinds[name]) == name


def test_every_metric_of_a_process_has_opentelemetrys_name_and_unit() -> None:
    """Else it could not be sent."""
    assert {family.name for family in families(report()) if family.samples} == set(INSTRUMENTS)


def test_names_are_the_semantic_conventions_where_there_are_any() -> None:
    """As the package of the conventions has them."""
    metrics = pytest.importorskip("opentelemetry.semconv._incubating.metrics.messaging_metrics")
    processes = pytest.importorskip("opentelemetry.semconv._incubating.metrics.process_metrics")
    garbage = pytest.importorskip("opentelemetry.semconv._incubating.metrics.cpython_metrics")
    known = {
        value
        for module in (metrics, processes, garbage)
        for key, value in vars(module).items()
        if key.isupper() and isinstance(value, str)
    }
    ours = {name for name, _ in INSTRUMENTS.values() if not name.startswith("pythia.")}
    assert ours <= known and len(ours) == 10


def test_an_old_answer_of_a_broker_is_not_sent() -> None:
    """Nobody knows what is left now; nothing is not zero."""
    queue = report()["queue"]
    names = {name for name, _ in sent(report(queue={**queue, "age": STALE_SECONDS + 1}))}
    assert not any("queue" in name or "lag" in name for name in names)
    assert "pythia_consumer_lag_messages" in {name for name, _ in sent(report())}


def test_no_series_is_made_of_a_message() -> None:
    """A million messages later there are as many series as after the first; labels are of a few known names."""
    few = shown(report())
    many = report(counters={name: value * 1_000_000 for name, value in report()["counters"].items()})
    assert shown(many).keys() == few.keys()
    assert {label for _, labels in few for label, _ in labels} == {
        *ATTRIBUTES,
        *("outcome", "event", "reason", "state", "le"),
    }


def test_a_reason_is_named_without_its_figures() -> None:
    """The brake tells people how many failed; a series for each such number would be there for ever."""
    reasons = [f"brake: {number} of the last 100 first attempts failed" for number in (51, 60)]
    stopped = [labels for name, labels in shown(report(paused=reasons)) if name == "pythia_intake_stopped"]
    assert [dict(labels)["reason"] for labels in stopped] == ["brake"]
