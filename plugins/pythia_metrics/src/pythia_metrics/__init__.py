"""Metrics, health and autoscaling for Pythia."""

from pythia_metrics.collector import MetricsCollector

__all__ = ["MetricsCollector"]
