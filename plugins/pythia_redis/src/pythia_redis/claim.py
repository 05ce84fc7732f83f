"""What comes to us otherwise than by reading on: stranded, released and abandoned entries, and consumers that are gone.

- stranded: a read was executed and its answer lost, so the entries are pending for us and nobody runs them. Looked for
  once after every connection error, and only by the process that made the error: the name is ours alone.
- released: given back by a worker that had not started on them. Looked for each second, and after every empty read.
- abandoned: not renewed for a whole lease, so their worker is dead, frozen or cut off. Looked for each half lease.

All of it is asked for between two reads, on the connection that reads, one bounded step at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import anyio
from redis import exceptions

from pythia_redis.connection import Command, Wire
from pythia_redis.group import RELEASED, Group, log, value
from pythia_redis.message import RedisMessage
from pythia_redis.scripts import REAP, TAKE

RELEASED_EVERY: Final = 1.0  # seconds
REAP_AFTER: Final = 10  # leases without a sign of life after which a consumer with nothing pending is removed
PAGE: Final = 1000
START: Final = "0-0"  # of XAUTOCLAIM's cursor, and its end


class Claims:
    """Looks for entries that reading on does not bring.

    Args:
        wire: the connection that reads.
        group: the group and our name in it.
        held: ids handed over and not settled: those are running here, whoever's they are by now.
    """

    def __init__(self, wire: Wire, group: Group, held: Mapping[str, int]) -> None:
        self._wire = wire
        self._group = group
        self._held = held
        self._lease = group.lease_ms / 1000
        self._stranded_from: str | None = "-"  # where the search in our own pending entries goes on
        self._cursor = START
        self._released_at = 0.0
        self._abandoned_at = 0.0
        self._reap_at = anyio.current_time() + REAP_AFTER * self._lease / 2
        self.trimmed = 0  # entries lost because they were trimmed or deleted before they were settled

    def after_failure(self) -> None:
        """Look for stranded entries before reading on: the answer that was lost may have brought some."""
        self._stranded_from = "-"

    def after_empty_read(self) -> None:
        """Look for released entries at the next opportunity, since there is nothing else to do."""
        self._released_at = 0.0

    async def step(self, limit: int) -> list[RedisMessage]:
        """Do what is due, and return at most ``limit`` messages; usually nothing is due, and no time passes."""
        now = anyio.current_time()
        if self._stranded_from is not None and (found := await self._stranded(limit)):
            return found
        if now >= self._released_at and (found := await self._released(limit, now)):
            return found
        if now >= self._abandoned_at and (found := await self._abandoned(limit, now)):
            return found
        if now >= self._reap_at:
            await self._reap(now)
        return []

    async def _stranded(self, limit: int) -> list[RedisMessage]:
        group, start = self._group, self._stranded_from
        page = max(limit, PAGE)
        rows = await self._wire.call(
            "XPENDING", group.stream, group.name, start or "-", "+", page, group.consumer
        )
        pending = [row[0].decode() for row in rows]
        stranded = [position for position in pending if position not in self._held][:limit]
        if len(stranded) == limit:
            self._stranded_from = f"({stranded[-1]}"
        else:
            self._stranded_from = f"({pending[-1]}" if len(rows) == page else None
        return await self._take(stranded, group.consumer, raise_count=False)  # nobody has run them

    async def _released(self, limit: int, now: float) -> list[RedisMessage]:
        group = self._group
        rows = await self._wire.call("XPENDING", group.stream, group.name, "-", "+", limit, RELEASED)
        self._released_at = 0.0 if len(rows) == limit else now + RELEASED_EVERY  # there may be more
        return await self._take([row[0].decode() for row in rows], RELEASED)

    async def _abandoned(self, limit: int, now: float) -> list[RedisMessage]:
        group = self._group
        answer = await self._wire.call(
            *("XAUTOCLAIM", group.stream, group.name, group.consumer, group.lease_ms, self._cursor),
            *("COUNT", limit, "JUSTID"),  # which does not count as a delivery: some may be running here
        )
        self._cursor = answer[0].decode()
        if self._cursor == START:
            self._abandoned_at = now + self._lease / 2
        if len(answer) > 2:  # Redis 7
            self._lost(position.decode() for position in answer[2])
        claimed = [position.decode() for position in answer[1]]
        abandoned = [position for position in claimed if position not in self._held]
        if abandoned:
            log.info("%s: %d entries were abandoned and are ours now", group, len(abandoned))
        return await self._take(abandoned, group.consumer)

    async def _take(self, ids: Sequence[str], owner: str, *, raise_count: bool = True) -> list[RedisMessage]:
        """Take entries over from ``owner``, which may be ourselves, and count that as a delivery."""
        if not ids:
            return []
        group = self._group
        call: Command = (group.name, group.consumer, owner, int(raise_count), *ids)
        taken, lost = value(*await self._wire.run(TAKE, group.stream, call))
        self._lost(position.decode() for position in lost)
        return [RedisMessage(entry, deliveries) for *entry, deliveries in taken]

    def _lost(self, ids: Iterable[str]) -> None:
        lost = list(ids)
        if not lost:
            return
        self.trimmed += len(lost)
        log.error(
            "%s: %d entries are lost: they were trimmed or deleted before they were settled, the first is %s",
            *(self._group, len(lost), lost[0]),
        )

    async def _reap(self, now: float) -> None:
        self._reap_at = now + REAP_AFTER * self._lease / 2
        call = (self._group.name, self._group.consumer, REAP_AFTER * self._group.lease_ms)
        try:
            removed = value(*await self._wire.run(REAP, self._group.stream, call))
        except exceptions.NoPermissionError as error:
            log.debug("%s: consumers that are gone stay listed: %s", self._group, error)
            return
        if removed:
            log.info("%s: removed %d consumers that are gone and have nothing pending", self._group, removed)
