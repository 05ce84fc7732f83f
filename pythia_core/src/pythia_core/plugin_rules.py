"""What makes a module a plugin and an answer of a hook acceptable: the rules that turn a silent mistake into an error.

They stand apart from :mod:`pythia_core.plugins`, which finds and asks; these only look.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from pythia_core import hooks
from pythia_core.errors import PluginError
from pythia_core.nearest import nearest

__all__ = ["implemented", "not_a_mapping"]

PREFIX = "pythia_"
MARK = "pythia_impl"  # where pluggy's marker for the project "pythia" puts its options
NAME = re.compile(r"[a-z][a-z0-9_-]*")


def implemented(module: ModuleType) -> Iterator[str]:
    """Yield the hooks that a module implements.

    Raises:
        PluginError: if a function is meant to be a hook and would never be called.
    """
    for name, function in vars(module).items():
        marked = getattr(function, MARK, None) is not None
        if not marked and not (name.startswith(PREFIX) and inspect.isfunction(function)):
            continue
        _check_hook(f"{module.__name__}.{name}", name, function, marked=marked)
        yield name


def _check_hook(where: str, name: str, function: Any, *, marked: bool) -> None:
    if name not in hooks.__all__:
        guess = nearest(name, hooks.__all__)
        meant = f"; did you mean {guess}?" if guess else ""
        raise PluginError(f"{where} is no hook of Pythia{meant} The hooks are: {', '.join(hooks.__all__)}")
    if not marked:
        raise PluginError(
            f"{where} is a hook but not marked as one, so it would never be called; put @hookimpl on it"
        )
    if inspect.iscoroutinefunction(function):
        raise PluginError(
            f"{where} is async; hooks are plain functions, called before there is an event loop"
        )
    if inspect.signature(function).parameters:
        raise PluginError(
            f"{where}{inspect.signature(function)} takes arguments; hooks take none: def {name}()"
        )
    options = getattr(function, MARK)
    if options["hookwrapper"] or options["wrapper"] or options["specname"]:
        raise PluginError(
            f"{where} uses an option of @hookimpl; Pythia's hooks only register, so use it bare"
        )


def not_a_mapping(answer: Any) -> str | None:
    """Return what is wrong with the answer to a hook that names classes."""
    if not isinstance(answer, Mapping):
        return f"returned {type(answer).__name__}, not a mapping of names to classes"
    for name, factory in answer.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            return f"names something {name!r}; names look like rate-limit: {NAME.pattern}"
        if not callable(factory):
            return f"returned for {name!r} {factory!r:.100}, which cannot be called to make one"
    return None
