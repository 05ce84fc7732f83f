"""What the plugin adds to Pythia, and that it costs nothing to list."""

import re
import subprocess
import sys
from pathlib import Path

import pythia_redis
from pythia_core import Sink, Source
from pythia_redis import plugin


def test_hook_pythia_register_sources_adds_the_consumer() -> None:
    """A configuration file names it `redis`."""
    assert plugin.pythia_register_sources() == {"redis": pythia_redis.RedisStreamsConsumer}
    assert issubclass(pythia_redis.RedisStreamsConsumer, Source)


def test_hook_pythia_register_sinks_adds_the_producer() -> None:
    """The same for the sink."""
    assert plugin.pythia_register_sinks() == {"redis": pythia_redis.RedisStreamsProducer}
    assert issubclass(pythia_redis.RedisStreamsProducer, Sink)


def test_the_public_names_are_sorted_and_there() -> None:
    """What the door `pythia.brokers.redis` hands on."""
    assert pythia_redis.__all__ == sorted(pythia_redis.__all__)
    assert all(hasattr(pythia_redis, name) for name in pythia_redis.__all__)


def test_describing_a_source_does_not_load_the_client() -> None:
    """redis-py takes 150 ms to import, which `pythia --help` and `check` need not wait for."""
    code = (
        "import sys, pythia_redis, pythia_redis.plugin as plugin\n"
        "plugin.pythia_register_sources(), plugin.pythia_register_sinks()\n"
        "pythia_redis.RedisStreamsConsumer('events').counterpart()\n"
        "sys.exit('redis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_trap_is_shown_to_be_avoided() -> None:
    """The table names tests for each of them, and every test that is named is there."""
    text = (Path(__file__).parents[2] / "plugins/pythia_redis/TRAPS.md").read_text()
    traps = dict(re.findall(r"^\| ([SX]\d+) \|.*\| ([^|]*) \|$", text, re.MULTILINE))
    assert list(traps) == [*(f"S{number}" for number in range(1, 17)), "X9", "X10", "X11"]
    assert all("test_" in tests for tests in traps.values())
    files = [*Path(__file__).parent.glob("test_*.py")]
    there = {path.stem for path in files}.union(
        *(re.findall(r"def (test_\w+)", p.read_text()) for p in files)
    )
    assert set(re.findall(r"test_\w+", text)) <= there
