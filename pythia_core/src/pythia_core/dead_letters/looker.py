"""Runs an engine over dead letters, one at a time, until no more come: for whoever replays them or only shows them.

It stands apart from both because it knows when they have all been seen, and nothing of what is done with one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import attrs

from pythia_core.contracts import Message, Partition, Source, Telemetry
from pythia_core.engine.engine import Engine
from pythia_core.errors import ConfigError, Retry
from pythia_core.settings import BrakePolicy, Limits, Settings

__all__ = ["Looker", "count", "give_back"]

log = logging.getLogger("pythia.replay")

QUIET_SECONDS = (
    0.75  # without a letter, after which the broker is asked whether there are more; a fetch waits 0.5 s
)
UNKNOWN_SECONDS = 2.0  # the same, where the broker does not know how many there are
PATIENCE_SECONDS = (
    10.0  # the same, where it says that there are more: they are another's, or more than it lets out
)
LOOK_SECONDS = 0.05
ASK_SECONDS = 0.5
CONNECT_SECONDS = 10.0

SETTINGS = Settings(
    batch_timeout=0.05,  # seconds between settlements: what a kill may have repeated
    max_concurrent_tasks=1,
    order="none",  # one at a time in the order of arrival; by key, one letter that stays would hold up its key
    drain_timeout=10.0,
    limits=Limits(messages=1 << 30, bytes=1 << 30, message_bytes=1 << 40, span=1 << 30),
    brake=BrakePolicy(share=1),  # off: letters that stay are parked by a failure, and there may be hundreds
)


@attrs.define(eq=False)
class Looker(Telemetry):
    """Runs an engine over letters until no more of them come.

    Args:
        reader: where they lie.
        handle: called with each, one at a time; what it raises by :func:`give_back` stays.
    """

    reader: Source
    handle: Callable[[Message[Any]], Any]
    ended: bool = attrs.field(default=False, init=False)
    _assigned: int = attrs.field(default=0, init=False)
    _end: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """Take note that letters may come from now on."""
        self._assigned += 1

    def end(self) -> None:
        """Have the present letter be the last."""
        self.ended = True
        self._end.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep; give the present letter back if this ends meanwhile."""
        with anyio.move_on_after(seconds):
            await self._end.wait()
        if self.ended:
            raise give_back()

    async def run(self) -> None:
        """Look at all letters."""
        engine = Engine(self.reader, self._one, SETTINGS, name="dead-letters", telemetry=[self])
        wrong: ConfigError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._stop_at_the_end, engine)
            try:
                await engine.run()
            except ConfigError as error:
                wrong = error
            group.cancel_scope.cancel()
        if wrong is not None:
            raise wrong

    async def _one(self, message: Message[Any]) -> None:
        if self.ended:
            raise give_back()
        await self.handle(message)

    async def _stop_at_the_end(self, engine: Engine) -> None:
        before, since = (-1, -1), anyio.current_time()
        while not self.ended:
            now, present = anyio.current_time(), (self._assigned, engine.stats.received)
            if present != before or not self._is_idle(engine):
                before, since = present, now
            elif now - since < QUIET_SECONDS:
                pass
            elif await self._is_over(engine, now - since):
                break
            else:
                await self._pause(ASK_SECONDS)
            await self._pause(LOOK_SECONDS)
        engine.stop("there is nothing more to do")

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._end.wait()

    async def _is_over(self, engine: Engine, quiet: float) -> bool:
        """Tell whether no more letters are to come, by what the broker counts: more than are held here are not here yet."""
        try:
            left = await count(self.reader)
        except ConfigError as error:
            log.warning("it is not known whether there is more to do: %s", error)
            return False
        if left is None:
            return quiet >= UNKNOWN_SECONDS
        return left <= engine.stats.in_flight or quiet >= PATIENCE_SECONDS

    def _is_idle(self, engine: Engine) -> bool:
        """Tell whether letters could come and none is at work."""
        return (
            bool(self._assigned) and engine.health().ready and engine.stats.in_flight == len(engine.parking)
        )


def give_back() -> Retry:
    """Return what a handler raises to have a letter released at the end, and not before."""
    return Retry(math.inf, "it stays")


async def count(reader: Source) -> int | None:
    """Return how many letters there are, or None if nobody knows.

    Raises:
        ConfigError: if they cannot be reached.
    """
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            async with reader.inspect() as inspector:
                backlog = await inspector.backlog()
    except ConfigError:
        raise
    except TimeoutError:
        raise ConfigError(f"{reader.name} did not answer within {CONNECT_SECONDS:g} s") from None
    except Exception as error:
        raise ConfigError(f"{reader.name} cannot be reached: {error}") from error
    if backlog.waiting is None or backlog.at_least:
        return None
    return backlog.waiting + (backlog.in_flight or 0)
