"""A connection to RabbitMQ: made with a deadline, closed with one, and never mended.

It is aiormq's, the client below aio-pika: what aio-pika adds restores connections behind one's back, with a history of
consumers that were not. Whoever holds a connection here is told when it dies, and makes another. The few private parts
of aiormq that are used are named in this module and in ``press``; they are pinned by ``aiormq>=7.2.4,<8``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import aiormq
import anyio
import anyio.lowlevel
import anyio.to_thread
from aiormq.connection import TransportFactory
from yarl import URL

from pythia_core import PythiaError
from pythia_rabbitmq.options import Address, Host
from pythia_rabbitmq.tolerance import read_anything
from pythia_rabbitmq.wire import Wire, WireProtocol

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

    from pythia_rabbitmq.deliveries import Deliveries

log = logging.getLogger("pythia.rabbitmq")

if (_clients_log := logging.getLogger("aiormq")).level == logging.NOTSET:
    _clients_log.setLevel(
        logging.CRITICAL
    )  # all that it reports, with tracebacks, is raised to us and reported once

read_anything()

SECONDS: Final = 10.0  # for any question
CONNECT_SECONDS: Final = 10.0  # for one host
CLOSE_SECONDS: Final = 1.5
FRAMES: Final = 256  # buffered for a channel: with aiormq's 10 its tasks take turns at every third message


class ConnectionLost(PythiaError):
    """The connection is gone, could not be made, or nobody answered in time."""


class NoAnswer(ConnectionLost):
    """The connection is there, and the server did not answer in time."""


class Mismatch(PythiaError):
    """It is there already, with other settings than those that were asked for."""


class NotThere(PythiaError):
    """There is no such queue or exchange, or we may not see it."""


class _Transport(TransportFactory):
    """Opens the socket and keeps hold of it, so that it can be cut whatever the client waits for."""

    def __init__(self, host: Host, context: ssl.SSLContext | None) -> None:
        self._host = host
        self._context = context
        self.writer: asyncio.StreamWriter | None = None
        self.wire: Wire | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        transport, protocol = await loop.create_connection(
            lambda: WireProtocol(reader), *self._host, ssl=self._context
        )
        self.wire = protocol.wire
        self.writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        return reader, self.writer

    def cut(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()


class Line:
    """One connection, until its end.

    Args:
        connection: aiormq's.
        transport: below it.
        host: whom it leads to, for what is said about it.
    """

    def __init__(self, connection: aiormq.Connection, transport: _Transport, host: str) -> None:
        self._connection = connection
        self._transport = transport
        self.host = host

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return not self._connection.is_opened

    @property
    def blocked(self) -> bool:
        """Whether the server reads nothing that is published, since it is short of memory or disk."""
        return not self._connection._Connection__connection_unblocked.is_set()  # type: ignore[attr-defined]

    async def channel(self, *, confirms: bool = False) -> aiormq.Channel:
        """Open a channel.

        Raises:
            ConnectionLost: if nobody answers.
        """

        async def open() -> AbstractChannel:
            return await self._connection.channel(publisher_confirms=confirms, frame_buffer_size=FRAMES)

        channel = await ask(open, f"RabbitMQ at {self.host}: opening a channel")
        assert isinstance(channel, aiormq.Channel)
        return channel

    def deliver(self, channel: aiormq.Channel, deliveries: Deliveries, came: Callable[[], None]) -> None:
        """Collect what a channel delivers, and call ``came`` whenever something has come."""
        assert self._transport.wire is not None
        self._transport.wire.take(channel.number, deliveries.add, came)

    async def aclose(self) -> None:
        """Close it in good order if that is quick, else cut it."""
        await close_quietly(
            lambda: self._connection.close(None), f"the connection to RabbitMQ at {self.host}"
        )
        self._transport.cut()


async def connect(address: Address, name: str) -> Line:
    """Connect to any of the hosts, in random order.

    Args:
        address: whom.
        name: as the server's lists of connections show it.

    Raises:
        ConnectionLost: if none can be reached or lets us in; the text has no secret.
    """
    failures = []
    context = _context(address) if address.tls else None
    password = await anyio.to_thread.run_sync(address.password.reveal)
    for host in random.sample(address.hosts, len(address.hosts)):
        try:
            return await _connect(address, host, context, name, password)
        except ConnectionLost as error:
            failures.append(str(error))
    raise ConnectionLost("; ".join(failures))


async def _connect(
    address: Address, host: Host, context: ssl.SSLContext | None, name: str, password: str
) -> Line:
    url = URL.build(
        scheme="amqp",  # TLS is the transport's
        host=host[0],
        port=host[1],
        user=address.username,
        password=password,
        path="/",
        query={"heartbeat": str(address.heartbeat), "name": f"pythia {name}"},
    )
    transport = _Transport(host, context)
    connection = aiormq.Connection(url, transport_factory=transport)
    connection.vhost = address.virtual_host
    where = f"{host[0]}:{host[1]}"
    try:
        await ask(connection.connect, f"RabbitMQ at {where}", seconds=CONNECT_SECONDS)
    except BaseException:
        transport.cut()
        raise
    return Line(connection, transport, where)


def _context(address: Address) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=address.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.cert_file:
        context.load_cert_chain(address.cert_file, address.key_file)
    return context


async def ask(question: Callable[[], Awaitable[Any]], what: str, *, seconds: float = SECONDS) -> Any:
    """Await an answer of the server's, for so long and no longer.

    Raises:
        NotThere: if what it is about is not there.
        Mismatch: if it is there, and otherwise than it was asked for.
        NoAnswer: if nobody answers.
        ConnectionLost: if it is refused or the connection is gone.
    """
    try:
        with anyio.fail_after(seconds):
            return await _heed_only_our_own_cancellation(question)
    except aiormq.exceptions.ChannelNotFoundEntity as error:
        raise NotThere(f"{what}: {describe(error)}") from None
    except aiormq.exceptions.ChannelPreconditionFailed as error:
        raise Mismatch(f"{what}: {describe(error)}") from None
    except TimeoutError as error:
        raise NoAnswer(f"{what}: {describe(error)}") from None
    except (
        Exception
    ) as error:  # when a connection ends aiormq raises whatever ended it, also a bare Exception
        raise ConnectionLost(f"{what}: {describe(error)}") from None


async def _heed_only_our_own_cancellation(call: Callable[[], Awaitable[Any]]) -> Any:
    """Await a call of aiormq's, which cancels its callers when a connection ends, though nobody wanted them cancelled."""
    try:
        return await call()
    except asyncio.CancelledError:
        await anyio.lowlevel.checkpoint_if_cancelled()  # raises it anew, so that anyio knows it for its own
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionLost("the connection ended") from None


async def close_quietly(close: Callable[[], Awaitable[Any]], what: str) -> None:
    """Close something within a moment, whatever comes of it and whoever cancels."""
    with anyio.CancelScope(shield=True):
        try:
            await ask(close, f"closing {what}", seconds=CLOSE_SECONDS)
        except PythiaError as error:
            log.debug("%s", error)


def describe(error: BaseException | None) -> str:
    """Return what an error says, or its name if it says nothing."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiormq.exceptions.ProbableAuthenticationError):
        return "the login was refused: wrong user or password, or no permission for the virtual host"
    told = getattr(error, "args", ())
    parts = [
        str(part) for part in told if part is not None and not isinstance(part, int)
    ]  # no numbers of errors
    return ": ".join(parts) or (type(error).__name__ if error is not None else "closed")
