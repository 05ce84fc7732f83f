"""What the engine calls for each message, made of a worker's ``process`` or ``process_batch``, once, at start."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pythia_core.contracts import Handler
from pythia_core.errors import ConfigError
from pythia_core.nearest import nearest
from pythia_core.offloading import in_thread
from pythia_core.worker import Worker

__all__ = ["guess", "is_async", "make_handler", "takes_batches"]

PROCESS = ("process", "process_batch")


def takes_batches(worker: Worker[Any]) -> bool:
    """Tell whether the worker overrides ``process_batch``."""
    return _overrides(worker, "process_batch")


def is_async(worker: Worker[Any]) -> bool:
    """Tell whether the worker's handler runs in the event loop, and not in a thread."""
    return inspect.iscoroutinefunction(getattr(worker, _name(worker) or "process"))


def _name(worker: Worker[Any]) -> str | None:
    return next((name for name in reversed(PROCESS) if _overrides(worker, name)), None)


def make_handler(worker: Worker[Any]) -> Handler:
    """Return the worker's method, or what runs it in a thread if it is a plain function.

    Raises:
        ConfigError: if there is none, or it is a generator.
    """
    name = _name(worker)
    if name is None:
        raise ConfigError(
            f"{type(worker).__name__} defines neither process(self, message) nor process_batch(self, messages)"
            f"{guess(type(worker))}"
        )
    method = getattr(worker, name)
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise ConfigError(
            f"{type(worker).__name__}.{name} yields; return a value, an Output, or a list of Outputs instead"
        )
    return method if inspect.iscoroutinefunction(method) else _threaded(method)


def _overrides(worker: Worker[Any], name: str) -> bool:
    return name in vars(worker) or getattr(type(worker), name) is not getattr(Worker, name)


def guess(kind: type[Worker[Any]]) -> str:
    """Return which method was perhaps meant to be the handler, in words that follow others, or nothing."""
    own = [name for each in kind.__mro__ if issubclass(each, Worker) for name in vars(each)]
    known = set(dir(Worker))
    meant = nearest("process", [name for name in own if name not in known])
    return f"; was {meant} meant to be process?" if meant else ""


def _threaded(function: Callable[[Any], Any]) -> Handler:
    def call(message: Any) -> tuple[Any]:
        return (function(message),)  # packed, since trio refuses a thread that returns a coroutine

    async def handle(message: Any) -> Any:
        (result,) = await in_thread(call, message)
        # A decorator may hide that the function is a coroutine function; then its coroutine comes back.
        return await result if inspect.isawaitable(result) else result

    return handle
