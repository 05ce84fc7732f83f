"""Finds, imports and asks plugins; the only module that knows pluggy.

It has its own loop over entry points, since pluggy's loader silently skips a second plugin of one name, stops at the
first broken one, and cannot block before importing. A broken plugin is a fact about one plugin (:attr:`PluginInfo.error`)
that :func:`load` refuses to run with and that ``pythia plugins`` and ``pythia check`` live through and report.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from pythia_core import hooks
from pythia_core.errors import PluginError
from pythia_core.nearest import did_you_mean
from pythia_core.plugin_rules import implemented, not_a_mapping

if TYPE_CHECKING:
    import click

    from pythia_core.contracts import Middleware, ScalingPolicy, Sink, Source, Telemetry

__all__ = ["Discovery", "PluginInfo", "Registry", "discover", "hookimpl", "load"]

GROUP = "pythia"
ALLOW = "PYTHIA_PLUGINS"
BLOCK = "PYTHIA_DISABLE_PLUGINS"
BUILT_IN = "core"
KINDS = ("sources", "sinks", "middleware", "scaling_policies", "telemetry")

hookimpl = pluggy.HookimplMarker(GROUP)
"""Marks a module's function as the implementation of the hook of the same name, see :mod:`pythia_core.hooks`."""

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class PluginInfo:
    """What is known of one plugin.

    Args:
        name: its entry point's name, or ``core`` for what is built in.
        distribution: which installed distribution it comes from.
        version: of that distribution.
        path: its file, or its package's folder if it was not imported; empty if unknown.
        hooks: those it implements.
        error: why it cannot be used, or None.
        blocked: why it was not imported, or None.
    """

    name: str
    distribution: str
    version: str
    path: str = ""
    hooks: tuple[str, ...] = ()
    error: str | None = None
    blocked: str | None = None

    @property
    def status(self) -> str:
        """One word: ``broken``, ``blocked`` or ``loaded``."""
        return "broken" if self.error else "blocked" if self.blocked else "loaded"

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


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
            _log.info("plugin %s %s of %s from %s", info.name, info.version, info.distribution, info.path)
    return registry


def discover(environ: Mapping[str, str]) -> Discovery:
    """Import the plugins that the environment allows, and call no hook. Never raises for a plugin's sake."""
    discovery = Discovery()
    found = sorted(entry_points(group=GROUP), key=lambda point: (point.name, _distribution(point)))
    owners: dict[str, EntryPoint] = {BUILT_IN: _BUILT_IN_POINT}
    for point in (_BUILT_IN_POINT, *found):
        info = _describe(point)
        if reason := _blocked(point, environ):
            discovery.add(attrs.evolve(info, blocked=reason))
        elif (owner := owners.setdefault(point.name, point)) is not point:
            discovery.add(attrs.evolve(info, error=_duplicate(point, owner)))
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
            module = _import(point)
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
        wanted = (_names(environ, ALLOW) or set()) - (_names(environ, BLOCK) or set())
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
                (answer,) = self._manager.subset_hook_caller(hook, others)()
            except Exception as error:
                self.fail(info, f"{hook}() raised {_say(error)}")
            else:
                yield info, answer

    def fail(self, info: PluginInfo, error: str) -> None:
        """Note what is wrong with a plugin, besides what is known already."""
        known = self._infos[_key(info)]
        self._infos[_key(info)] = attrs.evolve(
            known, error=f"{known.error}; {error}" if known.error else error
        )

    def registry(self) -> Registry:
        """Call the five hooks that name classes, and collect what they return."""
        collected: dict[str, Any] = {kind: self._collect(kind) for kind in KINDS}
        return Registry(**collected, plugins=self.plugins)

    def _collect(self, kind: str) -> dict[str, Any]:
        owners: dict[str, PluginInfo] = {}
        collected: dict[str, Any] = {}
        for info, answer in self.ask(f"pythia_register_{kind}"):
            if fault := not_a_mapping(answer):
                self.fail(info, f"pythia_register_{kind}() {fault}")
                continue
            for name, factory in answer.items():
                if (owner := owners.setdefault(name, info)) is not info:
                    self.fail(
                        info, f"{kind.rstrip('s')} {name!r} is {owner}'s already; only one may have the name"
                    )
                else:
                    collected[name] = factory
        return collected

    def commands(self) -> tuple[click.Command, ...]:
        """Call the hook for commands, and return those whose names are free."""
        owners: dict[str, PluginInfo] = {}
        collected: list[click.Command] = []
        for info, answer in self.ask("pythia_register_commands"):
            for command in self._listed(info, answer):
                if (owner := owners.setdefault(command.name or "", info)) is not info:
                    self.fail(
                        info, f"command {command.name!r} is {owner}'s already; only one may have the name"
                    )
                else:
                    collected.append(command)
        return tuple(collected)

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


# What is built in comes through the same door, as an entry point that no distribution needs to declare.
_BUILT_IN_POINT = EntryPoint(BUILT_IN, "pythia_core.builtins", GROUP)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "pythia-core"


def _describe(point: EntryPoint) -> PluginInfo:
    if point.dist is None:
        from pythia_core.version import version

        return PluginInfo(name=point.name, distribution="pythia-core", version=version())
    return PluginInfo(
        name=point.name,
        distribution=point.dist.name,
        version=point.dist.version,
        path=_folder(point.module),
    )


def _folder(module: str) -> str:
    """Return where a module's top-level package lies, found without importing it."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return ""
    return str(Path(spec.origin).parent) if spec and spec.origin else ""


def _names(environ: Mapping[str, str], variable: str) -> set[str] | None:
    """Return the comma-separated names in a variable, or None if it is not set; set and empty means no name."""
    text = environ.get(variable)
    return None if text is None else {name.strip() for name in text.split(",") if name.strip()}


def _blocked(point: EntryPoint, environ: Mapping[str, str]) -> str | None:
    """Return why a plugin may not be imported. The block list wins; what is built in needs no permission."""
    if point.name in (_names(environ, BLOCK) or ()):
        return f"{BLOCK} names it"
    allowed = _names(environ, ALLOW)
    if allowed is None or point is _BUILT_IN_POINT or point.name in allowed:
        return None
    return f"{ALLOW} does not name it"


def _duplicate(point: EntryPoint, owner: EntryPoint) -> str:
    return (
        f"two distributions claim the plugin name {point.name!r}: {_describe(owner).distribution} ({owner.value}) "
        f"and {_distribution(point)} ({point.value}); uninstall one of them"
    )


def _import(point: EntryPoint) -> ModuleType:
    try:
        module = point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"importing {point.value} failed: {_say(error)}") from error
    if not isinstance(module, ModuleType):
        raise PluginError(f"the entry point names {point.value}, which is not a module; name its plugin.py")
    return module


def _say(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
