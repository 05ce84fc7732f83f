"""Opens a worker's resources, one copy for each, and closes them again, whatever happened in between."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import anyio
import attrs

from pythia_core.contracts import Resource
from pythia_core.errors import ConfigError
from pythia_core.worker import NoSink, Worker

__all__ = ["CLOSE_SECONDS", "Resources", "held"]

Held = TypeVar("Held")

CLOSE_SECONDS = 3.0
"""All are closed at once, so that this is what the closing takes in all. A kill comes 10 s after the drain: 1 s is the
subscription's, 5 s are ``shutdown()``'s, these 3 s, and one is left."""

log = logging.getLogger("pythia.worker")

Open = Callable[[Resource], Awaitable[None]]


@attrs.define(eq=False)
class Resources:
    """The opened copies of one worker's resources.

    Invariants: an original has one copy, however many attributes name it; a copy that was begun to open is closed;
    after ``aclose`` the worker's attributes are what they were; nothing is opened that could hold more connections to
    brokers than the worker may.

    Args:
        worker: whose attributes are looked through.
        open: opens a copy, and decides how often to try.
        most: connections to brokers that the worker may hold, its source's with them.
        taken: how many of them the source may hold.
    """

    worker: Worker[Any]
    open: Open
    most: int
    taken: int
    _copies: dict[int, tuple[Resource, Resource]] = attrs.field(factory=dict, init=False)
    _replaced: dict[str, tuple[Any, Resource]] = attrs.field(factory=dict, init=False)

    async def open_all(self) -> None:
        """Open what the worker's attributes hold and is not open yet, and put the copies in their place."""
        for name, resource in list(held(self.worker, Resource)):
            if not isinstance(resource, NoSink) and not self._is_copy(resource):
                copy = await self.copy_of(resource)
                self._replaced.setdefault(name, (vars(self.worker).get(name, _CLASS), copy))
                setattr(self.worker, name, copy)

    async def copy_of(self, resource: Resource) -> Any:
        """Return the opened copy of a resource."""
        if id(resource) in self._copies:
            return self._copies[id(resource)][1]
        self._check_room(resource)
        copy = resource.fresh()
        self._copies[id(resource)] = (resource, copy)  # the original is kept, so that its id stays its own
        await self.open(copy)
        return copy

    async def aclose(self) -> None:
        """Close every copy, all at once and within 3 s, and give the worker its originals back."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for _, copy in self._copies.values():
                    group.start_soon(_close, copy)
        for name, (before, copy) in self._replaced.items():
            if vars(self.worker).get(name) is copy:
                delattr(self.worker, name) if before is _CLASS else setattr(self.worker, name, before)
        self._copies.clear()
        self._replaced.clear()

    def _check_room(self, resource: Resource) -> None:
        held = [original for original, _ in self._copies.values()] + [resource]
        need = self.taken + sum(each.broker_connections for each in held)
        if need > self.most:
            names = ", ".join(f"{type(each).__name__} {n}" for each in held if (n := each.broker_connections))
            raise ConfigError(
                f"max_connections is {self.most}, but {type(self.worker).__name__} may hold {need} connections to brokers: "
                f"its source {self.taken}, {names}; raise the one, or have it hold fewer producers and admins"
            )

    def _is_copy(self, resource: Resource) -> bool:
        return any(copy is resource for _, copy in self._copies.values())


_CLASS = object()  # the attribute was the class's


def held(worker: Worker[Any], contract: type[Held]) -> Iterator[tuple[str, Held]]:
    """Yield what keeps to a contract among a worker's attributes, as an access would find them."""
    attributes: dict[str, Any] = {}
    for kind in reversed(type(worker).__mro__):
        attributes.update(vars(kind))
    attributes.update(vars(worker))
    for name, value in attributes.items():
        if isinstance(value, contract):
            yield name, value


async def _close(resource: Resource) -> None:
    what = type(resource).__name__
    with anyio.move_on_after(CLOSE_SECONDS) as scope:
        try:
            await resource.aclose()
        except Exception as error:
            log.warning("closing %s failed: %s: %s", what, type(error).__name__, error)
    if scope.cancelled_caught:
        log.error("%s did not close within %g s", what, CLOSE_SECONDS)
