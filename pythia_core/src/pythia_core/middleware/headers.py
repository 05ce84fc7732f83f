"""What a message's headers say decides whether it is worked on, and by which function; its body is never decoded for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from pythia_core.contracts import Handler, Message, Middleware
from pythia_core.errors import ConfigError, Reject, Skip

__all__ = ["HeaderFilter", "HeaderRoute"]


def _header(message: Message[Any], name: str) -> str | None:
    value: Any = message.headers.get(name)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _one_by_one(kind: str, message: Any) -> None:
    if isinstance(message, list):
        raise TypeError(f"{kind} decides about single messages; a worker with process_batch cannot have it")


@attrs.define(eq=False)
class HeaderFilter(Middleware):
    """Work only on messages with one of these values in a header; the others are skipped, and settled as done.

    Args:
        header: its name.
        values: what passes.
        missing: whether a message without the header passes.

    Raises:
        ConfigError: if no value is given.

    Example:
        ::

            config = WorkerConfig(middleware=[HeaderFilter("type", ["order.created", "order.changed"])])
    """

    header: str
    values: Collection[str]
    missing: bool = False

    def __attrs_post_init__(self) -> None:
        if isinstance(self.values, str) or not self.values:
            raise ConfigError(f"values is {self.values!r}; it must be a list of one or more values that pass")
        self.values = frozenset(self.values)

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that sees only what passes."""

        async def filtered(message: Any) -> Any:
            _one_by_one("HeaderFilter", message)
            value = _header(message, self.header)
            if value in self.values or (value is None and self.missing):
                return await handler(message)
            raise Skip(f"header {self.header} is {value!r:.100}")

        return filtered


@attrs.define(eq=False)
class HeaderRoute(Middleware):
    """Call another function than ``process``, by the value of a header.

    Args:
        header: its name.
        routes: for each value the async function that is called with the message.
        otherwise: what becomes of other messages: ``process`` gets them, or they are dead letters with ``reject``.

    Raises:
        ConfigError: if there are no routes.

    Example:
        ::

            config = WorkerConfig(middleware=[HeaderRoute("type", {"refund": refund, "order": order})])
    """

    header: str
    routes: Mapping[str, Handler]
    otherwise: str = "process"

    def __attrs_post_init__(self) -> None:
        if not self.routes:
            raise ConfigError("routes is empty; it must name a function for one value of the header at least")
        if self.otherwise not in ("process", "reject"):
            raise ConfigError(f"otherwise is {self.otherwise!r}; it must be 'process' or 'reject'")

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that looks for the route."""

        async def routed(message: Any) -> Any:
            _one_by_one("HeaderRoute", message)
            value = _header(message, self.header)
            route = self.routes.get(value) if value is not None else None
            if route is None and self.otherwise == "reject":
                raise Reject(f"no route for header {self.header} with {value!r:.100}")
            return await (route or handler)(message)

        return routed
