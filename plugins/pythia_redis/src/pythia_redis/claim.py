"""What comes to us otherwise than by reading on: stranded, released and abandoned entries, and consumers that are gone.

- stranded: a command was executed and its answer lost, so the entries are pending for us and nobody runs them. Looked
  for once after every connection error, and only by the process that made the error: the name is ours alone.
- released: given back by a worker that had not started on them. Looked for each second, and after every empty read.
- abandoned: not renewed for a whole lease, so their worker is dead, frozen or cut off. Looked for each half lease, and
  moved to what is released, where every worker looks.

All of it is asked for between two reads, on the connection that reads, one bounded step at a time.

The count that Redis keeps of an entry's deliveries tells a message that kills its process from its neighbours:

R1. An entry's deliveries are its count before it was taken, plus one, whether or not the count was raised.
R2. Taking an entry raises its count, but one that has been delivered SUSPECT_AFTER times only where it is asked for
    alone (limit 1): of those that come together, all but one are only in the way.
R3. A release lowers the count where taking raised it, and nowhere else.
R4. An answer that is lost changes nothing of that: what was asked for is remembered until it is known what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

import anyio
import attrs
from redis import exceptions

from pythia_core import SUSPECT_AFTER
from pythia_redis.connection import Command, Wire
from pythia_redis.group import RELEASED, Group, log, value
from pythia_redis.message import RedisMessage
from pythia_redis.scripts import ABANDON, REAP, TAKE

RELEASED_EVERY: Final = 1.0  # seconds
REAP_AFTER: Final = 10  # leases without a sign of life after which a consumer with nothing pending is removed
PAGE: Final = 1000
LOOK_FOR: Final = 100  # abandoned entries in one step, for which Redis looks at up to 1,000
START: Final = "0-0"  # of XAUTOCLAIM's cursor, and its end


@attrs.frozen
class Claim:
    """An entry that is to be taken.

    Args:
        id: of the entry.
        count: how often it was delivered, as Redis has it.
        deliveries: how often it is delivered then, this time included.
        counted: whether Redis has that count then; otherwise the old one stays.
    """

    id: str
    count: int
    deliveries: int
    counted: bool

    @classmethod
    def of(cls, row: Sequence[Any], *, alone: bool) -> Self:
        """Return the claim on an entry by its row of XPENDING; see R1 and R2."""
        count: int = row[3]
        return cls(row[0].decode(), count, count + 1, alone or count < SUSPECT_AFTER)

    @property
    def arguments(self) -> tuple[str, int, int]:
        """What the script takes: id, count before and after."""
        return self.id, self.count, self.deliveries if self.counted else self.count


class Claims:
    """Looks for entries that reading on does not bring.

    Args:
        wire: the connection that reads.
        group: the group and our name in it.
        held: ids handed over and not settled: those are running here, whoever's they are by now.
        uncounted: those of them whose delivery Redis has not counted.
    """

    def __init__(self, wire: Wire, group: Group, held: Mapping[str, int], uncounted: set[str]) -> None:
        self._wire = wire
        self._group = group
        self._held = held
        self._uncounted = uncounted
        self._doubtful: dict[str, Claim] = {}  # asked for by a call whose answer was lost
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

    def look_for_released(self) -> None:
        """Look for released entries at the next opportunity: there is nothing else to do, or we released some."""
        self._released_at = 0.0

    async def step(self, limit: int) -> list[RedisMessage]:
        """Do what is due, and return at most ``limit`` messages; usually nothing is due, and no time passes."""
        now = anyio.current_time()
        if self._stranded_from is not None and (found := await self._stranded(limit)):
            return found
        if now >= self._abandoned_at:
            await self._abandoned(now)
        if now >= self._released_at and (found := await self._released(limit, now)):
            return found
        if now >= self._reap_at:
            await self._reap(now)
        return []

    async def _stranded(self, limit: int) -> list[RedisMessage]:
        group, page = self._group, max(limit, PAGE)
        rows = await self._pending(group.consumer, page, self._stranded_from or "-")
        stranded = [row for row in rows if row[0].decode() not in self._held][:limit]
        if len(stranded) == limit:
            self._stranded_from = f"({stranded[-1][0].decode()}"
        else:
            self._stranded_from = f"({rows[-1][0].decode()}" if len(rows) == page else None
        claims = [self._again(row, alone=limit == 1) for row in stranded]
        taken = await self._take(claims, group.consumer)
        if self._stranded_from is None:
            self._doubtful.clear()  # what was asked for and is not here was not taken
        return taken

    def _again(self, row: Sequence[Any], *, alone: bool) -> Claim:
        """Return the claim on an entry that is ours already: as we know it, or else its delivery was counted."""
        position, count = row[0].decode(), row[3]
        known = self._doubtful.get(position)
        if known is None:
            return Claim(position, count, count, counted=True)
        return attrs.evolve(known, count=count, counted=known.counted or alone)

    async def _released(self, limit: int, now: float) -> list[RedisMessage]:
        alone = limit == 1
        rows = await self._pending(RELEASED, PAGE if alone else limit)
        self._released_at = 0.0 if len(rows) >= limit else now + RELEASED_EVERY  # there may be more
        if alone:  # whoever asks for one may be looking for a suspect
            rows = [row for row in rows if row[3] >= SUSPECT_AFTER][:1] or rows[:1]
        return await self._take([Claim.of(row, alone=alone) for row in rows], RELEASED)

    async def _pending(self, consumer: str, count: int, start: str = "-") -> list[Any]:
        """Return ``[id, consumer, idle ms, deliveries]`` of the first entries pending for a consumer."""
        rows: list[Any] = await self._wire.call(
            "XPENDING", self._group.stream, self._group.name, start, "+", count, consumer
        )
        return rows

    async def _abandoned(self, now: float) -> None:
        group = self._group
        call: Command = (*(group.name, group.consumer, RELEASED, group.lease_ms, self._cursor, LOOK_FOR),)
        cursor, moved, lost, ours = value(*await self._wire.run(ABANDON, group.stream, call))
        self._cursor = cursor.decode()
        if self._cursor == START:
            self._abandoned_at = now + self._lease / 2
        self._lost(position.decode() for position in lost)
        if moved:
            log.info("%s: %d entries were abandoned", group, moved)
            self.look_for_released()
        if any(position.decode() not in self._held for position in ours):
            self.after_failure()

    async def _take(self, claims: Sequence[Claim], owner: str) -> list[RedisMessage]:
        """Take entries over from ``owner``, which may be ourselves."""
        if not claims:
            return []
        group = self._group
        by_id = {claim.id: claim for claim in claims}
        self._doubtful |= by_id
        arguments = [argument for claim in claims for argument in claim.arguments]
        call: Command = (group.name, group.consumer, owner, *arguments)
        taken, lost = value(*await self._wire.run(TAKE, group.stream, call))
        for position in by_id:
            del self._doubtful[position]
        self._lost(position.decode() for position in lost)
        return [self._handed_over(entry, by_id[entry[0].decode()]) for entry in taken]

    def _handed_over(self, entry: Sequence[Any], claim: Claim) -> RedisMessage:
        if not claim.counted:
            self._uncounted.add(claim.id)
        return RedisMessage(entry, claim.deliveries)

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
