"""What a worker's author writes: ``MetricsCollector()``, the end of monitoring that is in the worker's process.

It asks for handler times to be counted into buckets, and once a second hands the user's own prometheus_client objects to
the process's report. Nothing of it runs for a message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pythia_core import Monitor, Telemetry

__all__ = ["DEFAULT_ADDRESS", "MetricsCollector"]

DEFAULT_ADDRESS = "127.0.0.1:9464"
"""The port is OpenTelemetry's for a Prometheus exporter; loopback, because nobody asked to show it to a network."""


class MetricsCollector(Telemetry):
    """Shows what a worker does at ``/metrics``, and whether it is well at ``/livez``, ``/readyz`` and ``/startupz``.

    Metrics that you make with prometheus_client appear at the same place, added up over all processes. Under ``pythia
    run`` the supervisor answers for all processes; ``python worker.py`` answers for itself.

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

    @classmethod
    def monitor(cls) -> Monitor:
        from pythia_metrics.monitor import MetricsMonitor

        return MetricsMonitor()

    def report(self) -> Mapping[str, Any]:
        from prometheus_client import REGISTRY

        from pythia_metrics.registry import read

        registry = REGISTRY if self._registry is None else self._registry
        return {"families": [family.dump() for family in read(registry) if family.samples]}
