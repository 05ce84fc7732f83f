"""Deduplication: work that was done for a message is not done again when the message, or its copy, comes once more.

Pythia delivers at least once: a crash between the work and its acknowledgement repeats the work, and a producer that got
no answer sends twice. What has been done is remembered here by the message's identity.

Invariants:

- A message is skipped only if a handler has returned for its identity (no loss).
- Its outputs are not remembered: whoever returns outputs has not done the work until they are confirmed, which a
  middleware never hears. Such a message is worked on again, as without deduplication.
- Two do not work on one identity at a time, but for a ``lease`` that has run out.
- What failed, was cut off or was rejected is forgotten, so that a retry or a replay runs.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Literal

import anyio
import attrs

from pythia_core.clock import Clock, loop_clock
from pythia_core.contracts import (
    Admission,
    Handler,
    IdempotencyStore,
    Message,
    Middleware,
    Phase,
    Resource,
    Seen,
)
from pythia_core.errors import BatchError, ConfigError, Retry, Skip
from pythia_core.middleware.reach import Reach

__all__ = ["Deduplicate", "MemoryIdempotencyStore"]

log = logging.getLogger("pythia.middleware")

FORGET_SECONDS = 2.0  # to forget what was cut off, while everything else is being stopped


@attrs.define(eq=False, slots=False)  # so that it can be copied before it is opened
class MemoryIdempotencyStore(IdempotencyStore):
    """Remembers within one process: for copies that a producer sends twice, not for what a crash repeats.

    Args:
        most: identities that are kept; the oldest is forgotten first.
    """

    most: int = 100_000
    _known: OrderedDict[str, tuple[str, float]] = attrs.field(factory=OrderedDict, init=False, repr=False)
    _clock: Clock = attrs.field(init=False, repr=False)

    async def open(self) -> None:
        """Begin with nothing known."""
        self._known, self._clock = OrderedDict(), loop_clock()

    async def begin(self, identity: str, owner: str, lease: float) -> tuple[Seen, float]:
        """See :meth:`IdempotencyStore.begin`."""
        now = self._clock()
        holder, until = self._known.get(identity, ("", now))
        if until > now and holder != owner:
            return (Seen.RUNNING, until - now) if holder else (Seen.DONE, 0.0)
        self._remember(identity, owner, now + lease)
        return Seen.NEVER, 0.0

    async def finish(self, identity: str, keep: float) -> None:
        """See :meth:`IdempotencyStore.finish`."""
        self._remember(identity, "", self._clock() + keep)

    async def forget(self, identity: str, owner: str) -> None:
        """See :meth:`IdempotencyStore.forget`."""
        if self._known.get(identity, ("", 0.0))[0] == owner:
            del self._known[identity]

    def _remember(self, identity: str, holder: str, until: float) -> None:
        self._known[identity] = (holder, until)
        self._known.move_to_end(identity)
        while len(self._known) > self.most:
            self._known.popitem(last=False)


@attrs.define(eq=False, slots=False)  # so that it can be copied before it is opened
class Deduplicate(Middleware, Resource):
    """Skip what has been done already.

    Args:
        store: where it is remembered; in this process's memory if left out, which a restart forgets.
        identity: the header that has the identity, such as ``idempotency-key``, or a function of the message that
            returns it; the message's own ``id`` if left out, which is the broker's and so finds what is delivered
            again, but not what was sent twice. A message without one is not deduplicated.
        keep: seconds for which it is remembered (a day).
        lease: seconds a handler may take; after a crash its messages wait so long.
        without_store: ``wait`` holds messages back while the store is out of reach; ``run`` works on them as if there
            were no deduplication, and counts them in :attr:`unchecked`.

    Raises:
        ConfigError: if a value is out of bounds.

    Example:
        ::

            config = WorkerConfig(middleware=[Deduplicate(RedisIdempotencyStore("orders"), identity="order-id")])
    """

    store: IdempotencyStore = attrs.field(factory=MemoryIdempotencyStore)
    identity: str | Callable[[Message[Any]], str | None] = ""
    keep: float = 86_400.0
    lease: float = 60.0
    without_store: Literal["wait", "run"] = "wait"
    skipped: int = attrs.field(default=0, init=False)
    unchecked: int = attrs.field(default=0, init=False)
    _owners: Iterator[str] = attrs.field(init=False, repr=False)  # one for each attempt
    _reach: Reach = attrs.field(init=False, repr=False)
    _told: bool = attrs.field(default=False, init=False, repr=False)

    phase = Phase.DEDUPE

    def __attrs_post_init__(self) -> None:
        for name in ("keep", "lease"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0 seconds")
        if self.without_store not in ("wait", "run"):
            raise ConfigError(f"without_store is {self.without_store!r}; it must be 'wait' or 'run'")

    @property
    def broker_connections(self) -> int:
        """Those of the store."""
        return self.store.broker_connections

    async def open(self) -> None:
        """Open a store of our own."""
        process = secrets.token_hex(6)
        self._owners = (f"{process}-{number}" for number in itertools.count())
        self._reach = Reach("the idempotency store")
        self.store = self.store.fresh()
        await self.store.open()

    async def aclose(self) -> None:
        """Close it."""
        await self.store.aclose()

    def admit(self, count: int) -> Admission:
        """Let nothing in while messages would only wait for the store."""
        waits = self._reach.down and self.without_store == "wait"
        return Admission(0, 1.0) if waits else Admission(count)

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that is not called for what is done."""

        async def once(message: Any) -> Any:
            if isinstance(message, list):
                return await self._batch(handler, message)
            return await self._single(handler, message)

        return once

    async def _single(self, handler: Handler, message: Message[Any]) -> Any:
        identity = self._identify(message)
        if not identity:
            return await handler(message)
        owner = next(self._owners)
        seen, left = await self._begin(identity, owner)
        if seen is Seen.DONE:
            self.skipped += 1
            raise Skip(f"{identity!r} was done before")
        if seen is Seen.RUNNING:
            raise Retry(left, f"{identity!r} is being worked on")
        return await self._work(handler, message, [identity], owner)

    async def _batch(self, handler: Handler, messages: list[Message[Any]]) -> Any:
        """Work on those of a batch that are not done; if somebody else is at one of them, on all of them later."""
        owner = next(self._owners)
        taken: list[str] = []
        todo: list[Message[Any]] = []
        busy: dict[int, float] = {}
        for index, message in enumerate(messages):
            identity = self._identify(message)
            if identity in taken:
                seen, left = Seen.RUNNING, 0.0
            else:
                seen, left = await self._begin(identity, owner) if identity else (Seen.NEVER, 0.0)
            if seen is Seen.RUNNING:
                busy[index] = left
            elif seen is Seen.DONE:
                self.skipped += 1
            else:
                todo.append(message)
                taken += [identity] if identity else []
        if busy:
            await self._forget(taken, owner)
            text = "some of its batch is being worked on"
            raise BatchError({index: Retry(busy.get(index, 0.0), text) for index in range(len(messages))})
        try:
            return await self._work(handler, todo, taken, owner) if todo else None
        except BatchError as error:
            places = {id(message): index for index, message in enumerate(messages)}
            raise BatchError(
                {places[id(todo[at])]: reason for at, reason in error.errors.items() if at < len(todo)}
            ) from error

    async def _work(self, handler: Handler, work: Any, identities: list[str], owner: str) -> Any:
        try:
            result = await handler(work)
        except Skip:
            await self._finish(identities)
            raise
        except BatchError as error:
            first = min(error.errors, default=0)  # what stands behind it may be void, and run again
            before = [self._identify(message) for message in work[:first]]
            await self._finish([identity for identity in before if identity])
            await self._forget([identity for identity in identities if identity not in before], owner)
            raise
        except BaseException:
            await self._forget(identities, owner)
            raise
        if result is None:
            await self._finish(identities)
        else:
            self._tell_of_outputs()
            await self._forget(identities, owner)
        return result

    def _identify(self, message: Message[Any]) -> str:
        if not isinstance(self.identity, str):
            return self.identity(message) or ""
        value: Any = message.headers.get(self.identity) if self.identity else message.id
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value or ""

    async def _begin(self, identity: str, owner: str) -> tuple[Seen, float]:
        known: tuple[Seen, float] = await self._ask(
            partial(self.store.begin, identity, owner, self.lease), otherwise=(Seen.NEVER, 0.0)
        )
        return known

    async def _finish(self, identities: list[str]) -> None:
        for identity in identities:
            await self._ask(partial(self.store.finish, identity, self.keep), otherwise=None)

    async def _ask(self, question: Callable[[], Awaitable[Any]], *, otherwise: Any) -> Any:
        if self.without_store == "wait":
            return await self._reach.insist(question)
        try:
            return await self._reach.ask(question)
        except Exception:
            self.unchecked += 1
            return otherwise

    async def _forget(self, identities: list[str], owner: str) -> None:
        """Give identities back; where that fails, their lease ends by itself."""
        with anyio.move_on_after(FORGET_SECONDS, shield=True):
            for identity in identities:
                try:
                    await self._reach.ask(partial(self.store.forget, identity, owner))
                except Exception:
                    return

    def _tell_of_outputs(self) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "the handler returns outputs, so its messages cannot be deduplicated: await sink.send() in the "
                "handler instead, or remove the middleware"
            )
