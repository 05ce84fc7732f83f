"""Prepares the one worker that a command is about, just as ``pythia run`` would, and runs nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pythia_core.errors import ConfigError
from pythia_core.loader import load_or_explain
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime
from pythia_core.worker import worker_name

__all__ = ["runtime_of"]


def runtime_of(
    target: str, *, environ: Mapping[str, str], file: Path | None = None, registry: Registry | None = None
) -> Runtime:
    """Return the only worker of a target, its settings and source resolved.

    Args:
        target: FILE or MODULE, perhaps with ``:CLASS``.
        environ: the environment variables.
        file: a configuration file.
        registry: what plugins add; found out unless given.

    Raises:
        ConfigError: if there are several workers and none is named, or something is wrong with it.
        PluginError: if a plugin is broken.
    """
    kind, *others = load_or_explain(target)
    if others:
        names = ", ".join(map(worker_name, [kind, *others]))
        raise ConfigError(f"{target} has several workers, {names}: name one, {target}:{kind.__name__}")
    return Runtime(kind(), environ=environ, file=file, registry=registry)
