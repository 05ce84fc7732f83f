"""Workers that take many messages at once, for handlers that are cheaper per batch than per message.

Invariants:

- B1. A batch holds at most ``size`` messages; it begins when so many may start, or ``linger`` seconds after the first.
- B2. With ordering, the messages of a key that a batch holds are the first that wait, in their order; no key is in two
  batches at a time.
- B3. With ordering, a failed message voids the later ones of its key: their results are ignored, and they wait again
  behind it, no attempt counted.
- B4. A batch that fails as a whole is run again by halves, so that the one message it failed for is found; nothing is run
  again that a failure has voided or that is no longer ours. A message that has failed before runs alone.
- B5. Every message of a batch is disposed of once: as done, as failed by itself, or as voided.
- B6. A batch of several that is overdue counts no attempt: each of its messages then runs alone, with a time of its own.

Messages stay queued until their batch begins, so a stop or a revoke gives them back unstarted. One worker at a time
waits for a batch to fill: else all of them would share out what comes in and none would ever be full.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import anyio
import attrs

from pythia_core.contracts.message import Message, Partition
from pythia_core.engine.pool import Pool, Slot
from pythia_core.errors import BatchError, PythiaError, Skip

Voided = Callable[[Message[Any], BaseException | None], None]


class BatchResultError(PythiaError):
    """What ``process_batch`` returned or raised does not fit the batch it was given."""


@attrs.define(eq=False)
class Verdict:
    """What is known of a batch so far, by index.

    Args:
        batch: its messages.
        ordered: True if a failed message voids the later ones of its key.
    """

    batch: Sequence[Message[Any]]
    ordered: bool
    results: dict[int, Any] = attrs.field(factory=dict[int, Any])
    errors: dict[int, BaseException] = attrs.field(factory=dict[int, BaseException])
    voided: dict[int, BaseException | None] = attrs.field(factory=dict[int, BaseException | None])
    _failed: set[tuple[Partition, Hashable]] = attrs.field(factory=set[tuple[Partition, Hashable]])

    def enter(self, part: Sequence[int], errors: dict[int, BaseException], results: Sequence[Any]) -> None:
        """Enter what a call of the handler said of ``part``, by index into it."""
        for number, index in enumerate(part):
            if self._is_void(index):
                self.voided[index] = None
            elif (error := errors.get(number)) is not None:
                self._fail(index, error)
            else:
                self.results[index] = results[number]

    def still_to_run(self, part: Sequence[int]) -> list[int]:
        """Return what of ``part`` may be run; the rest of it is void."""
        kept: list[int] = []
        for index in part:
            if self.batch[index]._ledger.closed or self._is_void(index):
                self.voided[index] = None
            else:
                kept.append(index)
        return kept

    def void(self, part: Sequence[int], error: BaseException | None) -> None:
        """Void all of ``part``; with an error, each is to run alone from now on."""
        self.voided |= dict.fromkeys(part, error)

    def _fail(self, index: int, error: BaseException) -> None:
        self.errors[index] = error
        if not isinstance(error, Skip) and (lane := self._lane(index)) is not None:
            self._failed.add(lane)

    def _is_void(self, index: int) -> bool:
        return bool(self._failed) and self._lane(index) in self._failed

    def _lane(self, index: int) -> tuple[Partition, Hashable] | None:
        message = self.batch[index]
        if not self.ordered or message._lane is None:
            return None
        return message.partition, message._lane


class BatchPool(Pool):
    """Runs messages from a scheduler in batches; its handler is called with a list.

    Args:
        common: as for :class:`~pythia_core.engine.pool.Pool`.
        batch: most messages of a batch.
        linger: seconds a batch waits for more after its first message.
        voided: called with a message that has to wait again, and why it is to run alone, if so.
        named: as for :class:`~pythia_core.engine.pool.Pool`.
    """

    def __init__(self, *common: Any, batch: int, linger: float, voided: Voided, **named: Any) -> None:
        super().__init__(*common, **named)
        self._batch = batch
        self._linger = linger
        self._voided = voided
        self._baton = anyio.Lock()
        self._first: float | None = None  # when the first message of the next batch came

    @property
    def all_idle(self) -> bool:
        """True if no worker has a message and none is ready; all but one of the idle wait for the baton."""
        return not self.running and not self._scheduler.ready

    def wake(self) -> None:
        """Wake the worker that waits for messages, and note the time if this is the first."""
        if self._first is None:
            self._first = self._clock()
        super().wake()

    async def _loop(self, slot: Slot) -> None:
        while slot.active:
            await self.places.wait(self._make_room)
            self._on_idle()
            async with self._baton:
                await self._fill()
                await self._while_paused()
                if self.places.crowded:  # whoever holds the baton on the bench would keep it from the others
                    continue
                batch = self._scheduler.take(self._batch)
                self._first = self._clock() if self._scheduler.ready else None
            if not batch:
                continue
            await self._run_batch(slot, batch)
            if self._clock() >= self._turn_ends:
                await self._yield()

    async def _fill(self) -> None:
        """Wait for a first message, and then for a full batch or until its time is up."""
        while not self._scheduler.ready:
            self._first = None  # what came first was taken away
            await self._sleep()
        first = self._clock() if self._first is None else self._first
        while self._scheduler.ready and not self._scheduler.batch_is_full(self._batch):
            if (rest := first + self._linger - self._clock()) <= 0:
                return
            with anyio.move_on_after(rest):
                await self._sleep()

    async def _run_one(self, slot: Slot, message: Message[Any]) -> None:
        await self._run_batch(slot, (message,))

    async def _run_batch(self, slot: Slot, batch: Sequence[Message[Any]]) -> None:
        slot.message, slot.batch = batch[0], batch
        verdict = Verdict(batch, self._scheduler.ordered)
        await self._run(slot, verdict)
        slot.message, slot.batch = None, ()
        self._dispose(verdict)

    async def _run(self, slot: Slot, verdict: Verdict) -> None:
        """Run a batch, by halves if it fails as a whole."""
        parts: list[Sequence[int]] = [range(len(verdict.batch))]
        while parts:
            part = verdict.still_to_run(parts.pop())
            if not slot.active:  # its handler was cancelled: this worker runs nothing more
                verdict.void(part, None)
            elif part and (error := await self._call(slot, verdict, part)) is not None:
                parts += self._divide(slot, verdict, part, error)

    @staticmethod
    def _divide(
        slot: Slot, verdict: Verdict, part: Sequence[int], error: BaseException
    ) -> Sequence[Sequence[int]]:
        """Return what is to be run of a part that failed as a whole, the first last."""
        if not slot.active:
            verdict.void(part, error)
            return ()
        middle = len(part) // 2
        return part[middle:], part[:middle]

    async def _call(self, slot: Slot, verdict: Verdict, part: Sequence[int]) -> BaseException | None:
        """Call the handler with a part of a batch; return the error if all of it failed and it may be divided."""
        batch = [verdict.batch[index] for index in part]
        slot.message, slot.seen = batch[0], None  # each call has all the time of its own
        try:
            verdict.enter(part, {}, _by_index(await self._timed_call(batch), len(part)))
        except BatchError as named:
            verdict.enter(part, _checked(named, len(part)), (None,) * len(part))
        except BatchResultError as wrong:
            verdict.enter(part, dict.fromkeys(range(len(part)), wrong), ())
        except BaseException as raised:
            error = self._meaning(slot, raised)
            if len(part) > 1:
                return error
            verdict.enter(part, {0: error}, ())
        return None

    async def _timed_call(self, batch: list[Message[Any]]) -> Any:
        if not self._timed:
            return await self._handler(batch)
        began = self._clock()
        try:
            return await self._handler(batch)
        finally:
            self._stats.count_duration(self._clock() - began)

    def _dispose(self, verdict: Verdict) -> None:
        """Put back what is void, the last one first, so that it waits in its order; then dispose of the rest."""
        for index in sorted(verdict.voided, reverse=True):
            self._voided(verdict.batch[index], verdict.voided[index])
        for index, message in enumerate(verdict.batch):
            if index in verdict.voided:
                continue
            if (error := verdict.errors.get(index)) is not None:
                self._failed(message, error)
            elif (result := verdict.results[index]) is not None:
                self._returned(message, result)
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


def _checked(error: BatchError, length: int) -> dict[int, BaseException]:
    strange = [index for index in error.errors if index not in range(length)]
    if not strange:
        return dict(error.errors)
    wrong = BatchResultError(
        f"BatchError names index {strange[0]} of a batch of {length}; all of it counts as failed"
    )
    return dict.fromkeys(range(length), wrong)
