"""Metrics, health and autoscaling: the plugin pythia-metrics."""
