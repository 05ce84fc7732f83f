"""What this plugin adds to Pythia. Classes are imported within the functions, so that listing plugins is cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pythia_core import hookimpl

if TYPE_CHECKING:
    import click

    from pythia_core import Middleware, ScalingPolicy, Telemetry


@hookimpl
def pythia_register_telemetry() -> Mapping[str, Callable[..., Telemetry]]:
    """Add the telemetry ``metrics``."""
    from pythia_metrics.collector import MetricsCollector

    return {"metrics": MetricsCollector}


@hookimpl
def pythia_register_middleware() -> Mapping[str, Callable[..., Middleware]]:
    """Add the middleware ``tracing``."""
    from pythia_metrics.tracing import Tracing

    return {"tracing": Tracing}


@hookimpl
def pythia_register_scaling_policies() -> Mapping[str, Callable[..., ScalingPolicy]]:
    """Add the policies, each within a governor."""
    from pythia_metrics.named import KINDS

    return KINDS


@hookimpl
def pythia_register_commands() -> Sequence[click.Command]:
    """Add ``pythia alerts``, ``pythia grafana``, ``pythia health`` and ``pythia scaling``."""
    from pythia_metrics.commands import alerts, grafana, health, scaling

    return [alerts, grafana, health, scaling]
