"""What orchestrators are told: live, ready, started, each as a list of named checks.

It stands apart because what must never be asked is the point of it. ``/livez`` asks only whether this process's own loop
turns: no broker, no handler and no backlog, or an outage would be answered by restarts. No check names a host, a version
or an exception, since whoever can reach the port may read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from pythia_metrics.server import Answer

__all__ = ["PROBES", "Check", "Facts", "probe"]

LOOP_SECONDS = 10.0
"""For how long a supervisor's loop may be silent: it says something each second, and a machine may be slow."""

ALONE_SECONDS = 60.0
"""The same for a process without a supervisor, whose loop is its handlers' too: one that computes is not to be killed."""


@attrs.frozen
class Facts:
    """What the checks look at.

    Args:
        fleet: as the monitor was shown it last; None before.
        silence: seconds since then.
        loaded: some process has loaded plugins, configuration and workers, now or before.
        waiting: whom each process that is not ready waits for, by number.
        reports: what the living said last of themselves, by number.
    """

    fleet: Mapping[str, Any] | None
    silence: float
    loaded: bool
    waiting: Mapping[int, str]
    reports: Mapping[int, Mapping[str, Any]] = attrs.field(factory=dict)


@attrs.frozen
class Check:
    """One check's result."""

    name: str
    ok: bool
    text: str = ""

    def __str__(self) -> str:
        return f"[{'+' if self.ok else '-'}]{self.name} {'ok' if self.ok else 'failed'}" + (
            f": {self.text}" if self.text else ""
        )


def _loop(facts: Facts) -> list[Check]:
    alone = facts.fleet is not None and not facts.fleet.get("supervised", True)
    turns = facts.silence < (ALONE_SECONDS if alone else LOOP_SECONDS)
    return [Check("loop", turns, "" if turns else f"silent for {facts.silence:.0f} s")]


def _started(facts: Facts) -> list[Check]:
    text = "" if facts.loaded else "no process has loaded its workers yet"
    return [Check("loaded", facts.loaded, text)]


def _ready(facts: Facts) -> list[Check]:
    fleet = facts.fleet
    if fleet is None:
        return [Check("processes", False, "nothing is known yet")]
    ready, target = sum(child["ready"] for child in fleet["children"]), fleet["target"]
    text = "" if ready >= target else f"{'degraded, ' if ready else ''}{ready} of {target} ready{_why(facts)}"
    stopping = bool(fleet["stopping"])
    return [
        Check("processes", ready > 0, text),
        Check("running", not stopping, "a stop is under way" if stopping else ""),
        Check("progress", True, "; ".join(_hindrances(facts))),
    ]


def _hindrances(facts: Facts) -> Iterator[str]:
    """Yield what keeps messages from being done, in our words. It fails no probe: another process would fare no better."""
    workers = [worker for report in facts.reports.values() for worker in report.get("workers", ())]
    stuck = [one["seconds"] for worker in workers for one in worker.get("stuck", ())]
    if stuck:
        count = "1 message" if len(stuck) == 1 else f"{len(stuck)} messages"
        yield f"degraded, {count} stuck, for {max(stuck):.0f} s at most"
    full = {reason for worker in workers for reason in worker.get("full", ())}
    for reason in sorted({reason for worker in workers for reason in worker.get("paused", ())} - full):
        yield f"degraded, intake stopped: {reason}"
    at_work = any(worker.get("counters", {}).get("in_flight") for worker in workers)
    snapshot = None if facts.fleet is None else facts.fleet.get("snapshot")
    if snapshot is not None and any(queue.stalled for queue in snapshot.queues) and not at_work:
        yield "degraded, messages wait and none is at work"


def _why(facts: Facts) -> str:
    """Say for whom the others wait, in our words only."""
    if facts.fleet is None:
        return ""
    said = [
        f"{child['slot']} {child['state']}{WAITING.get(facts.waiting.get(child['number'], ''), '')}"
        for child in facts.fleet["children"]
        if not child["ready"]
    ]
    return "; process " + ", ".join(said) if said else ""


WAITING = {"broker": " for its broker", "itself": ""}

PROBES: Mapping[str, Callable[[Facts], list[Check]]] = {
    "livez": _loop,
    "readyz": lambda facts: [*_loop(facts), *_ready(facts)],
    "startupz": lambda facts: [*_loop(facts), *_started(facts)],
}
"""The probes by name. The status is the contract, the text is for people."""


def probe(name: str, facts: Facts, query: Mapping[str, str]) -> Answer:
    """Answer ``/NAME`` and ``/NAME/CHECK``, with ``?verbose`` and ``?exclude=CHECK,CHECK``."""
    kind, _, single = name.partition("/")
    checks = PROBES[kind](facts)
    if single:
        checks = [check for check in checks if check.name == single]
        if not checks:
            return Answer(f"there is no check {single!r} of {kind}\n"[:200], status=404)
    left_out = set(query.get("exclude", "").split(","))
    checks = [check for check in checks if check.name not in left_out]
    good = all(check.ok for check in checks)
    if good and "verbose" not in query:
        return Answer("ok\n")
    lines = [*map(str, checks), f"{kind} check {'passed' if good else 'failed'}"]
    return Answer("\n".join(lines) + "\n", status=200 if good else 503)
