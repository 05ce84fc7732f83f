"""What tests of workers are written with: load tests that prove what they measured. Users import it as pythia.testing."""

from pythia_core.testing.load import LoadTester, Progress
from pythia_core.testing.verdict import LoadResults

__all__ = ["LoadResults", "LoadTester", "Progress"]
