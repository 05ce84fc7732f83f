"""A TCP proxy in front of a broker that loses what a network loses: connections, answers, everything."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import anyio
import attrs
from anyio.abc import SocketAttribute, SocketStream, TaskGroup

CHUNK = 65536


@attrs.define(eq=False)
class Proxy:
    """Passes bytes on, or does not.

    Args:
        target: port of the server on the loopback interface.
        delay: seconds that every piece takes, on its way there and on its way back.
    """

    target: int
    port: int = 0
    delay: float = 0.0
    connections: int = 0
    swallowed: int = 0
    _lose_answer_to: bytes | None = None
    _refuse: bytes | None = None
    _stalled: bool = False
    _passing: dict[str, int] = attrs.field(
        factory=dict[str, int]
    )  # "request" or "answer" -> bytes until the cut
    _open: set[SocketStream] = attrs.field(factory=set)
    _group: TaskGroup | None = None

    @classmethod
    @asynccontextmanager
    async def before(cls, target: int, *, port: int = 0) -> AsyncIterator[Self]:
        """Listen on a port, or on a free one, for as long as the context lasts."""
        proxy = cls(target)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
        proxy.port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, proxy._serve)
            yield proxy
            group.cancel_scope.cancel()

    @property
    def address(self) -> str:
        """What KAFKA_BOOTSTRAP_SERVERS takes."""
        return f"127.0.0.1:{self.port}"

    @property
    def redis_url(self) -> str:
        """What REDIS_URL takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def rabbitmq_url(self) -> str:
        """What RABBITMQ_URL takes."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def stall(self) -> None:
        """Pass nothing on from now on, on connections that stay open."""
        self._stalled = True

    def resume(self) -> None:
        """Pass on what comes by new connections."""
        self._stalled = False

    def lose_answer_to(self, command: str) -> None:
        """Let the next such command reach the server, then cut its connection instead of bringing the answer."""
        self._lose_answer_to = command.encode()

    def refuse(self, command: str) -> None:
        """Cut the connection of the next such command, which never reaches the server."""
        self._refuse = command.encode()

    def cut_after(self, count: int, what: str) -> None:
        """Cut the connection that has passed so many more bytes of requests ("request") or of answers ("answer")."""
        self._passing[what] = count

    async def cut(self) -> None:
        """Close every connection, as a failing switch does; new ones are welcome."""
        for stream in list(self._open):
            await anyio.aclose_forcefully(stream)

    async def _serve(self, client: SocketStream) -> None:
        self.connections += 1
        try:
            server = await anyio.connect_tcp("127.0.0.1", self.target)
        except OSError:  # whoever is not there refuses who comes by a proxy, too
            await anyio.aclose_forcefully(client)
            return
        self._open |= {client, server}
        losing = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._pass_on, client, server, losing, group)
                await self._answer(server, client, losing)
                group.cancel_scope.cancel()
        finally:
            self._open -= {client, server}
            with anyio.CancelScope(shield=True):
                for stream in (client, server):
                    await anyio.aclose_forcefully(stream)

    async def _pass_on(
        self, client: SocketStream, server: SocketStream, losing: anyio.Event, group: TaskGroup
    ) -> None:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                request = await client.receive(CHUNK)
                if self._refuse is not None and self._refuse in request:
                    self._refuse = None
                    break
                if self._lose_answer_to is not None and self._lose_answer_to in request:
                    self._lose_answer_to = None
                    losing.set()
                if not await self._send(server, request, "request"):
                    break
        group.cancel_scope.cancel()

    async def _answer(self, server: SocketStream, client: SocketStream, losing: anyio.Event) -> None:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                answer = await server.receive(CHUNK)
                if losing.is_set():  # by now the server has executed it
                    self.swallowed += len(answer)
                    return
                if not await self._send(client, answer, "answer"):
                    return

    async def _send(self, to: SocketStream, data: bytes, what: str) -> bool:
        """Pass bytes on; return False where the connection is to be cut instead of the rest."""
        if self._stalled:
            await anyio.sleep_forever()
        if self.delay:
            await anyio.sleep(self.delay)
        left = self._passing.get(what, len(data))
        if what in self._passing:
            self._passing[what] = left - len(data)
        if left:
            await to.send(data[:left])
        if left < len(data):
            del self._passing[what]
        return left >= len(data)
