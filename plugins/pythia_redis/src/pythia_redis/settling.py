"""Settling: what became of entries, told to Redis in portions, and only where they are still ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Final, Literal

from redis import exceptions

from pythia_core import Assignment, Refusals, Refused, Settlement
from pythia_redis.connection import Command, ConnectionLost, Wire
from pythia_redis.group import RELEASED, Group, is_gone, log, value
from pythia_redis.scripts import SETTLE

Verb = Literal["done", "release", "release uncounted", "renew"]
Keep = Literal["keep", "delete", "ackdel"]

CHUNK: Final = 1000  # ids in one run of the script, at most some 1.5 ms during which Redis serves nobody else
UNKNOWN: Final = 0  # when an entry was delivered to us


class Settler:
    """Settles what one assignment handed over.

    Args:
        wire: a connection that never blocks.
        group: the group and our name in it.
        assignment: ours.
        held: ids handed over and not settled, each with a time of the server's clock in ms that is no later than that of
            its delivery, or ``UNKNOWN``; what is settled or refused leaves it.
        uncounted: those of them whose delivery Redis has not counted; see ``claim``.
        keep: what becomes of entries that are done.
    """

    def __init__(
        self,
        wire: Wire,
        group: Group,
        assignment: Assignment,
        held: dict[str, int],
        uncounted: set[str],
        keep: Keep,
    ) -> None:
        self._wire = wire
        self._group = group
        self._assignment = assignment
        self._held = held
        self._uncounted = uncounted
        self._keep = keep
        self._doubtful: set[str] = set()  # settled by a call that was not answered, so perhaps already
        self._warned = False

    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Settle; see :meth:`pythia_core.Subscription.settle`."""
        refusals: list[Refused] = []
        for settlement in settlements:
            if settlement.assignment != self._assignment.id:
                refusals.append(Refused(settlement.partition, settlement.assignment))
            elif refused := await self._settle(settlement):
                refusals.append(Refused(settlement.partition, settlement.assignment, tuple(refused)))
        return refusals

    async def _settle(self, settlement: Settlement) -> list[str]:
        gone = (*settlement.beyond, *settlement.rejected, *settlement.released)
        calls = [
            *self._calls("done", settlement.beyond + settlement.rejected),
            *self._calls("release", tuple(p for p in settlement.released if p not in self._uncounted)),
            *self._calls(
                "release uncounted", tuple(filter(self._uncounted.__contains__, settlement.released))
            ),
            *self._calls("renew", settlement.renewed),
        ]
        if not calls:
            return []
        answers: list[Any] = []
        try:
            for call in calls:  # not at once: a read would wait for the last
                answers += await self._wire.run(SETTLE, self._group.stream, call)
        except ConnectionLost:
            self._doubtful.update(gone)
            raise
        refused = self._refused(answers, (*gone, *settlement.renewed))
        for position in (*gone, *refused):
            self._held.pop(position, None)
        self._uncounted.difference_update(gone, refused)
        return self._without_doubtful(refused, gone)

    def _without_doubtful(self, refused: list[str], gone: tuple[str, ...]) -> list[str]:
        """Leave out what an earlier call without an answer has settled already: it was ours when it was."""
        if not self._doubtful:
            return refused
        certain = [position for position in refused if position not in self._doubtful]
        self._doubtful.difference_update(gone)
        return certain

    def _calls(self, verb: Verb, ids: tuple[str, ...]) -> Iterator[Command]:
        group = self._group
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            since = min(map(self._held.get, chunk, repeat(UNKNOWN)))
            first, last = ("-", "+") if since and verb == "done" else _range(chunk)
            yield (
                *(verb, group.name, group.consumer, first, last, RELEASED, group.lease_ms, self._keep, since),
                *chunk,
            )

    def _refused(self, answers: list[Any], everything: tuple[str, ...]) -> list[str]:
        try:
            found = [item for answer in answers for item in value(answer)]
        except exceptions.ResponseError as error:
            if is_gone(error):
                return list(everything)  # with the group went everything that was ours in it
            raise
        refused = [item.decode() for item in found if item is not None]
        if len(refused) < len(found):
            self._warn_of_other_groups()
        return refused

    def _warn_of_other_groups(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: delete_settled leaves the entries in the stream, since other groups read it too",
                self._group,
            )


def _range(ids: Sequence[str]) -> tuple[str, str]:
    """Return the times of the first and the last id, for the one look that the script takes at what is ours.

    By text, which costs 25 ns an id where numbers cost 300; the script asks singly for what this misses.
    """
    return min(ids).partition("-")[0], max(ids).partition("-")[0]
