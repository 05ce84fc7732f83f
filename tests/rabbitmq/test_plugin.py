"""What the plugin adds to Pythia, and that it costs nothing to list."""

import re
import subprocess
import sys
from pathlib import Path

import pythia_rabbitmq
from pythia_core import Sink, Source
from pythia_rabbitmq import plugin


def test_hook_pythia_register_sources_adds_the_consumer() -> None:
    """A configuration file names it `rabbitmq`."""
    assert plugin.pythia_register_sources() == {"rabbitmq": pythia_rabbitmq.RabbitMQConsumer}
    assert issubclass(pythia_rabbitmq.RabbitMQConsumer, Source)


def test_hook_pythia_register_sinks_adds_the_producer() -> None:
    """The same for the sink."""
    assert plugin.pythia_register_sinks() == {"rabbitmq": pythia_rabbitmq.RabbitMQProducer}
    assert issubclass(pythia_rabbitmq.RabbitMQProducer, Sink)


def test_the_public_names_are_sorted_and_there() -> None:
    """What the door `pythia.brokers.rabbitmq` hands on."""
    assert pythia_rabbitmq.__all__ == sorted(pythia_rabbitmq.__all__)
    assert all(hasattr(pythia_rabbitmq, name) for name in pythia_rabbitmq.__all__)


def test_describing_a_source_does_not_load_the_client() -> None:
    """Aiormq takes 100 ms to import, which `pythia --help` and `check` need not wait for."""
    code = (
        "import sys, pythia_rabbitmq, pythia_rabbitmq.plugin as plugin\n"
        "plugin.pythia_register_sources(), plugin.pythia_register_sinks()\n"
        "pythia_rabbitmq.RabbitMQConsumer('events').counterpart()\n"
        "sys.exit('aiormq' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_trap_is_shown_to_be_avoided() -> None:
    """The table names tests for each of them, and every test that is named is there."""
    text = (Path(__file__).parents[2] / "plugins/pythia_rabbitmq/TRAPS.md").read_text()
    traps = dict(re.findall(r"^\| ([RX]\d+|UTF8) \|.*\| ([^|]*) \|$", text, re.MULTILINE))
    assert list(traps) == [*(f"R{number}" for number in range(1, 21)), "X5", "X6", "X7", "X8", "UTF8"]
    assert all("test_" in tests or tests.startswith("not by a test") for tests in traps.values())
    files = [*Path(__file__).parent.glob("test_*.py")]
    there = {path.stem for path in files}.union(
        *(re.findall(r"def (test_\w+)", p.read_text()) for p in files)
    )
    assert set(re.findall(r"test_\w+", text)) <= there
