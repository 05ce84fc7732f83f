"""Says in one JSON object what a page about a fleet shows. Plain data in, plain data out; who asks decides what he sees.

Texts that come from messages and brokers (keys, errors, hosts) are for people at this machine only; whoever else can reach
the port sees numbers and our own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from pythia_core import QueueObservation, Snapshot
from pythia_metrics.history import COLUMNS, History, total
from pythia_metrics.instruments import outcomes, time_to_drain

__all__ = ["describe"]

DECISIONS: Final = 40
"""The last ones, which at one each five seconds are the last three minutes; changes are kept for longer."""

TOTALS: Final = ("received", "finished", "failures", "retried", "dead_lettered", "outputs")


def describe(
    fleet: Mapping[str, Any],
    reports: Mapping[int, Mapping[str, Any]],
    totals: Mapping[str, int],
    history: History,
    *,
    since: float,
    texts: bool,
) -> dict[str, Any]:
    """Return the state of a fleet.

    Args:
        fleet: as the monitor was shown it last.
        reports: what the living processes said last, by number.
        totals: what all processes have counted, the dead included.
        since: the epoch second after which history is wanted.
        texts: whether texts of messages and brokers may be seen.
    """
    snapshot: Snapshot = fleet["snapshot"]
    by_slot = {worker.id: worker for worker in snapshot.workers}
    return {
        "title": fleet["title"],
        "supervised": fleet["supervised"],
        "uptime": fleet["uptime"],
        "stopping": fleet["stopping"],
        "target": fleet["target"],
        "ready": sum(child["ready"] for child in fleet["children"]),
        "restarts": fleet["restarts"],
        "totals": {**{name: totals.get(name, 0) for name in TOTALS}, "done": outcomes(totals)["done"]},
        "texts": texts,
        "processes": [
            _process(child, by_slot.get(str(child["slot"])), reports.get(child["number"], {}), texts)
            for child in sorted(fleet["children"], key=lambda child: child["slot"])
        ],
        "queues": _queues(snapshot, reports, texts),
        "stuck": _stuck(fleet, reports, texts),
        "scaling": _scaling(fleet, snapshot),
        "history": {"columns": COLUMNS, "rows": history.since(since)},
    }


def _process(child: Mapping[str, Any], seen: Any, report: Mapping[str, Any], texts: bool) -> dict[str, Any]:
    workers = report.get("workers", ())
    full = {reason for worker in workers for reason in worker.get("full", ())}
    said: dict[str, Any] = {
        name: getattr(seen, name, None) for name in ("busy", "rate", "service_s", "cpu", "age_s", "slots")
    }
    return {
        "number": child["number"],
        "slot": child["slot"],
        "state": child["state"],
        "rss": report.get("rss"),
        "in_flight": report.get("counters", {}).get("in_flight"),
        "parked": sum(worker.get("parked", 0) for worker in workers),
        "partitions": sum(worker.get("partitions", 0) for worker in workers),
        "paused": sorted({reason for worker in workers for reason in worker.get("paused", ())} - full),
        "full": sorted(full),
        "reasons": _reasons(workers, child, texts),
        **said,
    }


def _reasons(workers: Sequence[Mapping[str, Any]], child: Mapping[str, Any], texts: bool) -> list[str]:
    """Return why a process is not ready; what is stuck and why intake is stopped stands elsewhere."""
    if not texts:
        return []
    if not workers:
        return list(child["reasons"])
    said = [reason for worker in workers for reason in worker.get("reasons", ())]
    return [reason for reason in said if not reason.startswith("intake stopped: ")]


# -- queues ------------------------------------------------------------------------------------------------------


def _queues(
    snapshot: Snapshot, reports: Mapping[int, Mapping[str, Any]], texts: bool
) -> list[dict[str, Any]]:
    workers = [worker for report in reports.values() for worker in report.get("workers", ())]
    return [_queue(queue, snapshot, workers, texts) for queue in snapshot.queues]


def _queue(
    queue: QueueObservation, snapshot: Snapshot, workers: Iterable[Mapping[str, Any]], texts: bool
) -> dict[str, Any]:
    mine = [
        worker
        for worker in workers
        if (worker["system"], worker["destination"], worker["group"])
        == (queue.system, queue.destination, queue.group)
    ]
    said: Mapping[str, Any] = next((worker["queue"] for worker in mine if worker.get("queue")), {})
    at_work = sum(worker.get("counters", {}).get("in_flight", 0) for worker in mine)
    outlook = _outlook(queue, bool(at_work))
    return {
        **attrs.asdict(queue),
        "worker": mine[0]["name"] if mine else "",
        "held_s": max((worker.get("held", 0.0) for worker in mine), default=0.0),
        "drain_s": 0.0 if outlook == "empty" else time_to_drain(queue, snapshot),
        "outlook": outlook,
        "fullest": said.get("fullest", ()) if texts else (),
    }


def _outlook(queue: QueueObservation, at_work: bool) -> str:
    """Say in a word where it goes: ``empty``, ``stalled``, ``grows``, ``shrinks``, ``steady``, or ``unknown``.

    What is not settled for long since a handler takes an hour is not stalled but ``worked on``.
    """
    left = total((queue.backlog, queue.in_flight))
    if queue.backlog is None or queue.arrival_rate is None or queue.ack_rate is None:
        return "empty" if left == 0 else "unknown"
    if not left:
        return "empty"
    if not queue.ack_rate:
        return "worked on" if at_work else "stalled"
    gain = queue.arrival_rate - queue.ack_rate
    edge = 0.02 * max(queue.arrival_rate, queue.ack_rate)
    return "grows" if gain > edge else "shrinks" if gain < -edge else "steady"


# -- what is stuck, and scaling ----------------------------------------------------------------------------------


def _stuck(
    fleet: Mapping[str, Any], reports: Mapping[int, Mapping[str, Any]], texts: bool
) -> list[dict[str, Any]]:
    """Return the messages that have been at one thing for a minute or more, longest first."""
    found = [
        {
            "slot": child["slot"],
            "worker": worker["name"],
            "message": stuck["message"] if texts else "",
            "state": stuck["state"],
            "seconds": stuck["seconds"],
            "why": stuck["why"] if texts else "",
        }
        for child in fleet["children"]
        for worker in reports.get(child["number"], {}).get("workers", ())
        for stuck in worker.get("stuck", ())
    ]
    return sorted(found, key=lambda one: -one["seconds"])


def _scaling(fleet: Mapping[str, Any], snapshot: Snapshot) -> dict[str, Any]:
    decisions = list(fleet["decisions"])
    changes = [one for one in decisions[:-DECISIONS] if one.before != one.after]
    return {
        "policy": fleet["policy"],
        "desired": fleet["target"],
        "min": snapshot.min,
        "max": snapshot.max,
        "true_rate": snapshot.true_rate,
        "failures": fleet["policy_failures"],
        "decisions": [attrs.asdict(one) for one in (*changes, *decisions[-DECISIONS:])],
    }
