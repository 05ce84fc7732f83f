"""What an entry point of the group ``pythia`` says about a plugin, whether it may be imported, and importing it.

It stands apart from :mod:`pythia_core.plugins`, which asks the hooks, because all of this comes before a plugin's first
line runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import attrs

from pythia_core.errors import PluginError
from pythia_core.version import version

__all__ = [
    "ALLOW",
    "BLOCK",
    "BUILT_IN_POINT",
    "GROUP",
    "PluginInfo",
    "blocked",
    "describe",
    "distribution_of",
    "duplicates",
    "import_plugin",
    "names_in",
    "say",
]

GROUP = "pythia"
ALLOW = "PYTHIA_PLUGINS"
BLOCK = "PYTHIA_DISABLE_PLUGINS"
BUILT_IN = "core"

# What is built in comes through the same door, as an entry point that no distribution needs to declare.
BUILT_IN_POINT = EntryPoint(BUILT_IN, "pythia_core.builtins", GROUP)


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


def distribution_of(point: EntryPoint) -> str:
    """Return the name of the distribution that declares it."""
    return point.dist.name if point.dist else "pythia-core"


def describe(point: EntryPoint) -> PluginInfo:
    """Return what is known of a plugin without importing it."""
    if point.dist is None:
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


def names_in(environ: Mapping[str, str], variable: str) -> set[str] | None:
    """Return the comma-separated names in a variable, or None if it is not set; set and empty means no name."""
    text = environ.get(variable)
    return None if text is None else {name.strip() for name in text.split(",") if name.strip()}


def blocked(point: EntryPoint, environ: Mapping[str, str]) -> str | None:
    """Return why a plugin may not be imported. The block list wins; what is built in needs no permission."""
    if point.name in (names_in(environ, BLOCK) or ()):
        return f"{BLOCK} names it"
    allowed = names_in(environ, ALLOW)
    if allowed is None or point is BUILT_IN_POINT or point.name in allowed:
        return None
    return f"{ALLOW} does not name it"


def duplicates(points: Sequence[EntryPoint]) -> dict[str, str]:
    """Return what is wrong with each name that several distributions claim.

    None of them is imported: which one was meant cannot be known, and one may be there to be mistaken for the other.
    """
    claims: dict[str, list[str]] = {}
    for point in points:
        claims.setdefault(point.name, []).append(f"{distribution_of(point)} ({point.value})")
    return {
        name: f"{len(owners)} distributions claim the plugin name {name!r}: {', '.join(owners)}; keep one of them"
        for name, owners in claims.items()
        if len(owners) > 1
    }


def import_plugin(point: EntryPoint) -> ModuleType:
    """Import a plugin's module.

    Raises:
        PluginError: whatever its code raised.
    """
    try:
        module = point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"importing {point.value} failed: {say(error)}") from error
    if not isinstance(module, ModuleType):
        raise PluginError(f"the entry point names {point.value}, which is not a module; name its plugin.py")
    return module


def say(error: BaseException) -> str:
    """Return an error as its class and text."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
