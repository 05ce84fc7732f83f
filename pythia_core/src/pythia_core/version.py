"""The version that is installed, read from the distribution's metadata, where it stands once."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

__all__ = ["version"]


def version() -> str:
    """Return the version of pythia-core, or ``unknown`` in a source tree that nobody installed."""
    try:
        return installed("pythia-core")
    except PackageNotFoundError:
        return "unknown"
