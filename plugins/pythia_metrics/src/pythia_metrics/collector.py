"""What a worker's author writes: ``MetricsCollector()``, the end of monitoring that is in the worker's process.

It asks for handler times to be counted into buckets, and once a second hands the user's own prometheus_client objects to
the process's report. Nothing of it runs for a message.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pythia_core import Monitor, Stats, Telemetry

if TYPE_CHECKING:
    from pythia_metrics.otlp import Pushing

__all__ = ["DEFAULT_ADDRESS", "MetricsCollector"]

DEFAULT_ADDRESS = "127.0.0.1:9464"
"""The port is OpenTelemetry's for a Prometheus exporter; loopback, because nobody asked to show it to a network."""

INSTALL: Final = "pip install './plugins/pythia_metrics[otlp]'"

log = logging.getLogger("pythia.monitoring")

OTLP: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


class MetricsCollector(Telemetry):
    """Shows what a worker does at ``/metrics``, and whether it is well at ``/livez``, ``/readyz`` and ``/startupz``.

    Metrics that you make with prometheus_client appear at the same place, added up over all processes. Under ``pythia
    run`` the supervisor answers for all processes; ``python worker.py`` answers for itself. With
    ``OTEL_EXPORTER_OTLP_ENDPOINT`` in the environment each process sends OTLP too, by the extra ``otlp``.

    Example:
        ::

            class ScalingMetricsWorker(Worker):
                def __init__(self, **kwargs):
                    super().__init__(**kwargs)
                    self.metrics = MetricsCollector()
                    self.seen = prometheus_client.Counter("orders_seen_total", "Orders seen")

    Args:
        listen: ``[HOST:]PORT``; None is PYTHIA_LISTEN, or else 127.0.0.1:9464. An empty text does not listen.
        registry: the ``CollectorRegistry`` where your own metrics are; None is prometheus_client's default.
    """

    durations = True

    def __init__(self, *, listen: str | None = None, registry: Any = None) -> None:
        self.listen = os.environ.get("PYTHIA_LISTEN", DEFAULT_ADDRESS) if listen is None else listen
        self._registry = registry
        self._ask: Callable[[], Mapping[str, Any]] | None = None
        self._pushing: Pushing | None = None

    @classmethod
    def monitor(cls) -> Monitor:
        from pythia_metrics.monitor import MetricsMonitor

        return MetricsMonitor()

    def attach(self, report: Callable[[], Mapping[str, Any]]) -> None:
        self._ask = report

    def start(self, stats: Stats) -> None:
        if self._ask is not None and any(os.environ.get(name) for name in OTLP):
            try:
                from pythia_metrics.otlp import Pushing
            except ModuleNotFoundError as error:
                log.error("OTLP is asked for and %s is not installed: %s", error.name, INSTALL)
                return
            self._pushing = Pushing.start(self._asked())

    def stopped(self, reason: str) -> None:
        if self._pushing is not None and self._ask is not None:
            self._pushing.stop(self._asked())
            self._pushing = None

    def _asked(self) -> Mapping[str, Any]:
        """Return the worker's report with what is its process's, such as processor time."""
        from pythia_core import process_figures

        assert self._ask is not None
        return {**process_figures(), **self._ask()}

    def report(self) -> Mapping[str, Any]:
        from prometheus_client import REGISTRY

        from pythia_metrics.registry import read

        if self._pushing is not None and self._ask is not None:
            self._pushing.latest = self._asked()
        registry = REGISTRY if self._registry is None else self._registry
        return {"families": [family.dump() for family in read(registry) if family.samples]}
