"""What orchestrators are told: live, ready, started, each as a list of named checks.

It stands apart because what must never be asked is the point of it. ``/livez`` asks only whether this process's own loop
turns: no broker, no handler and no backlog, or an outage would be answered by restarts. No check names a host, a version
or an exception, since whoever can reach the port may read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from pythia_metrics.server import Answer

__all__ = ["PROBES", "Check", "Facts", "probe"]

LOOP_SECONDS = 10.0
"""For how long the loop may be silent: it says something each second, and a machine may be slow."""


@attrs.frozen
class Facts:
    """What the checks look at.

    Args:
        fleet: as the monitor was shown it last; None before.
        silence: seconds since then.
        loaded: some process has loaded plugins, configuration and workers, now or before.
        waiting: whom each process that is not ready waits for, by number.
    """

    fleet: Mapping[str, Any] | None
    silence: float
    loaded: bool
    waiting: Mapping[int, str]


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
    turns = facts.silence < LOOP_SECONDS
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
    ]


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
