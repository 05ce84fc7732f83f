"""Hooks: each is documented with its exact signature and has a test named after it, and none is called once work flows."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import click
import pluggy
import pytest

import pythia_core
from pythia_core import Message, Middleware, Sink, Source, Telemetry, Worker, hooks, plugins
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer
from pythia_core.runtime import Runtime
from tests.plugins.conftest import TOY
from tests.plugins.handmade import HOOK, Handmade
from tests.waiting import eventually

NAMES = hooks.__all__


@pytest.fixture
def toy(installed: Handmade, monkeypatch: pytest.MonkeyPatch) -> Iterator[plugins.Registry]:
    """Load the toy plugin from its folder, with an entry point by hand."""
    monkeypatch.syspath_prepend(str(TOY))
    installed.add("toy", "", distribution="toy-by-hand", package="unused", target="toy_pythia.plugin")
    yield plugins.load({})
    for name in [name for name in sys.modules if name.startswith("toy_pythia")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_documented(name: str) -> None:
    """Its docstring says what to return, when it is called, and shows an implementation with the exact signature."""
    hook = getattr(hooks, name)
    text = inspect.getdoc(hook) or ""
    signature = re.escape(f"@hookimpl\n    def {name}():")
    assert re.match(r"Return [^\n]+\.", text)
    assert "\nCalled once " in text
    assert re.search(signature, text)
    assert not inspect.signature(hook).parameters
    assert inspect.signature(hook).return_annotation.startswith(("Mapping[str, ", "Sequence["))


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_hook_is_a_plugin(
    name: str, installed: Handmade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the docstring shows is accepted as it stands, up to the classes that it imports."""
    example = (inspect.getdoc(getattr(hooks, name)) or "").partition("Example::")[2]
    installed.add("example", "from pythia_core import hookimpl\n" + inspect.cleandoc(example))
    info = next(info for info in plugins.discover({}).plugins if info.name == "example")
    assert (info.error, info.hooks) == (None, (name,))


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_has_a_test_named_after_it(name: str) -> None:
    """So that a new hook cannot come without one."""
    assert callable(globals().get(f"test_{name}"))


def test_every_hook_is_public_and_specified() -> None:
    """The functions of the module are the hooks, no more and no less."""
    functions = [name for name, _ in inspect.getmembers(hooks, inspect.isfunction)]
    assert sorted(functions) == sorted(NAMES)


def test_pythia_register_sources(toy: plugins.Registry) -> None:
    """A source can be named by its kind."""
    assert issubclass(toy.sources["toy"], Source)


def test_pythia_register_sinks(toy: plugins.Registry) -> None:
    """A sink can be named by its kind."""
    assert issubclass(toy.sinks["toy"], Sink)


def test_pythia_register_middleware(toy: plugins.Registry) -> None:
    """A middleware can be named, and is made with the options given."""
    assert isinstance(toy.middleware["toy"](level=2), Middleware)


def test_pythia_register_scaling_policies(toy: plugins.Registry) -> None:
    """A policy can be named, and decides."""
    assert toy.scaling_policies["toy"](replicas=3).decide(None, {}).replicas == 3  # type: ignore[arg-type]


def test_pythia_register_telemetry(toy: plugins.Registry) -> None:
    """Telemetry can be named."""
    assert isinstance(toy.telemetry["toy"](), Telemetry)


def test_pythia_register_commands(toy: plugins.Registry) -> None:
    """A command is added to Pythia's own."""
    assert "toy" in [command.name for command in plugins.discover({}).commands()]
    assert isinstance(plugins.discover({}).commands()[0], click.Command)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count every call that goes through pluggy, of whichever hook and by whichever road."""
    counted: list[str] = []
    original: Callable[..., Any] = pluggy.PluginManager._hookexec

    def counting(self: Any, hook_name: str, *args: Any) -> Any:
        counted.append(hook_name)
        return original(self, hook_name, *args)

    monkeypatch.setattr(pluggy.PluginManager, "_hookexec", counting)
    return counted


def test_each_hook_is_called_once_at_start(installed: Handmade, calls: list[str]) -> None:
    """A plugin's hook runs once in a start, and that of another plugin not because of it."""
    log = installed.root / "calls"
    code = (
        HOOK
        + f"def pythia_register_sinks():\n    with open({str(log)!r}, 'a') as log:\n        log.write('x')\n    return {{}}\n"
    )
    installed.add("one", code)
    installed.add("two", code)
    plugins.load({"PYTHIA_PLUGINS": "one,two"})
    assert log.read_text() == "xx"
    assert calls.count("pythia_register_sinks") == 3  # the core's own and these two


async def test_no_hook_is_called_while_messages_flow(toy: plugins.Registry, calls: list[str]) -> None:
    """However many messages: no call goes through pluggy after the start."""
    broker = MemoryBroker("hooks")
    seen: list[Any] = []

    class Counter(Worker[Any]):
        source = MemoryConsumer("numbers", broker=broker)

        async def process(self, message: Message[Any]) -> None:
            seen.append(message.body)

    runtime = Runtime(Counter(), environ={})
    at_start = len(calls)
    assert at_start
    async with anyio.create_task_group() as group:
        group.start_soon(runtime.run)
        for number in range(500):
            broker.publish("numbers", str(number).encode())
        await eventually(lambda: len(seen) == 500, "all messages are processed")
        runtime.stop()
    assert len(calls) == at_start


def test_hookimpl_is_public() -> None:
    """Plugins take it from the core's public names."""
    assert "hookimpl" in pythia_core.__all__
    assert pythia_core.hookimpl is plugins.hookimpl
