"""RabbitMQ for chaos: a quorum queue, filled by aio-pika, which needs an event loop for that, and counted by the node itself.

Nobody tells which messages are settled, only how many are left; the judge makes do with that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import aio_pika
import anyio
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError
from anyio.from_thread import BlockingPortal, start_blocking_portal

from pythia_rabbitmq import RabbitMQConsumer
from tests.chaos.broker import Asker, Broker, DeadLetter, Sender
from tests.servers.rabbitmq import RabbitServer

QUEUE, DEAD, SUSPECTS = "chaos", "chaos.dlq", "chaos.suspects"
HEARTBEAT = 1  # seconds; so that a broker that is frozen is given up after 6
PATIENCE = 4.0  # seconds
COUNT = (
    "lists:foldl(fun(Queue, {Ready, Total}) -> {ok, {_, {R, T}}, _} = ra:leader_query({Queue, node()}, "
    "fun(S) -> {rabbit_fifo:query_messages_ready(S), rabbit_fifo:query_messages_total(S)} end), "
    f"{{Ready + R, Total + T}} end, {{0, 0}}, ['%2F_{QUEUE}', '%2F_{SUSPECTS}'])"
)
"""What waits and what is left, as the queues themselves know it: rabbitmqctl tells what was true 5 s ago.

First of the queue, then of the one beside it: a suspect that goes over meanwhile is counted twice rather than not at all.
"""
DISCONNECT = (
    '[rabbit_networking:close_connection(Pid, "chaos") || Pid <- rabbit_networking:connections()], ok'
)

Result = TypeVar("Result")


class Unreachable(OSError):
    """The server cannot be asked now."""


class RabbitBroker(Broker):
    """RabbitMQ."""

    disconnects: ClassVar[bool] = True
    patience: ClassVar[float] = 60.0  # its start takes ten seconds, and so may the pause before a reconnect
    rest: ClassVar[float] = 300.0  # killers have to die ten times alone
    server: RabbitServer

    def __init__(self) -> None:
        self.server = RabbitServer()
        self._stack = ExitStack()

    @property
    def environ(self) -> Mapping[str, str]:
        """The address."""
        return {"RABBITMQ_URL": self.server.url}

    @classmethod
    def source(cls) -> RabbitMQConsumer:
        """A consumer that notices a frozen broker."""
        return RabbitMQConsumer(QUEUE, heartbeat=HEARTBEAT)

    def sender(self) -> Sender:
        """By aio-pika, with confirms."""
        return RabbitSender(self._caller())

    def asker(self) -> Asker:
        """By the node itself, and by reading dead letters."""
        return RabbitAsker(self.server, self._caller())

    def disconnect(self) -> None:
        """As `rabbitmqctl close_all_connections` does."""
        self.server.erl(DISCONNECT)

    def _caller(self) -> "Caller":
        caller = Caller(self.server.url, self._stack.enter_context(start_blocking_portal("asyncio")))
        self._stack.callback(caller.discard)
        return caller

    def __enter__(self) -> Self:
        self.server.start()
        self._caller().call(self._make_queues)
        self.server.restart()  # RabbitMQ 3.10 forgets a quorum queue that it is killed with within 3 s of its making
        return self

    async def _make_queues(self, channel: AbstractChannel) -> None:
        for queue in (QUEUE, DEAD, SUSPECTS):
            arguments = RabbitMQConsumer(queue).queue_arguments
            await channel.declare_queue(queue, durable=True, arguments=arguments)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        super().__exit__(kind, error, trace)


class Caller:
    """Runs what is asynchronous in an event loop of its own, each time with a deadline; after an error it connects anew."""

    def __init__(self, url: str, portal: BlockingPortal) -> None:
        self._url = url
        self._portal = portal
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    def call(self, function: Callable[[AbstractChannel], Awaitable[Result]]) -> Result:
        """Return what it returns; raise Unreachable if it cannot be done now."""
        try:
            return self._portal.call(self._call, function)
        except (AMQPError, OSError, asyncio.CancelledError, RuntimeError) as error:
            self.discard()
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def _call(self, function: Callable[[AbstractChannel], Awaitable[Result]]) -> Result:
        with anyio.fail_after(PATIENCE):
            if self._channel is None:
                self._connection = await aio_pika.connect(self._url)
                self._channel = await self._connection.channel(on_return_raises=True)
            return await function(self._channel)

    def discard(self) -> None:
        """Throw the connection away."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            self._portal.call(self._close, connection)

    async def _close(self, connection: AbstractConnection) -> None:
        with anyio.move_on_after(PATIENCE):
            await asyncio.gather(connection.close(), return_exceptions=True)


class RabbitSender(Sender):
    """See :class:`Sender`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish persistent messages; each has to be confirmed."""

        async def send(channel: AbstractChannel) -> None:
            publish = channel.default_exchange.publish
            sent = [aio_pika.Message(body, delivery_mode=2) for _, body in messages]
            await asyncio.gather(*(publish(message, QUEUE) for message in sent))

        self._caller.call(send)


class RabbitAsker(Asker):
    """See :class:`Asker`. Of settled messages it knows only that they are not left."""

    def __init__(self, server: RabbitServer, caller: Caller) -> None:
        self._server = server
        self._caller = caller
        self._letters: list[DeadLetter] = []  # taken from the queue, and not handed over yet

    def dead(self) -> list[DeadLetter]:
        """Take what is in the queue of dead letters; one whose acknowledgement is lost is taken twice."""
        self._caller.call(self._take)
        letters, self._letters = self._letters, []
        return letters

    async def _take(self, channel: AbstractChannel) -> None:
        queue: Any = await channel.get_queue(DEAD, ensure=False)
        while (message := await queue.get(fail=False)) is not None:
            self._letters.append(DeadLetter(message.body, int(message.headers["pythia-attempts"])))
            await message.ack()

    def left(self) -> tuple[int, int]:
        """Ask the queues."""
        waiting, total = map(int, self._server.erl(COUNT).strip("{}").split(","))
        return waiting, total - waiting
