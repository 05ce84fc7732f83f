"""Workers that take many messages at once, for handlers that are cheaper per batch than per message.

Invariants:

- B1. A batch holds at most ``size`` messages; it begins when so many wait, or ``linger`` seconds after the first did.
- B2. With ordering, a batch holds only heads of keys: no key is in it twice, or in two batches at a time.
- B3. A batch that fails as a whole is run again by halves, so that the one message it failed for is found; a message that
  has failed before runs alone.
- B4. Every message of a batch is disposed of by itself: what the handler named as failed fails, the rest is done.

Messages stay queued until their batch begins, so a stop or a revoke gives them back unstarted. One worker at a time
waits for a batch to fill: else all of them would share out what comes in and none would ever be full.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import anyio

from pythia_core.contracts.message import Message
from pythia_core.engine.pool import Pool, Slot
from pythia_core.errors import BatchError, PythiaError

Errors = dict[int, BaseException]


class BatchResultError(PythiaError):
    """What ``process_batch`` returned or raised does not fit the batch it was given."""


class BatchPool(Pool):
    """Runs messages from a scheduler in batches; its handler is called with a list.

    Args:
        common: as for :class:`~pythia_core.engine.pool.Pool`.
        batch: most messages of a batch.
        linger: seconds a batch waits for more after its first message.
        waiting: returns how many messages wait, those behind others of their key included.
        named: as for :class:`~pythia_core.engine.pool.Pool`.
    """

    def __init__(
        self, *common: Any, batch: int, linger: float, waiting: Callable[[], int], **named: Any
    ) -> None:
        super().__init__(*common, **named)
        self._batch = batch
        self._linger = linger
        self._waiting = waiting
        self._baton = anyio.Lock()

    async def _loop(self, slot: Slot) -> None:
        while slot.active:
            async with self._baton:
                await self._fill()
                await self._while_paused()
                batch = self._take()
            if not batch:
                continue
            slot.message, slot.batch = batch[0], batch
            errors, results = await self._run(slot, batch)
            slot.message, slot.batch = None, ()
            self._dispose(batch, errors, results)
            if self._clock() >= self._turn_ends:
                await self._yield()

    async def _fill(self) -> None:
        """Wait for a first message, and then for a full batch or until its time is up."""
        while not self._scheduler.ready:
            await self._sleep()
        until = self._clock() + self._linger
        while self._scheduler.ready and self._waiting() < self._batch and (rest := until - self._clock()) > 0:
            with anyio.move_on_after(rest):
                await self._sleep()

    def _take(self) -> list[Message[Any]]:
        """Take a batch off the queue; a message that has failed before comes alone."""
        ready = self._scheduler.ready
        batch: list[Message[Any]] = []
        while ready and len(batch) < self._batch and not (batch and ready[0].attempt > 1):
            batch.append(ready.popleft())
            if batch[0].attempt > 1:
                break
        return batch

    async def _run(self, slot: Slot, batch: Sequence[Message[Any]]) -> tuple[Errors, Sequence[Any]]:
        """Run a batch, by halves if it fails as a whole; return the errors and the results by index."""
        nothing: Sequence[Any] = (None,) * len(batch)
        try:
            return {}, _by_index(await self._call(list(batch)), len(batch))
        except BatchError as error:
            return _checked(error, len(batch)), nothing
        except BaseException as error:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                if slot.reason is not None:
                    return dict.fromkeys(range(len(batch)), slot.reason), nothing
                if anyio.current_effective_deadline() == -math.inf:
                    raise
            if len(batch) == 1 or isinstance(error, BatchResultError):
                return dict.fromkeys(range(len(batch)), error), nothing
        return await self._halves(slot, batch)

    async def _run_one(self, slot: Slot, message: Message[Any]) -> None:
        slot.batch = batch = (message,)
        errors, results = await self._run(slot, batch)
        slot.message, slot.batch = None, ()
        self._dispose(batch, errors, results)

    async def _call(self, batch: list[Message[Any]]) -> Any:
        if not self._timed:
            return await self._handler(batch)
        began = self._clock()
        try:
            return await self._handler(batch)
        finally:
            self._stats.count_duration(self._clock() - began)

    async def _halves(self, slot: Slot, batch: Sequence[Message[Any]]) -> tuple[Errors, Sequence[Any]]:
        middle = len(batch) // 2
        errors, left = await self._run(slot, batch[:middle])
        more, right = await self._run(slot, batch[middle:])
        return errors | {middle + index: error for index, error in more.items()}, [*left, *right]

    def _dispose(self, batch: Sequence[Message[Any]], errors: Errors, results: Sequence[Any]) -> None:
        for index, message in enumerate(batch):
            if (error := errors.get(index)) is not None:
                self._failed(message, error)
            elif results[index] is not None:
                self._returned(message, results[index])
            else:
                self._scheduler.complete(message)


def _by_index(returned: Any, length: int) -> Sequence[Any]:
    if returned is None:
        return (None,) * length
    if isinstance(returned, list | tuple) and len(returned) == length:
        return returned
    raise BatchResultError(
        f"process_batch returned a {type(returned).__name__}; it may return None, or a list with one result for each of "
        f"its {length} message(s), in their order"
    )


def _checked(error: BatchError, length: int) -> Errors:
    strange = [index for index in error.errors if index not in range(length)]
    if not strange:
        return dict(error.errors)
    wrong = BatchResultError(
        f"BatchError names index {strange[0]} of a batch of {length}; all of it counts as failed"
    )
    return dict.fromkeys(range(length), wrong)
