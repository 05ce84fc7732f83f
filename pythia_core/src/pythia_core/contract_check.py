"""Whether a class that a plugin registers keeps to its contract, as far as looking at it can tell.

``pythia plugins check`` and the conformance suite ask it. What a class does, only running it tells.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from pythia_core.config.schema import options_of
from pythia_core.contracts import Middleware, Sink, Source, Telemetry
from pythia_core.errors import ConfigError

__all__ = ["contract_faults"]

CONTRACTS: dict[str, type] = {
    "sources": Source,
    "sinks": Sink,
    "middleware": Middleware,
    "telemetry": Telemetry,
}


def contract_faults(kind: str, factory: Callable[..., Any]) -> Iterator[str]:
    """Yield one sentence for each way in which ``factory`` fails the contract of its kind.

    Args:
        kind: ``sources``, ``sinks``, ``middleware``, ``scaling_policies`` or ``telemetry``.
        factory: what the plugin registered.
    """
    if kind in ("sources", "sinks"):
        yield from _class_faults(CONTRACTS[kind], factory)
    elif isinstance(factory, type):
        yield from _maker_faults(kind, factory)
    if kind not in ("sources", "sinks") or (isinstance(factory, type) and attrs.has(factory)):
        yield from _option_faults(factory)


def _class_faults(contract: type, factory: Any) -> Iterator[str]:
    name = contract.__name__
    if not isinstance(factory, type):
        yield f"it is {factory!r:.80}, not a class that implements {name}"
        return
    if not attrs.has(factory) or "__attrs_attrs__" not in vars(factory):
        yield "it is not an attrs class, so its options are unknown; put @attrs.frozen or @attrs.define on it"
    if not issubclass(factory, contract):
        yield f"it does not implement {name}; write class {factory.__name__}({name})"
        return
    yield from _missing(contract, factory)
    yield from _mismatches(contract, factory)


def _maker_faults(kind: str, factory: type) -> Iterator[str]:
    """Judge a class of the other kinds; of a function only its arguments are known."""
    contract = CONTRACTS.get(kind)
    if contract is None:
        if not callable(getattr(factory, "decide", None)):
            yield "it has no decide(snapshot, state)"
    elif issubclass(factory, contract):
        yield from _mismatches(contract, factory)
    else:
        yield f"it does not implement {contract.__name__}; write class {factory.__name__}({contract.__name__})"


def _missing(contract: type, factory: type) -> Iterator[str]:
    for name in dir(contract):
        if getattr(getattr(factory, name, None), "__isabstractmethod__", False):
            yield f"it lacks {name}, which {contract.__name__} demands"


def _mismatches(contract: type, factory: type) -> Iterator[str]:
    """Yield where a method cannot be called, or awaited, as the contract's is."""
    for name, original in inspect.getmembers(contract, inspect.isfunction):
        own = getattr(factory, name)
        if name.startswith("_") or own is original or not inspect.isfunction(own):
            continue
        if inspect.iscoroutinefunction(original) != inspect.iscoroutinefunction(own):
            word = "async" if inspect.iscoroutinefunction(original) else "a plain"
            yield f"{name} must be {word} function"
        if not _takes(own, original):
            yield f"{name}{inspect.signature(own)} cannot be called as {name}{inspect.signature(original)}"


def _takes(own: Callable[..., Any], original: Callable[..., Any]) -> bool:
    """Tell whether ``own`` takes what ``original`` is called with."""
    arguments = inspect.signature(original).parameters.values()
    positional = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
    named = {a.name: None for a in arguments if a.kind is a.KEYWORD_ONLY}
    try:
        inspect.signature(own).bind(*positional, **named)
    except TypeError:
        return False
    return True


def _option_faults(factory: Callable[..., Any]) -> Iterator[str]:
    try:
        options_of(factory)
    except (ConfigError, TypeError, ValueError) as error:
        yield str(error)
