"""What a worker is configured by."""

from pythia_core import UNSET, BrakePolicy, Limits, RetryPolicy, Secret, WorkerConfig

__all__ = ["UNSET", "BrakePolicy", "Limits", "RetryPolicy", "Secret", "WorkerConfig"]
