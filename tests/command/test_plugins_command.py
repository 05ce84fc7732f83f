"""`pythia plugins`: what it lists, what it checks, and its exit codes."""

import json

import pytest

from tests.command.conftest import Pythia
from tests.plugins.handmade import HOOK, Handmade

PART = """
import attrs
from pythia_core import hookimpl, Middleware, Output, Owner, Sink, Source, Subscription, Telemetry, WriteResult

{code}

@hookimpl
def pythia_register_{kind}():
    return {{"thing": Thing}}
"""


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch, pythia: Pythia) -> None:
    """Let only the plugins of these tests be loaded."""
    monkeypatch.setenv("PYTHIA_PLUGINS", "bad,one")


def test_the_list_shows_each_plugin_and_why_it_is_not_loaded(
    pythia: Pythia, installed: Handmade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, distribution, version, what it adds, path and reason; the exit code is 0."""
    installed.add("bad", "raise RuntimeError('redis://u:canary-5f2c@h\\nforged')", version="0.3")
    installed.add("one", HOOK + "def pythia_register_scaling_policies():\n    return {}", version="2.0")
    done = pythia("plugins", "list")
    assert done.exit_code == 0
    assert "✓ core" in done.output
    assert "✗ bad" in done.output and "broken   bad-pythia 0.3" in done.output
    assert "RuntimeError: redis://u:****@h\\nforged" in done.output
    assert "loaded   one-pythia 2.0" in done.output and "scaling policies" in done.output
    assert str(installed.root / "one_pythia" / "plugin.py") in done.output.replace("\n", "")
    assert "canary-5f2c" not in done.output
    monkeypatch.setenv("PYTHIA_DISABLE_PLUGINS", "one")
    assert "PYTHIA_DISABLE_PLUGINS names it" in pythia("plugins", "list").output


def test_the_list_is_json_for_programs(pythia: Pythia, installed: Handmade) -> None:
    """With every field, and the error as text."""
    installed.add("bad", "raise RuntimeError('redis://u:canary-5f2c@h')")
    done = pythia("plugins", "list", "--json")
    bad = next(info for info in json.loads(done.output) if info["name"] == "bad")
    assert set(bad) == {"name", "distribution", "version", "path", "hooks", "error", "blocked", "status"}
    assert bad["status"] == "broken" and "redis://u:****@h" in bad["error"]


def test_the_check_passes_what_is_built_in(pythia: Pythia, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker in memory and the middleware keep their own contracts."""
    monkeypatch.setenv("PYTHIA_PLUGINS", "")
    done = pythia("plugins", "check")
    assert (done.exit_code, "all 7 good" in done.output) == (0, True)


FAULTS = {
    "no attrs class": ("sources", "class Thing(Source):\n    name = 'x'\n    async def subscribe(self, owner): ...", "it is not an attrs class"),
    "attrs of its base only": ("sinks", "@attrs.define\nclass Base(Sink):\n    name = 'x'\n    async def write(self, outputs): ...\nclass Thing(Base):\n    pass", "it is not an attrs class"),
    "no source": ("sources", "@attrs.frozen\nclass Thing:\n    x: int = 1", "it does not implement Source; write class Thing(Source)"),
    "lacks a method": ("sources", "@attrs.frozen\nclass Thing(Source):\n    name = 'x'", "it lacks subscribe, which Source demands"),
    "lacks a sink's method": ("sinks", "@attrs.define\nclass Thing(Sink):\n    name = 'x'", "it lacks write, which Sink demands"),
    "plain for async": ("sinks", "@attrs.define\nclass Thing(Sink):\n    name = 'x'\n    def write(self, outputs): ...", "write must be async function"),
    "async for plain": ("middleware", "class Thing(Middleware):\n    async def wrap(self, handler): ...", "wrap must be a plain function"),
    "other arguments": ("sources", "@attrs.frozen\nclass Thing(Source):\n    name = 'x'\n    async def subscribe(self): ...", "subscribe(self) cannot be called as subscribe(self, owner"),
    "unreadable options": ("sources", "@attrs.frozen\nclass Thing(Source):\n    x: 'Missing'\n    name = 'y'\n    async def subscribe(self, owner): ...", "name 'Missing' is not defined"),
    "a function": ("sources", "def Thing():\n    pass", "not a class that implements Source"),
    "no telemetry": ("telemetry", "class Thing:\n    pass", "it does not implement Telemetry"),
    "no policy": ("scaling_policies", "class Thing:\n    pass", "it has no decide(snapshot, state)"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "code", "told"), FAULTS.values(), ids=FAULTS)
def test_the_check_finds_what_breaks_a_contract(
    pythia: Pythia, installed: Handmade, kind: str, code: str, told: str
) -> None:
    """It says what is wrong with which thing of which plugin, and exits 1."""
    installed.add("bad", PART.format(code=code, kind=kind))
    done = pythia("plugins", "check")
    assert done.exit_code == 1
    assert "✗ bad" in done.output and told in done.output
    findings = json.loads(pythia("plugins", "check", "--json").output)
    assert any(told in fault for finding in findings for fault in finding["faults"])


def test_the_check_calls_hooks_that_listing_does_not(
    pythia: Pythia, installed: Handmade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that cannot be imported shows when it is asked for."""
    monkeypatch.setenv("PYTHIA_PLUGINS", "bad")
    installed.add(
        "bad",
        HOOK + "def pythia_register_sinks():\n    from bad_pythia.nowhere import X\n    return {'x': X}",
    )
    assert pythia("plugins", "list").output.count("✗") == 0
    done = pythia("plugins", "check")
    assert done.exit_code == 1 and "No module named 'bad_pythia.nowhere'" in done.output
