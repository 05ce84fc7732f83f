"""What the plugin adds to Pythia, and that it costs nothing to list."""

import re
import subprocess
import sys
from pathlib import Path

import pythia_kafka
from pythia_core import Sink, Source
from pythia_kafka import plugin


def test_hook_pythia_register_sources_adds_the_consumer() -> None:
    """A configuration file names it `kafka`."""
    assert plugin.pythia_register_sources() == {"kafka": pythia_kafka.KafkaConsumer}
    assert issubclass(pythia_kafka.KafkaConsumer, Source)


def test_hook_pythia_register_sinks_adds_the_producer() -> None:
    """The same for the sink."""
    assert plugin.pythia_register_sinks() == {"kafka": pythia_kafka.KafkaProducer}
    assert issubclass(pythia_kafka.KafkaProducer, Sink)


def test_the_public_names_are_sorted_and_there() -> None:
    """What the door `pythia.brokers.kafka` hands on."""
    assert pythia_kafka.__all__ == sorted(pythia_kafka.__all__)
    assert all(hasattr(pythia_kafka, name) for name in pythia_kafka.__all__)


def test_describing_a_source_does_not_load_the_client() -> None:
    """The client takes 200 ms to import, which `pythia --help` and `check` need not wait for."""
    code = (
        "import sys, pythia_kafka, pythia_kafka.plugin as plugin\n"
        "plugin.pythia_register_sources(), plugin.pythia_register_sinks()\n"
        "pythia_kafka.KafkaConsumer('events').counterpart()\n"
        "sys.exit('aiokafka' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_trap_is_shown_to_be_avoided() -> None:
    """The table names a test for each trap, and every test that it names is there."""
    table = (Path(__file__).parents[2] / "plugins/pythia_kafka/TRAPS.md").read_text()
    rows = dict(re.findall(r"^\| ([KX]\d+) \|.*\| ([^|]*) \|$", table, re.MULTILINE))
    assert list(rows) == [*(f"K{number}" for number in range(1, 24)), "X1", "X2", "X3", "X4"]
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for trap, shown in rows.items():
        assert re.findall(r"test_\w+", shown), trap
    names = re.findall(r"`(test_\w+)`", table)
    assert [name for name in names if f"def {name}(" not in tests] == []
