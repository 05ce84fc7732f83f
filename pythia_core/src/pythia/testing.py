"""What tests a worker: alone in memory, or many of them under load."""

from pythia_core.testing import *
from pythia_core.testing import __all__  # noqa: F401 - handed on
