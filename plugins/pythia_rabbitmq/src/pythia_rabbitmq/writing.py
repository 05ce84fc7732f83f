"""How entries are published: in their order, each accounted for by a deadline, and by a new connection after every failure.

After a deadline or an error the connection is thrown away: what it still held is not confirmed to anybody.

P2. Of a key one entry is under way at a time, so that none overtakes an earlier one that was refused.
P3. Publishing has a connection of its own: where the server stops reading it, acknowledgements go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import anyio

from pythia_core import WriteError, WriteResult, held_back
from pythia_rabbitmq.connection import ConnectionLost, Line, Mismatch, NotThere, connect, log
from pythia_rabbitmq.delays import Delays
from pythia_rabbitmq.options import Address
from pythia_rabbitmq.press import Batch, Entry, Press
from pythia_rabbitmq.queues import declare, exchange_must_be_there, must_be_there


class Writer:
    """Publishes to an exchange.

    Args:
        address: the cluster.
        exchange: its name; empty is the default one, which leads to the queue that the routing key names.
        queue: what is made or looked for, where entries go to one queue.
        declare: its arguments, if it is to be made where it is not there.
        durable: whether it then outlives the server.
        seconds: until what is not confirmed counts as failed.
    """

    def __init__(
        self,
        address: Address,
        exchange: str,
        *,
        queue: str | None,
        declare: Mapping[str, Any] | None,
        durable: bool,
        seconds: float,
    ) -> None:
        self._address = address
        self._exchange = exchange
        self._queue = queue
        self._declare = declare
        self._durable = durable
        self._seconds = seconds
        self._delays = Delays(exchange)
        self._press: Press | None = None
        self._lock = anyio.Lock()
        self._closed = False

    @property
    def _name(self) -> str:
        return f"{self._queue or self._exchange or 'outputs'} write"

    async def open(self) -> None:
        """Connect, and make the queue if that was asked for.

        Raises:
            WriteError: if that cannot be done.
        """
        async with self._lock:
            press = await self._current()
            if self._declare is not None and self._queue is not None:
                await self._make(press.line, self._queue, self._declare)

    async def _make(self, line: Line, queue: str, arguments: Mapping[str, Any]) -> None:
        try:
            await declare(line, queue, durable=self._durable, arguments=arguments)
        except Mismatch as error:
            log.debug("queue %s is used as it is: %s", queue, error)
        except ConnectionLost as error:
            raise WriteError(str(error)) from None

    async def _current(self) -> Press:
        if self._closed:
            raise WriteError("the producer was closed")
        if self._press is not None and not self._press.ended:
            return self._press
        await self._discard()
        try:
            line = await connect(self._address, self._name)
            try:
                self._press = Press(line, await line.channel(confirms=True), self._exchange)
            except BaseException:
                await line.aclose()
                raise
        except ConnectionLost as error:
            raise WriteError(str(error)) from None
        return self._press

    async def _discard(self) -> None:
        press, self._press = self._press, None
        if press is not None:
            await press.line.aclose()

    async def write(self, entries: Sequence[Entry], errors: dict[int, WriteError]) -> WriteResult:
        """Publish entries in their order; those that are not confirmed are entered into ``errors``."""
        confirmed: list[int] = []
        stuck: set[Any] = set()
        async with self._lock:
            deadline = anyio.current_time() + self._seconds
            for wave in waves(entries):
                await self._write([entry for entry in wave if entry.key not in stuck], errors, deadline)
                for entry in wave:
                    if entry.key is not None and entry.key in stuck:
                        errors[entry.index] = held_back(entry.key)
                    elif entry.index in errors:
                        stuck |= {entry.key} if entry.key is not None else set()
                    else:
                        confirmed.append(entry.index)
        return WriteResult(confirmed, errors)

    async def _write(self, entries: Sequence[Entry], errors: dict[int, WriteError], deadline: float) -> None:
        if not entries:
            return
        try:
            press = await self._current()
        except WriteError as error:
            errors.update({entry.index: error for entry in entries})
            return
        entries = await self._with_places(press.line, entries, errors)
        if not entries:
            return
        batch = Batch(entries, errors)
        try:
            with anyio.CancelScope(deadline=deadline):
                await press.publish(batch)
        finally:
            batch.give_up(press.why(self._seconds))
            if any(entry.wait and entry.index in errors for entry in entries):
                self._delays.forget()
            if press.pending:
                press.pending.clear()
                await self._discard()

    async def _with_places(
        self, line: Line, entries: Sequence[Entry], errors: dict[int, WriteError]
    ) -> Sequence[Entry]:
        """Return the entries that can be published: those that are held back need a place for that, which is made."""
        waits = {entry.wait for entry in entries if entry.wait}
        if not waits:
            return entries
        try:
            await self._delays.make(line, waits)
        except (ConnectionLost, Mismatch) as error:
            text = f"it cannot be held back: {error}"
            errors.update({entry.index: WriteError(text) for entry in entries if entry.wait})
            return [entry for entry in entries if not entry.wait]
        return entries

    async def check(self) -> None:
        """Raise if the exchange or the queue is not there, or make the queue if that was asked for.

        Raises:
            WriteError: if nothing can be written there.
        """
        async with self._lock:
            press = await self._current()
            try:
                if self._declare is not None and self._queue is not None:
                    await self._make(press.line, self._queue, self._declare)
                elif self._queue is not None:
                    await must_be_there(press.line, self._queue)
                elif self._exchange:
                    await exchange_must_be_there(press.line, self._exchange)
            except (ConnectionLost, NotThere) as error:
                raise WriteError(str(error)) from None

    async def aclose(self) -> None:
        """Disconnect."""
        self._closed = True
        await self._discard()


def waves(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield entries in portions in which no key repeats, each key's in its order."""
    portions: list[list[Entry]] = []
    counts: dict[Any, int] = {}
    for entry in entries:
        place = 0 if entry.key is None else counts.get(entry.key, 0)
        if entry.key is not None:
            counts[entry.key] = place + 1
        if place == len(portions):
            portions.append([])
        portions[place].append(entry)
    yield from portions
