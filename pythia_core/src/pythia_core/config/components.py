"""Make sources, sinks, middleware, policies and telemetry from what configuration says of them, by their kind.

In a file: ``[worker.source] kind = "redis"`` and options, or ``middleware = ["rate-limit"]`` for those without options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from pythia_core.config.schema import build
from pythia_core.contracts import Middleware, Sink, Source, Telemetry
from pythia_core.errors import ConfigError
from pythia_core.nearest import did_you_mean

if TYPE_CHECKING:
    from pythia_core.plugins import Registry

__all__ = ["COMPONENTS", "Component", "make", "make_all"]


@attrs.frozen
class Component:
    """A setting that is an object.

    Args:
        registered: the part of the registry that knows its kinds.
        word: what errors call one.
        accepts: tells whether an object given in code is one.
        several: True if the setting is a list of them.
    """

    registered: str
    word: str
    accepts: Callable[[Any], bool]
    several: bool = False


def _instance_of(contract: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, contract)


COMPONENTS: Mapping[str, Component] = {
    "source": Component("sources", "source", _instance_of(Source)),
    "sink": Component("sinks", "sink", _instance_of(Sink)),
    "dead_letter": Component("sinks", "sink", _instance_of(Sink)),
    "scaling": Component("scaling_policies", "scaling policy", lambda value: hasattr(value, "decide")),
    "middleware": Component("middleware", "middleware", _instance_of(Middleware), several=True),
    "telemetry": Component("telemetry", "telemetry", _instance_of(Telemetry), several=True),
}


def make(name: str, value: Any, origin: str, registry: Callable[[], Registry]) -> Any:
    """Return the object that ``value`` is or describes: an object, a kind, or a table with a kind and options.

    Raises:
        ConfigError: naming the setting, where it came from, and the kinds there are.
    """
    component = COMPONENTS[name]
    if component.accepts(value):
        return value
    kind, options = _described(name, value, origin)
    kinds: Mapping[str, Callable[..., Any]] = getattr(registry(), component.registered)
    if kind not in kinds:
        raise ConfigError(
            f"there is no {component.word} {kind!r} ({origin}); {did_you_mean(kind, kinds)}{_WHY}"
        )
    return build(kinds[kind], options, what=f"{component.word} {kind}", origin=origin)


_WHY = ". A plugin must be installed to be known, see: pythia plugins list"


def make_all(name: str, value: Any, origin: str, registry: Callable[[], Registry]) -> tuple[Any, ...]:
    """Return the objects of a setting that is a list; a text names kinds, with commas between."""
    if isinstance(value, str):
        value = [kind.strip() for kind in value.split(",") if kind.strip()]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} is a {type(value).__name__} ({origin}); it must be a list")
    return tuple(make(name, item, origin, registry) for item in value)


def _described(name: str, value: Any, origin: str) -> tuple[str, dict[str, Any]]:
    """Return kind and options from a kind alone or a table."""
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and isinstance(value.get("kind"), str):
        return value["kind"], {option: item for option, item in value.items() if option != "kind"}
    if isinstance(value, Mapping):
        raise ConfigError(f'{name} has no kind ({origin}); say which with kind = "..."')
    raise ConfigError(f"{name} is a {type(value).__name__} ({origin}), which is no {COMPONENTS[name].word}")
