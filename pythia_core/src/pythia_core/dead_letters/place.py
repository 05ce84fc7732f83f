"""Finds where the dead letters of a worker or of a source lie, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from pythia_core import plugins
from pythia_core.config import UNSET
from pythia_core.config.schema import build
from pythia_core.contracts import DEAD_LETTER_GROUP, Sink, Source, Start
from pythia_core.errors import ConfigError
from pythia_core.runtime import Runtime
from pythia_core.single import runtime_of

__all__ = ["Place", "place_of"]


@attrs.frozen
class Place:
    """Where dead letters lie.

    Args:
        source: where they came from, resolved.
        reader: reads them, resolved.
    """

    source: Source
    reader: Source


def place_of(
    target: str,
    options: Mapping[str, str],
    place: Mapping[str, str],
    *,
    environ: Mapping[str, str],
    file: Path | None = None,
) -> Place:
    """Return where the dead letters of a target lie.

    Args:
        target: a registered kind of source, or FILE or MODULE, perhaps with ``:CLASS``.
        options: of the kind.
        place: options of the source that reads the dead letters, where they are not in their natural place; of the
            same kind as the source.
        environ: the environment variables.
        file: a configuration file, for a worker.

    Raises:
        ConfigError: if they cannot be found; the text says what is missing.
        PluginError: if a plugin is broken.
    """
    registry = plugins.load(environ)
    start = Start(worker=DEAD_LETTER_GROUP, environ=environ)
    if target in registry.sources:
        made: Source = build(
            registry.sources[target], options, what=f"source {target}", origin="command line"
        )
        source, elsewhere = made.resolve(start), ""
    elif options:
        known = ", ".join(sorted(registry.sources))
        raise ConfigError(f"there is no source {target!r} that options could belong to; there are {known}")
    else:
        runtime = runtime_of(target, environ=environ, file=file, registry=registry)
        source, elsewhere = runtime.source, _elsewhere(runtime)
    if place:
        reader: Source = build(type(source), place, what="--place", origin="command line")
        return Place(source, reader.resolve(start))
    if elsewhere:
        raise ConfigError(
            f"the dead letters of {target} are not in their natural place: {elsewhere}; say how to read them, by "
            "--place OPTION=VALUE for each option of the source that does"
        )
    if (natural := source.dead_letters()) is None:
        raise ConfigError(f"{source.name} has no natural place for dead letters: name one by --place")
    return Place(source, natural[1])


def _elsewhere(runtime: Runtime) -> str:
    """Say where the configuration sends dead letters, or nothing if it does not."""
    chosen = runtime.resolved.dead_letter
    if chosen is UNSET:
        return ""
    return f"they go to {chosen.name}" if isinstance(chosen, Sink) else "it has none (dead_letter is None)"
