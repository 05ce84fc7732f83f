"""Metrics and health, by the plugin pythia-metrics."""

try:
    from pythia_metrics import *
    from pythia_metrics import __all__  # noqa: F401 - handed on
except ModuleNotFoundError as error:
    from pythia_core.doors import closed

    raise closed("pythia_metrics", error) from error
