"""The supervisor's end: takes the reports of all processes and answers ``/metrics``, the probes and ``/scaling``.

Without a supervisor the process is a fleet of one and does the same. Reports come in the owner's thread and questions in
the server's, so a lock stands between; what is answered is made only when somebody asks.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from pythia_core import Monitor
from pythia_metrics.families import CONTENT_TYPE, Family, expose
from pythia_metrics.health import PROBES, Facts, probe
from pythia_metrics.instruments import aliases, of_fleet, of_process
from pythia_metrics.merging import Merger
from pythia_metrics.scaled import Scaled
from pythia_metrics.server import Answer, Handler, Server

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["MetricsMonitor"]

log = logging.getLogger("pythia.monitoring")

INDEX = "/metrics\n/livez\n/readyz\n/startupz\n/scaling\n"
COLLECTOR = "MetricsCollector"


@attrs.define(eq=False)
class MetricsMonitor(Monitor):
    """Answers for all processes."""

    merger: Merger = attrs.field(factory=Merger)
    address: tuple[str, int] | None = None
    _scaled: Scaled = attrs.field(factory=Scaled)
    _server: Server = attrs.field(
        default=attrs.Factory(lambda self: Server(self.routes()), takes_self=True), init=False
    )
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _fleet: Mapping[str, Any] | None = None
    _shown: float = attrs.field(factory=time.monotonic)
    _loaded: bool = False
    _waiting: dict[int, str] = attrs.field(factory=dict)

    # -- told ------------------------------------------------------------------------------------------------

    def open(self, host: str, port: int) -> None:
        self.address = self._server.open(host, port)
        where = f"[{self.address[0]}]" if ":" in self.address[0] else self.address[0]
        log.info("metrics and health at http://%s:%d/metrics", where, self.address[1])

    def take(self, number: int, slot: int, report: Mapping[str, Any]) -> None:
        own = list(of_process(report))
        users = [
            Family.load(said) for said in report.get("telemetry", {}).get(COLLECTOR, {}).get("families", ())
        ]
        with self._lock:
            self.merger.take(number, slot, [*own, *users])
            self._waiting[number] = report.get("waiting_for", "")

    def forget(self, number: int) -> None:
        with self._lock:
            self.merger.forget(number)
            self._waiting.pop(number, None)

    def show(self, fleet: Mapping[str, Any]) -> None:
        with self._lock:
            self._fleet, self._shown = fleet, time.monotonic()
            self._loaded = self._loaded or any(child["loaded"] for child in fleet["children"])
            self._scaled.note(fleet["decisions"])

    def close(self) -> None:
        self._server.close()

    # -- asked -----------------------------------------------------------------------------------------------

    def routes(self) -> dict[str, Handler]:
        """Return who answers which path, in the server's thread."""
        return {
            "/": lambda request: Answer(INDEX),
            "/metrics": lambda request: Answer(expose(self.families()), CONTENT_TYPE),
            "/scaling": lambda request: Answer(self._explain(), "application/json"),
            **{f"/{name}": partial(self._probe, name) for name in PROBES},
            **{f"/{name}/{{check}}": partial(self._probe, name) for name in PROBES},
        }

    def _probe(self, name: str, request: Request) -> Answer:
        check = request.path_params.get("check", "")
        return probe(f"{name}/{check}" if check else name, self._facts(), request.query_params)

    def _facts(self) -> Facts:
        with self._lock:
            silence = time.monotonic() - self._shown
            return Facts(self._fleet, silence, self._loaded, dict(self._waiting))

    def families(self) -> list[Family]:
        """Return every metric as it stands now."""
        with self._lock:
            found = self.merger.families()
            if self._fleet is not None:
                taken = {family.name for family in found}
                found += [family for family in of_fleet(self._fleet) if family.name not in taken]
                found += self._scaled.families()
            dropped = Family("pythia_metrics_dropped_samples_total", "counter", "Samples that were left out.")
            dropped.add(self.merger.dropped)
        return [*found, *aliases(found), dropped]

    def _explain(self) -> str:
        with self._lock:
            fleet = self._fleet
        if fleet is None:
            return json.dumps({"policy": None, "decisions": []})
        snapshot = fleet["snapshot"]
        said = {
            "worker": fleet["title"],
            "policy": fleet["policy"],
            "desired": fleet["target"],
            "min": snapshot.min,
            "max": snapshot.max,
            "ready": snapshot.ready,
            "true_rate": snapshot.true_rate,
            "decisions": [attrs.asdict(decision) for decision in fleet["decisions"]],
        }
        return json.dumps(said, default=str)
