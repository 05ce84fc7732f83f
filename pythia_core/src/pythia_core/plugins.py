"""Finds, imports and asks plugins; the only module that knows pluggy.

It has its own loop over entry points, since pluggy's loader silently skips a second plugin of one name, stops at the
first broken one, and cannot block before importing. A broken plugin is a fact about one plugin (:attr:`PluginInfo.error`)
that :func:`load` refuses to run with and that ``pythia plugins`` and ``pythia check`` live through and report.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from pythia_core import hooks
from pythia_core.errors import PluginError
from pythia_core.logs import early
from pythia_core.nearest import did_you_mean
from pythia_core.plugin_entries import (
    ALLOW,
    BLOCK,
    BUILT_IN_POINT,
    GROUP,
    PluginInfo,
    blocked,
    describe,
    distribution_of,
    duplicates,
    import_plugin,
    names_in,
    say,
)
from pythia_core.plugin_rules import implemented, not_a_mapping

if TYPE_CHECKING:
    import click

    from pythia_core.contracts import Middleware, ScalingPolicy, Sink, Source, Telemetry

__all__ = ["Discovery", "PluginInfo", "Registry", "discover", "hookimpl", "load"]

KINDS: Mapping[str, str] = {
    "sources": "source",
    "sinks": "sink",
    "middleware": "middleware",
    "scaling_policies": "scaling policy",
    "telemetry": "telemetry",
}
"""What plugins add, in the plural of hooks and the singular of errors."""

hookimpl = pluggy.HookimplMarker(GROUP)
"""Marks a module's function as the implementation of the hook of the same name, see :mod:`pythia_core.hooks`."""

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Registry:
    """What all plugins together add, by the name that configuration uses."""

    sources: Mapping[str, type[Source]] = attrs.field(factory=dict)
    sinks: Mapping[str, type[Sink]] = attrs.field(factory=dict)
    middleware: Mapping[str, Callable[..., Middleware]] = attrs.field(factory=dict)
    scaling_policies: Mapping[str, Callable[..., ScalingPolicy]] = attrs.field(factory=dict)
    telemetry: Mapping[str, Callable[..., Telemetry]] = attrs.field(factory=dict)
    plugins: Sequence[PluginInfo] = ()


def load(environ: Mapping[str, str]) -> Registry:
    """Return what the plugins add, for a run: each hook is called once, here, and each plugin logged.

    Raises:
        PluginError: if any plugin is broken, or two claim one name; the text names every one of them.
    """
    discovery = discover(environ)
    registry = discovery.registry()
    discovery.refuse_broken()
    for info in registry.plugins:
        if not info.blocked:
            early(_log, "plugin %s %s of %s from %s", info.name, info.version, info.distribution, info.path)
    return registry


def discover(environ: Mapping[str, str]) -> Discovery:
    """Import the plugins that the environment allows, and call no hook. Never raises for a plugin's sake."""
    discovery = Discovery()
    points = [BUILT_IN_POINT, *sorted(entry_points(group=GROUP), key=lambda p: (p.name, distribution_of(p)))]
    claimed = duplicates(points)
    for point in points:
        info = describe(point)
        if reason := blocked(point, environ):
            discovery.add(attrs.evolve(info, blocked=reason))
        elif point.name in claimed and point is not BUILT_IN_POINT:
            discovery.add(attrs.evolve(info, error=claimed[point.name]))
        else:
            discovery.admit(info, point)
    discovery.add_missing(environ)
    return discovery


class Discovery:
    """The plugins found, and what becomes of each while it is imported and asked."""

    def __init__(self) -> None:
        self._infos: dict[tuple[str, str], PluginInfo] = {}
        self._modules: dict[tuple[str, str], ModuleType] = {}
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(_specifications())

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """Every plugin as it stands now, in the order of discovery."""
        return tuple(self._infos.values())

    @property
    def broken(self) -> tuple[PluginInfo, ...]:
        """Those that cannot be used."""
        return tuple(info for info in self.plugins if info.error)

    def refuse_broken(self) -> None:
        """Raise :class:`PluginError` if any plugin is broken."""
        if broken := self.broken:
            told = "\n".join(f"  {info}: {info.error}" for info in broken)
            names = ",".join(sorted({info.name for info in broken}))
            raise PluginError(
                f"{len(broken)} broken plugin(s):\n{told}\n"
                f"Repair or uninstall what is named, or leave it out with {BLOCK}={names}"
            )

    def add(self, info: PluginInfo) -> None:
        """Enter a plugin that is not imported."""
        self._infos[_key(info)] = info

    def admit(self, info: PluginInfo, point: EntryPoint) -> None:
        """Import a plugin and enter it with what it implements, or with what is wrong with it."""
        try:
            module = import_plugin(point)
            names = tuple(implemented(module))
            self._manager.register(module, name=info.name)
        except (PluginError, ValueError) as error:  # ValueError: one module under two names
            self.add(attrs.evolve(info, error=str(error)))
            return
        self._modules[_key(info)] = module
        self.add(attrs.evolve(info, path=str(module.__file__ or info.path), hooks=names))

    def add_missing(self, environ: Mapping[str, str]) -> None:
        """Enter what the allow list names and nothing provides: asked for and absent is an error, not a wish."""
        present = {info.name for info in self.plugins}
        wanted = (names_in(environ, ALLOW) or set()) - (names_in(environ, BLOCK) or set())
        for name in sorted(wanted - present):
            error = f"{ALLOW} names it, and no installed distribution has it; {did_you_mean(name, present)}"
            self.add(PluginInfo(name=name, distribution="not installed", version="", error=error))

    def ask(self, hook: str) -> Iterator[tuple[PluginInfo, Any]]:
        """Call one hook of each plugin; one that raises is broken from then on."""
        for key, module in list(self._modules.items()):
            info = self._infos[key]
            if hook not in info.hooks:
                continue
            others = [other for other in self._modules.values() if other is not module]
            try:
                answers = self._manager.subset_hook_caller(hook, others)()
            except (Exception, SystemExit) as error:
                self.fail(info, f"{hook}() raised {say(error)}")
            else:
                yield info, next(iter(answers), None)  # pluggy leaves out an answer of None

    def fail(self, info: PluginInfo, error: str) -> None:
        """Note what is wrong with a plugin, besides what is known already."""
        known = self._infos[_key(info)]
        self._infos[_key(info)] = attrs.evolve(
            known, error=f"{known.error}; {error}" if known.error else error
        )

    def registry(self) -> Registry:
        """Call the five hooks that name classes, and put together what they return."""
        together: dict[str, Any] = {
            kind: {name: thing for _, things in self.collect(kind) for name, thing in things.items()}
            for kind in KINDS
        }
        return Registry(**together, plugins=self.plugins)

    def collect(self, kind: str) -> Iterator[tuple[PluginInfo, Mapping[str, Any]]]:
        """Call the hook of one kind; yield what each plugin adds, but for names that another has already."""
        owners: dict[str, PluginInfo] = {}
        for info, answer in self.ask(f"pythia_register_{kind}"):
            if fault := not_a_mapping(answer):
                self.fail(info, f"pythia_register_{kind}() {fault}")
                continue
            free = {
                name: thing for name, thing in answer.items() if self._claim(owners, KINDS[kind], name, info)
            }
            yield info, free

    def commands(self) -> tuple[click.Command, ...]:
        """Call the hook for commands, and return what all plugins add."""
        return tuple(command for _, commands in self.collect_commands() for command in commands)

    def collect_commands(self) -> Iterator[tuple[PluginInfo, Sequence[click.Command]]]:
        """Call the hook for commands; yield what each plugin adds, but for names that another has already."""
        owners: dict[str, PluginInfo] = {}
        for info, answer in self.ask("pythia_register_commands"):
            listed = self._listed(info, answer)
            free = [command for command in listed if self._claim(owners, "command", command.name or "", info)]
            yield info, free

    def _claim(self, owners: dict[str, PluginInfo], word: str, name: str, info: PluginInfo) -> bool:
        """Give a name to the first plugin that wants it; for the second that is an error."""
        owner = owners.setdefault(name, info)
        if owner is not info:
            self.fail(info, f"{word} {name!r} is {owner}'s already; only one may have the name")
        return owner is info

    def _listed(self, info: PluginInfo, answer: Any) -> Sequence[click.Command]:
        import click

        if isinstance(answer, Sequence) and all(isinstance(command, click.Command) for command in answer):
            return answer
        self.fail(info, f"pythia_register_commands() returned {answer!r:.100}, not a list of click commands")
        return ()


def _specifications() -> ModuleType:
    """Return the hooks' module with each hook marked as one; the marks live here so that hooks.py reads plainly."""
    mark = pluggy.HookspecMarker(GROUP)
    for name in hooks.__all__:
        mark(getattr(hooks, name))
    return hooks


def _key(info: PluginInfo) -> tuple[str, str]:
    return info.name, info.distribution
