"""Every metric of Pythia's own, made of reports when somebody asks: names, units and what they are made of, in one place.

Names and attributes are OpenTelemetry's semantic conventions for messaging and processes where these have any, in
Prometheus's spelling; the rest begins with ``pythia_``. Nothing here runs for a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from pythia_core import DURATION_BOUNDS, QueueObservation, Snapshot
from pythia_metrics.families import Family, Kind

__all__ = ["ALIASES", "aliases", "of_fleet", "of_process", "of_queues", "time_to_drain"]

DURATION = "messaging_process_duration_seconds"
OPERATION_DURATION = "messaging_client_operation_duration_seconds"
OUTCOMES: Final = ("done", "skipped", "dead_lettered", "released")

COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "received": ("messaging_client_consumed_messages_total", "Messages that were delivered to a worker."),
    "outputs": ("messaging_client_sent_messages_total", "Outputs that a sink confirmed."),
    "failures": ("pythia_failures_total", "Handler calls that failed, each attempt counted."),
    "retried": ("pythia_retries_total", "Messages parked for another attempt."),
    "dead_lettered": ("pythia_dead_letters_total", "Dead letters that were confirmed."),
    "settled": ("pythia_settled_messages_total", "Messages that the broker was told of and confirmed."),
    "settlements": ("pythia_commits_total", "Calls by which the broker was told what became of messages."),
    "refused": ("pythia_refused_total", "Settlements that the broker refused as no longer ours."),
    "rebalances": ("pythia_rebalances_total", "Times that partitions were dealt out anew."),
    "subscriptions": ("pythia_subscriptions_total", "How often a worker has subscribed."),
    "resets": (
        "pythia_offset_resets_total",
        "Partitions that began, or went on, at a position that nobody had settled.",
    ),
}
"""Counters of the engine by the name of their metric."""

ALIASES: Final = ("messages_processed_total", "message_processing_seconds", "queue_size")
"""Names of the user's guide, said only where no metric of a user's own has the name."""


def of_process(report: Mapping[str, Any]) -> Iterable[Family]:
    """Return the families of one process's report."""
    made: dict[str, Family] = {}

    def family(name: str, kind: Kind, text: str) -> Family:
        return made.setdefault(name, Family(name, kind, text))

    for worker in report.get("workers", ()):
        labels = labels_of(worker)
        _count(family, worker, labels)
        _measure(family, worker, labels)
    user, system = report.get("cpu") or (0.0, 0.0)
    cpu = family(
        "process_cpu_time_seconds_total", "counter", "Processor time of all processes, user code included."
    )
    cpu.add(user, {"cpu_mode": "user"})
    cpu.add(system, {"cpu_mode": "system"})
    family("process_memory_usage_bytes", "gauge", "Resident memory.").add(report.get("rss", 0))
    family("process_thread_count", "gauge", "Threads.").add(report.get("threads", 0))
    _collections(family, report.get("gc", ()))
    family("pythia_process_busy_ratio", "gauge", "The used share of the slots, 0 to 1.").add(
        report.get("busy", 0.0)
    )
    return made.values()


def _collections(family: Any, generations: Iterable[Sequence[int]]) -> None:
    """Add what the garbage collector did, by generation, under the semantic conventions' names."""
    texts = {
        "cpython_gc_collections_total": "Times that a generation was collected.",
        "cpython_gc_collected_objects_total": "Objects that were collected.",
        "cpython_gc_uncollectable_objects_total": "Objects that were found and could not be collected.",
    }
    for number, counts in enumerate(generations):
        for (name, text), count in zip(texts.items(), counts, strict=True):
            family(name, "counter", text).add(count, {"cpython_gc_generation": str(number)})


def labels_of(worker: Mapping[str, Any]) -> dict[str, str]:
    """Return a worker's attributes: few values each, never a message's."""
    return {
        "worker": worker["name"],
        "messaging_system": worker["system"],
        "messaging_destination_name": worker["destination"],
        "messaging_consumer_group_name": worker["group"] or "",
    }


def _count(family: Any, worker: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    counters = worker.get("counters") or {}
    for counter, (name, text) in COUNTERS.items():
        family(name, "counter", text).add(counters.get(counter, 0), labels)
    text = "Messages that are finished, by what became of them."
    for outcome, count in outcomes(counters).items():
        family("pythia_messages_total", "counter", text).add(count, {**labels, "outcome": outcome})
    text = "Partitions that came and went; lost ones went before they were settled."
    for event in ("assigned", "revoked", "lost"):
        family("pythia_partitions_total", "counter", text).add(
            counters.get(event, 0), {**labels, "event": event}
        )
    text = "Times that a broker could not be asked how much is left."
    family("pythia_observer_errors_total", "counter", text).add(worker.get("observer_errors", 0), labels)
    if durations := worker.get("durations"):
        histogram = family(DURATION, "histogram", "Duration of processing, one call of a handler.")
        _bucket(
            histogram, durations, worker["duration_sum"], {**labels, "messaging_operation_name": "process"}
        )
        text = "Seconds that handlers ran; its rate over pythia_worker_slots is the used share."
        family("pythia_worker_busy_seconds_total", "counter", text).add(worker["duration_sum"], labels)
    text = "Calls of brokers that succeeded, each for many messages; a receive waits for them."
    for operation, (buckets, total) in (worker.get("operations") or {}).items():
        named = {"messaging_operation_name": operation, "messaging_operation_type": operation}
        _bucket(family(OPERATION_DURATION, "histogram", text), buckets, total, {**labels, **named})


def outcomes(counters: Mapping[str, int]) -> dict[str, int]:
    """Return what became of the messages that are finished."""
    others = {name: counters.get(name, 0) for name in OUTCOMES[1:]}
    return {"done": max(0, counters.get("finished", 0) - sum(others.values())), **others}


def _bucket(histogram: Family, durations: list[int], total: float, labels: Mapping[str, str]) -> None:
    bounds = [*(f"{bound:g}" for bound in DURATION_BOUNDS), "+Inf"]
    for bound, count in zip(bounds, accumulate(durations), strict=True):
        histogram.add(count, {**labels, "le": bound}, "_bucket")
    histogram.add(total, labels, "_sum")
    histogram.add(sum(durations), labels, "_count")


def _measure(family: Any, worker: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    counters = worker.get("counters") or {}
    gauges = {
        "pythia_messages_in_flight": ("Messages delivered and not finished.", counters.get("in_flight", 0)),
        "pythia_messages_parked": ("Messages that wait for their next attempt.", worker.get("parked", 0)),
        "pythia_watermark_age_seconds": (
            "For how long the first open message has held up a committed position.",
            worker.get("held", 0.0),
        ),
        "pythia_partitions_assigned": ("Partitions that are this process's.", worker.get("partitions", 0)),
        "pythia_worker_ready": ("1 if it consumes.", float(bool(worker.get("ready")))),
        "pythia_worker_slots": ("Messages that may run at once.", worker.get("slots", 0)),
        "pythia_messages_stuck": (
            "Messages at one thing for a minute or more.",
            len(worker.get("stuck", ())),
        ),
    }
    for name, (text, value) in gauges.items():
        family(name, "gauge", text).add(value, labels)
    text = "1 for each reason for which intake is stopped."
    for reason in {reason.partition(":")[0][:60] for reason in worker.get("paused", ())}:
        # what follows a colon has figures in it, of which each would be a series
        family("pythia_intake_stopped", "gauge", text).add(1, {**labels, "reason": reason})


# -- of all together ---------------------------------------------------------------------------------------------


def of_fleet(fleet: Mapping[str, Any]) -> list[Family]:
    """Return the families that only all processes together have: queues and scaling. What is unknown is not there."""
    snapshot: Snapshot = fleet["snapshot"]
    made = [_replicas(fleet), *_processors(snapshot), *_queues(snapshot), *_scaling(fleet, snapshot)]
    restarts = Family("pythia_process_restarts_total", "counter", "Processes that had to be replaced.")
    restarts.add(fleet["restarts"])
    return [*made, restarts]


def _replicas(fleet: Mapping[str, Any]) -> Family:
    replicas = Family("pythia_worker_replicas", "gauge", "Processes by state.")
    for state in ("starting", "waiting", "ready", "draining", "silent"):
        replicas.add(sum(child["state"] == state for child in fleet["children"]), {"state": state})
    return replicas


def _processors(snapshot: Snapshot) -> list[Family]:
    """Return what of a processor each process uses: the counter of processor time is of all of them together."""
    used = Family(
        "process_cpu_utilization_ratio", "gauge", "Processors that a process uses; 1 is all of one."
    )
    for worker in snapshot.workers:
        used.add(worker.cpu, {"process": worker.id})
    return [used]


QUEUE: Final[Mapping[str, tuple[str, str]]] = {
    "oldest_age_s": ("pythia_queue_oldest_message_age_seconds", "Age of the oldest unsettled message."),
    "arrival_rate": ("pythia_queue_arrivals_per_second", "Messages that come, a second."),
    "ack_rate": ("pythia_queue_settled_per_second", "Messages settled by these processes, a second."),
    "partitions": ("pythia_queue_partitions", "Partitions of the source."),
    "partitions_with_lag": ("pythia_queue_partitions_with_lag", "Partitions with something left."),
    "max_partition_lag": ("pythia_queue_max_partition_lag", "Messages left in the fullest partition."),
}
"""Gauges of a queue by what an observation calls them."""


def of_queues(queues: Iterable[QueueObservation]) -> list[Family]:
    """Return what is left of queues; what is unknown is not there."""
    messages = Family("pythia_queue_messages", "gauge", "Messages left, by whether they have been delivered.")
    lag = Family("pythia_consumer_lag_messages", "gauge", "Messages left for the group.")
    made = {attribute: Family(name, "gauge", text) for attribute, (name, text) in QUEUE.items()}
    for queue in queues:
        labels = _labels(queue)
        if queue.backlog is not None:
            messages.add(queue.backlog, {**labels, "state": "ready"})
            lag.add(queue.backlog + (queue.in_flight or 0), labels)
        if queue.in_flight is not None:
            messages.add(queue.in_flight, {**labels, "state": "in_flight"})
        for attribute, family in made.items():
            if (value := getattr(queue, attribute)) is not None:
                family.add(value, labels)
    return [messages, lag, *made.values()]


def _queues(snapshot: Snapshot) -> list[Family]:
    drain = Family(
        "pythia_time_to_drain_seconds", "gauge", "Time that what is left takes at what was measured."
    )
    for queue in snapshot.queues:
        if (seconds := time_to_drain(queue, snapshot)) is not None:
            drain.add(seconds, _labels(queue))
    return [*of_queues(snapshot.queues), drain]


def time_to_drain(queue: QueueObservation, snapshot: Snapshot) -> float | None:
    """Return the seconds that what is left takes, delivered or not, at what all that are ready can do, as measured."""
    if queue.backlog is None or not snapshot.true_rate or not snapshot.ready:
        return None
    return (queue.backlog + (queue.in_flight or 0)) / (snapshot.true_rate * snapshot.ready)


def _labels(queue: QueueObservation) -> dict[str, str]:
    return {
        "messaging_system": queue.system,
        "messaging_destination_name": queue.destination,
        "messaging_consumer_group_name": queue.group or "",
    }


def _scaling(fleet: Mapping[str, Any], snapshot: Snapshot) -> list[Family]:
    desired = Family("pythia_scaling_desired_replicas", "gauge", "Processes that there should be.")
    desired.add(fleet["target"])
    made = [desired]
    if snapshot.rebalance_s is not None:
        rebalance = Family("pythia_rebalance_seconds", "gauge", "Time that a rebalance takes, as measured.")
        rebalance.add(snapshot.rebalance_s)
        made.append(rebalance)
    if snapshot.true_rate is not None:
        rate = Family(
            "pythia_worker_true_rate", "gauge", "Messages a second that one process can do, as measured."
        )
        rate.add(snapshot.true_rate)
        made.append(rate)
    if fleet["policy"] is None:
        return made
    bounds = Family("pythia_scaling_bound_replicas", "gauge", "Bounds of the number of processes.")
    bounds.add(snapshot.min, {"bound": "min"})
    bounds.add(snapshot.max, {"bound": "max"})
    at_max = Family("pythia_scaling_at_max", "gauge", "1 if no more processes are allowed.")
    at_max.add(float(fleet["target"] >= snapshot.max))
    failures = Family("pythia_scaling_policy_failures_total", "counter", "Times that the policy raised.")
    failures.add(fleet["policy_failures"])
    made += [bounds, at_max, failures]
    if fleet["decisions"]:
        raw = Family(
            "pythia_scaling_raw_replicas", "gauge", "What the policy wants, before rounding and bounds."
        )
        raw.add(fleet["decisions"][-1].raw)
        made.append(raw)
    return made


def aliases(families: Iterable[Family]) -> list[Family]:
    """Return the guide's names, of what the user has no metric of his own by that name."""
    there = {family.name: family for family in families}
    made = []
    if ALIASES[0] not in there and (messages := there.get("pythia_messages_total")):
        processed = Family(ALIASES[0], "counter", "Messages processed; see pythia_messages_total.")
        for (_, labels), value in messages.samples.items():
            said = dict(labels)
            if said.pop("outcome") == "done":
                processed.add(value, said)
        made.append(processed)
    if ALIASES[1] not in there and (durations := there.get(DURATION)):
        samples = {
            (name.replace(DURATION, ALIASES[1]), labels): n for (name, labels), n in durations.samples.items()
        }
        made.append(Family(ALIASES[1], "histogram", f"See {DURATION}.", samples=samples))
    if ALIASES[2] not in there and (lag := there.get("pythia_consumer_lag_messages")):
        samples = {(ALIASES[2], labels): value for (_, labels), value in lag.samples.items()}
        made.append(Family(ALIASES[2], "gauge", f"See {lag.name}.", samples=samples))
    return made
