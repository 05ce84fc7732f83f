"""The publisher writes outputs and dead letters, in batches, and tells which messages are thereby complete.

Invariants:

- P1. A message is completed only when every one of its outputs is confirmed; until then it is unsettled and its key open.
- P2. A failed output is retried alone: its confirmed siblings are not written again.
- P3. Within a sink, outputs of one key are written in the order in which they were put: behind a failed one the later
  ones of its key wait.
- P4. An output that can never be written ends its job: the job's owner decides what becomes of the message.
- P5. Outputs of a message whose ledger is closed are dropped unwritten; what is already being written is ignored.
- P6. No output with a delay reaches a sink that cannot hold it back: written at once it would be too soon.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import anyio
import attrs
from anyio.abc import TaskGroup

from pythia_core.backoff import full_jitter
from pythia_core.contracts.message import Message
from pythia_core.contracts.sink import Output, Sink, WriteResult, cannot_delay
from pythia_core.errors import ConfigError, NotOpenError, WriteError

log = logging.getLogger("pythia.publisher")

WRITE_DEADLINE = (
    30.0  # seconds for one write of a batch; a sink that has not answered by then has an unknown outcome
)
RETRY_BASE, RETRY_FACTOR, RETRY_CAP = 0.1, 3.0, 15.0  # seconds between attempts at one output


@attrs.define(eq=False)
class Job:
    """The outputs that one message waits for.

    Args:
        message: the message.
        remaining: how many of its outputs are not confirmed yet.
        done: called when all are.
        refused: called once with the error that no retry can mend.
    """

    message: Message[Any]
    remaining: int
    done: Callable[[Message[Any]], None]
    refused: Callable[[Message[Any], WriteError], None]
    over: bool = False


@attrs.define(eq=False)
class Pending:
    """One output on its way."""

    job: Job
    output: Output
    failures: int = 0


class Publisher:
    """Writes outputs to any number of sinks, each from a task of its own.

    Args:
        group: where the tasks run.
        batch: most outputs of one write.
        confirmed: called with the number of outputs each time some are confirmed.
        wrote: called with the seconds that a write took that did not fail as a whole.
    """

    def __init__(
        self,
        group: TaskGroup,
        *,
        batch: int,
        confirmed: Callable[[int], None],
        wrote: Callable[[float], None],
    ) -> None:
        self._group = group
        self._batch = batch
        self._confirmed = confirmed
        self._wrote = wrote
        self._lanes: dict[int, SinkWriter] = {}
        self.jobs: set[Job] = set()

    def put(
        self,
        message: Message[Any],
        outputs: Sequence[Output],
        *,
        done: Callable[[Message[Any]], None],
        refused: Callable[[Message[Any], WriteError], None],
    ) -> None:
        """Write ``outputs``, each of which names its sink; then call ``done``, or ``refused`` if one never can be."""
        job = Job(message, len(outputs), done, refused)
        self.jobs.add(job)
        for output in outputs:
            self._writer(output).put(Pending(job, output))

    def _writer(self, output: Output) -> SinkWriter:
        sink = output.sink
        assert sink is not None
        writer = self._lanes.get(id(sink))
        if writer is None:
            writer = self._lanes[id(sink)] = SinkWriter(sink, self._batch, self._settle, self._wrote)
            self._group.start_soon(writer.run, name=f"pythia publisher {sink.name}")
        return writer

    def _settle(self, pending: Pending, error: WriteError | None) -> None:
        """Take note that an output is confirmed (None) or can never be."""
        job = pending.job
        if error is None:
            self._confirmed(1)
            job.remaining -= 1
        if job.over or (error is None and job.remaining):
            return
        job.over = True
        self.jobs.discard(job)
        if error is None:
            job.done(job.message)
        else:
            sink = pending.output.sink
            assert sink is not None
            text = f"{sink.name} can never take an output of this message: {error}"
            job.refused(job.message, WriteError(text, permanent=True))

    def drop(self, messages: Iterable[Message[Any]]) -> list[Message[Any]]:
        """Forget the jobs of ``messages`` and return those that had one; what is not being written never will be."""
        gone = {id(message) for message in messages}
        dropped = [job for job in self.jobs if id(job.message) in gone]
        for job in dropped:
            job.over = True
            self.jobs.discard(job)
        return [job.message for job in dropped]


class SinkWriter:
    """The way to one sink: a queue, the keys that are held behind a failed output, and one write at a time."""

    def __init__(
        self,
        sink: Sink,
        batch: int,
        settle: Callable[[Pending, WriteError | None], None],
        wrote: Callable[[float], None],
    ) -> None:
        self._sink = sink
        self._delays = sink.delays
        self._batch = batch
        self._settle = settle
        self._wrote = wrote
        self._queue: deque[Pending] = deque()
        self._held: dict[Any, list[Pending]] = {}  # by key, and by identity for outputs without one
        self._more = anyio.Event()

    def put(self, pending: Pending) -> None:
        """Queue one output."""
        self._queue.append(pending)
        self._more.set()

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        async with anyio.create_task_group() as retries:
            while True:
                if not self._queue:
                    self._more = anyio.Event()
                    await self._more.wait()
                batch = list(self._next()) if self._delays else list(self._at_once(self._next()))
                if batch:
                    await self._write(batch, retries)

    def _next(self) -> Iterator[Pending]:
        """Take the next batch off the queue; outputs of a held key join those that wait for it."""
        taken = 0
        while self._queue and taken < self._batch:
            pending = self._queue.popleft()
            if pending.job.over:
                continue
            key = pending.output.key
            if key is not None and key in self._held:
                self._held[key].append(pending)
            else:
                taken += 1
                yield pending

    def _at_once(self, batch: Iterator[Pending]) -> Iterator[Pending]:
        """Leave out, for good, what a sink would have to hold back that cannot."""
        for pending in batch:
            if pending.output.delay is None:
                yield pending
            else:
                self._settle(pending, cannot_delay(self._sink))

    async def _write(self, batch: list[Pending], retries: TaskGroup) -> None:
        result = await self._attempt([pending.output for pending in batch])
        confirmed = frozenset(result.confirmed)  # a sink may give a list, which is searched from its start
        for index, pending in enumerate(batch):
            error = None if index in confirmed else result.error(index)
            if error is None or error.permanent:
                self._settle(pending, error)
            else:
                self._hold(pending, error, retries)

    async def _attempt(self, outputs: Sequence[Output]) -> WriteResult:
        began = anyio.current_time()
        try:
            with anyio.fail_after(WRITE_DEADLINE):
                result = await self._sink.write(outputs)
            self._wrote(anyio.current_time() - began)
            return result
        except WriteError as error:
            return WriteResult((), dict.fromkeys(range(len(outputs)), error))
        except (NotOpenError, ConfigError) as error:  # only its user can mend that
            refusal = WriteError(f"{type(error).__name__}: {error}", permanent=True)
            return WriteResult((), dict.fromkeys(range(len(outputs)), refusal))
        except Exception as error:
            unknown = WriteError(f"{type(error).__name__}: {error}")
            return WriteResult((), dict.fromkeys(range(len(outputs)), unknown))

    def _hold(self, pending: Pending, error: WriteError, retries: TaskGroup) -> None:
        """Keep a failed output, and from now on everything of its key, until its next attempt."""
        pending.failures += 1
        key = pending.output.key if pending.output.key is not None else id(pending)
        if key in self._held:  # an earlier output of this key failed in the same batch
            self._held[key].append(pending)
            return
        self._held[key] = [pending]
        delay = full_jitter(pending.failures, RETRY_BASE, RETRY_FACTOR, RETRY_CAP, random.random)
        log.warning("cannot write to %s, again in %.1f s: %s", self._sink.name, delay, error)
        retries.start_soon(self._retry, key, delay)

    async def _retry(self, key: Any, delay: float) -> None:
        await anyio.sleep(delay)
        self._queue.extendleft(reversed(self._held.pop(key)))
        self._more.set()
