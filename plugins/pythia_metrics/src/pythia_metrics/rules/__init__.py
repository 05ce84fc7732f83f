"""Alerting and recording rules for Prometheus, as a file that ``pythia alerts`` prints."""
