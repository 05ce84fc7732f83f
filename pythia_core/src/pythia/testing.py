"""What tests of workers are written with."""

from pythia_core.testing import Letter, LoadResults, LoadTester, Progress, WorkerHarness, in_virtual_time

__all__ = ["Letter", "LoadResults", "LoadTester", "Progress", "WorkerHarness", "in_virtual_time"]
