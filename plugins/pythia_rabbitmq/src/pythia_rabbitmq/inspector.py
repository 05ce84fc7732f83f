"""How deep a queue is: by AMQP, which tells what waits, and by the HTTP API, which tells what is out as well."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import anyio
import anyio.to_thread
import attrs

from pythia_core import Backlog, Inspector
from pythia_rabbitmq.connection import ConnectionLost, Line, NotThere, connect
from pythia_rabbitmq.options import Address
from pythia_rabbitmq.queues import must_be_there

HTTP_SECONDS: Final = 5.0


@attrs.frozen
class QueueState:
    """What is known of a queue. None means unknown.

    Args:
        ready: messages that wait for a consumer.
        consumers: how many there are.
        unacknowledged: messages delivered and not settled.
        oldest: when the message at the head was published, seconds since the epoch, if its publisher said so.
        told_by: ``amqp``, or ``management`` where the HTTP API told the last two.
    """

    ready: int
    consumers: int
    unacknowledged: int | None = None
    oldest: float | None = None
    told_by: Literal["amqp", "management"] = "amqp"

    def backlog(self) -> Backlog:
        """Return it as what is left to do."""
        age = None if self.oldest is None else max(time.time() - self.oldest, 0.0)
        return Backlog(waiting=self.ready, in_flight=self.unacknowledged, oldest_age_seconds=age)


class Meter:
    """Asks about queues, on a connection that is kept open and made anew when it has died.

    Args:
        address: the cluster.
        management_url: of the HTTP API, or None.
    """

    def __init__(self, address: Address, management_url: str | None) -> None:
        self._address = address
        self._management_url = management_url
        self._line: Line | None = None
        self._lock = anyio.Lock()

    async def state(self, queue: str) -> QueueState:
        """Return what is known of a queue.

        Raises:
            NotThere: if it is not there.
            ConnectionLost: if the server cannot be asked.
        """
        depth = await must_be_there(await self.line(), queue)
        state = QueueState(depth.ready, depth.consumers)
        if self._management_url is None:
            return state
        told = await anyio.to_thread.run_sync(self._ask_management, queue, abandon_on_cancel=True)
        return attrs.evolve(
            state,
            unacknowledged=told.get("messages_unacknowledged"),
            oldest=_time(told.get("head_message_timestamp")),
            told_by="management",
        )

    async def line(self) -> Line:
        """Return a connection that lives."""
        async with self._lock:
            if self._line is not None and self._line.dead:
                await self._line.aclose()
                self._line = None
            if self._line is None:
                self._line = await connect(self._address, "inspect")
            return self._line

    def _ask_management(self, queue: str) -> Mapping[str, Any]:
        address = self._address
        path = f"/api/queues/{quote(address.virtual_host, safe='')}/{quote(queue, safe='')}"
        login = base64.b64encode(f"{address.username}:{address.password.reveal()}".encode()).decode()
        request = urllib.request.Request(
            f"{(self._management_url or '').rstrip('/')}{path}", headers={"Authorization": f"Basic {login}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:
                told = json.load(answer)
        except (OSError, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code == 404:
                    raise NotThere(f"RabbitMQ's HTTP API knows no queue {queue!r}") from None
            raise ConnectionLost(f"RabbitMQ's HTTP API at {self._management_url}: {error}") from None
        return told if isinstance(told, dict) else {}

    async def aclose(self) -> None:
        """Disconnect."""
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()


def _time(told: Any) -> float | None:
    return float(told) if isinstance(told, int) else None


class RabbitMQInspector(Inspector):
    """Tells how deep a queue is.

    Args:
        address: the cluster.
        queue: its name.
        management_url: of the HTTP API, or None: then what is in flight and its age are unknown.
    """

    def __init__(self, address: Address, queue: str, management_url: str | None) -> None:
        self._meter = Meter(address, management_url)
        self._queue = queue

    async def backlog(self) -> Backlog:
        """Return the backlog.

        Raises:
            NotThere: if there is no such queue.
            ConnectionLost: if the server cannot be asked.
        """
        return (await self._meter.state(self._queue)).backlog()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._meter.aclose()
