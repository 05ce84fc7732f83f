"""What the plugin adds to Pythia, and that it costs nothing to list."""

import subprocess
import sys

import pythia_metrics
from pythia_core.contract_check import contract_faults
from pythia_metrics import plugin


def test_hook_pythia_register_telemetry_adds_the_collector() -> None:
    """A configuration file names it `metrics`."""
    assert plugin.pythia_register_telemetry() == {"metrics": pythia_metrics.MetricsCollector}
    assert list(contract_faults("telemetry", pythia_metrics.MetricsCollector)) == []


def test_hook_pythia_register_scaling_policies_adds_the_policies() -> None:
    """By the names of the documentation, with options that configuration can read."""
    kinds = plugin.pythia_register_scaling_policies()
    assert set(kinds) == {
        *("drain", "lag", "latency", "busy", "cpu", "memory", "schedule"),
        *("max", "min", "cap", "veto", "advice"),
    }
    for kind in kinds.values():
        assert list(contract_faults("scaling_policies", kind)) == []


def test_hook_pythia_register_middleware_adds_tracing() -> None:
    """A configuration file names it `tracing`."""
    assert plugin.pythia_register_middleware() == {"tracing": pythia_metrics.Tracing}
    assert list(contract_faults("middleware", pythia_metrics.Tracing)) == []


def test_nothing_of_opentelemetry_is_loaded_unless_traces_are_asked_for() -> None:
    """Not by the plugin, its names or a middleware that is made and not used."""
    code = (
        "import sys, pythia_metrics, pythia_metrics.plugin as plugin\n"
        "plugin.pythia_register_middleware()['tracing'](sample=0.5)\n"
        "pythia_metrics.MetricsCollector(listen='')\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hook_pythia_register_commands_adds_what_operators_type() -> None:
    """Four words, each with a help."""
    names = [command.name for command in plugin.pythia_register_commands()]
    assert names == ["alerts", "grafana", "health", "scaling"]


def test_the_public_names_are_sorted_and_there() -> None:
    """What the door `pythia.monitoring` hands on."""
    assert pythia_metrics.__all__ == sorted(pythia_metrics.__all__)
    assert all(hasattr(pythia_metrics, name) for name in pythia_metrics.__all__)


def test_listing_the_plugin_does_not_load_the_libraries() -> None:
    """`pythia --help` and the supervisor need not wait for them, nor does a process that does not listen."""
    code = (
        "import sys, pythia_metrics.plugin as plugin\n"
        "plugin.pythia_register_telemetry()['metrics'].monitor()\n"
        "plugin.pythia_register_commands(), plugin.pythia_register_scaling_policies()\n"
        "sys.exit(bool({'prometheus_client', 'starlette', 'uvicorn', 'h11'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
