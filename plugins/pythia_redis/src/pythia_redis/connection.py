"""One connection to Redis that either answers, or says within a deadline that it is lost, and never sends anything twice.

It uses redis-py's connection and not its client: the client of redis-py 8 retries ten times by default, and a retried
XADD is two entries (a retried XREADGROUP strands the first reply). And a command of thousands of ids is packed in C.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import hiredis
from redis import exceptions

from pythia_core import SubscriptionLost
from pythia_redis.options import Address

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from pythia_redis.scripts import Script

Command = tuple[str | bytes | int, ...]

SECONDS: Final = 5.0  # for a command that does not block
CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 1.0
RECEIVE: Final = 1 << 20  # bytes

# What a server answers that is not, or not yet, the primary: another connection may find the right one. The client makes
# a broken connection of LOADING by itself.
ELSEWHERE: Final = (
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)


class ConnectionLost(SubscriptionLost):
    """The connection broke or no answer came in time. What was asked for may or may not have happened."""


class Wire:
    """A connection, made at the first use and again after every failure.

    Commands are serial. One that is cancelled or not answered in time takes the connection with it, so that its answer
    can never be taken for that of the next one.

    Args:
        address: the server.
        name: what ``CLIENT LIST`` calls it.
        identify: ask the server for the connection's number, which :attr:`client_id` then is.
    """

    def __init__(self, address: Address, *, name: str, identify: bool = False) -> None:
        self.address = address
        self.client_id: int | None = None
        self._name = "".join(c if "!" <= c <= "~" else "_" for c in name)
        self._identify = identify
        self._connection: AbstractConnection | None = None
        self._lock = anyio.Lock(
            fast_acquire=True
        )  # else a command is sent only after all that is ready has run
        self._closed = False

    async def call(self, *command: str | bytes | int, seconds: float = SECONDS) -> Any:
        """Send one command and return the answer.

        Raises:
            ResponseError: what the server answered; the connection goes on.
            ConnectionLost: if there was no answer.
        """
        (answer,) = await self.pipeline([command], seconds=seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def pipeline(self, commands: Sequence[Command], *, seconds: float = SECONDS) -> list[Any]:
        """Send commands at once and return the answers; an error the server answered with is one of them.

        Raises:
            ConnectionLost: if an answer is missing.
        """
        packed = [pack(command) for command in commands]
        answers: list[Any] = []
        await self.exchange(packed, answers, seconds=seconds)
        return answers

    async def exchange(self, packed: list[bytes], answers: list[Any], *, seconds: float) -> None:
        """Do the same with commands already packed, and put each answer into ``answers`` as it comes."""
        try:
            with anyio.fail_after(seconds):
                async with self._lock:
                    await self._exchange(packed, answers)
        except (TimeoutError, exceptions.TimeoutError):
            raise ConnectionLost(f"Redis at {self.address} did not answer within {seconds:g} s") from None
        except (exceptions.ConnectionError, OSError) as error:
            raise ConnectionLost(f"Redis at {self.address}: {error}") from None

    async def _exchange(self, packed: list[bytes], answers: list[Any]) -> None:
        expected = len(answers) + len(packed)
        try:
            connection = await self._connected()
            await connection.send_packed_command(packed, check_health=False)
            while len(answers) < expected:
                answers.append(await _answer(connection))
        finally:
            if len(answers) < expected:
                await self._drop()

    async def run(
        self, script: Script, key: str | tuple[str, ...], *calls: Command, seconds: float = SECONDS
    ) -> list[Any]:
        """Run a script on a key or several, once for each of ``calls``, all in one round trip, and return the answers.

        Raises:
            ConnectionLost: if an answer is missing.
        """
        keys = (key,) if isinstance(key, str) else key
        answers = await self.pipeline(
            [("EVALSHA", script.sha, len(keys), *keys, *call) for call in calls], seconds=seconds
        )
        for index, answer in enumerate(answers):
            if isinstance(answer, exceptions.NoScriptError):  # so it did not run: a restart empties the cache
                (answers[index],) = await self.pipeline(
                    [("EVAL", script.text, len(keys), *keys, *calls[index])], seconds=seconds
                )
        return answers

    async def _connected(self) -> AbstractConnection:
        if self._closed:
            raise exceptions.ConnectionError("the connection was closed by us")
        connection = self._connection
        if connection is not None and connection.is_connected and not await connection.can_read():
            return connection
        await self._drop()  # closed by the other side, or holding an answer that nobody waits for
        connection = self._connection = make(self.address, self._name)
        await connection.connect()  # type: ignore[no-untyped-call]
        _widen(connection)
        if self._identify:
            await connection.send_command("CLIENT", "ID", check_health=False)
            number = await _answer(connection)
            self.client_id = number if isinstance(number, int) else None
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self.client_id = None
        if connection is not None:
            await connection.disconnect(
                nowait=True
            )  # which does not wait, not even where this task is cancelled

    async def aclose(self) -> None:
        """Disconnect for good; a command under way ends with :class:`ConnectionLost`."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
            try:
                await connection.disconnect()
            except (exceptions.RedisError, OSError):
                return  # it was broken already


def _widen(connection: AbstractConnection) -> None:
    """Let the system take in a whole batch while messages are at work, where its default holds a third of one."""
    writer = connection._writer
    sock = writer.get_extra_info("socket") if writer is not None else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE)


def pack(command: Command) -> bytes:
    """Return a command as Redis reads it."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one
    return packed


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except exceptions.ResponseError as error:
        if isinstance(error, ELSEWHERE):
            raise exceptions.ConnectionError(str(error)) from None
        return error


def make(address: Address, name: str) -> AbstractConnection:
    """Return a connection that is not connected yet.

    It has no socket timeout of its own: the deadline of the exchange is the only one, since one of 5 s, redis-py's
    default, cuts every read that blocks for longer.
    """
    from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

    common: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password.reveal() if address.password else None,
        "client_name": name,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_SECONDS,
        "protocol": 2,  # the same answers from 6.2 to 8, and lists are cheaper to make than maps
        "driver_info": None,
        "socket_read_size": RECEIVE,
    }
    if address.path is not None:
        return UnixDomainSocketConnection(path=address.path, **common)
    common |= {"host": address.host, "port": address.port, "socket_keepalive": True}
    return SSLConnection(**common, **_tls(address)) if address.tls else Connection(**common)


def _tls(address: Address) -> dict[str, Any]:
    import ssl

    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ca_certs": address.ca_file,
        "ssl_certfile": address.cert_file,
        "ssl_keyfile": address.key_file,
    }
