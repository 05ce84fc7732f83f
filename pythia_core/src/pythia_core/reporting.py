"""What a process says of itself: the reports of its workers as one, for its supervisor and for whoever monitors it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import psutil

from pythia_core.contracts import Telemetry
from pythia_core.runtime import Runtime

__all__ = ["Reporter", "process_figures"]

log = logging.getLogger("pythia.worker")


@attrs.define(eq=False)
class Reporter:
    """Puts the workers of this process together."""

    runtimes: Sequence[Runtime]
    process: psutil.Process = attrs.field(factory=psutil.Process)
    _broken: set[type] = attrs.field(factory=set, init=False)

    def report(self) -> dict[str, Any]:
        """Return the state of the process as JSON takes it; memory in bytes, processor time in seconds."""
        reports = [runtime.report() for runtime in self.runtimes]
        waiting = {report["waiting_for"] for report in reports}
        return {
            "ready": all(report["ready"] for report in reports),
            # A broker that is down explains everything else.
            "waiting_for": next((whom for whom in ("broker", "itself") if whom in waiting), ""),
            "reasons": list(_reasons(reports)),
            "busy": max(report["busy"] for report in reports),
            "counters": _sum(report["counters"] for report in reports),
            **process_figures(self.process),
            "workers": reports,
            "telemetry": self._telemetry(),
        }

    def _telemetry(self) -> dict[str, Any]:
        """Return what telemetry adds, by its class: the first of each class speaks for the process."""
        first: dict[type[Telemetry], Telemetry] = {}
        for runtime in self.runtimes:
            for telemetry in runtime.telemetry:
                first.setdefault(type(telemetry), telemetry)
        return {
            kind.__name__: said
            for kind, telemetry in first.items()
            if kind.report is not Telemetry.report and (said := self._ask(telemetry))
        }

    def _ask(self, telemetry: Telemetry) -> Mapping[str, Any]:
        kind = type(telemetry)
        if kind in self._broken:
            return {}
        try:
            return telemetry.report()
        except Exception:
            self._broken.add(kind)
            log.exception("telemetry %s raised and reports no more", kind.__name__)
            return {}


def process_figures(process: psutil.Process | None = None) -> dict[str, Any]:
    """Return what a process uses: memory in bytes, processor time in seconds (user, system), threads, collections.

    Args:
        process: this one.
    """
    process = process or psutil.Process()
    with process.oneshot():
        times, rss, threads = process.cpu_times(), process.memory_info().rss, process.num_threads()
    collections = [[each["collections"], each["collected"], each["uncollectable"]] for each in gc.get_stats()]
    return {"rss": rss, "cpu": [times.user, times.system], "threads": threads, "gc": collections}


def _reasons(reports: Sequence[dict[str, Any]]) -> Iterable[str]:
    prefix = len(reports) > 1
    for report in reports:
        for reason in (*report["reasons"], *(stuck["text"] for stuck in report["stuck"])):
            yield f"{report['name']}: {reason}" if prefix else reason


def _sum(many: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counters in many:
        for name, value in counters.items():
            total[name] = total.get(name, 0) + value
    return total
