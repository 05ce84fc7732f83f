"""What a worker is configured by."""

from pythia_core import UNSET, Limits, RetryPolicy, Secret, WorkerConfig

__all__ = ["UNSET", "Limits", "RetryPolicy", "Secret", "WorkerConfig"]
