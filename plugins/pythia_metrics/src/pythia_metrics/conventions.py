"""OpenTelemetry's name and unit for each metric, so that Prometheus and OTLP say the same things in their own spelling.

Prometheus's name follows from OpenTelemetry's by the rules of its exporters (:func:`prometheus_name`), which a test holds
this table to. It stands apart from ``instruments``, which knows what the figures are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pythia_metrics.families import Kind

__all__ = ["ATTRIBUTES", "INSTRUMENTS", "prometheus_name"]

INSTRUMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "messaging_client_consumed_messages_total": ("messaging.client.consumed.messages", "{message}"),
    "messaging_client_sent_messages_total": ("messaging.client.sent.messages", "{message}"),
    "messaging_client_operation_duration_seconds": ("messaging.client.operation.duration", "s"),
    "messaging_process_duration_seconds": ("messaging.process.duration", "s"),
    "process_cpu_time_seconds_total": ("process.cpu.time", "s"),
    "process_memory_usage_bytes": ("process.memory.usage", "By"),
    "process_thread_count": ("process.thread.count", "{thread}"),
    "cpython_gc_collections_total": ("cpython.gc.collections", "{collection}"),
    "cpython_gc_collected_objects_total": ("cpython.gc.collected_objects", "{object}"),
    "cpython_gc_uncollectable_objects_total": ("cpython.gc.uncollectable_objects", "{object}"),
    "pythia_messages_total": ("pythia.messages", "{message}"),
    "pythia_failures_total": ("pythia.failures", "{failure}"),
    "pythia_retries_total": ("pythia.retries", "{message}"),
    "pythia_dead_letters_total": ("pythia.dead_letters", "{message}"),
    "pythia_settled_messages_total": ("pythia.settled.messages", "{message}"),
    "pythia_commits_total": ("pythia.commits", "{call}"),
    "pythia_refused_total": ("pythia.refused", "{message}"),
    "pythia_rebalances_total": ("pythia.rebalances", "{rebalance}"),
    "pythia_subscriptions_total": ("pythia.subscriptions", "{subscription}"),
    "pythia_offset_resets_total": ("pythia.offset.resets", "{partition}"),
    "pythia_partitions_total": ("pythia.partitions", "{partition}"),
    "pythia_observer_errors_total": ("pythia.observer.errors", "{error}"),
    "pythia_worker_busy_seconds_total": ("pythia.worker.busy", "s"),
    "pythia_process_busy_ratio": ("pythia.process.busy", "1"),
    "pythia_messages_in_flight": ("pythia.messages.in_flight", "{message}"),
    "pythia_messages_parked": ("pythia.messages.parked", "{message}"),
    "pythia_messages_stuck": ("pythia.messages.stuck", "{message}"),
    "pythia_watermark_age_seconds": ("pythia.watermark.age", "s"),
    "pythia_partitions_assigned": ("pythia.partitions.assigned", "{partition}"),
    "pythia_worker_ready": ("pythia.worker.ready", "{worker}"),
    "pythia_worker_slots": ("pythia.worker.slots", "{slot}"),
    "pythia_intake_stopped": ("pythia.intake.stopped", "{reason}"),
    "pythia_queue_messages": ("pythia.queue.messages", "{message}"),
    "pythia_consumer_lag_messages": ("pythia.consumer.lag.messages", "{message}"),
    "pythia_queue_oldest_message_age_seconds": ("pythia.queue.oldest_message.age", "s"),
    "pythia_queue_partitions": ("pythia.queue.partitions", "{partition}"),
    "pythia_queue_partitions_with_lag": ("pythia.queue.partitions_with_lag", "{partition}"),
    "pythia_queue_max_partition_lag": ("pythia.queue.max_partition_lag", "{message}"),
}
"""Names and units by the name in Prometheus's text: all that a process can say of itself."""

ATTRIBUTES: Final[Mapping[str, str]] = {
    "messaging_system": "messaging.system",
    "messaging_destination_name": "messaging.destination.name",
    "messaging_consumer_group_name": "messaging.consumer.group.name",
    "messaging_operation_name": "messaging.operation.name",
    "messaging_operation_type": "messaging.operation.type",
    "cpu_mode": "cpu.mode",
    "cpython_gc_generation": "cpython.gc.generation",
}
"""OpenTelemetry's names of labels, where they are not the same."""

_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes"}


def prometheus_name(name: str, unit: str, kind: Kind) -> str:
    """Return what an exporter for Prometheus makes of OpenTelemetry's name and unit."""
    suffix = "_ratio" if unit == "1" and kind == "gauge" else _SUFFIXES.get(unit, "")
    return name.replace(".", "_") + suffix + ("_total" if kind == "counter" else "")
