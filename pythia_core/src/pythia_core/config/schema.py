"""Make a component (a source, a sink, a middleware) from the options a configuration or a command line gave it.

A component's own signature is the schema: an attrs class's fields, or a function's arguments. Nothing is declared twice,
and an error about an option names it, its value, where it came from and what is allowed.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

from pythia_core.config.showing import show
from pythia_core.config.values import Unfit, convert, describe
from pythia_core.errors import ConfigError
from pythia_core.nearest import did_you_mean
from pythia_core.secret import mask_url

__all__ = ["Option", "build", "options_of"]


@attrs.frozen
class Option:
    """One option of a component.

    Args:
        name: what configuration calls it.
        kind: its type.
        required: True if it has no default.
    """

    name: str
    kind: Any
    required: bool

    def __str__(self) -> str:
        return f"{self.name} ({describe(self.kind)}{'; required' if self.required else ''})"


def options_of(factory: Callable[..., Any]) -> dict[str, Option]:
    """Return a component's options by name.

    Raises:
        ConfigError: if its annotations name what cannot be found at run time.
    """
    if isinstance(factory, type) and attrs.has(factory):
        return _fields_of(factory)
    described = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    with _readable(factory):
        kinds = typing.get_type_hints(described, include_extras=True)
    return {
        name: Option(name, kinds.get(name, Any), argument.default is argument.empty)
        for name, argument in inspect.signature(factory).parameters.items()
        if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
    }


def _fields_of(factory: type) -> dict[str, Option]:
    """Return an attrs class's fields; what is no argument of its may be annotated for type checkers only."""
    fields = {field.name: field for field in attrs.fields(factory) if field.init}
    kinds: dict[str, Any] = {}
    with _readable(factory):
        for owner in reversed(factory.__mro__):
            said = {name: kind for name, kind in inspect.get_annotations(owner).items() if name in fields}
            only_those = type(owner.__name__, (), {"__annotations__": said})
            names = vars(sys.modules.get(owner.__module__, typing))
            kinds.update(
                typing.get_type_hints(only_those, globalns=names, localns=vars(owner), include_extras=True)
            )
    return {
        field.alias: Option(field.alias, kinds.get(name, Any), field.default is attrs.NOTHING)
        for name, field in fields.items()
    }


@contextmanager
def _readable(factory: Callable[..., Any]) -> Iterator[None]:
    """Turn an annotation that cannot be read into an error that says of what."""
    try:
        yield
    except NameError as error:
        raise ConfigError(
            f"the options of {_name(factory)} cannot be read from its annotations: {error}; "
            "import at run time what they name"
        ) from None


def build(factory: Callable[..., Any], given: Mapping[str, Any], *, what: str, origin: str) -> Any:
    """Return the component made with these options.

    Args:
        factory: an attrs class or any function.
        given: options by name; texts are converted to what each asks for.
        what: what errors call the component: ``source redis``.
        origin: where the options come from: ``file pythia.toml [worker.source]``.

    Raises:
        ConfigError: if an option is unknown, missing or does not fit, or the component refuses what it got.
    """
    options = options_of(factory)
    for name in given:
        if name not in options:
            raise ConfigError(f"{what} has no option {name!r} ({origin}); {did_you_mean(name, options)}")
    missing = [option for name, option in options.items() if option.required and name not in given]
    if missing:
        raise ConfigError(f"{what} needs {', '.join(map(str, missing))} ({origin})")
    values = {name: _fit(options[name], value, what, origin) for name, value in given.items()}
    try:
        return factory(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what} refuses its options ({origin}): {mask_url(str(error))}") from None
    except ConfigError as error:
        raise ConfigError(f"{what} ({origin}): {mask_url(str(error))}") from None


def _fit(option: Option, value: Any, what: str, origin: str) -> Any:
    try:
        return convert(value, option.kind)
    except Unfit as allowed:
        shown = show(value, option.kind)
        raise ConfigError(
            f"option {option.name} of {what} is {shown} ({origin}); it must be {allowed}"
        ) from None


def _name(factory: Callable[..., Any]) -> str:
    return getattr(factory, "__qualname__", repr(factory))
