"""The worker: the one class a user writes. It holds what the user says and no state of Pythia's own.

It stands apart from :mod:`pythia_core.runtime`, which runs one: users name their attributes as they like (``metrics``,
``executor``, ``queue_size``), so whatever Pythia needs to remember is kept there, or in the context of the running task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Generic, Literal, NoReturn, TypeVar

from pythia_core.config.worker_config import WorkerConfig
from pythia_core.contracts import Body, Message, Output, Owner, Sink, Source, Start, Subscription, WriteResult
from pythia_core.errors import ConfigError
from pythia_core.nearest import did_you_mean
from pythia_core.offloading import in_process, in_thread, is_offloaded

__all__ = ["NoSink", "NoSource", "Worker", "worker_name"]

Result = TypeVar("Result")

importing: ContextVar[bool] = ContextVar("pythia_importing", default=False)
"""True while Pythia itself imports a user's file, whose last line may well say ``OrderProcessor().run()``."""


class NoSource(Source):
    """Stands where a source is missing, and says so when it is needed."""

    @property
    def name(self) -> str:
        """Nothing to read."""
        return "no source"

    def resolve(self, start: Start) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(
            f"worker {start.worker} has no source: write `source = ...` in its class, assign worker.source, pass "
            'source= when it is made, or describe one in a configuration file ([worker.source] kind = "...")'
        )

    async def subscribe(self, owner: Owner) -> Subscription:
        """Raise ConfigError."""
        raise ConfigError("this worker has no source; write `source = ...` in its class")


class NoSink(Sink):
    """Stands where a sink is missing, and says so when it is written to."""

    @property
    def name(self) -> str:
        """Nowhere to write."""
        return "no sink"

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        """Raise ConfigError."""
        raise ConfigError("this worker has no sink to send to; write `sink = ...` in its class")


class Worker(Generic[Body]):
    """Consumes messages from a source. Subclass it, name the source, and write ``process``.

    Args:
        source: where messages come from; the class attribute ``source`` if left out.
        sink: where what ``process`` returns goes; the class attribute ``sink`` if left out.
        config: settings given in code; the class attribute ``config`` if left out.

    Raises:
        ConfigError: for any other argument, naming the nearest known one.

    Every connection it holds (a sink, an admin: any :class:`~pythia_core.Resource` that is an attribute of the class or
    the instance) is opened before ``startup`` or right after it, and closed after ``shutdown``. The attribute then is an
    opened copy, so that a class attribute is never shared by two running workers.

    Example:
        ::

            class OrderProcessor(Worker):
                source = KafkaConsumer(topic="orders")

                async def process(self, message):
                    await save(message.body)


            if __name__ == "__main__":
                OrderProcessor().run()
    """

    source: Source = NoSource()
    sink: Sink = NoSink()
    config: WorkerConfig | None = None
    scale_check_interval: float = 60.0
    """Seconds between two questions whether to scale; see ``should_scale_up``."""

    def __init__(
        self,
        *,
        source: Source | None = None,
        sink: Sink | None = None,
        config: WorkerConfig | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            guess = did_you_mean(name, ("source", "sink", "config"))
            raise ConfigError(
                f"{type(self).__name__} takes no argument {name!r}; {guess}. Settings such as batch_size go into "
                "config=WorkerConfig(...); arguments of your own are taken out before super().__init__(**kwargs)"
            )
        if source is not None:
            self.source = source
        if sink is not None:
            self.sink = sink
        if config is not None:
            self.config = config

    async def process(self, message: Message[Body]) -> Any:
        """Do the work of one message. It is settled when this returns and what it returned is confirmed.

        A plain ``def`` runs in a thread, at most ``max_concurrent_tasks`` of them at once. Nothing can stop a thread: past
        ``handler_timeout`` its key stays closed until it has ended, and past a drain the process exits around it.

        Returns:
            None or an empty list, for nothing to write; or what goes to ``sink``: an :class:`~pythia_core.Output`, a list
            of them, which fans out, or any other value, which is one body (a list that holds anything else too). What a
            sink refuses for good (too large, not encodable, a sink that is not open) dead-letters the message at once.

        Raises:
            Retry: to have it again after a delay.
            Reject: to dead-letter it now.
            Skip: to settle it without work.
            Exception: to have it again by the retry policy, and in the end dead-lettered.
        """
        raise NotImplementedError(f"{type(self).__name__} has no process(message)")

    async def process_batch(self, messages: Sequence[Message[Body]]) -> Any:
        """Do the work of several messages at once; overriding it is what makes a worker take batches.

        A batch has up to ``batch_size`` messages, or what came within ``batch_timeout`` of the first. With ordering it
        may hold several of a key, in their order. A message that failed before comes alone. ``handler_timeout`` bounds
        each call; a batch of several that is overdue counts no attempt, and its messages then come one by one.

        Returns:
            None, or a list with one result for each message, in their order; each is as ``process`` would return it.

        Raises:
            BatchError: to say which of them failed; the others are done.
            Exception: to have the batch again by halves until the culprit is found, so be ready to see a message twice.
        """
        raise NotImplementedError(f"{type(self).__name__} has no process_batch(messages)")

    async def startup(self) -> None:
        """Prepare, once, before the first message. If it raises, the process ends; a stop cancels it."""

    async def shutdown(self) -> None:
        """Clean up, once, after the last message, if ``startup`` ended well. It has 5 seconds."""

    async def should_scale_up(self) -> bool:
        """Say whether one more process would help; asked by ``pythia run --policy worker --max N`` and nobody else.

        It and ``should_scale_down`` are asked every ``scale_check_interval`` seconds in a spare process, in which this class
        is made and its connections are open, but ``startup`` was not called and no message comes. So it may block. An
        error, or no answer in 10 s, means that nothing changes.
        """
        return False

    async def should_scale_down(self) -> bool:
        """Say whether one process less would do; asked where ``should_scale_up`` has said no. The idlest then drains."""
        return False

    async def offload(
        self, func: Callable[..., Result], *args: Any, to: Literal["thread", "process"] = "thread"
    ) -> Result:
        """Run a blocking function beside the event loop and return its result. Further calls wait; a drain waits for it.

        In a thread it may share what the worker has, and at most ``max_concurrent_tasks`` run at once. Nothing can stop a
        thread, so a cancelled call returns only when it has ended.

        In a process it has a processor of its own: as many run at once as there are processors, at most
        ``max_concurrent_tasks``. A cancelled call kills it. The function must be one of a module, and it, its arguments and
        its result must pickle. What it prints or logs is lost. Under ``python worker.py`` the file needs its
        ``if __name__ == "__main__"``, since each process imports it.

        Args:
            func: what to run.
            args: its arguments.
            to: ``thread`` for what waits, ``process`` for what computes or may hang.

        Raises:
            BrokenProcess: if the process died; the next call has another one.
            Exception: what it raised, or what says that it cannot be sent to a process.
        """
        return await (in_process if to == "process" else in_thread)(func, *args)

    async def serve(self) -> None:
        """Run in the present event loop until cancelled or broken; several workers may share one loop.

        Raises:
            ConfigError: if it cannot run as it is set up.
        """
        if importing.get() or is_offloaded():
            return
        from pythia_core.runtime import Runtime

        await Runtime(self).run()

    def run(self) -> None:
        """Run in this process until SIGTERM or SIGINT, drain, and return; a second signal 2 s later skips the drain.

        Raises:
            SystemExit: with the exit code, if it did not end cleanly.
        """
        if importing.get() or is_offloaded():
            return
        from pythia_core.standalone import run_here

        if code := run_here(self):
            raise SystemExit(code)


def worker_name(kind: type[Worker[Any]]) -> str:
    """Return a worker's name, which is also its default consumer group: the class's, in kebab-case.

    Example:
        >>> worker_name(type("HTTPOrderProcessor2", (Worker,), {}))
        'http-order-processor2'
    """
    return (
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.__name__)
        .replace("_", "-")
        .lower()
    )
