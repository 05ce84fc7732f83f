"""Questions and chores around queues, for workers that scale or tidy up by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from pythia_core import Backlog, NotOpenError, Resource
from pythia_rabbitmq.options import RabbitMQOptions

if TYPE_CHECKING:
    from pythia_rabbitmq.inspector import Meter, QueueState


@attrs.define(eq=False)
class RabbitMQAdmin(RabbitMQOptions, Resource):
    """Ask about queues; make and remove them.

    Args:
        url: see :class:`~pythia_rabbitmq.options.RabbitMQOptions`, like everything else.

    Example:
        ::

            class Processor(Worker):
                source = RabbitMQConsumer("tasks")
                admin = RabbitMQAdmin()

                async def should_scale_up(self):
                    return await self.admin.get_queue_depth("tasks") > 1000
    """

    _meter: Meter | None = attrs.field(default=None, init=False, repr=False)

    @property
    def broker_connections(self) -> int:
        """One."""
        return 1

    async def open(self) -> None:
        """Be ready to connect, which happens at the first question."""
        from pythia_rabbitmq.inspector import Meter

        self._meter = Meter(self.address(), self.management_url)

    async def aclose(self) -> None:
        """Disconnect."""
        meter, self._meter = self._meter, None
        if meter is not None:
            await meter.aclose()

    async def state(self, queue: str) -> QueueState:
        """Return what is known of a queue, and who told it: AMQP, or the HTTP API where ``management_url`` is given.

        Raises:
            NotThere: if there is no such queue.
            ConnectionLost: if the server cannot be asked.
        """
        return await self._opened().state(queue)

    async def backlog(self, queue: str) -> Backlog:
        """Return what is left in a queue; raises as :meth:`state` does."""
        return (await self.state(queue)).backlog()

    async def get_queue_depth(self, queue: str) -> int:
        """Return how many messages of a queue wait for a consumer; raises as :meth:`state` does."""
        return (await self.state(queue)).ready

    async def declare_queue(
        self, queue: str, *, durable: bool = True, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Make a queue; one that is there already with the same settings is left as it is.

        Raises:
            Mismatch: if it is there with other settings.
            ConnectionLost: if that cannot be done.
        """
        from pythia_rabbitmq.queues import declare

        line = await self._opened().line()
        await declare(line, queue, durable=durable, arguments=arguments or {})

    async def delete_queue(self, queue: str) -> None:
        """Remove a queue and all that is in it.

        Raises:
            ConnectionLost: if that cannot be done.
        """
        from pythia_rabbitmq.queues import on_channel

        line = await self._opened().line()
        await on_channel(line, f"deleting queue {queue!r}", lambda channel: channel.queue_delete(queue))

    def _opened(self) -> Meter:
        if self._meter is None:
            raise NotOpenError("RabbitMQAdmin is not open: use `async with`, or await open() first")
        return self._meter
