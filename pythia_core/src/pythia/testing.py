"""What tests of workers are written with."""

from pythia_core.testing import LoadResults, LoadTester, Progress

__all__ = ["LoadResults", "LoadTester", "Progress"]
