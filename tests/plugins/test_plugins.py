"""Discovery: what is found, what is blocked before its first line runs, and what is said of every kind of broken plugin."""

import logging
import re
import sys

import pytest

from pythia_core import PluginError, Telemetry
from pythia_core.brokers.memory import MemoryConsumer, MemoryProducer
from pythia_core.plugins import PluginInfo, discover, load
from tests.plugins.handmade import HOOK, Handmade

GOOD = (
    HOOK
    + "def pythia_register_telemetry():\n    from pythia_core import Telemetry\n    return {'%s': Telemetry}\n"
)


def found(environ: dict[str, str] | None = None) -> dict[str, PluginInfo]:
    """Discover, ask every hook, and return the plugins by name."""
    discovery = discover(environ or {})
    discovery.registry()
    discovery.commands()
    return {info.name: info for info in discovery.plugins}


def test_what_is_built_in_is_there_without_any_plugin() -> None:
    """The broker in memory comes through the same door, and says where it is from."""
    registry = load({"PYTHIA_PLUGINS": ""})
    assert registry.sources["memory"] is MemoryConsumer
    assert registry.sinks["memory"] is MemoryProducer
    assert registry.plugins[0].name == "core"
    assert registry.plugins[0].path.endswith("builtins.py")


def test_a_plugin_is_loaded_and_logged(installed: Handmade, caplog: pytest.LogCaptureFixture) -> None:
    """With its version, distribution and file."""
    caplog.set_level(logging.INFO)
    path = installed.add("good", GOOD % "good", version="2.1")
    registry = load({})
    assert "good" in registry.telemetry
    info = next(info for info in registry.plugins if info.name == "good")
    assert (info.distribution, info.version, info.path) == ("good-pythia", "2.1", str(path))
    assert f"plugin good 2.1 of good-pythia from {path}" in caplog.text


@pytest.mark.parametrize(
    ("environ", "status", "why"),
    [
        ({}, "loaded", None),
        ({"PYTHIA_PLUGINS": "good, other"}, "loaded", None),
        ({"PYTHIA_PLUGINS": "core"}, "blocked", "PYTHIA_PLUGINS does not name it"),
        ({"PYTHIA_PLUGINS": ""}, "blocked", "PYTHIA_PLUGINS does not name it"),
        ({"PYTHIA_DISABLE_PLUGINS": "x,good"}, "blocked", "PYTHIA_DISABLE_PLUGINS names it"),
        (
            {"PYTHIA_PLUGINS": "good", "PYTHIA_DISABLE_PLUGINS": "good"},
            "blocked",
            "PYTHIA_DISABLE_PLUGINS names it",
        ),
    ],
)
def test_the_lists_decide_before_anything_is_imported(
    installed: Handmade, environ: dict[str, str], status: str, why: str | None
) -> None:
    """The block list wins over the allow list; a blocked plugin's first line does not run."""
    installed.add("good", GOOD % "good")
    info = found(environ)["good"]
    assert (info.status, info.blocked) == (status, why)
    assert ("good_pythia" in sys.modules) is (status == "loaded")
    assert info.path.startswith(str(installed.root))


def test_a_blocked_plugin_may_be_broken(installed: Handmade) -> None:
    """Leaving it out is how to run without it."""
    installed.add("bad", "raise RuntimeError('at import')")
    assert "bad" in str(load({"PYTHIA_DISABLE_PLUGINS": "bad"}).plugins)


def test_a_plugin_that_is_allowed_and_not_installed_is_an_error(installed: Handmade) -> None:
    """What a deployment asks for must be there."""
    installed.add("good", GOOD % "good")
    with pytest.raises(PluginError, match=r"goood .*PYTHIA_PLUGINS names it.*did you mean good"):
        load({"PYTHIA_PLUGINS": "goood"})


BROKEN = {
    "raises": ("raise RuntimeError('no luck')", r"importing bad_pythia.plugin failed: RuntimeError: no luck"),
    "exits": ("raise SystemExit(3)", r"failed: SystemExit: 3"),
    "does not parse": ("def (", r"failed: SyntaxError"),
    "lacks a module": ("import nowhere_to_be_found", r"ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    "unmarked": ("def pythia_register_sources():\n    return {}", r"pythia_register_sources is a hook but not marked as one.*@hookimpl"),
    "misspelt": (HOOK + "def pythia_register_source():\n    return {}", r"no hook of Pythia; did you mean pythia_register_sources\?"),
    "misspelt and unmarked": ("def pythia_regster_sinks():\n    return {}", r"did you mean pythia_register_sinks\?"),
    "marked with another name": (HOOK + "def sources():\n    return {}", r"bad_pythia.plugin.sources is no hook"),
    "async": (HOOK + "async def pythia_register_sinks():\n    return {}", r"is async; hooks are plain functions"),
    "takes arguments": (HOOK + "def pythia_register_sinks(config):\n    return {}", r"\(config\) takes arguments; hooks take none"),
    "uses options": ("from pythia_core import hookimpl\n@hookimpl(wrapper=True)\ndef pythia_register_sinks():\n    return (yield)", r"uses an option of @hookimpl"),
    "hook raises": (HOOK + "def pythia_register_sinks():\n    raise OSError('gone')", r"pythia_register_sinks\(\) raised OSError: gone"),
    "hook returns nothing": (HOOK + "def pythia_register_sinks():\n    pass", r"returned NoneType, not a mapping"),
    "hook returns a list": (HOOK + "def pythia_register_sinks():\n    return []", r"returned list, not a mapping"),
    "hook returns a bad name": (HOOK + "def pythia_register_sinks():\n    return {'Bad Name': dict}", r"names something 'Bad Name'"),
    "hook returns no class": (HOOK + "def pythia_register_sinks():\n    return {'x': 5}", r"returned for 'x' 5, which cannot be called"),
    "takes a name of ours": (HOOK + "def pythia_register_sinks():\n    return {'memory': dict}", r"sink 'memory' is core \(pythia-core .*\)'s already"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_stops_a_run_and_nothing_else(installed: Handmade, code: str, told: str) -> None:
    """A run names plugin, distribution, version and fault; discovery lives on and others work."""
    installed.add("bad", code, version="0.3")
    installed.add("good", GOOD % "good")
    with pytest.raises(PluginError) as caught:
        load({})
    assert "bad (bad-pythia 0.3): " in str(caught.value)
    assert re.search(told, str(caught.value))
    assert "PYTHIA_DISABLE_PLUGINS=bad" in str(caught.value)
    infos = found()
    assert infos["bad"].status == "broken" and re.search(told, infos["bad"].error or "")
    assert infos["good"].status == "loaded"


def test_an_entry_point_must_name_a_module(installed: Handmade) -> None:
    """A class or a missing attribute is no plugin."""
    installed.add("bad", "class Plugin:\n    pass", target="bad_pythia.plugin:Plugin")
    assert "which is not a module" in (found()["bad"].error or "")


def test_every_broken_plugin_is_named_at_once(installed: Handmade) -> None:
    """Repairing one after the other would be tedious."""
    installed.add("one", "raise OSError")
    installed.add("two", "def pythia_x():\n    pass")
    with pytest.raises(PluginError, match=r"2 broken plugin") as caught:
        load({})
    assert "one (one-pythia 1.0)" in str(caught.value) and "two (two-pythia 1.0)" in str(caught.value)


def test_a_name_that_two_distributions_claim_names_both_and_imports_neither(installed: Handmade) -> None:
    """One of them may be there to be mistaken for the other."""
    installed.add("redis", GOOD % "one", distribution="pythia-redis-fork")
    installed.add("redis", GOOD % "two", distribution="aaa-redis")
    discovery = discover({"PYTHIA_PLUGINS": "redis"})
    claims = [info for info in discovery.plugins if info.distribution in ("pythia-redis-fork", "aaa-redis")]
    assert [info.status for info in claims] == ["broken", "broken"]
    for info in claims:
        assert "aaa-redis (aaa_redis.plugin)" in (info.error or "")
        assert "pythia-redis-fork (pythia_redis_fork.plugin)" in (info.error or "")
    assert "aaa_redis" not in sys.modules and "pythia_redis_fork" not in sys.modules


def test_nobody_takes_the_place_of_what_is_built_in(installed: Handmade) -> None:
    """A plugin called core is refused, and what is built in still works."""
    installed.add("core", GOOD % "mine", distribution="sly")
    discovery = discover({})
    assert discovery.registry().sources["memory"] is MemoryConsumer
    assert [(info.distribution, info.status) for info in discovery.plugins if info.name == "core"] == [
        ("pythia-core", "loaded"),
        ("sly", "broken"),
    ]


def test_a_name_that_two_plugins_register_names_the_first(installed: Handmade) -> None:
    """The order is that of names, so it is the same everywhere."""
    installed.add("first", GOOD % "statsd")
    other = (
        "class Second:\n    pass\n"
        + HOOK
        + "def pythia_register_telemetry():\n    return {'statsd': Second}\n"
    )
    installed.add("second", other)
    assert discover({}).registry().telemetry["statsd"] is Telemetry
    assert "telemetry 'statsd' is first (first-pythia 1.0)'s already" in (found()["second"].error or "")


def test_a_helper_with_another_prefix_is_no_hook(installed: Handmade) -> None:
    """Only functions that begin with pythia_ are taken for hooks; modules and classes never."""
    installed.add(
        "good", "import pythia_core\nclass pythia_thing:\n    pass\ndef helper():\n    pass\n" + GOOD % "good"
    )
    assert found()["good"].status == "loaded"


def test_two_commands_of_one_name_are_an_error(installed: Handmade) -> None:
    """The second plugin to bring it is the broken one."""
    code = HOOK + "def pythia_register_commands():\n    import click\n    return [click.Command('shake')]\n"
    installed.add("one", code)
    installed.add("two", code)
    assert found()["one"].status == "loaded"
    assert [command.name for command in discover({"PYTHIA_PLUGINS": "one,two"}).commands()] == ["shake"]
    assert "command 'shake' is one (one-pythia 1.0)'s already" in (found()["two"].error or "")


def test_what_is_no_command_is_refused(installed: Handmade) -> None:
    """A function that is not decorated would not work on a command line."""
    installed.add("bad", HOOK + "def pythia_register_commands():\n    return [print]\n")
    assert "not a list of click commands" in (found()["bad"].error or "")


def test_one_module_under_two_names_is_an_error(installed: Handmade) -> None:
    """Its hooks would be asked twice, or once for somebody else."""
    installed.add("one", GOOD % "one")
    installed.add("two", "", target="one_pythia.plugin")
    infos = found()
    assert infos["one"].status == "loaded"
    assert "already registered" in (infos["two"].error or "")
