"""The result: every setting's value, once, at start, and where it came from."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from pythia_core.codecs import CODECS, JSON, ByContentType, Codec, Typed
from pythia_core.config import layers
from pythia_core.config.components import COMPONENTS, make, make_all
from pythia_core.config.fields import FIELDS, GROUPS, LogFormat, LogLevel, fit
from pythia_core.config.layers import Said
from pythia_core.config.showing import show
from pythia_core.config.worker_config import UNSET, Unset, WorkerConfig
from pythia_core.contracts import Middleware, ScalingPolicy, Sink, Source, Telemetry
from pythia_core.errors import ConfigError
from pythia_core.nearest import did_you_mean
from pythia_core.settings import Settings

if TYPE_CHECKING:
    from pythia_core.plugins import Registry

__all__ = ["Resolved", "Row", "resolve"]


@attrs.frozen
class Row:
    """One setting as ``pythia config`` shows it: secrets are masked."""

    name: str
    value: str
    origin: str


@attrs.frozen(kw_only=True)
class Resolved:
    """What a worker runs by.

    Args:
        settings: the engine's part.
        source, sink: those a file or the environment describes; UNSET if none does. Code's own come first.
        dead_letter: a sink, None for none, or UNSET for the source's natural place.
        middleware, telemetry: made, in the order of configuration.
        scaling: the policy, or None for a fixed number.
        codec: what decodes bodies.
        body_type: what bodies are made into, or None.
        log_level, log_format, uvloop, gc_threshold: as in :class:`WorkerConfig`.
        origin: where each setting came from, by its name: ``environment PYTHIA_BATCH_SIZE``.
        warnings: what was said and is not used, one sentence each.
    """

    settings: Settings
    source: Source | Unset = UNSET
    sink: Sink | Unset = UNSET
    dead_letter: Sink | Unset | None = UNSET
    middleware: tuple[Middleware, ...] = ()
    telemetry: tuple[Telemetry, ...] = ()
    scaling: ScalingPolicy | None = None
    codec: Codec = JSON
    body_type: Any = None
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    uvloop: bool = False
    gc_threshold: int = 20_000
    origin: Mapping[str, str] = attrs.field(factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def body_codec(self) -> Codec:
        """The codec that the engine is to use: it also makes bodies into ``body_type``, if there is one."""
        return self.codec if self.body_type is None else Typed(self.codec, self.body_type)

    def rows(self) -> tuple[Row, ...]:
        """Return every setting: where messages come from and go to, then numbers, then the rest."""
        return tuple(Row(name, _shown(name, self.value(name)), self.origin[name]) for name in self.origin)

    def value(self, name: str) -> Any:
        """Return a setting by its full name, such as ``retry.attempts``."""
        found: Any = self if hasattr(self, name.partition(".")[0]) else self.settings
        for part in name.split("."):
            found = getattr(found, part)
        return found


_NOTHING: Mapping[str, str] = {
    "source": "none",
    "sink": "none",
    "dead_letter": "the source's natural place",
}
_NONE: Mapping[str, str] = {
    "order": "as the source orders",
    "max_memory_mb": "no bound",
    "max_cpu_percent": "no bound",
    "handler_timeout": "no bound",
}


def _shown(name: str, value: Any) -> str:
    if value is UNSET:
        return _NOTHING[name]
    if value is None or value == ():
        return _NONE.get(name, "none")
    if name == "codec":
        return str(value.name)
    if name == "body_type" and isinstance(value, type):
        return value.__qualname__
    if name in COMPONENTS and COMPONENTS[name].several:
        return ", ".join(show(item) for item in value)
    return show(value)


def resolve(
    config: WorkerConfig | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str],
    file: Path | None = None,
    worker: str = "",
    registry: Registry | None = None,
) -> Resolved:
    """Return what a worker runs by.

    Args:
        config: what its author gave in code.
        overrides: what the command line gave, by name; None counts as not given.
        environ: the environment.
        file: a TOML file; None takes PYTHIA_CONFIG, if it is set.
        worker: its name, for ``[worker.NAME]``.
        registry: what plugins add; None loads them if a kind is named.

    Raises:
        ConfigError: naming the setting, its value, where it came from and what is allowed.
        PluginError: if a kind is named and a plugin is broken.
    """
    said = _said(config, overrides or {}, environ, file, worker)
    maker = _Maker(said, _known(registry, environ))
    return Resolved(
        settings=maker.settings(),
        **maker.components(),
        codec=maker.codec(),
        body_type=maker.body_type(),
        log_level=maker.plain("log_level"),
        log_format=maker.plain("log_format"),
        uvloop=maker.plain("uvloop"),
        gc_threshold=maker.plain("gc_threshold"),
        origin={name: said[name].origin if name in said else "default" for name in _ORDER},
        warnings=tuple(layers.warnings(environ)),
    )


_ORDER = (
    "source",
    "sink",
    "dead_letter",
    *FIELDS,
    "codec",
    "body_type",
    "middleware",
    "telemetry",
    "scaling",
)


def _said(
    config: WorkerConfig | None,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Path | None,
    worker: str,
) -> Mapping[str, Said]:
    """Return for each setting what was said in the first place that says anything."""
    if file is None and environ.get(layers.CONFIG_FILE):
        file = Path(environ[layers.CONFIG_FILE])
    places = [
        layers.from_command_line(overrides),
        layers.from_code(config),
        layers.from_environment(environ),
        *(layers.from_file(file, worker) if file else ()),
    ]
    return ChainMap(*(dict(place) for place in places))


def _known(registry: Registry | None, environ: Mapping[str, str]) -> Callable[[], Registry]:
    """Return a function that returns the registry, and loads it only if it is asked for."""

    @cache
    def known() -> Registry:
        if registry is not None:
            return registry
        from pythia_core import plugins

        return plugins.load(environ)

    return known


@attrs.frozen
class _Maker:
    """Makes each part of the result from what was said."""

    said: Mapping[str, Said]
    registry: Callable[[], Registry]

    def plain(self, name: str) -> Any:
        """Return a plain setting."""
        found = self.said.get(name)
        return FIELDS[name].default if found is None else fit(name, found.value, found.origin)

    def settings(self) -> Settings:
        """Return the engine's settings."""
        own = {
            field.name: self.plain(field.name) for field in attrs.fields(Settings) if field.name not in GROUPS
        }
        return Settings(**own, **{name: self._group(name, kind) for name, kind in GROUPS.items()})

    def _group(self, group: str, kind: type) -> Any:
        names = {field.name: f"{group}.{field.name}" for field in attrs.fields(kind)}
        values = {short: self.plain(name) for short, name in names.items()}
        try:
            return kind(**values)
        except ConfigError as error:  # they disagree with one another
            places = [f"{name}: {self.said[name].origin}" for name in names.values() if name in self.said]
            raise ConfigError(f"{error} ({', '.join(places)})") from None

    def components(self) -> dict[str, Any]:
        """Return those that were named, made."""
        return {name: self._component(name, self.said[name]) for name in COMPONENTS if name in self.said}

    def _component(self, name: str, said: Said) -> Any:
        value = said.value
        if COMPONENTS[name].several:
            return make_all(name, value, said.origin, self.registry)
        if name in ("dead_letter", "scaling") and value in (None, "none"):
            return None
        if name == "dead_letter" and value == "natural":
            return UNSET
        return make(name, value, said.origin, self.registry)

    def codec(self) -> Codec:
        """Return the codec, by its name if it was named; of several the content type chooses."""
        said = self.said.get("codec", Said(JSON, "default"))
        value, origin = said.value, said.origin
        if isinstance(value, str):
            value = [name.strip() for name in value.split(",")]
        if not isinstance(value, list | tuple):
            return _checked_codec(value, origin)
        codecs = [_named_codec(each, origin) for each in value]
        return codecs[0] if len(codecs) == 1 else ByContentType(codecs)

    def body_type(self) -> Any:
        """Return what bodies become, known to be possible; None if nothing is said."""
        if "body_type" not in self.said or self.said["body_type"].value is None:
            return None
        kind = self.said["body_type"].value
        from pythia_core import structuring  # late: cattrs takes 60 ms

        if why := structuring.unfit(kind):
            raise ConfigError(
                f"body_type is {structuring.name_of(kind)} ({self.said['body_type'].origin}), which no body can become: {why}; take an "
                "attrs class or a dataclass of str, int, float, bool, Decimal, dates, UUIDs, enumerations, lists, dicts and "
                "such classes, or a struct of msgspec, or a model of pydantic"
            )
        return kind


def _named_codec(value: Any, origin: str) -> Codec:
    if not isinstance(value, str):
        return _checked_codec(value, origin)
    if value not in CODECS:
        raise ConfigError(f"there is no codec {value!r} ({origin}); {did_you_mean(value, CODECS)}")
    return CODECS[value]


def _checked_codec(value: Any, origin: str) -> Codec:
    missing = [part for part in ("name", "content_type", "encode", "decode") if not hasattr(value, part)]
    if missing:
        raise ConfigError(f"codec is {value!r} ({origin}), which lacks {', '.join(missing)}")
    codec: Codec = value
    return codec
