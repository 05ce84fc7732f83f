"""Reads a registry of prometheus_client, where a user's own metrics are, into plain families."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, get_args

from pythia_metrics.families import Family, Kind

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["read"]

PROCESS = ("python_gc_", "python_info", "process_")
"""What prometheus_client registers by itself. Pythia says the same of each process under OpenTelemetry's names."""

LABEL_CHARACTERS = 200

KINDS: Final[dict[str, Kind]] = {kind: kind for kind in get_args(Kind)}


def read(registry: CollectorRegistry) -> Iterator[Family]:
    """Yield the families of a registry, but for what is there by default, and without ``_created``."""
    modes = _modes(registry)
    for metric in registry.collect():
        if metric.name.startswith(PROCESS):
            continue
        kind = KINDS.get(metric.type, "gauge")  # an Info or an Enum is read like one
        name = f"{metric.name}_total" if kind == "counter" else metric.name
        family = Family(name, kind, metric.documentation, modes.get(metric.name, "all"))
        for sample in metric.samples:
            if kind == "gauge" or not sample.name.endswith("_created"):
                labels = tuple(
                    sorted((key, str(value)[:LABEL_CHARACTERS]) for key, value in sample.labels.items())
                )
                if "quantile" not in sample.labels:  # quantiles do not add up
                    family.samples[sample.name, labels] = sample.value
        yield family


def _modes(registry: Any) -> dict[str, str]:
    """Return the multiprocess_mode of each gauge, which only the gauge itself knows."""
    collectors: dict[Any, list[str]] = getattr(registry, "_collector_to_names", {})
    return {
        name: collector._multiprocess_mode
        for collector, names in collectors.items()
        if hasattr(collector, "_multiprocess_mode")
        for name in names
    }
