"""What the plugin adds to Pythia, and that it costs nothing to list."""

import subprocess
import sys

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
