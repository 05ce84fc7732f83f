"""The supervisor's end: takes all processes' reports and answers ``/metrics``, probes, ``/scaling``, ``/report``, the page.

Without a supervisor the process is a fleet of one and does the same. Reports come in the owner's thread and questions in
the server's, so a lock stands between; what is answered is made only when somebody asks.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from pythia_core import Monitor
from pythia_metrics.dashboard import page
from pythia_metrics.families import CONTENT_TYPE, Family, expose
from pythia_metrics.health import PROBES, Facts, probe
from pythia_metrics.history import History
from pythia_metrics.instruments import aliases, of_fleet, of_process
from pythia_metrics.merging import Merger
from pythia_metrics.report import Counts, write
from pythia_metrics.scaled import Scaled
from pythia_metrics.server import Answer, Handler, Server
from pythia_metrics.state import describe

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["MetricsMonitor"]

log = logging.getLogger("pythia.monitoring")

JSON = "application/json"
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
    _reports: dict[int, Mapping[str, Any]] = attrs.field(factory=dict)
    _gone: Counter[str] = attrs.field(factory=Counter)  # what the dead had counted
    _history: History = attrs.field(factory=History)
    _counts: Counts = attrs.field(factory=Counts)
    _instance: str = attrs.field(factory=lambda: secrets.token_hex(8))

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
            self._reports[number] = report
            self._counts.take(number, report)

    def forget(self, number: int) -> None:
        with self._lock:
            self.merger.forget(number)
            self._gone.update(self._reports.pop(number, {}).get("counters", {}))
            self._counts.forget(number)

    def show(self, fleet: Mapping[str, Any]) -> None:
        with self._lock:
            self._fleet, self._shown = fleet, time.monotonic()
            self._loaded = self._loaded or any(child["loaded"] for child in fleet["children"])
            self._scaled.note(fleet["decisions"])
            self._history.note(fleet, fleet["snapshot"].wall)

    def close(self) -> None:
        self._server.close()

    # -- asked -----------------------------------------------------------------------------------------------

    def routes(self) -> dict[str, Handler]:
        """Return who answers which path, in the server's thread."""
        return {
            "/": lambda request: page(),
            "/api/state": self._state,
            "/metrics": lambda request: Answer(expose(self.families()), CONTENT_TYPE),
            "/scaling": lambda request: Answer(_json(self._explain()), JSON),
            "/report": lambda request: self._report(),
            **{f"/{name}": partial(self._probe, name) for name in PROBES},
            **{f"/{name}/{{check}}": partial(self._probe, name) for name in PROBES},
        }

    def _probe(self, name: str, request: Request) -> Answer:
        check = request.path_params.get("check", "")
        query = {**request.query_params, "exclude": ",".join(request.query_params.getlist("exclude"))}
        return probe(f"{name}/{check}" if check else name, self._facts(), query)

    def _facts(self) -> Facts:
        with self._lock:
            silence = time.monotonic() - self._shown
            waiting = {number: report.get("waiting_for", "") for number, report in self._reports.items()}
            return Facts(self._fleet, silence, self._loaded, waiting, dict(self._reports))

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

    def _report(self) -> Answer:
        with self._lock:
            if self._fleet is None:
                return Answer("nothing is known yet\n", status=503)
            return Answer(write(self._instance, self._fleet, self._counts), JSON)

    def _state(self, request: Request) -> Answer:
        """Answer the page: ``since`` is the epoch second up to which it has the history."""
        since = _number(request.query_params.get("since", "0"))
        with self._lock:
            said: dict[str, Any] = {
                "at": time.time(),
                "silence": time.monotonic() - self._shown,
                "fleet": self._describe(since, is_local(request)),
            }
        return Answer(_json(said), JSON)

    def _describe(self, since: float, texts: bool) -> dict[str, Any] | None:
        if self._fleet is None:
            return None
        totals = Counter(self._gone)
        for report in self._reports.values():
            totals.update(report.get("counters", {}))
        return describe(self._fleet, self._reports, totals, self._history, since=since, texts=texts)

    def _explain(self) -> dict[str, Any]:
        with self._lock:
            fleet = self._fleet
        if fleet is None:
            return {"policy": None, "decisions": []}
        snapshot = fleet["snapshot"]
        return {
            "worker": fleet["title"],
            "policy": fleet["policy"],
            "desired": fleet["target"],
            "min": snapshot.min,
            "max": snapshot.max,
            "ready": snapshot.ready,
            "true_rate": snapshot.true_rate,
            "decisions": [attrs.asdict(decision) for decision in fleet["decisions"]],
        }


def is_local(request: Request) -> bool:
    """Tell whether somebody at this machine asks, by an address of it: a name could be anybody's, pointed here.

    A page of a stranger's, opened in a browser here, can have its own name resolve to this machine and read what it is
    answered. An address it cannot take, and ``localhost`` neither.
    """
    client = request.client.host if request.client is not None else ""
    host = request.url.hostname or ""
    return _is_loopback(client) and (host == "localhost" or _is_loopback(host))


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _json(value: Any) -> str:
    """Return JSON that a browser takes, too: it has neither NaN nor infinity."""
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
