"""The live consumer: one connection that reads, and one that settles and never waits behind a read."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
from redis import exceptions

from pythia_core import (
    Assignment,
    Chunk,
    Owner,
    Partition,
    Refusals,
    Settlement,
    Subscription,
    SubscriptionLost,
    full_jitter,
)
from pythia_redis.claim import Claims
from pythia_redis.connection import SECONDS, Command, ConnectionLost, Wire
from pythia_redis.group import Group, is_gone, log, make_group, remake_group
from pythia_redis.held import Held
from pythia_redis.message import RedisMessage
from pythia_redis.options import Address
from pythia_redis.scripts import REAP
from pythia_redis.settling import UNKNOWN, Keep, Settler

PARTITION: Final = 0  # a stream has no partitions
LONGEST_OUTAGE: Final = 10.0  # seconds of failing reads that are ridden out, at most a third of the lease
CLOSE_SECONDS: Final = 1.0
STOP_SECONDS: Final = 2.0
UNBLOCK_EVERY: Final = 0.05  # seconds
STOPPED_WAIT: Final = 0.05  # seconds
MEAN_OF: Final = 16  # messages looked at to guess a size

_assignments = itertools.count(1)


class RedisSubscription(Subscription):
    """Reads entries as one consumer of a group.

    Args:
        address: the server.
        group: the group and our name in it.
        start: ``earliest`` or ``latest``, for a group that is new.
        delete_settled: remove entries from the stream once they are done.
    """

    def __init__(self, address: Address, group: Group, *, start: str, delete_settled: bool) -> None:
        self._group = group
        self._start = start
        self._delete_settled = delete_settled
        self._reader = Wire(address, name=f"{group.consumer}/read", identify=True)
        self._commands = Wire(address, name=f"{group.consumer}/settle")
        self._assignment = Assignment(next(_assignments))
        self._held: dict[str, int] = {}  # see Settler
        self._uncounted: set[str] = set()  # see Claims
        self._claims = Claims(self._reader, group, self._held, self._uncounted)
        self._due = Held(self._reader, group.stream)
        self._outage = group.lease_ms / 3000
        self._failing_since: float | None = None
        self._failures = 0
        self._mean_size = 1.0
        self._reading: anyio.Event | None = None  # set once the fetch under way has ended
        self._stopped = False
        self._closed = False

    @property
    def trimmed(self) -> int:
        """Entries lost because they were trimmed or deleted before they were settled."""
        return self._claims.trimmed

    async def open(self, owner: Owner) -> None:
        """Connect, make the group if there is none, and report the assignment.

        Raises:
            ConfigError: if the key holds no stream or the server is too old.
            SubscriptionLost: if the server cannot be reached, or refuses.
        """
        try:
            await make_group(self._reader, self._group, self._start)
            keep = await self._find_keep()
        except exceptions.ResponseError as error:
            raise SubscriptionLost(f"Redis at {self._reader.address}, {self._group}: {error}") from None
        self._settler = Settler(
            self._commands, self._group, self._assignment, self._held, self._uncounted, keep
        )
        owner.assigned({PARTITION: self._assignment})

    async def _find_keep(self) -> Keep:
        if not self._delete_settled:
            return "keep"
        return "ackdel" if await has_command(self._commands, "XACKDEL") else "delete"

    # -- reading -------------------------------------------------------------------------------------------------

    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Return the next messages; see :meth:`pythia_core.Subscription.fetch`.

        A connection that breaks is made again here for a while, with backoff, so that a short outage costs no work.
        """
        limit = min(limit, room.get(PARTITION, 0))
        if limit <= 0 or self._stopped:
            await anyio.sleep(min(wait, STOPPED_WAIT) if self._stopped else wait)
            return ()
        self._reading = anyio.Event()
        try:
            messages = await self._next(min(limit, max(int(max_bytes / self._mean_size), 1)), wait)
        except ConnectionLost as error:
            await self._after_failure(error, wait)
            return ()
        except exceptions.ResponseError as error:
            await self._after_error(error, wait)
            return ()
        finally:
            self._reading.set()
            self._reading = None
        self._failing_since = None
        self._failures = 0
        if not messages:
            return ()
        self._guess_size(messages)
        return (Chunk(PARTITION, messages),)

    async def _next(self, limit: int, wait: float) -> Sequence[RedisMessage]:
        if found := await self._claims.step(limit):
            self._hold(found, UNKNOWN)
            return found
        if self._stopped:
            return ()
        wait = await self._due.move_due(wait)
        time, answer = await self._reader.pipeline(
            [("TIME",), self._read(limit, wait)], seconds=wait + SECONDS
        )
        if isinstance(answer, Exception):
            raise answer
        if not answer:
            self._claims.look_for_released()
            return ()
        messages = list(map(RedisMessage, answer[0][1]))
        # The time before the read, so that none of them was ours sooner, however the server stumbled in between.
        self._hold(
            messages, UNKNOWN if isinstance(time, Exception) else int(time[0]) * 1000 + int(time[1]) // 1000
        )
        return messages

    def _read(self, limit: int, wait: float) -> Command:
        group, block = self._group, int(wait * 1000)
        waiting = ("BLOCK", block) if block else ()  # BLOCK 0 is for ever
        return (
            *("XREADGROUP", "GROUP", group.name, group.consumer, "COUNT", limit),
            *(*waiting, "STREAMS", group.stream, ">"),
        )

    def _hold(self, messages: Sequence[RedisMessage], since: int) -> None:
        self._held.update(dict.fromkeys([message.position for message in messages], since))

    def _guess_size(self, messages: Sequence[RedisMessage]) -> None:
        sample = messages[:: len(messages) // MEAN_OF + 1]
        self._mean_size = sum(message.size for message in sample) / len(sample) or 1.0

    async def _after_failure(self, error: ConnectionLost, wait: float) -> None:
        if self._closed:
            return
        self._claims.after_failure()
        now = anyio.current_time()
        if self._failing_since is None:
            self._failing_since = now
            log.warning("reading %s failed, connecting again: %s", self._group, error)
        elif now - self._failing_since > min(self._outage, LONGEST_OUTAGE):
            raise error
        await self._back_off(wait)

    async def _after_error(self, error: exceptions.ResponseError, wait: float) -> None:
        if not is_gone(error):
            raise SubscriptionLost(f"Redis at {self._reader.address}, {self._group}: {error}") from None
        try:
            await remake_group(self._reader, self._group)
        except ConnectionLost as lost:
            await self._after_failure(lost, wait)
        except exceptions.ResponseError as refusal:
            raise SubscriptionLost(f"Redis at {self._reader.address}, {self._group}: {refusal}") from None
        else:
            await self._back_off(wait)  # a group that is removed again and again must not make a hot loop

    async def _back_off(self, wait: float) -> None:
        self._failures += 1
        await anyio.sleep(min(wait, full_jitter(self._failures, 0.05, 2.0, 0.5, random.random)))

    # -- settling and the end ------------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Tell Redis; see :meth:`pythia_core.Subscription.settle`."""
        refusals = await self._settler.settle(settlements)
        if any(settlement.released for settlement in settlements):
            self._claims.look_for_released()
        return refusals

    async def stop_fetching(self) -> None:
        """Let no further entry come, and return as soon as the read under way has ended."""
        self._stopped = True
        with anyio.move_on_after(STOP_SECONDS):
            while (reading := self._reading) is not None:
                await self._unblock()
                with anyio.move_on_after(UNBLOCK_EVERY):
                    await reading.wait()

    async def _unblock(self) -> None:
        """End a read that waits for entries, as if its time had passed."""
        number = self._reader.client_id
        if number is None:
            return
        try:
            await self._commands.call("CLIENT", "UNBLOCK", number, seconds=STOP_SECONDS)
        except (ConnectionLost, exceptions.ResponseError) as error:
            log.debug("a read of %s could not be ended early: %s", self._group, error)

    async def aclose(self) -> None:
        """Disconnect, and take our name from the group if nothing is pending for it."""
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(CLOSE_SECONDS):
            await self.stop_fetching()
            await self._leave()
        self._stopped = True
        await self._reader.aclose()
        await self._commands.aclose()

    async def _leave(self) -> None:
        call: tuple[Any, ...] = (self._group.name, self._group.consumer, "self")
        try:
            await self._commands.run(REAP, self._group.stream, call, seconds=CLOSE_SECONDS)
        except ConnectionLost as error:
            log.debug("%s: our consumer stays listed: %s", self._group, error)


async def has_command(wire: Wire, name: str) -> bool:
    """Ask the server whether it knows a command; versions do not tell, since Valkey counts otherwise."""
    try:
        return bool((await wire.call("COMMAND", "INFO", name))[0])
    except exceptions.ResponseError:  # we may not ask, so do without
        return False
