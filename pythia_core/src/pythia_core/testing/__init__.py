"""What tests of workers are written with: a harness in memory, and load tests that prove what they measured.

Users import it as pythia.testing.
"""

from pythia_core.testing.harness import Letter, WorkerHarness, in_virtual_time
from pythia_core.testing.load import LoadTester, Progress
from pythia_core.testing.verdict import LoadResults

__all__ = ["Letter", "LoadResults", "LoadTester", "Progress", "WorkerHarness", "in_virtual_time"]
