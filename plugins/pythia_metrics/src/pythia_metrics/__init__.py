"""Metrics, traces, health and autoscaling for Pythia."""

from pythia_metrics.collector import MetricsCollector
from pythia_metrics.tracing import Tracing

__all__ = ["MetricsCollector", "Tracing"]
